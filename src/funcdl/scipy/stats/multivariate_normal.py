"""The normal distribution of vectors, as `jax.scipy.stats.multivariate_normal`."""

from __future__ import annotations

import math
from typing import Any

import funcdl.numpy as fnp
from funcdl.core.array import shortened
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.promotion import broadcast_shapes, promote_inexact
from funcdl.scipy.linalg import solve_triangular

__all__ = ["logpdf", "pdf"]


def logpdf(x: Any, mean: Any, cov: Any, allow_singular: None = None) -> Any:
    """The logarithm of the density, by Cholesky's decomposition of the covariance.

    See `scipy.stats.multivariate_normal`.

    Args:
      x: ``[..., n]``.
      mean: ``[..., n]``. If it is a scalar, `x` holds scalars as well, and `cov` variances.
      cov: ``[..., n, n]``, symmetric and positive definite; or a scalar, the variance of each of n
        independent numbers.
      allow_singular: must be None: densities exist for definite matrices only.

    Returns:
      ``[...]``, a float of the operands' promoted dtype; NaN where `cov` is not definite.

    Raises:
      ShapeError: the shapes do not fit.
      ArgumentError: `allow_singular` is given.
    """
    name = "multivariate_normal.logpdf"
    if allow_singular is not None:
        raise ArgumentError(f"{name}: allow_singular must be None, got {shortened(allow_singular)}")
    x, mean, cov = promote_inexact(name, x, mean, cov)
    if mean.ndim == 0:
        return -((x - mean) ** 2) / (2 * cov) - fnp.log(2 * math.pi * cov) / 2
    size = mean.shape[-1]
    if x.ndim == 0 or x.shape[-1] != size or (cov.ndim and cov.shape[-2:] != (size, size)):
        raise ShapeError(
            f"{name}: for means of {size} elements, x must end in a dimension of {size} and cov in "
            f"two, got x {x.aval}, mean {mean.aval} and cov {cov.aval}"
        )
    distance = x - mean
    if cov.ndim == 0:
        square = fnp.sum(distance * distance, axis=-1) / cov
        return -(square + size * fnp.log(2 * math.pi * cov)) / 2
    factor = fnp.linalg.cholesky(cov)
    batch = broadcast_shapes(distance.shape[:-1], cov.shape[:-2], name=name)
    whitened = solve_triangular(
        fnp.broadcast_to(factor, (*batch, size, size)),
        fnp.broadcast_to(distance, (*batch, size))[..., None],
        lower=True,
    )[..., 0]
    half_determinant = fnp.sum(fnp.log(fnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
    square = fnp.sum(whitened * whitened, axis=-1)
    return -(square + size * math.log(2 * math.pi)) / 2 - half_determinant


def pdf(x: Any, mean: Any, cov: Any) -> Any:
    """The density. Arguments are those of `logpdf`."""
    return fnp.exp(logpdf(x, mean, cov))
