"""Zero mean and unit variance."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.core.array import shortened
from funcdl.core.options import is_option
from funcdl.errors import ArgumentError
from funcdl.numpy.promotion import promote_inexact
from funcdl.scipy.special.normalized import Axis


def standardize(
    x: Any,
    axis: Axis = -1,
    mean: Any = None,
    variance: Any = None,
    epsilon: Any = 1e-5,
    where: Any = None,
    *,
    algorithm: str = "fast",
) -> Any:
    """``(x - mean) / sqrt(variance + epsilon)`` along axes (see `jax.nn.standardize`).

    Half types are computed with in float32, since the squares of their values overflow.

    Args:
      x: an array.
      axis: an axis, a tuple of axes, or None for all.
      mean, variance: what to use; None means those of `x` along the axes.
      epsilon: what keeps the divisor away from 0.
      where: which elements count in mean and variance; all are standardized.
      algorithm: ``"fast"`` or ``"stable"``. Both take the mean of squared differences from the
        mean; the difference of two large numbers that JAX takes for "fast" is not computed here.

    Raises:
      ArgumentError: there is no such algorithm.
    """
    if not is_option(algorithm, ("fast", "stable")):
        raise ArgumentError(
            f"standardize: algorithm must be 'fast' or 'stable', got {shortened(algorithm)}"
        )
    (x,) = promote_inexact("standardize", x)
    dtype = x.dtype
    x = x.astype(fnp.promote_types(dtype, np.float32))
    if mean is not None:
        mean = fnp.asarray(mean)
    else:
        mean = fnp.mean(x, axis=axis, keepdims=True, where=where)
    centred = x - mean
    if variance is None:
        about = x - fnp.mean(x, axis=axis, keepdims=True, where=where)
        variance = fnp.mean(fnp.square(about), axis=axis, keepdims=True, where=where)
    spread = fnp.sqrt(fnp.asarray(variance) + fnp.asarray(epsilon))
    return (centred / spread).astype(dtype)
