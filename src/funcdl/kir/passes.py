"""Passes from kernel to kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.index import DivAtom, Index, ModAtom
from funcdl.kir.ir import (
    AtomicUpdate,
    Axis,
    Bitcast,
    Cast,
    Const,
    Conv,
    Dot,
    Effect,
    Elementwise,
    IndexValue,
    Instruction,
    Kernel,
    Load,
    Order,
    Reduce,
    Running,
    Select,
    Store,
)

# Bytes before and after a buffer that loads under conditions may have addresses in. They read
# nothing there, but where a page is not mapped a vector of them takes 200 ns to find that out.
OUTSIDE_BYTES = 4096
_COMPARISONS = ("ge", "lt", "le", "gt")


def collapse_axes(kernel: Kernel) -> Kernel:
    """Merge adjacent axes that every index runs through in one stride, and drop axes of extent 1.

    An axis pair ``a, b`` becomes one axis, with the name of the first, where each value varies
    over both or neither, no index gets more quotients or remainders by it, no reduction takes one
    of them alone, and no running result or order goes along one. So elementwise kernels on dense
    arrays get one axis, and a reduction over n, h, w gets one reduced axis. The axes of a `Dot`
    stay even at extent 1; a batch axis can merge into its m or n. A kernel with a `Conv` keeps
    all of its axes.

    Which elements of a padded or joined array of pixels come from where depends on the pixel, not
    on the colour: ``k >= 2``. For every colour ``l`` of three that is ``3 * k + l >= 6``, and
    ``k <= 27`` is ``3 * k + l <= 83``, so that pixels and colours become one axis, too.
    """
    if any(isinstance(i, Conv) for i in kernel.body):
        return kernel
    kernel = _drop_single_positions(kernel)
    at = 0
    while at + 1 < len(kernel.axes):
        merged = _merge(kernel, at)
        if merged is None:
            at += 1
        else:
            # The new axis may merge with the one before it as well.
            kernel, at = merged, max(at - 1, 0)
    return kernel


def _drop_single_positions(kernel: Kernel) -> Kernel:
    dots = [i for i in kernel.body if isinstance(i, Dot)]
    kept = {name for dot in dots for name in (dot.m, dot.n, dot.k)}
    single = {a.name for a in kernel.axes if a.extent == 1 and a.name not in kept}
    if not single:
        return kernel
    axes = [axis for axis in kernel.axes if axis.name not in single]
    at = partial(ix.substitute, axes={name: ix.constant(0) for name in single})
    return _rebuild(kernel, axes, at, lambda name: None if name in single else name)


def _merge(kernel: Kernel, at: int) -> Kernel | None:
    """The kernel with the axes `at` and ``at + 1`` in one, or None where they must stay apart."""
    first, second = kernel.axes[at : at + 2]
    if 0 in (first.extent, second.extent):
        return None
    if not _vary_together(kernel, first.name, second.name):
        kernel = _compare_inside(kernel, first, second)
        if not _vary_together(kernel, first.name, second.name):
            return None
    names = {first.name, second.name}
    for instruction in kernel.body:
        if isinstance(instruction, Reduce) and len(names & set(instruction.axes)) == 1:
            return None
        if isinstance(instruction, Running | Order) and instruction.axis in names:
            return None
        if isinstance(instruction, Dot):
            roles = names & {instruction.m, instruction.n, instruction.k}
            if len(roles) == 2 or instruction.k in names:
                return None
    merged = Axis(first.name, first.extent * second.extent)
    position = ix.axis(merged.name, merged.extent)
    parts = {first.name: position // second.extent, second.name: position % second.extent}
    new_indices: dict[Index, Index] = {}
    for instruction in kernel.body:
        if isinstance(instruction, IndexValue | Load | Store | AtomicUpdate):
            old = instruction.index
            if old not in new_indices:
                new = new_indices[old] = ix.substitute(old, parts)
                if _splits(new) > _splits(old):
                    return None
    axes = [*kernel.axes[:at], merged, *kernel.axes[at + 2 :]]
    return _rebuild(
        kernel,
        axes,
        new_indices.__getitem__,
        lambda name: first.name if name == second.name else name,
    )


def _vary_together(kernel: Kernel, first: str, second: str) -> bool:
    for instruction in kernel.body:
        if isinstance(instruction, Effect):
            # Values and masks are looked at themselves.
            axes = tuple(instruction.index.axes())
        else:
            axes = instruction.type.axes
        if (first in axes) != (second in axes):
            return False
    return True


def _compare_inside(kernel: Kernel, outer: Axis, inner: Axis) -> Kernel:
    """The kernel with comparisons of positions along `outer` spread over `inner`.

    Kernels with reductions and the like stay as they are, and those that read, under conditions,
    what is far outside of a buffer where these do not hold.
    """
    if any(isinstance(i, Reduce | Dot | Running | Order) for i in kernel.body):
        return kernel
    if any(isinstance(i, Load) and _outside(kernel, i) > OUTSIDE_BYTES for i in kernel.body):
        return kernel
    spread = {id for id in range(len(kernel.body)) if _can_spread(kernel, id, outer, inner)}
    if not spread:
        return kernel
    position = ix.axis(inner.name, inner.extent)
    builder = _builder(kernel, kernel.axes)
    ids: dict[int, int] = {}
    for id, instruction in enumerate(kernel.body):
        if id in spread:
            assert isinstance(instruction, Elementwise)
            left, right = (kernel.body[arg] for arg in instruction.args)
            assert isinstance(left, IndexValue) and isinstance(right, Const)
            place = builder.index_value(left.index * inner.extent + position, left.type.dtype)
            bound = builder.const(_bound(instruction.name, right, inner), right.type.dtype)
            ids[id] = builder.elementwise(instruction.name, place, bound)
        else:
            new_id = rebuild_instruction(
                builder, instruction, ids, lambda index: index, lambda name: name
            )
            if new_id is not None:
                ids[id] = new_id
    return builder.build()


def _outside(kernel: Kernel, load: Load) -> int:
    """How many bytes from its buffer a load would be if it had no mask."""
    buffer = kernel.buffer(load.buffer)
    low, high = load.index.range()
    return max(-low, high + 1 - buffer.size) * buffer.dtype.itemsize


def _can_spread(kernel: Kernel, id: int, outer: Axis, inner: Axis) -> bool:
    """Whether an instruction compares positions along `outer`, and not `inner`, with a constant."""
    instruction = kernel.body[id]
    if not isinstance(instruction, Elementwise) or instruction.name not in _COMPARISONS:
        return False
    left, right = (kernel.body[arg] for arg in instruction.args)
    if not isinstance(left, IndexValue) or not isinstance(right, Const):
        return False
    if outer.name not in left.type.axes or inner.name in left.type.axes:
        return False
    low, high = left.index.range()
    reached = (
        low * inner.extent,
        (high + 1) * inner.extent,
        _bound(instruction.name, right, inner),
    )
    limits = np.iinfo(left.type.dtype)
    return limits.min <= min(reached) and max(reached) <= limits.max


def _bound(comparison: str, value: Const, inner: Axis) -> int:
    """With what to compare ``inner.extent * x`` plus a position of `inner`, in place of ``x``."""
    if comparison in ("ge", "lt"):
        return int(value.value) * inner.extent
    return (int(value.value) + 1) * inner.extent - 1


def _splits(index: Index) -> int:
    """How many quotients and remainders an index has, those inside each other counted too."""
    return sum(
        1 + _splits(atom.index) for atom, _ in index.terms if isinstance(atom, DivAtom | ModAtom)
    )


def _rebuild(
    kernel: Kernel,
    axes: Sequence[Axis],
    new_index: Callable[[Index], Index],
    new_name: Callable[[str], str | None],
) -> Kernel:
    """The kernel over other axes; `new_name` is None for an axis that is gone."""
    builder = _builder(kernel, axes)
    ids: dict[int, int] = {}
    for id, instruction in enumerate(kernel.body):
        new_id = rebuild_instruction(builder, instruction, ids, new_index, new_name)
        if new_id is not None:
            ids[id] = new_id
    return builder.build()


def _builder(kernel: Kernel, axes: Sequence[Axis]) -> KernelBuilder:
    """A kernel of the same name and buffers, still without instructions."""
    builder = KernelBuilder(kernel.name)
    for axis in axes:
        builder.axis(axis.name, axis.extent)
    for buffer in kernel.buffers:
        builder.buffer(buffer.name, buffer.dtype, buffer.size, buffer.role, buffer.may_alias)
    return builder


def rebuild_body(builder: KernelBuilder, kernel: Kernel, axis: str, extent: int) -> None:
    """Add the instructions of a kernel to one that has another extent along an axis."""
    at = {axis: ix.axis(axis, extent)}
    ids: dict[int, int] = {}
    for id, instruction in enumerate(kernel.body):
        new = rebuild_instruction(
            builder, instruction, ids, lambda index: ix.substitute(index, at), lambda name: name
        )
        if new is not None:
            ids[id] = new


def rebuild_instruction(
    builder: KernelBuilder,
    instruction: Instruction,
    ids: Mapping[int, int],
    new_index: Callable[[Index], Index],
    new_name: Callable[[str], str | None],
) -> int | None:
    """Add an instruction to another kernel, with other operands, indices and names of axes.

    Returns the new id, None for an effect.
    """

    def at(index: Index) -> Index:
        index = new_index(index)
        return ix.rename_values(index, ids) if index.values() else index

    def condition(mask: int | None) -> int | None:
        return None if mask is None else ids[mask]

    match instruction:
        case Const(type_, value):
            return builder.const(value, type_.dtype)
        case IndexValue(type_, index):
            return builder.index_value(at(index), type_.dtype)
        case Load(_, buffer, index, mask, other):
            return builder.load(buffer, at(index), condition(mask), other)
        case Elementwise(_, name, args):
            return builder.elementwise(name, *(ids[arg] for arg in args))
        case Select(_, which, on_true, on_false):
            return builder.select(ids[which], ids[on_true], ids[on_false])
        case Cast(type_, arg):
            return builder.cast(ids[arg], type_.dtype)
        case Bitcast(type_, arg):
            return builder.bitcast(ids[arg], type_.dtype)
        case Reduce(type_, op, arg, axes):
            reduced = [name for name in map(new_name, axes) if name is not None]
            return builder.reduce(op, ids[arg], reduced, type_.dtype)
        case Running(_, op, arg, axis, reverse):
            new_axis = new_name(axis)
            return (
                ids[arg] if new_axis is None else builder.running(op, ids[arg], new_axis, reverse)
            )
        case Order(_, keys, axis, descending, first):
            new_axis = new_name(axis)
            if new_axis is None:
                return builder.const(0, np.int32)
            return builder.order([ids[key] for key in keys], new_axis, descending, first)
        case Dot(_, lhs, rhs, m, n, k, precision):
            new_m, new_n, new_k = map(new_name, (m, n, k))
            assert new_m is not None and new_n is not None and new_k is not None
            return builder.dot(ids[lhs], ids[rhs], new_m, new_n, new_k, precision)
        case Conv():
            raise AssertionError("kernels with a convolution keep their axes")
        case Store(buffer, index, value, mask):
            builder.store(buffer, at(index), ids[value], condition(mask))
        case AtomicUpdate(op, buffer, index, value, mask):
            builder.atomic_update(op, buffer, at(index), ids[value], condition(mask))
    return None
