"""Functions of matrices: exponential, square root, polar factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.control import cond, fori_loop, scan
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.integers import integer
from funcdl.core.options import flag, is_option
from funcdl.errors import ArgumentError, ShapeError
from funcdl.lax import linalg as factorizations
from funcdl.lax.linalg.operands import symmetrized
from funcdl.numpy.arithmetic import ceil
from funcdl.numpy.functions import log2
from funcdl.numpy.indexing import where
from funcdl.numpy.linalg import solve
from funcdl.numpy.linalg.operands import square_matrices
from funcdl.numpy.promotion import ArrayLike, promote_inexact, strong
from funcdl.numpy.ranges import arange
from funcdl.numpy.reductions import any, max, sum
from funcdl.ops.arithmetic import abs_, add, div, mul, scaled, sub
from funcdl.ops.convert import cast
from funcdl.ops.exponential import sqrt
from funcdl.ops.linalg import common
from funcdl.ops.linalg.common import adjoint, dot
from funcdl.ops.shape import full_like
from funcdl.ops.stop_gradient import stop_gradient
from funcdl.scipy.linalg.factorizations import schur, solve_triangular
from funcdl.transforms import custom_jvp, jvp

__all__ = ["expm", "expm_frechet", "polar", "sqrtm"]

# Numerators of Padé approximants, and up to which norm they are exact to the dtype: Higham, The
# scaling and squaring method for the matrix exponential revisited (2005), tables 2.1 and 2.3.
_PADE_7 = (17297280, 8648640, 1995840, 277200, 25200, 1512, 56, 1)
_PADE_13 = (
    64764752532480000,
    32382376266240000,
    7771770303897600,
    1187353796428800,
    129060195264000,
    10559470521600,
    670442572800,
    33522128640,
    1323241920,
    40840800,
    960960,
    16380,
    182,
    1,
)
_LIMIT_7 = 3.925724783138660
_LIMIT_13 = 5.371920351148152


def expm(A: ArrayLike, *, upper_triangular: bool = False, max_squarings: int = 16) -> Any:
    """Exponentials of matrices, by Padé approximants and squaring (see `jax.scipy.linalg.expm`).

    Args:
      A: matrices ``[..., n, n]``.
      upper_triangular: `A` is upper triangular, which makes it a little cheaper.
      max_squarings: the most squarings; matrices whose norm needs more give NaN.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
    """
    upper_triangular = flag("expm: upper_triangular", upper_triangular)
    max_squarings = integer("expm: max_squarings", max_squarings)
    a = square_matrices("expm", A)
    a = strong(a)
    narrow = dtypes.real_dtype(a.aval.dtype) == np.float32
    coefficients, limit = (_PADE_7, _LIMIT_7) if narrow else (_PADE_13, _LIMIT_13)
    size = max(sum(abs_(a), -2), -1, initial=0)
    count = _squarings(size, limit)
    a = _scaled_by(a, count)
    result = _squared(_pade(a, coefficients, upper_triangular), count, max_squarings)
    failed = (count > max_squarings)[..., None, None]
    return where(failed, np.nan, result)


def _squarings(size: Any, limit: float) -> Any:
    """How often to halve a matrix of this norm until it is below the limit."""
    size = stop_gradient(size)
    found = ceil(log2(where(size > limit, size / limit, 1.0)))
    # NaN and infinite matrices need no squaring to stay so.
    return where(found < 2**20, found, 0).astype(np.int32)


def _scaled_by(a: Any, count: Any) -> Any:
    factor = 0.5 ** count.astype(dtypes.real_dtype(a.aval.dtype))
    return mul(a, cast(common.everywhere(factor, a), a.aval.dtype))


def _pade(a: Any, coefficients: Sequence[int], triangular: bool) -> Any:
    """The approximant ``(V - U) \\ (V + U)``, U odd and V even in the matrix."""
    square = dot(a, a)
    powers = [common.identity_like(a), square]
    while 2 * len(powers) < len(coefficients):
        powers.append(dot(powers[-1], square))
    even = odd = None
    for power, (b, c) in zip(powers, _pairs(coefficients), strict=True):
        first, second = scaled(power, b), scaled(power, c)
        even = first if even is None else add(even, first)
        odd = second if odd is None else add(odd, second)
    u = dot(a, odd)
    if triangular:
        return solve_triangular(sub(even, u), add(even, u))
    return solve(sub(even, u), add(even, u))


def _pairs(values: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(values[::2], values[1::2], strict=True))


def _squared(x: Any, count: Any, limit: int) -> Any:
    """Matrices squared so many times each, `limit` times at most."""

    def step(x: Any, i: Any) -> tuple[Any, None]:
        wanted = i < count
        done = cond(
            any(wanted), lambda x: where(wanted[..., None, None], dot(x, x), x), lambda x: x, x
        )
        return done, None

    return scan(step, x, arange(limit, dtype=np.int32))[0]


def expm_frechet(
    A: ArrayLike, E: ArrayLike, *, method: str | None = None, compute_expm: bool = True
) -> Any:
    """The exponential and its derivative in a direction (see `jax.scipy.linalg.expm_frechet`).

    Args:
      A: a matrix ``[n, n]``.
      E: the direction, of the same shape.
      method: has no effect.
      compute_expm: whether to return the exponential, too.

    Returns:
      ``(expm(A), derivative)``, or the derivative alone.

    Raises:
      ShapeError: the shapes differ, or the matrices are not square.
    """
    compute_expm = flag("expm_frechet: compute_expm", compute_expm)
    a, e = promote_inexact("expm_frechet", A, E)
    common.check_matrix("expm_frechet", a.aval, square=True)
    if a.aval.shape != e.aval.shape:
        raise ShapeError(f"expm_frechet: A and E must have one shape, got {a.aval} and {e.aval}")
    value, slope = jvp(expm, (strong(a),), (strong(e),))
    return (value, slope) if compute_expm else slope


def sqrtm(A: ArrayLike, blocksize: int = 1) -> Any:
    """The principal square root of matrices (see `jax.scipy.linalg.sqrtm`).

    By the Schur form, and one column of the triangular root after the other: Björck and Hammarling,
    A Schur method for the square root of a matrix (1983).

    Args:
      A: matrices ``[..., n, n]``.
      blocksize: must be 1.

    Returns:
      Complex matrices of the same shape; infinite or NaN where there is no root.

    Raises:
      ShapeError: the matrices are not square.
      ArgumentError: another `blocksize`.
      NotDifferentiableError: a derivative is asked for.
    """
    if integer("sqrtm: blocksize", blocksize) != 1:
        raise ArgumentError(f"sqrtm: blocksize must be 1, got {shortened(blocksize)}")
    form, vectors = schur(A, "complex")
    n = form.aval.shape[-1]
    if n == 0:
        return form
    places = arange(n, dtype=np.int32)
    roots = sqrt(common.diagonal(form))

    def column(j: Any, root: Any) -> Any:
        # Rows above the diagonal: (root + root[j, j]) x = form[:, j], a triangular system.
        is_j = places == j
        above = places < j
        inside = above[:, None] & above
        own = sum(where(is_j, roots, 0), -1)[..., None]
        system = where(inside, root, 0) + _diagonal(where(above, own, 1))
        side = where(above, sum(where(is_j, form, 0), -1), 0)
        x = solve_triangular(system, side[..., None])
        x = where(is_j[:, None], own[..., None], x)
        return where(is_j, x, root)

    root = fori_loop(0, n, column, full_like(form, 0))
    return dot(dot(vectors, root), adjoint(vectors))


def _diagonal(v: Any) -> Any:
    n = v.aval.shape[-1]
    rows = common.rows_of(v, n)
    return where(common.on_diagonal(rows), rows, 0)


def polar(
    a: ArrayLike,
    side: str = "right",
    *,
    method: str = "svd",
    eps: float | None = None,
    max_iterations: int | None = None,
) -> tuple[Any, Any]:
    """Polar factors ``a = U @ P``, or ``a = P @ U`` (see `jax.scipy.linalg.polar`).

    Args:
      a: a matrix ``[m, n]``.
      side: on which side P stands, ``"right"`` or ``"left"``.
      method: ``"svd"``, with derivatives wherever they exist, or ``"qdwh"`` (JAX's default), an
        iteration without reverse mode.
      eps, max_iterations: those of `funcdl.lax.linalg.qdwh`.

    Returns:
      U ``[m, n]`` with orthonormal rows or columns, and P Hermitian and positive semidefinite.

    Raises:
      ShapeError: `a` is no matrix.
      ArgumentError: `side` or `method` is none of these.
    """
    if not is_option(side, ("right", "left")) or not is_option(method, ("svd", "qdwh")):
        raise ArgumentError(
            "polar: side must be 'right' or 'left' and method 'svd' or 'qdwh', got "
            f"{shortened(side)} and {shortened(method)}"
        )
    (a,) = promote_inexact("polar", a)
    if a.ndim != 2:
        raise ShapeError(f"polar requires a matrix, got {a.aval}")
    a = strong(a)
    wide = a.aval.shape[0] < a.aval.shape[1]
    tall = adjoint(a) if wide else a
    if method == "svd":
        u = _unitary_factor(tall)
    else:
        u = factorizations.qdwh(tall, eps=eps, max_iterations=max_iterations)[0]
    u = adjoint(u) if wide else u
    p = dot(adjoint(u), a) if side == "right" else dot(a, adjoint(u))
    return u, symmetrized(p)


@custom_jvp
def _unitary_factor(a: Any) -> Any:
    """The matrix with orthonormal columns that is closest to a tall one."""
    u, _, vh = factorizations.svd(a, full_matrices=False)
    return dot(u, vh)


@_unitary_factor.defjvp
def _unitary_factor_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """``a = U P`` gives ``U* da - da* U = T P + P T`` for the skew ``T = U* dU``.

    In the basis of the singular vectors that is a division by sums of singular values, so that
    equal ones do no harm.
    """
    (a,), (t,) = primals, tangents
    w, s, vh = factorizations.svd(a, full_matrices=False)
    u = dot(w, vh)
    n = s.aval.shape[-1]
    inside = dot(adjoint(w), dot(t, adjoint(vh)))
    sums = add(common.rows_of(s, n), common.columns_of(s, n))
    turn = div(common.skew(inside), cast(sums, a.aval.dtype))
    move = dot(w, turn)
    if a.aval.shape[0] > n:
        rest = sub(dot(t, adjoint(vh)), dot(w, inside))
        move = add(move, div(rest, cast(common.rows_of(s, a.aval.shape[0]), a.aval.dtype)))
    return u, dot(move, vh)
