"""What has to be computed before an update in place: what the update reads of the old elements.

``x.at[i].add(x[i - 1])`` may write over `x` once ``x[i - 1]`` is known, and not while it is read. A
value of an input would be computed by the update itself, which then needs another memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from funcdl.core.jaxpr import Atom, Jaxpr, Var
from funcdl.ops.lowering import Update


def computed_before_updates(jaxpr: Jaxpr, given_up: Sequence[Var]) -> set[Var]:
    """The operands of updates of inputs that are made from those inputs.

    Args:
        given_up: the inputs that may be updated in place.
    """
    updates = [eqn for eqn in jaxpr.eqns if isinstance(eqn.primitive.lower, Update)]
    if not updates or not given_up:
        return set()
    origin: dict[Atom, Var] = {var: var for var in given_up}
    for eqn in updates:
        if eqn.invars[0] in origin:
            origin[eqn.outvars[0]] = origin[eqn.invars[0]]
    bit: dict[Atom, int] = {var: 1 << number for number, var in enumerate(given_up)}
    made_from = dict(bit)
    for eqn in jaxpr.eqns:
        inputs = 0
        for atom in eqn.invars:
            inputs |= made_from.get(atom, 0)
        made_from |= dict.fromkeys(eqn.outvars, inputs)
    found: set[Var] = set()
    for eqn in updates:
        updated = origin.get(eqn.invars[0])
        if updated is not None:
            others = (atom for atom in eqn.invars[1:] if isinstance(atom, Var))
            found |= {var for var in others if made_from.get(var, 0) & bit[updated]}
    return found - {*given_up}
