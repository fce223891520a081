"""The uniform distribution from `loc` to `loc + scale`, as `jax.scipy.stats.uniform`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.stats.distribution import statistic

__all__ = ["cdf", "logpdf", "pdf", "ppf"]


@statistic
def logpdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density; minus infinity outside of the interval."""
    outside = (x < loc) | (x > loc + scale)
    return fnp.where(outside, -np.inf, fnp.where(fnp.isnan(x), x, -fnp.log(scale)))


@statistic
def pdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density; 0 outside of the interval."""
    return fnp.exp(logpdf(x, loc, scale))


@statistic
def cdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of at most `x`."""
    return fnp.clip((x - loc) / scale, 0, 1)


@statistic
def ppf(q: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The inverse of `cdf`; NaN where `q` is not from 0 to 1."""
    return fnp.where((q < 0) | (q > 1), np.nan, q * scale + loc)
