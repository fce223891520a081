"""Systems of equations with matrices of a form."""

from __future__ import annotations

from typing import Any

from funcdl.core.options import flag
from funcdl.errors import ArgumentError
from funcdl.lax.operands import ArrayLike
from funcdl.numpy.promotion import promote_inexact
from funcdl.ops import linalg as ops
from funcdl.ops.shape import reshape


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
    unit_diagonal = flag("triangular_solve: unit_diagonal", unit_diagonal)
    conjugate_a = flag("triangular_solve: conjugate_a", conjugate_a)
    transpose_a = flag("triangular_solve: transpose_a", transpose_a)
    lower = flag("triangular_solve: lower", lower)
    left_side = flag("triangular_solve: left_side", left_side)
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
    perturb_singular = flag("tridiagonal_solve: perturb_singular", perturb_singular)
    if perturb_singular:
        raise ArgumentError(
            "tridiagonal_solve: singular matrices cannot be perturbed; leave perturb_singular out "
            "and test the result with isnan"
        )
    return ops.tridiagonal_solve(*promote_inexact("tridiagonal_solve", dl, d, du, b))
