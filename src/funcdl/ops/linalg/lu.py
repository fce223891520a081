"""LU factors with row exchanges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.arithmetic import add
from funcdl.ops.jvp_rules import zero_jvp
from funcdl.ops.linalg import common
from funcdl.ops.linalg.common import dot
from funcdl.ops.linalg.samples import spread
from funcdl.ops.linalg.triangular_solve import triangular_solve
from funcdl.ops.registry import Op, Sample
from funcdl.ops.shape import broadcast_to, full
from funcdl.ops.slicing import pad
from funcdl.ops.sort import argsort, take_along

NDArray = np.ndarray[Any, Any]


def _shape(a: ShapedArray) -> list[ShapedArray]:
    common.check_matrix("lu", a)
    common.check_dtype("lu", a)
    *batch, m, n = a.shape
    return [
        ShapedArray(a.shape, a.dtype),
        ShapedArray((*batch, min(m, n)), common.INDEX),
        ShapedArray((*batch, m), common.INDEX),
    ]


def _compute(a: NDArray) -> list[NDArray]:
    m, n = a.shape[-2:]
    if a.size == 0:
        pivots = np.zeros((*a.shape[:-2], min(m, n)), common.INDEX)
        return [np.empty(a.shape, a.dtype), pivots, _permutation(pivots, permutation_size=m)]
    factor = common.lapack("getrf", a.dtype)
    # A zero on the diagonal of U is reported, but no failure.
    factors, pivots = common.each_matrix(
        lambda x: factor(x)[:2], [(a, 2)], [((m, n), a.dtype), ((min(m, n),), common.INDEX)]
    )
    return [factors, pivots, _permutation(pivots, permutation_size=m)]


def _permutation(pivots: NDArray, *, permutation_size: int) -> NDArray:
    batch = pivots.shape[:-1]
    out = np.broadcast_to(
        np.arange(permutation_size, dtype=common.INDEX), (*batch, permutation_size)
    )
    out = out.copy()
    for i in range(pivots.shape[-1]):
        j = pivots[..., i, None]
        other = np.take_along_axis(out, j, -1)
        np.put_along_axis(out, j, out[..., i, None], -1)
        out[..., i] = other[..., 0]
    return out


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The tangents of L and U are triangles of ``L \\ P dA / U``, times L and U.

    Both are made square first: L gets columns, U rows of the identity.
    """
    (a,), (t,) = primals, tangents
    factors, pivots, permutation = lu(a)
    outs = [factors, pivots, permutation]
    nowhere = [Zero(x.aval.to_tangent()) for x in outs]
    if is_zero(t):
        return outs, nowhere
    m, n = a.shape[-2:]
    t = permuted(permutation, t)
    low = extended(common.part(factors, columns=min(m, n)), 0, m - min(m, n))
    high = extended(common.part(factors, rows=min(m, n)), n - min(m, n), 0)
    low = common.lower(low, -1)
    high = common.upper(high)
    low = add(low, common.identity_like(low))
    if n > m:
        # Ones go on the new part of the diagonal alone.
        corner = common.identity_like(full((n - m, n - m), 0, a.dtype))
        zero = full((), 0, a.dtype)
        corner = pad(corner, zero, padding_config=((m, 0, 0), (m, 0, 0)))
        high = add(high, broadcast_to(corner, high.shape))
    options = {"transpose_a": False, "conjugate_a": False}
    t = triangular_solve(low, t, left_side=True, lower=True, unit_diagonal=True, **options)
    t = triangular_solve(high, t, left_side=False, lower=False, unit_diagonal=False, **options)
    return outs, [add(dot(low, common.lower(t, -1)), dot(common.upper(t), high)), *nowhere[1:]]


def extended(x: Any, rows: int, columns: int) -> Any:
    """Matrices with rows and columns of zeros after their own."""
    if not rows and not columns:
        return x
    config = ((0, 0, 0),) * (x.ndim - 2) + ((0, rows, 0), (0, columns, 0))
    return pad(x, full((), 0, x.dtype), padding_config=config)


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in [(3, 3), (3, 2), (2, 4), (2, 2, 2), (1, 1), (0, 2), (2, 0), (0, 2, 2)]:
        # Reversed, so that rows are exchanged.
        yield Sample((spread(rng, shape, dtype)[..., ::-1, :].copy(),), {}, (0,))
    yield Sample((np.zeros((2, 2), dtype),))


lu = common.matrix_primitive("lu", _shape, _compute, multiple_results=True)
lu.jvp = _jvp
registry.add(Op(lu, common.ACCEPTS, _samples, common.LAPACK_IF_LARGE))


def _pivots_shape(pivots: ShapedArray, *, permutation_size: int) -> ShapedArray:
    if pivots.ndim < 1:
        raise ShapeError(f"lu_pivots_to_permutation: pivots must be vectors, got {pivots}")
    if pivots.dtype != common.INDEX:
        raise DtypeError(
            f"lu_pivots_to_permutation: pivots must be of dtype i32, got {pivots}.\n"
            "Convert them with astype first."
        )
    if permutation_size < pivots.shape[-1]:
        raise ArgumentError(
            f"lu_pivots_to_permutation: permutation_size must be at least {pivots.shape[-1]}, the "
            f"number of pivots, got {permutation_size}"
        )
    return ShapedArray((*pivots.shape[:-1], permutation_size), common.INDEX)


def _pivots_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape, size in [((3,), 3), ((2,), 4), ((2, 2), 2), ((0,), 2), ((0, 2), 3)]:
        pivots = np.arange(shape[-1]) + rng.integers(0, 1 + size - shape[-1], shape)
        yield Sample((pivots.astype(dtype),), {"permutation_size": size})
    yield Sample((np.array([2, 2, 2], dtype),), {"permutation_size": 3})


lu_pivots_to_permutation: Primitive = common.matrix_primitive(
    "lu_pivots_to_permutation", _pivots_shape, _permutation
)
lu_pivots_to_permutation.jvp = zero_jvp(lu_pivots_to_permutation)
registry.add(
    Op(lu_pivots_to_permutation, (dtypes.short_name(common.INDEX),), _pivots_samples, common.OWN)
)


def solve(a: Any, b: Any) -> Any:
    """``a \\ b`` for batches of square matrices and of right-hand sides that are matrices."""
    factors, _, permutation = lu(a)
    return lu_solve(factors, permutation, b)


def lu_solve(
    factors: Any, permutation: Any, b: Any, transpose: bool = False, conj: bool = False
) -> Any:
    """Solve systems, or those of the transposed matrices, whose LU factors are known."""
    options = {"left_side": True, "transpose_a": transpose, "conjugate_a": conj}
    low = {"lower": True, "unit_diagonal": True} | options
    high = {"lower": False, "unit_diagonal": False} | options
    if not transpose:
        x = triangular_solve(factors, permuted(permutation, b), **low)
        return triangular_solve(factors, x, **high)
    x = triangular_solve(factors, triangular_solve(factors, b, **high), **low)
    return permuted(argsort(permutation, permutation.ndim - 1), x)


def permuted(permutation: Any, x: Any) -> Any:
    """The rows of matrices in another order."""
    return take_along(x, common.columns_of(permutation, x.shape[-1]), x.ndim - 2)
