"""Find elements: places of those that differ from zero, or that match a mask; binary search.

How many elements are found is part of the result's type. Without `size`, the functions here work
on known values only; with it, the result has that many elements, is cut or filled up to them, and
everything can be traced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array, shortened
from funcdl.core.avals import Shape
from funcdl.core.integers import integer
from funcdl.core.options import is_option
from funcdl.core.trace import Tracer
from funcdl.errors import ArgumentError, ConcretizationError, ShapeError
from funcdl.numpy.joining import concatenate, stack
from funcdl.numpy.logic import isnan, truth
from funcdl.numpy.promotion import ArrayLike, array, convert, promote_dtypes, refuse_out
from funcdl.numpy.reductions import cumsum, normalize_axis, sum
from funcdl.numpy.shaping import moveaxis
from funcdl.numpy.sorting import argsort
from funcdl.ops.comparison import lt
from funcdl.ops.gather import gather
from funcdl.ops.indexed_windows import GatherDimensionNumbers, GatherScatterMode
from funcdl.ops.scatter import ScatterDimensionNumbers, scatter
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_in_dim, broadcast_to, full, full_like, iota, reshape
from funcdl.ops.stop_gradient import stop_gradient

__all__ = ["argwhere", "compress", "extract", "flatnonzero", "nonzero", "searchsorted"]


def refuse_traced(name: str, what: str, x: Any, decides: Any) -> None:
    """Raise `ConcretizationError` if a result's size depends on a traced array.

    What decides on the size, a mask made of `x`, is known under `grad` alone, though `x` is traced.
    """
    if isinstance(decides, Tracer):
        raise ConcretizationError(
            f"{name}: how many elements are found would be part of the result's type, so {what} "
            f"must not be traced, got {x.aval}.\nPass size=, the number of elements of the result "
            "(it is cut or filled up to that), or use a mask: where(condition, x, y)."
        )


def mask_of(name: str, x: ArrayLike) -> Any:
    """Whether each element differs from zero; of a known array known, under a trace too."""
    x = array(name, x)
    return Array(x.value.astype(bool)) if type(x) is Array else truth(name, x)


def _flattened(mask: Any) -> Any:
    if type(mask) is Array:
        return Array(mask.value.reshape(-1))
    return reshape(mask, new_sizes=(mask.aval.size,))


def places_of(name: str, mask: Any, size: int | None) -> tuple[Any, Any]:
    """Where a one-dimensional mask is true, and which of these places are meant.

    Without `size` that is all of them (None). With it, there are `size` places; those beyond the
    number of true elements are 0.
    """
    kind = dtypes.default_dtype("i")
    if size is None:
        refuse_traced(name, "the array", mask, mask)
        return Array(np.flatnonzero(mask.value).astype(kind)), None
    size = integer("size", size)
    if size < 0:
        raise ArgumentError(f"{name}: size must not be negative, got {size}")
    if size == 0:
        return full((0,), 0, kind), full((0,), False, np.dtype(bool))
    count = mask.aval.shape[0]
    target = sum(mask, dtype=kind)
    # Each true element writes its own place where the running count says; the others write beyond.
    order = cumsum(mask, dtype=kind)
    slots = select_n(mask, full_like(order, size), order - 1)
    places = scatter(
        full((size,), 0, kind),
        reshape(slots, new_sizes=(count, 1)),
        iota(dtype=kind, shape=(count,), dimension=0),
        dimension_numbers=ScatterDimensionNumbers((), (0,), (0,)),
        indices_are_sorted=False,
        unique_indices=False,
        mode=GatherScatterMode.FILL_OR_DROP,
    )
    return places, lt(iota(dtype=kind, shape=(size,), dimension=0), broadcast_to(target, (size,)))


def choose_by_mask(
    name: str, x: Any, mask: Any, size: int | None, fill_value: ArrayLike | None
) -> Any:
    """The rows of an array where a mask is true; in place of missing ones `fill_value`.

    Without a fill value, the first of the rows that are found.
    """
    places, valid = places_of(name, mask, size)
    if valid is None:
        return x[places]
    if x.aval.shape[0] == 0:
        return full((size or 0, *x.aval.shape[1:]), 0, x.aval.dtype)
    found = x[places]
    fill = found[:1] if fill_value is None else convert(array(name, fill_value), x.aval.dtype)
    valid = broadcast_in_dim(valid, shape=found.aval.shape, broadcast_dimensions=(0,))
    return select_n(valid, broadcast_to(fill, found.aval.shape), found)


def nonzero(
    a: ArrayLike, *, size: int | None = None, fill_value: ArrayLike | tuple[Any, ...] | None = None
) -> tuple[Any, ...]:
    """The places of elements that differ from zero: one index array for each dimension.

    See `jax.numpy.nonzero`.

    Args:
      a: the array.
      size: how many places to return, those that come first in row-major order.
      fill_value: what stands for missing places, if there are fewer: one number, or one for each
        dimension; by default 0.

    Raises:
      ConcretizationError: the array is traced, and there is no `size`.
      ShapeError: the array has no dimensions.
    """
    return find_nonzero("nonzero", a, size, fill_value)


def find_nonzero(name: str, a: ArrayLike, size: int | None, fill_value: Any) -> tuple[Any, ...]:
    """`nonzero` for errors with another name."""
    mask = mask_of(name, a)
    if mask.aval.ndim == 0:
        raise ShapeError(
            f"{name}: a scalar has no places; use {name}(atleast_1d(x)), got {mask.aval}"
        )
    if size is None:
        refuse_traced(name, "the array", a, mask)
        kind = dtypes.default_dtype("i")
        return tuple(Array(d.astype(kind)) for d in np.nonzero(mask.value))
    shape = mask.aval.shape
    flat, valid = places_of(name, _flattened(mask), size)
    fills = fill_value if isinstance(fill_value, tuple) else (fill_value,) * len(shape)
    if len(fills) != len(shape):
        raise ArgumentError(
            f"{name}: fill_value must be one number, or one for each of {len(shape)} dimensions, "
            f"got {shortened(fill_value)}"
        )
    return tuple(
        select_n(valid, _fill(name, fill, index), index)
        for fill, index in zip(fills, _unravelled(flat, shape), strict=True)
    )


def _fill(name: str, value: ArrayLike | None, like: Any) -> Any:
    if value is None:
        return full_like(like, 0)
    return broadcast_to(convert(array(name, value), like.aval.dtype), like.aval.shape)


def _unravelled(flat: Any, shape: Shape) -> list[Any]:
    """Places in row-major order as indices along each dimension."""
    parts = []
    for size in reversed(shape[1:]):
        size = max(size, 1)
        parts.append(flat % size)
        flat = flat // size
    return [flat, *reversed(parts)]


def flatnonzero(
    a: ArrayLike, *, size: int | None = None, fill_value: ArrayLike | None = None
) -> Any:
    """The row-major places of elements that differ from zero; see `nonzero`.

    A vector of integers. See `jax.numpy.flatnonzero`.
    """
    mask = mask_of("flatnonzero", a)
    if size is None:
        refuse_traced("flatnonzero", "the array", a, mask)
    return find_nonzero("flatnonzero", _flattened(mask), size, fill_value)[0]


def argwhere(a: ArrayLike, *, size: int | None = None, fill_value: ArrayLike | None = None) -> Any:
    """The places of elements that differ from zero: a row of indices for each; see `nonzero`.

    An integer array of shape ``(count, a.ndim)``. See `jax.numpy.argwhere`.
    """
    a = array("argwhere", a)
    fill: Any = fill_value
    if isinstance(fill, Sequence) or np.shape(fill):
        fill = tuple(fill)
    if a.aval.ndim == 0:
        return stack(find_nonzero("argwhere", a[None], size, fill), axis=1)[:, :0]
    return stack(find_nonzero("argwhere", a, size, fill), axis=1)


def compress(
    condition: ArrayLike,
    a: ArrayLike,
    axis: int | None = None,
    *,
    size: int | None = None,
    fill_value: ArrayLike = 0,
    out: None = None,
) -> Any:
    """The slices of an array where a condition is true (see `jax.numpy.compress`).

    Args:
      condition: one-dimensional; elements that it lacks count as false.
      a: the array.
      axis: the axis that the condition runs along; None: all elements in row-major order.
      size, fill_value: how many slices to return, and what stands for missing ones.
      out: must be None.

    Raises:
      ConcretizationError: the condition is traced, and there is no `size`.
      ShapeError: the condition is no vector, or longer than the axis.
    """
    refuse_out("compress", out)
    return _compressed("compress", condition, a, axis, size, fill_value)


def extract(
    condition: ArrayLike, arr: ArrayLike, *, size: int | None = None, fill_value: ArrayLike = 0
) -> Any:
    """The elements where a condition of the array's size is true; see `compress`.

    `arr` is read in row-major order; the result is a vector of its dtype. See `jax.numpy.extract`.
    """
    mask = _flattened(mask_of("extract", condition))
    return _compressed("extract", mask, arr, None, size, fill_value)


def _compressed(
    name: str,
    condition: ArrayLike,
    a: ArrayLike,
    axis: int | None,
    size: int | None,
    fill_value: ArrayLike,
) -> Any:
    mask, a = mask_of(name, condition), array(name, a)
    if axis is None:
        a, axis = reshape(a, new_sizes=(a.aval.size,)), 0
    axis = normalize_axis(name, axis, a.aval.ndim)
    length = a.aval.shape[axis]
    if mask.aval.ndim != 1 or mask.aval.shape[0] > length:
        raise ShapeError(
            f"{name}: the condition must be a vector of at most {length} elements, got {mask.aval}"
        )
    rows = moveaxis(a, axis, 0)[: mask.aval.shape[0]]
    return moveaxis(choose_by_mask(name, rows, mask, size, fill_value), 0, axis)


def searchsorted(
    a: ArrayLike,
    v: ArrayLike,
    side: str = "left",
    sorter: ArrayLike | None = None,
    *,
    method: str = "scan",
) -> Any:
    """Where each value belongs in a sorted vector (see `jax.numpy.searchsorted`).

    Args:
      a: a sorted vector; NaN comes last.
      v: the values, of any shape, which the result has too.
      side: "left": the first place that keeps the order; "right": the last.
      sorter: the permutation that sorts `a`, if it is not sorted.
      method: "scan" or "scan_unrolled": binary search; "sort": by sorting `a` and `v` together;
        "compare_all": every value with every element.

    Raises:
      ShapeError: `a` or `sorter` is no vector.
      ArgumentError: an unknown side or method.
    """
    if not is_option(side, ("left", "right")):
        raise ArgumentError(f"searchsorted: side must be 'left' or 'right', got {shortened(side)}")
    if not is_option(method, _METHODS):
        raise ArgumentError(
            f"searchsorted: method must be one of {', '.join(map(repr, _METHODS))}, "
            f"got {shortened(method)}"
        )
    a, v = promote_dtypes("searchsorted", a, v)
    if a.aval.ndim != 1:
        raise ShapeError(f"searchsorted: a must be a vector, got {a.aval}")
    if sorter is not None:
        order = array("searchsorted", sorter)
        if order.aval.ndim != 1:
            raise ShapeError(f"searchsorted: sorter must be a vector, got {order.aval}")
        a = a[order]
    if a.aval.shape[0] == 0 or v.aval.size == 0:
        return full(v.aval.shape, 0, dtypes.default_dtype("i"))
    return _METHODS[method](a, v, side)


def _precedes(x: Any, y: Any) -> Any:
    """``x < y``, where NaN comes last, and complex numbers are ordered as sorting does."""
    if dtypes.is_complex(x.aval.dtype):
        real, imag = (x.real, y.real), (x.imag, y.imag)
        return _precedes(*real) | (~_precedes(*real[::-1]) & _precedes(*imag))
    below = x < y
    return below | (~isnan(x) & isnan(y)) if dtypes.is_float(x.aval.dtype) else below


def _goes_on(element: Any, value: Any, side: str) -> Any:
    """Whether a value belongs behind an element."""
    return _precedes(element, value) if side == "left" else ~_precedes(value, element)


def _compare_all(a: Any, v: Any, side: str) -> Any:
    return sum(_goes_on(a, v[..., None], side), axis=-1, dtype=dtypes.default_dtype("i"))


def _bisect(a: Any, v: Any, side: str) -> Any:
    """Binary search without branches: all values take the same steps.

    Only the start of a value's range is kept. Its length depends on the step alone: half of the
    former one, rounded up, so that it may hold elements that are known not to precede the value.
    """
    a, v = stop_gradient(a), stop_gradient(v)
    left = a.aval.shape[0]
    # Narrow places fill vectors best, whatever the dtype of the result.
    narrow = left <= np.iinfo(np.int32).max
    low = full(v.aval.shape, 0, np.dtype(np.int32 if narrow else np.int64))
    while left > 0:
        skipped = (left + 1) // 2
        if left < 128:
            # One step leaves 2^n - 1 elements, and all that follow compare with new ones. Were an
            # element met twice, gcc would make a branch of the second time.
            skipped = left + 1 - (1 << left.bit_length() - 1)
        behind = low + skipped
        low = select_n(_goes_on(_element(a, behind - 1), v, side), low, behind)
        left -= skipped
    return convert(low, dtypes.default_dtype("i"))


def _element(a: Any, places: Any) -> Any:
    """``a[places]`` of a vector, for places that are known to be inside."""
    return gather(
        a,
        reshape(places, new_sizes=(*places.aval.shape, 1)),
        dimension_numbers=GatherDimensionNumbers((), (0,), (0,)),
        slice_sizes=(1,),
        indices_are_sorted=False,
        unique_indices=False,
        mode=GatherScatterMode.PROMISE_IN_BOUNDS,
        fill_value=None,
    )


def _by_sorting(a: Any, v: Any, side: str) -> Any:
    flat = reshape(v, new_sizes=(v.aval.size,))
    # The sort is stable: what comes first among equals decides the side.
    parts = [flat, a] if side == "left" else [a, flat]
    order = argsort(concatenate(parts))
    size, count = a.aval.shape[0], flat.aval.shape[0]
    from_a = order >= count if side == "left" else order < size
    before = cumsum(from_a, dtype=dtypes.default_dtype("i"))
    ranks = full((size + count,), 0, before.aval.dtype).at[order].set(before)
    own = ranks[:count] if side == "left" else ranks[size:]
    return reshape(own, new_sizes=v.aval.shape)


_METHODS: dict[str, Any] = {
    "scan": _bisect,
    "scan_unrolled": _bisect,
    "sort": _by_sorting,
    "compare_all": _compare_all,
}
