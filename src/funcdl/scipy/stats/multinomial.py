"""The distribution of counts of several outcomes, as `jax.scipy.stats.multinomial`."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.numpy.promotion import promote_inexact
from funcdl.scipy.special import gammaln, xlogy

__all__ = ["logpmf", "pmf"]


def logpmf(x: Any, n: Any, p: Any) -> Any:
    """The logarithm of the probability of `x`; minus infinity if it does not add up to `n`.

    See `scipy.stats.multinomial`.

    Args:
      x: ``[..., k]``, how often each outcome occurs.
      n: ``[...]``, the number of trials.
      p: ``[..., k]``, the outcomes' probabilities, which add up to 1.

    Returns:
      ``[...]``, a float of the operands' promoted dtype.

    Raises:
      ShapeError: the shapes do not broadcast.
    """
    x, n, p = promote_inexact("multinomial.logpmf", x, n, p)
    inside = (fnp.sum(x, axis=-1) == n) & fnp.all((x >= 0) & (x == fnp.floor(x)), axis=-1)
    counts = fnp.where(inside[..., None], x, 0)
    logarithm = gammaln(n + 1) + fnp.sum(xlogy(counts, p) - gammaln(counts + 1), axis=-1)
    return fnp.where(inside, logarithm, -np.inf)


def pmf(x: Any, n: Any, p: Any) -> Any:
    """The probability of `x`. Arguments are those of `logpmf`."""
    return fnp.exp(logpmf(x, n, p))
