"""Order along a dimension, and running extremes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from funcdl.core.primitive import Primitive
from funcdl.errors import ArgumentError
from funcdl.lax.operands import ArrayLike
from funcdl.numpy.promotion import array
from funcdl.numpy.reductions import normalize_axis
from funcdl.ops import cumulative
from funcdl.ops import sort as ordering


def sort(
    operand: ArrayLike | Sequence[ArrayLike],
    dimension: int = -1,
    is_stable: bool = True,
    num_keys: int = 1,
) -> Any:
    """The elements in ascending order along a dimension, NaN last (see `jax.lax.sort`).

    Args:
      operand: an array, or a tuple or list of arrays of one shape that are permuted alike.
      dimension: the dimension.
      is_stable: whether equal elements keep their order; they do in any case.
      num_keys: how many of the operands decide about the order, the first one above all.

    Returns:
      An array, or a tuple of arrays if `operand` is a tuple or list.

    Raises:
      ArgumentError: there is no operand, or `num_keys` does not fit their number.
      ShapeError: the operands differ in shape.
    """
    several = isinstance(operand, tuple | list)
    xs = [array("sort", x) for x in (operand if several else [operand])]
    if not xs:
        raise ArgumentError("sort: at least one operand is needed")
    axis = normalize_axis("sort", dimension, xs[0].ndim)
    outs = ordering.sort(*xs, dimension=axis, is_stable=is_stable, num_keys=num_keys)
    return tuple(outs) if several else outs[0]


def sort_key_val(
    keys: ArrayLike, values: ArrayLike, dimension: int = -1, is_stable: bool = True
) -> tuple[Any, Any]:
    """Keys in ascending order along a dimension, and values permuted alike."""
    sorted_keys, sorted_values = sort((keys, values), dimension, is_stable)
    return sorted_keys, sorted_values


def top_k(operand: ArrayLike, k: int, *, axis: int = -1) -> tuple[Any, Any]:
    """The `k` largest elements along an axis, in descending order, and where they are.

    NaN counts as largest; of equal elements the first comes first (see `jax.lax.top_k`).

    Args:
      operand: an array that is not complex.
      k: how many, at most the size of the axis.
      axis: the axis.

    Raises:
      ArgumentError: `k` is negative or too large.
    """
    x = array("top_k", operand)
    axis = normalize_axis("top_k", axis, x.ndim)
    values, places = ordering.top_k(x, k=operator.index(k), axis=axis)
    return values, places


def _running(name: str, primitive: Primitive, text: str) -> Callable[..., Any]:
    def function(operand: ArrayLike, axis: int = 0, reverse: bool = False) -> Any:
        x = array(name, operand)
        return primitive(x, axis=normalize_axis(name, axis, x.ndim), reverse=bool(reverse))

    function.__name__ = function.__qualname__ = name
    function.__module__ = "funcdl.lax"
    function.__doc__ = (
        f"{text} of all elements up to each one along an axis, or from each one on if `reverse`."
    )
    return function


cummax = _running("cummax", cumulative.cummax, "Maximum")
cummin = _running("cummin", cumulative.cummin, "Minimum")
cumlogsumexp = _running("cumlogsumexp", cumulative.cumlogsumexp, "``log(sum(exp(x)))``")
