"""Eigenvalues and eigenvectors of Hermitian matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.ops import registry
from funcdl.ops.arithmetic import mul, sub
from funcdl.ops.convert import cast
from funcdl.ops.linalg import common
from funcdl.ops.linalg.common import adjoint, dot
from funcdl.ops.linalg.samples import positive_definite, spread
from funcdl.ops.registry import Op, Sample

NDArray = np.ndarray[Any, Any]


def _shape(a: ShapedArray, *, lower: bool, sort_eigenvalues: bool) -> list[ShapedArray]:
    common.check_matrix("eigh", a, square=True)
    common.check_dtype("eigh", a)
    return [
        ShapedArray(a.shape, a.dtype),
        ShapedArray(a.shape[:-1], dtypes.real_dtype(a.dtype)),
    ]


def _compute(a: NDArray, *, lower: bool, sort_eigenvalues: bool) -> list[NDArray]:
    size = a.shape[-1]
    results = [((size, size), a.dtype), ((size,), dtypes.real_dtype(a.dtype))]
    if a.size == 0:
        return [np.empty((*a.shape[:-2], *shape), dtype) for shape, dtype in results]
    decompose = common.lapack("heevd" if dtypes.is_complex(a.dtype) else "syevd", a.dtype)
    # LAPACK may never return from what is not finite.
    finite = np.asarray(np.isfinite(np.tril(a) if lower else np.triu(a)).all((-2, -1)))

    def one(x: NDArray, is_finite: NDArray) -> list[NDArray] | None:
        if not is_finite:
            return None
        values, vectors, info = decompose(x, lower=lower)
        return None if info else [vectors, values]

    # Not NumPy's, which has another LAPACK: vectors of float32 would get other signs in compiled
    # programs.
    return common.each_matrix(one, [(a, 2), (finite, 0)], results)


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], **params: Any
) -> tuple[list[Any], list[Any]]:
    """By first-order perturbation theory, as Giles (2008) writes it.

    Tangents of vectors are infinite where eigenvalues are equal. The primitive reads one triangle,
    so the tangent is what that triangle says.
    """
    (a,), (t,) = primals, tangents
    vectors, values = eigh(a, **params)
    if is_zero(t):
        return [vectors, values], [Zero(x.aval.to_tangent()) for x in (vectors, values)]
    t = common.hermitian(t, params["lower"])
    inside = dot(adjoint(vectors), dot(t, vectors))
    factors = cast(common.differences(values, sub), a.dtype)
    return [vectors, values], [
        dot(vectors, mul(factors, inside)),
        common.real_part(common.diagonal(inside)),
    ]


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    # The phases of complex vectors are LAPACK's choice.
    grad = () if dtypes.is_complex(dtype) else (0,)
    for shape in [(3, 3), (1, 1), (2, 2, 2), (0, 0), (0, 2, 2)]:
        for low in (True, False):
            params = {"lower": low, "sort_eigenvalues": True}
            yield Sample((positive_definite(rng, shape, dtype),), params, grad)
            yield Sample((spread(rng, shape, dtype),), params)
    mixed = np.stack([np.full((2, 2), np.nan), np.diag([2, 1])]).astype(dtype)
    yield Sample((mixed,), {"lower": True, "sort_eigenvalues": True})


eigh = common.matrix_primitive("eigh", _shape, _compute, multiple_results=True)
eigh.jvp = _jvp
registry.add(Op(eigh, common.ACCEPTS, _samples, common.LAPACK))
