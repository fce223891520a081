"""Blocks of values in generated Triton code: their names, shapes, positions, masks and addresses.

Axes with a ``vector`` record are the dimensions of the kernel's blocks. Every value keeps all these
dimensions, with size 1 along those that it does not vary over (``[BI, 1]``), so that values meet by
broadcasting alone; a value that varies over none is a scalar. A matrix product has three kinds of
blocks, (m, k), (k, n) and (m, n), so there an axis's dimension depends on where the value is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
from typing import NoReturn

from funcdl.kernels.triton import text
from funcdl.kir.index import Index
from funcdl.kir.ir import (
    Dot,
    Effect,
    Kernel,
    operands,
)
from funcdl.kir.schedule import Schedule, Step

_INT32_MAX = 2**31 - 1

# A value's place: the dimension of each of its block axes. Values are named once for each place.
_Key = tuple[int, tuple[tuple[str, int], ...]]


class UnsupportedKernel(NotImplementedError):
    """A kernel that this renderer cannot express; names the kernel and the instruction."""


class BlockWriter:
    """The state of writing one kernel: lines so far, names of values, axes and masks."""

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        self.kernel = kernel
        self.schedule = schedule
        self.extents = {axis.name: axis.extent for axis in kernel.axes}
        self.lanes = {s.axis: s.size for s in schedule.steps if s.kind == "vector"}
        self.grid = [s for s in schedule.steps if s.kind == "grid"]
        self.loops = [s for s in schedule.steps if s.kind in ("tile", "loop")]
        self.dot = next((id for id, i in enumerate(kernel.body) if isinstance(i, Dot)), None)
        self.dims = self._dimensions()
        self.rank = len(self.dims)
        self.wide = any(buffer.size > _INT32_MAX for buffer in kernel.buffers)
        self.lines: list[str] = []
        self.indent = 1
        self.values: dict[_Key, str] = {}
        self.positions: dict[tuple[str, int | None], str] = {}
        self.bounds: dict[tuple[str, int | None], str] = {}
        self.helpers: dict[str, str] = {}

    def _dimensions(self) -> dict[str, int]:
        """Each block axis's dimension; in a product, those of the result's blocks."""
        axes = [axis.name for axis in self.kernel.axes if axis.name in self.lanes]
        if self.dot is not None:
            dot = self.kernel.body[self.dot]
            assert isinstance(dot, Dot)
            if set(axes) != {dot.m, dot.n, dot.k}:
                raise ValueError(
                    f"kernel {self.kernel.name}: the blocks of a product have the axes "
                    f"{dot.m}, {dot.n} and {dot.k}, but the schedule gives lanes to {axes}"
                )
            axes = [dot.m, dot.n]
        return {axis: dim for dim, axis in enumerate(axes)}

    def _refuse(self, id: int, why: str) -> NoReturn:
        instruction = type(self.kernel.body[id]).__name__
        raise UnsupportedKernel(f"kernel {self.kernel.name}, {instruction} %{id}: {why}")

    # Lines and names

    def _line(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    @contextmanager
    def _scope(self) -> Iterator[None]:
        """A loop body: what it defines is forgotten at its end."""
        values, positions, bounds = self.values, self.positions, self.bounds
        self.values, self.positions, self.bounds = dict(values), dict(positions), dict(bounds)
        self.indent += 1
        yield
        self.indent -= 1
        self.values, self.positions, self.bounds = values, positions, bounds

    @contextmanager
    def _place(self, *axes: str) -> Iterator[None]:
        """Code whose blocks have these axes as dimensions, in this order."""
        saved = self.dims
        self.dims = {axis: dim for dim, axis in enumerate(axes)}
        yield
        self.dims = saved

    def _key(self, id: int) -> _Key:
        axes = self.kernel.value_type(id).axes
        return id, tuple((axis, self.dims[axis]) for axis in axes if axis in self.dims)

    def _value(self, id: int) -> str:
        return self.values[self._key(id)]

    def _define(self, id: int, stem: str, expression: str) -> None:
        self._line(f"{self._name(id, stem)} = {expression}")

    def _name(self, id: int, stem: str) -> str:
        """Name a value; a value used in two places of a product gets a second name."""
        name = f"{stem}_{id}"
        if any(other == id for other, _ in self.values):
            name += "_rhs"
        self.values[self._key(id)] = name
        return name

    # Axes

    def _programs(self, step: Step) -> int:
        return -(-self.extents[step.axis] // step.size)

    @property
    def instances(self) -> int:
        """How many program instances are launched."""
        blocks = prod(self._programs(step) for step in self.grid)
        return min(blocks, self.schedule.programs) if self.schedule.programs else blocks

    @contextmanager
    def _each_program(self) -> Iterator[None]:
        """Code for each block of the grid: this instance's, or in a persistent kernel all of its.

        The loop over blocks is not flattened into that over k of a product: Triton would then fetch
        no factors ahead.
        """
        blocks = prod(self._programs(step) for step in self.grid)
        widened = ".to(tl.int64)" if self.wide else ""
        if self.instances == blocks:
            if blocks > 1:
                self._line(f"program = tl.program_id(0){widened}")
            yield
            return
        name = "program_number" if self.wide else "program"
        span = f"tl.program_id(0), {blocks}, {self.instances}"
        self._line(f"for {name} in tl.range({span}):")
        with self._scope():
            if self.wide:
                self._line(f"program = tl.cast({name}, tl.int64)")
            yield

    def _write_grid(self) -> None:
        """Split the program's number into a block along each grid axis, the last one fastest."""
        many = [step for step in self.grid if self._programs(step) > 1]
        total = after = prod(self._programs(step) for step in many)
        grouped = self._grouped_axes(many)
        starts: dict[str, str] = {}
        for step in many:
            whole = after
            after //= self._programs(step)
            if step.axis in self.lanes:
                starts[step.axis] = f"{step.axis}_block * {block_name(step.axis)} + "
            if step.axis in grouped:
                if step.axis == grouped[0]:
                    rows, columns = many[-2:]
                    self._write_group(rows, columns, whole != total)
                continue
            block = "program" if after == 1 else f"program // {after}"
            if whole != total:
                block += f" % {self._programs(step)}"
            name = f"{step.axis}_block" if step.axis in self.lanes else step.axis
            self._line(f"{name} = {block}")
        moved = {step.axis for step in self.loops}
        for axis in self.dims:
            if axis not in moved:
                self._write_axis(axis, starts.get(axis, ""))
        for axis in self.extents:
            if axis not in self.lanes and axis not in moved:
                self.positions[axis, None] = axis if axis in {s.axis for s in many} else "0"

    def _grouped_axes(self, many: list[Step]) -> list[str]:
        """The two last axes of the grid, where tiles of a product go in groups of rows."""
        if self.dot is None or self.schedule.group <= 1:
            return []
        last = [step.axis for step in many[-2:]]
        return last if last == list(self.dims) else []

    def _write_group(self, rows: Step, columns: Step, batched: bool) -> None:
        """Number the tiles of a product down some rows, then along the columns.

        Instances that run at a time then need few different rows and columns of the factors, which
        stay in the cache: 64 tiles in a square of 8 by 8 read 16 of them, 64 in one row 65.
        """
        m, n = self._programs(rows), self._programs(columns)
        height = min(self.schedule.group, m)
        tile = "program"
        if batched:
            tile = "tile"
            self._line(f"tile = program % {m * n}")
        if height == m:  # one group
            self._line(f"{rows.axis}_block = {tile} % {m}")
            self._line(f"{columns.axis}_block = {tile} // {m}")
            return
        count = str(height)
        if m % height:
            count = "group_rows"
            self._line(f"group_first = {tile} // {height * n} * {height}")
            self._line(f"group_rows = tl.minimum({m} - group_first, {height})")
            first = "group_first"
        else:
            first = f"{tile} // {height * n} * {height}"
        self._line(f"{rows.axis}_block = {first} + {tile} % {height * n} % {count}")
        self._line(f"{columns.axis}_block = {tile} % {height * n} // {count}")

    def _write_axis(self, axis: str, start: str, suffix: str = "") -> None:
        """Define the block of positions along an axis, and which of them are in range."""
        dim, lanes, extent = self.dims[axis], self.lanes[axis], self.extents[axis]
        lanes_text = f"tl.arange(0, {block_name(axis)})"
        if self.wide:
            lanes_text += ".to(tl.int64)"
        if self.rank > 1:
            slots = [":" if d == dim else "None" for d in range(self.rank)]
            lanes_text += f"[{', '.join(slots)}]"
        name = axis + suffix
        self._line(f"{name} = {start}{lanes_text}")
        self.positions[axis, dim] = name
        if extent % lanes or not extent:
            self._line(f"{name}_in = {name} < {extent}")
            self.bounds[axis, dim] = f"{name}_in"

    def _position(self, axis: str) -> str:
        return self.positions[axis, self.dims.get(axis)]

    def _bounds(self, axes: Iterable[str]) -> list[str]:
        keys = [(axis, self.dims.get(axis)) for axis in axes]
        return [self.bounds[key] for key in keys if key in self.bounds]

    def _in_order(self, axes: Iterable[str]) -> list[str]:
        wanted = set(axes)
        return [axis for axis in self.extents if axis in wanted]

    def _block_axes(self, axes: Iterable[str]) -> list[str]:
        return [axis for axis in self._in_order(axes) if axis in self.dims]

    def _shape(self, axes: Iterable[str]) -> str:
        """Shape text of a value over `axes`: ``[BI, 1]``; ``[]`` for a scalar."""
        sizes = ["1"] * self.rank
        present = self._block_axes(axes)
        for axis in present:
            sizes[self.dims[axis]] = block_name(axis)
        return f"[{', '.join(sizes)}]" if present else "[]"

    # Addresses

    def _effect_axes(self, id: int) -> set[str]:
        """Axes of a value, or of the points at which a store or update happens."""
        instruction = self.kernel.body[id]
        if not isinstance(instruction, Effect):
            return set(instruction.type.axes)
        reads = operands(instruction)
        return set(instruction.index.axes()).union(
            *(self.kernel.value_type(read).axes for read in reads)
        )

    def _index(self, index: Index) -> str:
        def computed(id: int) -> str:
            return f"{self._value(id)}.to(tl.int64)" if self.wide else self._value(id)

        return text.index_text(index, self._position, computed)

    def _access(
        self, buffer: str, index: Index, axes: Iterable[str], mask: int | None, *more: str
    ) -> tuple[str, str]:
        """Pointers and mask of an access at the points of `axes`; the mask is "" where none is."""
        offset_axes = set(index.axes()).union(
            *(self.kernel.value_type(id).axes for id in index.values())
        )
        axes = offset_axes.union(axes)
        conditions = [*self._bounds(self._in_order(axes)), *more]
        if mask is not None:
            axes = axes.union(self.kernel.value_type(mask).axes)
            conditions = [*self._bounds(self._in_order(axes)), self._value(mask), *more]
        offset = self._index(index)
        if self._block_axes(offset_axes) != self._block_axes(axes):
            offset = f"tl.zeros({self._shape(axes)}, tl.int32) + {offset}"
        pointer = pointer_name(buffer)
        pointers = pointer if offset == "0" else f"{pointer} + ({offset})"
        if offset.isidentifier():
            pointers = f"{pointer} + {offset}"
        return pointers, " & ".join(conditions)


def block_name(axis: str) -> str:
    """The name of the number of lanes along an axis."""
    return f"B{axis.upper()}"


def pointer_name(buffer: str) -> str:
    """The parameter that points to a buffer."""
    return f"{buffer}_ptr"
