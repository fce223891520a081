"""The primitives behind custom derivative rules.

A custom call carries two functions of flat arguments: the function itself, and its rule. Every
trace hands both on (batched by vmap, staged by jit) until differentiation asks for the rule, or
evaluation for the function.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

from funcdl.core.avals import ShapedArray
from funcdl.core.axes import name_of
from funcdl.core.jaxpr import ClosedJaxpr, closed_fun
from funcdl.core.leaks import Kept
from funcdl.core.primitive import Primitive, own_weak
from funcdl.core.reference import run_reference
from funcdl.core.staging import JaxprTrace, hoist_consts, trace_to_jaxpr
from funcdl.core.symbolic_zero import Zero, is_linear, is_zero
from funcdl.core.trace import context, current_trace, eval_trace
from funcdl.errors import NotDifferentiableError, ShapeError
from funcdl.ops.reduction import reduce_sum
from funcdl.ops.shape import instantiate
from funcdl.transforms.batching import batch_flat, place_batch
from funcdl.transforms.custom.axes import may_use_axis
from funcdl.transforms.custom.closure import Differentiated, closed_over, run_substituted
from funcdl.transforms.custom.definition import CustomCall, Values
from funcdl.transforms.partial_eval import PartialEvalTrace

Dims = Sequence[int | None]


def bind_custom(call: CustomCall, functions: Values, args: Values) -> list[Any]:
    """Apply a call that captures nothing yet, with what the user's functions close over."""
    if context.trace is eval_trace:
        return call.fun(*args)
    tracers = Kept(closed_over(*functions))
    own = call.fun

    def fun(*xs: Any) -> list[Any]:
        count = len(tracers)
        return run_substituted(lambda: own(*xs[count:]), tracers, xs[:count])

    call = _with_captured(replace(call, fun=fun), tracers)
    outs: list[Any] = custom_call.bind(*tracers, *args, call=call, jaxpr=None)
    return outs


custom_call = Primitive("custom_call", multiple_results=True)
custom_linear = Primitive("custom_linear", multiple_results=True)


def _eval(*args: Any, call: CustomCall, jaxpr: ClosedJaxpr | None) -> list[Any]:
    return call.fun(*args)


def _shape(*avals: ShapedArray, call: CustomCall, jaxpr: ClosedJaxpr | None) -> list[ShapedArray]:
    assert jaxpr is not None, "only staged calls have types"
    return jaxpr.out_avals


def _stage(trace: JaxprTrace, args: Values, params: dict[str, Any]) -> list[Any]:
    call: CustomCall = params["call"]
    outs: list[Any]
    if params["jaxpr"] is not None:
        outs = trace.record(custom_call, args, params)
        return outs
    avals = [trace.atom(x).aval for x in args]
    with current_trace(trace):
        jaxpr, consts = trace_to_jaxpr(call.fun, avals, name=call.name)
    program, captured = hoist_consts(jaxpr, consts)
    staged = _with_captured(replace(call, fun=closed_fun(program)), captured)
    outs = trace.record(custom_call, [*captured, *args], {"call": staged, "jaxpr": program})
    return outs


def _with_captured(call: CustomCall, tracers: Values) -> CustomCall:
    """The call with more captured values in front, where its rules refer to these tracers."""
    count = len(tracers)
    if not count:
        return call
    tracers = Kept(tracers)  # the rules' closures refer to them, for as long as a program has them

    def rule(captured: Values, *rest: Values) -> tuple[list[Any], list[Any]]:
        parts: list[int] = []

        def flat() -> list[Any]:
            outs, others = call.rule(captured[count:], *rest)
            parts.append(len(outs))
            return [*outs, *others]

        found = run_substituted(flat, tracers, captured[:count])
        return found[: parts[0]], found[parts[0] :]

    def pullback(captured: Values, residuals: Values, cts: Values) -> list[Any]:
        own = call.pullback
        assert own is not None
        return run_substituted(
            lambda: own(captured[count:], residuals, cts), tracers, captured[:count]
        )

    return replace(
        call,
        rule=rule,
        pullback=None if call.pullback is None else pullback,
        num_captured=call.num_captured + count,
    )


def _jvp(
    primals: Values, tangents: Values, *, call: CustomCall, jaxpr: ClosedJaxpr | None
) -> tuple[list[Any], list[Any]]:
    count = call.num_captured
    differentiated = tuple(not is_zero(t) for t in tangents[:count])
    captured = _marked(call, primals[:count], differentiated)
    primals, tangents = primals[count:], tangents[count:]
    if call.kind == "jvp":
        given = tangents if call.symbolic_zeros else list(map(instantiate, tangents))
        outs, out_tangents = call.rule(captured, primals, given)
        _check_outputs(call, outs, jaxpr)
        return outs, out_tangents
    nonzero = tuple(not is_zero(t) for t in tangents)
    outs, residuals = call.rule(captured, primals, nonzero)
    _check_outputs(call, outs, jaxpr)
    usable = [x for x in captured if type(x) is not Differentiated]
    avals = tuple(out.aval.to_tangent() for out in outs)
    return outs, custom_linear.bind(
        *usable,
        *residuals,
        *map(instantiate, tangents),
        call=call,
        differentiated=differentiated,
        num_residuals=len(usable) + len(residuals),
        out_avals=avals,
    )


