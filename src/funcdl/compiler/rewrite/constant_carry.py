"""Carried values that a loop never changes become its constants.

Users carry weights, or a table that is only read, through a loop together with what changes. A
native loop would copy them in every step; as constants they are read where they are, and products
with them can be moved out of the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn


def without_constant_carry(eqn: Eqn) -> tuple[Eqn, dict[int, Atom]]:
    """A scan or while loop without such values, and what each of its results is that is gone.

    Its bodies must have no constants of their own.
    """
    params, invars = dict(eqn.params), list(eqn.invars)
    match eqn.primitive.name:
        case "scan":
            first, count = params["num_consts"], params["num_carry"]
            body: ClosedJaxpr = params["jaxpr"]
            gone = _unchanged(body, first, count)
            params["jaxpr"] = _with_consts(body, first, gone, drop=True)
            params["num_consts"] += len(gone)
            params["num_carry"] -= len(gone)
            order = _order(first, gone, len(invars))
        case "while":
            for_cond, for_body = params["cond_consts"], params["body_consts"]
            first, count = for_cond + for_body, len(eqn.outvars)
            gone = _unchanged(params["body"], for_body, count)
            params["cond"] = _with_consts(params["cond"], for_cond, gone, drop=False)
            params["body"] = _with_consts(params["body"], for_body, gone, drop=True)
            params["cond_consts"] += len(gone)
            params["body_consts"] += len(gone)
            inits = [first + i for i in gone]
            rest = [first + i for i in range(count) if i not in gone]
            order = [*range(for_cond), *inits, *range(for_cond, first), *inits, *rest]
        case _:
            return eqn, {}
    if not gone:
        return eqn, {}
    outvars = [var for i, var in enumerate(eqn.outvars) if i not in gone]
    kept = {i: invars[first + i] for i in gone}
    new = eqn.replace(invars=tuple(invars[i] for i in order), outvars=tuple(outvars), params=params)
    return new, kept


def _unchanged(body: ClosedJaxpr, first: int, count: int) -> list[int]:
    """The carried values, of which input `first` is number 0, that the body returns as they are."""
    jaxpr = body.jaxpr
    return [i for i in range(count) if jaxpr.outvars[i] is jaxpr.invars[first + i]]


def _order(first: int, gone: Sequence[int], total: int) -> list[int]:
    """Numbers of inputs: those up to `first`, those that are gone from there on, the rest."""
    moved = [first + i for i in gone]
    return [*range(first), *moved, *(i for i in range(first, total) if i not in moved)]


def _with_consts(program: ClosedJaxpr, first: int, gone: Sequence[int], drop: bool) -> ClosedJaxpr:
    """The program with carried values among its constants, and, to drop them, not returned."""
    jaxpr = program.jaxpr
    order = _order(first, gone, len(jaxpr.invars))
    changes: dict[str, Any] = {"invars": tuple(jaxpr.invars[i] for i in order), "names": None}
    if drop:
        changes["outvars"] = tuple(a for i, a in enumerate(jaxpr.outvars) if i not in gone)
    return ClosedJaxpr(jaxpr.replace(**changes), program.consts)
