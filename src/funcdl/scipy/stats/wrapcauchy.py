"""The Cauchy distribution around a circle, from 0 to ``2 pi``, as `jax.scipy.stats.wrapcauchy`.

Its shape `c` is between 0 and 1.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.stats.distribution import statistic

__all__ = ["logpdf", "pdf"]

_TURN = 2 * math.pi


@statistic
def logpdf(x: Any, c: Any) -> Any:
    """The logarithm of the density; minus infinity for other angles, NaN for other shapes."""
    outside = (x < 0) | (x > _TURN)
    x = fnp.where(outside, 0, x)
    wrong = (c <= 0) | (c >= 1)
    c = fnp.where(wrong, 0.5, c)
    distance = (1 - c) ** 2 + 4 * c * fnp.sin(x / 2) ** 2
    logarithm = fnp.log1p(c) + fnp.log1p(-c) - fnp.log(_TURN * distance)
    return fnp.where(wrong, np.nan, fnp.where(outside, -np.inf, logarithm))


@statistic
def pdf(x: Any, c: Any) -> Any:
    """The density."""
    return fnp.exp(logpdf(x, c))
