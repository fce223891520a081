"""The von Mises distribution of angles, about 0, as `jax.scipy.stats.vonmises`.

Its concentration is `kappa`.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.special import i0e
from funcdl.scipy.stats.distribution import statistic

__all__ = ["logpdf", "pdf"]

_LOG_2_PI = math.log(2 * math.pi)


@statistic
def logpdf(x: Any, kappa: Any) -> Any:
    """The logarithm of the density, of period ``2 pi``; NaN for negative `kappa`."""
    bend = -2 * kappa * fnp.sin(x / 2) ** 2
    logarithm = bend - (_LOG_2_PI + fnp.log(i0e(kappa)))
    return fnp.where(kappa < 0, np.nan, logarithm)


@statistic
def pdf(x: Any, kappa: Any) -> Any:
    """The density, of period ``2 pi``."""
    return fnp.exp(logpdf(x, kappa))
