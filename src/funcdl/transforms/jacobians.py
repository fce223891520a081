"""Whole matrices of derivatives: jacfwd, jacrev and hessian.

Each maps a linear function, pushing tangents forward or pulling cotangents back, over the standard
basis of its inputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes, tree
from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.options import flag
from funcdl.errors import NotDifferentiableError
from funcdl.ops.shape import reshape
from funcdl.ops.slicing import slice_
from funcdl.transforms.arguments import (
    argument_names,
    as_arrays,
    at_positions,
    check_function,
    distinct_argnums,
    function_name,
    leaf_names,
    normalize_argnums,
)
from funcdl.transforms.derivatives import jvp, vjp
from funcdl.transforms.vmap import vmap


def jacfwd(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """A function that returns `fun`'s Jacobian, by forward mode (see `jax.jacfwd`).

    The cost is that of one `jvp` for each element of the arguments, at once: best for functions
    with at least as many results as arguments.

    Args:
      fun: a function of pytrees of arrays, returning a pytree of arrays (or a pair of it with an
        `aux` pytree, if `has_aux`).
      argnums: which positional arguments to differentiate; their leaves must be floats.
      has_aux: whether `fun` returns a pair ``(output, aux)``.
      holomorphic: whether `fun` is a holomorphic function from complex to complex numbers.

    Returns:
      A function with `fun`'s arguments that returns a tree with the structure of `fun`'s output, in
      which each leaf of shape ``s`` is replaced by a tree with the structure of the argument, whose
      leaves have the shapes ``s + t`` for its leaves of shapes ``t``. It is a tuple of such trees
      when `argnums` is a sequence. With `has_aux`, a pair of that and `aux`.

    Raises (when called):
      NotDifferentiableError: a leaf to differentiate is no float (no complex number, if
        `holomorphic`).
      ArgumentError: `argnums` is out of range.
    """

    has_aux = flag("jacfwd: has_aux", has_aux)
    check_function("jacfwd", fun)

    @functools.wraps(fun)
    def jacfwd_f(*args: Any, **kwargs: Any) -> Any:
        name = function_name(fun)
        restricted, chosen = _restrict("jacfwd", fun, argnums, args, kwargs)
        _check("jacfwd", _named(fun, argnums, args), holomorphic)
        avals, treedef = _types(chosen)

        def push(*tangents: Any) -> tuple[Any, Any]:
            found = jvp(restricted, chosen, tuple(treedef.unflatten(tangents)), has_aux)
            return found[1], (found[2] if has_aux else ())

        every = _basis(avals)
        found, aux = vmap(push, out_axes=(-1, None), axis_size=_total(avals))(*every)
        outs, out_tree = tree.flatten(found)
        names = leaf_names(f"the output of {name}", found)
        _check("jacfwd", zip(names, outs, strict=True), holomorphic)
        rows = []
        for out in outs:
            parts = zip(_cut(out, out.ndim - 1, avals), avals, strict=True)
            row = treedef.unflatten(
                reshape(part, new_sizes=(*out.shape[:-1], *aval.shape)) for part, aval in parts
            )
            rows.append(row[0] if isinstance(argnums, int) else row)
        jacobian = out_tree.unflatten(rows)
        return (jacobian, aux) if has_aux else jacobian

    return jacfwd_f


def jacrev(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """A function that returns `fun`'s Jacobian, by reverse mode (see `jax.jacrev`).

    The cost is that of one pullback for each element of the results, at once: best for functions
    with fewer results than arguments. Arguments, result and errors are those of `jacfwd`, and

    Args:
      allow_int: whether leaves to differentiate may be integers or bools; their part is float0.
    """

    allow_int = flag("jacrev: allow_int", allow_int)
    has_aux = flag("jacrev: has_aux", has_aux)
    check_function("jacrev", fun)

    @functools.wraps(fun)
    def jacrev_f(*args: Any, **kwargs: Any) -> Any:
        name = function_name(fun)
        restricted, chosen = _restrict("jacrev", fun, argnums, args, kwargs)
        if not allow_int:
            _check("jacrev", _named(fun, argnums, args), holomorphic)
        found = vjp(restricted, *chosen, has_aux=has_aux)
        out, pullback = found[0], found[1]
        names = leaf_names(f"the output of {name}", out)
        _check("jacrev", zip(names, tree.leaves(out), strict=True), holomorphic)
        avals, out_tree = _types(out)

        def pull(*cotangents: Any) -> Any:
            return pullback(out_tree.unflatten(cotangents))

        every = _basis(avals)
        cts, treedef = tree.flatten(vmap(pull, axis_size=_total(avals))(*every))
        columns = [_cut(ct, 0, avals) for ct in cts]
        rows = []
        for i, aval in enumerate(avals):
            row = treedef.unflatten(
                reshape(parts[i], new_sizes=(*aval.shape, *ct.shape[1:]))
                for parts, ct in zip(columns, cts, strict=True)
            )
            rows.append(row[0] if isinstance(argnums, int) else row)
        jacobian = out_tree.unflatten(rows)
        return (jacobian, found[2]) if has_aux else jacobian

    return jacrev_f


jacobian = jacrev


def hessian(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """A function that returns `fun`'s second derivatives, forward over reverse (see `jax.hessian`).

    Arguments and errors are those of `jacfwd`. The result is the Jacobian of a Jacobian: a tree
    with the structure of `fun`'s output, of trees with the argument's structure, of such trees.
    """
    first = jacrev(fun, argnums, has_aux, holomorphic)
    return jacfwd(first, argnums, has_aux, holomorphic)


def _restrict(
    transform: str,
    fun: Callable[..., Any],
    argnums: int | Sequence[int],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    positions = distinct_argnums(argnums, len(args), f"{transform}: argnums", function_name(fun))
    return at_positions(fun, positions, args, kwargs)


def _named(
    fun: Callable[..., Any], argnums: int | Sequence[int], args: Sequence[Any]
) -> Iterable[tuple[str, Any]]:
    """The leaves of the chosen arguments, with names."""
    names = argument_names(fun, args)
    for i in normalize_argnums(argnums, len(args)):
        leaves, _ = as_arrays(names[i], args[i], "jacobian")
        yield from zip(leaf_names(names[i], args[i]), leaves, strict=True)


def _check(transform: str, leaves: Iterable[tuple[str, Any]], holomorphic: bool) -> None:
    allowed = dtypes.is_complex if holomorphic else dtypes.is_float
    for name, leaf in leaves:
        if not allowed(leaf.dtype):
            wanted = "complex numbers with holomorphic=True" if holomorphic else "floats"
            fix = (
                "leave holomorphic out for real functions"
                if holomorphic
                else "pass holomorphic=True, or take real and imaginary parts"
                if dtypes.is_complex(leaf.dtype)
                else "convert it with .astype('float32'), or choose other arguments by argnums"
            )
            raise NotDifferentiableError(
                f"{transform} requires {wanted}, got {name} of type {leaf.aval}; {fix}"
            )


def _types(values: Any) -> tuple[list[ShapedArray], tree.TreeDef]:
    leaves, treedef = as_arrays("", values, "jacobian")
    return [leaf.aval for leaf in leaves], treedef


def _total(avals: Sequence[ShapedArray]) -> int:
    return sum(aval.size for aval in avals)


def _basis(avals: Sequence[ShapedArray]) -> list[Any]:
    """For each type, a batch of arrays: together, one for each element of all, with a 1 there."""
    total, start = _total(avals), 0
    found = []
    for aval in avals:
        dtype, weak = aval.to_tangent().dtype, aval.weak_type
        if dtype == dtypes.float0:
            found.append(Array(np.zeros((total, *aval.shape), dtype)))
            start += aval.size
            continue
        rows = np.zeros((total, aval.size), dtype)
        rows[np.arange(start, start + aval.size), np.arange(aval.size)] = 1
        found.append(Array(rows.reshape(total, *aval.shape), weak))
        start += aval.size
    return found


def _cut(x: Any, axis: int, avals: Sequence[ShapedArray]) -> list[Any]:
    """Parts of an array along an axis, as many elements long as the types have."""
    parts = []
    start = 0
    for aval in avals:
        low, high = [0] * x.ndim, list(x.shape)
        low[axis], high[axis] = start, start + aval.size
        parts.append(
            slice_(x, start_indices=tuple(low), limit_indices=tuple(high), strides=None)
            if len(avals) > 1
            else x
        )
        start += aval.size
    return parts
