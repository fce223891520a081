"""Factorizations, and solving with them."""

from __future__ import annotations

from typing import Any

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.integers import integer
from funcdl.core.options import flag, is_option
from funcdl.errors import ArgumentError, ShapeError
from funcdl.lax import linalg as factorizations
from funcdl.numpy import linalg as matrices
from funcdl.numpy.promotion import ArrayLike, array, broadcast_shapes, promote_inexact
from funcdl.ops import linalg as ops
from funcdl.ops.convert import cast
from funcdl.ops.linalg import common
from funcdl.ops.linalg.common import adjoint, dot
from funcdl.ops.linalg.eig import complex_dtype
from funcdl.ops.linalg.lu import lu_solve as _solve_with
from funcdl.ops.linalg.lu import permuted
from funcdl.ops.shape import broadcast_to, full, reshape

__all__ = [
    "cho_factor",
    "cho_solve",
    "cholesky",
    "det",
    "eigh",
    "hessenberg",
    "inv",
    "lu",
    "lu_factor",
    "lu_solve",
    "qr",
    "schur",
    "solve",
    "solve_triangular",
    "svd",
]


def cholesky(
    a: ArrayLike, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> Any:
    """Cholesky factors (see `jax.scipy.linalg.cholesky`).

    Args:
      a: Hermitian positive definite matrices ``[..., n, n]``, of which one triangle is read.
      lower: return L with ``a = L @ L*`` and read the lower triangle, else the upper triangular
        ``L*`` and the upper triangle.
      overwrite_a, check_finite: have no effect.

    Returns:
      Matrices of the same shape; NaN in the triangle where `a` is not positive definite.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
    """
    lower = flag("cholesky: lower", lower)
    return matrices.cholesky(a, upper=not lower, symmetrize_input=False)


def cho_factor(
    a: ArrayLike, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Any, bool]:
    """A Cholesky factor, and whether it is the lower one, for `cho_solve`.

    Arguments, shapes, dtypes and errors are those of `cholesky`. See `jax.scipy.linalg.cho_factor`.
    """
    lower = flag("cho_factor: lower", lower)
    return cholesky(a, lower), bool(lower)


def cho_solve(
    c_and_lower: tuple[ArrayLike, bool],
    b: ArrayLike,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Any:
    """Solve ``a @ x = b`` with the result of ``cho_factor(a)`` (see `jax.scipy.linalg.cho_solve`).

    Args:
      c_and_lower: a factor ``[..., n, n]``, and whether it is lower triangular.
      b: vectors ``[n]`` or matrices ``[..., n, k]``.
      overwrite_b, check_finite: have no effect.

    Raises:
      ShapeError: the shapes do not fit.
    """
    c, lower = c_and_lower
    first, second = (0, 2) if lower else (2, 0)
    x = solve_triangular(c, b, first, lower)
    return solve_triangular(c, x, second, lower)


def det(a: ArrayLike, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """Determinants, as `funcdl.numpy.linalg.det` (see `jax.scipy.linalg.det`).

    `overwrite_a` and `check_finite` have no effect; shapes, dtypes and errors are the same.
    """
    return matrices.det(a)


def inv(a: ArrayLike, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """Inverses, as `funcdl.numpy.linalg.inv` (see `jax.scipy.linalg.inv`).

    `overwrite_a` and `check_finite` have no effect; shapes, dtypes and errors are the same.
    """
    return matrices.inv(a)


def svd(
    a: ArrayLike,
    full_matrices: bool = True,
    compute_uv: bool = True,
    overwrite_a: bool = False,
    check_finite: bool = True,
    lapack_driver: str = "gesdd",
) -> Any:
    """Singular values and vectors ``(U, s, Vh)``, or s alone, as `funcdl.numpy.linalg.svd`.

    `overwrite_a`, `check_finite` and `lapack_driver` have no effect; shapes, dtypes and errors are
    the same. See `jax.scipy.linalg.svd`.
    """
    compute_uv = flag("svd: compute_uv", compute_uv)
    found = matrices.svd(a, full_matrices, compute_uv)
    return tuple(found) if compute_uv else found


def eigh(
    a: ArrayLike,
    b: ArrayLike | None = None,
    lower: bool = True,
    eigvals_only: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    turbo: bool = True,
    eigvals: Any = None,
    type: int = 1,
    check_finite: bool = True,
) -> Any:
    """Eigenvalues and eigenvectors of Hermitian matrices (see `jax.scipy.linalg.eigh`).

    Args:
      a: Hermitian matrices ``[..., n, n]``.
      b: positive definite matrices, to solve ``a @ v = w b @ v``; None for the identity.
      lower: which triangle of `a` is read.
      eigvals_only: return no vectors.
      eigvals: must be None.
      type: must be 1.
      overwrite_a, overwrite_b, turbo, check_finite: have no effect.

    Returns:
      Eigenvalues in ascending order, and vectors as columns, for which ``v* @ b @ v`` is the
      identity.

    Raises:
      ShapeError: the matrices are not square.
      ArgumentError: `eigvals` or another `type` is given.
    """
    eigvals_only = flag("eigh: eigvals_only", eigvals_only)
    lower = flag("eigh: lower", lower)
    if eigvals is not None or integer("eigh: type", type) != 1:
        raise ArgumentError("eigh: leave eigvals and type out; slice the results instead")
    (a,) = promote_inexact("eigh", a)
    common.check_matrix("eigh", a.aval, square=True)
    a = common.hermitian(a, lower)
    factor = None
    if b is not None:
        a, b = promote_inexact("eigh", a, b)
        factor = cholesky(b, lower=True)
        a = solve_triangular(factor, a, lower=True)
        a = adjoint(solve_triangular(factor, adjoint(a), lower=True))
    if eigvals_only:
        return matrices.eigvalsh(a)
    values, vectors = matrices.eigh(a)
    if factor is not None:
        vectors = solve_triangular(factor, vectors, 2, lower=True)
    return values, vectors


def hessenberg(
    a: ArrayLike, *, calc_q: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> Any:
    """The Hessenberg form ``a = Q @ H @ Q*`` (see `jax.scipy.linalg.hessenberg`).

    Args:
      a: matrices ``[..., n, n]``.
      calc_q: whether to return Q.
      overwrite_a, check_finite: have no effect.

    Returns:
      H, with zeros below the first subdiagonal, or ``(H, Q)``.

    Raises:
      ShapeError: the matrices are not square.
      NotDifferentiableError: a derivative is asked for.
    """
    calc_q = flag("hessenberg: calc_q", calc_q)
    packed, taus = factorizations.hessenberg(a)
    form = common.upper(packed, -1)
    if not calc_q:
        return form
    n = packed.aval.shape[-1]
    q = common.identity_like(packed)
    if n > 1:
        # The reflections leave the first element alone.
        rest = factorizations.householder_product(packed[..., 1:, :-1], taus)
        q = q.at[..., 1:, 1:].set(rest)
    return form, q


def lu(
    a: ArrayLike, permute_l: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Any, ...]:
    """LU factors ``a = P @ L @ U`` (see `jax.scipy.linalg.lu`).

    Args:
      a: matrices ``[..., m, n]``.
      permute_l: return ``(P @ L, U)``.
      overwrite_a, check_finite: have no effect.

    Returns:
      P ``[..., m, m]``, L ``[..., m, k]`` and U ``[..., k, n]``, where k is the lesser of m and n.

    Raises:
      ShapeError: there are no matrices.
    """
    permute_l = flag("lu: permute_l", permute_l)
    factors, _, permutation = factorizations.lu(a)
    m, n = factors.aval.shape[-2:]
    k = min(m, n)
    low = common.lower(common.part(factors, columns=k), -1)
    low = low + common.identity_like(low)
    high = common.upper(common.part(factors, rows=k))
    batch = factors.aval.shape[:-2]
    real = dtypes.real_dtype(factors.aval.dtype)
    place = broadcast_to(common.identity_like(full((m, m), 0, real)), (*batch, m, m))
    p = common.matrix_transpose(permuted(permutation, place))
    if permute_l:
        return dot(cast(p, factors.aval.dtype), low), high
    return p, low, high


def lu_factor(
    a: ArrayLike, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Any, Any]:
    """LU factors in one matrix, and pivots, for `lu_solve` (see `jax.scipy.linalg.lu_factor`).

    They are the first two results of `funcdl.lax.linalg.lu`, with its shapes, dtypes and errors.
    `overwrite_a` and `check_finite` have no effect.
    """
    factors, pivots, _ = factorizations.lu(a)
    return factors, pivots


def lu_solve(
    lu_and_piv: tuple[ArrayLike, ArrayLike],
    b: ArrayLike,
    trans: int = 0,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Any:
    """Solve ``op(a) @ x = b`` with the result of ``lu_factor(a)``.

    See `jax.scipy.linalg.lu_solve`.

    Args:
      lu_and_piv: factors ``[..., n, n]`` and pivots ``[..., n]``.
      b: a vector ``[n]`` or matrices ``[..., n, k]``.
      trans: 0 for `a` itself, 1 for its transpose, 2 for its conjugate transpose.
      overwrite_b, check_finite: have no effect.

    Raises:
      ShapeError: the shapes do not fit.
      ArgumentError: `trans` is none of these.
    """
    if trans not in (0, 1, 2):
        raise ArgumentError(f"lu_solve: trans must be 0, 1 or 2, got {shortened(trans)}")
    factors, b = promote_inexact("lu_solve", lu_and_piv[0], b)
    pivots = array("lu_solve", lu_and_piv[1])
    common.check_matrix("lu_solve", factors.aval, square=True)
    n = factors.aval.shape[-1]
    side = _as_matrix("lu_solve", b, n)
    batch = _joint_batch("lu_solve", factors, side)
    permutation = ops.lu_pivots_to_permutation(pivots, permutation_size=n)
    x = _solve_with(
        broadcast_to(factors, (*batch, n, n)),
        broadcast_to(permutation, (*batch, n)),
        broadcast_to(side, (*batch, *side.aval.shape[-2:])),
        transpose=trans != 0,
        conj=trans == 2,
    )
    return reshape(x, new_sizes=x.aval.shape[:-1]) if b.ndim == 1 else x


def _as_matrix(name: str, b: Any, n: int) -> Any:
    """A vector as a matrix of one column; checks the number of rows."""
    if b.ndim == 0 or b.aval.shape[max(b.ndim - 2, 0)] != n:
        raise ShapeError(
            f"{name}: b must be a vector of {n} elements or matrices of {n} rows, got {b.aval}"
        )
    return reshape(b, new_sizes=(n, 1)) if b.ndim == 1 else b


def _joint_batch(name: str, a: Any, b: Any) -> tuple[int, ...]:
    return broadcast_shapes(a.aval.shape[:-2], b.aval.shape[:-2], name=name)


def qr(
    a: ArrayLike,
    overwrite_a: bool = False,
    lwork: Any = None,
    mode: str = "full",
    pivoting: bool = False,
    check_finite: bool = True,
) -> tuple[Any, ...]:
    """QR factors (see `jax.scipy.linalg.qr`).

    Args:
      a: matrices ``[..., m, n]``.
      mode: ``"full"``: Q has m columns; ``"economic"``: ``min(m, n)``; ``"r"``: no Q.
      pivoting: exchange columns, so that the diagonal of R descends in size.
      overwrite_a, lwork, check_finite: have no effect.

    Returns:
      A tuple of Q (unless ``mode="r"``), R, and with `pivoting` the order of columns.

    Raises:
      ShapeError: there are no matrices.
      ArgumentError: `mode` is none of these.
    """
    if not is_option(mode, ("full", "economic", "r")):
        raise ArgumentError(f"qr: mode must be 'full', 'economic' or 'r', got {shortened(mode)}")
    found = factorizations.qr(a, pivoting=pivoting, full_matrices=mode != "economic")
    return found[1:] if mode == "r" else found


def schur(a: ArrayLike, output: str = "real") -> tuple[Any, Any]:
    """The Schur form ``a = Z @ T @ Z*`` (see `jax.scipy.linalg.schur`).

    Args:
      a: matrices ``[..., n, n]``.
      output: ``"real"``, in which real matrices keep blocks of two rows for complex eigenvalues, or
        ``"complex"``, in which T is triangular.

    Returns:
      T and Z. NaN where LAPACK fails or `a` is not finite.

    Raises:
      ShapeError: the matrices are not square.
      ArgumentError: `output` is neither.
      NotDifferentiableError: a derivative is asked for.
    """
    if not is_option(output, ("real", "complex")):
        raise ArgumentError(f"schur: output must be 'real' or 'complex', got {shortened(output)}")
    (a,) = promote_inexact("schur", a)
    if output == "complex":
        common.check_dtype("schur", a.aval)
        a = cast(a, complex_dtype(a.aval.dtype))
    form, vectors = factorizations.schur(a)
    return form, vectors


def solve(
    a: ArrayLike,
    b: ArrayLike,
    lower: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    debug: bool = False,
    check_finite: bool = True,
    assume_a: str = "gen",
) -> Any:
    """Solve ``a @ x = b`` (see `jax.scipy.linalg.solve`).

    Args:
      a: matrices ``[..., n, n]``.
      b: a vector ``[n]`` or matrices ``[..., n, k]``.
      lower: which triangle of `a` is read with ``assume_a="pos"``.
      assume_a: ``"pos"`` for Hermitian positive definite matrices, which Cholesky factors solve;
        ``"gen"``, ``"sym"`` and ``"her"`` use LU factors.
      overwrite_a, overwrite_b, debug, check_finite: have no effect.

    Raises:
      ShapeError: the shapes do not fit.
      ArgumentError: `assume_a` is none of these.
    """
    if not is_option(assume_a, ("gen", "sym", "her", "pos")):
        raise ArgumentError(
            f"solve: assume_a must be 'gen', 'sym', 'her' or 'pos', got {shortened(assume_a)}"
        )
    if assume_a != "pos":
        return matrices.solve(a, b)
    return cho_solve(cho_factor(a, lower), b)


_TRANSPOSED = {0: 0, 1: 1, 2: 2, "N": 0, "T": 1, "C": 2}


def solve_triangular(
    a: ArrayLike,
    b: ArrayLike,
    trans: int | str = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    overwrite_b: bool = False,
    debug: Any = None,
    check_finite: bool = True,
) -> Any:
    """Solve ``op(a) @ x = b`` with triangular matrices (see `jax.scipy.linalg.solve_triangular`).

    Args:
      a: matrices ``[..., n, n]``, of which one triangle is read.
      b: a vector ``[n]`` or matrices ``[..., n, k]``; leading dimensions broadcast.
      trans: 0 or ``"N"`` for `a` itself, 1 or ``"T"`` for its transpose, 2 or ``"C"`` for its
        conjugate transpose.
      lower: which triangle.
      unit_diagonal: take the diagonal to be 1 without reading it.
      overwrite_b, debug, check_finite: have no effect.

    Returns:
      x, infinite or NaN where the diagonal has a zero.

    Raises:
      ShapeError: the shapes do not fit.
      ArgumentError: `trans` is none of these.
    """
    if not is_option(trans, _TRANSPOSED):
        raise ArgumentError(
            f"solve_triangular: trans must be 0, 1, 2, 'N', 'T' or 'C', got {shortened(trans)}"
        )
    kind = _TRANSPOSED[trans]
    a, b = promote_inexact("solve_triangular", a, b)
    common.check_matrix("solve_triangular", a.aval, square=True)
    n = a.aval.shape[-1]
    side = _as_matrix("solve_triangular", b, n)
    batch = _joint_batch("solve_triangular", a, side)
    x = factorizations.triangular_solve(
        broadcast_to(a, (*batch, n, n)),
        broadcast_to(side, (*batch, *side.aval.shape[-2:])),
        left_side=True,
        lower=lower,
        transpose_a=kind != 0,
        conjugate_a=kind == 2,
        unit_diagonal=unit_diagonal,
    )
    return reshape(x, new_sizes=x.aval.shape[:-1]) if b.ndim == 1 else x
