"""Several positions of a reduced axis at a time, combined before they are reduced.

Reductions down columns keep an accumulator for each lane in the cache: taking in four rows at a
time reads and writes them a quarter as often.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Effect, Kernel, Reduce, operands
from funcdl.kir.passes import rebuild_instruction

# What combines two values as a reduction does.
_COMBINE = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "and": "and", "or": "or"}


def can_unroll(kernel: Kernel, axis: str, count: int) -> bool:
    """Whether `unroll` can be applied: all reductions are over values that vary along the axis."""
    if kernel.axis(axis).extent % count or kernel.axis(axis).extent == count:
        return False
    return all(
        axis not in i.axes or (i.op in _COMBINE and axis in kernel.value_type(i.arg).axes)
        for i in kernel.body
        if isinstance(i, Reduce)
    )


def unroll(kernel: Kernel, axis: str, count: int) -> Kernel:
    """The kernel with `count` positions of a reduced axis written out (see `can_unroll`)."""
    builder = KernelBuilder(kernel.name)
    shorter = kernel.axis(axis).extent // count
    for a in kernel.axes:
        builder.axis(a.name, shorter if a.name == axis else a.extent)
    for buffer in kernel.buffers:
        builder.buffer(buffer.name, buffer.dtype, buffer.size, buffer.role, buffer.may_alias)
    step = ix.axis(axis, shorter) * count
    copies: list[dict[int, int]] = [{} for _ in range(count)]
    for id, instruction in enumerate(kernel.body):
        if isinstance(instruction, Reduce) and axis in instruction.axes:
            args = [copy[instruction.arg] for copy in copies]
            combined = _combine(builder, instruction.op, args)
            new = builder.reduce(instruction.op, combined, instruction.axes, instruction.type.dtype)
            for copy in copies:
                copy[id] = new
            continue
        varies = axis in _axes(kernel, id)
        for number, copy in enumerate(copies):
            if number and not varies:
                if id in copies[0]:
                    copy[id] = copies[0][id]
                continue
            moved = partial(ix.substitute, axes={axis: step + number})
            added = rebuild_instruction(builder, instruction, copy, moved, lambda name: name)
            if added is not None:
                copy[id] = added
    return builder.build()


def _combine(builder: KernelBuilder, op: str, values: Sequence[int]) -> int:
    """The values in pairs, the results in pairs, and so on."""
    while len(values) > 1:
        pairs = [values[i : i + 2] for i in range(0, len(values), 2)]
        values = [builder.elementwise(_COMBINE[op], *p) if len(p) == 2 else p[0] for p in pairs]
    return values[0]


def _axes(kernel: Kernel, id: int) -> frozenset[str]:
    instruction = kernel.body[id]
    if not isinstance(instruction, Effect):
        return frozenset(instruction.type.axes)
    of_operands = (kernel.value_type(i).axes for i in operands(instruction))
    return instruction.index.axes().union(*of_operands)
