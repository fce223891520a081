"""A kernel over rows that also adds up columns: a norm's gradient in one pass, of any formula.

The gradient of a norm's scale and shift are sums over all rows of what a kernel that works row by
row has at hand. So this kernel is a frame: what happens to a row is a kernel of the IR, made by
fusion, and the frame around it adds up some of its results over the rows that a program takes.
`norm_gradient` is the same thing written by hand for two formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from funcdl.kernels.triton import text
from funcdl.kernels.triton.blocks import pointer_name
from funcdl.kernels.triton.library.template import Estimate, Tiles, tiles
from funcdl.kernels.triton.render import Renderer, TritonKernel
from funcdl.kir.cost import Cost, kernel_cost
from funcdl.kir.interpreter import interpret
from funcdl.kir.ir import Kernel, Store
from funcdl.kir.printer import format_kernel
from funcdl.kir.schedule import Schedule

Array = np.ndarray[Any, Any]

NAME = "row_sums"


@dataclass(frozen=True, slots=True, repr=False)
class RowSums:
    """What is computed for each row, and what of it is added up.

    `kernel` has two axes, rows and columns, of which its reductions take columns. It stores the
    terms of each sum, one for each point, in one of the buffers `sums`. These stores do not happen:
    instead each of the `schedule.programs` instances stores a row of sums over its own rows, in
    ``[programs, columns]``. A row lies in one block.
    """

    kernel: Kernel
    schedule: Schedule
    sums: tuple[str, ...]

    def __repr__(self) -> str:
        lines = format_kernel(self.kernel, self.schedule).rstrip().splitlines()
        inner = "\n".join(f"    {line}" for line in lines)
        return f"{', '.join(self.sums)} over rows of\n{inner}"

    @property
    def columns(self) -> int:
        """The length of a row."""
        return self.kernel.axes[1].extent

    @property
    def rows_at_once(self) -> int:
        """Rows of a block."""
        name = self.kernel.axes[0].name
        return next((s.size for s in self.schedule.of(name) if s.kind == "vector"), 1)

    @property
    def cost(self) -> Cost:
        """That of the kernel, with its partial sums in place of their terms."""
        cost = kernel_cost(self.kernel)
        buffers = [self.kernel.buffer(name) for name in self.sums]
        terms = sum(buffer.size * buffer.dtype.itemsize for buffer in buffers)
        kept = sum(self.schedule.programs * self.columns * b.dtype.itemsize for b in buffers)
        elements = sum(buffer.size for buffer in buffers)
        return replace(
            cost,
            flops=cost.flops + elements,
            operations=cost.operations + elements,
            bytes_written=cost.bytes_written - terms + kept,
        )

    def run(self, arrays: Mapping[str, Array]) -> None:
        """What the kernel means, in NumPy; `arrays` by the names of the kernel's buffers."""
        memory = dict(arrays)
        for name in self.sums:
            buffer = self.kernel.buffer(name)
            memory[name] = np.zeros(buffer.size, buffer.dtype)
        interpret(self.kernel, memory)
        count, programs = self.rows_at_once, self.schedule.programs
        for name in self.sums:
            terms = memory[name].reshape(-1, self.columns)
            missing = -len(terms) % (count * programs)
            terms = np.pad(terms, ((0, missing), (0, 0)))
            blocks = terms.reshape(-1, programs, count, self.columns)
            arrays[name][...] = blocks.sum((0, 2), dtype=terms.dtype).reshape(-1)


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
        super().__init__(replace(problem.kernel, name=NAME), schedule)
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
