"""Factorizations, with results as named tuples."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, overload

from funcdl.core.array import shortened
from funcdl.core.options import flag, is_option
from funcdl.errors import ArgumentError
from funcdl.lax import linalg as factorizations
from funcdl.numpy.arithmetic import sign
from funcdl.numpy.promotion import ArrayLike, promote_inexact
from funcdl.numpy.sorting import argsort
from funcdl.ops import linalg as ops
from funcdl.ops.arithmetic import abs_, mul, neg
from funcdl.ops.convert import cast
from funcdl.ops.linalg import common
from funcdl.ops.linalg.common import adjoint
from funcdl.ops.sort import take_along

__all__ = [
    "cholesky",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "qr",
    "svd",
    "svdvals",
]


class EigResult(NamedTuple):
    """What `eig` returns."""

    eigenvalues: Any
    eigenvectors: Any


class EighResult(NamedTuple):
    """What `eigh` returns."""

    eigenvalues: Any
    eigenvectors: Any


class QRResult(NamedTuple):
    """What `qr` returns."""

    Q: Any
    R: Any


class SVDResult(NamedTuple):
    """What `svd` returns."""

    U: Any
    S: Any
    Vh: Any


def cholesky(a: ArrayLike, *, upper: bool = False, symmetrize_input: bool = True) -> Any:
    """Cholesky factors: the lower triangular L with ``a = L @ L*`` (see
    `jax.numpy.linalg.cholesky`).

    Args:
      a: Hermitian positive definite matrices ``[..., n, n]``.
      upper: return ``L*``, which is upper triangular.
      symmetrize_input: take ``(a + a*) / 2`` instead of `a`; else one triangle is read.

    Returns:
      Matrices of the same shape; NaN in the triangle where `a` is not positive definite.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
    """
    symmetrize_input = flag("cholesky: symmetrize_input", symmetrize_input)
    upper = flag("cholesky: upper", upper)
    (a,) = promote_inexact("cholesky", a)
    if upper and not symmetrize_input:
        common.check_matrix("cholesky", a.aval, square=True)
        a = adjoint(a)
    factor = factorizations.cholesky(a, symmetrize_input=symmetrize_input)
    return adjoint(factor) if upper else factor


def eig(a: ArrayLike) -> EigResult:
    """Eigenvalues and right eigenvectors of general matrices (see `jax.numpy.linalg.eig`).

    Only the eigenvalues have derivatives, by way of `eigvals`; `funcdl.lax.linalg.eig` lets vectors
    have them.

    Args:
      a: matrices ``[..., n, n]``.

    Returns:
      Complex eigenvalues ``[..., n]`` in no order, and vectors ``[..., n, n]`` of length 1 as
      columns. NaN where `a` is not finite.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
      NotDifferentiableError: a derivative is asked for.
    """
    values, vectors = factorizations.eig(a, compute_left_eigenvectors=False)
    return EigResult(values, vectors)


def eigvals(a: ArrayLike) -> Any:
    """Eigenvalues of general matrices ``[..., n, n]``: complex ones ``[..., n]``, in no order.

    See `numpy.linalg.eigvals`.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
    """
    (values,) = factorizations.eig(
        a, compute_left_eigenvectors=False, compute_right_eigenvectors=False
    )
    return values


def eigh(a: ArrayLike, UPLO: str | None = None, symmetrize_input: bool = True) -> EighResult:
    """Eigenvalues and eigenvectors of Hermitian matrices (see `jax.numpy.linalg.eigh`).

    Args:
      a: Hermitian matrices ``[..., n, n]``.
      UPLO: ``"L"`` (the default) or ``"U"``, the triangle that is read where `symmetrize_input` is
        false.
      symmetrize_input: take ``(a + a*) / 2`` instead of `a`.

    Returns:
      Real eigenvalues ``[..., n]`` in ascending order, and vectors ``[..., n, n]`` as columns.
      Derivatives of vectors are infinite or NaN where eigenvalues are equal.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
      ArgumentError: `UPLO` is neither.
    """
    if not is_option(UPLO, (None, "L", "U")):
        raise ArgumentError(f"eigh: UPLO must be 'L', 'U' or None, got {shortened(UPLO)}")
    vectors, values = factorizations.eigh(a, lower=UPLO != "U", symmetrize_input=symmetrize_input)
    return EighResult(values, vectors)


def eigvalsh(a: ArrayLike, UPLO: str | None = "L", *, symmetrize_input: bool = True) -> Any:
    """Eigenvalues of Hermitian matrices; the arguments are those of `eigh`."""
    return eigh(a, UPLO, symmetrize_input).eigenvalues


def qr(a: ArrayLike, mode: str = "reduced") -> Any:
    """QR factors (see `jax.numpy.linalg.qr`).

    Args:
      a: matrices ``[..., m, n]``.
      mode: ``"reduced"``: Q has ``min(m, n)`` columns; ``"complete"``: m; ``"r"``: R alone;
        ``"raw"``: the reflections that make Q, as LAPACK packs them, and their factors.

    Returns:
      Q with orthonormal columns and R upper triangular, or R alone, or ``(h, taus)``: the
      transpose of h is what `funcdl.lax.linalg.householder_product` takes.

    Raises:
      ShapeError: there are no matrices.
      DtypeError: half precision.
      ArgumentError: `mode` is none of these.
    """
    if not is_option(mode, ("reduced", "complete", "full", "r", "raw")):
        raise ArgumentError(
            f"qr: mode must be 'reduced', 'complete', 'r' or 'raw', got {shortened(mode)}"
        )
    if mode == "raw":
        packed, taus = ops.geqrf(*promote_inexact("qr", a))
        return common.matrix_transpose(packed), taus
    q, r = factorizations.qr(a, full_matrices=mode in ("complete", "full"))
    return r if mode == "r" else QRResult(q, r)


@overload
def svd(
    a: ArrayLike,
    full_matrices: bool = True,
    compute_uv: Literal[True] = True,
    hermitian: bool = False,
    subset_by_index: tuple[int, int] | None = None,
) -> SVDResult: ...


@overload
def svd(
    a: ArrayLike,
    full_matrices: bool = True,
    compute_uv: bool = True,
    hermitian: bool = False,
    subset_by_index: tuple[int, int] | None = None,
) -> Any: ...


def svd(
    a: ArrayLike,
    full_matrices: bool = True,
    compute_uv: bool = True,
    hermitian: bool = False,
    subset_by_index: tuple[int, int] | None = None,
) -> Any:
    """Singular values and vectors, ``a = U @ diag(S) @ Vh`` (see `jax.numpy.linalg.svd`).

    Args:
      a: matrices ``[..., m, n]``.
      full_matrices: return all m columns of U and n rows of Vh, not ``min(m, n)`` of them.
      compute_uv: whether to return vectors.
      hermitian: `a` is Hermitian, so that `eigh` can compute them.
      subset_by_index: ``(start, end)``, the range of values to return, with their vectors.

    Returns:
      ``(U, S, Vh)``, or S alone; values ``[..., min(m, n)]`` descend. NaN where LAPACK fails.
      Derivatives of vectors are infinite or NaN where values are equal.

    Raises:
      ShapeError: there are no matrices, or with `hermitian` no square ones.
      DtypeError: half precision.
      ArgumentError: `subset_by_index` does not fit.
    """
    hermitian = flag("svd: hermitian", hermitian)
    compute_uv = flag("svd: compute_uv", compute_uv)
    if not hermitian:
        found = factorizations.svd(
            a, full_matrices=full_matrices, compute_uv=compute_uv, subset_by_index=subset_by_index
        )
        return SVDResult(*found) if compute_uv else found
    if subset_by_index is not None:
        raise ArgumentError("svd: subset_by_index cannot be given together with hermitian=True")
    values, vectors = eigh(a)
    # In descending order of size; the sign of an eigenvalue goes to one of the vectors.
    sizes = abs_(values)
    places = argsort(neg(sizes), axis=-1)
    last = sizes.ndim - 1
    s = take_along(sizes, places, last)
    if not compute_uv:
        return s
    n = s.aval.shape[-1]
    u = take_along(vectors, common.rows_of(places, n), vectors.ndim - 1)
    signs = take_along(sign(values), places, last)
    signs = cast(common.rows_of(signs, n), u.aval.dtype)
    return SVDResult(u, s, adjoint(mul(u, signs)))


def svdvals(x: ArrayLike, /) -> Any:
    """Singular values of matrices ``[..., m, n]``: ``[..., min(m, n)]``, in descending order.

    See `numpy.linalg.svdvals`.

    Raises:
      ShapeError: there are no matrices.
      DtypeError: half precision.
    """
    return factorizations.svd(x, full_matrices=False, compute_uv=False)
