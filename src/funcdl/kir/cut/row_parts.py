"""What cutting rows into parts takes: kernels with one axis more, and buffers between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import cast

import numpy as np

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.convolution import needed
from funcdl.kir.index import Index
from funcdl.kir.ir import Effect, Instruction, Kernel, Load, Reduce, Scalar, Store, operands
from funcdl.kir.passes import rebuild_instruction


@dataclass(frozen=True, slots=True)
class CutKernels:
    """Kernels in order, and what they hand on: element types and sizes by the buffers' names."""

    kernels: tuple[Kernel, ...]
    scratch: Mapping[str, tuple[np.dtype, int]]


class RowParts:
    """What kernels over parts of a kernel's rows are built of: their axes, buffers and accesses."""

    def __init__(self, kernel: Kernel, axis: str, length: int) -> None:
        self.kernel, self.axis, self.length = kernel, axis, length
        self.extent = kernel.axis(axis).extent
        self.parts = -(-self.extent // length)
        taken = {b.name for b in kernel.buffers} | {a.name for a in kernel.axes}
        stems = [f"part_{id}" for id in range(len(kernel.body))]
        tails = ("_" * n for n in range(len(taken) + 1))
        self.tail = next(t for t in tails if not taken & {s + t for s in ("part", *stems)})
        self.part_name = "part" + self.tail
        self.kernels: list[Kernel] = []
        self.scratch: dict[str, tuple[np.dtype, int]] = {}
        self.effects = [id for id, i in enumerate(kernel.body) if isinstance(i, Effect)]

    def cut_builder(
        self, suffix: str, reads: Iterable[int]
    ) -> tuple[KernelBuilder, dict[str, Index]]:
        """A builder whose axis is cut into parts, and where its positions are in the whole."""
        name = self.kernel.name
        builder = KernelBuilder(f"{name}_{suffix}" if suffix else name)
        place = {}
        for axis in self.kernel.axes:
            if axis.name == self.axis:
                part = builder.axis(self.part_name, self.parts)
                place[axis.name] = part * self.length + builder.axis(axis.name, self.length)
            else:
                builder.axis(axis.name, axis.extent)
        self.add_buffers(builder, reads)
        return builder, place

    def _in_row(self, builder: KernelBuilder) -> int | None:
        """Whether a position is in the row; None where all are."""
        if self.parts * self.length == self.extent:
            return None
        part = ix.axis(self.part_name, self.parts)
        place = part * self.length + ix.axis(self.axis, self.length)
        wide = np.int64 if self.parts * self.length >= 2**31 else np.int32
        position = builder.index_value(place, wide)
        return builder.elementwise("lt", position, builder.const(self.extent, wide))

    def inside_or(self, builder: KernelBuilder, value: int, start: Scalar) -> int:
        """A value in the row, and `start` beyond it."""
        inside = self._in_row(builder)
        if inside is None:
            return value
        return builder.select(inside, value, builder.const(start, builder.type_of(value).dtype))

    def rebuild(
        self,
        builder: KernelBuilder,
        roots: Iterable[int],
        ids: dict[int, int],
        place: Mapping[str, Index],
    ) -> None:
        """Add what `roots` need; where the axis is cut nothing beyond a row is touched."""
        inside = self._in_row(builder) if place else None
        for id in sorted({v for root in roots for v in needed(self.kernel, root, ids)}):
            instruction = self.kernel.body[id]
            if isinstance(instruction, Load | Store) and inside is not None:
                new = self._access(builder, instruction, ids, place, inside)
            else:
                new = rebuild_instruction(
                    builder, instruction, ids, lambda i: ix.substitute(i, place), lambda name: name
                )
            if new is not None:
                ids[id] = new

    def _access(
        self,
        builder: KernelBuilder,
        access: Load | Store,
        ids: Mapping[int, int],
        place: Mapping[str, Index],
        inside: int,
    ) -> int | None:
        """A load or store that happens inside of the row only."""
        index = ix.rename_values(ix.substitute(access.index, place), ids)
        mask = None if access.mask is None else ids[access.mask]
        if self.axis in axes_of(self.kernel, access):
            mask = inside if mask is None else builder.elementwise("and", mask, inside)
        if isinstance(access, Load):
            return builder.load(access.buffer, index, mask, access.other)
        builder.store(access.buffer, index, ids[access.value], mask)
        return None

    def load_totals(self, builder: KernelBuilder, reduces: list[int]) -> dict[int, int]:
        """The results of whole rows, which an earlier kernel has stored."""
        return {
            id: self.read_scratch(builder, id, "total", self.place_in(self.outer_axes(id)))
            for id in reduces
        }

    def _buffer(self, id: int, what: str) -> str:
        return f"part_{id}{self.tail}_{what}"

    def add_scratch(
        self, builder: KernelBuilder, id: int, what: str, value: int, kept: list[str]
    ) -> str:
        """A buffer of the new kernel for a value that later ones read."""
        name, dtype = self._buffer(id, what), builder.type_of(value).dtype
        size = self.size_of(kept) * (1 if what == "total" else self.parts)
        self.scratch[name] = dtype, size
        return builder.buffer(name, dtype, size, "out")

    def read_scratch(
        self,
        builder: KernelBuilder,
        id: int,
        what: str,
        at: Index,
        mask: int | None = None,
        other: Scalar = 0,
    ) -> int:
        """Load what an earlier kernel has stored."""
        name = self._buffer(id, what)
        if not builder.has_buffer(name):
            builder.buffer(name, *self.scratch[name], "in")
        return builder.load(name, at, mask, other)

    def outer_axes(self, id: int) -> list[str]:
        """The axes of a result, but for that which is cut."""
        return [a for a in cast(Reduce, self.kernel.body[id]).type.axes if a != self.axis]

    def size_of(self, axes: list[str]) -> int:
        """How many points the axes have."""
        return prod(self.kernel.axis(name).extent for name in axes)

    def place_in(self, axes: list[str]) -> Index:
        """A point's place in an array over the axes."""
        terms, stride = [], 1
        for name in reversed(axes):
            extent = self.kernel.axis(name).extent
            terms.append((ix.axis(name, extent), stride))
            stride *= extent
        return ix.combine(terms)

    def add_buffers(self, builder: KernelBuilder, ids: Iterable[int]) -> None:
        """Add the buffers that some instructions touch."""
        body = self.kernel.body
        used = {i.buffer for i in (body[id] for id in ids) if isinstance(i, Load | Store)}
        for b in self.kernel.buffers:
            if b.name in used:
                builder.buffer(b.name, b.dtype, b.size, b.role, b.may_alias)

    def dtype(self, id: int) -> np.dtype:
        return self.kernel.value_type(id).dtype


def axes_of(kernel: Kernel, instruction: Instruction) -> set[str]:
    """What a value varies over, or the points at which an effect happens."""
    if not isinstance(instruction, Effect):
        return set(instruction.type.axes)
    reads = (kernel.value_type(id).axes for id in operands(instruction))
    return set(instruction.index.axes()).union(*reads)
