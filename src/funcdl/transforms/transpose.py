"""Transposition: run a linear program backwards, from output to input cotangents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var
from funcdl.core.source import place
from funcdl.core.staging import trace_to_jaxpr
from funcdl.core.symbolic_zero import LinearInput, Zero, is_linear, is_zero
from funcdl.errors import MissingRuleError
from funcdl.ops.arithmetic import add
from funcdl.transforms.weak_cache import cached_on_first

Cotangent = Any  # an array, a tracer, or a `Zero`


def backward_pass(
    jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], cotangents: Sequence[Cotangent]
) -> list[Cotangent]:
    """Cotangents of the arguments that are given as `LinearInput`; None for the others.

    Equations that do not depend on a linear input are evaluated forwards first.
    """
    caller = place.line
    try:
        return _run_backwards(jaxpr, consts, args, cotangents)
    finally:
        place.line = caller


def _run_backwards(
    jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], cotangents: Sequence[Cotangent]
) -> list[Cotangent]:
    caller = place.line
    env: dict[Var, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    linear_eqns: list[Eqn] = []
    for eqn in jaxpr.eqns:
        values = [_read(env, atom) for atom in eqn.invars]
        if any(map(is_linear, values)):
            linear_eqns.append(eqn)
            env.update((var, LinearInput(var.aval)) for var in eqn.outvars)
        else:
            place.line = eqn.source or caller
            out = eqn.primitive.bind(*values, **eqn.params)
            outs = out if eqn.primitive.multiple_results else [out]
            env.update(zip(eqn.outvars, outs, strict=True))

    gathered: dict[Var, Any] = {}
    for atom, ct in zip(jaxpr.outvars, cotangents, strict=True):
        _accumulate(gathered, env, atom, ct)
    for eqn in reversed(linear_eqns):
        outs = [gathered.pop(var, None) for var in eqn.outvars]
        if all(ct is None for ct in outs):
            continue
        values = [_read(env, atom) for atom in eqn.invars]
        place.line = eqn.source or caller
        for atom, ct in zip(eqn.invars, _transpose_eqn(eqn, outs, values), strict=True):
            _accumulate(gathered, env, atom, ct)
    return [
        gathered.get(var, Zero(var.aval.to_tangent())) if is_linear(arg) else None
        for var, arg in zip(jaxpr.invars, args, strict=True)
    ]


def _read(env: dict[Var, Any], atom: Atom) -> Any:
    return atom.value if isinstance(atom, Literal) else env[atom]


def _accumulate(gathered: dict[Var, Any], env: dict[Var, Any], atom: Atom, ct: Cotangent) -> None:
    if ct is None or is_zero(ct) or isinstance(atom, Literal) or not is_linear(env[atom]):
        return
    previous = gathered.get(atom)
    gathered[atom] = ct if previous is None else add(previous, ct)


def _transpose_eqn(eqn: Eqn, outs: list[Any], values: list[Any]) -> Sequence[Cotangent]:
    primitive = eqn.primitive
    if primitive.transpose is None:
        raise MissingRuleError(
            f"primitive {primitive.name} has no transpose rule, so no reverse-mode derivative"
            + (f" (at {eqn.source.describe()})" if eqn.source else "")
        )
    if primitive.multiple_results:
        cts: Any = [
            Zero(var.aval.to_tangent()) if ct is None else ct
            for var, ct in zip(eqn.outvars, outs, strict=True)
        ]
    else:
        cts = outs[0]
    found: Sequence[Cotangent] = primitive.transpose(cts, *values, **eqn.params)
    return found


@cached_on_first
def transpose_jaxpr(
    program: ClosedJaxpr, linear: tuple[bool, ...], nonzero_ct: tuple[bool, ...]
) -> tuple[ClosedJaxpr, tuple[bool, ...]]:
    """The transposed program.

    Its inputs are the non-linear inputs, then the cotangents flagged `nonzero_ct`; its outputs the
    cotangents of the linear inputs that the second result flags as nonzero.
    """
    return trace_transposed(program, linear, nonzero_ct, lambda values, cts: values)


def trace_transposed(
    program: ClosedJaxpr,
    linear: Sequence[bool],
    nonzero_ct: Sequence[bool],
    prepare: Callable[[Sequence[Any], Sequence[Any]], Sequence[Any]],
) -> tuple[ClosedJaxpr, tuple[bool, ...]]:
    """As `transpose_jaxpr`; `prepare` is given non-linear inputs and cotangents, and returns the
    inputs to use."""
    flags: list[bool] = []
    avals = program.in_avals
    rest_avals = [aval for aval, flag in zip(avals, linear, strict=True) if not flag]

    def run(*inputs: Any) -> list[Any]:
        values, given = inputs[: len(rest_avals)], inputs[len(rest_avals) :]
        rest, received = iter(prepare(values, given)), iter(given)
        args = [
            LinearInput(aval) if flag else next(rest)
            for aval, flag in zip(avals, linear, strict=True)
        ]
        cts = [
            next(received) if nonzero else Zero(aval.to_tangent())
            for aval, nonzero in zip(program.out_avals, nonzero_ct, strict=True)
        ]
        found = backward_pass(program.jaxpr, program.consts, args, cts)
        found = [ct for ct, flag in zip(found, linear, strict=True) if flag]
        flags[:] = [not is_zero(ct) for ct in found]
        return [ct for ct in found if not is_zero(ct)]

    ct_avals = [
        aval.to_tangent()
        for aval, nonzero in zip(program.out_avals, nonzero_ct, strict=True)
        if nonzero
    ]
    jaxpr, consts = trace_to_jaxpr(run, rest_avals + ct_avals, name="transpose")
    return ClosedJaxpr(jaxpr, consts), tuple(flags)


def linear_transpose_flat(
    f: Callable[..., Sequence[Any]],
    avals: Sequence[Any],
    cotangents: Callable[[Sequence[ShapedArray]], Sequence[Any]],
) -> list[Cotangent]:
    """Cotangents of the inputs of a linear function of flat arguments.

    `cotangents` returns those of its outputs, whose types it is given.
    """
    jaxpr, consts = trace_to_jaxpr(f, avals, name="linear_transpose")
    given = cotangents([atom.aval for atom in jaxpr.outvars])
    args = [LinearInput(aval) for aval in avals]
    return backward_pass(jaxpr, consts, args, given)
