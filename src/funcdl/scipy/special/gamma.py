"""The gamma function, and what is made of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core import dtypes
from funcdl.core.forks import held_off
from funcdl.core.integers import integer
from funcdl.core.options import flag
from funcdl.errors import ArgumentError
from funcdl.scipy.special.elementwise import elementwise


@elementwise
def gammaln(x: Any) -> Any:
    """The logarithm of the gamma function's magnitude."""
    return lax.lgamma(x)


@elementwise
def loggamma(x: Any) -> Any:
    """The logarithm of the gamma function; NaN for negative numbers."""
    return fnp.where(x < 0, np.nan, lax.lgamma(x))


def _sign(x: Any) -> Any:
    below = fnp.floor(x)
    negative = fnp.where(fnp.fmod(below, 2) == 0, 1, -1).astype(x.dtype)
    sign = fnp.where(x > 0, 1, negative)
    sign = fnp.where((below == x) & (x < 0), np.nan, sign)  # a pole; so is minus infinity
    return fnp.where(x == 0, fnp.copysign(1, x), fnp.where(fnp.isnan(x), x, sign))


@elementwise
def gammasgn(x: Any) -> Any:
    """The sign of the gamma function; NaN at its poles left of 0."""
    return _sign(x)


@elementwise
def gamma(x: Any) -> Any:
    """The gamma function; NaN at its poles left of 0, infinity at 0 with its sign."""
    return _sign(x) * fnp.exp(lax.lgamma(x))


@elementwise
def _factorial(n: Any) -> Any:
    return fnp.where(n < 0, 0, fnp.exp(lax.lgamma(fnp.where(n < 0, 0, n) + 1)))


def factorial(n: Any, exact: bool = False) -> Any:
    """``n! = gamma(n + 1)``, and 0 for negative `n` (see `scipy.special.factorial`).

    Floats of the shape of `n`.

    Raises:
      ArgumentError: `exact` is true; use `math.factorial` for that.
    """
    exact = flag("factorial: exact", exact)
    if exact:
        raise ArgumentError("factorial: exact=True is not supported; use math.factorial")
    return _factorial(n)


# From here on the terms below leave less than the rounding of float64: 3e-17.
_LARGE = 10.0
_STIRLING = (1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)


def _stirling_rest(x: Any) -> Any:
    """``lgamma`` of large `x` less Stirling's formula (DLMF 5.11.1)."""
    z = 1 / (x * x)
    total = fnp.zeros_like(x)
    for term in _STIRLING:
        total = total * z + term
    return total / x


def _log_beta(a: Any, b: Any) -> Any:
    """The large parts of ``lgamma(b) - lgamma(a + b)`` cancel, so they are taken out by hand."""
    # Choices, since extremes have half of each derivative where both are the same.
    small, large = fnp.where(a < b, a, b), fnp.where(a < b, b, a)
    apart = (large >= _LARGE) & (small > 0)
    s, t = fnp.where(apart, small, 1), fnp.where(apart, large, _LARGE)
    difference = s - (t - 0.5) * fnp.log1p(s / t) - s * fnp.log(s + t)
    difference = difference + _stirling_rest(t) - _stirling_rest(s + t)
    plain = lax.lgamma(large) - lax.lgamma(small + large)
    return lax.lgamma(small) + fnp.where(apart, difference, plain)


@elementwise
def betaln(a: Any, b: Any) -> Any:
    """The logarithm of the magnitude of the beta function of `a` and `b`."""
    return _log_beta(a, b)


@elementwise
def beta(a: Any, b: Any) -> Any:
    """The beta function, ``gamma(a) gamma(b) / gamma(a + b)``."""
    return _sign(a) * _sign(b) * _sign(a + b) * fnp.exp(_log_beta(a, b))


@elementwise
def _binomial(n: Any, k: Any) -> Any:
    inside = (k >= 0) & (k <= n)
    n, k = fnp.where(inside, n, 1), fnp.where(inside, k, 0)
    logarithm = -fnp.log1p(n) - _log_beta(n - k + 1, k + 1)
    return fnp.where(inside, fnp.exp(logarithm), 0)


