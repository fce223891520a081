"""QR factors, and products of Householder reflections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core.avals import ShapedArray
from funcdl.core.forks import held_off
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import ShapeError
from funcdl.ops import registry
from funcdl.ops.arithmetic import add, sub
from funcdl.ops.jvp_rules import refuse_jvp
from funcdl.ops.linalg import common
from funcdl.ops.linalg.common import adjoint, dot
from funcdl.ops.linalg.lu import extended
from funcdl.ops.linalg.samples import spread
from funcdl.ops.linalg.triangular_solve import triangular_solve
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.sort import take_along

NDArray = np.ndarray[Any, Any]


def _shape(a: ShapedArray, *, pivoting: bool, full_matrices: bool) -> list[ShapedArray]:
    common.check_matrix("qr", a)
    common.check_dtype("qr", a)
    *batch, m, n = a.shape
    k = m if full_matrices else min(m, n)
    outs = [ShapedArray((*batch, m, k), a.dtype), ShapedArray((*batch, k, n), a.dtype)]
    return [*outs, ShapedArray((*batch, n), common.INDEX)] if pivoting else outs


def _compute(a: NDArray, *, pivoting: bool, full_matrices: bool) -> list[NDArray]:
    if not pivoting:
        return list(np.linalg.qr(a, "complete" if full_matrices else "reduced"))
    q, r, p = _shape(common.aval_of(a), pivoting=True, full_matrices=full_matrices)
    results = [(x.shape[a.ndim - 2 :], x.dtype) for x in (q, r)] + [(p.shape[-1:], p.dtype)]
    if a.size == 0:
        plain = _compute(a, pivoting=False, full_matrices=full_matrices)
        return [*plain, np.broadcast_to(np.arange(p.shape[-1], dtype=p.dtype), p.shape)]

    def one(x: NDArray) -> Sequence[NDArray]:
        with held_off():
            from scipy.linalg import qr as factor

        mode = "full" if full_matrices else "economic"
        factors: Sequence[NDArray] = factor(x, mode=mode, pivoting=True, check_finite=False)
        return factors

    return common.each_matrix(one, [(a, 2)], results)


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, pivoting: bool, full_matrices: bool
) -> tuple[list[Any], list[Any]]:
    """The tangent of Q is Q times a skew matrix, and in the rest of the space whatever is needed.

    As Walter and Lehmann, Algorithmic differentiation of linear algebra functions (2010), do it;
    for complex matrices with the diagonal that keeps that of R real. The columns of Q that R does
    not determine move as little as they can, as those of JAX do.
    """
    (a,), (t,) = primals, tangents
    outs = qr(a, pivoting=pivoting, full_matrices=full_matrices)
    q, r, *rest = outs
    if is_zero(t):
        return outs, [Zero(x.aval.to_tangent()) for x in outs]
    m, n = a.shape[-2:]
    k = min(m, n)
    if pivoting:
        t = take_along(t, common.rows_of(rest[0], m), t.ndim - 1)
    # The first k columns determine Q.
    moved = triangular_solve(
        common.part(r, k, k),
        common.part(t, columns=k),
        left_side=False,
        lower=False,
        transpose_a=False,
        conjugate_a=False,
        unit_diagonal=False,
    )
    inside = dot(adjoint(q), moved)
    turn = common.skew(extended(common.lower_half(inside), 0, q.shape[-1] - k))
    tq = dot(q, turn)
    if q.shape[-1] < m:
        tq = add(tq, sub(moved, dot(q, inside)))
    tr = common.upper(sub(dot(adjoint(q), t), dot(turn, r)))
    return outs, [tq, tr, *(Zero(x.aval.to_tangent()) for x in rest)]


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in [(3, 3), (4, 2), (2, 3), (2, 3, 2), (0, 2), (2, 0), (0, 2, 2)]:
        for pivoting, full in [(False, False), (False, True), (True, False), (True, True)]:
            params = {"pivoting": pivoting, "full_matrices": full}
            # LAPACK's columns beyond those of the matrix are only one choice of many.
            free = full and shape[-2] > shape[-1]
            yield Sample((spread(rng, shape, dtype),), params, () if free else (0,))


qr = common.matrix_primitive("qr", _shape, _compute, multiple_results=True)
qr.jvp = _jvp
registry.add(Op(qr, common.ACCEPTS, _samples, common.LAPACK))


def _reflections_shape(a: ShapedArray) -> list[ShapedArray]:
    common.check_matrix("geqrf", a)
    common.check_dtype("geqrf", a)
    *batch, m, n = a.shape
    return [ShapedArray(a.shape, a.dtype), ShapedArray((*batch, min(m, n)), a.dtype)]


def _reflections(a: NDArray) -> list[NDArray]:
    packed, taus = np.linalg.qr(a, "raw")
    return [np.swapaxes(packed, -1, -2), taus]


def _reflections_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in [(3, 3), (4, 2), (2, 3), (2, 3, 2), (0, 2), (2, 0), (0, 2, 2)]:
        yield Sample((spread(rng, shape, dtype),))


_REASON = "differentiate qr instead"

geqrf = common.matrix_primitive("geqrf", _reflections_shape, _reflections, multiple_results=True)
geqrf.jvp = refuse_jvp(geqrf, _REASON)
registry.add(Op(geqrf, common.ACCEPTS, _reflections_samples, common.LAPACK | {"jvp": _REASON}))


def _product_shape(a: ShapedArray, taus: ShapedArray) -> ShapedArray:
    name = "householder_product"
    common.check_matrix(name, a)
    common.check_dtype(name, a, taus)
    if taus.ndim < 1:
        raise ShapeError(f"householder_product: taus must be vectors, got {taus}")
    common.check_batch(name, a, 2, taus, 1)
    m, n = a.shape[-2:]
    k = taus.shape[-1]
    if not m >= n >= k:
        raise ShapeError(
            f"householder_product: a needs at least as many rows as columns, and as many columns "
            f"as there are taus, got {a} and {taus} with {m}, {n} and {k}"
        )
    return ShapedArray(a.shape, a.dtype)


def _product(a: NDArray, taus: NDArray) -> NDArray:
    if a.size == 0:
        return np.empty(a.shape, a.dtype)
    if taus.shape[-1] == 0:
        return np.broadcast_to(np.eye(*a.shape[-2:], dtype=a.dtype), a.shape)
    multiply = common.lapack("ungqr" if np.iscomplexobj(a) else "orgqr", a.dtype)
    return common.each_matrix(
        lambda x, tau: multiply(x, tau)[:1], [(a, 2), (taus, 1)], [(a.shape[-2:], a.dtype)]
    )[0]


def _product_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape, count in [((3, 3), 3), ((4, 2), 2), ((3, 2), 1), ((2, 3, 2), 2), ((2, 2), 0)]:
        taus = random_array(rng, (*shape[:-2], count), dtype)
        yield Sample((random_array(rng, shape, dtype), taus))
    for shape in [(2, 0), (0, 2, 2)]:
        yield Sample((np.zeros(shape, dtype), np.zeros((*shape[:-2], shape[-1]), dtype)))


householder_product = common.matrix_primitive("householder_product", _product_shape, _product)
householder_product.jvp = refuse_jvp(householder_product, _REASON)
registry.add(
    Op(householder_product, common.ACCEPTS, _product_samples, common.LAPACK | {"jvp": _REASON})
)
