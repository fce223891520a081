"""The logistic distribution of mean `loc`, as `jax.scipy.stats.logistic`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

from typing import Any

import funcdl.numpy as fnp
from funcdl.scipy.special import expit, logit
from funcdl.scipy.stats.distribution import statistic

__all__ = ["cdf", "isf", "logpdf", "pdf", "ppf", "sf"]


@statistic
def logpdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density."""
    z = -abs(x - loc) / scale
    return z - 2 * fnp.log1p(fnp.exp(z)) - fnp.log(scale)


@statistic
def pdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density."""
    return fnp.exp(logpdf(x, loc, scale))


@statistic
def cdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of at most `x`."""
    return expit((x - loc) / scale)


@statistic
def sf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of more than `x`."""
    return expit((loc - x) / scale)


@statistic
def ppf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The inverse of `cdf`; NaN where `x` is not from 0 to 1."""
    return logit(x) * scale + loc


@statistic
def isf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The inverse of `sf`; NaN where `x` is not from 0 to 1."""
    return loc - logit(x) * scale
