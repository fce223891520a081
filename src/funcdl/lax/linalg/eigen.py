"""Eigenvalues, and the reductions of matrices that finding them begins with."""

from __future__ import annotations

from typing import Any

from funcdl.core.options import flag
from funcdl.errors import ArgumentError
from funcdl.lax.linalg.operands import range_of_subset, symmetrized
from funcdl.lax.operands import ArrayLike
from funcdl.numpy.linalg.operands import square_matrices
from funcdl.ops import linalg as ops
from funcdl.ops.slicing import slice_along


def eig(
    x: ArrayLike,
    *,
    compute_left_eigenvectors: bool = True,
    compute_right_eigenvectors: bool = True,
    enable_eigvec_derivs: bool = False,
) -> list[Any]:
    """Eigenvalues and eigenvectors of general matrices (see `jax.lax.linalg.eig`).

    Args:
      x: matrices ``[..., n, n]``.
      compute_left_eigenvectors, compute_right_eigenvectors: what to return besides the eigenvalues.
      enable_eigvec_derivs: let vectors have derivatives, those of vectors of length 1 whose largest
        component is real. They are right only where all eigenvalues differ and each vector has one
        largest component.

    Returns:
      Complex eigenvalues ``[..., n]`` in no order; left eigenvectors, as columns v with
      ``v* @ x = w v*``; right eigenvectors, as columns v with ``x @ v = w v``. NaN where LAPACK
      fails or `x` is not finite.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
      NotDifferentiableError: a derivative of vectors is asked for, and not enabled.
    """
    enable_eigvec_derivs = flag("eig: enable_eigvec_derivs", enable_eigvec_derivs)
    compute_right_eigenvectors = flag("eig: compute_right_eigenvectors", compute_right_eigenvectors)
    compute_left_eigenvectors = flag("eig: compute_left_eigenvectors", compute_left_eigenvectors)
    results: list[Any] = ops.eig(
        square_matrices("eig", x),
        compute_left_eigenvectors=bool(compute_left_eigenvectors),
        compute_right_eigenvectors=bool(compute_right_eigenvectors),
        enable_eigvec_derivs=bool(enable_eigvec_derivs),
    )
    return results


def eigh(
    x: ArrayLike,
    *,
    lower: bool = True,
    symmetrize_input: bool = True,
    sort_eigenvalues: bool = True,
    subset_by_index: tuple[int, int] | None = None,
) -> tuple[Any, Any]:
    """Eigenvectors and eigenvalues of Hermitian matrices (see `jax.lax.linalg.eigh`).

    Args:
      x: Hermitian matrices ``[..., n, n]``.
      lower: which triangle is read where `symmetrize_input` is false.
      symmetrize_input: take ``(x + x*) / 2`` instead of `x`.
      sort_eigenvalues: whether eigenvalues ascend; they do in any case.
      subset_by_index: ``(start, end)``, to return the eigenvalues from the start-th on, before the
        end-th, and their vectors.

    Returns:
      Eigenvectors as columns ``[..., n, n]``, and real eigenvalues ``[..., n]``. NaN where LAPACK
      fails. Derivatives of vectors are infinite or NaN where eigenvalues are equal.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
      ArgumentError: `subset_by_index` is no range within the eigenvalues.
    """
    sort_eigenvalues = flag("eigh: sort_eigenvalues", sort_eigenvalues)
    symmetrize_input = flag("eigh: symmetrize_input", symmetrize_input)
    lower = flag("eigh: lower", lower)
    x = square_matrices("eigh", x)
    if symmetrize_input:
        x = symmetrized(x)
    vectors, values = ops.eigh(x, lower=bool(lower), sort_eigenvalues=bool(sort_eigenvalues))
    if subset_by_index is None:
        return vectors, values
    start, end = range_of_subset("eigh", subset_by_index, values.aval.shape[-1])
    return slice_along(vectors, -1, start, end), slice_along(values, -1, start, end)


def hessenberg(a: ArrayLike) -> tuple[Any, Any]:
    """Reduction to Hessenberg form by reflections, as LAPACK packs it (see
    `jax.lax.linalg.hessenberg`).

    Args:
      a: matrices ``[..., n, n]``.

    Returns:
      Matrices with the Hessenberg form in the upper triangle and first subdiagonal, reflections
      below; and the factors ``[..., n - 1]`` of these. `householder_product` makes Q of both.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
    """
    form, taus = ops.hessenberg(square_matrices("hessenberg", a))
    return form, taus


def schur(
    x: ArrayLike,
    *,
    compute_schur_vectors: bool = True,
    sort_eig_vals: bool = False,
    select_callable: None = None,
) -> tuple[Any, ...]:
    """The Schur form ``x = Q @ T @ Q*`` (see `jax.lax.linalg.schur`).

    Args:
      x: matrices ``[..., n, n]``.
      compute_schur_vectors: whether to return Q.
      sort_eig_vals, select_callable: must be left at their defaults.

    Returns:
      T, upper triangular but for blocks of two rows where real matrices have complex eigenvalues,
      and Q. NaN where LAPACK fails or `x` is not finite.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
      ArgumentError: eigenvalues should be sorted.
    """
    sort_eig_vals = flag("schur: sort_eig_vals", sort_eig_vals)
    compute_schur_vectors = flag("schur: compute_schur_vectors", compute_schur_vectors)
    if sort_eig_vals or select_callable is not None:
        raise ArgumentError(
            "schur: eigenvalues cannot be sorted; leave sort_eig_vals and select_callable out"
        )
    form = ops.schur(square_matrices("schur", x), compute_schur_vectors=bool(compute_schur_vectors))
    return tuple(form)


def tridiagonal(a: ArrayLike, *, lower: bool = True) -> tuple[Any, Any, Any, Any]:
    """Reduction of Hermitian matrices to real tridiagonal ones (see `jax.lax.linalg.tridiagonal`).

    Args:
      a: Hermitian matrices ``[..., n, n]``, of which one triangle is read.
      lower: which one.

    Returns:
      LAPACK's packed reflections ``[..., n, n]``; the diagonal ``[..., n]``; the diagonal beside it
      ``[..., n - 1]``; the factors ``[..., n - 1]`` of the reflections.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
    """
    lower = flag("tridiagonal: lower", lower)
    packed, d, e, taus = ops.tridiagonal(square_matrices("tridiagonal", a), lower=bool(lower))
    return packed, d, e, taus
