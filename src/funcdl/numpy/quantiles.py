"""Quantiles, percentiles and medians: values at given places in sorted order.

The methods are those of Hyndman and Fan, "Sample Quantiles in Statistical Packages" (1996), and
four older ones of NumPy. Each says where in sorted order, counted from 0, a quantile lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array, shortened
from funcdl.core.options import flag, is_option
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.arithmetic import ceil, clip, floor, rint
from funcdl.numpy.creation import asarray
from funcdl.numpy.indexing import take, take_along_axis, where
from funcdl.numpy.logic import isnan
from funcdl.numpy.promotion import ArrayLike, convert, promote_inexact, strong
from funcdl.numpy.reductions import Axis, all, any, cumsum, normalize_axes, sum
from funcdl.numpy.shaping import broadcast_to, moveaxis, reshape
from funcdl.numpy.sorting import argsort, sort
from funcdl.ops.lowering import compute_dtype

__all__ = ["median", "nanmedian", "nanpercentile", "nanquantile", "percentile", "quantile"]


def _between(alpha: float, beta: float) -> Callable[[Any, Any], Any]:
    return lambda n, q: n * q + (alpha + q * (1 - alpha - beta)) - 1


def _inverted(n: Any, q: Any) -> Any:
    return ceil(n * q - 1)


def _averaged(n: Any, q: Any) -> Any:
    place = n * q - 1
    low = floor(place)
    return where(place == low, low + 0.5, low + 1)


def _closest(n: Any, q: Any) -> Any:
    place = n * q - 1.5
    low = floor(place)
    return where((place == low) & (low % 2 == 1), low, low + 1)


def _midpoint(n: Any, q: Any) -> Any:
    place = (n - 1) * q
    return (floor(place) + ceil(place)) / 2


_PLACES: dict[str, Callable[[Any, Any], Any]] = {
    "linear": lambda n, q: (n - 1) * q,
    "lower": lambda n, q: floor((n - 1) * q),
    "higher": lambda n, q: ceil((n - 1) * q),
    "nearest": lambda n, q: rint((n - 1) * q),
    "midpoint": _midpoint,
    "inverted_cdf": _inverted,
    "averaged_inverted_cdf": _averaged,
    "closest_observation": _closest,
    "interpolated_inverted_cdf": _between(0, 1),
    "hazen": _between(0.5, 0.5),
    "weibull": _between(0, 0),
    "median_unbiased": _between(1 / 3, 1 / 3),
    "normal_unbiased": _between(3 / 8, 3 / 8),
}


def quantile(
    a: ArrayLike,
    q: ArrayLike,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: ArrayLike | None = None,
) -> Any:
    """The values below which the fractions `q` of the elements lie (see `jax.numpy.quantile`).

    Args:
      a: the array. A slice with NaN gives NaN.
      q: fractions from 0 to 1; the dimensions of the result begin with its own.
      axis: an axis or several; None: all.
      out: must be None.
      overwrite_input: must be false, since arrays are immutable.
      method: how to choose between two elements: NumPy's names, for example "linear", "lower",
        "higher", "nearest", "midpoint", "inverted_cdf", "hazen".
      keepdims: whether reduced axes stay, with size 1.
      weights: how much each element counts, of the shape of `a`, or a vector along `axis`; for the
        method "inverted_cdf".

    Raises:
      ArgumentError: an unknown method, or a known fraction outside of 0 and 1.
      ShapeError: the weights do not fit.
    """
    _refuse("quantile", out, overwrite_input)
    return _quantile("quantile", a, q, axis, method, keepdims, weights)


def nanquantile(
    a: ArrayLike,
    q: ArrayLike,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: ArrayLike | None = None,
) -> Any:
    """As `quantile`, of the elements that are not NaN; NaN where there are none.

    Arguments, shape, dtype and errors are the same. See `numpy.nanquantile`.
    """
    _refuse("nanquantile", out, overwrite_input)
    return _quantile("nanquantile", a, q, axis, method, keepdims, weights, skip_nan=True)


def percentile(
    a: ArrayLike,
    q: ArrayLike,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: ArrayLike | None = None,
) -> Any:
    """As `quantile`, with `q` from 0 to 100 (see `numpy.percentile`).

    Arguments, shape, dtype and errors are the same.
    """
    _refuse("percentile", out, overwrite_input)
    return _quantile("percentile", a, q, axis, method, keepdims, weights, whole=100)


def nanpercentile(
    a: ArrayLike,
    q: ArrayLike,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: ArrayLike | None = None,
) -> Any:
    """As `nanquantile`, with `q` from 0 to 100 (see `numpy.nanpercentile`).

    Arguments, shape, dtype and errors are the same.
    """
    _refuse("nanpercentile", out, overwrite_input)
    return _quantile(
        "nanpercentile", a, q, axis, method, keepdims, weights, whole=100, skip_nan=True
    )


def median(
    a: ArrayLike,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    keepdims: bool = False,
) -> Any:
    """The element in the middle, or the mean of the two there; NaN of slices with NaN.

    The arguments are those of `quantile`.

    A float array, without the axis. `overwrite_input` must be false. See `numpy.median`.
    """
    _refuse("median", out, overwrite_input)
    return _quantile("median", a, 0.5, axis, "midpoint", keepdims)


def nanmedian(
    a: ArrayLike,
    axis: Axis = None,
    out: None = None,
    overwrite_input: bool = False,
    keepdims: bool = False,
) -> Any:
    """As `median`, of the elements that are not NaN; NaN where there are none.

    Arguments, shape, dtype and errors are the same. See `numpy.nanmedian`.
    """
    _refuse("nanmedian", out, overwrite_input)
    return _quantile("nanmedian", a, 0.5, axis, "midpoint", keepdims, skip_nan=True)


def _refuse(name: str, out: Any, overwrite_input: bool) -> None:
    if out is not None or flag(f"{name}: overwrite_input", overwrite_input):
        raise ArgumentError(
            f"{name}: out must be None and overwrite_input false, since arrays are immutable"
        )


def _quantile(
    name: str,
    a: ArrayLike,
    q: ArrayLike,
    axis: Axis,
    method: str,
    keepdims: bool,
    weights: ArrayLike | None = None,
    *,
    whole: int = 1,
    skip_nan: bool = False,
) -> Any:
    if not is_option(method, _PLACES):
        raise ArgumentError(
            f"{name}: method must be one of {', '.join(map(repr, _PLACES))}, "
            f"got {shortened(method)}"
        )
    fractions = asarray(q)
    (a,) = promote_inexact(name, a)
    a, dtype = strong(a), a.aval.dtype
    if dtypes.is_complex(dtype):
        raise ArgumentError(f"{name}: complex numbers have no order, got {a.aval}")
    if type(fractions) is Array and not bool(
        np.all((fractions.value >= 0) & (fractions.value <= whole) | np.isnan(fractions.value))
    ):
        raise ArgumentError(f"{name}: q must be from 0 to {whole}, got {shortened(q)}")
    wide = compute_dtype(dtype)
    shape = a.aval.shape
    axes = normalize_axes(name, axis, len(shape))
    rows = _rows(convert(a, wide), axes)
    if rows.aval.shape[-1] == 0:
        raise ArgumentError(f"{name}: there is no {name} of no elements, of an array of {a.aval}")
    flat = reshape(convert(fractions, wide), -1) / whole
    if weights is None:
        found = _by_place(rows, flat, _PLACES[method], skip_nan)
    elif method != "inverted_cdf":
        raise ArgumentError(
            f"{name}: weights need method='inverted_cdf', got method={method!r}; the other methods "
            "are not defined with weights"
        )
    else:
        each = _rows(_weights(name, weights, a, axes, wide), axes)
        found = _by_weight(rows, each, flat, skip_nan)
    out = convert(moveaxis(found, -1, 0), dtype)
    kept = tuple(n for d, n in enumerate(shape) if d not in axes)
    out = reshape(out, (flat.aval.size, *kept))
    if flag(f"{name}: keepdims", keepdims):
        one = tuple(1 if d in axes else n for d, n in enumerate(shape))
        return reshape(out, (*fractions.aval.shape, *one))
    return reshape(out, (*fractions.aval.shape, *kept))


def _rows(x: Any, axes: tuple[int, ...]) -> Any:
    """The array with the reduced axes as one, the last."""
    shape = x.aval.shape
    x = moveaxis(x, axes, tuple(range(-len(axes), 0)))
    kept = tuple(n for d, n in enumerate(shape) if d not in axes)
    return reshape(x, (*kept, math.prod(shape[d] for d in axes)))


def _by_place(rows: Any, q: Any, place_of: Callable[[Any, Any], Any], skip_nan: bool) -> Any:
    size = rows.aval.shape[-1]
    ordered = sort(rows)
    missing = isnan(rows)
    if not skip_nan:
        place = clip(place_of(size, q), 0, size - 1)
        low = floor(place)
        below, above = (take(ordered, x.astype(int), -1, mode="clip") for x in (low, ceil(place)))
        return _mixed(below, above, place - low, any(missing, axis=-1, keepdims=True))
    # NaN come last in order, so that those that count are the first of each row.
    count = convert(sum(~missing, axis=-1, keepdims=True), rows.aval.dtype)
    place = clip(place_of(count, q), 0, clip(count - 1, 0))
    low = floor(place)
    below, above = (take_along_axis(ordered, x.astype(int), -1) for x in (low, ceil(place)))
    return _mixed(below, above, place - low, count == 0)


def _mixed(below: Any, above: Any, part: Any, unknown: Any) -> Any:
    # An infinite element must not meet a factor of 0.
    between = where(part == 0, below, below * (1 - part) + above * part)
    return where(unknown, np.nan, between)


def _weights(name: str, weights: ArrayLike, a: Any, axes: tuple[int, ...], dtype: Any) -> Any:
    w = convert(asarray(weights), dtype)
    if w.aval.shape == a.aval.shape:
        return w
    if w.aval.ndim != 1 or len(axes) != 1 or w.aval.shape[0] != a.aval.shape[axes[0]]:
        raise ShapeError(
            f"{name}: weights must have the shape of a, {a.aval.shape}, or be a vector along one "
            f"axis, got {w.aval}"
        )
    along = tuple(n if d == axes[0] else 1 for d, n in enumerate(a.aval.shape))
    return broadcast_to(reshape(w, along), a.aval.shape)


def _by_weight(rows: Any, weights: Any, q: Any, skip_nan: bool) -> Any:
    """The first element at which the sum of the weights up to it reaches each fraction."""
    missing = isnan(rows)
    if skip_nan:
        weights = where(missing, 0, weights)
    order = argsort(rows)
    ordered = take_along_axis(rows, order, -1)
    running = cumsum(take_along_axis(weights, order, -1), axis=-1)
    total = running[..., -1:]
    before = sum(running[..., None] < (q * total)[..., None, :], axis=-2)
    place = clip(before, 0, rows.aval.shape[-1] - 1)
    unknown = (all if skip_nan else any)(missing, axis=-1, keepdims=True)
    return where(unknown, np.nan, take_along_axis(ordered, place, -1))
