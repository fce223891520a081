"""Well conditioned matrices, for the test calls of the primitives."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.core.avals import Shape
from funcdl.ops.registry import random_array

NDArray = np.ndarray[Any, Any]


def spread(rng: np.random.Generator, shape: Shape, dtype: np.dtype[Any]) -> NDArray:
    """Matrices with 1, 2, 3, … on their diagonals and little elsewhere.

    Their eigenvalues and singular values are about that, so far from each other and from 0.
    """
    x = random_array(rng, shape, dtype, -0.25, 0.25)
    for i in range(min(shape[-2:])):
        x[..., i, i] += 1 + i
    return x


def positive_definite(rng: np.random.Generator, shape: Shape, dtype: np.dtype[Any]) -> NDArray:
    """Hermitian positive definite matrices."""
    x = spread(rng, shape, dtype)
    return (x + np.swapaxes(x.conj(), -1, -2)).astype(dtype)
