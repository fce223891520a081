"""The Laplace distribution of mean `loc`, as `jax.scipy.stats.laplace`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

from typing import Any

import funcdl.numpy as fnp
from funcdl.scipy.stats.distribution import LOG_2, statistic

__all__ = ["cdf", "logpdf", "pdf"]


@statistic
def logpdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density."""
    return -abs(x - loc) / scale - (LOG_2 + fnp.log(scale))


@statistic
def pdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density."""
    return fnp.exp(logpdf(x, loc, scale))


@statistic
def cdf(x: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of at most `x`."""
    z = (x - loc) / scale
    tail = fnp.exp(-abs(z)) / 2
    return fnp.where(z < 0, tail, 1 - tail)