def comb(N: Any, k: Any, *, repetition: bool = False) -> Any:
    """In how many ways `k` of `N` things can be chosen, with or without putting them back.

    0 where `k` is negative or more than there are.

    See `scipy.special.comb`.

    Args:
      N, k: arrays or scalars, broadcast to one shape; integers and bools become floats.
      repetition: whether things are put back.

    Raises:
      DtypeError: an operand is complex.
    """
    repetition = flag("comb: repetition", repetition)
    if not repetition:
        return _binomial(N, k)
    n, k = fnp.asarray(N), fnp.asarray(k)
    return fnp.where((n == 0) & (k == 0), 1, _binomial(n + k - 1, k))


@elementwise
def poch(z: Any, m: Any) -> Any:
    """Pochhammer's symbol, ``gamma(z + m) / gamma(z)``."""
    one = (m == 0) & ~fnp.isfinite(lax.lgamma(z))  # 1 at the poles of gamma as well
    z = fnp.where(one, 1, z)
    return fnp.exp(lax.lgamma(z + m) - lax.lgamma(z)) * _sign(z + m) * _sign(z)


def multigammaln(a: Any, d: int) -> Any:
    """The logarithm of the gamma function of `d` dimensions, for ``a > (d - 1) / 2``.

    The shape of `a` stays; integers and bools become floats. See `scipy.special.multigammaln`.

    Raises:
      TypeError: `d` is no integer.
    """
    d = integer("d", d)
    return _many_gammas(d)(a)


def _many_gammas(d: int) -> Any:
    def multigammaln(a: Any) -> Any:
        total = fnp.full_like(a, d * (d - 1) / 4 * math.log(math.pi))
        for j in range(d):
            total = total + lax.lgamma(a - j / 2)
        return total

    return elementwise(multigammaln)


@elementwise
def digamma(x: Any) -> Any:
    """The derivative of `gammaln`."""
    return lax.digamma(x)


@elementwise
def polygamma(n: Any, x: Any) -> Any:
    """The derivative of order `n` of `digamma`; differentiable in `x` only."""
    return lax.polygamma(n, x)


@elementwise
def _zeta(x: Any, q: Any) -> Any:
    return lax.zeta(x, q)


def zeta(x: Any, q: Any = None) -> Any:
    """The sum of ``(q + n)**-x`` over n = 0, 1, …; `q` is 1 by default: Riemann's zeta function.

    Differentiable in `q` only; NaN where ``x < 1``.

    Both are broadcast and promoted to one floating dtype. See `scipy.special.zeta`.

    Raises:
      ShapeError: the shapes do not broadcast.
      DtypeError: an operand is complex.
    """
    return _zeta(x, 1.0 if q is None else q)


@elementwise
def gammainc(a: Any, x: Any) -> Any:
    """The regularized lower incomplete gamma function of `a` and `x`."""
    return lax.igamma(a, x)


@elementwise
def gammaincc(a: Any, x: Any) -> Any:
    """The regularized upper incomplete gamma function of `a` and `x`."""
    return lax.igammac(a, x)


@elementwise
def betainc(a: Any, b: Any, x: Any) -> Any:
    """The regularized incomplete beta function of `a`, `b` and `x`; differentiable in `x` only."""
    return lax.betainc(a, b, x)


def bernoulli(n: int) -> Any:
    """The Bernoulli numbers from order 0 to `n`; that of order 1 is -1/2.

    A vector of the default float type, from SciPy. See `scipy.special.bernoulli`.

    Raises:
      ArgumentError: `n` is negative.
    """
    n = integer("n", n)
    if n < 0:
        raise ArgumentError(f"bernoulli: n must not be negative, got {n}")
    if n >= 2**31:
        raise ArgumentError(f"bernoulli: n must be less than 2**31, got {n}")
    with held_off():
        from scipy import special

    numbers = special.bernoulli(max(n, 2))[: n + 1]
    return fnp.asarray(numbers.astype(dtypes.default_dtype("f")))
