"""Merging groups over the same loops, for what the walk over the equations could not foresee."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from funcdl.compiler.fusion.dependencies import bits
from funcdl.compiler.fusion.grouped import MAX_MEMBERS, READS_ELSEWHERE, Grouped
from funcdl.compiler.fusion.groups import Group
from funcdl.compiler.fusion.reads import leaf_vars, reads_at
from funcdl.ops.lowering import Reduction

# Each reduction keeps a row of sums, or several, in registers or in the nearest cache.
MAX_REDUCTIONS = 6


def merge_readers(state: Grouped) -> None:
    """Merge groups over the same loops, one of which reads the other.

    The walk cannot see this coming where a group starts from the program's inputs and meets
    the other group's values only later. Long loops come first: what a merged group computes waits
    for all that it reads, and where a sum of losses and the number of examples were one kernel, the
    gradient would have to wait for it, and read all logits again.
    """
    for group in sorted(state.groups, key=lambda group: -math.prod(group.shape)):
        for number in bits(state.direct_dependencies(group)):
            other = state.groups[number]
            if other.members and _can_merge(state, other, group):
                state.merge(other, group)


def _can_merge(state: Grouped, first: Group, second: Group) -> bool:
    same_loops = (
        first.kind == second.kind == "loops"
        and first.axes == second.axes
        and first.position == second.position
        and (first.reduce_dims is None or second.reduce_dims in (None, first.reduce_dims))
        and (first.running is None or second.running in (None, first.running))
        and (first.running is None or second.reduce_dims is None)
        and (second.running is None or first.reduce_dims is None)
        and len(first.members) + len(second.members) <= MAX_MEMBERS
    )
    if not same_loops:
        return False
    # What windows and integer products read of the first group is computed at other points than
    # where it is read.
    for eqn in second.members:
        if isinstance(eqn.primitive.lower, READS_ELSEWHERE):
            for var in leaf_vars(eqn.invars, state.inlined.get):
                if state.home.get(var) is first:
                    return False
    between = state.direct_dependencies(second) & ~(1 << first.number)
    if any(state.dependencies.depends(n, first.number) for n in bits(between)):
        return False
    return not any(
        state.refusal(first, eqn, state.member_reads(second, eqn), second) for eqn in second.members
    )


def merge_siblings(state: Grouped) -> None:
    """Merge reductions over the same loops that read what one group, or an input, holds.

    The gradients of a normalisation, of its scale and of its shift are sums of what one array has
    to do with each. None of them reads another, so the walk has a group for each. Together they
    read that array once, and compute the rest again rather than have it stored.
    """
    readers: dict[Any, list[Group]] = defaultdict(list)
    for group in state.groups:
        if group.reduce_dims is not None and not _reads_elsewhere(group):
            loops = group.axes, group.position, group.reduce_dims
            for read in dict.fromkeys(_whole_reads(state, group)):
                readers[loops, read].append(group)
    for groups in readers.values():
        first = _current(groups[0])
        for group in groups[1:]:
            second = _current(group)
            if first is second:
                continue
            if first.number > second.number:
                first, second = second, first
            if _can_join(state, first, second):
                state.merge(first, second)
            first = second


def _whole_reads(state: Grouped, group: Group) -> Iterator[Any]:
    """Where arrays as large as the group's loops come from that it reads, and the indices."""
    size = math.prod(group.shape)
    for eqn in group.members:
        for atom, position in state.member_reads(group, eqn):
            for read in reads_at(atom, position, group.axes, state.inlined.get):
                home = state.home.get(read.var)
                if read.var.aval.size == size and home is not group:
                    yield read.var if home is None else home.number, read.index


def _reads_elsewhere(group: Group) -> bool:
    return any(isinstance(eqn.primitive.lower, READS_ELSEWHERE) for eqn in group.members)


def _current(group: Group) -> Group:
    while group.merged_into is not None:
        group = group.merged_into
    return group


def _can_join(state: Grouped, first: Group, second: Group) -> bool:
    members = [*first.members, *second.members]
    reductions = sum(isinstance(eqn.primitive.lower, Reduction) for eqn in members)
    depends = state.dependencies.depends
    return (
        len(members) <= MAX_MEMBERS
        and reductions <= MAX_REDUCTIONS
        and not depends(first.number, second.number)
        and not depends(second.number, first.number)
    )
