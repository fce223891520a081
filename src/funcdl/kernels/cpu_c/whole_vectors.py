"""Rows of costly elements in whole vectors, of which the last two overlap.

gcc computes what whole vectors leave of a row one element after the other. The exponential of one
number takes as long as that of fifteen: rows of 79 logistics would take twice as long as rows of
80. So loops over rows of known length are cut into blocks of whole vectors, and the last block ends
with the row. It computes some elements again and stores the same bits. Kernels that update, or may
write over what they read, keep their loops.

Rejected: a second loop for the last vector, which is the same text twice, and takes gcc as long
again; masks, which gcc 12 does not make for the ends of loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from funcdl.kernels.cpu_c.loops import Loop
from funcdl.kernels.cpu_c.text import POSITION
from funcdl.kir.elementwise import lookup
from funcdl.kir.ir import Effect, Elementwise, Kernel, Store

# Elements of which less is computed, in additions, are as soon computed by themselves.
LEAST_COST = 8
VECTOR_BYTES = 64
# gcc takes as many elements at once as a vector has of the smallest ones; of bytes, half of one.
MOST_LANES = 32


def in_whole_vectors(kernel: Kernel, loops: Sequence[Loop]) -> list[Loop]:
    """The loops of a kernel without reductions, the innermost in blocks if that is worth it."""
    made = list(loops)
    if not made or not made[-1].pragma or made[-1].reverse:
        return made
    row, lanes = made[-1], _lanes(kernel)
    if row.kind != "vector" or not (row.begin.isdigit() and row.end.isdigit()):
        return made
    last = int(row.end) - lanes
    if last <= int(row.begin) or not _leaves_much(int(row.end) - int(row.begin), lanes):
        return made
    if not _may_repeat(kernel) or _cost(kernel, row.axis) < LEAST_COST:
        return made
    block, start = f"{row.variable}_block", f"{row.variable}_begin"
    first = f"const {POSITION} {start} = {block} < {last} ? {block} : {last};"
    blocks = replace(
        row, kind="tile", variable=block, step=lanes, pragma="", first=(first,), whole=False
    )
    inner = replace(row, begin=start, end=f"{start} + {lanes}", before=(), after=())
    return [*made[:-1], blocks, inner]


def _leaves_much(size: int, lanes: int) -> bool:
    """Whether what is left takes longer than a block: gcc computes half of one as a vector."""
    left = size % lanes
    return left > lanes // 8 and left != lanes // 2


def _lanes(kernel: Kernel) -> int:
    itemsize = min(buffer.dtype.itemsize for buffer in kernel.buffers)
    return min(VECTOR_BYTES // itemsize, MOST_LANES)


def _may_repeat(kernel: Kernel) -> bool:
    """Whether elements may be computed and stored twice."""
    if any(buffer.may_alias or buffer.role == "inout" for buffer in kernel.buffers):
        return False
    return all(isinstance(i, Store) for i in kernel.body if isinstance(i, Effect))


def _cost(kernel: Kernel, axis: str) -> int:
    """What an element costs, in additions."""
    return sum(
        lookup(instruction.name).cost
        for instruction in kernel.body
        if isinstance(instruction, Elementwise) and axis in instruction.type.axes
    )
