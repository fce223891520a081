"""The chi-squared distribution of `df` degrees of freedom, as `jax.scipy.stats.chi2`.

It is the gamma distribution of half as large a shape, with twice the scale.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

from typing import Any

from funcdl.scipy.stats import gamma
from funcdl.scipy.stats.distribution import statistic

__all__ = ["cdf", "logcdf", "logpdf", "logsf", "pdf", "sf"]


@statistic
def logpdf(x: Any, df: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density; minus infinity left of `loc`."""
    return gamma.logpdf(x, df / 2, loc, 2 * scale)


@statistic
def pdf(x: Any, df: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density; 0 left of `loc`."""
    return gamma.pdf(x, df / 2, loc, 2 * scale)


@statistic
def cdf(x: Any, df: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of at most `x`."""
    return gamma.cdf(x, df / 2, loc, 2 * scale)


@statistic
def logcdf(x: Any, df: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `cdf`."""
    return gamma.logcdf(x, df / 2, loc, 2 * scale)


@statistic
def sf(x: Any, df: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of more than `x`, exact where tiny."""
    return gamma.sf(x, df / 2, loc, 2 * scale)


@statistic
def logsf(x: Any, df: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `sf`."""
    return gamma.logsf(x, df / 2, loc, 2 * scale)
