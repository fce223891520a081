"""Reductions of rows by the segment that each belongs to, with the names of `jax.ops`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array, as_array
from funcdl.core.integers import integer
from funcdl.core.options import flag
from funcdl.core.primitive import Primitive
from funcdl.errors import ArgumentError, ConcretizationError, DtypeError, ShapeError
from funcdl.ops.convert import convert_element_type
from funcdl.ops.indexed_windows import GatherScatterMode
from funcdl.ops.reduction import (
    extreme_identity,
    reduce_max,
    reduce_min,
    reduce_prod,
    reduce_sum,
)
from funcdl.ops.scatter import (
    ScatterDimensionNumbers,
    scatter_add,
    scatter_max,
    scatter_min,
    scatter_mul,
)
from funcdl.ops.shape import full, reshape
from funcdl.ops.slicing import concatenate

__all__ = ["segment_max", "segment_min", "segment_prod", "segment_sum"]

Mode = str | GatherScatterMode | None


def segment_sum(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    bucket_size: int | None = None,
    mode: Mode = None,
) -> Any:
    """Sums of the rows of each segment (see `jax.ops.segment_sum`); 0 where there are none.

    Args:
      data: an array ``[n, ...]``.
      segment_ids: integers ``[n]``: the segment of each row, in any order.
      num_segments: how many segments there are; by default one more than the largest id, which
        must then be known.
      indices_are_sorted, unique_indices: promises about the ids that can make it faster.
      bucket_size: reduce so many rows at a time and then the results, which takes memory for each
        bucket, and rounds less.
      mode: what becomes of rows whose id is negative or too large: ``"drop"`` (the default) leaves
        them out, ``"clip"`` moves them to the nearest segment; ``"promise_in_bounds"`` is a promise
        that there are none.

    Returns:
      ``[num_segments, ...]``, of the dtype of `data`.

    Raises:
      ShapeError: `segment_ids` is no vector with an id for each row.
      DtypeError: the ids are no integers, or the data of a sum or product bools.
      ArgumentError: `num_segments` is negative, `bucket_size` not positive, or `mode` unknown.
      ConcretizationError: the ids are traced, and there is no `num_segments`.
    """
    return _segments(
        "segment_sum",
        data,
        segment_ids,
        num_segments,
        indices_are_sorted,
        unique_indices,
        bucket_size,
        mode,
    )


def segment_prod(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    bucket_size: int | None = None,
    mode: Mode = None,
) -> Any:
    """Products of the rows of each segment; 1 where there are none. Otherwise as `segment_sum`."""
    return _segments(
        "segment_prod",
        data,
        segment_ids,
        num_segments,
        indices_are_sorted,
        unique_indices,
        bucket_size,
        mode,
    )


def segment_max(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    bucket_size: int | None = None,
    mode: Mode = None,
) -> Any:
    """The largest elements of each segment; the least number of the dtype where there are none.

    That is minus infinity for floats. Otherwise as `segment_sum`.
    """
    return _segments(
        "segment_max",
        data,
        segment_ids,
        num_segments,
        indices_are_sorted,
        unique_indices,
        bucket_size,
        mode,
    )


def segment_min(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    bucket_size: int | None = None,
    mode: Mode = None,
) -> Any:
    """The least elements of each segment; the largest number of the dtype where there are none.

    That is infinity for floats. Otherwise as `segment_sum`.
    """
    return _segments(
        "segment_min",
        data,
        segment_ids,
        num_segments,
        indices_are_sorted,
        unique_indices,
        bucket_size,
        mode,
    )


# What puts a row into its segment, what reduces the results of buckets, what an empty one is.
_KINDS: dict[str, tuple[Primitive, Primitive, Callable[[np.dtype[Any]], Any]]] = {
    "segment_sum": (scatter_add, reduce_sum, lambda dtype: dtype.type(0)),
    "segment_prod": (scatter_mul, reduce_prod, lambda dtype: dtype.type(1)),
    "segment_max": (scatter_max, reduce_max, lambda dtype: extreme_identity(dtype, lowest=True)),
    "segment_min": (scatter_min, reduce_min, lambda dtype: extreme_identity(dtype, lowest=False)),
}


def _segments(
    name: str,
    data: Any,
    segment_ids: Any,
    num_segments: int | None,
    indices_are_sorted: bool,
    unique_indices: bool,
    bucket_size: int | None,
    mode: Mode,
) -> Any:
    update, reduction, identity = _KINDS[name]
    data, ids = as_array(data), as_array(segment_ids)
    if not dtypes.is_integer(ids.aval.dtype):
        raise DtypeError(f"{name}: segment_ids must be integers, got {ids.aval}")
    if data.aval.ndim == 0 or ids.aval.shape != data.aval.shape[:1]:
        raise ShapeError(
            f"{name}: segment_ids must be a vector with an id for each row of data, got {ids.aval} "
            f"for data {data.aval}; vmap maps over leading dimensions of both"
        )
    if dtypes.is_bool(data.aval.dtype) and reduction in (reduce_sum, reduce_prod):
        raise DtypeError(
            f"{name}: data must be numbers, got {data.aval}; segment_max and segment_min tell of "
            "bools whether any and whether all are true"
        )
    if bucket_size is not None and integer(f"{name}: bucket_size", bucket_size) < 1:
        raise ArgumentError(f"{name}: bucket_size must be positive, got {bucket_size}")
    count = _count(name, ids, num_segments)
    rows, *inner = data.aval.shape
    dtype = data.aval.dtype
    if count == 0 or rows == 0:
        return full((count, *inner), identity(dtype), dtype)
    vectors = reshape(_signed(ids), new_sizes=(rows, 1))
    buckets: tuple[int, ...] = ()
    if bucket_size is not None:
        buckets = (-(-rows // bucket_size),)
        places = np.arange(rows, dtype=vectors.aval.dtype)[:, None] // bucket_size
        vectors = concatenate(Array(places), vectors, dimension=1)
    depth = len(buckets) + 1
    out = update(
        full((*buckets, count, *inner), identity(dtype), dtype),
        vectors,
        data,
        dimension_numbers=ScatterDimensionNumbers(
            tuple(range(1, data.aval.ndim)), tuple(range(depth)), tuple(range(depth))
        ),
        indices_are_sorted=flag(f"{name}: indices_are_sorted", indices_are_sorted),
        unique_indices=flag(f"{name}: unique_indices", unique_indices),
        mode=GatherScatterMode.from_any(mode),
    )
    return reduction(out, axes=(0,)) if buckets else out


def _count(name: str, ids: Any, num_segments: int | None) -> int:
    if num_segments is not None:
        count = integer("num_segments", num_segments)
        if count < 0:
            raise ArgumentError(f"{name}: num_segments must not be negative, got {count}")
        return count
    if type(ids) is not Array:
        raise ConcretizationError(
            f"{name}: the number of segments is part of the result's type, and segment_ids are "
            f"traced ({ids.aval}); pass num_segments"
        )
    return max(int(ids.value.max(initial=-1)) + 1, 0)


def _signed(ids: Any) -> Any:
    """The ids in a dtype that a scatter takes."""
    dtype = ids.aval.dtype
    wide = dtype.itemsize == 8 or (dtype.itemsize == 4 and dtypes.is_unsigned(dtype))
    new = dtypes.canonicalize(np.dtype(np.int64 if wide else np.int32))
    return ids if dtype == new else convert_element_type(ids, new_dtype=new, weak_type=False)
