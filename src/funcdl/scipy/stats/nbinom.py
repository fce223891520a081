"""The distribution of failures before success number `n`, as `jax.scipy.stats.nbinom`.

A trial succeeds with probability `p`; `n` need not be whole.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.special import betaln, xlog1py, xlogy
from funcdl.scipy.stats.distribution import is_no_count, statistic

__all__ = ["logpmf", "pmf"]


@statistic
def logpmf(k: Any, n: Any, p: Any, loc: Any = 0) -> Any:
    """The logarithm of the probability of `k`; minus infinity if it is not 0, 1, 2, ..."""
    k = k - loc
    outside = is_no_count(k)
    k = fnp.where(outside, 0, k)
    ways = -fnp.log(n + k) - betaln(n, k + 1)
    return fnp.where(outside, -np.inf, ways + xlogy(n, p) + xlog1py(k, -p))


@statistic
def pmf(k: Any, n: Any, p: Any, loc: Any = 0) -> Any:
    """The probability of `k`."""
    return fnp.exp(logpmf(k, n, p, loc))
