"""Means, variances and the like."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import aval_of
from funcdl.core.avals import Shape
from funcdl.core.options import flag, number
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.numpy.arithmetic import clip
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.joining import concatenate
from funcdl.numpy.logic import isfinite, truth
from funcdl.numpy.promotion import ArrayLike, array, broadcast, convert, promote_inexact, strong
from funcdl.numpy.reductions import Axis, max, min, normalize_axes, sum
from funcdl.numpy.shaping import atleast_1d
from funcdl.ops.arithmetic import add, div, mul, square, sub
from funcdl.ops.comparison import gt
from funcdl.ops.complex_parts import complex_, conj, imag, real
from funcdl.ops.exponential import exp, log, sqrt
from funcdl.ops.lowering import compute_dtype
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_in_dim, broadcast_to, full_like, reshape
from funcdl.ops.stop_gradient import stop_gradient

__all__ = [
    "average",
    "corrcoef",
    "cov",
    "mean",
    "ptp",
    "std",
    "var",
]


def _count(
    name: str, x: Any, axes: tuple[int, ...], keepdims: bool, where: ArrayLike | None, like: Any
) -> Any:
    """How many elements each of a reduction's outputs takes together, as an array like it."""
    if where is None:
        return full_like(like, math.prod(x.aval.shape[d] for d in axes))
    mask = broadcast_to(truth(name, where), x.aval.shape)
    return convert(sum(mask, axes, keepdims=keepdims), like.aval.dtype)


def mean(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    keepdims: bool = False,
    *,
    where: ArrayLike | None = None,
) -> Any:
    """Arithmetic mean (see `jax.numpy.mean`); NaN of no elements.

    Args:
      a: the array.
      axis: an axis or several; None: all.
      dtype: the element type of the result; by default that of `a`, floating for integers. Half
        precision is added up and divided in float32.
      out: must be None.
      keepdims: whether reduced axes stay, with size 1.
      where: bools that broadcast with `a`; elements where it is false are left out.

    Raises:
      ArgumentError: there is no such axis, or `out` is given.
    """
    a = array("mean", a)
    target = dtypes.to_inexact(a.aval.dtype) if dtype is None else canonical(dtype)
    total = sum(a, axis, compute_dtype(target), out, keepdims, where=where)
    axes = normalize_axes("mean", axis, a.aval.ndim)
    return convert(div(total, _count("mean", a, axes, keepdims, where, total)), target)


_mean = mean  # Of functions that have an argument of this name.


def average(
    a: ArrayLike,
    axis: Axis = None,
    weights: ArrayLike | None = None,
    returned: bool = False,
    keepdims: bool = False,
) -> Any:
    """Weighted mean (see `numpy.average`).

    Args:
      a: the array.
      axis: an axis or several; None: all.
      weights: an array of the same shape, or a vector along `axis`; None: all equal.
      returned: whether to return ``(mean, sum of weights)``.
      keepdims: whether reduced axes stay, with size 1.

    Raises:
      ShapeError: the weights do not fit.
      ArgumentError: there is no such axis.
    """
    returned = flag("average: returned", returned)
    if weights is None:
        out = mean(a, axis, keepdims=keepdims)
        axes = normalize_axes("average", axis, aval_of(a).ndim)
        count = math.prod(aval_of(a).shape[d] for d in axes)
        return (out, full_like(out, count)) if returned else out
    a, w = promote_inexact("average", a, weights)
    if w.aval.shape != a.aval.shape:
        if not isinstance(axis, int) or w.ndim != 1:
            raise ShapeError(
                f"average: weights of {w.aval} need one axis of {a.aval} to lie along; pass axis, "
                "or weights of the array's shape"
            )
        (number,) = normalize_axes("average", axis, a.aval.ndim)
        w = broadcast_in_dim(w, shape=a.aval.shape, broadcast_dimensions=(number,))
    total = sum(w, axis, keepdims=keepdims)
    out = div(sum(mul(a, w), axis, keepdims=keepdims), total)
    return (out, total) if returned else out


def var(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    ddof: int | float = 0,
    keepdims: bool = False,
    *,
    where: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    correction: int | float | None = None,
) -> Any:
    """Variance: the mean squared distance from the mean (see `jax.numpy.var`).

    Args:
      a: the array; for complex numbers the result is real.
      axis, dtype, out, keepdims, where: as for `mean`.
      ddof: the sum of squares is divided by the number of elements less this one.
      mean: the mean, if it is known, with reduced axes of size 1.
      correction: another name of `ddof`.

    Raises:
      ArgumentError: both `ddof` and `correction` are given.
    """
    if correction is not None:
        if ddof != 0:
            raise ArgumentError("var: ddof and correction are one argument, give one of them")
        ddof = correction
    a = array("var", a)
    target = dtypes.to_inexact(a.aval.dtype) if dtype is None else canonical(dtype)
    wide = compute_dtype(target)
    axes = normalize_axes("var", axis, a.aval.ndim)
    x = convert(a, wide)
    center = _mean(x, axes, keepdims=True, where=where) if mean is None else mean
    center = broadcast_to(convert(array("var", center), wide), x.aval.shape)
    distance = sub(x, center)
    is_complex = dtypes.is_complex(wide)
    squares = real(mul(distance, conj(distance))) if is_complex else square(distance)
    total = sum(squares, axes, None, out, keepdims, where=where)
    count = _count("var", a, axes, keepdims, where, total)
    freedom = sub(count, full_like(count, ddof))
    positive = gt(freedom, full_like(freedom, 0))
    result = select_n(positive, full_like(total, np.nan), div(total, freedom))
    return convert(result, dtypes.real_dtype(target) if dtype is None else target)


