"""Kernels that reduce or accumulate along few long rows, cut into kernels over parts of the rows.

A GPU's program takes a whole row, so that one sum of everything would run on one processor. Cut,
a reduction becomes two kernels: one for each part of a row, then one for the parts' results. What
follows it (a softmax divides by the sum) becomes a kernel for each element, and what it reads (the
sum needs the maximum) is known by then. Running results take three: totals of the parts, running
results of these, and running results within each part that begin with those of the parts before.

The last part may be shorter: beyond the end of a row nothing is read, and identities stand there.
No atomics: results do not depend on which program ends first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, prod
from typing import cast

import numpy as np

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.convolution import needed
from funcdl.kir.index import Index
from funcdl.kir.ir import (
    AtomicUpdate,
    Conv,
    Dot,
    Effect,
    Instruction,
    Kernel,
    Load,
    Order,
    Reduce,
    Running,
    Scalar,
    Store,
    operands,
)
from funcdl.kir.passes import rebuild_instruction

_JOIN = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "and": "and", "or": "or"}


@dataclass(frozen=True, slots=True)
class CutKernels:
    """Kernels in order, and what they hand on: element types and sizes by the buffers' names."""

    kernels: tuple[Kernel, ...]
    scratch: Mapping[str, tuple[np.dtype, int]]


def long_axis(kernel: Kernel) -> str | None:
    """The axis along which rows can be cut; None where the kernel has no rows, or only some."""
    body = kernel.body
    if any(isinstance(i, Dot | Conv | Order | AtomicUpdate) for i in body):
        return None
    reduces = [i for i in body if isinstance(i, Reduce)]
    runnings = [i for i in body if isinstance(i, Running)]
    if runnings:
        (axis, *more) = {i.axis for i in runnings}
        found = (body[id] for i in runnings for id in needed(kernel, i.arg))
        nested = any(isinstance(i, Running) for i in found)
        everywhere = all(axis in _axes(kernel, i) for i in body if isinstance(i, Effect))
        return axis if everywhere and not (nested or more or reduces) else None
    if not reduces:
        return None
    return max(reduces[0].axes, key=lambda name: kernel.axis(name).extent)


def takes_rests(kernel: Kernel) -> bool:
    """Whether the last part of a row may be shorter than the others.

    Not where a row's end is followed by another row, to which points beyond it would belong, and
    not where computed positions would be meaningless beyond it.
    """
    running = any(isinstance(i, Running) for i in kernel.body)
    computed = any(i.index.values() for i in kernel.body if isinstance(i, Load | Store))
    return not computed and not (running and len(kernel.axes) > 1)


def split_rows(kernel: Kernel, axis: str, length: int) -> CutKernels:
    """The kernel's work in parts of `length` positions along `axis`, the `long_axis`.

    Raises:
        ValueError: `length` must divide the row, and does not (see `takes_rests`).
    """
    if kernel.axis(axis).extent % length and not takes_rests(kernel):
        raise ValueError(f"kernel {kernel.name}: {length} does not divide the extent of {axis}")
    cut = _Cut(kernel, axis, length)
    running = any(isinstance(i, Running) for i in kernel.body)
    return cut.accumulations() if running else cut.reductions()


