"""Factorizations of matrices and systems of a form, by `jax.lax.linalg`'s names.

Matrices are the last two dimensions of arrays, dimensions before them a batch. Integers become
floats; half precision is refused, since LAPACK has none. Where a factorization does not exist (or
LAPACK finds none), the results for that matrix are NaN, and nothing is raised.
"""

from __future__ import annotations

import operator
from typing import Any, Literal, overload

from funcdl.errors import ArgumentError, ShapeError
from funcdl.lax.operands import ArrayLike
from funcdl.lax.polar import qdwh
from funcdl.numpy.linalg.operands import square_matrices
from funcdl.numpy.promotion import array, promote_dtypes, promote_inexact
from funcdl.ops import linalg as ops
from funcdl.ops.arithmetic import add, scaled
from funcdl.ops.linalg import common
from funcdl.ops.linalg.common import adjoint, dot, matrix_transpose
from funcdl.ops.shape import full, reshape
from funcdl.ops.slicing import concatenate, slice_

__all__ = [
    "cholesky",
    "cholesky_update",
    "eig",
    "eigh",
    "hessenberg",
    "householder_product",
    "lu",
    "lu_pivots_to_permutation",
    "ormqr",
    "qdwh",
    "qr",
    "schur",
    "svd",
    "symmetric_product",
    "triangular_solve",
    "tridiagonal",
    "tridiagonal_solve",
]


def _one(name: str, x: ArrayLike) -> Any:
    return promote_inexact(name, x)[0]


def symmetrize(x: Any) -> Any:
    """The mean of matrices and their conjugate transposes."""
    return scaled(add(x, adjoint(x)), 0.5)


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
    x = square_matrices("cholesky", x)
    return ops.cholesky(symmetrize(x) if symmetrize_input else x)


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
    x = square_matrices("eigh", x)
    if symmetrize_input:
        x = symmetrize(x)
    vectors, values = ops.eigh(x, lower=bool(lower), sort_eigenvalues=bool(sort_eigenvalues))
    if subset_by_index is None:
        return vectors, values
    start, end = _subset("eigh", subset_by_index, values.aval.shape[-1])
    return _range(vectors, -1, start, end), _range(values, -1, start, end)


def _subset(name: str, subset: tuple[int, int], size: int) -> tuple[int, int]:
    start, end = map(operator.index, subset)
    if not 0 <= start < end <= size:
        raise ArgumentError(
            f"{name}: subset_by_index must be (start, end) with 0 <= start < end <= {size}, got "
            f"({start}, {end})"
        )
    return start, end


def _range(x: Any, axis: int, start: int, end: int) -> Any:
    starts, ends = [0] * x.ndim, list(x.aval.shape)
    starts[axis], ends[axis] = start, end
    return slice_(x, start_indices=tuple(starts), limit_indices=tuple(ends), strides=None)


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


def householder_product(a: ArrayLike, taus: ArrayLike) -> Any:
    """The first columns of a product of reflections (see `jax.lax.linalg.householder_product`).

    Args:
      a: matrices ``[..., m, n]`` whose column i has the i-th reflection's vector below the
        diagonal, where a 1 is understood.
      taus: factors ``[..., k]`` of the reflections, with ``m >= n >= k``.

    Raises:
      ShapeError: the shapes do not fit.
      DtypeError: half precision.
    """
    return ops.householder_product(*promote_inexact("householder_product", a, taus))


def ormqr(
    a: ArrayLike, taus: ArrayLike, c: ArrayLike, *, left: bool = True, transpose: bool = False
) -> Any:
    """A product of reflections times a matrix (see `jax.lax.linalg.ormqr`).

    Args:
      a, taus: the reflections ``[..., m, n]`` and ``[..., k]``, as for `householder_product`.
      c: matrices ``[..., rows, columns]``.
      left: whether Q stands on the left of `c`.
      transpose: take the conjugate transpose of Q.

    Raises:
      ShapeError: the shapes do not fit.
      DtypeError: half precision.
    """
    a, taus, c = promote_inexact("ormqr", a, taus, c)
    for x in (a, c):
        common.check_matrix("ormqr", x.aval)
    common.check_batch("ormqr", a.aval, 2, c.aval, 2)
    m, n = a.aval.shape[-2:]
    met = c.aval.shape[-2 if left else -1]
    if met != m or n > m:
        raise ShapeError(
            f"ormqr: a needs as many rows as c has {'rows' if left else 'columns'}, and no more "
            f"columns than rows, got a {a.aval} and c {c.aval}"
        )
    # All columns of Q: reflections that are not there are the identity.
    if n < m:
        a = concatenate(a, full((*a.aval.shape[:-1], m - n), 0, a.aval.dtype), dimension=a.ndim - 1)
    q = ops.householder_product(a, taus)
    q = adjoint(q) if transpose else q
    return dot(q, c) if left else dot(c, q)


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
    factors, pivots, permutation = ops.lu(_one("lu", x))
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
    return ops.lu_pivots_to_permutation(pivots, permutation_size=operator.index(permutation_size))


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
    return tuple(ops.qr(_one("qr", x), pivoting=bool(pivoting), full_matrices=bool(full_matrices)))


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
    if sort_eig_vals or select_callable is not None:
        raise ArgumentError(
            "schur: eigenvalues cannot be sorted; leave sort_eig_vals and select_callable out"
        )
    form = ops.schur(square_matrices("schur", x), compute_schur_vectors=bool(compute_schur_vectors))
    return tuple(form)


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
    x = _one("svd", x)
    if subset_by_index is not None and full_matrices and compute_uv:
        raise ArgumentError("svd: give subset_by_index together with full_matrices=False")
    values, *vectors = ops.svd(
        x, full_matrices=bool(full_matrices and compute_uv), compute_uv=bool(compute_uv)
    )
    if subset_by_index is not None:
        start, end = _subset("svd", subset_by_index, values.aval.shape[-1])
        values = _range(values, -1, start, end)
        vectors = [_range(v, axis, start, end) for v, axis in zip(vectors, (-1, -2), strict=False)]
    return (vectors[0], values, vectors[1]) if compute_uv else values


