"""A kernel over rows that also adds up columns: a norm's gradient in one pass, of any formula.

The gradient of a norm's scale and shift are sums over all rows of what a kernel that works row by
row has at hand. So this kernel is a frame: what happens to a row is a kernel of the IR, made by
fusion, and the frame around it adds up some of its results over the rows that a program takes.
`norm_gradient` is the same thing written by hand for two formulas.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from funcdl.kernels.triton import text
from funcdl.kernels.triton.blocks import pointer_name
from funcdl.kernels.triton.library.template import Estimate, Tiles, tiles
from funcdl.kernels.triton.renderer import Renderer
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.kir.ir import Store
from funcdl.kir.row_sums import ROW_SUMS, RowSums
from funcdl.kir.schedule import Schedule


def candidates(problem: RowSums) -> list[Tiles]:
    """What an autotuner may try, the default first."""
    lanes = prod(s.size for s in problem.schedule.steps if s.kind == "vector")
    default = problem.schedule.num_warps
    others = [w for w in (default * 2, default // 2) if 1 <= w <= min(16, lanes // 32)]
    return [tiles(warps, 1, LANES=lanes) for warps in (default, *others)]


def kernel(problem: RowSums, chosen: Tiles | None = None) -> TritonKernel:
    """The kernel for a problem; by default with the first of `candidates`."""
    chosen = candidates(problem)[0] if chosen is None else chosen
    schedule = replace(problem.schedule, num_warps=chosen.num_warps)
    return _Writer(problem, schedule).render()


def estimate(problem: RowSums, chosen: Tiles) -> Estimate:
    """Everything is read and written once."""
    del chosen
    cost = problem.cost
    return Estimate(bytes=cost.nbytes, flops=cost.operations)


class _Writer(Renderer):
    """Writes rows in a loop, with a block of sums beside it."""

    def __init__(self, problem: RowSums, schedule: Schedule) -> None:
        super().__init__(replace(problem.kernel, name=ROW_SUMS), schedule)
        self._sums = problem.sums
        self._rows, self._columns = (axis.name for axis in problem.kernel.axes)

    def _write_blocks(self) -> None:
        for name in self._sums:
            dtype = text.type_name(self.kernel.buffer(name).dtype)
            shape = self._shape((self._rows, self._columns))
            self._line(f"{name}_sums = tl.zeros({shape}, {dtype})")
        super()._write_blocks()
        if (self._columns, self.dims[self._columns]) not in self.positions:
            self._write_axis(self._columns, "")
        length = self.extents[self._columns]
        position, bounds = self._position(self._columns), self._bounds([self._columns])
        mask = "".join(f", mask={bound}" for bound in bounds)
        for name in self._sums:
            total = f"{name}_sums"
            if self._rows in self.dims:
                total = f"tl.sum({total}, {self.dims[self._rows]}, keep_dims=True)"
            place = f"{pointer_name(name)} + (tl.program_id(0) * {length} + {position})"
            self._line(f"tl.store({place}, {total}{mask})")

    def _write_store(self, store: Store) -> None:
        if store.buffer not in self._sums:
            super()._write_store(store)
            return
        value = self._value(store.value)
        for bound in self._bounds([self._rows]):
            value = f"tl.where({bound}, {value}, 0.0)"
        self._line(f"{store.buffer}_sums += {value}")
