"""Merging groups over the same loops, for what the walk over the equations could not foresee."""

from __future__ import annotations

from funcdl.compiler.fusion.dependencies import bits
from funcdl.compiler.fusion.grouped import MAX_MEMBERS, READS_ELSEWHERE, Grouped
from funcdl.compiler.fusion.groups import Group
from funcdl.compiler.fusion.reads import leaf_vars


def merge_readers(state: Grouped) -> None:
    """Merge groups over the same loops, one of which reads the other.

    The walk cannot see this coming where a group starts from the program's inputs and meets
    the other group's values only later.
    """
    for group in list(state.groups):
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
