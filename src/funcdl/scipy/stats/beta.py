"""The beta distribution of shapes `a`, `b` from `loc` to `loc + scale`, as `jax.scipy.stats.beta`.

All operands broadcast, and give a float of their promoted dtype.
Distribution functions have derivatives by `x`, `loc` and `scale` only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.special import betainc, betaln, xlog1py, xlogy
from funcdl.scipy.stats.distribution import statistic

__all__ = ["cdf", "logcdf", "logpdf", "logsf", "pdf", "sf"]


@statistic
def logpdf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of the density; minus infinity outside of the interval."""
    z = (x - loc) / scale
    outside = (z < 0) | (z > 1)
    z = fnp.where(outside, 0.5, z)
    logarithm = xlogy(a - 1, z) + xlog1py(b - 1, -z) - betaln(a, b) - fnp.log(scale)
    return fnp.where(outside, -np.inf, logarithm)


@statistic
def pdf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The density; 0 outside of the interval."""
    return fnp.exp(logpdf(x, a, b, loc, scale))


@statistic
def cdf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of at most `x`."""
    share, below = _smaller_share((x - loc) / scale, a, b)
    return fnp.where(below, share, 1 - share)


@statistic
def logcdf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `cdf`."""
    share, below = _smaller_share((x - loc) / scale, a, b)
    return _log_share(share, below)


@statistic
def sf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The probability of more than `x`, exact where tiny."""
    share, below = _smaller_share((x - loc) / scale, a, b)
    return fnp.where(below, 1 - share, share)


@statistic
def logsf(x: Any, a: Any, b: Any, loc: Any = 0, scale: Any = 1) -> Any:
    """The logarithm of `sf`."""
    share, below = _smaller_share((x - loc) / scale, a, b)
    return _log_share(share, ~below)


def _smaller_share(z: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """The probability on that side of `z` that the mean is not on; and whether this is below."""
    z = fnp.clip(z, 0, 1)
    below = ~(z > a / (a + b))
    first, second = fnp.where(below, a, b), fnp.where(below, b, a)
    return betainc(first, second, fnp.where(below, z, 1 - z)), below


def _log_share(share: Any, plain: Any) -> Any:
    """The logarithm of a share where it is meant, else of what it leaves."""
    value = fnp.where(plain, share, 0.5)
    rest = fnp.where(plain, 0.5, share)
    return fnp.where(plain, fnp.log(value), fnp.log1p(-rest))
