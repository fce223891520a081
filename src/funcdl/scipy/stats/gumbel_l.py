"""The Gumbel distribution that is skewed to the left, as `jax.scipy.stats.gumbel_l`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

from typing import Any

import funcdl.numpy as fnp
from funcdl.scipy.special.logarithms import log1mexp
from funcdl.scipy.stats.distribution import statistic

__all__ = ["cdf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"]


@statistic
def logpdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density."""
    z = (x - loc) / scale
    return z - fnp.exp(z) - fnp.log(scale)


@statistic
def pdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density."""
    return fnp.exp(logpdf(x, loc, scale))


@statistic
def cdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of at most `x`."""
    return -fnp.expm1(-fnp.exp((x - loc) / scale))


@statistic
def logcdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `cdf`."""
    return log1mexp(fnp.exp((x - loc) / scale))


@statistic
def sf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of more than `x`."""
    return fnp.exp(-fnp.exp((x - loc) / scale))


@statistic
def logsf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `sf`."""
    return -fnp.exp((x - loc) / scale)


@statistic
def ppf(p: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The inverse of `cdf`; NaN where `p` is not from 0 to 1."""
    return loc + fnp.log(-fnp.log1p(-p)) * scale
