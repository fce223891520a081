"""Put arrays together, take them apart, repeat and pad them."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from funcdl.core.array import ArrayOperators
from funcdl.core.compound import by_parts
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy import promotion
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.indexing import take
from funcdl.numpy.promotion import ArrayLike, array, convert, promote_dtypes, refuse_out, strong
from funcdl.numpy.reductions import normalize_axis
from funcdl.numpy.shaping import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    cut_axis,
    expand_dims,
    ravel,
    reshape,
)
from funcdl.ops import slicing
from funcdl.ops.shape import broadcast_in_dim

__all__ = [
    "append",
    "array_split",
    "block",
    "column_stack",
    "concat",
    "concatenate",
    "dsplit",
    "dstack",
    "hsplit",
    "hstack",
    "pad",
    "repeat",
    "split",
    "stack",
    "tile",
    "unstack",
    "vsplit",
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
        raise ShapeError("concatenate: scalars have no dimension to join along; use stack")
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
    """Arrays of one shape joined along a new dimension.

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


def unstack(x: ArrayLike, /, *, axis: int = 0) -> tuple[Any, ...]:
    """The parts of an array along a dimension, without that dimension."""
    x = array("unstack", x)
    axis = normalize_axis("unstack", axis, x.ndim)
    shape = x.aval.shape[:axis] + x.aval.shape[axis + 1 :]
    return tuple(reshape(cut_axis(x, axis, i, i + 1), shape) for i in range(x.aval.shape[axis]))


def vstack(tup: Sequence[ArrayLike], dtype: DTypeLike = None) -> Any:
    """Arrays on top of each other: joined along the first dimension, vectors being rows."""
    return concatenate([atleast_2d(x) for x in tup], 0, dtype)


def hstack(tup: Sequence[ArrayLike], dtype: DTypeLike = None) -> Any:
    """Arrays beside each other: joined along the second dimension, vectors along their only one."""
    parts = [atleast_1d(x) for x in tup]
    return concatenate(parts, 0 if parts and parts[0].ndim == 1 else 1, dtype)


def dstack(tup: Sequence[ArrayLike], dtype: DTypeLike = None) -> Any:
    """Arrays behind each other: joined along the third dimension."""
    return concatenate([atleast_3d(x) for x in tup], 2, dtype)


def column_stack(tup: Sequence[ArrayLike]) -> Any:
    """Vectors as the columns of a matrix; matrices beside each other."""
    columns = [array("column_stack", x) for x in tup]
    return concatenate([reshape(x, (-1, 1)) if x.ndim < 2 else x for x in columns], 1)


def append(arr: ArrayLike, values: ArrayLike, axis: int | None = None) -> Any:
    """Two arrays joined along an axis; None: all their elements in one dimension."""
    return concatenate([arr, values], axis)


