"""The distribution of successes among `n`, each of probability `p`, as `jax.scipy.stats.binom`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.special import xlog1py, xlogy
from funcdl.scipy.stats.distribution import is_no_count, log_combinations, statistic

__all__ = ["logpmf", "pmf"]


@statistic
def logpmf(k: Any, n: Any, p: Any, loc: Any = 0) -> Any:
    """The logarithm of the probability of `k`; minus infinity if it is not 0, 1, ..., n."""
    k = k - loc
    outside = is_no_count(k) | (k > n)
    k = fnp.where(outside, 0, k)
    logarithm = log_combinations(n, k) + xlogy(k, p) + xlog1py(n - k, -p)
    return fnp.where(outside, -np.inf, logarithm)


@statistic
def pmf(k: Any, n: Any, p: Any, loc: Any = 0) -> Any:
    """The probability of `k`."""
    return fnp.exp(logpmf(k, n, p, loc))
