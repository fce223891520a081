"""The primitives behind custom derivative rules.

A custom call carries two functions of flat arguments: the function itself, and its rule. Every
trace hands both on (batched by vmap, staged by jit) until differentiation asks for the rule, or
evaluation for the function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr, closed_fun
from funcdl.core.primitive import Primitive, own_weak
from funcdl.core.reference import run_reference
from funcdl.core.staging import JaxprTrace, hoist_consts, trace_to_jaxpr
from funcdl.core.symbolic_zero import Zero, is_linear, is_zero
from funcdl.core.trace import current_trace
from funcdl.errors import NotDifferentiableError
from funcdl.ops.shape import instantiate, move_to_front
from funcdl.transforms.batching import batch_flat, place_batch
from funcdl.transforms.partial_eval import PartialEvalTrace

FlatFun = Callable[..., list[Any]]


@dataclass(frozen=True, slots=True)
class CustomCall:
    """A function of flat arguments with a derivative rule of its own.

    `kind` is ``"jvp"``: ``rule(*primals, *tangents)`` returns outputs and output tangents; or
    ``"vjp"``: ``rule(*primals)`` returns outputs and residuals, and ``pullback(*residuals,
    *cotangents)`` a cotangent for each argument. `captured` counts the leading arguments that are
    values of outer traces, which rules do not see.
    """

    name: str
    kind: str
    fun: FlatFun
    rule: FlatFun
    pullback: FlatFun | None
    captured: int = 0

    def __str__(self) -> str:
        return self.name


custom_call = Primitive("custom_call", multiple_results=True)
custom_linear = Primitive("custom_linear", multiple_results=True)


def _eval(*args: Any, call: CustomCall, jaxpr: ClosedJaxpr | None) -> list[Any]:
    return call.fun(*args)


def _shape(*avals: ShapedArray, call: CustomCall, jaxpr: ClosedJaxpr | None) -> list[ShapedArray]:
    assert jaxpr is not None, "only staged calls have types"
    return jaxpr.out_avals


def _stage(trace: JaxprTrace, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    call: CustomCall = params["call"]
    if params["jaxpr"] is not None:
        return trace.record(custom_call, args, params)  # type: ignore[no-any-return]
    avals = [trace.atom(x).aval for x in args]
    with current_trace(trace):
        jaxpr, consts = trace_to_jaxpr(call.fun, avals, name=call.name)
    program, captured = hoist_consts(jaxpr, consts)
    staged = replace(call, fun=closed_fun(program), captured=call.captured + len(captured))
    return trace.record(  # type: ignore[no-any-return]
        custom_call, [*captured, *args], {"call": staged, "jaxpr": program}
    )


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, call: CustomCall, jaxpr: ClosedJaxpr | None
) -> tuple[list[Any], list[Any]]:
    primals, tangents = primals[call.captured :], tangents[call.captured :]
    tangents = [instantiate(t) for t in tangents]
    if call.kind == "jvp":
        outs = call.rule(*primals, *tangents)
        half = len(outs) // 2
        return outs[:half], outs[half:]
    found = call.rule(*primals)
    # The rule returns the outputs and, separately, what the pullback needs.
    outs, residuals = found[0], found[1]
    avals = tuple(out.aval.to_tangent() for out in outs)
    out_tangents = custom_linear.bind(
        *residuals,
        *tangents,
        call=call,
        num_residuals=len(residuals),
        out_avals=avals,
    )
    return outs, out_tangents


def _batch(
    axis_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    call: CustomCall,
    jaxpr: ClosedJaxpr | None,
) -> tuple[list[Any], list[int | None]]:
    out_dims: list[int | None] = []

    def fun(*xs: Any) -> list[Any]:
        outs, found = batch_flat(call.fun, axis_size, xs, dims)
        out_dims[:] = [0] * len(outs)
        return [place_batch(x, d, 0, axis_size) for x, d in zip(outs, found, strict=True)]

    seen = dims[call.captured :]
    arg_dims = [0 if d is not None else None for d in seen]

    def moved(xs: Sequence[Any]) -> list[Any]:
        return [move_to_front(x, d) for x, d in zip(xs, seen, strict=True)]

    if call.kind == "jvp":

        def rule(*xs: Any) -> list[Any]:
            half = len(xs) // 2
            inputs = [*moved(xs[:half]), *moved(xs[half:])]
            outs, found = batch_flat(call.rule, axis_size, inputs, arg_dims * 2)
            return [place_batch(x, d, 0, axis_size) for x, d in zip(outs, found, strict=True)]

        batched = replace(call, fun=fun, rule=rule)
    else:
        batched = _batch_vjp(call, fun, moved, axis_size, seen, arg_dims)
    outs = custom_call.bind(*args, call=batched, jaxpr=None)
    return outs, out_dims or [0] * len(outs)


def _batch_vjp(
    call: CustomCall,
    fun: FlatFun,
    moved: Callable[[Sequence[Any]], list[Any]],
    axis_size: int,
    seen: Sequence[int | None],
    arg_dims: Sequence[int | None],
) -> CustomCall:
    from funcdl.ops.reduction import reduce_sum

    def rule(*xs: Any) -> Any:
        counts: list[int] = []

        def flat(*ys: Any) -> list[Any]:
            outs, residuals = call.rule(*ys)
            counts.append(len(outs))
            return [*outs, *residuals]

        values, found = batch_flat(flat, axis_size, moved(xs), arg_dims)
        values = [place_batch(x, d, 0, axis_size) for x, d in zip(values, found, strict=True)]
        return values[: counts[0]], values[counts[0] :]

    def pullback(*xs: Any) -> list[Any]:
        assert call.pullback is not None
        cts, found = batch_flat(call.pullback, axis_size, xs, [0] * len(xs))
        placed = []
        for ct, dim, want in zip(cts, found, seen, strict=True):
            whole = place_batch(ct, dim, 0, axis_size)
            if want is None:
                placed.append(reduce_sum(whole, axes=(0,)))
            else:
                placed.append(place_batch(whole, 0, want, axis_size))
        return placed

    return replace(call, fun=fun, rule=rule, pullback=pullback)


def _partial_eval(trace: PartialEvalTrace, args: Sequence[Any], params: dict[str, Any]) -> Any:
    # Differentiation has happened already, so the rule is not needed any more.
    call: CustomCall = params["call"]
    with current_trace(trace):
        return call.fun(*args)


custom_call.eval = _eval
custom_call.impl = lambda *args, call, jaxpr: run_reference(jaxpr, args)
custom_call.shape = _shape
custom_call.weak = own_weak
custom_call.stage = _stage
custom_call.jvp = _jvp
custom_call.batch = _batch
custom_call.partial_eval = _partial_eval


def _linear_shape(*avals: ShapedArray, out_avals: Sequence[ShapedArray], **_: Any) -> Any:
    return list(out_avals)


def _linear_transpose(
    cts: Sequence[Any], *args: Any, call: CustomCall, num_residuals: int, **_: Any
) -> list[Any]:
    assert call.pullback is not None
    residuals, rest = args[:num_residuals], args[num_residuals:]
    found = call.pullback(*residuals, *map(instantiate, cts))
    return [None] * num_residuals + [
        ct if is_linear(x) else None for ct, x in zip(found, rest, strict=True)
    ]


def _linear_batch(
    axis_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    call: CustomCall,
    num_residuals: int,
    out_avals: Sequence[ShapedArray],
) -> tuple[list[Any], list[int | None]]:
    rest_dims = dims[num_residuals:]

    def pullback(*xs: Any) -> list[Any]:
        assert call.pullback is not None
        in_dims = [*dims[:num_residuals], *[0] * (len(xs) - num_residuals)]
        cts, found = batch_flat(call.pullback, axis_size, xs, in_dims)
        return [
            place_batch(ct, d, 0 if want is None else want, axis_size)
            for ct, d, want in zip(cts, found, rest_dims, strict=True)
        ]

    inputs = [
        x if i < num_residuals or d is not None else place_batch(x, None, 0, axis_size)
        for i, (x, d) in enumerate(zip(args, dims, strict=True))
    ]
    avals = tuple(aval.update(shape=(axis_size, *aval.shape)) for aval in out_avals)
    outs = custom_linear.bind(
        *inputs,
        call=replace(call, pullback=pullback),
        num_residuals=num_residuals,
        out_avals=avals,
    )
    return outs, [0] * len(outs)


def _linear_eval(*args: Any, call: CustomCall, **_: Any) -> Any:
    raise NotDifferentiableError(
        f"forward-mode differentiation (jvp, jacfwd, linearize) of {call.name} is not possible: it "
        "has a custom_vjp rule, which says only how cotangents are pulled back. Use vjp or grad, "
        "or define the rule with custom_jvp."
    )


def _linear_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
    residuals = tangents[: params["num_residuals"]]
    if not all(map(is_zero, residuals)):
        return _linear_eval(**params)
    outs = custom_linear.bind(*primals, **params)
    rest = tangents[params["num_residuals"] :]
    if all(map(is_zero, rest)):
        return outs, [Zero(aval) for aval in params["out_avals"]]
    return outs, custom_linear.bind(
        *primals[: params["num_residuals"]], *map(instantiate, rest), **params
    )


custom_linear.eval = _linear_eval
custom_linear.impl = _linear_eval
custom_linear.shape = _linear_shape
custom_linear.weak = own_weak
custom_linear.transpose = _linear_transpose
custom_linear.batch = _linear_batch
custom_linear.jvp = _linear_jvp
