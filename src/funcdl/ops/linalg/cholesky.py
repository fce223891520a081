"""Cholesky factors, and their change by a matrix of rank one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core.avals import ShapedArray
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import ShapeError
from funcdl.ops import registry
from funcdl.ops.arithmetic import add, mul
from funcdl.ops.linalg import common
from funcdl.ops.linalg.common import adjoint, dot, matrix_transpose
from funcdl.ops.linalg.samples import positive_definite, spread
from funcdl.ops.linalg.triangular_solve import triangular_solve
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.shape import instantiate

NDArray = np.ndarray[Any, Any]


def _shape(a: ShapedArray) -> ShapedArray:
    common.check_matrix("cholesky", a, square=True)
    common.check_dtype("cholesky", a)
    return ShapedArray(a.shape, a.dtype)


# NumPy takes less time for batches of smaller matrices. For larger ones of float32 its LAPACK takes
# twice that of SciPy's, and more with several threads.
_BY_NUMPY = 64


def _compute(a: NDArray) -> NDArray:
    size = a.shape[-1]
    if size <= _BY_NUMPY:
        (out,) = common.by_numpy(lambda x: [np.linalg.cholesky(x)], a, [((size, size), a.dtype)])
        # Failures are NaN above the diagonal, too.
        out = np.tril(out)
        if size and (lost := _is_lost(out)).any():
            out[lost] = _failure(size, a.dtype)
        return out
    factor = common.lapack("potrf", a.dtype)

    def one(matrix: NDArray) -> list[NDArray]:
        # A row of `matrix` is a column to LAPACK: the transposed matrix is U* U, and `matrix` so
        # Uᵀ times its adjoint.
        found, info = factor(matrix.T, lower=0, clean=1)
        return [_failure(size, a.dtype) if info or _is_lost(found) else found.T]

    (out,) = common.each_matrix(one, [(a, 2)], [((size, size), a.dtype)])
    return out


def _failure(size: int, dtype: np.dtype[Any]) -> NDArray:
    """What a matrix has that is not positive definite in place of a factor."""
    return np.tril(np.full((size, size), np.nan, dtype))


def _is_lost(factors: NDArray) -> NDArray:
    """Where LAPACK has taken NaN for a positive pivot: all pivots that follow are NaN, then."""
    lost: NDArray = np.isnan(factors[..., -1, -1])
    return lost


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """By Murray, Differentiation of the Cholesky decomposition (2016).

    The primitive reads lower triangles alone, so the tangent is what theirs says.
    """
    (a,), (t,) = primals, tangents
    out = cholesky(a)
    if is_zero(t):
        return out, Zero(out.aval.to_tangent())
    t = common.hermitian(t)
    t = triangular_solve(out, t, **_SOLVE, left_side=True, transpose_a=False, conjugate_a=False)
    t = triangular_solve(out, t, **_SOLVE, left_side=False, transpose_a=True, conjugate_a=True)
    return out, dot(out, common.lower_half(t))


_SOLVE = {"lower": True, "unit_diagonal": False}


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in [(3, 3), (1, 1), (2, 2, 2), (0, 0), (0, 2, 2), (2, 0, 0)]:
        yield Sample((positive_definite(rng, shape, dtype),), {}, (0,))
    mixed = np.stack([np.eye(2), -np.eye(2), np.full((2, 2), np.nan), 4 * np.eye(2)]).astype(dtype)
    yield Sample((mixed,))


cholesky = common.matrix_primitive("cholesky", _shape, _compute)
cholesky.jvp = _jvp
registry.add(Op(cholesky, common.ACCEPTS, _samples, common.LAPACK_IF_LARGE))


def _update_shape(r: ShapedArray, w: ShapedArray) -> ShapedArray:
    name = "cholesky_update"
    common.check_matrix(name, r, square=True)
    common.check_dtype(name, r, w, accepts=common.REAL)
    if w.shape != r.shape[:-1]:
        raise ShapeError(
            f"cholesky_update: w_vector must have shape {r.shape[:-1]} beside r_matrix {r}, got {w}"
        )
    return ShapedArray(r.shape, r.dtype)


def _update(r: NDArray, w: NDArray) -> NDArray:
    """By plane rotations, each of which makes one element of `w` zero."""
    r, w = np.triu(r), w.copy()
    for k in range(w.shape[-1]):
        length = np.hypot(r[..., k, k], w[..., k])
        safe = np.where(length == 0, 1, length)
        cos = np.where(length == 0, 1, r[..., k, k] / safe)[..., None]
        sin = np.where(length == 0, 0, w[..., k] / safe)[..., None]
        row = r[..., k, :].copy()
        r[..., k, :] = cos * row + sin * w
        w = cos * w - sin * row
        w[..., k] = 0
    return r


def _update_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """As for `cholesky`, of the matrix ``r.T @ r + w w.T``."""
    (r, w), _ = primals, tangents
    out = cholesky_update(r, w)
    if all(map(is_zero, tangents)):
        return out, Zero(out.aval.to_tangent())
    tr, tw = map(instantiate, tangents)
    size = w.shape[-1]
    columns, rows = common.columns_of(w, size), common.rows_of(tw, size)
    half = add(dot(matrix_transpose(common.upper(r)), common.upper(tr)), mul(columns, rows))
    t = add(half, adjoint(half))
    options = {"lower": False, "unit_diagonal": False, "conjugate_a": False}
    t = triangular_solve(out, t, left_side=True, transpose_a=True, **options)
    t = triangular_solve(out, t, left_side=False, transpose_a=False, **options)
    return out, dot(common.upper_half(t), out)


def _update_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in [(3, 3), (1, 1), (2, 2, 2), (0, 0), (0, 2, 2)]:
        r = np.triu(spread(rng, shape, dtype))
        yield Sample((r, random_array(rng, shape[:-1], dtype)), {}, (0, 1))
    yield Sample((np.zeros((2, 2), dtype), np.array([0, 1], dtype)))


cholesky_update = common.matrix_primitive("cholesky_update", _update_shape, _update)
cholesky_update.jvp = _update_jvp
registry.add(Op(cholesky_update, common.REAL, _update_samples, common.OWN))
