"""Bodies of control flow without constants and literals: native loops read memory only.

Branches take no operand twice: functions that use the same outer value, each by itself, would else
have one operand each, and neither could be updated in place while there is the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from funcdl.core.array import Array
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Literal, Var
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
            operands = [*consts, *invars[1:]]
            first: dict[Atom, int] = {}
            same = [first.setdefault(atom, i) for i, atom in enumerate(operands)]
            branches = params["branches"]
            params["branches"] = tuple(_with_shared_inputs(each, same) for each in branches)
            invars = [invars[0], *first]
    invars = [const_of(a.value) if isinstance(a, Literal) else a for a in invars]
    return eqn.replace(invars=tuple(invars), params=params)


def _with_shared_inputs(program: ClosedJaxpr, same: Sequence[int]) -> ClosedJaxpr:
    """The program with one input where there were several; `same` numbers the first like each."""
    jaxpr = program.jaxpr
    first = {var: jaxpr.invars[i] for var, i in zip(jaxpr.invars, same, strict=True)}
    invars = tuple(dict.fromkeys(first.values()))
    if len(invars) == len(first):
        return program

    def renamed(atoms: Sequence[Atom]) -> tuple[Atom, ...]:
        return tuple(first.get(a, a) if isinstance(a, Var) else a for a in atoms)

    eqns = tuple(eqn.replace(invars=renamed(eqn.invars)) for eqn in jaxpr.eqns)
    outvars = renamed(jaxpr.outvars)
    return ClosedJaxpr(
        jaxpr.replace(invars=invars, outvars=outvars, eqns=eqns, names=None), program.consts
    )


def _open(program: ClosedJaxpr) -> tuple[ClosedJaxpr, list[Array]]:
    jaxpr = program.jaxpr
    invars = (*jaxpr.constvars, *jaxpr.invars)
    return ClosedJaxpr(jaxpr.replace(constvars=(), invars=invars, names=None)), list(program.consts)