def _marked(call: CustomCall, captured: Values, differentiated: Sequence[bool]) -> list[Any]:
    pairs = zip(captured, differentiated, strict=True)
    return [Differentiated(call.name, x.aval) if flag else x for x, flag in pairs]


def _check_outputs(call: CustomCall, outs: Values, jaxpr: ClosedJaxpr | None) -> None:
    """Where the function's own outputs are known, those of its rule must be of the same types."""
    if jaxpr is None:
        return
    found, wanted = [out.aval for out in outs], jaxpr.out_avals
    if len(found) == len(wanted) and all(
        a.same_type(b) for a, b in zip(found, wanted, strict=True)
    ):
        return
    rule = "jvp" if call.kind == "jvp" else "forward"
    raise ShapeError(
        f"the {rule} rule of {call.name} must return outputs of the types that {call.name} "
        f"returns:\n  found:  {', '.join(map(str, found))}\n"
        f"  wanted: {', '.join(map(str, wanted))}"
    )


def _batch(
    axis_size: int, args: Values, dims: Dims, *, call: CustomCall, jaxpr: ClosedJaxpr | None
) -> tuple[list[Any], list[int | None]]:
    if all(dim is None for dim in dims):
        name = name_of(axis_size)
        if not may_use_axis(call, jaxpr, [x.aval for x in args], name):
            outs = custom_call.bind(*args, call=call, jaxpr=jaxpr)
            return outs, [None] * len(outs)
    count = call.num_captured
    captured_dims, arg_dims = list(dims[:count]), list(dims[count:])

    def fun(*xs: Any) -> list[Any]:
        return _over(axis_size, lambda ys: call.fun(*ys), [xs], [dims])

    def jvp_rule(*groups: Values) -> tuple[list[Any], list[Any]]:
        dims = [_known_dims(captured_dims, groups[0]), arg_dims, arg_dims]
        found = _over(axis_size, lambda *xs: _joined(call.rule(*xs)), groups, dims)
        return found[: len(found) // 2], found[len(found) // 2 :]

    def vjp_rule(captured: Values, primals: Values, nonzero: Any) -> tuple[list[Any], list[Any]]:
        parts: list[int] = []

        def flat(*xs: Values) -> list[Any]:
            outs, residuals = call.rule(*xs, nonzero)
            parts.append(len(outs))
            return [*outs, *residuals]

        dims = [_known_dims(captured_dims, captured), arg_dims]
        values = _over(axis_size, flat, [captured, primals], dims)
        return values[: parts[0]], values[parts[0] :]

    def pullback(captured: Values, residuals: Values, cts: Values) -> list[Any]:
        assert call.pullback is not None
        groups = [captured, residuals, cts]
        in_dims: list[Dims] = [
            _known_dims(captured_dims, captured),
            [0] * len(residuals),
            [0] * len(cts),
        ]
        found = _over(axis_size, call.pullback, groups, in_dims, zeros=True)
        return [
            _placed(ct, dim, axis_size)
            if dim is not None
            else reduce_sum(instantiate(ct), axes=(0,))
            for ct, dim in zip(found, arg_dims, strict=True)
        ]

    rule = jvp_rule if call.kind == "jvp" else vjp_rule
    batched = replace(
        call, fun=fun, rule=rule, pullback=None if call.pullback is None else pullback
    )
    outs = custom_call.bind(*args, call=batched, jaxpr=None)
    return outs, [0] * len(outs)


def _joined(pair: tuple[list[Any], list[Any]]) -> list[Any]:
    return [*pair[0], *pair[1]]


def _known_dims(dims: Dims, values: Values) -> list[int | None]:
    """Batch dimensions, none where a marker stands for a value."""
    pairs = zip(dims, values, strict=True)
    return [None if type(x) is Differentiated else d for d, x in pairs]


def _over(
    axis_size: int,
    f: Callable[..., Any],
    groups: Sequence[Values],
    dims: Sequence[Dims],
    zeros: bool = False,
) -> list[Any]:
    """Run a function of lists on a batch; outputs have the batch first.

    Markers among the values are given to the function as they are, symbolic zeros without their
    batch dimension; symbolic zeros that it returns are arrays, or with `zeros` stay what they are.
    """
    flat = [x for group in groups for x in group]
    flat_dims = [d for group in dims for d in group]
    is_value = [type(x) is not Differentiated and not is_zero(x) for x in flat]
    markers = [
        Zero(x.aval.update(shape=x.aval.shape[:d] + x.aval.shape[d + 1 :]))
        if is_zero(x) and d is not None
        else x
        for x, d in zip(flat, flat_dims, strict=True)
    ]
    zeros_at: list[Zero | None] = []

    def run(*xs: Any) -> list[Any]:
        given = iter(xs)
        mixed = iter(
            [next(given) if known else m for m, known in zip(markers, is_value, strict=True)]
        )
        returned = f(*([next(mixed) for _ in group] for group in groups))
        zeros_at[:] = [x if zeros and is_zero(x) else None for x in returned]
        pairs = zip(returned, zeros_at, strict=True)
        return [instantiate(x) for x, zero in pairs if zero is None]

    values = [x for x, known in zip(flat, is_value, strict=True) if known]
    value_dims = [d for d, known in zip(flat_dims, is_value, strict=True) if known]
    outs, found = batch_flat(run, axis_size, values, value_dims)
    placed = iter([place_batch(x, d, 0, axis_size) for x, d in zip(outs, found, strict=True)])
    return [
        next(placed)
        if zero is None
        else Zero(zero.aval.update(shape=(axis_size, *zero.aval.shape)))
        for zero in zeros_at
    ]


def _placed(x: Any, dim: int, axis_size: int) -> Any:
    """A whole batch that lies along its first dimension, with the batch at `dim`."""
    if not is_zero(x):
        return place_batch(x, 0, dim, axis_size)
    shape = list(x.aval.shape)
    shape.insert(dim, shape.pop(0))
    return Zero(x.aval.update(shape=tuple(shape)))


def _partial_eval(trace: PartialEvalTrace, args: Values, params: dict[str, Any]) -> Any:
    # Differentiation has happened already, so the rule is not needed any more.
    call: CustomCall = params["call"]
    with current_trace(trace):
        return call.fun(*args)


def _uses_axis(params: dict[str, Any], name: Hashable) -> bool:
    jaxpr: ClosedJaxpr | None = params["jaxpr"]
    # Where nothing is known of the operands, the batching rule decides.
    return jaxpr is None or may_use_axis(params["call"], jaxpr, jaxpr.in_avals, name)


custom_call.eval = _eval
custom_call.impl = lambda *args, call, jaxpr: run_reference(jaxpr, args)
custom_call.shape = _shape
custom_call.weak = own_weak
custom_call.stage = _stage
custom_call.jvp = _jvp
custom_call.batch = _batch
custom_call.partial_eval = _partial_eval
custom_call.uses_axis = _uses_axis


def _linear_shape(*avals: ShapedArray, out_avals: Sequence[ShapedArray], **_: Any) -> Any:
    return list(out_avals)


def _captured_of(
    call: CustomCall, values: Values, differentiated: Sequence[bool]
) -> tuple[list[Any], list[Any]]:
    """The captured values, with markers, and the residuals."""
    rest = iter(values)
    captured = [Differentiated(call.name, None) if flag else next(rest) for flag in differentiated]
    return captured, list(rest)


def _linear_transpose(
    cts: Values,
    *args: Any,
    call: CustomCall,
    differentiated: Sequence[bool],
    num_residuals: int,
    **_: Any,
) -> list[Any]:
    assert call.pullback is not None
    captured, residuals = _captured_of(call, args[:num_residuals], differentiated)
    given = cts if call.symbolic_zeros else list(map(instantiate, cts))
    found = call.pullback(captured, residuals, given)
    return [None] * num_residuals + [
        ct if is_linear(x) else None for ct, x in zip(found, args[num_residuals:], strict=True)
    ]


def _linear_batch(
    axis_size: int,
    args: Values,
    dims: Dims,
    *,
    call: CustomCall,
    differentiated: tuple[bool, ...],
    num_residuals: int,
    out_avals: Sequence[ShapedArray],
) -> tuple[list[Any], list[int | None]]:
    captured_dims, residual_dims = _captured_of(call, dims[:num_residuals], differentiated)
    captured_dims = [None if type(d) is Differentiated else d for d in captured_dims]

    def pullback(captured: Values, residuals: Values, cts: Values) -> list[Any]:
        assert call.pullback is not None
        in_dims = [captured_dims, residual_dims, [0] * len(cts)]
        groups = [captured, residuals, cts]
        # Tangents come with the batch first, and so their cotangents leave.
        return _over(axis_size, call.pullback, groups, in_dims, zeros=True)

    tangents = [
        place_batch(x, d, 0, axis_size)
        for x, d in zip(args[num_residuals:], dims[num_residuals:], strict=True)
    ]
    avals = tuple(aval.update(shape=(axis_size, *aval.shape)) for aval in out_avals)
    outs = custom_linear.bind(
        *args[:num_residuals],
        *tangents,
        call=replace(call, pullback=pullback),
        differentiated=differentiated,
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


def _linear_jvp(primals: Values, tangents: Values, **params: Any) -> Any:
    count = params["num_residuals"]
    if not all(map(is_zero, tangents[:count])):
        return _linear_eval(**params)
    outs = custom_linear.bind(*primals, **params)
    if all(map(is_zero, tangents[count:])):
        return outs, [Zero(aval) for aval in params["out_avals"]]
    rest = map(instantiate, tangents[count:])
    return outs, custom_linear.bind(*primals[:count], *rest, **params)


custom_linear.eval = _linear_eval
custom_linear.impl = _linear_eval
custom_linear.shape = _linear_shape
custom_linear.weak = own_weak
custom_linear.transpose = _linear_transpose
custom_linear.batch = _linear_batch
custom_linear.jvp = _linear_jvp
custom_linear.uses_axis = lambda params, name: True