class _Cut:
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

    # Reductions

    def reductions(self) -> CutKernels:
        """Kernels for each reduction that waits for another one, then the effects."""
        body = self.kernel.body
        phases: list[int] = []
        for i in body:
            after = [phases[r] + isinstance(body[r], Reduce) for r in operands(i)]
            phases.append(max(after, default=0))
        reduces = [id for id, i in enumerate(body) if isinstance(i, Reduce)]
        outside = not any(self._reduced & _axes(self.kernel, body[id]) for id in self.effects)
        last = max(phases[id] for id in reduces)
        for phase in range(last + 1):
            now = [id for id in reduces if phases[id] == phase]
            earlier = [id for id in reduces if phases[id] < phase]
            self._partial_results(now, earlier)
            self._totals(now, earlier, outside and phase == last)
        if not outside:
            self._effects_of_rows(reduces)
        return CutKernels(tuple(self.kernels), self.scratch)

    @property
    def _reduced(self) -> set[str]:
        return {a for i in self.kernel.body if isinstance(i, Reduce) for a in i.axes}

    def _partial_results(self, now: list[int], earlier: list[int]) -> None:
        """Each part's result; of the largest element's position its value, too."""
        args = [self._reduce(id).arg for id in now]
        roots = {v for arg in args for v in needed(self.kernel, arg, earlier)}
        builder, place = self._cut_builder(f"parts{len(self.kernels)}", roots)
        part = ix.axis(self.part_name, self.parts)
        ids = self._load_totals(builder, earlier)
        self._rebuild(builder, args, ids, place)
        for id in now:
            reduce = self._reduce(id)
            op = reduce.op
            arg = self._inside_or(builder, ids[reduce.arg], _identity(op, self._dtype(reduce.arg)))
            kept = self._outer(id)
            at = part * self._size(kept) + self._inside(kept)
            if op in ("argmax", "argmin"):
                first = builder.reduce(op, arg, reduce.axes, reduce.type.dtype)
                position = builder.position(first, 0, self.length - 1)
                position = part * self.length + position
                index = builder.index_value(position, reduce.type.dtype)
                builder.store(self._new(builder, id, "at", index, kept), at, index)
                op = "max" if op == "argmax" else "min"
            result = builder.reduce(op, arg, reduce.axes)
            builder.store(self._new(builder, id, "parts", result, kept), at, result)
        self.kernels.append(builder.build())

    def _totals(self, now: list[int], earlier: list[int], last: bool) -> None:
        """The results of all parts; with `last` also what follows them."""
        effects = self.effects if last else []
        number = f"_totals{len(self.kernels)}"
        builder = KernelBuilder(self.kernel.name + ("" if last else number))
        reads = {v for e in effects for v in needed(self.kernel, e, [*now, *earlier])}
        for axis in self.kernel.axes:
            if axis.name not in self._reduced:
                builder.axis(axis.name, axis.extent)
        part = builder.axis(self.part_name, self.parts)
        self._add_buffers(builder, reads)
        used = {v for e in effects for v in needed(self.kernel, e)}
        ids = self._load_totals(builder, [id for id in earlier if id in used])
        for id in now:
            reduce, kept = self._reduce(id), self._outer(id)
            size, inside = self._size(kept), self._inside(kept)
            value = self._read(builder, id, "parts", part * size + inside)
            if reduce.op in ("argmax", "argmin"):
                best = builder.reduce(reduce.op, value, [self.part_name], np.int32)
                at = builder.position(best, 0, self.parts - 1) * size + inside
                ids[id] = self._read(builder, id, "at", at)
            else:
                ids[id] = builder.reduce(reduce.op, value, [self.part_name])
            if not last:
                builder.store(self._new(builder, id, "total", ids[id], kept), inside, ids[id])
        self._rebuild(builder, effects, ids, {})
        self.kernels.append(builder.build())

    def _effects_of_rows(self, reduces: list[int]) -> None:
        builder = KernelBuilder(self.kernel.name)
        for axis in self.kernel.axes:
            builder.axis(axis.name, axis.extent)
        self._add_buffers(
            builder, {v for e in self.effects for v in needed(self.kernel, e, reduces)}
        )
        used = {v for e in self.effects for v in needed(self.kernel, e)}
        ids = self._load_totals(builder, [id for id in reduces if id in used])
        self._rebuild(builder, self.effects, ids, {})
        self.kernels.append(builder.build())

    # Running results

    def accumulations(self) -> CutKernels:
        """Totals of parts, what comes before each part, and the kernel itself over the parts."""
        ids = [id for id, i in enumerate(self.kernel.body) if isinstance(i, Running)]
        self._part_totals(ids)
        self._carries(ids)
        self._continued(ids)
        return CutKernels(tuple(self.kernels), self.scratch)

    def _part_totals(self, now: list[int]) -> None:
        args = [self._running(id).arg for id in now]
        roots = {v for arg in args for v in needed(self.kernel, arg)}
        builder, place = self._cut_builder("parts", roots)
        part = ix.axis(self.part_name, self.parts)
        ids: dict[int, int] = {}
        self._rebuild(builder, args, ids, place)
        for id in now:
            running = self._running(id)
            start = _identity(running.op, running.type.dtype)
            arg = self._inside_or(builder, ids[running.arg], start)
            total = self._total(builder, running, arg)
            kept = self._outer(id)
            at = part * self._size(kept) + self._inside(kept)
            builder.store(self._new(builder, id, "parts", total, kept), at, total)
        self.kernels.append(builder.build())

    def _total(self, builder: KernelBuilder, running: Running, arg: int) -> int:
        if running.op != "logsumexp":
            return builder.reduce(running.op, arg, [self.axis])
        dtype = running.type.dtype
        high = builder.reduce("max", arg, [self.axis])
        # Infinities have no difference, and decide by themselves.
        finite = builder.elementwise("is_finite", high)
        base = builder.select(finite, high, builder.const(0, dtype))
        terms = builder.elementwise("exp", builder.elementwise("sub", arg, base))
        total = builder.elementwise("log", builder.reduce("sum", terms, [self.axis]))
        return builder.select(finite, builder.elementwise("add", base, total), high)

    def _carries(self, now: list[int]) -> None:
        """The running results of the parts before each one."""
        builder = KernelBuilder(f"{self.kernel.name}_carries")
        for axis in self.kernel.axes:
            if axis.name != self.axis:
                builder.axis(axis.name, axis.extent)
        part = builder.axis(self.part_name, self.parts)
        for id in now:
            running, kept = self._running(id), self._outer(id)
            size, inside = self._size(kept), self._inside(kept)
            number = builder.index_value(part, np.int32)
            edge = builder.const(self.parts - 1 if running.reverse else 0, np.int32)
            inner = builder.elementwise("lt" if running.reverse else "gt", number, edge)
            before = part + (1 if running.reverse else -1)
            start = _identity(running.op, running.type.dtype)
            value = self._read(builder, id, "parts", before * size + inside, inner, start)
            carry = builder.running(running.op, value, self.part_name, running.reverse)
            at = part * size + inside
            builder.store(self._new(builder, id, "carry", carry, kept), at, carry)
        self.kernels.append(builder.build())

    def _continued(self, now: list[int]) -> None:
        args = [self._running(id).arg for id in now]
        roots = {v for e in self.effects for v in needed(self.kernel, e)}
        builder, place = self._cut_builder("", roots)
        part = ix.axis(self.part_name, self.parts)
        ids: dict[int, int] = {}
        self._rebuild(builder, args, ids, place)
        for id in now:
            running, kept = self._running(id), self._outer(id)
            start = _identity(running.op, running.type.dtype)
            arg = self._inside_or(builder, ids[running.arg], start)
            inner = builder.running(running.op, arg, self.axis, running.reverse)
            at = part * self._size(kept) + self._inside(kept)
            carry = self._read(builder, id, "carry", at)
            if running.op == "logsumexp":
                ids[id] = _log_add_exp(builder, carry, inner)
            else:
                ids[id] = builder.elementwise(_JOIN[running.op], carry, inner)
        self._rebuild(builder, self.effects, ids, place)
        self.kernels.append(builder.build())

    # What both are made of

    def _cut_builder(
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
        self._add_buffers(builder, reads)
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

    def _inside_or(self, builder: KernelBuilder, value: int, start: Scalar) -> int:
        inside = self._in_row(builder)
        if inside is None:
            return value
        return builder.select(inside, value, builder.const(start, builder.type_of(value).dtype))

    def _rebuild(
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
        if self.axis in _axes(self.kernel, access):
            mask = inside if mask is None else builder.elementwise("and", mask, inside)
        if isinstance(access, Load):
            return builder.load(access.buffer, index, mask, access.other)
        builder.store(access.buffer, index, ids[access.value], mask)
        return None

    def _load_totals(self, builder: KernelBuilder, reduces: list[int]) -> dict[int, int]:
        return {
            id: self._read(builder, id, "total", self._inside(self._outer(id))) for id in reduces
        }

    def _buffer(self, id: int, what: str) -> str:
        return f"part_{id}{self.tail}_{what}"

    def _new(self, builder: KernelBuilder, id: int, what: str, value: int, kept: list[str]) -> str:
        name, dtype = self._buffer(id, what), builder.type_of(value).dtype
        size = self._size(kept) * (1 if what == "total" else self.parts)
        self.scratch[name] = dtype, size
        return builder.buffer(name, dtype, size, "out")

    def _read(
        self,
        builder: KernelBuilder,
        id: int,
        what: str,
        at: Index,
        mask: int | None = None,
        other: Scalar = 0,
    ) -> int:
        name = self._buffer(id, what)
        if not builder.has_buffer(name):
            builder.buffer(name, *self.scratch[name], "in")
        return builder.load(name, at, mask, other)

    def _outer(self, id: int) -> list[str]:
        """The axes of a result, but for that which is cut."""
        return [a for a in cast(Reduce, self.kernel.body[id]).type.axes if a != self.axis]

    def _size(self, axes: list[str]) -> int:
        return prod(self.kernel.axis(name).extent for name in axes)

    def _inside(self, axes: list[str]) -> Index:
        terms, stride = [], 1
        for name in reversed(axes):
            extent = self.kernel.axis(name).extent
            terms.append((ix.axis(name, extent), stride))
            stride *= extent
        return ix.combine(terms)

    def _add_buffers(self, builder: KernelBuilder, ids: Iterable[int]) -> None:
        body = self.kernel.body
        used = {i.buffer for i in (body[id] for id in ids) if isinstance(i, Load | Store)}
        for b in self.kernel.buffers:
            if b.name in used:
                builder.buffer(b.name, b.dtype, b.size, b.role, b.may_alias)

    def _dtype(self, id: int) -> np.dtype:
        return self.kernel.value_type(id).dtype

    def _reduce(self, id: int) -> Reduce:
        return cast(Reduce, self.kernel.body[id])

    def _running(self, id: int) -> Running:
        return cast(Running, self.kernel.body[id])


def _log_add_exp(builder: KernelBuilder, a: int, b: int) -> int:
    """log(exp(a) + exp(b)); of infinities of one sign there is no difference."""
    high, low = builder.elementwise("max", a, b), builder.elementwise("min", a, b)
    difference = builder.elementwise("sub", low, high)
    more = builder.elementwise("log1p", builder.elementwise("exp", difference))
    twice = builder.const(float(np.log(2.0)), builder.type_of(a).dtype)
    same = builder.elementwise("eq", high, low)
    return builder.elementwise("add", high, builder.select(same, twice, more))


def _identity(op: str, dtype: np.dtype) -> Scalar:
    """The value that changes no other; for the largest element's position the smallest one."""
    if op in ("sum", "or"):
        return 0 if dtype.kind != "b" else False
    if op == "prod":
        return 1
    if op == "and":
        return True if dtype.kind == "b" else int(np.iinfo(dtype).max if dtype.kind == "u" else -1)
    lowest = op in ("max", "argmax", "logsumexp")
    if dtype.kind == "b":
        return not lowest
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).min if lowest else np.iinfo(dtype).max)
    return -inf if lowest else inf


def _axes(kernel: Kernel, instruction: Instruction) -> set[str]:
    """What a value varies over, or the points at which an effect happens."""
    if not isinstance(instruction, Effect):
        return set(instruction.type.axes)
    reads = (kernel.value_type(id).axes for id in operands(instruction))
    return set(instruction.index.axes()).union(*reads)
