"""Singular values and vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.ops import registry
from funcdl.ops.arithmetic import add, div, mul, neg, scaled, sub
from funcdl.ops.comparison import eq
from funcdl.ops.convert import cast
from funcdl.ops.linalg import common
from funcdl.ops.linalg.common import adjoint, dot
from funcdl.ops.linalg.samples import spread
from funcdl.ops.registry import Op, Sample
from funcdl.ops.select import select_n
from funcdl.ops.shape import full_like
from funcdl.ops.slicing import concatenate, slice_

NDArray = np.ndarray[Any, Any]


def _shape(a: ShapedArray, *, full_matrices: bool, compute_uv: bool) -> list[ShapedArray]:
    common.check_matrix("svd", a)
    common.check_dtype("svd", a)
    *batch, m, n = a.shape
    k = min(m, n)
    values = ShapedArray((*batch, k), dtypes.real_dtype(a.dtype))
    if not compute_uv:
        return [values]
    left, right = (m, n) if full_matrices else (k, k)
    return [
        values,
        ShapedArray((*batch, m, left), a.dtype),
        ShapedArray((*batch, right, n), a.dtype),
    ]


def _compute(a: NDArray, *, full_matrices: bool, compute_uv: bool) -> list[NDArray]:
    outs = _shape(common.aval_of(a), full_matrices=full_matrices, compute_uv=compute_uv)
    results = [(x.shape[a.ndim - 2 :], x.dtype) for x in outs]

    if a.size == 0:
        u, s, vt = np.linalg.svd(a, full_matrices)
        return [s, u, vt][: len(results)]
    m, n = a.shape[-2:]
    options = {"compute_uv": compute_uv, "full_matrices": full_matrices}
    decompose = common.lapack("gesdd", a.dtype)
    work, _ = common.lapack("gesdd_lwork", a.dtype)(m, n, **options)
    # LAPACK may never return from what is not finite.
    finite = np.asarray(np.isfinite(a).all((-2, -1)))

    def one(x: NDArray, is_finite: NDArray) -> list[NDArray] | None:
        if not is_finite:
            return None
        u, s, vt, info = decompose(x, lwork=int(np.real(work)), **options)
        return None if info else [s, u, vt][: len(results)]

    # Not NumPy's, which has another LAPACK; see `eigh`.
    return common.each_matrix(one, [(a, 2), (finite, 0)], results)


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, full_matrices: bool, compute_uv: bool
) -> tuple[list[Any], list[Any]]:
    """As Giles, Collected matrix derivative results (2008), does it.

    Infinite where singular values are equal, unless vectors are not asked for. Vectors of complex
    matrices turn as little as they can; vectors that belong to no singular value, likewise.
    """
    (a,), (t,) = primals, tangents
    if is_zero(t):
        outs = svd(a, full_matrices=full_matrices, compute_uv=compute_uv)
        return outs, [Zero(x.aval.to_tangent()) for x in outs]
    s, all_u, all_vt = svd(a, full_matrices=full_matrices and compute_uv, compute_uv=True)
    k = s.shape[-1]
    u, vt = common.part(all_u, columns=k), common.part(all_vt, rows=k)
    right = dot(t, adjoint(vt))
    middle = dot(adjoint(u), right)
    ts = common.real_part(common.diagonal(middle))
    if not compute_uv:
        return [s], [ts]
    columns = cast(common.rows_of(s, k), a.dtype)
    scaled_columns = mul(middle, columns)
    scaled_rows = mul(cast(common.columns_of(s, k), a.dtype), middle)
    factors = cast(common.differences(s, _difference_of_squares), a.dtype)
    turn_u = mul(factors, add(scaled_columns, adjoint(scaled_columns)))
    turn_v = mul(factors, add(scaled_rows, adjoint(scaled_rows)))
    zero = eq(s, full_like(s, 0))
    inverse = div(full_like(s, 1), select_n(zero, s, full_like(s, 1)))
    inverse = select_n(zero, inverse, full_like(s, 0))
    if dtypes.is_complex(a.dtype):
        phases = select_n(
            common.on_diagonal(middle), full_like(middle, 0), sub(middle, adjoint(middle))
        )
        turn_u = add(turn_u, scaled(mul(phases, cast(common.rows_of(inverse, k), a.dtype)), 0.5))
    tu, tv = dot(u, turn_u), dot(adjoint(vt), turn_v)
    m, n = a.shape[-2:]
    if m > k:
        rest = sub(right, dot(u, middle))
        tu = add(tu, mul(rest, cast(common.rows_of(inverse, m), a.dtype)))
    if n > k:
        rest = sub(dot(adjoint(t), u), dot(adjoint(vt), adjoint(middle)))
        tv = add(tv, mul(rest, cast(common.rows_of(inverse, n), a.dtype)))
    if full_matrices:
        tu = _with_rest(all_u, u, tu)
        tv = _with_rest(adjoint(all_vt), adjoint(vt), tv)
    return [s, all_u, all_vt], [ts, tu, adjoint(tv)]


def _with_rest(whole: Any, first: Any, tangent: Any) -> Any:
    """The tangent of all vectors from that of the first ones, to which the others stay normal."""
    size, k = whole.shape[-1], first.shape[-1]
    if size == k:
        return tangent
    rest = slice_(
        whole,
        start_indices=(0,) * (whole.ndim - 1) + (k,),
        limit_indices=whole.shape,
        strides=None,
    )
    moved = neg(dot(first, dot(adjoint(tangent), rest)))
    return concatenate(tangent, moved, dimension=tangent.ndim - 1)


def _difference_of_squares(x: Any, y: Any) -> Any:
    return mul(sub(x, y), add(x, y))


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in [(3, 3), (3, 2), (2, 3), (2, 2, 2), (1, 1), (0, 2), (2, 0), (0, 2, 2)]:
        for full, vectors in [(False, False), (False, True), (True, True)]:
            params = {"full_matrices": full, "compute_uv": vectors}
            # LAPACK's phases of complex vectors, and vectors beyond, are one choice of many.
            free = vectors and (dtypes.is_complex(dtype) or (full and shape[-1] != shape[-2]))
            yield Sample((spread(rng, shape, dtype),), params, () if free else (0,))
    yield Sample(
        (np.stack([np.full((2, 2), np.nan), np.diag([2, 1])]).astype(dtype),),
        {"full_matrices": False, "compute_uv": True},
    )


svd = common.matrix_primitive("svd", _shape, _compute, multiple_results=True)
svd.jvp = _jvp
registry.add(Op(svd, common.ACCEPTS, _samples, common.LAPACK))
