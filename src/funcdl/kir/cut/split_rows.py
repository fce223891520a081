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

from typing import cast

import numpy as np

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.convolution import needed
from funcdl.kir.cut.row_parts import CutKernels, RowParts, axes_of
from funcdl.kir.identity import identity
from funcdl.kir.ir import (
    AtomicUpdate,
    Conv,
    Dot,
    Effect,
    Kernel,
    Load,
    Order,
    Reduce,
    Running,
    Store,
    operands,
)

_JOIN = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "and": "and", "or": "or"}


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
        everywhere = all(axis in axes_of(kernel, i) for i in body if isinstance(i, Effect))
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
    running = any(isinstance(i, Running) for i in kernel.body)
    return (_RunningResults if running else _Reductions)(kernel, axis, length).run()


class _Reductions(RowParts):
    """Kernels for each reduction that waits for another one, then the effects."""

    def run(self) -> CutKernels:
        body = self.kernel.body
        phases: list[int] = []
        for i in body:
            after = [phases[r] + isinstance(body[r], Reduce) for r in operands(i)]
            phases.append(max(after, default=0))
        reduces = [id for id, i in enumerate(body) if isinstance(i, Reduce)]
        outside = not any(self._reduced & axes_of(self.kernel, body[id]) for id in self.effects)
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
        builder, place = self.cut_builder(f"parts{len(self.kernels)}", roots)
        part = ix.axis(self.part_name, self.parts)
        ids = self.load_totals(builder, earlier)
        self.rebuild(builder, args, ids, place)
        for id in now:
            reduce = self._reduce(id)
            op = reduce.op
            arg = self.inside_or(builder, ids[reduce.arg], identity(op, self.dtype(reduce.arg)))
            kept = self.outer_axes(id)
            at = part * self.size_of(kept) + self.place_in(kept)
            if op in ("argmax", "argmin"):
                first = builder.reduce(op, arg, reduce.axes, reduce.type.dtype)
                position = builder.position(first, 0, self.length - 1)
                position = part * self.length + position
                index = builder.index_value(position, reduce.type.dtype)
                builder.store(self.add_scratch(builder, id, "at", index, kept), at, index)
                op = "max" if op == "argmax" else "min"
            result = builder.reduce(op, arg, reduce.axes)
            builder.store(self.add_scratch(builder, id, "parts", result, kept), at, result)
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
        self.add_buffers(builder, reads)
        used = {v for e in effects for v in needed(self.kernel, e)}
        ids = self.load_totals(builder, [id for id in earlier if id in used])
        for id in now:
            reduce, kept = self._reduce(id), self.outer_axes(id)
            size, inside = self.size_of(kept), self.place_in(kept)
            value = self.read_scratch(builder, id, "parts", part * size + inside)
            if reduce.op in ("argmax", "argmin"):
                best = builder.reduce(reduce.op, value, [self.part_name], np.int32)
                at = builder.position(best, 0, self.parts - 1) * size + inside
                ids[id] = self.read_scratch(builder, id, "at", at)
            else:
                ids[id] = builder.reduce(reduce.op, value, [self.part_name])
            if not last:
                builder.store(
                    self.add_scratch(builder, id, "total", ids[id], kept), inside, ids[id]
                )
        self.rebuild(builder, effects, ids, {})
        self.kernels.append(builder.build())

    def _effects_of_rows(self, reduces: list[int]) -> None:
        builder = KernelBuilder(self.kernel.name)
        for axis in self.kernel.axes:
            builder.axis(axis.name, axis.extent)
        self.add_buffers(
            builder, {v for e in self.effects for v in needed(self.kernel, e, reduces)}
        )
        used = {v for e in self.effects for v in needed(self.kernel, e)}
        ids = self.load_totals(builder, [id for id in reduces if id in used])
        self.rebuild(builder, self.effects, ids, {})
        self.kernels.append(builder.build())

    def _reduce(self, id: int) -> Reduce:
        return cast(Reduce, self.kernel.body[id])


class _RunningResults(RowParts):
    """Totals of parts, what comes before each part, and the kernel itself over the parts."""

    def run(self) -> CutKernels:
        ids = [id for id, i in enumerate(self.kernel.body) if isinstance(i, Running)]
        self._part_totals(ids)
        self._carries(ids)
        self._continued(ids)
        return CutKernels(tuple(self.kernels), self.scratch)

    def _part_totals(self, now: list[int]) -> None:
        args = [self._running(id).arg for id in now]
        roots = {v for arg in args for v in needed(self.kernel, arg)}
        builder, place = self.cut_builder("parts", roots)
        part = ix.axis(self.part_name, self.parts)
        ids: dict[int, int] = {}
        self.rebuild(builder, args, ids, place)
        for id in now:
            running = self._running(id)
            start = identity(running.op, running.type.dtype)
            arg = self.inside_or(builder, ids[running.arg], start)
            total = self._total(builder, running, arg)
            kept = self.outer_axes(id)
            at = part * self.size_of(kept) + self.place_in(kept)
            builder.store(self.add_scratch(builder, id, "parts", total, kept), at, total)
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
            running, kept = self._running(id), self.outer_axes(id)
            size, inside = self.size_of(kept), self.place_in(kept)
            number = builder.index_value(part, np.int32)
            edge = builder.const(self.parts - 1 if running.reverse else 0, np.int32)
            inner = builder.elementwise("lt" if running.reverse else "gt", number, edge)
            before = part + (1 if running.reverse else -1)
            start = identity(running.op, running.type.dtype)
            value = self.read_scratch(builder, id, "parts", before * size + inside, inner, start)
            carry = builder.running(running.op, value, self.part_name, running.reverse)
            at = part * size + inside
            builder.store(self.add_scratch(builder, id, "carry", carry, kept), at, carry)
        self.kernels.append(builder.build())

    def _continued(self, now: list[int]) -> None:
        args = [self._running(id).arg for id in now]
        roots = {v for e in self.effects for v in needed(self.kernel, e)}
        builder, place = self.cut_builder("", roots)
        part = ix.axis(self.part_name, self.parts)
        ids: dict[int, int] = {}
        self.rebuild(builder, args, ids, place)
        for id in now:
            running, kept = self._running(id), self.outer_axes(id)
            start = identity(running.op, running.type.dtype)
            arg = self.inside_or(builder, ids[running.arg], start)
            inner = builder.running(running.op, arg, self.axis, running.reverse)
            at = part * self.size_of(kept) + self.place_in(kept)
            carry = self.read_scratch(builder, id, "carry", at)
            if running.op == "logsumexp":
                ids[id] = _log_add_exp(builder, carry, inner)
            else:
                ids[id] = builder.elementwise(_JOIN[running.op], carry, inner)
        self.rebuild(builder, self.effects, ids, place)
        self.kernels.append(builder.build())

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
