"""Rows that are taken in by groups of lanes: which passes are, and what loops they become.

A reduction along a row has an accumulator for each of 32 lanes, or of 64 where little is computed
for each element, so that the next addition to a lane need not wait for the last; and for each of 16
where the row is short. (Numbers of float32; half as many in float64.) First what is left over from
whole groups is taken in, then the groups, and `fd_lanes.h` has what the lanes come to. What is left
over makes a whole group with the elements before it, which its lanes compute but do not take in.
`#pragma omp simd reduction` would have one lane for each element of a vector, prepare them one by
one, and add them up one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from funcdl.core.records import record
from funcdl.kernels.cpu_c.loops import Loop
from funcdl.kernels.cpu_c.text import POSITION
from funcdl.kir.elementwise import lookup
from funcdl.kir.ir import Elementwise, Kernel

OPS = frozenset({"sum", "prod", "max", "min"})
# Bytes of the accumulators. Four vectors stay in registers where an element costs no more additions
# than the last number and the loop is easy to vectorise: gcc weighs the costs if the loop is to be
# unrolled, and reads every `omp simd` loop as it is told. Else it may keep them in memory, and with
# two no addition waits. They are worth it if there are as many groups, and one is if there are not.
LIGHT_BYTES, BYTES, LEAST_BYTES = 256, 128, 64
LEAST_GROUPS = 4
LIGHT = 8


def lane_count(
    kernel: Kernel,
    values: Iterable[int],
    easy: bool,
    arrays: int,
    itemsize: int,
    extent: int | None,
) -> tuple[int, bool]:
    """How many lanes a row has, 0 where it is too short; whether they are to stay in registers.

    Args:
        values: what is computed of each element.
        easy: nothing is stored, and what is read are neighbours.
        arrays: of accumulators. They share the registers.
        itemsize: of the accumulators.
        extent: the length of the row, None if any.
    """
    cost = 0
    for id in values:
        instruction = kernel.body[id]
        cost += lookup(instruction.name).cost if isinstance(instruction, Elementwise) else 1
    sizes = [(BYTES, False), (LEAST_BYTES, False)]
    if easy and cost <= LIGHT:
        sizes.insert(0, (max(LIGHT_BYTES >> (arrays - 1), BYTES), True))
    for size, light in sizes:
        count = size // itemsize
        if extent is None or extent >= LEAST_GROUPS * count:
            return count, light
    return 0, False


@record
class Group:
    """Loops over groups of lanes, of which those before `first` take nothing in."""

    loops: tuple[Loop, ...]
    first: int = 0


def in_lanes(loop: Loop, count: int, unrolled: bool, twice: bool) -> list[Group]:
    """The loops in place of a vector loop: over what whole groups leave, and over the groups.

    Args:
        count: how many lanes there are.
        unrolled: whether the accumulators are to stay in registers.
        twice: whether elements may be computed twice. Nothing that they follow from is overwritten.
    """
    name, group = loop.variable, f"{loop.variable}_group"
    lane = replace(loop, variable="lane", begin="0", after=())
    size = _size(loop)
    first = 0
    if size is None:
        # Spelled out each time: a kernel may go over its rows several times.
        length = loop.end if loop.begin == "0" else f"({loop.end} - {loop.begin})"
        left = f"{length} % {count}"
        rest = start = f"{loop.end} - {left}"
    else:
        whole = size - size % count
        rest = start = _from(loop.begin, whole)
        left = str(size - whole)
        if twice and 0 < whole < size:
            # A partial vector of accumulators, read as a whole one, would wait until it is stored.
            first, left, start = count - (size - whole), str(count), _from(loop.begin, size - count)
    tail = replace(lane, end=left, first=(f"const {POSITION} {name} = {start} + lane;",))
    groups = Loop(loop.axis, "tile", group, loop.begin, rest, count, whole=False)
    # Fewer than there are lanes: gcc would unroll first, and find no vectors in what that leaves.
    inner = replace(
        lane,
        end=str(count),
        before=("#pragma GCC unroll 8",) if unrolled else (),
        pragma="#pragma GCC ivdep" if unrolled else loop.pragma,
        first=(f"const {POSITION} {name} = {group} + lane;",),
    )
    whole_groups = Group((groups, inner))
    return [whole_groups] if left == "0" else [Group((tail,), first), whole_groups]


def _from(begin: str, offset: int) -> str:
    return str(offset) if begin == "0" else f"{begin} + {offset}"


def _size(loop: Loop) -> int | None:
    """The number of iterations, if it is written there."""
    if loop.begin == "0":
        return int(loop.end) if loop.end.isdigit() else None
    start = f"{loop.begin} + "
    length = loop.end.removeprefix(start)
    return int(length) if loop.end.startswith(start) and length.isdigit() else None
