"""Normalised exponentials, and the logarithm of their sum.

All subtract the maximum first, so nothing overflows. The maximum cancels in exact arithmetic, so no
derivative flows through it. Entries of minus infinity have no weight; `where` gives entries none.
Half types are computed with in float32, as their sums would overflow or stop growing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core.options import flag
from funcdl.numpy.promotion import promote_inexact

Axis = int | tuple[int, ...] | None


def softmax(x: Any, axis: Axis = -1, where: Any = None) -> Any:
    """``exp(x) / sum(exp(x))`` along an axis (see `jax.nn.softmax`).

    Args:
      x: an array.
      axis: an axis, a tuple of axes, or None for all.
      where: a bool array that broadcasts with `x`: which entries take part. The others are 0 in the
        result, and so is a row in which none takes part.
    """
    x, dtype = _masked("softmax", x, where)
    exp = fnp.exp(x - _maximum(x, axis))
    return (exp / _total(exp, axis, where)).astype(dtype)


def log_softmax(x: Any, axis: Axis = -1, where: Any = None) -> Any:
    """The logarithm of `softmax`, exact where that is tiny (see `jax.nn.log_softmax`).

    Args:
      x: an array.
      axis: an axis, a tuple of axes, or None for all.
      where: which entries take part; the others are minus infinity in the result.
    """
    x, dtype = _masked("log_softmax", x, where)
    shifted = x - _maximum(x, axis)
    out = shifted - fnp.log(_total(fnp.exp(shifted), axis, where))
    # Masked once more: what is constant passes no cotangents on to the sum.
    return (out if where is None else fnp.where(where, out, -np.inf)).astype(dtype)


def logsumexp(
    a: Any,
    axis: Axis = None,
    b: Any = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: Any = None,
) -> Any:
    """``log(sum(b * exp(a)))`` along axes (see `jax.nn.logsumexp`).

    Args:
      a: an array.
      axis: an axis, a tuple of axes, or None for all.
      b: weights that broadcast with `a`; None means 1. A weight of 0 hides its entry, even an
        infinite one, and has no derivative, as in JAX.
      keepdims: whether reduced axes remain, with size 1.
      return_sign: whether to return ``(log(abs(sum)), sign(sum))``; without it the logarithm of a
        negative sum is NaN.
      where: which entries take part.
    """
    return_sign = flag("logsumexp: return_sign", return_sign)
    keepdims = flag("logsumexp: keepdims", keepdims)
    if b is not None:
        a, b = fnp.broadcast_arrays(*promote_inexact("logsumexp", a, b))
        a = fnp.where(b == 0, -np.inf, a)
    a, dtype = _masked("logsumexp", a, where)
    top = _maximum(a, axis)
    exp = fnp.exp(a - top)
    total = fnp.sum(exp if b is None else b * exp, axis=axis, keepdims=True)
    sign = lax.stop_gradient(fnp.sign(total))
    out = fnp.log(sign * total if return_sign else total) + top
    if not keepdims:
        out, sign = fnp.squeeze(out, axis=axis), fnp.squeeze(sign, axis=axis)
    return (out.astype(dtype), sign.astype(dtype)) if return_sign else out.astype(dtype)


def logmeanexp(a: Any, axis: Axis = None, where: Any = None, keepdims: bool = False) -> Any:
    """``log(mean(exp(a)))`` along axes (see `jax.nn.logmeanexp`).

    Args:
      a: an array.
      axis: an axis, a tuple of axes, or None for all.
      where: which entries take part; NaN comes out where none does.
      keepdims: whether reduced axes remain, with size 1.
    """
    (a,) = promote_inexact("logmeanexp", a)
    wide = fnp.promote_types(a.dtype, np.float32)
    total = logsumexp(a.astype(wide), axis=axis, keepdims=keepdims, where=where)
    taking_part = fnp.ones(a.shape, bool) if where is None else fnp.broadcast_to(where, a.shape)
    count = fnp.sum(taking_part, axis=axis, keepdims=keepdims, dtype=wide)
    return (total - fnp.where(count == 0, np.nan, fnp.log(count))).astype(a.dtype)


def _masked(name: str, x: Any, where: Any) -> tuple[Any, Any]:
    """The operand, wide enough to compute with and masked, and the dtype of the result."""
    (x,) = promote_inexact(name, x)
    dtype = x.dtype
    x = x.astype(fnp.promote_types(dtype, np.float32))
    return x if where is None else fnp.where(where, x, -np.inf), dtype


def _maximum(x: Any, axis: Axis) -> Any:
    """The maximum along an axis, or 0 where subtracting it would give NaN."""
    top = fnp.max(x, axis=axis, keepdims=True, initial=-np.inf if x.size == 0 else None)
    return lax.stop_gradient(fnp.where(fnp.isfinite(top), top, 0))


def _total(exp: Any, axis: Axis, where: Any) -> Any:
    total = fnp.sum(exp, axis=axis, keepdims=True)
    # Without a mask an empty row is a mistake, and stays NaN.
    return total if where is None else fnp.where(total == 0, 1, total)
