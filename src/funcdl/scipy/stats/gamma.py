"""The gamma distribution of shape `a` from `loc` on, as `jax.scipy.stats.gamma`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.special import gammainc, gammaincc, gammaln, xlogy
from funcdl.scipy.stats.distribution import statistic

__all__ = ["cdf", "logcdf", "logpdf", "logsf", "pdf", "sf"]


@statistic
def logpdf(x: Any, a: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density; minus infinity left of `loc`."""
    z = (x - loc) / scale
    below = z < 0
    z = fnp.where(below, 1, z)
    logarithm = xlogy(a - 1, z) - z - gammaln(a) - fnp.log(scale)
    return fnp.where(below, -np.inf, logarithm)


@statistic
def pdf(x: Any, a: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density; 0 left of `loc`."""
    return fnp.exp(logpdf(x, a, loc, scale))


@statistic
def cdf(x: Any, a: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of at most `x`."""
    z = (x - loc) / scale
    return gammainc(a, fnp.where(z < 0, 0, z))


@statistic
def logcdf(x: Any, a: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `cdf`."""
    return fnp.log(cdf(x, a, loc, scale))


@statistic
def sf(x: Any, a: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of more than `x`, exact where tiny."""
    z = (x - loc) / scale
    return gammaincc(a, fnp.where(z < 0, 0, z))


@statistic
def logsf(x: Any, a: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `sf`."""
    return fnp.log(sf(x, a, loc, scale))
