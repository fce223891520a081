"""closure_convert: closed-over values that may be differentiated, as explicit arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcdl.core import dtypes, tree
from funcdl.core.jaxpr import eval_jaxpr
from funcdl.core.staging import trace_to_jaxpr
from funcdl.core.trace import Tracer
from funcdl.errors import ArgumentError, ShapeError, TreeError
from funcdl.transforms.arguments import (
    as_arrays,
    check_function,
    describe_trees,
    flatten_output,
    function_name,
    leaf_names,
)


def closure_convert(
    fun: Callable[..., Any], *example_args: Any
) -> tuple[Callable[..., Any], list[Any]]:
    """A function without differentiable closure, and what it closed over (`jax.closure_convert`).

    A custom rule can only say how to differentiate by arguments; this makes arguments of values of
    outer traces. Other values that `fun` closes over stay in the closure.

    Args:
      fun: a function of pytrees of arrays.
      example_args: arguments of the types that the result is to be called with.

    Returns:
      ``converted, consts``, so that ``converted(*args, *consts)`` is ``fun(*args)``. `consts` are
      the floats among the closed-over traced values.

    Raises:
      TreeError, ShapeError: `converted` is called with other structures or types.
      ArgumentError: `converted` is called with more or fewer arguments.
    """
    check_function("closure_convert", fun)
    name = function_name(fun)
    leaves, in_tree = as_arrays("example_args", example_args, "closure_convert")
    avals = [x.aval for x in leaves]
    out_tree: tree.TreeDef | None = None

    def flat(*xs: Any) -> list[Any]:
        nonlocal out_tree
        outs, out_tree = flatten_output(fun(*in_tree.unflatten(xs)), "closure_convert", name)
        return outs

    jaxpr, consts = trace_to_jaxpr(flat, avals, name=f"closure_convert of {name}")
    hoisted = [isinstance(x, Tracer) and dtypes.is_inexact(x.dtype) for x in consts]
    # `converted` must not hold what is hoisted, nor the examples: custom functions take the tracers
    # in a closure for values that they depend on beside their arguments.
    kept = [None if flag else x for x, flag in zip(consts, hoisted, strict=True)]
    arity, count = len(example_args), sum(hoisted)
    title = f"the function that closure_convert made of {name}"

    def converted(*args: Any) -> Any:
        if len(args) != arity + count:
            raise ArgumentError(
                f"{title} takes {arity} arguments and the {count} constants that came "
                f"with it, got {len(args)}"
            )
        own, given = args[:arity], args[arity:]
        found, found_tree = as_arrays("args", own, "closure_convert")
        if found_tree != in_tree:
            raise TreeError(
                f"{title} requires arguments with the structure of example_args:\n"
                + describe_trees(found_tree, in_tree)
            )
        for path, x, aval in zip(leaf_names("args", own), found, avals, strict=True):
            if not x.aval.same_type(aval):
                raise ShapeError(f"{title} requires {path} of type {aval}, got {x.aval}")
        rest = iter(given)
        values = [next(rest) if flag else x for x, flag in zip(kept, hoisted, strict=True)]
        assert out_tree is not None
        return out_tree.unflatten(eval_jaxpr(jaxpr, values, found))

    return converted, [x for x, flag in zip(consts, hoisted, strict=True) if flag]
