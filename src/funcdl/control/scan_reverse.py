"""Reverse mode of `scan`: the loop split into a known and a linear one, and the latter transposed.

The known loop stacks the residuals that its steps leave for the linear loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcdl.control.programs import rearrange, select, split
from funcdl.control.scan_primitive import scan_loop
from funcdl.core.avals import ShapedArray
from funcdl.core.effects import eqn_effect
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Literal, Var, eval_jaxpr
from funcdl.core.records import record
from funcdl.core.staging import trace_to_jaxpr
from funcdl.core.symbolic_zero import LinearInput, Zero, is_linear, is_zero
from funcdl.core.trace import current_trace
from funcdl.ops.arithmetic import add
from funcdl.ops.shape import instantiate, zeros
from funcdl.transforms.partial_eval import (
    PartialEvalTrace,
    PartialProgram,
    all_outs,
    partial_eval_jaxpr,
)
from funcdl.transforms.programs import without_unused
from funcdl.transforms.transpose import backward_pass
from funcdl.transforms.weak_cache import cached_on_first


def _partial_eval(trace: PartialEvalTrace, args: Sequence[Any], params: dict[str, Any]) -> Any:
    num_consts, num_carry = params["num_consts"], params["num_carry"]
    loop = {"length": params["length"], "reverse": params["reverse"]}
    consts, carry, xs = split(args, num_consts, num_carry)
    consts_un, carry_un, xs_un = split(list(map(trace.owns, args)), num_consts, num_carry)
    carry_un, parts = _split_body(params["jaxpr"], consts_un, carry_un, xs_un)
    known_consts = select(consts, consts_un, False)
    known_carry = select(carry, carry_un, False)
    known_xs = select(xs, xs_un, False)
    num_known = len(parts.unknown_out) - sum(parts.unknown_out)
    plan = _plan_residuals(
        parts.known, parts.residuals, len(known_consts), len(known_carry), num_known
    )
    assert trace.parent is not None
    with current_trace(trace.parent):
        known_outs = scan_loop.bind(
            *known_consts,
            *known_carry,
            *known_xs,
            jaxpr=plan.loop,
            num_consts=len(known_consts),
            num_carry=len(known_carry),
            **loop,
        )
        fixed = eval_jaxpr(plan.fixed.jaxpr, plan.fixed.consts, known_consts)
    sources = {"const": known_consts, "fixed": fixed, "xs": known_xs, "out": known_outs}
    residuals = [sources[kind][i] for kind, i in plan.places]
    stacked = [kind in ("xs", "out") for kind, _ in plan.places]
    un_consts, un_carry = select(consts, consts_un), select(carry, carry_un)
    # The unknown body takes all residuals first; a loop, constants first and stacks last.
    operands = [*residuals, *un_consts, *un_carry, *select(xs, xs_un)]
    slots = range(len(residuals))
    first_carry = len(residuals) + len(un_consts)
    first_xs = first_carry + len(un_carry)
    order = (
        *select(slots, stacked, False),
        *range(len(residuals), first_xs),
        *select(slots, stacked),
        *range(first_xs, len(operands)),
    )
    unknown_outs = trace.record(
        scan_loop,
        [operands[i] for i in order],
        {
            "jaxpr": rearrange(parts.unknown, order, None),
            "num_consts": first_carry - sum(stacked),
            "num_carry": len(un_carry),
            **loop,
        },
    )
    outs_un = (*carry_un, *parts.unknown_out[num_carry:])
    return all_outs(outs_un, known_outs, unknown_outs)


def _split_body(
    body: ClosedJaxpr,
    consts_un: Sequence[bool],
    carry_un: Sequence[bool],
    xs_un: Sequence[bool],
) -> tuple[list[bool], PartialProgram]:
    """The two parts of a step, and which of the carry is unknown: what some step makes so."""
    unknown = list(carry_un)
    num_ys = len(body.out_avals) - len(unknown)
    while True:
        parts = partial_eval_jaxpr(
            body, (*consts_un, *unknown, *xs_un), (*unknown, *[False] * num_ys)
        )
        made = parts.unknown_out[: len(unknown)]
        found = [a or b for a, b in zip(unknown, made, strict=True)]
        if found == unknown:
            return unknown, parts
        unknown = found


@record
class _Residuals:
    """How the residuals of a loop's body reach the loop of its unknown part.

    `loop` is the known body, which also returns the residuals that must be stacked; `fixed` maps
    the loop's constants to the residuals that are the same in every step. `places` says for each
    residual what it is: ``("const", i)`` or ``("xs", i)`` an input of the loop, ``("fixed", i)``
    or ``("out", i)`` a result of one of the two programs.
    """

    loop: ClosedJaxpr
    fixed: ClosedJaxpr
    places: tuple[tuple[str, int], ...]


@cached_on_first
def _plan_residuals(
    known: ClosedJaxpr,
    residuals: tuple[tuple[str, int], ...],
    num_consts: int,
    num_carry: int,
    num_known: int,
) -> _Residuals:
    jaxpr = known.jaxpr
    fixed_eqns, fixed_vars = _fixed_part(known, num_consts)
    outvars, fixed_outs = list(jaxpr.outvars[:num_known]), list[Atom]()
    places: list[tuple[str, int]] = []
    for kind, i in residuals:
        atom = jaxpr.invars[i] if kind == "in" else jaxpr.outvars[i]
        if kind == "in" and i < num_consts:
            places.append(("const", i))
        elif kind == "in" and i >= num_consts + num_carry:
            places.append(("xs", i - num_consts - num_carry))
        elif isinstance(atom, Literal) or atom in fixed_vars:
            places.append(("fixed", len(fixed_outs)))
            fixed_outs.append(atom)
        elif atom in outvars[num_carry:]:
            # It is stacked anyway, as an output of the loop.
            places.append(("out", outvars.index(atom, num_carry)))
        else:
            places.append(("out", len(outvars)))
            outvars.append(atom)
    fixed = jaxpr.replace(
        invars=jaxpr.invars[:num_consts], outvars=fixed_outs, eqns=fixed_eqns, names=None
    )
    loop = jaxpr.replace(outvars=outvars)
    return _Residuals(
        ClosedJaxpr(loop, known.consts),
        without_unused(ClosedJaxpr(fixed, known.consts)),
        tuple(places),
    )


def _fixed_part(known: ClosedJaxpr, num_consts: int) -> tuple[list[Eqn], set[Var]]:
    """The equations that depend on the loop's constants only, and everything so fixed.

    Those with effects run in every step, and so are not among them.
    """
    fixed = {*known.jaxpr.constvars, *known.jaxpr.invars[:num_consts]}
    eqns = []
    for eqn in known.eqns:
        constant = all(isinstance(atom, Literal) or atom in fixed for atom in eqn.invars)
        if constant and not eqn_effect(eqn):
            eqns.append(eqn)
            fixed.update(eqn.outvars)
    return eqns, fixed


def _transpose(
    cts: Sequence[Any],
    *args: Any,
    jaxpr: ClosedJaxpr,
    num_consts: int,
    num_carry: int,
    length: int,
    reverse: bool,
) -> list[Any]:
    consts, carry, xs = split(args, num_consts, num_carry)
    const_lin, xs_lin = tuple(map(is_linear, consts)), tuple(map(is_linear, xs))
    # Initial carries that are known values make the loop affine only in form: their cotangents
    # are computed with the others and dropped.
    residuals, stacked = select(consts, const_lin, False), select(xs, xs_lin, False)
    ct_consts = [zeros(x.aval.to_tangent()) for x in select(consts, const_lin)]
    ct_carry = [instantiate(ct) for ct in cts[:num_carry]]
    ct_ys = [ct for ct in cts[num_carry:] if not is_zero(ct)]
    nonzero_ys = tuple(not is_zero(ct) for ct in cts[num_carry:])
    outs = scan_loop.bind(
        *residuals,
        *ct_consts,
        *ct_carry,
        *ct_ys,
        *stacked,
        jaxpr=_transposed_body(jaxpr, num_carry, const_lin, xs_lin, nonzero_ys),
        num_consts=len(residuals),
        num_carry=len(ct_consts) + num_carry,
        length=length,
        reverse=not reverse,
    )
    out_consts, out_carry, out_xs = split(outs, len(ct_consts), num_carry)
    const_iter, xs_iter = iter(out_consts), iter(out_xs)
    return [
        *(next(const_iter) if flag else None for flag in const_lin),
        *(ct if is_linear(x) else None for ct, x in zip(out_carry, carry, strict=True)),
        *(next(xs_iter) if flag else None for flag in xs_lin),
    ]


@cached_on_first
def _transposed_body(
    program: ClosedJaxpr,
    num_carry: int,
    const_lin: tuple[bool, ...],
    xs_lin: tuple[bool, ...],
    nonzero_ys: tuple[bool, ...],
) -> ClosedJaxpr:
    """One step backwards.

    From residuals, summed cotangents of the constants, cotangents of the carry and of those of the
    step's outputs that have any, and stacked residuals; to the sums, and cotangents of the carry
    and of the inputs.
    """
    const_avals, carry_avals, x_avals = split(program.in_avals, len(const_lin), num_carry)
    res_avals, x_res_avals = select(const_avals, const_lin, False), select(x_avals, xs_lin, False)
    sum_avals = [aval.to_tangent() for aval in select(const_avals, const_lin)]
    flags = (*[True] * num_carry, *nonzero_ys)
    out_avals = [aval.to_tangent() for aval in program.out_avals]
    ct_avals = select(out_avals, flags)

    def body(*inputs: Any) -> list[Any]:
        residuals, sums, given, stacked = split(
            inputs, len(res_avals), len(sum_avals), len(ct_avals)
        )
        nonzero = iter(given)
        cts = [
            next(nonzero) if flag else Zero(aval)
            for flag, aval in zip(flags, out_avals, strict=True)
        ]
        operands = [
            *_operands(const_avals, const_lin, residuals),
            *map(LinearInput, carry_avals),
            *_operands(x_avals, xs_lin, stacked),
        ]
        found = backward_pass(program.jaxpr, program.consts, operands, cts)
        found_consts, found_carry, found_xs = split(found, len(const_lin), num_carry)
        summed = [
            total if is_zero(ct) else add(total, ct)
            for total, ct in zip(sums, select(found_consts, const_lin), strict=True)
        ]
        return [
            *summed,
            *map(instantiate, found_carry),
            *map(instantiate, select(found_xs, xs_lin)),
        ]

    avals = [*res_avals, *sum_avals, *ct_avals, *x_res_avals]
    jaxpr, consts = trace_to_jaxpr(body, avals, name="transpose")
    return ClosedJaxpr(jaxpr, consts)


def _operands(
    avals: Sequence[ShapedArray], linear: Sequence[bool], residuals: Sequence[Any]
) -> list[Any]:
    """Markers for linear operands, residuals for the others."""
    given = iter(residuals)
    return [LinearInput(a) if flag else next(given) for a, flag in zip(avals, linear, strict=True)]


scan_loop.partial_eval = _partial_eval
scan_loop.transpose = _transpose