def block(arrays: Any) -> Any:
    """An array of blocks: nested lists are joined, the innermost along the last dimension.

    Raises:
      ArgumentError: a list is empty, or lists have different depths.
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


Places = int | Sequence[int] | Any
"""A number of parts, or a sequence or vector of the places to cut at."""


def split(ary: ArrayLike, indices_or_sections: Places, axis: int = 0) -> list[Any]:
    """An array cut along an axis (see `numpy.split`).

    Args:
      ary: the array.
      indices_or_sections: the number of equal parts, or the places to cut at.
      axis: the dimension.

    Raises:
      ArgumentError: the array cannot be cut in that many equal parts.
    """
    ary = array("split", ary)
    axis = normalize_axis("split", axis, ary.ndim)
    size = ary.aval.shape[axis]
    parts = _parts_or_places(indices_or_sections)
    if isinstance(parts, int) and (parts <= 0 or size % parts):
        raise ArgumentError(
            f"split: axis {axis} of {ary.aval} cannot be cut in {parts} equal parts; use "
            "array_split, or give the places to cut at"
        )
    return array_split(ary, indices_or_sections, axis)


def array_split(ary: ArrayLike, indices_or_sections: Places, axis: int = 0) -> list[Any]:
    """As `split`; parts may differ in size by one, the larger ones first."""
    ary = array("array_split", ary)
    axis = normalize_axis("array_split", axis, ary.ndim)
    size = ary.aval.shape[axis]
    parts = _parts_or_places(indices_or_sections)
    if isinstance(parts, list):
        # Places are those of a Python slice: negative ones count from the end.
        bounds = list(zip([0, *parts], [*parts, size], strict=True))
    else:
        if parts <= 0:
            raise ArgumentError(f"array_split: at least one part is needed, got {parts}")
        small, larger = divmod(size, parts)
        ends = [i * small + min(i, larger) for i in range(parts + 1)]
        bounds = list(itertools.pairwise(ends))
    results = []
    for start, limit in bounds:
        first, last, _ = slice(start, limit).indices(size)
        results.append(cut_axis(ary, axis, first, max(first, last)))
    return results


def _parts_or_places(x: Any) -> int | list[int]:
    """The number of parts, or the places to cut at."""
    if isinstance(x, Sequence) or getattr(x, "ndim", 0) == 1:
        return [operator.index(place) for place in x]
    return operator.index(x)


def vsplit(ary: ArrayLike, indices_or_sections: Places) -> list[Any]:
    """`split` along the first dimension."""
    return split(_at_least("vsplit", ary, 2), indices_or_sections, 0)


def hsplit(ary: ArrayLike, indices_or_sections: Places) -> list[Any]:
    """`split` along the second dimension, of vectors along their only one."""
    x = _at_least("hsplit", ary, 1)
    return split(x, indices_or_sections, 0 if x.ndim == 1 else 1)


def dsplit(ary: ArrayLike, indices_or_sections: Places) -> list[Any]:
    """`split` along the third dimension."""
    return split(_at_least("dsplit", ary, 3), indices_or_sections, 2)


def _at_least(name: str, ary: ArrayLike, ndim: int) -> Any:
    x = array(name, ary)
    if x.ndim < ndim:
        raise ShapeError(
            f"{name}: {ndim} dimension{'s' * (ndim > 1)} at least are needed, got {x.aval}"
        )
    return x


@by_parts
def tile(A: ArrayLike, reps: int | Sequence[int]) -> Any:
    """The whole array repeated, `reps` times along each dimension (see `numpy.tile`)."""
    A = array("tile", A)
    times = [operator.index(n) for n in (reps if isinstance(reps, Sequence) else (reps,))]
    ndim = max(len(times), A.ndim)
    times = [1] * (ndim - len(times)) + times
    shape = (1,) * (ndim - A.ndim) + A.aval.shape
    both = tuple(size for pair in zip(times, shape, strict=True) for size in pair)
    kept = tuple(2 * (ndim - A.ndim + d) + 1 for d in range(A.ndim))
    repeated = broadcast_in_dim(A, shape=both, broadcast_dimensions=kept)
    return reshape(repeated, tuple(n * size for n, size in zip(times, shape, strict=True)))


@by_parts
def repeat(
    a: ArrayLike,
    repeats: int | Sequence[int] | Any,
    axis: int | None = None,
    *,
    total_repeat_length: int | None = None,
) -> Any:
    """Each element repeated in place (see `numpy.repeat`).

    Args:
      a: the array.
      repeats: how many times: one number, or one for each element along `axis`. Concrete, since
        the size of the result depends on it.
      axis: the dimension; None: all elements in row-major order.
      total_repeat_length: the size of the result along `axis`, which must be what it would be.

    Raises:
      ArgumentError: `repeats` is negative or does not fit.
    """
    a = array("repeat", a)
    if axis is None:
        a, axis = ravel(a), 0
    axis = normalize_axis("repeat", axis, a.ndim)
    size = a.aval.shape[axis]
    times = np.asarray(repeats)
    if times.ndim > 1 or (times.ndim == 1 and times.size not in (1, size)) or (times < 0).any():
        raise ArgumentError(
            f"repeat: repeats must be a number >= 0, or one for each of the {size} elements along "
            f"axis {axis}, got {repeats!r}"
        )
    length = int(times.sum()) if times.size == size else int(times.reshape(())) * size
    if total_repeat_length not in (None, length):
        raise ArgumentError(
            f"repeat: total_repeat_length={total_repeat_length} differs from the {length} elements "
            "that repeats makes"
        )
    if times.size == 1:
        count = int(times.reshape(()))
        shape = a.aval.shape
        wide = (*shape[: axis + 1], count, *shape[axis + 1 :])
        kept = tuple(d + (d > axis) for d in range(a.ndim))
        repeated = broadcast_in_dim(a, shape=wide, broadcast_dimensions=kept)
        return reshape(repeated, (*shape[:axis], size * count, *shape[axis + 1 :]))
    return take(a, np.repeat(np.arange(size), times), axis)


def pad(
    array: ArrayLike,
    pad_width: Any,
    mode: str = "constant",
    **kwargs: Any,
) -> Any:
    """Elements added around an array (see `numpy.pad`).

    Args:
      array: the array.
      pad_width: how many: one number, ``(before, after)``, or such a pair for each dimension.
      mode: "constant", "edge", "reflect", "symmetric" or "wrap".
      constant_values: for "constant": one scalar, by default 0, or in the form of `pad_width`.

    Raises:
      ArgumentError: an unknown mode, or a width that is negative or too large for the mode.
    """
    x = promotion.array("pad", array)
    widths = _widths(pad_width, x.ndim)
    if mode == "constant":
        values = kwargs.pop("constant_values", 0)
        _no_more(kwargs)
        return _pad_constant(x, widths, values)
    _no_more(kwargs)
    if mode not in _NUMPY_MODES:
        raise ArgumentError(
            f"pad: mode must be 'constant' or one of {', '.join(map(repr, _NUMPY_MODES))}, got "
            f"{mode!r}"
        )
    for axis, (low, high) in enumerate(widths):
        if low or high:
            size = x.aval.shape[axis]
            if size == 0:
                raise ArgumentError(f"pad: axis {axis} of {x.aval} has no elements to repeat")
            numpy_mode: Any = mode
            x = take(x, np.pad(np.arange(size), (low, high), numpy_mode), axis)
    return x


_NUMPY_MODES = ("edge", "reflect", "symmetric", "wrap")


def _no_more(kwargs: Mapping[str, Any]) -> None:
    if kwargs:
        raise ArgumentError(f"pad: unexpected arguments for this mode: {', '.join(kwargs)}")


def _widths(pad_width: Any, ndim: int) -> list[tuple[int, int]]:
    if isinstance(pad_width, dict):
        pad_width = [pad_width.get(d, pad_width.get(d - ndim, 0)) for d in range(ndim)]
        pad_width = [(w, w) if isinstance(w, int) else w for w in pad_width]
    try:
        pairs = np.broadcast_to(np.asarray(pad_width, dtype=object), (ndim, 2)).tolist()
        widths = [(operator.index(low), operator.index(high)) for low, high in pairs]
    except (TypeError, ValueError):
        raise ArgumentError(
            f"pad: pad_width must be an integer, a pair, or a pair for each of {ndim} dimensions, "
            f"got {pad_width!r}"
        ) from None
    if any(width < 0 for pair in widths for width in pair):
        raise ArgumentError(f"pad: widths must not be negative, got {pad_width!r}")
    return widths


def _pad_constant(x: Any, widths: list[tuple[int, int]], values: Any) -> Any:
    dtype = x.aval.dtype
    if not isinstance(values, Sequence | np.ndarray):
        fill = convert(array("pad", values), dtype, x.aval.weak_type)
        config = tuple((low, high, 0) for low, high in widths)
        return slicing.pad(x, fill, padding_config=config)
    each = np.broadcast_to(np.asarray(values), (x.ndim, 2))
    for axis, (low, high) in enumerate(widths):
        for width, side in ((low, 0), (high, 1)):
            config = tuple(
                ((width, 0, 0), (0, width, 0))[side] if d == axis else (0, 0, 0)
                for d in range(x.ndim)
            )
            fill = convert(each[axis, side].item(), dtype, x.aval.weak_type)
            x = slicing.pad(x, fill, padding_config=config)
    return x
