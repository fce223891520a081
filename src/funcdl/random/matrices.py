"""Random vectors and matrices that need linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.options import is_option
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.numpy.creation import DTypeLike, ShapeLike, canonical, shape_of
from funcdl.numpy.promotion import ArrayLike, array, broadcast_shapes, convert, strong
from funcdl.random.keys import single_key
from funcdl.random.parameters import float_dtype, real, spread
from funcdl.random.samplers import normal

_METHODS = ("cholesky", "eigh", "svd")


def multivariate_normal(
    key: Any,
    mean: ArrayLike,
    cov: ArrayLike,
    shape: ShapeLike = None,
    dtype: DTypeLike = None,
    method: str = "cholesky",
) -> Any:
    """Normal vectors with a mean and a covariance matrix (see `jax.random.multivariate_normal`).

    Args:
      key: one key.
      mean: shape ``[..., n]``.
      cov: symmetric and positive, shape ``[..., n, n]``.
      shape: the result's shape without the last dimension; None: that to which the leading
        dimensions of the parameters broadcast.
      dtype: a floating type.
      method: how the square root of `cov` is found: ``"cholesky"``, or ``"eigh"`` or ``"svd"``,
        which are slower and take singular matrices too. Values are JAX's with "cholesky"; the
        others leave the signs of vectors open, and so are right in distribution only.

    Returns:
      An array of shape ``shape + (n,)``.

    Raises:
      ArgumentError: another method.
      ShapeError: the shapes do not fit.
      DtypeError: `dtype` is no floating type.
    """
    name = "multivariate_normal"
    if not is_option(method, _METHODS):
        raise ArgumentError(
            f"{name}: method must be one of {', '.join(_METHODS)}; got {shortened(method)}"
        )
    data, target = single_key(name, key), float_dtype(name, dtype)
    mean, cov = real(name, "mean", mean, target), real(name, "cov", cov, target)
    if mean.ndim < 1 or cov.aval.shape[-2:] != mean.aval.shape[-1:] * 2:
        raise ShapeError(
            f"{name}: mean must have shape [..., n] and cov [..., n, n], got {mean.aval} and "
            f"{cov.aval}"
        )
    size = mean.aval.shape[-1]
    leading = (mean.aval.shape[:-1], cov.aval.shape[:-2])
    sizes = broadcast_shapes(*leading, name=name) if shape is None else shape_of(shape)
    noise = normal(data, (*sizes, size), target)
    factor = spread(name, "cov", _root(cov, method), (*sizes, size, size))
    return spread(name, "mean", mean, (*sizes, size)) + fnp.squeeze(
        fnp.matmul(factor, noise[..., None]), -1
    )


def _root(cov: Any, method: str) -> Any:
    """A matrix whose product with its own transpose is `cov`."""
    # The factorizations take no half types.
    wide = convert(cov, np.dtype(np.float32)) if cov.aval.dtype.itemsize == 2 else cov
    if method == "cholesky":
        root = fnp.linalg.cholesky(wide)
    elif method == "eigh":
        values, vectors = fnp.linalg.eigh(wide)
        # Rounding can make eigenvalues of singular matrices negative.
        root = vectors * fnp.sqrt(fnp.maximum(values, 0))[..., None, :]
    else:
        left, values, _ = fnp.linalg.svd(wide)
        root = left * fnp.sqrt(values)[..., None, :]
    return convert(root, cov.aval.dtype)


def orthogonal(
    key: Any, n: int, shape: ShapeLike = (), dtype: DTypeLike = None, m: int | None = None
) -> Any:
    """Orthogonal matrices, all equally likely (see `jax.random.orthogonal`).

    The orthogonal factors of matrices of normal numbers, with the signs that make them unique: F.
    Mezzadri, "How to generate random matrices from the classical compact groups", Notices of the
    AMS 54 (2007).

    Args:
      key: one key.
      n: the number of rows.
      shape: how many matrices.
      dtype: a floating or complex type; with a complex one matrices are unitary.
      m: the number of columns, by default `n`. Of the rows and the columns, those of which there
        are fewer are orthonormal.

    Returns:
      An array of shape ``shape + (n, m)``.

    Raises:
      DtypeError: another dtype.
      ShapeError: `n` or `m` is no integer, or negative.
    """
    data = single_key("orthogonal", key)
    target = dtypes.default_dtype("f") if dtype is None else canonical(dtype)
    if not dtypes.is_inexact(target):
        raise DtypeError(f"orthogonal: dtype must be a floating or complex type, got {target.name}")
    rows, columns = shape_of((n, n if m is None else m), "orthogonal: (n, m)")
    size = (*shape_of(shape), max(rows, columns), min(rows, columns))
    z = normal(data, size, target)
    wide = convert(z, np.dtype(np.float32)) if target.itemsize == 2 else z
    q, r = lax.linalg.qr(wide, full_matrices=False)
    diagonal = fnp.diagonal(r, axis1=-2, axis2=-1)
    out = strong(convert(array("orthogonal", q * fnp.sign(diagonal)[..., None, :]), target))
    return fnp.swapaxes(out, -1, -2) if rows < columns else out
