"""Bodies of control flow without constants and literals: native loops read memory only."""

from __future__ import annotations

from collections.abc import Callable

from funcdl.core.array import Array
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Literal
from funcdl.transforms.programs import widen_all


def close_bodies(eqn: Eqn, const_of: Callable[[Array], Atom]) -> Eqn:
    """Make a body's constants, and literal operands, operands in memory."""
    params, invars = dict(eqn.params), list(eqn.invars)
    match eqn.primitive.name:
        case "scan":
            params["jaxpr"], values = _open(params["jaxpr"])
            invars = [*map(const_of, values), *invars]
            params["num_consts"] += len(values)
        case "while":
            params["cond"], for_cond = _open(params["cond"])
            params["body"], for_body = _open(params["body"])
            count = params["cond_consts"]
            invars = [
                *map(const_of, for_cond),
                *invars[:count],
                *map(const_of, for_body),
                *invars[count:],
            ]
            params["cond_consts"] += len(for_cond)
            params["body_consts"] += len(for_body)
        case "cond":
            opened = [_open(branch) for branch in params["branches"]]
            own = [[x.aval for x in values] for _, values in opened]
            params["branches"] = widen_all([branch for branch, _ in opened], own)
            consts = [const_of(x) for _, values in opened for x in values]
            invars = [invars[0], *consts, *invars[1:]]
    invars = [const_of(a.value) if isinstance(a, Literal) else a for a in invars]
    return eqn.replace(invars=tuple(invars), params=params)


def _open(program: ClosedJaxpr) -> tuple[ClosedJaxpr, list[Array]]:
    jaxpr = program.jaxpr
    invars = (*jaxpr.constvars, *jaxpr.invars)
    return ClosedJaxpr(jaxpr.replace(constvars=(), invars=invars, names=None)), list(program.consts)
