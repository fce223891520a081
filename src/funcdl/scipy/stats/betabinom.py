"""The binomial distribution of a probability that is beta distributed.

Of `n` trials and the shapes `a` and `b`, as `jax.scipy.stats.betabinom`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.special import betaln
from funcdl.scipy.stats.distribution import is_no_count, log_combinations, statistic

__all__ = ["logpmf", "pmf"]


@statistic
def logpmf(k: Any, n: Any, a: Any, b: Any, loc: Any = 0) -> Any:
    """The logarithm of the probability of `k`; minus infinity if it is not 0, 1, ..., n."""
    k = k - loc
    outside = is_no_count(k) | (k > n)
    k = fnp.where(outside, 0, k)
    logarithm = log_combinations(n, k) + betaln(k + a, n - k + b) - betaln(a, b)
    return fnp.where(outside, -np.inf, logarithm)


@statistic
def pmf(k: Any, n: Any, a: Any, b: Any, loc: Any = 0) -> Any:
    """The probability of `k`."""
    return fnp.exp(logpmf(k, n, a, b, loc))
