"""Bodies of control flow without constants and literals: native loops read memory only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Literal, Var


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
            total = [x for _, values in opened for x in values]
            branches, start = [], 0
            for branch, values in opened:
                branches.append(_widen(branch, start, len(values), [x.aval for x in total]))
                start += len(values)
            params["branches"] = tuple(branches)
            invars = [invars[0], *map(const_of, total), *invars[1:]]
    invars = [const_of(a.value) if isinstance(a, Literal) else a for a in invars]
    return eqn.replace(invars=tuple(invars), params=params)


def _open(program: ClosedJaxpr) -> tuple[ClosedJaxpr, list[Array]]:
    jaxpr = program.jaxpr
    invars = (*jaxpr.constvars, *jaxpr.invars)
    return ClosedJaxpr(jaxpr.replace(constvars=(), invars=invars, names=None)), list(program.consts)


def _widen(
    program: ClosedJaxpr, start: int, count: int, avals: Sequence[ShapedArray]
) -> ClosedJaxpr:
    """Take all branches' constants, and read only the own ones."""
    jaxpr = program.jaxpr
    own, rest = jaxpr.invars[:count], jaxpr.invars[count:]
    before = [Var(aval) for aval in avals[:start]]
    after = [Var(aval) for aval in avals[start + count :]]
    return ClosedJaxpr(jaxpr.replace(invars=(*before, *own, *after, *rest)), program.consts)
