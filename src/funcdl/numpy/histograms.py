"""Count elements by value: bincount, digitize, histograms of one and more dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.integers import integer
from funcdl.core.options import flag, sequence
from funcdl.core.trace import Tracer
from funcdl.errors import ArgumentError, ConcretizationError, DtypeError, ShapeError
from funcdl.numpy import reductions
from funcdl.numpy.arithmetic import clip
from funcdl.numpy.creation import asarray
from funcdl.numpy.indexing import where
from funcdl.numpy.joining import stack
from funcdl.numpy.promotion import (
    ArrayLike,
    array,
    convert,
    operand,
    promote_dtypes,
    promote_inexact,
)
from funcdl.numpy.ranges import linspace
from funcdl.numpy.searching import searchsorted
from funcdl.numpy.shaping import ndim, ravel, reshape
from funcdl.ops.shape import full, full_like

__all__ = [
    "bincount",
    "digitize",
    "histogram",
    "histogram2d",
    "histogram_bin_edges",
    "histogramdd",
]


def bincount(
    x: ArrayLike,
    weights: ArrayLike | None = None,
    minlength: int = 0,
    *,
    length: int | None = None,
) -> Any:
    """How often each of 0, 1, 2, ... is found (see `jax.numpy.bincount`).

    Args:
      x: a vector of integers; negative ones count as 0.
      weights: what each element counts; by default 1.
      minlength: the least size of the result.
      length: the size of the result, needed where `x` is traced; larger elements are left out.

    Raises:
      DtypeError: `x` holds no integers.
      ShapeError: `x` is no vector, or the weights have another shape.
      ConcretizationError: `x` is traced, and there is no `length`.
      ArgumentError: `minlength` is negative.
    """
    x = array("bincount", x)
    if not dtypes.is_integer(x.aval.dtype):
        raise DtypeError(f"bincount: x must hold integers, got {x.aval}; use .astype(int)")
    if x.aval.ndim != 1:
        raise ShapeError(f"bincount: x must be a vector, got {x.aval}; use x.ravel()")
    minlength = integer("minlength", minlength)
    if minlength < 0:
        raise ArgumentError(f"bincount: minlength must not be negative, got {minlength}")
    length = None if length is None else integer("bincount: length", length)
    if length is not None and length < 0:
        raise ArgumentError(f"bincount: length must not be negative, got {length}")
    if length is None:
        if isinstance(x, Tracer):
            raise ConcretizationError(
                "bincount: the largest element decides the size of the result, so x must not be "
                f"traced, got {x.aval}.\nPass length=, the size of the result."
            )
        length = max(minlength, int(x.value.max()) + 1 if x.aval.size else 0)
    if weights is None:
        counted: Any = full(x.aval.shape, 1, dtypes.default_dtype("i"))
    else:
        counted = array("bincount", weights)
        if counted.aval.shape != x.aval.shape:
            raise ShapeError(
                f"bincount: weights must have the shape of x, {x.aval.shape}, got {counted.aval}"
            )
    counts = full((length,), 0, counted.aval.dtype)
    return counts.at[clip(x, 0)].add(counted, mode="drop")


def digitize(
    x: ArrayLike, bins: ArrayLike, right: bool = False, *, method: str | None = None
) -> Any:
    """The bin that each element falls into: how many edges are behind it (`numpy.digitize`).

    Args:
      x: the array.
      bins: the edges, a vector that rises or falls.
      right: whether a bin includes its right edge, rather than its left one.
      method: as for `searchsorted`.

    Raises:
      ShapeError: `bins` is no vector.
    """
    right = flag("digitize: right", right)
    method = "scan" if method is None else method
    x, bins = promote_dtypes("digitize", x, bins)
    if bins.aval.ndim != 1:
        raise ShapeError(f"digitize: bins must be a vector, got {bins.aval}")
    count = bins.aval.shape[0]
    if count == 0:
        return full(x.aval.shape, 0, dtypes.default_dtype("i"))
    rises = bins[-1] >= bins[0]
    rising = where(rises, bins, bins[::-1])
    places = searchsorted(rising, x, "left" if right else "right", method=method)
    return where(rises, places, count - places)


def histogram_bin_edges(
    a: ArrayLike,
    bins: ArrayLike = 10,
    range: Sequence[ArrayLike] | None = None,
    weights: ArrayLike | None = None,
) -> Any:
    """The edges of a histogram's bins (see `jax.numpy.histogram_bin_edges`).

    Args:
      a: the array.
      bins: how many bins of equal width; or the edges, which are returned.
      range: the first and the last edge, by default the least and the largest element.
      weights: has no effect.

    Returns:
      A float array of shape ``(bins + 1,)``, or the edges that were given.

    Raises:
      ArgumentError: `bins` names a rule, which would look at the values.
    """
    return _edges("histogram_bin_edges", a, bins, range)


def _edges(name: str, a: ArrayLike, bins: Any, range: Any) -> Any:
    if isinstance(bins, str):
        raise ArgumentError(
            f"{name}: bins must be a number or an array of edges, "
            f"got {shortened(bins)}: rules choose a "
            "number by the values, and the result's size cannot depend on these"
        )
    (a,) = promote_inexact(name, a)
    if ndim(_data(bins)) == 1:
        edges = asarray(bins)
        return edges if dtypes.is_inexact(edges.aval.dtype) else edges.astype(a.aval.dtype)
    count = integer("bins", bins)
    if count < 1:
        raise ArgumentError(f"{name}: bins must be at least 1, got {count}")
    if range is not None:
        if ndim(_data(range)) != 1 or len(range) != 2:
            raise ArgumentError(f"{name}: range must be a pair (low, high), got {shortened(range)}")
        low, high = (convert(operand(name, bound), a.aval.dtype) for bound in range)
    elif a.aval.size:
        low, high = reductions.min(a), reductions.max(a)
    else:
        low, high = full((), 0, a.aval.dtype), full((), 1, a.aval.dtype)
    # A single value gets bins around it.
    half = where(low == high, 0.5, 0.0)
    return linspace(low - half, high + half, count + 1, dtype=a.aval.dtype)


def _data(x: Any) -> Any:
    return asarray(x) if isinstance(x, list | tuple) else x


def histogram(
    a: ArrayLike,
    bins: ArrayLike = 10,
    range: Sequence[ArrayLike] | None = None,
    weights: ArrayLike | None = None,
    density: bool | None = None,
) -> tuple[Any, Any]:
    """How many elements fall into each bin, and the edges of the bins (see `jax.numpy.histogram`).

    A bin includes its left edge; the last one its right edge as well.

    Args:
      a: the array.
      bins, range: as for `histogram_bin_edges`.
      weights: what each element counts; by default 1.
      density: whether to divide by the total and the widths, so that the integral is 1.

    Raises:
      ShapeError: the weights have another shape.
    """
    density = flag("histogram: density", density)
    edges = _edges("histogram", a, bins, range)
    if weights is None:
        (x,) = promote_inexact("histogram", a)
        counted = full_like(x, 1)
    else:
        x, counted = promote_inexact("histogram", a, weights)
        if counted.aval.shape != x.aval.shape:
            raise ShapeError(
                f"histogram: weights must have the shape of a, {x.aval.shape}, got {counted.aval}"
            )
    places = _bins_of(ravel(x), edges)
    counts = full(edges.aval.shape, 0, counted.aval.dtype)
    # Bin 0 takes what lies before the first edge; what lies behind the last is dropped.
    counts = counts.at[places].add(ravel(counted), mode="drop")[1:]
    if density:
        counts = counts / (edges[1:] - edges[:-1]) / reductions.sum(counts)
    return counts, edges


def _bins_of(x: Any, edges: Any) -> Any:
    """For each element of a vector how many edges are at or before it; the last edge is inside."""
    places = searchsorted(edges, x, side="right")
    return where(x == edges[-1], edges.aval.shape[0] - 1, places)


def histogram2d(
    x: ArrayLike,
    y: ArrayLike,
    bins: Any = 10,
    range: Any = None,
    weights: ArrayLike | None = None,
    density: bool | None = None,
) -> tuple[Any, Any, Any]:
    """The histogram of points in the plane, and the edges along both axes (`numpy.histogram2d`).

    Args:
      x, y: the coordinates, vectors.
      bins: a number for both axes, edges for both, or a pair of these.
      range: a pair of first and last edges, for each axis.
      weights, density: as for `histogram`.
    """
    sample = _columns(promote_dtypes("histogram2d", x, y))
    pair = isinstance(bins, list | tuple) and len(bins) in (1, 2)
    each = bins if pair or ndim(_data(bins)) == 0 else [bins, bins]
    counts, (first, second) = histogramdd(sample, each, range, weights, density)
    return counts, first, second


def _columns(xs: Sequence[Any]) -> Any:
    return stack(xs, axis=1)


def histogramdd(
    sample: ArrayLike,
    bins: Any = 10,
    range: Any = None,
    weights: ArrayLike | None = None,
    density: bool | None = None,
) -> tuple[Any, list[Any]]:
    """The histogram of points, and the edges along each axis (see `jax.numpy.histogramdd`).

    Args:
      sample: the points, ``[n, d]``.
      bins: a number for all axes, or for each axis a number or edges.
      range: for each axis the first and the last edge, or None.
      weights: what each point counts; by default 1.
      density: whether to divide by the total and the volumes, so that the integral is 1.

    Raises:
      ShapeError: `sample` is no matrix, or the weights do not fit.
      ArgumentError: `bins` or `range` have not one entry for each axis.
    """
    density = flag("histogramdd: density", density)
    (sample,) = promote_inexact("histogramdd", sample)
    if sample.aval.ndim != 2:
        raise ShapeError(f"histogramdd: sample must have shape (points, axes), got {sample.aval}")
    points, axes = sample.aval.shape
    several = isinstance(bins, list | tuple) or ndim(bins) > 0
    each = list(bins) if several else [bins] * axes
    limits = [None] * axes if range is None else sequence("histogramdd: range", range)
    if len(each) != axes or len(limits) != axes:
        raise ArgumentError(
            f"histogramdd: bins and range must have one entry for each of {axes} axes, got "
            f"{len(each)} and {len(limits)}"
        )
    edges = [
        _edges("histogramdd", sample[:, d], own, limit)
        for d, (own, limit) in enumerate(zip(each, limits, strict=True))
    ]
    sizes = tuple(e.aval.shape[0] + 1 for e in edges)
    places: Any = full((points,), 0, dtypes.default_dtype("i"))
    for d, (own, size) in enumerate(zip(edges, sizes, strict=True)):
        places = places * size + _bins_of(sample[:, d], own)
    if weights is None:
        kind = sample.aval.dtype if density else dtypes.default_dtype("i")
        counted: Any = full((points,), 1, kind)
    else:
        counted = array("histogramdd", weights)
        if counted.aval.shape != (points,):
            raise ShapeError(
                f"histogramdd: one weight is needed for each of {points} points, got {counted.aval}"
            )
    counts = full((math.prod(sizes),), 0, counted.aval.dtype).at[places].add(counted)
    # Along each axis the first and the last entry hold what lies outside.
    counts = reshape(counts, sizes)[(slice(1, -1),) * axes]
    if density:
        counts = counts / reductions.sum(counts)
        for d, own in enumerate(edges):
            widths = own[1:] - own[:-1]
            counts = counts / widths.reshape((-1, *(1,) * (axes - 1 - d)))
    return counts, edges
