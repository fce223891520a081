"""The Dirichlet distribution of probabilities that add up to 1, as `jax.scipy.stats.dirichlet`."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.errors import ShapeError
from funcdl.numpy.promotion import promote_inexact
from funcdl.scipy.special import gammaln, xlogy

__all__ = ["logpdf", "pdf"]


def logpdf(x: Any, alpha: Any) -> Any:
    """The logarithm of the density; minus infinity where `x` is no point inside the simplex.

    See `scipy.stats.dirichlet`.

    Args:
      x: ``[k, ...]``, the probabilities, along the first dimension as in SciPy; the last one may
        be left out.
      alpha: ``[k]``, the concentrations, positive.

    Returns:
      ``[...]``, a float of the operands' promoted dtype.

    Raises:
      ShapeError: `alpha` is no vector, or `x` has another length.
    """
    x, alpha = promote_inexact("dirichlet.logpdf", x, alpha)
    if alpha.ndim != 1 or x.ndim == 0 or x.shape[0] not in (alpha.shape[0], alpha.shape[0] - 1):
        raise ShapeError(
            "dirichlet.logpdf: alpha must be a vector, and x have its length along the first "
            f"dimension, or one less, got x {x.aval} and alpha {alpha.aval}"
        )
    if x.shape[0] != alpha.shape[0]:
        x = fnp.concatenate([x, 1 - fnp.sum(x, axis=0, keepdims=True)])
    inside = fnp.all(x > 0, axis=0) & (abs(fnp.sum(x, axis=0) - 1) < 1e-6)
    normalizer = fnp.sum(gammaln(alpha)) - gammaln(fnp.sum(alpha))
    powers = fnp.reshape(alpha - 1, (-1, *(1,) * (x.ndim - 1)))
    logarithm = fnp.sum(xlogy(powers, fnp.where(inside, x, 1)), axis=0) - normalizer
    return fnp.where(inside, logarithm, -np.inf)


def pdf(x: Any, alpha: Any) -> Any:
    """The density; 0 where `x` is no point inside the simplex. Arguments are those of `logpdf`."""
    return fnp.exp(logpdf(x, alpha))
