"""Make, rearrange, cut and join arrays; sizes are Python integers."""

from __future__ import annotations

import builtins
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.core import lattice
from funcdl.core.array import shortened
from funcdl.core.avals import Shape
from funcdl.core.integers import integer, integers
from funcdl.core.options import flag, sequence
from funcdl.errors import ArgumentError, ConcretizationError, IndexingError, ShapeError
from funcdl.lax.operands import ArrayLike, bind_checked, like
from funcdl.numpy import creation, repetition, shaping
from funcdl.numpy.creation import DTypeLike, ShapeLike, canonical, shape_of
from funcdl.numpy.promotion import array
from funcdl.numpy.promotion import operand as to_operand
from funcdl.numpy.reductions import normalize_axis
from funcdl.ops import shape as ops
from funcdl.ops import slicing

full_like = creation.full_like


def full(shape: ShapeLike, fill_value: ArrayLike, dtype: DTypeLike = None) -> Any:
    """An array full of one scalar (see `jax.lax.full`).

    Args:
      shape: the shape.
      fill_value: an array or scalar of shape ().
      dtype: the element type; by default that of `fill_value`.

    Raises:
      ShapeError: `fill_value` is no scalar.
      TypeError: there is no such dtype.
    """
    value = array("full", fill_value)
    if value.aval.shape:
        raise ShapeError(f"full: fill_value must be a scalar, got {value.aval}")
    return creation.full(shape, value, dtype)


def empty(shape: ShapeLike, dtype: DTypeLike) -> Any:
    """An array of zeros: nothing here holds what was in memory before (see `jax.lax.empty`).

    It has this `shape` and `dtype`; errors are those of `full`.
    """
    return creation.full(shape, 0, dtype)


def dtype(x: Any) -> Any:
    """The dtype of an array, or the one that a Python scalar or a type stands for.

    See `jax.lax.dtype`.

    Raises:
      TypeError: `x` has none.
    """
    return lattice.lattice_type(x)[0]


def shape_as_value(shape: ShapeLike) -> Any:
    """A shape as an array of integers (see `jax.lax.shape_as_value`).

    It has shape ``(len(shape),)`` and the default integer dtype.

    Raises:
      ShapeError: a size is negative.
    """
    return creation.array(shape_of(shape), canonical(int))


def iota(dtype: DTypeLike, size: int) -> Any:
    """0, 1, 2, … up to, but without, `size` (see `jax.lax.iota`).

    A vector of dtype `dtype`.

    Raises:
      ShapeError: `size` is negative.
    """
    return broadcasted_iota(dtype, (size,), 0)


def broadcasted_iota(dtype: DTypeLike, shape: ShapeLike, dimension: int) -> Any:
    """The position of each element along one dimension (see `jax.lax.broadcasted_iota`).

    Args:
      dtype: of the result.
      shape: of the result.
      dimension: the one along which the elements count from 0.

    Raises:
      ShapeError: there is no such dimension, or a size is negative.
    """
    place = integer("broadcasted_iota: dimension", dimension)
    return bind_checked(ops.iota, dtype=canonical(dtype), shape=shape_of(shape), dimension=place)


def reshape(
    operand: ArrayLike, new_sizes: ShapeLike, dimensions: Sequence[int] | None = None
) -> Any:
    """The same elements, in row-major order, in another shape (see `jax.lax.reshape`).

    With `dimensions`, these are brought into that order first.

    Args:
      operand: the array, whose dtype stays.
      new_sizes: the shape of the result.
      dimensions: all dimensions, in the order to read them in.

    Raises:
      ShapeError: the shapes have different numbers of elements, or `dimensions` do not fit.
    """
    x = array("reshape", operand)
    if dimensions is not None:
        x = bind_checked(ops.transpose, x, permutation=_dims(dimensions))
    return bind_checked(ops.reshape, x, new_sizes=shape_of(new_sizes, "new_sizes"))


def transpose(operand: ArrayLike, permutation: Sequence[int]) -> Any:
    """Dimensions in another order (see `jax.lax.transpose`).

    Dimension i of the result is dimension ``permutation[i]`` of the array; the dtype stays.

    Raises:
      ShapeError: `permutation` does not name each dimension once.
    """
    x = array("transpose", operand)
    return bind_checked(ops.transpose, x, permutation=_dims(permutation))


