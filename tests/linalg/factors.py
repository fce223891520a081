"""Matrices to factor, and what makes a factorization right."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from funcdl.core import dtypes

NDArray = np.ndarray[Any, Any]

DTYPES = ("float32", "float64", "complex64", "complex128")


@st.composite
def matrices(draw: st.DrawFn, *, square: bool = False, least: int = 0) -> NDArray:
    """Batches of random matrices of up to 5 rows and columns, of any dtype that LAPACK has."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    batch = draw(st.sampled_from([(), (), (1,), (2,), (0,), (2, 2)]))
    m = draw(st.integers(least, 5))
    n = m if square else draw(st.integers(least, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return normal(rng, (*batch, m, n), dtype)


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> NDArray:
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def adjoint(x: NDArray) -> NDArray:
    return np.swapaxes(x.conj(), -1, -2)


def hermitian(x: NDArray) -> NDArray:
    return (x + adjoint(x)) / 2


def positive(x: NDArray) -> NDArray:
    """Hermitian positive definite, of the shape of a square `x`."""
    n = x.shape[-1]
    return (x @ adjoint(x) + np.eye(n)).astype(x.dtype)


def near(found: Any, wanted: Any, factor: float = 200) -> None:
    """Equal within some rounding errors of the largest element, or of 1."""
    x, y = np.asarray(found), np.asarray(wanted)
    assert (x.shape, x.dtype) == (y.shape, y.dtype)
    eps = float(dtypes.finfo(dtypes.real_dtype(x.dtype)).eps)
    scale = max(1.0, float(np.abs(y).max(initial=0.0)))
    np.testing.assert_allclose(x, y, rtol=0, atol=factor * eps * scale)


def orthonormal(q: Any) -> None:
    """Columns of length 1 that are normal to each other."""
    x = np.asarray(q)
    eye = np.broadcast_to(np.eye(x.shape[-1]), (*x.shape[:-2], x.shape[-1], x.shape[-1]))
    near(adjoint(x) @ x, eye.astype(x.dtype))
