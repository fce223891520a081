"""The distribution of the trials up to a success of probability `p`, as `jax.scipy.stats.geom`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.special import xlog1py
from funcdl.scipy.stats.distribution import is_no_count, statistic

__all__ = ["logpmf", "pmf"]


@statistic
def logpmf(k: Any, p: Any, loc: Any = 0) -> Any:
    """The logarithm of the probability of `k`; minus infinity if it is not 1, 2, 3, ..."""
    k = k - loc
    outside = is_no_count(k) | (k < 1)
    k = fnp.where(outside, 1, k)
    return fnp.where(outside, -np.inf, xlog1py(k - 1, -p) + fnp.log(p))


@statistic
def pmf(k: Any, p: Any, loc: Any = 0) -> Any:
    """The probability of `k`."""
    return fnp.exp(logpmf(k, p, loc))
