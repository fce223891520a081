"""Order along a dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcdl.core import dtypes
from funcdl.core.integers import integer
from funcdl.core.options import flag, number
from funcdl.errors import ArgumentError, DtypeError
from funcdl.lax.operands import ArrayLike
from funcdl.lax.shaping import slice_in_dim
from funcdl.numpy.promotion import array
from funcdl.numpy.reductions import normalize_axis
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
    """Keys in ascending order along a dimension, and values permuted alike.

    See `jax.lax.sort_key_val`.

    Args:
      keys: an array.
      values: an array of its shape.
      dimension: the dimension.
      is_stable: whether equal keys keep their order; they do in any case.

    Raises:
      ArgumentError: there is no such dimension.
      ShapeError: the shapes differ.
    """
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
    values, places = ordering.top_k(x, k=integer("k", k), axis=axis)
    return values, places


def approx_max_k(
    operand: ArrayLike,
    k: int,
    reduction_dimension: int = -1,
    recall_target: float = 0.95,
    reduction_input_size_override: int = -1,
    aggregate_to_topk: bool = True,
) -> tuple[Any, Any]:
    """The `k` largest elements along a dimension, and where they are (`jax.lax.approx_max_k`).

    The answer is exact, that of `top_k`, as JAX's is on a CPU.

    Args:
      operand: floats.
      k: how many.
      reduction_dimension: the dimension.
      recall_target: which share of them must be right; all are.
      reduction_input_size_override: has no effect.
      aggregate_to_topk: whether to return `k` elements and no more candidates; must be true.

    Raises:
      ArgumentError: `recall_target` is not in (0, 1], `aggregate_to_topk` is false, or `k` is
        negative or too large.
      DtypeError: the operand holds no floats.
    """
    return _approximate(
        "approx_max_k", operand, k, reduction_dimension, recall_target, aggregate_to_topk
    )


def approx_min_k(
    operand: ArrayLike,
    k: int,
    reduction_dimension: int = -1,
    recall_target: float = 0.95,
    reduction_input_size_override: int = -1,
    aggregate_to_topk: bool = True,
) -> tuple[Any, Any]:
    """The `k` smallest elements along a dimension, and where they are; as `approx_max_k`.

    See `jax.lax.approx_min_k`.
    """
    return _approximate(
        "approx_min_k", operand, k, reduction_dimension, recall_target, aggregate_to_topk
    )


def _approximate(
    name: str, operand: ArrayLike, k: int, axis: int, recall_target: float, aggregate: bool
) -> tuple[Any, Any]:
    x = array(name, operand)
    if not dtypes.is_float(x.dtype):
        raise DtypeError(f"{name} requires floats, got {x.aval}; use top_k")
    if not 0 < number(f"{name}: recall_target", recall_target) <= 1:
        raise ArgumentError(
            f"{name}: recall_target must be above 0 and at most 1, got {recall_target}"
        )
    if not flag(f"{name}: aggregate_to_topk", aggregate):
        raise ArgumentError(
            f"{name}: aggregate_to_topk must be True; there are no candidates besides the {k} found"
        )
    if integer(f"{name}: k", k) == 0:
        raise ArgumentError(f"{name}: k must be at least 1, got 0")
    if name == "approx_max_k":
        return top_k(x, k, axis=axis)
    # Not the negatives' top_k: where NaN is among them, it still comes last.
    axis = normalize_axis(name, axis, x.ndim)
    if not 0 < k <= x.shape[axis]:
        raise ArgumentError(
            f"{name}: k must be from 1 to {x.shape[axis]}, the size of dimension {axis} of "
            f"{x.aval}, got {k}"
        )
    places = ordering.argsort(x, axis)
    found = slice_in_dim(places, 0, k, axis=axis)
    return ordering.take_along(x, found, axis), found
