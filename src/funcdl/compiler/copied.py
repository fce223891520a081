"""Copies at the end of a branch, of results that it could not make where they are wanted."""

from __future__ import annotations

from collections.abc import Sequence

from funcdl.compiler.donations import made_in_place, plan_updates
from funcdl.compiler.loops import Pairs
from funcdl.compiler.lower import LoweredKernel
from funcdl.compiler.steps import Step
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, Var
from funcdl.kir import index as kindex
from funcdl.kir.builder import KernelBuilder
from funcdl.ops.convert import copy


def copied_in_the_end(
    closed: ClosedJaxpr, steps: Sequence[Step], pairs: Pairs, name: str
) -> tuple[ClosedJaxpr, list[Step]]:
    """Make the result of each pair in the memory of the input, by a copy where need be.

    An input that is its own result is copied as well, to where the result is to be: the kernel does
    nothing where that is the same memory, and whether it is, only the caller knows.
    """
    jaxpr = closed.jaxpr
    outs = [atom for atom in jaxpr.outvars if isinstance(atom, Var)]
    kept = {*jaxpr.invars, *jaxpr.constvars, *outs}
    there = made_in_place(jaxpr, pairs, steps, plan_updates(steps, kept))
    eqns, all_steps = list(jaxpr.eqns), list(steps)
    for number, out in pairs:
        if jaxpr.invars[number] not in there:
            made, outs[out] = outs[out], Var(outs[out].aval)
            eqns.append(Eqn(copy, [made], [outs[out]], {}))
            all_steps.append([_copy(made, outs[out], f"{name}_copy{out}")])
    return ClosedJaxpr(
        jaxpr.replace(outvars=tuple(outs), eqns=tuple(eqns)), closed.consts
    ), all_steps


def _copy(source: Var, target: Var, name: str) -> LoweredKernel:
    size = source.aval.size
    builder = KernelBuilder(name)
    builder.axis("i", size)
    builder.buffer("in0", source.aval.dtype, size, "in")
    builder.buffer("out0", target.aval.dtype, size, "out")
    place = kindex.axis("i", size)
    builder.store("out0", place, builder.load("in0", place))
    return LoweredKernel(builder.build(), {"in0": source, "out0": target}, None)