def broadcast(operand: ArrayLike, sizes: Sequence[int]) -> Any:
    """Repeated along new leading dimensions of these sizes (see `jax.lax.broadcast`).

    The shape is ``(*sizes, *operand.shape)``; the dtype stays.

    Raises:
      ShapeError: a size is negative.
    """
    x = array("broadcast", operand)
    shape = (*shape_of(sizes, "sizes"), *x.aval.shape)
    return ops.broadcast_to(x, shape)


def broadcast_like(arr: ArrayLike, like_arr: ArrayLike) -> Any:
    """Broadcast by NumPy's rules to the shape of another array (see `jax.lax.broadcast_like`).

    The dtype of `arr` stays; `like_arr` gives its shape alone.

    Raises:
      ShapeError: the array does not broadcast to that shape.
    """
    return shaping.broadcast_to(arr, array("broadcast_like", like_arr).shape)


def broadcast_to_rank(x: ArrayLike, rank: int) -> Any:
    """New leading dimensions of size 1 until there are `rank` of them.

    The dtype stays. See `jax.lax.broadcast_to_rank`.

    Raises:
      ShapeError: there are more already.
    """
    x = array("broadcast_to_rank", x)
    rank = integer("broadcast_to_rank: rank", rank)
    if x.ndim > rank:
        raise ShapeError(f"broadcast_to_rank: {x.aval} has more than {rank} dimensions")
    return ops.reshape(x, new_sizes=((1,) * (rank - x.ndim) + x.shape))


def tile(operand: ArrayLike, reps: Sequence[int]) -> Any:
    """Repeated as a whole along each dimension (see `jax.lax.tile`).

    ``reps[i]`` times along dimension i; the dtype stays.

    Raises:
      ShapeError: there is not one number for each dimension.
    """
    x = array("tile", operand)
    reps = integers("tile: reps", reps)
    if len(reps) != x.ndim:
        raise ShapeError(
            f"tile: reps must have one entry for each dimension of {x.aval}, got {tuple(reps)}"
        )
    return repetition.tile(x, _dims(reps))


def broadcast_in_dim(
    operand: ArrayLike, shape: ShapeLike, broadcast_dimensions: Sequence[int]
) -> Any:
    """An array repeated along new dimensions (see `jax.lax.broadcast_in_dim`).

    Args:
      operand: the array.
      shape: the shape of the result.
      broadcast_dimensions: for each dimension of the operand, its place in the result, where it has
        the same size, or any other if it is 1.

    Raises:
      ShapeError: the shapes or places do not fit.
    """
    return bind_checked(
        ops.broadcast_in_dim,
        array("broadcast_in_dim", operand),
        shape=shape_of(shape),
        broadcast_dimensions=_dims(broadcast_dimensions),
    )


def rev(operand: ArrayLike, dimensions: Sequence[int]) -> Any:
    """Reversed along some dimensions (see `jax.lax.rev`).

    Shape and dtype stay.

    Raises:
      ShapeError: there are no such dimensions, or one is named twice.
    """
    return bind_checked(ops.rev, array("rev", operand), dimensions=_dims(dimensions))


def expand_dims(array: ArrayLike, dimensions: Sequence[int]) -> Any:
    """New dimensions of size 1 at these places of the result (see `jax.lax.expand_dims`).

    The dtype stays.

    Raises:
      ArgumentError: a place is out of range, or named twice.
    """
    return shaping.expand_dims(array, integers("expand_dims: dimensions", dimensions))


def squeeze(array: ArrayLike, dimensions: Sequence[int]) -> Any:
    """Without these dimensions, which must have size 1 (see `jax.lax.squeeze`).

    The dtype stays.

    Raises:
      ArgumentError: there is no such dimension, or it has another size.
    """
    return shaping.squeeze(array, integers("squeeze: dimensions", dimensions))


