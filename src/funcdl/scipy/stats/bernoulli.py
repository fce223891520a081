"""The distribution of 1 with probability `p`, otherwise 0, as `jax.scipy.stats.bernoulli`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.special import xlog1py, xlogy
from funcdl.scipy.stats.distribution import is_no_count, statistic

__all__ = ["cdf", "logpmf", "pmf", "ppf"]


@statistic
def logpmf(k: Any, p: Any, loc: Any = 0) -> Any:
    """The logarithm of the probability of `k`; minus infinity if it is not 0 or 1."""
    n = k - loc
    outside = is_no_count(n) | (n > 1)
    n = fnp.where(outside, 0, n)
    return fnp.where(outside, -np.inf, xlogy(n, p) + xlog1py(1 - n, -p))


@statistic
def pmf(k: Any, p: Any, loc: Any = 0) -> Any:
    """The probability of `k`."""
    return fnp.exp(logpmf(k, p, loc))


@statistic
def cdf(k: Any, p: Any) -> Any:
    """The probability of at most `k`."""
    return fnp.where(k < 0, 0, fnp.where(k < 1, 1 - p, fnp.where(fnp.isnan(k), k, 1)))


@statistic
def ppf(q: Any, p: Any) -> Any:
    """The least number for which `cdf` is at least `q`; NaN if that is not from 0 to 1."""
    known = (q >= 0) & (q <= 1) & (p >= 0) & (p <= 1)
    return fnp.where(known, fnp.where(q <= 1 - p, 0, 1), np.nan)
