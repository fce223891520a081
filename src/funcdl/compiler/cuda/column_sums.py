"""Sums of columns, moved into the kernel that has their terms at hand.

The gradient of a layer norm makes two things from the same rows: the gradient of its input, row by
row, and those of scale and shift, which are sums over all rows. Fusion keeps them in kernels of
their own, since a kernel reduces over one set of axes; so terms are stored and read again, and what
both need is read twice. A GPU's program may walk over many rows, though, and add up columns on its
way. This pass looks for

* a kernel over rows of a matrix that fit into one block, which reduces along rows,
* kernels that sum the columns of such a matrix from what the first one reads or stores,

and makes one of them (`kernels.triton.library.row_sums`), which stores a row of sums for each of a
few hundred programs. The kernel that adds these up is the old one, with another number of terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush
from itertools import islice
from math import prod

from funcdl.compiler.cuda.column_kernels import (
    ColumnSum,
    Names,
    add_buffer,
    as_column_sum,
    finish,
    fresh,
    in_one_block,
    is_row_kernel,
    is_single,
    part_axis,
    resized,
)
from funcdl.compiler.loops import LoopStep
from funcdl.compiler.lower import LoweredKernel
from funcdl.compiler.steps import HostStep, Step, step_uses
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Var
from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.canonical import canonical_kernel
from funcdl.kir.convolution import needed
from funcdl.kir.index import Index
from funcdl.kir.ir import Kernel, Library, Load, Reduce, Store
from funcdl.kir.passes import rebuild_instruction
from funcdl.kir.row_sums import ROW_SUMS, RowSums
from funcdl.kir.schedule import Schedule

# Programs for each of an H100's 132 processors: short rows need several, so that enough of them are
# on their way from memory. Each adds up at least MIN_ROWS rows, where there are so many: partial
# sums are then a small part of what is moved.
PROCESSORS = 132
MIN_ROWS = 16
LANES_PER_PROCESSOR = 4096
# Sums that a program keeps in registers, beside the row itself.
MAX_SUMS = 8192


def sum_columns(
    steps: Sequence[Step], outputs: Iterable[Var], scheduler: Callable[[Kernel], Schedule]
) -> list[Step]:
    """Move sums of columns into kernels over the same rows.

    Args:
      steps: the kernels of a program, in order.
      outputs: what the program returns.
      scheduler: says in which blocks a kernel over rows works.
    """
    found, kept = list(steps), set(outputs)
    over_rows = [s[0] for s in steps if is_single(s) and is_row_kernel(s[0].kernel, scheduler)]
    for lowered in over_rows:
        number = next((n for n, s in enumerate(found) if is_single(s) and s[0] is lowered), None)
        if number is not None:
            found = _Merger(found, number, kept, scheduler).run()
    return found


class _Merger:
    """One kernel over rows, and the sums that may join it."""

    def __init__(
        self,
        steps: list[Step],
        number: int,
        kept: set[Var],
        scheduler: Callable[[Kernel], Schedule],
    ) -> None:
        self._steps = steps
        self._number = number
        self._kept = kept
        step = steps[number]
        assert is_single(step)
        self._lowered = step[0]
        self._kernel = step[0].kernel
        self._names = step[0].names
        self._scheduler = scheduler
        self._rows, self._columns = self._kernel.axes
        place = ix.axis(self._rows.name, self._rows.extent) * self._columns.extent
        self._place = place + ix.axis(self._columns.name, self._columns.extent)

    def run(self) -> list[Step]:
        sums = [s for s in map(self._column_sum, range(len(self._steps))) if s is not None]
        # Those first that save a store, too.
        sums.sort(key=lambda s: not any(self._stored(v) for v in s.lowered.variables))
        while sums:
            merged = self._merge(sums)
            if merged is not None:
                return merged
            sums.pop()
        return self._steps

    # Which sums

    def _column_sum(self, number: int) -> ColumnSum | None:
        """A step as a sum of columns that can be made from this kernel's rows."""
        step = self._steps[number]
        if number == self._number or not is_single(step):
            return None
        found = as_column_sum(number, step[0], self._rows.extent, self._columns.extent)
        if found is None or not self._reads_the_same(found):
            return None
        if found.partial and None in [self._readers(found, var) for var in found.results]:
            return None
        return found

    def _reads_the_same(self, found: ColumnSum) -> bool:
        """Whether whole matrices that a sum is made from are all at hand in this kernel."""
        names, at = found.lowered.names, self._substitution(found)
        whole = 0
        kernel = found.lowered.kernel
        for id in sorted({id for r in found.reduces for id in needed(kernel, r)}):
            load = kernel.body[id]
            if not isinstance(load, Load):
                continue
            index = ix.substitute(load.index, at)
            var = names[load.buffer]
            stored = self._stored(var)
            if stored and ([s.index for s in stored] != [index] or load.mask is not None):
                return False
            if {self._rows.name, self._columns.name} <= index.axes():
                whole += 1
                if not stored and not self._loads(var, index):
                    return False
        return whole > 0

    def _stored(self, var: Var) -> list[Store]:
        stores = [i for i in self._kernel.body if isinstance(i, Store)]
        return [s for s in stores if self._names[s.buffer] is var]

    def _loads(self, var: Var, index: Index) -> bool:
        return any(
            isinstance(i, Load) and self._names[i.buffer] is var and i.index == index
            for i in self._kernel.body
        )

    def _substitution(self, found: ColumnSum) -> dict[str, Index]:
        """Positions along a sum's axes, by this kernel's."""
        row = ix.axis(self._rows.name, self._rows.extent)
        at = {found.columns.name: ix.axis(self._columns.name, self._columns.extent)}
        after = self._rows.extent
        for axis in found.rows:
            after //= axis.extent
            at[axis.name] = ix.mod(ix.floordiv(row, after), axis.extent)
        return at

    def _readers(self, found: ColumnSum, var: Var) -> dict[int, str] | None:
        """The steps that add up partial sums, and along which axis; None where others read them."""
        if var in self._kept:
            return None
        readers = {}
        for number, step in enumerate(self._steps):
            if number == found.step or not any(v is var for v, _ in step_uses(step)):
                continue
            axis = part_axis(step[0], var, found) if is_single(step) else None
            if axis is None:
                return None
            readers[number] = axis
        return readers

    # The new steps

    def _merge(self, sums: Sequence[ColumnSum]) -> list[Step] | None:
        """The steps with these sums in the kernel over rows; None where no order of them works."""
        dropped = self._dropped({found.step for found in sums})
        builder = KernelBuilder(self._kernel.name)
        names = {n: var for n, var in self._names.items() if var not in dropped}
        for axis in self._kernel.axes:
            builder.axis(axis.name, axis.extent)
        for buffer in self._kernel.buffers:
            if buffer.name in names:
                add_buffer(builder, buffer, buffer.name)
        stored = self._rewrite(builder, names)
        size = self._rows.extent * self._columns.extent
        terms: list[str] = []
        for found in sums:
            for term in self._terms(builder, found, names, stored):
                name = self._fresh("sums", [*names, *terms])
                builder.buffer(name, builder.type_of(term).dtype, size, "out")
                builder.store(name, self._place, term)
                terms.append(name)
        kernel = builder.build()
        schedule = self._scheduler(kernel)
        lanes = prod(step.size for step in schedule.steps if step.kind == "vector")
        if not in_one_block(schedule) or lanes * len(terms) > MAX_SUMS:
            return None
        schedule = replace(schedule, programs=self._programs(schedule))
        parts: Names = {}
        for name in terms:
            shape = (schedule.programs * self._columns.extent,)
            parts[name] = Var(ShapedArray(shape, kernel.buffer(name).dtype))
        framed = self._framed(kernel, names | parts, tuple(terms), schedule)
        replaced: dict[int, Step] = {self._number: [framed]}
        unused = iter(parts.items())
        for found in sums:
            own = dict(islice(unused, len(found.reduces)))
            if found.partial:
                replaced[found.step] = []
                for old, new in zip(found.results, own.values(), strict=True):
                    self._resize_readers(found, schedule.programs, old, new, replaced)
            else:
                replaced[found.step] = [finish(found, schedule.programs, own)]
        return _in_order([replaced.get(n, step) for n, step in enumerate(self._steps)])

    def _rewrite(self, builder: KernelBuilder, names: Names) -> dict[Var, int]:
        """Add what the kernel does, without stores to other buffers; the ids of what it stored."""
        ids: dict[int, int] = {}
        stored: dict[Var, int] = {}
        for id, instruction in enumerate(self._kernel.body):
            if isinstance(instruction, Store):
                stored[self._names[instruction.buffer]] = ids[instruction.value]
                if instruction.buffer not in names:
                    continue
            new = rebuild_instruction(builder, instruction, ids, lambda i: i, lambda name: name)
            if new is not None:
                ids[id] = new
        return stored

    def _resize_readers(
        self, found: ColumnSum, programs: int, old: Var, new: Var, replaced: dict[int, Step]
    ) -> None:
        readers = self._readers(found, old)
        assert readers is not None
        for number, axis in readers.items():
            step = replaced.get(number, self._steps[number])
            assert is_single(step)
            replaced[number] = [resized(step[0], axis, programs, old, new)]

    def _dropped(self, joined: set[int]) -> set[Var]:
        """What this kernel stores for sums alone that now join it."""
        stored = {self._names[i.buffer] for i in self._kernel.body if isinstance(i, Store)}
        read = {
            var
            for number, step in enumerate(self._steps)
            if number not in joined and number != self._number
            for var, _ in step_uses(step)
        }
        return stored - read - self._kept

    def _terms(
        self, builder: KernelBuilder, found: ColumnSum, names: Names, stored: Mapping[Var, int]
    ) -> list[int]:
        """Add the terms of sums to the kernel over rows."""
        kernel, own = found.lowered.kernel, found.lowered.names
        at = self._substitution(found)
        reduces = [i for i in (kernel.body[id] for id in found.reduces) if isinstance(i, Reduce)]
        ids: dict[int, int] = {}
        for id in sorted({id for reduce in reduces for id in needed(kernel, reduce.arg)}):
            instruction = kernel.body[id]
            if isinstance(instruction, Load):
                var = own[instruction.buffer]
                if var in stored:
                    ids[id] = stored[var]
                    continue
                name = next((n for n, v in names.items() if v is var), None)
                if name is None:
                    name = self._fresh(instruction.buffer, names)
                    add_buffer(builder, kernel.buffer(instruction.buffer), name)
                    names[name] = var
                instruction = replace(instruction, buffer=name)
            new = rebuild_instruction(
                builder, instruction, ids, lambda i: ix.substitute(i, at), lambda name: name
            )
            assert new is not None
            ids[id] = new
        return [ids[reduce.arg] for reduce in reduces]

    def _programs(self, schedule: Schedule) -> int:
        lanes = {step.axis: step.size for step in schedule.steps if step.kind == "vector"}
        rows, at_once = self._rows.extent, lanes.get(self._rows.name, 1)
        each = PROCESSORS * max(1, min(8, LANES_PER_PROCESSOR // prod(lanes.values())))
        return min(-(-rows // at_once), each, max(PROCESSORS, rows // MIN_ROWS))

    def _fresh(self, name: str, taken: Iterable[str]) -> str:
        return fresh(name, [*taken, self._rows.name, self._columns.name])

    def _framed(
        self, kernel: Kernel, names: Names, sums: tuple[str, ...], schedule: Schedule
    ) -> LoweredKernel:
        """The kernel with its sums as one that stands for a hand-written one."""
        plain = canonical_kernel(kernel)
        own = {b.name: p.name for b, p in zip(kernel.buffers, plain.buffers, strict=True)}
        rows = RowSums(plain, schedule, tuple(own[name] for name in sums))
        size = schedule.programs * self._columns.extent
        buffers = tuple(replace(b, size=size) if b.name in rows.sums else b for b in plain.buffers)
        library = Library(ROW_SUMS, (("rows", rows),), rows.cost, rows.run)
        framed = Kernel(kernel.name, buffers, (), (), library)
        variables = {own[name]: var for name, var in names.items()}
        return LoweredKernel(framed, variables, self._lowered.source)


def _in_order(steps: Sequence[Step]) -> list[Step] | None:
    """Steps such that each follows what writes its operands, else as they are; None in a circle.

    Steps of the host stay in their order, since they may do more than compute.
    """
    uses = [step_uses(step) for step in steps]
    writer = {var: n for n, use in enumerate(uses) for var, writes in use if writes}
    after: list[list[int]] = [[] for _ in steps]
    missing = [0] * len(steps)
    host: list[int] = []
    for number, step in enumerate(steps):
        before = {writer[var] for var, _ in uses[number] if var in writer} - {number}
        if isinstance(step, HostStep):
            before |= set(host[-1:])
            host.append(number)
        missing[number] = len(before)
        for other in before:
            after[other].append(number)
    ready = [number for number, count in enumerate(missing) if not count]
    heapify(ready)
    order: list[int] = []
    while ready:
        number = heappop(ready)
        order.append(number)
        for other in after[number]:
            missing[other] -= 1
            if not missing[other]:
                heappush(ready, other)
    if len(order) < len(steps):
        return None
    found = (steps[n] for n in order)
    return [step for step in found if isinstance(step, HostStep | LoopStep) or step]