def collapse(operand: ArrayLike, start_dimension: int, stop_dimension: int | None = None) -> Any:
    """The dimensions from start up to, but without, stop made one (see `jax.lax.collapse`).

    Args:
      operand: the array.
      start_dimension, stop_dimension: negative numbers count from the end; None is the end.

    Returns:
      An array of the same dtype.

    Raises:
      ArgumentError: there are no such dimensions.
    """
    x = array("collapse", operand)
    given = {"start_dimension": start_dimension, "stop_dimension": stop_dimension}
    bounds = (d if d is None else integer(f"collapse: {which}", d) for which, d in given.items())
    start, stop, _ = builtins.slice(*bounds).indices(x.ndim)
    if stop < start:
        raise ArgumentError(
            f"collapse: there are no dimensions from {start_dimension} up to {stop_dimension} in "
            f"{x.aval}"
        )
    shape = x.aval.shape
    joined = (*shape[:start], math.prod(shape[start:stop]), *shape[stop:])
    return ops.reshape(x, new_sizes=joined)


def slice(
    operand: ArrayLike,
    start_indices: Sequence[int],
    limit_indices: Sequence[int],
    strides: Sequence[int] | None = None,
) -> Any:
    """A part of an array (see `jax.lax.slice`).

    Args:
      operand: the array.
      start_indices, limit_indices: for each dimension the first element, and the end, which is not
        taken; negative numbers are refused.
      strides: for each dimension how far apart the elements taken are, by default 1.

    Raises:
      ShapeError: a part that reaches out of the array, or not one number for each dimension.
    """
    return bind_checked(
        slicing.slice_,
        array("slice", operand),
        start_indices=_dims(start_indices),
        limit_indices=_dims(limit_indices),
        strides=None if strides is None else _dims(strides),
    )


def slice_in_dim(
    operand: ArrayLike,
    start_index: int | None,
    limit_index: int | None,
    stride: int = 1,
    axis: int = 0,
) -> Any:
    """As `slice`, along one dimension (see `jax.lax.slice_in_dim`).

    Args:
      operand: the array.
      start_index, limit_index: the first element, and the end, which is not taken; None is the
        dimension's bound, negative numbers count from its end.
      stride: how far apart the elements taken are.
      axis: the dimension.

    Raises:
      ArgumentError: there is no such axis.
      ShapeError: the part reaches out of the array, or `stride` is not positive.
    """
    x = array("slice_in_dim", operand)
    axis = normalize_axis("slice_in_dim", axis, x.ndim)
    starts, limits, strides = [0] * x.ndim, list(x.aval.shape), [1] * x.ndim
    size = limits[axis]
    start, limit = (
        default if given is None else integer(f"slice_in_dim: {which}", given)
        for which, given, default in (
            ("start_index", start_index, 0),
            ("limit_index", limit_index, size),
        )
    )
    starts[axis], limits[axis] = (n + size if n < 0 else n for n in (start, limit))
    strides[axis] = integer("slice_in_dim: stride", stride)
    return slice(x, starts, limits, strides)


def index_in_dim(operand: ArrayLike, index: int, axis: int = 0, keepdims: bool = True) -> Any:
    """The elements at one place along a dimension (see `jax.lax.index_in_dim`).

    Args:
      operand: the array.
      index: the place; negative numbers count from the end.
      axis: the dimension.
      keepdims: whether it stays, with size 1.

    Returns:
      An array of the same dtype.

    Raises:
      ArgumentError: there is no such axis.
      IndexingError: there is no such place.
    """
    keepdims = flag("index_in_dim: keepdims", keepdims)
    x = array("index_in_dim", operand)
    axis = normalize_axis("index_in_dim", axis, x.ndim)
    size = x.aval.shape[axis]
    index = integer("index", index)
    if not -size <= index < size:
        raise IndexingError(f"index {index} is out of range for axis {axis}, of size {size}")
    out = slice_in_dim(x, index % size, index % size + 1, axis=axis)
    return out if keepdims else squeeze(out, (axis,))


