"""Products with logarithms, right where both factors are extreme, and what is made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.scipy.special.elementwise import analytic, elementwise
from funcdl.transforms import custom_jvp


@analytic
def xlogy(x: Any, y: Any) -> Any:
    """``x log(y)``, and 0 where `x` is 0 (but for NaN in `y`), with its derivatives there."""
    return _xlogy(x, y)


@custom_jvp
def _xlogy(x: Any, y: Any) -> Any:
    none = (x == 0) & ~fnp.isnan(y)
    return fnp.where(none, 0, x * fnp.log(fnp.where(none, 1, y)))


def _quotient(x: Any, y: Any) -> Any:
    """``x / y``, and 0 where both are 0."""
    none = (x == 0) & (y == 0)
    return fnp.where(none, 0, x / fnp.where(none, 1, y))


_xlogy.defjvps(lambda t, out, x, y: t * fnp.log(y), lambda t, out, x, y: t * _quotient(x, y))


@analytic
def xlog1py(x: Any, y: Any) -> Any:
    """``x log(1 + y)``, and 0 where `x` is 0 (but for NaN in `y`), with its derivatives there."""
    return _xlog1py(x, y)


@custom_jvp
def _xlog1py(x: Any, y: Any) -> Any:
    none = (x == 0) & ~fnp.isnan(y)
    return fnp.where(none, 0, x * fnp.log1p(fnp.where(none, 0, y)))


_xlog1py.defjvps(
    lambda t, out, x, y: t * fnp.log1p(y), lambda t, out, x, y: t * _quotient(x, 1 + y)
)


@elementwise
def entr(x: Any) -> Any:
    """``-x log(x)``: 0 at 0, minus infinity for negative numbers."""
    return fnp.where(x < 0, -np.inf, -_xlogy(x, fnp.where(x < 0, 1, x)))


@elementwise
def rel_entr(p: Any, q: Any) -> Any:
    """``p log(p / q)``: 0 where `p` is 0 and `q` not negative, infinity outside of its domain."""
    return _relative_entropy(p, q)


def _relative_entropy(p: Any, q: Any) -> Any:
    inside = (p > 0) & (q > 0)
    left, right = fnp.where(inside, p, 1), fnp.where(inside, q, 1)
    value = fnp.where(inside, left * fnp.log(left / right), np.inf)
    value = fnp.where((p == 0) & (q >= 0), 0, value)
    return fnp.where(fnp.isnan(p) | fnp.isnan(q), np.nan, value)


@elementwise
def kl_div(p: Any, q: Any) -> Any:
    """``p log(p / q) - p + q``, never negative; infinity outside of its domain."""
    return _relative_entropy(p, q) - p + q


@analytic
def logit(x: Any) -> Any:
    """``log(x / (1 - x))``, the inverse of `expit`."""
    return _logit(x)


@custom_jvp
def _logit(x: Any) -> Any:
    return fnp.log(x / (1 - x))


_logit.defjvps(lambda t, out, x: t / (x * (1 - x)))


@analytic
def expit(x: Any) -> Any:
    """The logistic function, ``1 / (1 + exp(-x))``."""
    return lax.logistic(x)


@custom_jvp
def _expm1_over(z: Any) -> Any:
    """``(exp(z) - 1) / z``, 1 at 0."""
    none = z == 0
    return fnp.where(none, 1, fnp.expm1(z) / fnp.where(none, 1, z))


def _expm1_over_slope(z: Any) -> Any:
    """Near 0 the power series; the closed form cancels there."""
    near = abs(z) < 0.5
    small = fnp.where(near, z, 0)
    series = fnp.zeros_like(z)
    for k in range(14, -1, -1):
        series = series * small + (k + 1) / math.factorial(k + 2)
    large = fnp.where(near, 1, z)
    return fnp.where(near, series, (fnp.exp(large) - _expm1_over(large)) / large)


_expm1_over.defjvps(lambda t, out, z: t * _expm1_over_slope(z))


def _box_cox(logarithm: Any, lmbda: Any) -> Any:
    """``(exp(lmbda logarithm) - 1) / lmbda``, with its derivatives at 0."""
    z = lmbda * logarithm
    finite = fnp.isfinite(logarithm)
    near = finite & (abs(z) < 0.5)
    inside = fnp.where(near, logarithm, 0)
    small = inside * _expm1_over(lmbda * inside)
    zero = lmbda == 0
    large = fnp.expm1(fnp.where(near | zero, 0, z)) / fnp.where(zero, 1, lmbda)
    return fnp.where(near, small, fnp.where(zero, logarithm, large))


@elementwise
def boxcox(x: Any, lmbda: Any) -> Any:
    """The transform of Box and Cox, ``(x**lmbda - 1) / lmbda``, and ``log(x)`` for 0."""
    return _box_cox(fnp.log(x), lmbda)


@elementwise
def boxcox1p(x: Any, lmbda: Any) -> Any:
    """`boxcox` of ``1 + x``, exact near 0."""
    return _box_cox(fnp.log1p(x), lmbda)
