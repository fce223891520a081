"""Means, variances and the like."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import Shape
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.logic import isfinite, truth
from funcdl.numpy.promotion import ArrayLike, array, broadcast, convert, promote_inexact, strong
from funcdl.numpy.reductions import Axis, max, min, normalize_axes, sum
from funcdl.ops.arithmetic import add, div, mul, square, sub
from funcdl.ops.comparison import gt
from funcdl.ops.complex_parts import conj, real
from funcdl.ops.exponential import exp, log, sqrt
from funcdl.ops.lowering import compute_dtype
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_in_dim, broadcast_to, full_like, reshape
from funcdl.ops.stop_gradient import stop_gradient

__all__ = [
    "average",
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
    """
    a = array("mean", a)
    target = dtypes.to_inexact(a.aval.dtype) if dtype is None else canonical(dtype)
    total = sum(a, axis, compute_dtype(target), out, keepdims, where=where)
    axes = normalize_axes("mean", axis, a.aval.ndim)
    return convert(div(total, _count("mean", a, axes, keepdims, where, total)), target)


def average(
    a: ArrayLike, axis: Axis = None, weights: ArrayLike | None = None, keepdims: bool = False
) -> Any:
    """Weighted mean (see `numpy.average`).

    Args:
      a: the array.
      axis: an axis or several; None: all.
      weights: an array of the same shape, or a vector along `axis`; None: all equal.
      keepdims: whether reduced axes stay, with size 1.

    Raises:
      ShapeError: the weights do not fit.
    """
    if weights is None:
        return mean(a, axis, keepdims=keepdims)
    a, w = promote_inexact("average", a, weights)
    if w.aval.shape != a.aval.shape:
        if not isinstance(axis, int) or w.ndim != 1:
            raise ShapeError(
                f"average: weights of {w.aval} need one axis of {a.aval} to lie along; pass axis, "
                "or weights of the array's shape"
            )
        (number,) = normalize_axes("average", axis, a.aval.ndim)
        w = broadcast_in_dim(w, shape=a.aval.shape, broadcast_dimensions=(number,))
    return div(sum(mul(a, w), axis, keepdims=keepdims), sum(w, axis, keepdims=keepdims))


def var(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    ddof: int | float = 0,
    keepdims: bool = False,
    *,
    where: ArrayLike | None = None,
    correction: int | float | None = None,
) -> Any:
    """Variance: the mean squared distance from the mean (see `jax.numpy.var`).

    Args:
      a: the array; for complex numbers the result is real.
      axis, dtype, out, keepdims, where: as for `mean`.
      ddof: the sum of squares is divided by the number of elements less this one.
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
    center = broadcast_to(mean(x, axes, keepdims=True, where=where), x.aval.shape)
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
    correction: int | float | None = None,
) -> Any:
    """Standard deviation: the square root of `var`, with its arguments."""
    return sqrt(var(a, axis, dtype, out, ddof, keepdims, where=where, correction=correction))


def ptp(a: ArrayLike, axis: Axis = None, out: None = None, keepdims: bool = False) -> Any:
    """The largest element less the smallest."""
    return sub(max(a, axis, out, keepdims), min(a, axis, out, keepdims))


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