def symmetric_product(
    a_matrix: ArrayLike,
    c_matrix: ArrayLike,
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
    symmetrize_output: bool = False,
) -> Any:
    """``alpha * a @ a.T + beta * c`` (see `jax.lax.linalg.symmetric_product`).

    Args:
      a_matrix: matrices ``[..., m, n]``.
      c_matrix: symmetric matrices ``[..., m, m]``.
      alpha, beta: factors.
      symmetrize_output: fill the upper triangle from the lower one.

    Raises:
      ShapeError: the shapes do not fit.
      DtypeError: the dtypes differ.
    """
    a, c = promote_dtypes("symmetric_product", a_matrix, c_matrix)
    common.check_matrix("symmetric_product", a.aval)
    if c.aval.shape != (*a.aval.shape[:-1], a.aval.shape[-2]):
        raise ShapeError(
            "symmetric_product: c_matrix must have shape "
            f"{(*a.aval.shape[:-1], a.aval.shape[-2])} beside a_matrix {a.aval}, got {c.aval}"
        )
    out = add(scaled(dot(a, matrix_transpose(a)), alpha), scaled(c, beta))
    if symmetrize_output:
        out = add(common.lower(out), matrix_transpose(common.lower(out, -1)))
    return out


def triangular_solve(
    a: ArrayLike,
    b: ArrayLike,
    *,
    left_side: bool = False,
    lower: bool = False,
    transpose_a: bool = False,
    conjugate_a: bool = False,
    unit_diagonal: bool = False,
) -> Any:
    """Solve ``op(a) @ x = b``, or ``x @ op(a) = b`` (see `jax.lax.linalg.triangular_solve`).

    Args:
      a: triangular matrices ``[..., n, n]``; the other triangle is not read.
      b: matrices ``[..., n, k]`` with `left_side`, else ``[..., k, n]``; or vectors ``[..., n]``.
      left_side: on which side `a` stands.
      lower: whether `a` is lower triangular.
      transpose_a, conjugate_a: solve with `a` transposed, conjugated, or both.
      unit_diagonal: take the diagonal of `a` to be 1 without reading it.

    Returns:
      x, of the shape of `b`; infinite or NaN where the diagonal has a zero.

    Raises:
      ShapeError: the shapes do not fit.
      DtypeError: half precision.
    """
    a, b = promote_inexact("triangular_solve", a, b)
    shape = b.aval.shape
    if b.ndim == a.ndim - 1 and b.ndim > 0:
        b = reshape(b, new_sizes=(*shape, 1) if left_side else (*shape[:-1], 1, shape[-1]))
    x = ops.triangular_solve(
        a,
        b,
        left_side=bool(left_side),
        lower=bool(lower),
        transpose_a=bool(transpose_a),
        conjugate_a=bool(conjugate_a),
        unit_diagonal=bool(unit_diagonal),
    )
    return x if x.aval.shape == shape else reshape(x, new_sizes=shape)


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
    packed, d, e, taus = ops.tridiagonal(square_matrices("tridiagonal", a), lower=bool(lower))
    return packed, d, e, taus


def tridiagonal_solve(
    dl: ArrayLike, d: ArrayLike, du: ArrayLike, b: ArrayLike, *, perturb_singular: bool = False
) -> Any:
    """Solve systems with tridiagonal matrices (see `jax.lax.linalg.tridiagonal_solve`).

    Args:
      dl: lower diagonals ``[..., n]``: element i is in row i, and element 0 is not read.
      d: diagonals ``[..., n]``.
      du: upper diagonals ``[..., n]``: element i is in row i, and the last one is not read.
      b: matrices ``[..., n, k]``.
      perturb_singular: must be False.

    Returns:
      x, of the shape of `b`; NaN where the matrix is singular.

    Raises:
      ShapeError: the shapes do not fit.
      DtypeError: half precision.
      ArgumentError: `perturb_singular` is given.
    """
    if perturb_singular:
        raise ArgumentError(
            "tridiagonal_solve: singular matrices cannot be perturbed; leave perturb_singular out "
            "and test the result with isnan"
        )
    return ops.tridiagonal_solve(*promote_inexact("tridiagonal_solve", dl, d, du, b))
