"""Results that are inputs passed on, or with a few elements changed, through control flow too."""

from __future__ import annotations

from collections.abc import Iterator

from funcdl.core.jaxpr import Atom, Eqn, Jaxpr, Var
from funcdl.ops.dynamic import dynamic_update_slice
from funcdl.ops.lowering import Update


def is_update(eqn: Eqn) -> bool:
    """Whether an equation changes some elements of its first operand."""
    return eqn.primitive is dynamic_update_slice or isinstance(eqn.primitive.lower, Update)


def updated_inputs(jaxpr: Jaxpr) -> set[tuple[int, int]]:
    """The numbers of the inputs that become results by updates alone, with those of the results."""
    inputs = _inputs(jaxpr)
    number = {var: i for i, var in enumerate(jaxpr.invars)}
    return {
        (number[var], out) for out, atom in enumerate(jaxpr.outvars) for var in inputs.get(atom, ())
    }


def updates_on_the_way(jaxpr: Jaxpr) -> list[Eqn]:
    """The updates by which inputs become results."""
    inputs = _inputs(jaxpr)
    wanted: set[Atom] = {*jaxpr.outvars}
    found: list[Eqn] = []
    for eqn in reversed(jaxpr.eqns):
        for source, out in updated_operands(eqn):
            if out in wanted and source in inputs:
                wanted.add(source)
                if is_update(eqn):
                    found.append(eqn)
    return found


def _inputs(jaxpr: Jaxpr) -> dict[Atom, set[Var]]:
    """The inputs that each variable is an updated one of."""
    inputs: dict[Atom, set[Var]] = {var: {var} for var in jaxpr.invars}
    for eqn in jaxpr.eqns:
        for source, out in updated_operands(eqn):
            if source in inputs:
                inputs.setdefault(out, set()).update(inputs[source])
    return inputs


def updated_operands(eqn: Eqn) -> Iterator[tuple[Atom, Var]]:
    """The operands that an equation updates or passes on, with the results."""
    if is_update(eqn):
        yield eqn.invars[0], eqn.outvars[0]
        return
    params = eqn.params
    match eqn.primitive.name:
        case "cond":
            first = 1
            pairs = set[tuple[int, int]]().union(
                *(updated_inputs(branch.jaxpr) for branch in params["branches"])
            )
        case "scan":
            first, carried = 0, params["num_consts"]
            pairs = _carried(params["jaxpr"].jaxpr, carried, params["num_carry"])
        case "while":
            first, carried = params["cond_consts"], params["body_consts"]
            pairs = _carried(params["body"].jaxpr, carried, len(eqn.outvars))
        case _:
            return
    for i, out in sorted(pairs):
        yield eqn.invars[first + i], eqn.outvars[out]


def _carried(body: Jaxpr, first: int, count: int) -> set[tuple[int, int]]:
    """Of a body's inputs, of which those from `first` on are carried, what stays in its place."""
    return {(i, out) for i, out in updated_inputs(body) if out < count and i == first + out}
