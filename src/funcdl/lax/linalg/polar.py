"""The polar decomposition by an iteration of matrix products and QR factors."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.control import while_loop
from funcdl.core import dtypes
from funcdl.core.integers import integer
from funcdl.core.options import number
from funcdl.errors import ShapeError
from funcdl.lax.operands import ArrayLike
from funcdl.numpy.promotion import promote_inexact
from funcdl.ops import linalg as ops
from funcdl.ops.arithmetic import abs_, add, div, max_, min_, mul, scaled, sub
from funcdl.ops.comparison import gt
from funcdl.ops.convert import cast
from funcdl.ops.exponential import cbrt, sqrt
from funcdl.ops.linalg import common
from funcdl.ops.linalg.common import adjoint, dot
from funcdl.ops.reduction import reduce_max, reduce_sum
from funcdl.ops.shape import broadcast_to, full, full_like
from funcdl.ops.slicing import concatenate, slice_along

__all__ = ["qdwh"]


def qdwh(
    x: ArrayLike,
    *,
    is_hermitian: bool = False,
    max_iterations: int | None = None,
    eps: float | None = None,
) -> tuple[Any, Any, Any, Any]:
    """Polar factors by Halley's iteration with dynamic weights (see `jax.lax.linalg.qdwh`).

    After Nakatsukasa, Bai and Gygi, Optimizing Halley's iteration for computing the matrix polar
    decomposition (2010), with QR factors in every step. Reverse mode cannot differentiate it;
    `funcdl.scipy.linalg.polar` has derivatives.

    Args:
      x: a matrix of full rank ``[m, n]`` with ``m >= n``.
      is_hermitian: has no effect.
      max_iterations: by default 10.
      eps: the precision to reach; by default that of the dtype.

    Returns:
      U with orthonormal columns, H Hermitian and positive semidefinite with ``x = U @ H``, the
      number of iterations, and whether they converged.

    Raises:
      ShapeError: `x` is no matrix, or one with fewer rows than columns.
      DtypeError: half precision.
    """
    (x,) = promote_inexact("qdwh", x)
    common.check_dtype("qdwh", x.aval)
    if x.ndim != 2 or x.aval.shape[0] < x.aval.shape[1]:
        raise ShapeError(
            f"qdwh requires a matrix with at least as many rows as columns, got {x.aval}"
        )
    m, n = x.aval.shape
    dtype = dtypes.real_dtype(x.aval.dtype)
    limit = 10 if max_iterations is None else integer("max_iterations", max_iterations)
    precision = float(dtypes.finfo(dtype).eps if eps is None else number("qdwh: eps", eps))
    step_limit = (4 * precision) ** (1 / 3)
    size = abs_(x)
    sums = [reduce_max(reduce_sum(size, axes=(d,)), axes=(0,)) for d in (0, 1)]
    scale = sqrt(mul(*sums))
    start = div(x, broadcast_to(cast(_not_zero(scale), x.aval.dtype), x.aval.shape))
    one = common.identity_like(full((n, n), 0, x.aval.dtype))

    def unfinished(state: tuple[Any, ...]) -> Any:
        # A step can be small also where the lower bound is still far too low.
        _, bound, _, change = state
        below = gt(full_like(bound, 1 - 5 * precision), bound)
        return below | gt(change, full_like(change, step_limit))

    def go_on(state: tuple[Any, ...]) -> Any:
        return unfinished(state) & (state[2] < limit)

    def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
        u, bound, count, _ = state
        a, b, c = _halley_weights(bound)
        stacked = concatenate(_times(u, sqrt(c)), one, dimension=0)
        q, _ = ops.qr(stacked, pivoting=False, full_matrices=False)
        top, bottom = slice_along(q, 0, 0, m), slice_along(q, 0, m, m + n)
        ratio = div(b, c)
        weight = div(sub(a, ratio), sqrt(c))
        found = add(_times(u, ratio), _times(dot(top, adjoint(bottom)), weight))
        square = mul(bound, bound)
        grown = mul(bound, div(add(a, mul(b, square)), add(full_like(c, 1), mul(c, square))))
        change = div(_length(sub(found, u)), _not_zero(_length(found)))
        return found, min_(grown, full_like(grown, 1)), count + 1, change

    first = full((), float(dtypes.finfo(dtype).eps), dtype)
    state = (start, first, full((), 0, np.dtype(np.int32)), full((), np.inf, dtype))
    state = while_loop(go_on, step, state)
    u, _, count, _ = state
    h = dot(adjoint(u), x)
    return u, scaled(add(h, adjoint(h)), 0.5), count, ~unfinished(state)


def _not_zero(x: Any) -> Any:
    """The scalar, if it is not too small to divide by."""
    tiny = full_like(x, float(dtypes.finfo(x.aval.dtype).tiny))
    return max_(x, tiny)


def _times(x: Any, factor: Any) -> Any:
    return mul(x, broadcast_to(cast(factor, x.aval.dtype), x.aval.shape))


def _length(x: Any) -> Any:
    size = abs_(x)
    return sqrt(reduce_sum(mul(size, size), axes=(0, 1)))


def _halley_weights(bound: Any) -> tuple[Any, Any, Any]:
    """The weights a, b and c of a step, from a lower bound of the singular values."""
    one = full_like(bound, 1)
    square = mul(bound, bound)
    d = cbrt(scaled(div(sub(one, square), mul(square, square)), 4))
    root = sqrt(add(one, d))
    rest = sub(full_like(d, 8), scaled(d, 4))
    rest = add(rest, div(scaled(sub(full_like(d, 2), square), 8), mul(square, root)))
    a = add(root, scaled(sqrt(rest), 0.5))
    b = scaled(mul(sub(a, one), sub(a, one)), 0.25)
    return a, b, sub(add(a, b), one)
