"""Kernels that work on the rows of a matrix, and those that sum its columns: which they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TypeGuard

from funcdl.compiler.loops import LoopStep
from funcdl.compiler.lower import LoweredKernel
from funcdl.compiler.steps import HostStep, Step
from funcdl.core.jaxpr import Var
from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.convolution import needed
from funcdl.kir.ir import (
    AtomicUpdate,
    Axis,
    Buffer,
    Cast,
    Conv,
    Dot,
    Effect,
    Kernel,
    Load,
    Order,
    Reduce,
    Running,
    Store,
)
from funcdl.kir.passes import rebuild_body, rebuild_instruction
from funcdl.kir.schedule import Schedule

Names = dict[str, Var]


@dataclass(frozen=True, slots=True)
class ColumnSum:
    """A step that is one kernel, which sums columns of a matrix.

    `reduces` are its sums, `rows` the axes that make up the rows. A `partial` one stores each sum
    over each of several parts of the rows, which other kernels add up.
    """

    step: int
    lowered: LoweredKernel
    reduces: tuple[int, ...]
    rows: tuple[Axis, ...]
    columns: Axis
    partial: bool

    @property
    def results(self) -> list[Var]:
        """What a partial one stores, in the order of its sums."""
        kernel, names = self.lowered.kernel, self.lowered.names
        stores = {i.value: i.buffer for i in kernel.body if isinstance(i, Store)}
        return [names[stores[id]] for id in self.reduces]


def is_single(step: Step) -> TypeGuard[Sequence[LoweredKernel]]:
    """Whether a step is one generated kernel."""
    return (
        not isinstance(step, HostStep | LoopStep)
        and len(step) == 1
        and step[0].kernel.library is None
    )


def _reductions(kernel: Kernel) -> dict[int, Reduce]:
    return {id: i for id, i in enumerate(kernel.body) if isinstance(i, Reduce)}


def _only_loops(kernel: Kernel) -> bool:
    """Whether a kernel is elementwise operations and reductions alone."""
    return not any(isinstance(i, AtomicUpdate | Conv | Dot | Order | Running) for i in kernel.body)


def is_row_kernel(kernel: Kernel, scheduler: Callable[[Kernel], Schedule]) -> bool:
    """Whether a kernel reduces along the rows of a matrix, each of which lies in one block."""
    reductions = _reductions(kernel).values()
    if not reductions or len(kernel.axes) != 2 or not _only_loops(kernel):
        return False
    columns = kernel.axes[1].name
    if any(reduce.axes != (columns,) for reduce in reductions):
        return False
    return in_one_block(scheduler(kernel))


def in_one_block(schedule: Schedule) -> bool:
    """Whether a program has whole rows at a time."""
    return not any(step.kind in ("tile", "loop") for step in schedule.steps)


def as_column_sum(step: int, lowered: LoweredKernel, rows: int, width: int) -> ColumnSum | None:
    """A kernel as the sum of the columns of such a matrix."""
    kernel = lowered.kernel
    reductions = _reductions(kernel)
    if not reductions or len(kernel.axes) < 2 or not _only_loops(kernel):
        return None
    reduced = {(reduce.op, reduce.axes, reduce.type) for reduce in reductions.values()}
    *of_rows, columns = kernel.axes
    if columns.extent != width or prod(axis.extent for axis in of_rows) != rows:
        return None
    ((op, axes, type_), *others) = reduced
    if others or op != "sum" or type_.dtype.kind != "f" or columns.name in axes:
        return None
    # Nothing is stored before, and no sum depends on another.
    terms = {id for reduce in reductions.values() for id in needed(kernel, reduce.arg)}
    stores = {id: i for id, i in enumerate(kernel.body) if isinstance(i, Store)}
    if terms & reductions.keys():
        return None
    found = ColumnSum(step, lowered, tuple(reductions), tuple(of_rows), columns, partial=False)
    kept = [axis for axis in of_rows if axis.name not in axes]
    if not kept:
        # What follows varies over columns alone.
        along, after = set(axes), [i for s in stores for i in needed(kernel, s, found.reduces)]
        varying = {a for i in after for a in _axes_of(kernel, i)}
        return None if along & varying else found
    if len(kept) != 1 or sorted(store.value for store in stores.values()) != [*reductions]:
        return None
    place = ix.axis(kept[0].name, kept[0].extent) * width + ix.axis(columns.name, width)
    if any(store.index != place or store.mask is not None for store in stores.values()):
        return None
    return replace(found, partial=True)


def _axes_of(kernel: Kernel, id: int) -> set[str]:
    """What an instruction varies over."""
    instruction = kernel.body[id]
    if isinstance(instruction, Effect):
        return set(instruction.index.axes())
    return set(instruction.type.axes)


def part_axis(lowered: LoweredKernel, var: Var, found: ColumnSum) -> str | None:
    """The axis along which a kernel adds up partial sums, if it does nothing else along it."""
    kernel, names = lowered.kernel, lowered.names
    loads = [i for i in kernel.body if isinstance(i, Load) and names[i.buffer] is var]
    if len({load.index for load in loads}) != 1 or not _only_loops(kernel):
        return None
    (load, *_) = loads
    width = found.columns.extent
    axes = [a for a in kernel.axes if load.index.coefficient(a.name) == width]
    if len(axes) != 1 or load.mask is not None:
        return None
    (axis,) = axes
    rest = load.index - ix.axis(axis.name, axis.extent) * width
    if axis.name in rest.axes() or rest.values() or rest.range() != (0, width - 1):
        return None
    for instruction in kernel.body:
        if isinstance(instruction, Effect):
            if axis.name in instruction.index.axes():
                return None
        elif axis.name in instruction.type.axes:
            widened = isinstance(instruction, Cast)
            if not widened and not (isinstance(instruction, Load) and instruction in loads):
                return None
        elif isinstance(instruction, Reduce):
            if instruction.axes != (axis.name,) or instruction.op != "sum":
                return None
            if axis.name not in kernel.value_type(instruction.arg).axes:
                return None
    return axis.name


def resized(lowered: LoweredKernel, axis: str, extent: int, old: Var, new: Var) -> LoweredKernel:
    """A kernel that adds up another number of partial sums."""
    kernel, names = lowered.kernel, lowered.names
    builder = KernelBuilder(kernel.name)
    for other in kernel.axes:
        builder.axis(other.name, extent if other.name == axis else other.extent)
    for buffer in kernel.buffers:
        if names[buffer.name] is old:
            buffer = replace(buffer, size=new.aval.size)
            names[buffer.name] = new
        add_buffer(builder, buffer, buffer.name)
    rebuild_body(builder, kernel, axis, extent)
    return LoweredKernel(builder.build(), names, lowered.source)


def finish(found: ColumnSum, programs: int, parts: Names) -> LoweredKernel:
    """The kernel of a sum with the sums of programs, one array for each, in place of its terms."""
    kernel, names = found.lowered.kernel, found.lowered.names
    builder = KernelBuilder(kernel.name)
    row = found.rows[0].name
    place = builder.axis(row, programs) * found.columns.extent
    place = place + builder.axis(found.columns.name, found.columns.extent)
    effects = [id for id, i in enumerate(kernel.body) if isinstance(i, Effect)]
    rest = sorted({i for e in effects for i in needed(kernel, e, found.reduces)})
    used = {i.buffer for i in (kernel.body[n] for n in rest) if isinstance(i, Load | Store)}
    names = {n: v for n, v in names.items() if n in used}
    for buffer in kernel.buffers:
        if buffer.name in used:
            add_buffer(builder, buffer, buffer.name)
    ids = {}
    for reduce, (wanted, var) in zip(found.reduces, parts.items(), strict=True):
        name = fresh(wanted, [*names, *(axis.name for axis in kernel.axes)])
        builder.buffer(name, var.aval.dtype, var.aval.size, "in")
        names[name] = var
        ids[reduce] = builder.reduce("sum", builder.load(name, place), [row])
    for id in rest:
        made = rebuild_instruction(builder, kernel.body[id], ids, lambda i: i, lambda axis: axis)
        if made is not None:
            ids[id] = made
    return LoweredKernel(builder.build(), names, found.lowered.source)


def add_buffer(builder: KernelBuilder, buffer: Buffer, name: str) -> None:
    """Add a buffer of another kernel."""
    builder.buffer(name, buffer.dtype, buffer.size, buffer.role, buffer.may_alias)


def fresh(name: str, taken: Iterable[str]) -> str:
    """A name that is not taken."""
    others = set(taken)
    number = 1
    found = name
    while found in others:
        number += 1
        found = f"{name}{number}"
    return found
