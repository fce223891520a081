"""Systems of equations, inverses, and the best answers where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from funcdl.core import dtypes
from funcdl.core.integers import integer, integers
from funcdl.core.options import flag
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.linalg.decompositions import svd
from funcdl.numpy.linalg.operands import square_matrices
from funcdl.numpy.products import matmul
from funcdl.numpy.promotion import (
    ArrayLike,
    array,
    broadcast_shapes,
    convert,
    promote_inexact,
    strong,
)
from funcdl.numpy.reductions import sum
from funcdl.numpy.shaping import moveaxis
from funcdl.ops import linalg as ops
from funcdl.ops.arithmetic import add, div, mul, neg, scaled, sub
from funcdl.ops.comparison import gt, lt
from funcdl.ops.convert import cast
from funcdl.ops.linalg import common
from funcdl.ops.linalg.common import adjoint, dot
from funcdl.ops.linalg.lu import lu_solve
from funcdl.ops.reduction import reduce_max
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_to, full, full_like, reshape
from funcdl.ops.stop_gradient import stop_gradient
from funcdl.transforms import custom_jvp

__all__ = ["inv", "lstsq", "pinv", "solve", "tensorinv", "tensorsolve"]


@custom_jvp
def _solve(a: Any, b: Any) -> Any:
    """``a \\ b`` for batches of equal shape."""
    factors, _, permutation = ops.lu(a)
    return lu_solve(factors, permutation, b)


@_solve.defjvp
def _solve_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """``a x = b`` gives ``a dx = db - da x``, with the factors of `a` once more."""
    (a, b), (ta, tb) = primals, tangents
    factors, _, permutation = ops.lu(a)
    x = lu_solve(factors, permutation, b)
    return x, lu_solve(factors, permutation, sub(tb, dot(ta, x)))


def solve(a: ArrayLike, b: ArrayLike) -> Any:
    """Solve ``a @ x = b`` (see `jax.numpy.linalg.solve`).

    Args:
      a: matrices ``[..., n, n]``.
      b: a vector ``[n]``, or matrices ``[..., n, k]``; leading dimensions broadcast.

    Returns:
      x, of the shape of `b` but for leading dimensions; infinite or NaN where `a` is singular.

    Raises:
      ShapeError: the matrices are not square, or sizes do not fit.
      DtypeError: half precision.
    """
    a, b = promote_inexact("solve", a, b)
    common.check_matrix("solve", a.aval, square=True)
    common.check_dtype("solve", a.aval)
    n = a.aval.shape[-1]
    vector = b.ndim == 1
    if b.ndim == 0 or b.aval.shape[0 if vector else -2] != n:
        raise ShapeError(
            f"solve: b must be a vector of {n} elements or matrices of {n} rows, as many as a has, "
            f"got a {a.aval} and b {b.aval}"
        )
    if vector:
        b = reshape(b, new_sizes=(n, 1))
    batch = broadcast_shapes(a.aval.shape[:-2], b.aval.shape[:-2], name="solve")
    if a.ndim == 2 and batch:
        # One matrix for all right-hand sides.
        b = moveaxis(b, -2, 0)
        x = _solve(strong(a), strong(reshape(b, new_sizes=(n, b.size // n if n else 0))))
        x = moveaxis(reshape(x, new_sizes=b.aval.shape), 0, -2)
    else:
        a, b = (broadcast_to(z, (*batch, *z.aval.shape[-2:])) for z in (a, b))
        x = _solve(strong(a), strong(b))
    return reshape(x, new_sizes=x.aval.shape[:-1]) if vector else x


def inv(a: ArrayLike) -> Any:
    """Inverses of matrices ``[..., n, n]``; infinite or NaN where they are singular.

    See `numpy.linalg.inv`.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
    """
    a = square_matrices("inv", a)
    return _solve(strong(a), common.identity_like(a))


def _largest(s: Any) -> Any:
    """The largest of singular values ``[..., k]``; 0 where there is none."""
    return reduce_max(s, axes=(s.ndim - 1,)) if s.aval.shape[-1] else sum(s, -1)


def _pseudo_inverse_parts(a: Any, relative: Any, hermitian: bool) -> tuple[Any, Any, Any, Any]:
    """The pseudo-inverse, and the singular vectors and values that it is made of."""
    u, s, vh = svd(a, full_matrices=False, hermitian=hermitian)
    limit = mul(relative, _largest(s))
    kept = gt(s, common.columns_of(limit, s.aval.shape[-1]))
    one = full_like(s, 1)
    inverse = select_n(kept, full_like(s, 0), div(one, select_n(kept, one, s)))
    columns = cast(common.rows_of(inverse, vh.aval.shape[-1]), a.aval.dtype)
    return dot(mul(adjoint(vh), columns), adjoint(u)), u, s, vh


@partial(custom_jvp, nondiff_argnums=(2,))
def _pseudo_inverse(a: Any, relative: Any, hermitian: bool) -> tuple[Any, Any]:
    """The pseudo-inverse and the singular values; those up to `relative` of the largest do not
    count."""
    inverse, _, s, _ = _pseudo_inverse_parts(a, relative, hermitian)
    return inverse, s


@_pseudo_inverse.defjvp
def _pseudo_inverse_jvp(
    hermitian: bool, primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """By Golub and Pereyra, The differentiation of pseudo-inverses (1973), for constant rank."""
    a, relative = primals
    t = tangents[0]
    p, u, s, vh = _pseudo_inverse_parts(a, relative, hermitian)
    adjoint_p, adjoint_t = adjoint(p), adjoint(t)
    # Two projections: on what the inverse does not reach, and on what it does not see.
    left = dot(adjoint_t, sub(common.identity_like(dot(a, p)), dot(a, p)))
    right = dot(sub(common.identity_like(dot(p, a)), dot(p, a)), adjoint_t)
    tp = neg(dot(p, dot(t, p)))
    tp = add(tp, dot(p, dot(adjoint_p, left)))
    tp = add(tp, dot(right, dot(adjoint_p, p)))
    ts = common.real_part(common.diagonal(dot(adjoint(u), dot(t, adjoint(vh)))))
    return (p, s), (tp, ts)


def _relative(name: str, rtol: ArrayLike | None, a: Any, default: float) -> Any:
    """The relative size of singular values that do not count, for each matrix."""
    dtype = dtypes.real_dtype(a.aval.dtype)
    batch = a.aval.shape[:-2]
    if rtol is None:
        eps = float(dtypes.finfo(dtype).eps)
        return full(batch, default * max(a.aval.shape[-2:]) * eps, dtype)
    found = convert(array(name, rtol), dtype)
    broadcast_shapes(found.aval.shape, batch, name=f"{name}: rtol and the batch of matrices")
    return broadcast_to(stop_gradient(found), batch)


def pinv(
    a: ArrayLike,
    rtol: ArrayLike | None = None,
    hermitian: bool = False,
    *,
    rcond: ArrayLike | None = None,
) -> Any:
    """Pseudo-inverses of Moore and Penrose (see `jax.numpy.linalg.pinv`).

    Args:
      a: matrices ``[..., m, n]``.
      rtol: singular values up to this part of the largest one count as 0; by default
        ``10 * max(m, n) * eps``. A scalar, or one number for each matrix.
      hermitian: `a` is Hermitian, so that `eigh` can be used.
      rcond: the former name of `rtol`.

    Returns:
      Matrices ``[..., n, m]``. Their derivatives are those where the rank does not change.

    Raises:
      ShapeError: there are no matrices.
      DtypeError: half precision.
      ArgumentError: both `rtol` and `rcond` are given.
    """
    hermitian = flag("pinv: hermitian", hermitian)
    if rtol is not None and rcond is not None:
        raise ArgumentError("pinv: rcond is the former name of rtol; give one of them")
    (a,) = promote_inexact("pinv", a)
    common.check_matrix("pinv", a.aval, square=hermitian)
    common.check_dtype("pinv", a.aval)
    relative = _relative("pinv", rcond if rtol is None else rtol, a, 10)
    a = strong(a)
    if hermitian:
        a = scaled(add(a, adjoint(a)), 0.5)
    return _pseudo_inverse(a, relative, bool(hermitian))[0]


def lstsq(
    a: ArrayLike, b: ArrayLike, rcond: float | None = None, *, numpy_resid: bool = False
) -> tuple[Any, Any, Any, Any]:
    """The x of least length that makes ``a @ x - b`` least (see `jax.numpy.linalg.lstsq`).

    Args:
      a: a matrix ``[m, n]``.
      b: a vector ``[m]``, or a matrix ``[m, k]``.
      rcond: singular values up to this part of the largest one count as 0; by default
        ``max(m, n) * eps``, and eps for a negative number.
      numpy_resid: return no residuals for ``m <= n`` or deficient rank, as NumPy does; cannot be
        used under `jit`.

    Returns:
      x, ``[n]`` or ``[n, k]``; sums of squared residuals ``[1]`` or ``[k]``; the rank of `a`; the
      singular values of `a`, in descending order.

    Raises:
      ShapeError: `a` is no matrix, or `b` does not fit.
      DtypeError: half precision.
    """
    numpy_resid = flag("lstsq: numpy_resid", numpy_resid)
    a, b = promote_inexact("lstsq", a, b)
    common.check_dtype("lstsq", a.aval)
    if a.ndim != 2 or b.ndim not in (1, 2) or a.aval.shape[0] != b.aval.shape[0]:
        raise ShapeError(
            "lstsq: a must be a matrix, and b a vector or matrix with as many rows, got "
            f"a {a.aval} and b {b.aval}"
        )
    m, n = a.aval.shape
    if rcond is None:
        limit = _relative("lstsq", None, a, 1)
    else:
        eps = _relative("lstsq", float(dtypes.finfo(dtypes.real_dtype(a.aval.dtype)).eps), a, 1)
        given = _relative("lstsq", rcond, a, 1)
        limit = select_n(lt(given, full_like(given, 0)), given, eps)
    inverse, s = _pseudo_inverse(strong(a), limit, False)
    kept = gt(s, broadcast_to(mul(limit, _largest(s)), s.aval.shape))
    rank = sum(kept, dtype=dtypes.default_dtype("i"))
    x = matmul(inverse, b)
    if numpy_resid and (m <= n or int(rank) < n):
        residuals = full((0,), 0, s.aval.dtype)
    else:
        error = common.conjugate(rest := sub(b, matmul(a, x)))
        squares = common.real_part(mul(rest, error))
        residuals = sum(squares, 0, keepdims=b.ndim == 1)
    return x, residuals, rank, s


def tensorinv(a: ArrayLike, ind: int = 2) -> Any:
    """The inverse of the linear map that an array is (see `jax.numpy.linalg.tensorinv`).

    Args:
      a: an array whose first `ind` dimensions have as many elements as the others.
      ind: their number, at least 1.

    Returns:
      An array whose shape is that of the other dimensions, then that of the first ones.

    Raises:
      ArgumentError: `ind` is not positive.
      ShapeError: the numbers of elements differ.
    """
    a = array("tensorinv", a)
    ind = integer("ind", ind)
    if ind <= 0:
        raise ArgumentError(f"tensorinv: ind must be at least 1, got {ind}")
    first, rest = a.aval.shape[:ind], a.aval.shape[ind:]
    if math.prod(first) != math.prod(rest):
        raise ShapeError(
            f"tensorinv: the first {ind} dimensions of {a.aval} must have as many elements as the "
            f"others, got {math.prod(first)} and {math.prod(rest)}"
        )
    flat = reshape(a, new_sizes=(math.prod(first), math.prod(rest)))
    return reshape(inv(flat), new_sizes=(*rest, *first))


def tensorsolve(a: ArrayLike, b: ArrayLike, axes: Sequence[int] | None = None) -> Any:
    """Solve ``tensordot(a, x, x.ndim) = b`` for x (see `jax.numpy.linalg.tensorsolve`).

    Args:
      a: an array whose first dimensions are those of `b`, and the others those of x.
      b: an array.
      axes: dimensions of `a` to move to its end first.

    Raises:
      ShapeError: `a` has not as many elements for x as for `b`.
    """
    a, b = promote_inexact("tensorsolve", a, b)
    if axes is not None:
        axes = integers("tensorsolve: axes", axes)
        count = len(axes)
        a = moveaxis(a, axes, tuple(range(a.ndim - count, a.ndim)))
    unknown = a.aval.shape[b.ndim :]
    size = math.prod(unknown)
    if a.aval.size != b.aval.size**2 or size != b.aval.size:
        raise ShapeError(
            f"tensorsolve: dimensions of a that are not those of b must have as many elements as "
            f"b, got a {a.aval} and b {b.aval}"
        )
    flat = reshape(a, new_sizes=(size, size))
    return reshape(solve(flat, reshape(b, new_sizes=(size,))), new_sizes=unknown)
