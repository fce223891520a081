"""The Cauchy distribution of median `loc`, as `jax.scipy.stats.cauchy`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.stats.distribution import LOG_PI, statistic

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]


@statistic
def logpdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density."""
    z = (x - loc) / scale
    return -fnp.log1p(z * z) - (LOG_PI + fnp.log(scale))


@statistic
def pdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density."""
    return fnp.exp(logpdf(x, loc, scale))


@statistic
def cdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of at most `x`, exact where tiny."""
    return fnp.arctan2(scale, loc - x) / math.pi


@statistic
def logcdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `cdf`."""
    return fnp.log(cdf(x, loc, scale))


@statistic
def sf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of more than `x`, exact where tiny."""
    return fnp.arctan2(scale, x - loc) / math.pi


@statistic
def logsf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `sf`."""
    return fnp.log(sf(x, loc, scale))


@statistic
def ppf(q: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The inverse of `cdf`; NaN where `q` is not from 0 to 1."""
    return _quantile(q) * scale + loc


@statistic
def isf(q: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The inverse of `sf`; NaN where `q` is not from 0 to 1."""
    return loc - _quantile(q) * scale


def _quantile(q: Any) -> Any:
    # The tangent from its pole, where q - 1/2 would have lost a tiny q.
    left = q < 0.5
    near = fnp.where(left, q, 1 - q)
    size = 1 / fnp.tan(math.pi * near)
    return fnp.where((q < 0) | (q > 1), np.nan, fnp.where(left, -size, size))
