"""Student's t distribution of `df` degrees of freedom, as `jax.scipy.stats.t`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.special import betaln
from funcdl.scipy.stats.distribution import statistic

__all__ = ["logpdf", "pdf"]

_LOG_ROOT_2_PI = math.log(2 * math.pi) / 2


@statistic
def logpdf(x: Any, df: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density; that of `norm` for infinite `df`."""
    z = (x - loc) / scale
    normal = df == np.inf
    df = fnp.where(normal, 1, df)
    power = (df + 1) / 2 * fnp.log1p(z * z / df)
    logarithm = -power - fnp.log(df) / 2 - betaln(df / 2, 0.5)
    limit = -z * z / 2 - _LOG_ROOT_2_PI
    return fnp.where(normal, limit, logarithm) - fnp.log(scale)


@statistic
def pdf(x: Any, df: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density."""
    return fnp.exp(logpdf(x, df, loc, scale))
