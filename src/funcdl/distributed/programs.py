"""Traced programs as lists of equations, to be run or cut between any two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var
from funcdl.transforms.jit_primitive import jit_call


def inlined(jaxpr: Jaxpr, consts: Sequence[Any]) -> tuple[Jaxpr, dict[Var, Any], list[Var]]:
    """The program without calls of jitted functions, which would hide when a value is computed.

    Returns it with the values of its constants, and the variables of its inputs.
    """
    eqns: list[Eqn] = []
    values: dict[Var, Any] = {}

    def held(variables: Sequence[Var], given: Sequence[Any]) -> list[Atom]:
        new = [Var(var.aval) for var in variables]
        values.update(zip(new, given, strict=True))
        return list(new)

    def add(part: Jaxpr, constants: Sequence[Atom], inputs: Sequence[Atom]) -> list[Atom]:
        atoms: dict[Var, Atom] = dict(zip(part.constvars, constants, strict=True))
        atoms.update(zip(part.invars, inputs, strict=True))
        for eqn in part.eqns:
            read = [a if isinstance(a, Literal) else atoms[a] for a in eqn.invars]
            outs: list[Atom]
            if eqn.primitive is jit_call:
                inner: ClosedJaxpr = eqn.params["jaxpr"]
                outs = add(inner.jaxpr, held(inner.jaxpr.constvars, inner.consts), read)
            else:
                new = [Var(var.aval) for var in eqn.outvars]
                eqns.append(eqn.replace(invars=read, outvars=new))
                outs = list(new)
            atoms.update(zip(eqn.outvars, outs, strict=True))
        return [a if isinstance(a, Literal) else atoms[a] for a in part.outvars]

    inputs = [Var(var.aval) for var in jaxpr.invars]
    outs = add(jaxpr, held(jaxpr.constvars, consts), inputs)
    return Jaxpr((), inputs, outs, eqns), values, inputs
