"""Triangular and orthogonal factors, and singular values."""

from __future__ import annotations

from typing import Any, Literal, overload

from funcdl.core.integers import integer
from funcdl.core.options import flag
from funcdl.errors import ArgumentError
from funcdl.lax.linalg.operands import range_of_subset, symmetrized
from funcdl.lax.operands import ArrayLike
from funcdl.numpy.linalg.operands import square_matrices
from funcdl.numpy.promotion import array, promote_inexact
from funcdl.ops import linalg as ops
from funcdl.ops.slicing import slice_along


def cholesky(x: ArrayLike, *, symmetrize_input: bool = True) -> Any:
    """The lower triangular L with ``x = L @ L*`` (see `jax.lax.linalg.cholesky`).

    Args:
      x: Hermitian positive definite matrices ``[..., n, n]``.
      symmetrize_input: take ``(x + x*) / 2`` instead of `x`; else lower triangles alone are read.

    Returns:
      Matrices of the same shape; NaN in the lower triangle where `x` is not positive definite.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
    """
    symmetrize_input = flag("cholesky: symmetrize_input", symmetrize_input)
    x = square_matrices("cholesky", x)
    return ops.cholesky(symmetrized(x) if symmetrize_input else x)


def cholesky_update(r_matrix: ArrayLike, w_vector: ArrayLike) -> Any:
    """The upper triangular factor of ``r.T @ r + w w.T`` (see `jax.lax.linalg.cholesky_update`).

    Args:
      r_matrix: upper triangular real matrices ``[..., n, n]``; the rest is not read.
      w_vector: vectors ``[..., n]``.

    Returns:
      Factors with diagonals that are not negative, found in ``O(n**2)``.

    Raises:
      ShapeError: the shapes do not fit.
      DtypeError: the operands are not float32 or float64.
    """
    return ops.cholesky_update(*promote_inexact("cholesky_update", r_matrix, w_vector))


def lu(x: ArrayLike) -> tuple[Any, Any, Any]:
    """LU factors with row exchanges (see `jax.lax.linalg.lu`).

    Args:
      x: matrices ``[..., m, n]``.

    Returns:
      Matrices ``[..., m, n]`` with U in the upper triangle, and below it L, whose diagonal is 1;
      pivots ``[..., min(m, n)]``, the row that row i was exchanged with, from the first on; and the
      permutation ``[..., m]`` that they make: ``x[permutation] = L @ U``. For singular matrices U
      has a zero on its diagonal.

    Raises:
      ShapeError: there are no matrices.
      DtypeError: half precision.
    """
    factors, pivots, permutation = ops.lu(*promote_inexact("lu", x))
    return factors, pivots, permutation


def lu_pivots_to_permutation(pivots: ArrayLike, permutation_size: int) -> Any:
    """The permutation that row exchanges make (see `jax.lax.linalg.lu_pivots_to_permutation`).

    Args:
      pivots: int32 vectors ``[..., k]``: element i is exchanged with element ``pivots[i]``.
      permutation_size: the length of the result, at least k.

    Raises:
      DtypeError: the pivots are not int32.
      ArgumentError: `permutation_size` is less than their number.
    """
    pivots = array("lu_pivots_to_permutation", pivots)
    return ops.lu_pivots_to_permutation(
        pivots, permutation_size=integer("permutation_size", permutation_size)
    )


@overload
def qr(
    x: ArrayLike, *, pivoting: Literal[False] = False, full_matrices: bool = True
) -> tuple[Any, Any]: ...


@overload
def qr(
    x: ArrayLike, *, pivoting: Literal[True], full_matrices: bool = True
) -> tuple[Any, Any, Any]: ...


@overload
def qr(x: ArrayLike, *, pivoting: bool, full_matrices: bool = True) -> tuple[Any, ...]: ...


def qr(x: ArrayLike, *, pivoting: bool = False, full_matrices: bool = True) -> tuple[Any, ...]:
    """QR factors (see `jax.lax.linalg.qr`).

    Args:
      x: matrices ``[..., m, n]``.
      pivoting: exchange columns, so that the diagonal of R descends in size.
      full_matrices: return all m columns of Q and rows of R, not ``min(m, n)`` of them.

    Returns:
      Q with orthonormal columns, R upper triangular, and with `pivoting` the order of columns
      ``[..., n]``: ``x[:, p] = Q @ R``.

    Raises:
      ShapeError: there are no matrices.
      DtypeError: half precision.
    """
    full_matrices = flag("qr: full_matrices", full_matrices)
    pivoting = flag("qr: pivoting", pivoting)
    (x,) = promote_inexact("qr", x)
    return tuple(ops.qr(x, pivoting=bool(pivoting), full_matrices=bool(full_matrices)))


@overload
def svd(
    x: ArrayLike,
    *,
    full_matrices: bool = True,
    compute_uv: Literal[True] = True,
    subset_by_index: tuple[int, int] | None = None,
) -> tuple[Any, Any, Any]: ...


@overload
def svd(
    x: ArrayLike,
    *,
    full_matrices: bool = True,
    compute_uv: bool,
    subset_by_index: tuple[int, int] | None = None,
) -> Any: ...


def svd(
    x: ArrayLike,
    *,
    full_matrices: bool = True,
    compute_uv: bool = True,
    subset_by_index: tuple[int, int] | None = None,
) -> Any:
    """Singular values and vectors, ``x = U @ diag(s) @ Vh`` (see `jax.lax.linalg.svd`).

    Args:
      x: matrices ``[..., m, n]``.
      full_matrices: return all m columns of U and n rows of Vh, not ``min(m, n)`` of them.
      compute_uv: whether to return vectors.
      subset_by_index: ``(start, end)``, to return the values from the start-th on, before the
        end-th, and their vectors; not together with `full_matrices` and vectors.

    Returns:
      ``(U, s, Vh)``, or s alone; values ``[..., min(m, n)]`` descend. NaN where LAPACK fails.
      Derivatives of vectors are infinite or NaN where values are equal.

    Raises:
      ShapeError: there are no matrices.
      DtypeError: half precision.
      ArgumentError: `subset_by_index` is no range within the values, or cannot be given.
    """
    compute_uv = flag("svd: compute_uv", compute_uv)
    full_matrices = flag("svd: full_matrices", full_matrices)
    (x,) = promote_inexact("svd", x)
    if subset_by_index is not None and full_matrices and compute_uv:
        raise ArgumentError("svd: give subset_by_index together with full_matrices=False")
    values, *vectors = ops.svd(
        x, full_matrices=bool(full_matrices and compute_uv), compute_uv=bool(compute_uv)
    )
    if subset_by_index is not None:
        start, end = range_of_subset("svd", subset_by_index, values.aval.shape[-1])
        values = slice_along(values, -1, start, end)
        vectors = [
            slice_along(v, axis, start, end) for v, axis in zip(vectors, (-1, -2), strict=False)
        ]
    return (vectors[0], values, vectors[1]) if compute_uv else values
