"""linear_call: a linear function together with its transpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcdl.core import tree
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.primitive import Primitive, own_weak
from funcdl.core.symbolic_zero import Zero, is_linear, is_zero
from funcdl.errors import NotDifferentiableError, ShapeError, TreeError
from funcdl.ops.shape import instantiate
from funcdl.transforms.arguments import as_arrays, describe_trees, function_name
from funcdl.transforms.batching import batch_jaxpr, place_batch
from funcdl.transforms.programs import (
    eval_program,
    program_types,
    run_program,
    trace_body,
    widen_all,
)

linear_call_primitive = Primitive("linear_call", multiple_results=True)


def linear_call(
    fun: Callable[[Any, Any], Any],
    fun_transpose: Callable[[Any, Any], Any],
    residual_args: Any,
    linear_args: Any,
) -> Any:
    """Call a linear function, and say what its transpose is (`jax.custom_derivatives.linear_call`).

    ``fun(residual_args, linear_args)`` must be linear in `linear_args`; its transpose is taken to
    be ``fun_transpose(residual_args, cotangent)``, which returns a cotangent of `linear_args`. The
    transpose of the transpose is `fun` again. Both may close over traced values.

    Raises:
      TreeError, ShapeError: the transpose returns other structures or types than `linear_args` has.
      NotDifferentiableError: a derivative by `residual_args` or closed-over values is asked.
    """
    name = function_name(fun_transpose)
    residuals, _ = as_arrays("residual_args", residual_args, "linear_call")
    linear, linear_tree = as_arrays("linear_args", linear_args, "linear_call")
    residual_avals, linear_avals = [x.aval for x in residuals], [x.aval for x in linear]
    in_tree = tree.structure((residual_args, linear_args))
    program, captured, out_tree = trace_body(
        fun, in_tree, [*residual_avals, *linear_avals], "linear_call"
    )
    out = out_tree.unflatten(program.out_avals)
    ct_tree = tree.structure((residual_args, out))
    back, back_captured, back_tree = trace_body(
        fun_transpose,
        ct_tree,
        [*residual_avals, *(aval.to_tangent() for aval in program.out_avals)],
        "linear_call",
    )
    if back_tree != linear_tree:
        raise TreeError(
            f"linear_call requires {name} to return a cotangent with the structure of linear_args:"
            "\n" + describe_trees(back_tree, linear_tree)
        )
    for found, wanted in zip(back.out_avals, linear_avals, strict=True):
        if not found.same_type(wanted.to_tangent()):
            raise ShapeError(
                f"linear_call requires {name} to return a cotangent of type "
                f"{wanted.to_tangent()} for a linear argument of type {wanted}, got {found}"
            )
    own = [[x.aval for x in captured], [x.aval for x in back_captured]]
    forward, transposed = widen_all([program, back], own)
    outs = linear_call_primitive.bind(
        *captured,
        *back_captured,
        *residuals,
        *linear,
        jaxpr=forward,
        transposed=transposed,
        num_residuals=len(captured) + len(back_captured) + len(residuals),
    )
    return out_tree.unflatten(outs)


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, num_residuals: int, **params: Any
) -> tuple[list[Any], list[Any]]:
    if not all(map(is_zero, tangents[:num_residuals])):
        raise NotDifferentiableError(
            "linear_call has no derivative by residual_args, nor by what its functions close over; "
            "pass stop_gradient of them, or write the function with differentiable operations"
        )
    outs = linear_call_primitive.bind(*primals, num_residuals=num_residuals, **params)
    if all(map(is_zero, tangents)):
        return outs, [Zero(out.aval.to_tangent()) for out in outs]
    rest = map(instantiate, tangents[num_residuals:])
    return outs, linear_call_primitive.bind(
        *primals[:num_residuals], *rest, num_residuals=num_residuals, **params
    )


def _transpose(
    cts: Sequence[Any],
    *args: Any,
    jaxpr: ClosedJaxpr,
    transposed: ClosedJaxpr,
    num_residuals: int,
) -> list[Any]:
    found = linear_call_primitive.bind(
        *args[:num_residuals],
        *map(instantiate, cts),
        jaxpr=transposed,
        transposed=jaxpr,
        num_residuals=num_residuals,
    )
    rest = zip(found, args[num_residuals:], strict=True)
    return [None] * num_residuals + [ct if is_linear(x) else None for ct, x in rest]


def _batch(
    axis_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    jaxpr: ClosedJaxpr,
    transposed: ClosedJaxpr,
    num_residuals: int,
) -> tuple[list[Any], list[int | None]]:
    residuals_b = tuple(d is not None for d in dims[:num_residuals])
    inputs = [
        x if d is None and i < num_residuals else place_batch(x, d, 0, axis_size)
        for i, (x, d) in enumerate(zip(args, dims, strict=True))
    ]
    num_linear, num_outs = len(args) - num_residuals, len(jaxpr.out_avals)
    program, _ = batch_jaxpr(
        jaxpr, axis_size, (*residuals_b, *[True] * num_linear), (True,) * num_outs
    )
    back, _ = batch_jaxpr(
        transposed, axis_size, (*residuals_b, *[True] * num_outs), (True,) * num_linear
    )
    outs = linear_call_primitive.bind(
        *inputs, jaxpr=program, transposed=back, num_residuals=num_residuals
    )
    return outs, [0] * len(outs)


linear_call_primitive.impl = run_program
linear_call_primitive.eval = eval_program
linear_call_primitive.shape = program_types
linear_call_primitive.weak = own_weak
linear_call_primitive.jvp = _jvp
linear_call_primitive.transpose = _transpose
linear_call_primitive.batch = _batch
