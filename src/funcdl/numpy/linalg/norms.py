"""Norms, condition numbers and ranks."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.options import flag
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.functions import sqrt
from funcdl.numpy.indexing import getitem, where
from funcdl.numpy.linalg.decompositions import svd, svdvals
from funcdl.numpy.linalg.systems import inv
from funcdl.numpy.logic import isnan
from funcdl.numpy.promotion import ArrayLike, array, convert, promote_inexact
from funcdl.numpy.reductions import any, max, min, normalize_axis, sum
from funcdl.numpy.shaping import expand_dims, moveaxis
from funcdl.ops.arithmetic import abs_, div, mul
from funcdl.ops.comparison import ne
from funcdl.ops.linalg import common
from funcdl.ops.shape import full_like

__all__ = ["cond", "matrix_norm", "matrix_rank", "norm", "vector_norm"]

Axes = int | tuple[int, ...] | None


def _length(x: Any, axis: Axes, keepdims: bool) -> Any:
    squares = common.real_part(mul(x, common.conjugate(x)))
    return sqrt(sum(squares, axis, keepdims=keepdims))


def norm(
    x: ArrayLike, ord: int | float | str | None = None, axis: Axes = None, keepdims: bool = False
) -> Any:
    """The norm of vectors or matrices (see `jax.numpy.linalg.norm`).

    Args:
      x: the array.
      ord: which norm. Of vectors: a number p for ``sum(abs(x) ** p) ** (1 / p)``, ``inf`` for the
        largest absolute value, ``-inf`` for the smallest, 0 for the count of what is not 0. Of
        matrices: ``"fro"``, ``"nuc"`` (the sum of singular values), 2 or -2 (the largest or
        smallest of these), 1 or -1 (the largest or smallest sum of a column), ``inf`` or ``-inf``
        (of a row). None: the root of the sum of all squares.
      axis: an axis for vectors, a pair for matrices; None for all of them, of which there can be
        more only without `ord`.
      keepdims: whether these axes stay, with size 1.

    Returns:
      Real norms. The derivative of a root of squares is NaN at 0, as in JAX.

    Raises:
      ArgumentError: no norm has this `ord`.
      ShapeError: `axis` has neither one nor two axes.
      DtypeError: norms of singular values in half precision.
    """
    keepdims = flag("norm: keepdims", keepdims)
    (x,) = promote_inexact("norm", x)
    if axis is None and ord is None:
        return _length(x, None, keepdims)
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(normalize_axis("norm", d, x.ndim) for d in axes)
    if len(axes) == 1:
        return vector_norm(x, axis=axes, keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axes) != 2:
        raise ShapeError(
            f"norm: one axis is needed for norms of vectors, two for those of matrices, got "
            f"axis={axis} for {x.aval}"
        )
    out = _matrix_norm(moveaxis(x, axes, (-2, -1)), "fro" if ord is None else ord)
    return expand_dims(out, axes) if keepdims else out


def _matrix_norm(x: Any, ord: Any) -> Any:
    if not _is_order(ord):
        raise _no_order(ord)
    if ord in ("fro", "f"):
        return _length(x, (-2, -1), False)
    if ord in (1, -1, np.inf, -np.inf):
        sums = sum(abs_(x), -2 if ord in (1, -1) else -1)
        return max(sums, -1, initial=0) if ord > 0 else min(sums, -1)
    if ord in ("nuc", 2, -2):
        s = svdvals(x)
        if ord == "nuc":
            return sum(s, -1)
        return max(s, -1, initial=0) if ord == 2 else min(s, -1)
    raise _no_order(ord)


def _is_order(ord: Any) -> bool:
    """Whether a value can be compared with the orders that there are."""
    return isinstance(ord, str | numbers.Real) or getattr(ord, "shape", None) == ()


def _no_order(ord: Any) -> ArgumentError:
    return ArgumentError(
        f"norm: ord must be 'fro', 'nuc', 1, -1, 2, -2, inf or -inf for matrices, got "
        f"{shortened(ord)}"
    )


def matrix_norm(x: ArrayLike, /, *, keepdims: bool = False, ord: int | float | str = "fro") -> Any:
    """The norm of matrices in the last two dimensions; `ord` is that of `norm`."""
    x = array("matrix_norm", x)
    common.check_matrix("matrix_norm", x.aval)
    return norm(x, ord, (-2, -1), keepdims)


def vector_norm(
    x: ArrayLike, /, *, axis: Axes = None, keepdims: bool = False, ord: int | float | str = 2
) -> Any:
    """The norm of vectors along some axes (see `jax.numpy.linalg.vector_norm`).

    Args:
      x: the array.
      axis: an axis, or several whose elements make one vector; None: all.
      keepdims: whether these axes stay, with size 1.
      ord: a number, as for `norm`.

    Raises:
      ArgumentError: `ord` is no number.
    """
    (x,) = promote_inexact("vector_norm", x)
    if isinstance(ord, str) or not _is_order(ord):
        raise ArgumentError(f"vector_norm: ord must be a number for vectors, got {shortened(ord)}")
    if ord == 2:
        return _length(x, axis, keepdims)
    if ord == np.inf:
        return max(abs_(x), axis, keepdims=keepdims, initial=0)
    if ord == -np.inf:
        return min(abs_(x), axis, keepdims=keepdims)
    if ord == 0:
        return sum(ne(x, full_like(x, 0)), axis, dtypes.real_dtype(x.aval.dtype), keepdims=keepdims)
    if ord == 1:
        return sum(abs_(x), axis, keepdims=keepdims)
    return sum(abs_(x) ** ord, axis, keepdims=keepdims) ** (1 / ord)


def cond(x: ArrayLike, p: int | float | str | None = None) -> Any:
    """Condition numbers of matrices (see `jax.numpy.linalg.cond`).

    Args:
      x: matrices ``[..., m, n]``, square ones where `p` is neither None, 2 nor -2.
      p: the norm, as `ord` of `norm`; None is 2.

    Returns:
      ``norm(x) * norm(inv(x))``, infinite for singular matrices.

    Raises:
      ShapeError: there are no matrices, empty ones, or no square ones.
      ArgumentError: no norm is called `p`.
    """
    (x,) = promote_inexact("cond", x)
    if p is not None and not _is_order(p):
        raise ArgumentError(
            f"cond: p must be None, 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, got {shortened(p)}"
        )
    common.check_matrix("cond", x.aval, square=p not in (None, 2, -2))
    if 0 in x.aval.shape[-2:]:
        raise ShapeError(f"cond: empty matrices have no condition number, got {x.aval}")
    if p in (None, 2, -2):
        s = svdvals(x)
        largest, smallest = getitem(s, (..., 0)), getitem(s, (..., -1))
        if p != -2:
            return div(largest, smallest)
        found = div(smallest, largest)
    else:
        found = mul(norm(x, p, (-2, -1)), norm(inv(x), p, (-2, -1)))
    return where(isnan(found) & ~any(isnan(x), (-2, -1)), np.inf, found)


def matrix_rank(
    M: ArrayLike,
    rtol: ArrayLike | None = None,
    *,
    hermitian: bool = False,
    tol: ArrayLike | None = None,
) -> Any:
    """The number of singular values above a limit (see `jax.numpy.linalg.matrix_rank`).

    Args:
      M: matrices ``[..., m, n]``; of a vector or scalar the rank is 1 unless all is 0.
      rtol: the limit itself, as in JAX, a scalar or one for each matrix; by default the largest
        singular value times ``max(m, n) * eps``.
      hermitian: `M` is Hermitian, so that `eigh` can be used.
      tol: another name of `rtol`.

    Returns:
      Integers ``[...]``.

    Raises:
      ArgumentError: both `rtol` and `tol` are given.
      DtypeError: half precision.
    """
    if rtol is not None and tol is not None:
        raise ArgumentError("matrix_rank: tol is another name of rtol; give one of them")
    (x,) = promote_inexact("matrix_rank", M)
    if x.ndim < 2:
        return convert(any(ne(x, full_like(x, 0))), np.dtype(np.int32))
    s = svd(x, full_matrices=False, compute_uv=False, hermitian=hermitian)
    limit: Any = rtol if tol is None else tol
    if limit is None:
        eps = float(dtypes.finfo(s.aval.dtype).eps)
        limit = max(s, -1, initial=0) * (np.max(x.aval.shape[-2:], initial=0) * eps)
    limit = array("matrix_rank", limit)
    return sum(s > expand_dims(limit, -1), -1)
