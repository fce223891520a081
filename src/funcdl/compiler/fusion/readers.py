"""Who reads a stored value last: whoever updates it, where that can be, to do so in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from funcdl.compiler.fusion.grouped import Grouped
from funcdl.compiler.fusion.groups import Group
from funcdl.compiler.fusion.reads import leaf_vars
from funcdl.compiler.update_chains import updated_operands
from funcdl.core.jaxpr import Eqn, Var


def stored_reads(group: Group, eqn: Eqn, inlined: Callable[[Var], Eqn | None]) -> set[Var]:
    """What a member of a group reads from memory."""
    if group.kind == "host":
        return {atom for atom in eqn.invars if isinstance(atom, Var)}
    return leaf_vars(eqn.invars, inlined)


def last_readers(groups: Sequence[Group], inlined: Mapping[Var, Eqn]) -> dict[Var, int]:
    """The number of the last group that reads each variable."""
    return {
        var: number
        for number, group in enumerate(groups)
        for eqn in group.members
        for var in stored_reads(group, eqn, inlined.get)
    }


def update_last(state: Grouped, kept: set[Var]) -> None:
    """Let updates wait for the other readers of what they update, as far as these can go first.

    Args:
        kept: variables that are never written over.
    """
    updates = [
        (group.number, var)
        for group in state.groups
        for eqn in group.members
        for var, _ in updated_operands(eqn)
        if isinstance(var, Var) and var not in kept
    ]
    if not updates:
        return
    readers: dict[Var, set[int]] = {var: set() for _, var in updates}
    for group in state.groups:
        for eqn in group.members:
            for var in readers.keys() & stored_reads(group, eqn, state.inlined.get):
                readers[var].add(group.number)
    for number, var in updates:
        for reader in sorted(readers[var] - {number}):
            if not state.dependencies.depends(reader, number):
                state.dependencies.add(number, 1 << reader)
