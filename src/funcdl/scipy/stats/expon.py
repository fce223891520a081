"""The exponential distribution of mean `scale` from `loc` on, as `jax.scipy.stats.expon`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.special.logarithms import log1mexp
from funcdl.scipy.stats.distribution import statistic

__all__ = ["cdf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]


@statistic
def logpdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density; minus infinity left of `loc`."""
    z = (x - loc) / scale
    return fnp.where(z < 0, -np.inf, -z - fnp.log(scale))


@statistic
def pdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density; 0 left of `loc`."""
    return fnp.exp(logpdf(x, loc, scale))


@statistic
def cdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of at most `x`."""
    z = (x - loc) / scale
    return -fnp.expm1(-fnp.where(z < 0, 0, z))


@statistic
def logcdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `cdf`."""
    z = (x - loc) / scale
    below = z < 0
    return fnp.where(below, -np.inf, log1mexp(fnp.where(below, 1, z)))


@statistic
def sf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of more than `x`."""
    return fnp.exp(logsf(x, loc, scale))


@statistic
def logsf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `sf`."""
    z = (x - loc) / scale
    return -fnp.where(z < 0, 0, z)


@statistic
def ppf(q: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The inverse of `cdf`; NaN where `q` is not from 0 to 1."""
    outside = (q < 0) | (q > 1)
    return fnp.where(outside, np.nan, -fnp.log1p(-fnp.where(outside, 0, q)) * scale + loc)
