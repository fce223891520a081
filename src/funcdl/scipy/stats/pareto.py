"""The Pareto distribution of shape `b` from `loc + scale` on, as `jax.scipy.stats.pareto`.

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
def logpdf(x: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density; minus infinity left of ``loc + scale``."""
    z, below = _relative(x, loc, scale)
    return fnp.where(below, -np.inf, fnp.log(b) - (b + 1) * fnp.log(z) - fnp.log(scale))


@statistic
def pdf(x: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density; 0 left of ``loc + scale``."""
    return fnp.exp(logpdf(x, b, loc, scale))


@statistic
def cdf(x: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of at most `x`."""
    z, _ = _relative(x, loc, scale)
    return -fnp.expm1(-b * fnp.log(z))


@statistic
def logcdf(x: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `cdf`."""
    z, below = _relative(x, loc, scale)
    logarithm = log1mexp(b * fnp.log(fnp.where(below, 2, z)))
    return fnp.where(below, -np.inf, logarithm)


@statistic
def sf(x: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of more than `x`."""
    return fnp.exp(logsf(x, b, loc, scale))


@statistic
def logsf(x: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `sf`."""
    z, _ = _relative(x, loc, scale)
    return -b * fnp.log(z)


@statistic
def ppf(q: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The inverse of `cdf`; NaN where `q` is not from 0 to 1."""
    outside = (q < 0) | (q > 1)
    quantile = fnp.exp(-fnp.log1p(-fnp.where(outside, 0, q)) / b)
    return fnp.where(outside, np.nan, quantile * scale + loc)


def _relative(x: Any, loc: Any, scale: Any) -> tuple[Any, Any]:
    """The number in units of the least one, but 1 left of that; and whether it is there."""
    z = (x - loc) / scale
    below = z < 1
    return fnp.where(below, 1, z), below