def split(operand: ArrayLike, sizes: Sequence[int], axis: int = 0) -> list[Any]:
    """Cut into parts of these sizes along a dimension (see `jax.lax.split`).

    A list of arrays of the same dtype.

    Args:
      operand: the array.
      sizes: those of the parts along the dimension.
      axis: the dimension.

    Raises:
      ShapeError: they do not add up to its size.
      ArgumentError: there is no such dimension.
    """
    x = array("split", operand)
    axis, sizes = normalize_axis("split", axis, x.ndim), integers("sizes", sizes)
    if sum(sizes) != x.aval.shape[axis]:
        raise ShapeError(
            f"split: sizes must add up to {x.aval.shape[axis]}, the size of axis {axis}, got "
            f"{tuple(sizes)}"
        )
    ends = np.cumsum([0, *sizes]).tolist()
    return [slice_in_dim(x, start, end, axis=axis) for start, end in itertools.pairwise(ends)]


def pad(
    operand: ArrayLike, padding_value: ArrayLike, padding_config: Sequence[tuple[int, int, int]]
) -> Any:
    """A scalar put before, after and between the elements (see `jax.lax.pad`).

    Args:
      operand: the array.
      padding_value: the scalar, of its dtype.
      padding_config: ``(before, after, between)`` for each dimension; the first two can be
        negative, which cuts elements off.

    Raises:
      ArgumentError: `padding_config` does not consist of three integers each.
      ShapeError: there is not one triple for each dimension, or `padding_value` is no scalar.
      DtypeError: `padding_value` has another dtype.
    """
    x = array("pad", operand)
    value = like("pad", "padding_value", to_operand("pad", padding_value), x.aval)
    try:
        triples = (integers("padding_config", entry) for entry in padding_config)
        config = tuple((low, high, inner) for low, high, inner in triples)
    except ConcretizationError:
        raise
    except (TypeError, ValueError):
        raise ArgumentError(
            "pad: padding_config must have three integers (before, after, between) for each "
            f"dimension, got {shortened(padding_config)}"
        ) from None
    return bind_checked(slicing.pad, x, value, padding_config=config)


def concatenate(operands: Sequence[ArrayLike], dimension: int) -> Any:
    """Joined along a dimension (see `jax.lax.concatenate`).

    Args:
      operands: arrays of one dtype, and of one shape but for this dimension.
      dimension: counted from 0.

    Raises:
      ArgumentError: there are no operands.
      ShapeError: they differ apart from that, or there is no such dimension.
    """
    operands = sequence("concatenate: operands", operands)
    if not operands:
        raise ArgumentError("concatenate: at least one operand is needed")
    xs = [array("concatenate", x) for x in operands]
    dimension = integer("concatenate: dimension", dimension)
    if len(xs) == 1:
        return xs[0]
    return bind_checked(slicing.concatenate, *xs, dimension=dimension)


def stack(operands: Sequence[ArrayLike], axis: int = 0) -> Any:
    """Joined along a new dimension (see `jax.lax.stack`).

    Args:
      operands: arrays of one shape and dtype.
      axis: where the result has the new dimension; negative numbers count from the end.

    Raises:
      ArgumentError: there are no operands.
      ShapeError: they differ in shape.
    """
    operands = sequence("stack: operands", operands)
    if not operands:
        raise ArgumentError("stack: at least one operand is needed")
    xs = [array("stack", x) for x in operands]
    axis = normalize_axis("stack", axis, xs[0].ndim + 1)
    if any(x.shape != xs[0].shape for x in xs):
        raise ShapeError(
            f"stack: operands must have one shape, got {', '.join(str(x.aval) for x in xs)}"
        )
    return concatenate([expand_dims(x, (axis,)) for x in xs], axis)


def unstack(x: ArrayLike, axis: int = 0) -> tuple[Any, ...]:
    """The elements along a dimension, each without it (see `jax.lax.unstack`).

    A tuple of arrays of the same dtype, one for each place along dimension `axis`.

    Raises:
      ArgumentError: there is no such dimension.
    """
    x = array("unstack", x)
    axis = normalize_axis("unstack", axis, x.ndim)
    return tuple(index_in_dim(x, i, axis, keepdims=False) for i in range(x.shape[axis]))


def broadcast_shapes(*shapes: ShapeLike) -> Shape:
    """The shape to which these shapes broadcast (see `jax.lax.broadcast_shapes`).

    Raises:
      ShapeError: sizes differ, and none is 1.
    """
    return shaping.broadcast_shapes(*shapes)


def _dims(dims: Sequence[int]) -> tuple[int, ...]:
    return integers("dimensions", dims)
