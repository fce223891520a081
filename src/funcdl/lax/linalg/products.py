"""Products of matrices of a form: reflections, and a matrix by its transpose."""

from __future__ import annotations

from typing import Any

from funcdl.core.options import flag
from funcdl.errors import ShapeError
from funcdl.lax.operands import ArrayLike
from funcdl.numpy.promotion import promote_dtypes, promote_inexact
from funcdl.ops import linalg as ops
from funcdl.ops.arithmetic import add, scaled
from funcdl.ops.linalg import common
from funcdl.ops.linalg.common import adjoint, dot, matrix_transpose
from funcdl.ops.shape import full
from funcdl.ops.slicing import concatenate


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
    transpose = flag("ormqr: transpose", transpose)
    left = flag("ormqr: left", left)
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
    symmetrize_output = flag("symmetric_product: symmetrize_output", symmetrize_output)
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