def std(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    ddof: int | float = 0,
    keepdims: bool = False,
    *,
    where: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    correction: int | float | None = None,
) -> Any:
    """Standard deviation: the square root of `var`, with its arguments (see `numpy.std`).

    Shape, dtype and errors are those of `var`, too.
    """
    variance = var(
        a, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction
    )
    return sqrt(variance)


def ptp(a: ArrayLike, axis: Axis = None, out: None = None, keepdims: bool = False) -> Any:
    """The largest element less the smallest (see `numpy.ptp`).

    The dtype stays; `axis`, `out`, `keepdims` and errors are those of `max`.
    """
    return sub(max(a, axis, out, keepdims), min(a, axis, out, keepdims))


def cov(
    m: ArrayLike,
    y: ArrayLike | None = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: ArrayLike | None = None,
    aweights: ArrayLike | None = None,
    dtype: DTypeLike = None,
) -> Any:
    """The matrix of covariances of several variables (see `jax.numpy.cov`).

    Args:
      m: the variables, a matrix with one in each row, or a single one.
      y: more variables.
      rowvar: whether rows are variables, rather than columns.
      bias: whether to divide by the number of observations n, rather than n - 1.
      ddof: to divide by n - ddof; overrules `bias`.
      fweights: how often each observation counts, integers.
      aweights: how much each observation counts.
      dtype: the element type of the result.

    Raises:
      ShapeError: an array has too many dimensions, or sizes do not fit.
      DtypeError: `fweights` are no integers.
    """
    bias = flag("cov: bias", bias)
    rowvar = flag("cov: rowvar", rowvar)
    parts = promote_inexact("cov", *([m] if y is None else [m, y]))
    if any(x.aval.ndim > 2 for x in parts):
        raise ShapeError(
            f"cov: at most two dimensions are expected, got {', '.join(str(x.aval) for x in parts)}"
        )
    if dtype is not None:
        parts = [convert(x, canonical(dtype)) for x in parts]
    parts = [x.T if not rowvar and x.aval.ndim == 2 else x for x in map(atleast_1d, parts)]
    # Columns of a single variable are one observation each, as in NumPy.
    x = concatenate([z if z.aval.ndim == 2 else z[None] for z in map(strong, parts)])
    count = x.aval.shape[1]
    w: Any = None
    if fweights is not None:
        w = array("cov", fweights)
        if not dtypes.is_integer(w.aval.dtype):
            raise DtypeError(f"cov: fweights must be integers, got {w.aval}")
    if aweights is not None:
        aw = array("cov", aweights)
        w = aw if w is None else w * aw
    if w is not None and w.aval.shape != (count,):
        raise ShapeError(
            f"cov: one weight is needed for each of {count} observations, got {w.aval}"
        )
    ddof = (0 if bias else 1) if ddof is None else number("cov: ddof", ddof)
    if w is None:
        freedom: Any = count - ddof if count else 0  # NaN for no observations, as in NumPy
        centered = x - mean(x, 1, keepdims=True)
        product = centered @ _conjugate(centered).T
    else:
        w = convert(w, x.aval.dtype)
        total = sum(w)
        penalty = total if aweights is None else sum(w * aweights) * 1.0
        freedom = total - ddof * (1 if aweights is None else penalty / total)
        centered = x - sum(x * w, 1, keepdims=True) / total
        product = (centered * w) @ _conjugate(centered).T
    out = product / freedom
    return reshape(out, new_sizes=()) if out.aval.shape == (1, 1) else out


def _conjugate(x: Any) -> Any:
    return conj(x) if dtypes.is_complex(x.aval.dtype) else x


def corrcoef(
    x: ArrayLike, y: ArrayLike | None = None, rowvar: bool = True, dtype: DTypeLike = None
) -> Any:
    """The matrix of correlations of several variables; the arguments are those of `cov`."""
    c = cov(x, y, rowvar, dtype=dtype)
    if c.aval.ndim == 0:
        return c / c
    deviation = sqrt(real(c.diagonal())) if dtypes.is_complex(c.aval.dtype) else sqrt(c.diagonal())
    c = c / deviation[:, None] / deviation[None, :]
    if dtypes.is_complex(c.aval.dtype):
        return complex_(clip(real(c), -1, 1), clip(imag(c), -1, 1))
    return clip(c, -1, 1)


def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    where: ArrayLike | None = None,
) -> Any:
    """``log(sum(b * exp(a)))`` without overflow (see `jax.nn.logsumexp`).

    Args:
      a: the exponents.
      axis: an axis or several; None: all.
      b: factors that broadcast with `a`; None: ones.
      keepdims: whether reduced axes stay, with size 1.
      where: bools that broadcast with `a`; elements where it is false are left out.
    """
    if b is None:
        (a,) = promote_inexact("logsumexp", a)
    else:
        a, b = broadcast("logsumexp", *promote_inexact("logsumexp", a, b))
    a = strong(a)
    axes = normalize_axes("logsumexp", axis, a.aval.ndim)
    parts = real(a) if dtypes.is_complex(a.aval.dtype) else a
    largest = max(parts, axes, keepdims=True, initial=-np.inf, where=where)
    # An infinite largest element would make NaN of the differences; 0 leaves them infinite.
    largest = stop_gradient(select_n(isfinite(largest), full_like(largest, 0), largest))
    shift = broadcast_to(convert(largest, a.aval.dtype), a.aval.shape)
    terms = exp(sub(a, shift))
    if b is not None:
        terms = mul(terms, b)
    total = log(sum(terms, axes, keepdims=True, where=where))
    out = add(total, convert(largest, total.aval.dtype))
    return out if keepdims else reshape(out, new_sizes=_without(a.aval.shape, axes))


def _without(shape: Shape, axes: tuple[int, ...]) -> Shape:
    return tuple(size for d, size in enumerate(shape) if d not in axes)
