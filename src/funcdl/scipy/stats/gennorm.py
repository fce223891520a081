"""The generalized normal distribution of power `beta`, as `jax.scipy.stats.gennorm`.

It is Laplace's for 1, and for 2 the normal one of variance 1/2.

All operands broadcast, and give a float of their promoted dtype.
"""

from __future__ import annotations

from typing import Any

import funcdl.numpy as fnp
from funcdl.scipy.special import gammainc, gammaln
from funcdl.scipy.stats.distribution import LOG_2, statistic

__all__ = ["cdf", "logpdf", "pdf"]


@statistic
def logpdf(x: Any, beta: Any) -> Any:
    """The logarithm of the density."""
    return fnp.log(beta) - LOG_2 - gammaln(1 / beta) - _power(x, beta)


@statistic
def pdf(x: Any, beta: Any) -> Any:
    """The density."""
    return fnp.exp(logpdf(x, beta))


@statistic
def cdf(x: Any, beta: Any) -> Any:
    """The probability of at most `x`."""
    return (1 + fnp.sign(x) * gammainc(1 / beta, _power(x, beta))) / 2


def _power(x: Any, beta: Any) -> Any:
    there = x == 0
    return fnp.where(there, 0, abs(fnp.where(there, 1, x)) ** beta)
