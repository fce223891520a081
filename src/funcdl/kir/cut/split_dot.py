"""A product with a long sum and a small result, cut into two kernels (split-K).

The first kernel is the same product for each of several equal parts of the sum, as a batch; the
second one adds the parts up in order and does what followed the product. So a weight gradient,
whose few tiles would keep a few processors busy, is spread over all of them, at the price of
writing and reading the parts. No atomics: results do not depend on which program ends first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.convolution import conv_as_dot, needed
from funcdl.kir.index import Index
from funcdl.kir.ir import AtomicUpdate, Dot, Effect, Kernel, Load, Store
from funcdl.kir.passes import rebuild_instruction

# Stems of the names of the axis that numbers the parts, and of the buffer that holds them.
AXIS, PARTS = "part", "parts"


def split_dot(kernel: Kernel, count: int) -> tuple[Kernel, Kernel, str]:
    """The products of `count` equal parts of the sum, then their sum and all that follows.

    Args:
        kernel: has a `Dot` or a `Conv`, which becomes a `Dot`.
        count: divides the length of the sum.

    Returns:
        Both kernels, and the name of the buffer that the first writes and the second reads.
    """
    kernel = conv_as_dot(kernel)
    id = find_dot(kernel)
    assert id is not None
    dot = kernel.body[id]
    assert isinstance(dot, Dot)
    length, left = divmod(kernel.axis(dot.k).extent, count)
    if left:
        raise ValueError(f"kernel {kernel.name}: {count} does not divide the extent of {dot.k}")
    taken = {b.name for b in kernel.buffers} | {a.name for a in kernel.axes}
    tails = ("_" * n for n in range(len(taken) + 1))
    tail = next(t for t in tails if not taken & {AXIS + t, PARTS + t})
    axis_name, parts = AXIS + tail, PARTS + tail
    kept = [axis for axis in kernel.axes if axis.name in dot.type.axes]
    elements = prod(axis.extent for axis in kept)
    inside = ix.combine(_row_major([(axis.name, axis.extent) for axis in kept]))

    first = KernelBuilder(f"{kernel.name}_{PARTS}")
    part = first.axis(axis_name, count)
    for axis in kernel.axes:
        first.axis(axis.name, length if axis.name == dot.k else axis.extent)
    _add_buffers(first, kernel, needed(kernel, id))
    first.buffer(parts, dot.type.dtype, count * elements, "out")
    at = {dot.k: part * length + ix.axis(dot.k, length)}
    ids = _rebuild(first, kernel, [id], at, {})
    first.store(parts, part * elements + inside, ids[id])

    effects = [i for i, instruction in enumerate(kernel.body) if isinstance(instruction, Effect)]
    reads = {i for effect in effects for i in needed(kernel, effect, [id])} - {id}
    second = KernelBuilder(kernel.name)
    for axis in kernel.axes:
        if axis.name != dot.k:
            second.axis(axis.name, axis.extent)
    part = second.axis(axis_name, count)
    _add_buffers(second, kernel, reads)
    second.buffer(parts, dot.type.dtype, count * elements, "in")
    total = second.reduce("sum", second.load(parts, part * elements + inside), [axis_name])
    _rebuild(second, kernel, effects, {}, {id: total})
    return first.build(), second.build(), parts


def find_dot(kernel: Kernel) -> int | None:
    """The id of the kernel's product, if it has one."""
    return next((id for id, i in enumerate(kernel.body) if isinstance(i, Dot)), None)


def _row_major(axes: list[tuple[str, int]]) -> list[tuple[Index, int]]:
    terms, stride = [], 1
    for name, extent in reversed(axes):
        terms.append((ix.axis(name, extent), stride))
        stride *= extent
    return terms


def _add_buffers(builder: KernelBuilder, kernel: Kernel, ids: Iterable[int]) -> None:
    used = {
        instruction.buffer
        for instruction in (kernel.body[id] for id in ids)
        if isinstance(instruction, Load | Store | AtomicUpdate)
    }
    for buffer in kernel.buffers:
        if buffer.name in used:
            builder.buffer(buffer.name, buffer.dtype, buffer.size, buffer.role, buffer.may_alias)


def _rebuild(
    builder: KernelBuilder,
    kernel: Kernel,
    roots: Iterable[int],
    at: Mapping[str, Index],
    ids: dict[int, int],
) -> dict[int, int]:
    for id in sorted({id for root in roots for id in needed(kernel, root, ids)}):
        new = rebuild_instruction(
            builder, kernel.body[id], ids, lambda i: ix.substitute(i, at), lambda name: name
        )
        if new is not None:
            ids[id] = new
    return ids
