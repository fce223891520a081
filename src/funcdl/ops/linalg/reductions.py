"""Reductions of matrices by unitary similarity: Schur, Hessenberg and tridiagonal form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.ops import registry
from funcdl.ops.jvp_rules import refuse_jvp
from funcdl.ops.linalg import common
from funcdl.ops.linalg.samples import positive_definite, spread
from funcdl.ops.registry import Op, Sample

NDArray = np.ndarray[Any, Any]

_REASON = "its derivative has no rule here, nor in JAX"


def _finite(
    compute: Callable[[NDArray], Any], read: Callable[[NDArray], NDArray] = np.asarray
) -> Callable[[NDArray], Any]:
    """LAPACK may never return from matrices with infinities and NaN; these are failures.

    Args:
        read: what of a matrix LAPACK reads, and zeros.
    """
    return lambda x: compute(x) if np.isfinite(read(x)).all() else None


def _only_element(a: NDArray) -> NDArray:
    """The form of matrices of one element: that, or NaN where it is not finite."""
    return np.where(np.isfinite(a), a, np.asarray(np.nan, a.dtype))


def _define(
    name: str,
    shape: Callable[..., Any],
    compute: Callable[..., Any],
    samples: registry.SampleMaker,
) -> Primitive:
    primitive = common.matrix_primitive(name, shape, compute, multiple_results=True)
    primitive.jvp = refuse_jvp(primitive, _REASON)
    registry.add(Op(primitive, common.ACCEPTS, samples, common.LAPACK | {"jvp": _REASON}))
    return primitive


def _schur_shape(a: ShapedArray, *, compute_schur_vectors: bool) -> list[ShapedArray]:
    common.check_matrix("schur", a, square=True)
    common.check_dtype("schur", a)
    return [ShapedArray(a.shape, a.dtype)] * (1 + compute_schur_vectors)


def _schur(a: NDArray, *, compute_schur_vectors: bool) -> list[NDArray]:
    count = 1 + compute_schur_vectors
    if a.size == 0:
        return [np.empty(a.shape, a.dtype)] * count
    decompose = common.lapack("gees", a.dtype)

    def one(x: NDArray) -> Sequence[NDArray] | None:
        form, *_, vectors, _, info = decompose(
            lambda *values: 0, x, compute_v=compute_schur_vectors
        )
        return None if info else [np.triu(form, -1), vectors][:count]

    results = [(a.shape[-2:], a.dtype)] * count
    return common.each_matrix(_finite(one), [(a, 2)], results)


def _schur_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in [(3, 3), (1, 1), (2, 2, 2), (0, 0), (0, 2, 2)]:
        for vectors in (True, False):
            params = {"compute_schur_vectors": vectors}
            # Triangular, so that each precision chooses the same signs of vectors.
            yield Sample((np.triu(spread(rng, shape, dtype)),), params)
    if not dtypes.is_complex(dtype):
        turning = np.array([[1, -2], [3, 1]], dtype)
        yield Sample((turning,), {"compute_schur_vectors": True})
    yield Sample((np.full((2, 2), np.nan, dtype),), {"compute_schur_vectors": True})


schur = _define("schur", _schur_shape, _schur, _schur_samples)


def _hessenberg_shape(a: ShapedArray) -> list[ShapedArray]:
    common.check_matrix("hessenberg", a, square=True)
    common.check_dtype("hessenberg", a)
    size = a.shape[-1]
    return [
        ShapedArray(a.shape, a.dtype),
        ShapedArray((*a.shape[:-2], max(size - 1, 0)), a.dtype),
    ]


def _hessenberg(a: NDArray) -> list[NDArray]:
    size = a.shape[-1]
    if a.size == 0 or size == 1:
        return [_only_element(a), np.zeros((*a.shape[:-2], max(size - 1, 0)), a.dtype)]
    reduce = common.lapack("gehrd", a.dtype)
    results = [(a.shape[-2:], a.dtype), ((size - 1,), a.dtype)]
    return common.each_matrix(_finite(lambda x: reduce(x)[:2]), [(a, 2)], results)


def _square_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in [(4, 4), (3, 3), (2, 2), (1, 1), (2, 3, 3), (0, 0), (0, 2, 2)]:
        yield Sample((spread(rng, shape, dtype),))


hessenberg = _define("hessenberg", _hessenberg_shape, _hessenberg, _square_samples)


def _tridiagonal_shape(a: ShapedArray, *, lower: bool) -> list[ShapedArray]:
    common.check_matrix("tridiagonal", a, square=True)
    common.check_dtype("tridiagonal", a)
    *batch, size = a.shape[:-1]
    real = dtypes.real_dtype(a.dtype)
    beside = (*batch, max(size - 1, 0))
    return [
        ShapedArray(a.shape, a.dtype),
        ShapedArray((*batch, size), real),
        ShapedArray(beside, real),
        ShapedArray(beside, a.dtype),
    ]


def _tridiagonal(a: NDArray, *, lower: bool) -> list[NDArray]:
    outs = _tridiagonal_shape(common.aval_of(a), lower=lower)
    if a.size == 0:
        return [np.zeros(x.shape, x.dtype) for x in outs]
    if a.shape[-1] == 1:
        empty = [np.zeros(x.shape, x.dtype) for x in outs[2:]]
        single = _only_element(a).real
        return [single.astype(a.dtype), single[..., 0].copy(), *empty]
    reduce = common.lapack("hetrd" if np.iscomplexobj(a) else "sytrd", a.dtype)
    results = [
        (x.shape[len(x.shape) - rank :], x.dtype)
        for x, rank in zip(outs, (2, 1, 1, 1), strict=True)
    ]
    one = _finite(lambda x: reduce(x, lower=lower)[:4], np.tril if lower else np.triu)
    return common.each_matrix(one, [(a, 2)], results)


def _tridiagonal_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in [(4, 4), (3, 3), (2, 2), (1, 1), (2, 3, 3), (0, 0), (0, 2, 2)]:
        for low in (True, False):
            yield Sample((positive_definite(rng, shape, dtype),), {"lower": low})


tridiagonal = _define("tridiagonal", _tridiagonal_shape, _tridiagonal, _tridiagonal_samples)
