"""Put arrays together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.core.array import ArrayOperators
from funcdl.core.compound import by_parts
from funcdl.core.options import sequence
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.promotion import ArrayLike, array, convert, promote_dtypes, refuse_out, strong
from funcdl.numpy.reductions import normalize_axis
from funcdl.numpy.shaping import atleast_1d, atleast_2d, atleast_3d, expand_dims, ravel, reshape
from funcdl.ops import slicing

__all__ = [
    "append",
    "block",
    "column_stack",
    "concat",
    "concatenate",
    "dstack",
    "hstack",
    "stack",
    "vstack",
]


def _parts(name: str, arrays: Any, dtype: DTypeLike) -> list[Any]:
    """The arrays to join, of one dtype; an array stands for its rows."""
    if isinstance(arrays, ArrayOperators | np.ndarray):
        whole = array(name, arrays)
        if whole.ndim == 0:
            raise ShapeError(f"{name}: arrays must be a sequence of arrays, got {whole.aval}")
        arrays = list(whole)
    elif not isinstance(arrays, Sequence) or isinstance(arrays, str):
        raise ArgumentError(
            f"{name}: arrays must be a sequence of arrays, got {type(arrays).__name__}"
        )
    if not arrays:
        raise ArgumentError(f"{name}: at least one array is needed")
    parts = promote_dtypes(name, *arrays)
    return parts if dtype is None else [strong(convert(x, canonical(dtype))) for x in parts]


@by_parts
def concatenate(arrays: Sequence[ArrayLike], axis: int | None = 0, dtype: DTypeLike = None) -> Any:
    """Arrays joined along a dimension that they have (see `jax.numpy.concatenate`).

    Args:
      arrays: arrays whose shapes differ along `axis` at most; their dtypes are promoted.
      axis: the dimension; None: their elements in one dimension.
      dtype: the element type of the result.

    Raises:
      ArgumentError: there are no arrays, or no such axis.
      ShapeError: the shapes do not fit.
    """
    parts = _parts("concatenate", arrays, dtype)
    if axis is None:
        parts, axis = [ravel(x) for x in parts], 0
    first = parts[0].aval
    if first.ndim == 0:
        advice = "use stack"
        if isinstance(arrays, ArrayOperators | np.ndarray):
            advice = "put the arrays to join into one sequence, as in concatenate([a, b])"
        raise ShapeError(f"concatenate: scalars have no dimension to join along; {advice}")
    axis = normalize_axis("concatenate", axis, first.ndim)
    for x in parts[1:]:
        if _others(x.aval.shape, axis) != _others(first.shape, axis):
            raise ShapeError(
                f"concatenate: shapes must be equal apart from axis {axis}, got "
                + ", ".join(str(x.aval.shape) for x in parts)
            )
    return slicing.concatenate(*parts, dimension=axis) if len(parts) > 1 else parts[0]


concat = concatenate


def _others(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (len(shape), *shape[:axis], *shape[axis + 1 :])


@by_parts
def stack(
    arrays: Sequence[ArrayLike], axis: int = 0, out: None = None, dtype: DTypeLike = None
) -> Any:
    """Arrays of one shape joined along a new dimension (see `numpy.stack`).

    Args:
      arrays: the arrays; one with a leading dimension counts as so many.
      axis: where the result has the new dimension.
      out: must be None.
      dtype: of the result; None: that to which the arrays promote.

    Raises:
      ArgumentError: there are no arrays, or `axis` is out of range.
      ShapeError: the shapes differ.
    """
    refuse_out("stack", out)
    parts = _parts("stack", arrays, dtype)
    shapes = [x.aval.shape for x in parts]
    if len(set(shapes)) > 1:
        raise ShapeError(f"stack: shapes must be equal, got {', '.join(map(str, shapes))}")
    axis = normalize_axis("stack", axis, len(shapes[0]) + 1)
    parts = [expand_dims(x, axis) for x in parts]
    return slicing.concatenate(*parts, dimension=axis) if len(parts) > 1 else parts[0]


def vstack(tup: Sequence[ArrayLike], dtype: DTypeLike = None) -> Any:
    """Arrays on top of each other: joined along the first dimension, vectors being rows.

    The result has `dtype`, or that to which the arrays promote. See `numpy.vstack`.

    Raises:
      ArgumentError: there are no arrays.
      ShapeError: the shapes differ apart from that dimension.
    """
    return concatenate([atleast_2d(x) for x in sequence("vstack: tup", tup)], 0, dtype)


def hstack(tup: Sequence[ArrayLike], dtype: DTypeLike = None) -> Any:
    """Arrays beside each other: joined along the second dimension, vectors along their only one.

    The result has `dtype`, or that to which the arrays promote. See `numpy.hstack`.

    Raises:
      ArgumentError: there are no arrays.
      ShapeError: the shapes differ apart from that dimension.
    """
    parts = [atleast_1d(x) for x in sequence("hstack: tup", tup)]
    return concatenate(parts, 0 if parts and parts[0].ndim == 1 else 1, dtype)


def dstack(tup: Sequence[ArrayLike], dtype: DTypeLike = None) -> Any:
    """Arrays behind each other: joined along the third dimension (see `jax.numpy.dstack`).

    The result has `dtype`, or that to which the arrays promote.

    Raises:
      ArgumentError: there are no arrays.
      ShapeError: the shapes differ apart from that dimension.
    """
    return concatenate([atleast_3d(x) for x in sequence("dstack: tup", tup)], 2, dtype)


def column_stack(tup: Sequence[ArrayLike]) -> Any:
    """Vectors as the columns of a matrix; matrices beside each other (see `numpy.column_stack`).

    The dtype is that to which the arrays promote.

    Raises:
      ShapeError: they differ in length.
    """
    columns = [array("column_stack", x) for x in sequence("column_stack: tup", tup)]
    return concatenate([reshape(x, (-1, 1)) if x.ndim < 2 else x for x in columns], 1)


def append(arr: ArrayLike, values: ArrayLike, axis: int | None = None) -> Any:
    """Two arrays joined along an axis; None: all their elements in one dimension.

    The dtype is that to which `arr` and `values` promote. See `numpy.append`.

    Raises:
      ShapeError: the shapes differ apart from the axis.
      ArgumentError: there is no such axis.
    """
    return concatenate([arr, values], axis)


def block(arrays: Any) -> Any:
    """An array of blocks: nested lists are joined, the innermost along the last dimension.

    The dtype is that to which the blocks promote; they get leading dimensions as needed. See
    `numpy.block`.

    Raises:
      ArgumentError: a list is empty, or lists have different depths.
      ShapeError: blocks side by side differ in shape.
    """
    depth, ndim = _depths(arrays)
    return _block(arrays, depth, max(depth, ndim))


def _depths(arrays: Any) -> tuple[int, int]:
    """How deep lists are nested, and how many dimensions the arrays in them have at most."""
    if not isinstance(arrays, list):
        return 0, array("block", arrays).ndim
    if not arrays:
        raise ArgumentError("block: lists must not be empty")
    each = [_depths(x) for x in arrays]
    if len({depth for depth, _ in each}) > 1:
        raise ArgumentError(
            "block: lists must be nested to the same depth, got depths "
            + " and ".join(str(depth) for depth in sorted({depth for depth, _ in each}))
        )
    return each[0][0] + 1, max(ndim for _, ndim in each)


def _block(arrays: Any, depth: int, ndim: int) -> Any:
    if depth == 0:
        x = array("block", arrays)
        return reshape(x, (1,) * (ndim - x.ndim) + x.aval.shape)
    return concatenate([_block(x, depth - 1, ndim) for x in arrays], -depth)
