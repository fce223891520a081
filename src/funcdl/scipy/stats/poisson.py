"""The Poisson distribution of mean `mu`, as `jax.scipy.stats.poisson`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.special import gammaincc, gammaln, xlogy
from funcdl.scipy.stats.distribution import is_no_count, statistic

__all__ = ["cdf", "entropy", "logpmf", "pmf"]

# The entropy of larger means comes from its expansion in 1 / mu (R. J. Evans, J. Boersma, N. M.
# Blachman, A. A. Jagers, "The entropy of a Poisson distribution", 1988), that of others from the
# sum over so many numbers.
_FAR = 100.0
_COUNTS = 256
_SERIES = (1375 / 1008, 863 / 2520, 9 / 80, 19 / 360, 1 / 24, 1 / 12)


@statistic
def logpmf(k: Any, mu: Any, loc: Any = 0) -> Any:
    """The logarithm of the probability of `k`; minus infinity if it is not 0, 1, 2, ..."""
    k = k - loc
    outside = is_no_count(k)
    k = fnp.where(outside, 0, k)
    return fnp.where(outside, -np.inf, xlogy(k, mu) - gammaln(k + 1) - mu)


@statistic
def pmf(k: Any, mu: Any, loc: Any = 0) -> Any:
    """The probability of `k`."""
    return fnp.exp(logpmf(k, mu, loc))


@statistic
def cdf(k: Any, mu: Any, loc: Any = 0) -> Any:
    """The probability of at most `k`."""
    k = fnp.floor(k - loc)
    return fnp.where(k < 0, 0, gammaincc(fnp.where(k < 0, 0, k) + 1, mu))


@statistic
def entropy(mu: Any, loc: Any = 0) -> Any:
    """The entropy in nats, which does not depend on `loc`; 0 for ``mu = 0``, NaN below."""
    mu, _ = fnp.broadcast_arrays(mu, loc)
    near = mu <= _FAR
    small, large = fnp.where(near, mu, 1), fnp.where(near, _FAR, mu)
    counts = fnp.arange(_COUNTS, dtype=mu.dtype)
    logarithms = logpmf(counts, small[..., None])
    total = -fnp.sum(fnp.exp(logarithms) * fnp.where(logarithms == -np.inf, 0, logarithms), axis=-1)
    series = fnp.zeros_like(large)
    for term in _SERIES:
        series = (series + term) / large
    limit = fnp.log(2 * math.pi * math.e * large) / 2 - series
    return fnp.where(mu < 0, np.nan, fnp.where(near, total, limit))
