"""Eigenvalues and eigenvectors of general matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core.avals import ShapedArray
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import NotDifferentiableError
from funcdl.ops import registry
from funcdl.ops.arg_reduction import argmax
from funcdl.ops.arithmetic import abs_, div, mul, sub
from funcdl.ops.complex_parts import complex_, imag, real
from funcdl.ops.convert import cast
from funcdl.ops.linalg import common
from funcdl.ops.linalg.common import adjoint, conjugate, dot
from funcdl.ops.linalg.lu import solve
from funcdl.ops.linalg.samples import spread
from funcdl.ops.reduction import reduce_sum
from funcdl.ops.registry import Op, Sample
from funcdl.ops.shape import full_like, reshape
from funcdl.ops.sort import take_along

NDArray = np.ndarray[Any, Any]


def complex_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The complex dtype of the same precision."""
    return np.result_type(dtype, np.complex64)


def _shape(
    a: ShapedArray,
    *,
    compute_left_eigenvectors: bool,
    compute_right_eigenvectors: bool,
    enable_eigvec_derivs: bool,
) -> list[ShapedArray]:
    common.check_matrix("eig", a, square=True)
    common.check_dtype("eig", a)
    dtype = complex_dtype(a.dtype)
    count = compute_left_eigenvectors + compute_right_eigenvectors
    return [ShapedArray(a.shape[:-1], dtype), *[ShapedArray(a.shape, dtype)] * count]


def _compute(
    a: NDArray,
    *,
    compute_left_eigenvectors: bool,
    compute_right_eigenvectors: bool,
    enable_eigvec_derivs: bool,
) -> list[NDArray]:
    size, dtype = a.shape[-1], complex_dtype(a.dtype)
    wanted = [compute_left_eigenvectors, compute_right_eigenvectors]
    results = [((size,), dtype)] + [((size, size), dtype)] * sum(wanted)
    if a.size == 0:
        return [np.empty((*a.shape[:-2], *shape), dtype) for shape, dtype in results]
    decompose = common.lapack("geev", a.dtype)

    def one(x: NDArray) -> Sequence[NDArray] | None:
        # LAPACK may never return from these.
        if not np.isfinite(x).all():
            return None
        *values, left, right, info = decompose(
            x, compute_vl=compute_left_eigenvectors, compute_vr=compute_right_eigenvectors
        )
        if info:
            return None
        if len(values) == 1:
            return [values[0], *(v for v, use in zip((left, right), wanted, strict=True) if use)]
        return [
            values[0] + 1j * values[1],
            *(_paired(v, values[1]) for v, use in zip((left, right), wanted, strict=True) if use),
        ]

    return common.each_matrix(one, [(a, 2)], results)


def _paired(vectors: NDArray, imaginary: NDArray) -> NDArray:
    """Complex vectors from LAPACK's: real part and imaginary part of the first of a pair."""
    out = vectors.astype(complex_dtype(vectors.dtype))
    for j in np.flatnonzero(imaginary > 0):
        out[:, j] = vectors[:, j] + 1j * vectors[:, j + 1]
        out[:, j + 1] = out[:, j].conj()
    return out


def _jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    compute_left_eigenvectors: bool,
    compute_right_eigenvectors: bool,
    enable_eigvec_derivs: bool,
) -> tuple[list[Any], list[Any]]:
    """Eigenvalues move by the diagonal of ``V \\ dA V``; vectors within LAPACK's normalisation.

    That is length 1, and the largest component real.
    """
    (a,), (t,) = primals, tangents
    left, right = compute_left_eigenvectors, compute_right_eigenvectors
    if is_zero(t):
        outs = eig(
            a,
            compute_left_eigenvectors=left,
            compute_right_eigenvectors=right,
            enable_eigvec_derivs=enable_eigvec_derivs,
        )
        return outs, [Zero(x.aval.to_tangent()) for x in outs]
    if (left or right) and not enable_eigvec_derivs:
        raise NotDifferentiableError(
            "eig: eigenvectors of general matrices have derivatives only where all eigenvalues "
            "differ and each vector has one largest component, which cannot be checked.\n"
            "Pass enable_eigvec_derivs=True to funcdl.lax.linalg.eig where that holds, or use "
            "eigvals or eigh."
        )
    # However the eigenvalues are differentiated again, no phase of a vector matters.
    values, *vectors = eig(
        a,
        compute_left_eigenvectors=left,
        compute_right_eigenvectors=True,
        enable_eigvec_derivs=True,
    )
    t = cast(t, values.dtype)
    inside = solve(vectors[-1], dot(t, vectors[-1]))
    out_tangents = [common.diagonal(inside)]
    if left:
        start = adjoint(t)
        other = solve(vectors[0], dot(start, vectors[0]))
        out_tangents.append(_vectors_tangent(vectors[0], conjugate(values), other))
    if right:
        out_tangents.append(_vectors_tangent(vectors[-1], values, inside))
    return [values, *vectors[: left + right]], out_tangents


def _vectors_tangent(vectors: Any, values: Any, inside: Any) -> Any:
    size = values.shape[-1]
    if size == 0:
        return full_like(vectors, 0)
    t = dot(vectors, mul(common.differences(values, sub), inside))
    # What is allowed besides: a factor for each vector, which keeps its length and phase.
    rows = vectors.ndim - 2
    length = real(reduce_sum(mul(conjugate(vectors), t), axes=(rows,)))
    largest = argmax(abs_(vectors), axes=(rows,), index_dtype=common.INDEX)
    places = reshape(largest, new_sizes=(*values.shape[:-1], 1, size))
    peak, move = (
        reshape(take_along(x, places, rows), new_sizes=values.shape) for x in (vectors, t)
    )
    factor = complex_(length, div(imag(move), real(peak)))
    return sub(t, mul(vectors, common.rows_of(factor, size)))


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in [(3, 3), (1, 1), (2, 2, 2), (0, 0), (0, 2, 2)]:
        for left, right in [(False, False), (False, True), (True, False), (True, True)]:
            params = {
                "compute_left_eigenvectors": left,
                "compute_right_eigenvectors": right,
                "enable_eigvec_derivs": left or right,
            }
            yield Sample((spread(rng, shape, dtype),), params, (0,))
    values = {
        "compute_left_eigenvectors": False,
        "compute_right_eigenvectors": True,
        "enable_eigvec_derivs": False,
    }
    yield Sample((np.array([[1, -2], [3, 1]], dtype),), values)
    yield Sample((np.stack([np.full((2, 2), np.nan), np.diag([2, 1])]).astype(dtype),), values)


eig = common.matrix_primitive("eig", _shape, _compute, multiple_results=True)
eig.jvp = _jvp
registry.add(Op(eig, common.ACCEPTS, _samples, common.LAPACK))
