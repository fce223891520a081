"""The normal distribution cut off outside of `a` to `b`, as `jax.scipy.stats.truncnorm`.

The bounds count from `loc` in units of `scale`, and may be infinite.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.special import log_ndtr
from funcdl.scipy.special.logarithms import log1mexp
from funcdl.scipy.stats.distribution import statistic
from funcdl.scipy.stats.norm import logpdf as log_normal

__all__ = ["cdf", "logcdf", "logpdf", "logsf", "pdf", "sf"]


@statistic
def logpdf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density; minus infinity outside of the bounds."""
    z, below, above = _placed(x, a, b, loc, scale)
    logarithm = log_normal(z) - _log_mass(a, b) - fnp.log(scale)
    return fnp.where(below | above, -np.inf, logarithm)


@statistic
def pdf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density; 0 outside of the bounds."""
    return fnp.exp(logpdf(x, a, b, loc, scale))


@statistic
def logcdf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `cdf`."""
    return _log_share(x, a, b, loc, scale, upper=False)


@statistic
def cdf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of at most `x`."""
    return fnp.exp(logcdf(x, a, b, loc, scale))


@statistic
def logsf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `sf`."""
    return _log_share(x, a, b, loc, scale, upper=True)


@statistic
def sf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of more than `x`."""
    return fnp.exp(logsf(x, a, b, loc, scale))


def _placed(x: Any, a: Any, b: Any, loc: Any, scale: Any) -> tuple[Any, Any, Any]:
    """The number in units of `scale`, but a bound outside of them; and where it is outside."""
    z = (x - loc) / scale
    below, above = z < a, z > b
    return fnp.where(below, a, fnp.where(above, b, z)), below, above


def _log_mass(a: Any, b: Any) -> Any:
    """The logarithm of the normal distribution's probability from `a` to `b`."""
    # In the left half, where probabilities are small and so exact.
    turned = a > 0
    low, high = fnp.where(turned, -b, a), fnp.where(turned, -a, b)
    upper = log_ndtr(high)
    return upper + log1mexp(upper - log_ndtr(low))


def _middle(a: Any, b: Any) -> Any:
    """Some number within the bounds."""
    left, right = a == -np.inf, b == np.inf
    low = fnp.where(left, fnp.where(right, 0, b - 2), a)
    return (low + fnp.where(right, low + 2, b)) / 2


def _log_share(x: Any, a: Any, b: Any, loc: Any, scale: Any, upper: bool) -> Any:
    z, *_ = _placed(x, a, b, loc, scale)
    # At the bounds themselves one share is all and one is nothing.
    none, everything = (z == b, z == a) if upper else (z == a, z == b)
    inner = fnp.where(none | everything, _middle(a, b), z)
    whole = _log_mass(a, b)
    left, right = _log_mass(a, inner) - whole, _log_mass(inner, b) - whole
    share, rest = (right, left) if upper else (left, right)
    # What is nearly all is what the rest leaves.
    large = share > -0.1
    share = fnp.where(large, fnp.log1p(-fnp.exp(fnp.where(large, rest, -1))), share)
    return fnp.where(none, -np.inf, fnp.where(everything, 0, share))
