"""Gradients of scalar functions: grad and value_and_grad."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from funcdl.core import dtypes, tree
from funcdl.core.array import as_array
from funcdl.core.avals import ShapedArray
from funcdl.core.options import flag
from funcdl.errors import NotDifferentiableError
from funcdl.ops.convert import convert_element_type
from funcdl.ops.shape import full_like
from funcdl.transforms.arguments import (
    argument_names,
    as_arrays,
    at_positions,
    check_function,
    distinct_argnums,
    function_name,
    leaf_names,
    show_tree,
)
from funcdl.transforms.derivatives import FlatFunction


def value_and_grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """A function that returns `fun`'s value and its gradient (see `jax.value_and_grad`).

    Args:
      fun: returns a real scalar of floating dtype (or a pair with `aux` second, if `has_aux`).
      argnums: which positional arguments to differentiate; their leaves must be float or complex.
        As in JAX, the gradient by a complex argument is not conjugated: a step of descent is
        along its conjugate.
      has_aux: whether `fun` returns a pair ``(value, aux)``.
      holomorphic: whether `fun` is a holomorphic function from complex to complex numbers.
      allow_int: whether leaves may also be integers or bools; their gradients are float0.

    Returns:
      A function with `fun`'s arguments that returns ``(value, gradient)``, or
      ``((value, aux), gradient)``. The gradient has the structure of the argument, or is a tuple
      of gradients when `argnums` is a sequence.

    Raises (when called):
      NotDifferentiableError: `fun` returns no scalar of such a dtype, or a leaf to differentiate
        has another one.
      ArgumentError: `argnums` is out of range.
    """

    has_aux = flag("value_and_grad: has_aux", has_aux)
    check_function("grad", fun)

    @functools.wraps(fun)
    def value_and_grad_f(*args: Any, **kwargs: Any) -> Any:
        name = function_name(fun)
        positions = distinct_argnums(argnums, len(args), "grad: argnums", name)
        arg_names = argument_names(fun, args)
        for i in positions:
            _check_input(arg_names[i], args[i], holomorphic, allow_int)
        restricted, chosen = at_positions(fun, positions, args, kwargs)
        flat, treedef = tree.flatten(chosen)
        flat = [as_array(x) for x in flat]
        flat_fun = FlatFunction(restricted, treedef, has_aux, "grad")
        linear = flat_fun.linearize(flat)
        _check_output(name, linear.outs[: flat_fun.num_outs], flat_fun.out_tree, holomorphic)
        value = linear.outs[0]
        cts = linear.pull([full_like(value, 1)])
        gradient: Any = treedef.unflatten(
            [_with_weak_type(ct, x.aval) for ct, x in zip(cts, flat, strict=True)]
        )
        if isinstance(argnums, int):
            (gradient,) = gradient
        if has_aux:
            return (value, flat_fun.unflatten_aux(linear.outs)), gradient
        return value, gradient

    return value_and_grad_f


def grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """A function that returns `fun`'s gradient (see `jax.grad`, and `value_and_grad` here).

    With `has_aux` it returns ``(gradient, aux)``.
    """
    has_aux = flag("grad: has_aux", has_aux)
    with_value = value_and_grad(fun, argnums, has_aux, holomorphic, allow_int)

    @functools.wraps(fun)
    def grad_f(*args: Any, **kwargs: Any) -> Any:
        value, gradient = with_value(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return grad_f


def _with_weak_type(ct: Any, aval: ShapedArray) -> Any:
    """A cotangent with the weak type of its primal, as in JAX.

    The two may differ, since a weakly typed scalar meets stronger operands of its dtype without a
    conversion that could be transposed.
    """
    if ct.weak_type == aval.weak_type or ct.dtype != aval.dtype:
        return ct
    return convert_element_type(ct, new_dtype=aval.dtype, weak_type=aval.weak_type)


def _check_input(name: str, arg: Any, holomorphic: bool, allow_int: bool) -> None:
    leaves, _ = as_arrays(name, arg, "grad")
    for path, leaf in zip(leaf_names(name, arg), leaves, strict=True):
        dtype = leaf.aval.dtype
        if holomorphic and not dtypes.is_complex(dtype):
            raise NotDifferentiableError(
                f"grad with holomorphic=True requires complex inputs, got {path} of type "
                f"{leaf.aval}; convert it with .astype('complex64')"
            )
        if not dtypes.is_inexact(dtype) and not allow_int:
            raise NotDifferentiableError(
                f"grad requires floating-point or complex inputs, got {path} of type {leaf.aval}; "
                "pass a float (1.0 rather than 1), convert it with .astype('float32'), choose "
                "other arguments by argnums, or ask for float0 gradients by allow_int=True"
            )


def _check_output(
    name: str, outs: Sequence[Any], out_tree: tree.TreeDef, holomorphic: bool
) -> None:
    if len(outs) != 1 or out_tree.num_nodes != 1:
        raise NotDifferentiableError(
            f"grad requires {name} to return one scalar, got a container of {len(outs)} "
            f"array{'s' * (len(outs) != 1)}: {show_tree(out_tree)}; use has_aux=True to return "
            "other values beside the scalar, or vjp"
        )
    aval = outs[0].aval
    if aval.shape != ():
        raise NotDifferentiableError(
            f"grad requires {name} to return a scalar, got {aval}; reduce it with .sum() or "
            ".mean(), or use vjp or vmap for derivatives of arrays"
        )
    if holomorphic and not dtypes.is_complex(aval.dtype):
        raise NotDifferentiableError(
            f"grad with holomorphic=True requires {name} to return a complex scalar, got {aval}; "
            "leave holomorphic out for real functions"
        )
    if not holomorphic and not dtypes.is_float(aval.dtype):
        fix = (
            "return its real part or absolute value, or say holomorphic=True if it is"
            if dtypes.is_complex(aval.dtype)
            else "integers and bools have no derivative"
        )
        raise NotDifferentiableError(
            f"grad requires {name} to return a real floating-point scalar, got {aval}; {fix}"
        )
