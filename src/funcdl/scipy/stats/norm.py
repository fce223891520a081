"""The normal distribution of mean `loc` and standard deviation `scale`, as `jax.scipy.stats.norm`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

import math
from typing import Any

import funcdl.numpy as fnp
from funcdl.scipy.special import log_ndtr, ndtr, ndtri
from funcdl.scipy.stats.distribution import statistic

__all__ = ["cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]

_LOG_ROOT_2_PI = math.log(2 * math.pi) / 2


@statistic
def logpdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density."""
    z = (x - loc) / scale
    return -z * z / 2 - (_LOG_ROOT_2_PI + fnp.log(scale))


@statistic
def pdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density."""
    return fnp.exp(logpdf(x, loc, scale))


@statistic
def cdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of at most `x`."""
    return ndtr((x - loc) / scale)


@statistic
def logcdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `cdf`, exact in both tails."""
    return log_ndtr((x - loc) / scale)


@statistic
def sf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of more than `x`, exact where tiny."""
    return ndtr((loc - x) / scale)


@statistic
def logsf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `sf`, exact in both tails."""
    return log_ndtr((loc - x) / scale)


@statistic
def ppf(q: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The inverse of `cdf`; NaN where `q` is not from 0 to 1."""
    return ndtri(q) * scale + loc


@statistic
def isf(q: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The inverse of `sf`; NaN where `q` is not from 0 to 1."""
    return loc - ndtri(q) * scale
