"""Sets: the distinct elements of arrays, and what two arrays have in common.

All start from the sorted elements and a mask of those that are the first of their kind. As in
`searching`, results of unknown size need `size` where they are traced.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.options import flag, is_option
from funcdl.errors import ArgumentError
from funcdl.numpy.joining import concatenate
from funcdl.numpy.logic import isnan
from funcdl.numpy.promotion import ArrayLike, array, promote_dtypes
from funcdl.numpy.reductions import any, cumsum, normalize_axis
from funcdl.numpy.searching import choose_by_mask, places_of, refuse_traced, searchsorted
from funcdl.numpy.shaping import broadcast_to, moveaxis, ravel, reshape
from funcdl.numpy.sorting import argsort, lexsort, sort
from funcdl.ops.select import select_n
from funcdl.ops.shape import full, full_like, iota

__all__ = [
    "intersect1d",
    "isin",
    "setdiff1d",
    "setxor1d",
    "union1d",
    "unique",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
]


_BOOL = np.dtype(bool)


class UniqueAllResult(NamedTuple):
    """What `unique_all` returns."""

    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class UniqueCountsResult(NamedTuple):
    """What `unique_counts` returns."""

    values: Any
    counts: Any


class UniqueInverseResult(NamedTuple):
    """What `unique_inverse` returns."""

    values: Any
    inverse_indices: Any


def unique(
    ar: ArrayLike,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    size: int | None = None,
    fill_value: ArrayLike | None = None,
    sorted: bool = True,
) -> Any:
    """The distinct elements in order, or the distinct slices along an axis (`jax.numpy.unique`).

    Args:
      ar: the array.
      return_index: return as well where each is found first.
      return_inverse: return as well which of them each element of `ar` is.
      return_counts: return as well how often each is found.
      axis: the axis of the slices; None: elements.
      equal_nan: whether all NaN are one.
      size: how many to return. Missing ones are filled: values with `fill_value`, by default the
        first; indices with the first, counts with 0.
      fill_value: see `size`.
      sorted: has no effect, since the result is always in order.

    Raises:
      ConcretizationError: the array is traced, and there is no `size`.
    """
    return _unique(
        "unique",
        ar,
        size,
        fill_value,
        index=flag("unique: return_index", return_index),
        inverse=flag("unique: return_inverse", return_inverse),
        counts=flag("unique: return_counts", return_counts),
        axis=axis,
        equal_nan=flag("unique: equal_nan", equal_nan),
    )


def unique_all(
    x: ArrayLike, /, *, size: int | None = None, fill_value: ArrayLike | None = None
) -> UniqueAllResult:
    """`unique` with indices, inverse and counts; every NaN counts apart.

    Arguments, shapes and errors are those of `unique`. See `jax.numpy.unique_all`.
    """
    return UniqueAllResult(
        *_unique("unique_all", x, size, fill_value, index=True, inverse=True, counts=True)
    )


def unique_counts(
    x: ArrayLike, /, *, size: int | None = None, fill_value: ArrayLike | None = None
) -> UniqueCountsResult:
    """`unique` with counts; every NaN counts apart (see `jax.numpy.unique_counts`).

    Arguments, shapes and errors are those of `unique`.
    """
    return UniqueCountsResult(*_unique("unique_counts", x, size, fill_value, counts=True))


def unique_inverse(
    x: ArrayLike, /, *, size: int | None = None, fill_value: ArrayLike | None = None
) -> UniqueInverseResult:
    """`unique` with the inverse; every NaN counts apart (see `jax.numpy.unique_inverse`).

    Arguments, shapes and errors are those of `unique`.
    """
    return UniqueInverseResult(*_unique("unique_inverse", x, size, fill_value, inverse=True))


def unique_values(
    x: ArrayLike, /, *, size: int | None = None, fill_value: ArrayLike | None = None
) -> Any:
    """`unique`; every NaN counts apart (see `jax.numpy.unique_values`).

    Arguments, shapes and errors are those of `unique`.
    """
    return _unique("unique_values", x, size, fill_value)


def _unique(
    name: str,
    ar: ArrayLike,
    size: int | None,
    fill_value: ArrayLike | None,
    *,
    index: bool = False,
    inverse: bool = False,
    counts: bool = False,
    axis: int | None = None,
    equal_nan: bool = False,
) -> Any:
    ar = array(name, ar)
    axis = None if axis is None else normalize_axis(name, axis, ar.aval.ndim)
    rows = ravel(ar) if axis is None else moveaxis(ar, axis, 0)
    count = rows.aval.shape[0]
    kind = dtypes.default_dtype("i")
    if count == 0 and size:
        raise ArgumentError(
            f"{name}: size={size} elements cannot be filled from none, of {ar.aval}"
        )
    order = _sorting_order(rows)
    ordered = rows[order]
    first = _first_of_kind(ordered, equal_nan)
    if size is None:
        refuse_traced(name, "the array", ar, first)
    places, valid = places_of(name, first, size)
    values = choose_by_mask(name, ordered, first, size, fill_value)
    results = [values if axis is None else moveaxis(values, 0, axis)]
    if index:
        found = order[places]
        if valid is not None:
            found = select_n(valid, broadcast_to(found[:1], found.aval.shape), found)
        results.append(found)
    if inverse:
        ranks = cumsum(first, dtype=kind) - 1
        which = full((count,), 0, kind).at[order].set(ranks)
        results.append(reshape(which, ar.aval.shape) if axis is None else which)
    if counts:
        if valid is not None:
            places = select_n(valid, full_like(places, count), places)
        ends = concatenate([places[1:], full((min(1, places.aval.size),), count, kind)])
        if size is not None and size > 0:
            # When cut, the last kept one still ends where the next, which is left out, begins.
            more, _ = places_of(name, first, size + 1)
            total = cumsum(first, dtype=kind)[-1]
            ends = ends.at[-1].set(select_n(total > size, full((), count, kind), more[-1]))
        results.append(ends - places)
    return results[0] if len(results) == 1 else tuple(results)


def _sorting_order(rows: Any) -> Any:
    if rows.aval.ndim == 1:
        return argsort(rows)
    columns = reshape(rows, (rows.aval.shape[0], -1)) if rows.aval.size else rows
    if rows.aval.size == 0:
        kind = dtypes.default_dtype("i")
        return iota(dtype=kind, shape=(rows.aval.shape[0],), dimension=0)
    return lexsort([columns[:, i] for i in range(columns.aval.shape[1])][::-1])


def _first_of_kind(ordered: Any, equal_nan: bool) -> Any:
    """Where the elements, or rows, of a sorted array differ from the one before."""
    after, before = ordered[1:], ordered[:-1]
    differ = after != before
    if equal_nan and dtypes.is_inexact(ordered.aval.dtype):
        differ = differ & ~(isnan(after) & isnan(before))
    if ordered.aval.ndim > 1:
        differ = any(differ, axis=tuple(range(1, ordered.aval.ndim)))
    start = full((min(1, ordered.aval.shape[0]),), True, differ.aval.dtype)
    return concatenate([start, differ])


def isin(
    element: ArrayLike,
    test_elements: ArrayLike,
    assume_unique: bool = False,
    invert: bool = False,
    *,
    method: str = "auto",
) -> Any:
    """Whether each element is among others (see `jax.numpy.isin`).

    Args:
      element: the array.
      test_elements: what to look for; NaN is never found.
      assume_unique: has no effect.
      invert: whether to return the opposite.
      method: "compare_all": every pair; "binary_search" or "sort": in sorted order; "auto": the
        first for few elements.

    Returns:
      A bool array of the shape of `element`.

    Raises:
      ArgumentError: an unknown method.
    """
    invert = flag("isin: invert", invert)
    if not is_option(method, ("auto", "compare_all", "binary_search", "sort")):
        raise ArgumentError(
            f"isin: method must be 'auto', 'compare_all', 'binary_search' or 'sort', "
            f"got {shortened(method)}"
        )
    x, others = promote_dtypes("isin", element, test_elements)
    others = ravel(others)
    count = others.aval.size
    if x.aval.size == 0 or count == 0:
        found = full(x.aval.shape, False, _BOOL)
    elif method == "compare_all" or (method == "auto" and count <= 16):
        found = any(x[..., None] == others, axis=-1)
    else:
        ordered = sort(others)
        way = "sort" if method == "sort" else "scan"
        place = searchsorted(ordered, x, method=way)
        found = ordered[place] == x  # One beyond the end is the last, which differs.
    return ~found if invert else found


def union1d(
    ar1: ArrayLike, ar2: ArrayLike, *, size: int | None = None, fill_value: ArrayLike | None = None
) -> Any:
    """The distinct elements of two arrays, in order; `size` and `fill_value` as for `unique`.

    A vector in the dtype to which `ar1` and `ar2` promote. See `jax.numpy.union1d`.

    Raises:
      ConcretizationError: an operand is traced, and there is no `size`.
    """
    both = _flat_pair("union1d", ar1, ar2)
    return _unique("union1d", concatenate(both), size, fill_value, equal_nan=True)


def intersect1d(
    ar1: ArrayLike,
    ar2: ArrayLike,
    assume_unique: bool = False,
    return_indices: bool = False,
    *,
    size: int | None = None,
    fill_value: ArrayLike | None = None,
) -> Any:
    """The distinct elements that two arrays share, in order (see `jax.numpy.intersect1d`).

    Args:
      ar1, ar2: the arrays.
      assume_unique: has no effect.
      return_indices: return as well where each is found first in both.
      size, fill_value: as for `unique`; missing indices are the number of elements.

    Raises:
      ConcretizationError: an array is traced, and there is no `size`.
    """
    return_indices = flag("intersect1d: return_indices", return_indices)
    x, y = _flat_pair("intersect1d", ar1, ar2)
    order = argsort(x)
    ordered = x[order]
    mask = _first_of_kind(ordered, True) & isin(ordered, y)
    values = choose_by_mask("intersect1d", ordered, mask, size, fill_value)
    if not return_indices:
        return values
    places, valid = places_of("intersect1d", mask, size)
    other = argsort(y)
    if 0 in (x.aval.size, y.aval.size):
        empty = full(values.aval.shape, 0, order.aval.dtype)
        return values, empty, empty
    first, second = order[places], other[searchsorted(y[other], ordered[places])]
    if valid is not None:
        first = select_n(valid, full_like(first, x.aval.size), first)
        second = select_n(valid, full_like(second, y.aval.size), second)
    return values, first, second


def setdiff1d(
    ar1: ArrayLike,
    ar2: ArrayLike,
    assume_unique: bool = False,
    *,
    size: int | None = None,
    fill_value: ArrayLike | None = None,
) -> Any:
    """The distinct elements of the first array that the second lacks, in order.

    See `jax.numpy.setdiff1d`.

    Args:
      ar1, ar2: the arrays.
      assume_unique: whether `ar1` has none twice; then they stay in their order.
      size: how many to return; missing ones are `fill_value`, by default 0.
      fill_value: see `size`.

    Raises:
      ConcretizationError: an array is traced, and there is no `size`.
    """
    assume_unique = flag("setdiff1d: assume_unique", assume_unique)
    x, y = _flat_pair("setdiff1d", ar1, ar2)
    if not assume_unique:
        x = sort(x)
    mask = isin(x, y, invert=True)
    if not assume_unique:
        mask = mask & _first_of_kind(x, True)
    fill = 0 if fill_value is None else fill_value
    return choose_by_mask("setdiff1d", x, mask, size, fill)


def setxor1d(
    ar1: ArrayLike,
    ar2: ArrayLike,
    assume_unique: bool = False,
    *,
    size: int | None = None,
    fill_value: ArrayLike | None = None,
) -> Any:
    """The distinct elements that one of two arrays alone has, in order.

    Args:
      ar1, ar2: the arrays.
      assume_unique: has no effect.
      size, fill_value: as for `unique`.

    Raises:
      ConcretizationError: an array is traced, and there is no `size`.
    """
    x, y = _flat_pair("setxor1d", ar1, ar2)
    ordered = sort(concatenate([x, y]))
    in_both = isin(ordered, x) & isin(ordered, y)
    mask = _first_of_kind(ordered, True) & ~in_both
    return choose_by_mask("setxor1d", ordered, mask, size, fill_value)


def _flat_pair(name: str, x: ArrayLike, y: ArrayLike) -> tuple[Any, Any]:
    first, second = promote_dtypes(name, x, y)
    return ravel(first), ravel(second)
