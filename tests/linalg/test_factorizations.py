"""Properties of every factorization of funcdl.lax.linalg, over shapes, batches and dtypes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from tests.linalg.factors import (
    DTYPES,
    NDArray,
    adjoint,
    hermitian,
    matrices,
    near,
    normal,
    orthonormal,
    positive,
)

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.lax import linalg


def values(*xs: Any) -> list[NDArray]:
    return [np.asarray(x) for x in xs]


def diagonals(v: NDArray, like: NDArray) -> NDArray:
    """Square matrices with vectors on their diagonals."""
    return (v[..., None, :] * np.eye(v.shape[-1])).astype(like.dtype)


@given(matrices(square=True))
def test_cholesky(x: NDArray) -> None:
    a = positive(x)
    (low,) = values(linalg.cholesky(a))
    near(low @ adjoint(low), a)
    near(np.tril(low), low)
    assert np.all(np.diagonal(low, axis1=-2, axis2=-1).real > 0)
    (triangle,) = values(linalg.cholesky(np.tril(a), symmetrize_input=False))
    near(triangle, low)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("size", [64, 65, 131])
def test_large_cholesky(size: int, dtype: str) -> None:
    rng = np.random.default_rng(size)
    x = rng.normal(size=(4, size, size)) + 1j * rng.normal(size=(4, size, size))
    a = positive(x.real.astype(dtype) if dtype[0] == "f" else x.astype(dtype))
    a[1] *= -1
    a[2, 5, 3] = np.nan
    rest = np.triu(np.full((size, size), 7), 1)  # is not read
    (low,) = values(linalg.cholesky(np.tril(a) + rest.astype(dtype), symmetrize_input=False))
    assert low.dtype == a.dtype
    for i in (0, 3):
        near(low[i] @ adjoint(low[i]), a[i])
    for i in (1, 2):
        assert np.isnan(low[i][np.tril_indices(size)]).all()
    assert not np.triu(low, 1).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("size", [1, 3, 64, 65])
def test_cholesky_of_what_is_not_finite(size: int, value: float, dtype: str) -> None:
    """NaN altogether, eagerly and compiled, but for infinities that only make rows zero."""
    places = [(0, 0), (size - 1, 0), (size // 2, size // 2), (size - 1, size - 1)]
    a = positive(normal(np.random.default_rng(0), (len(places), size, size), dtype))
    for i, (row, column) in enumerate(places):
        a[i, row, column] = value
    call = partial(linalg.cholesky, symmetrize_input=False)
    for x in (a, *a):
        found, compiled = values(call(x), fd.jit(call)(x))
        np.testing.assert_array_equal(np.isnan(found), np.isnan(compiled))
        lost = np.isnan(found[..., *np.tril_indices(size)])
        assert (lost.all(-1) | ~lost.any(-1)).all()
        assert lost.all() or not np.isnan(value)


@given(matrices(square=True), st.integers(0, 99))
def test_cholesky_update(x: NDArray, seed: int) -> None:
    x = x.real.astype(np.float64)
    r = adjoint(np.linalg.cholesky(positive(x)))
    w = normal(np.random.default_rng(seed), r.shape[:-1], r.dtype)
    (found,) = values(linalg.cholesky_update(r, w))
    near(adjoint(found) @ found, adjoint(r) @ r + w[..., :, None] * w[..., None, :])
    near(np.triu(found), found)


@given(matrices(), st.booleans(), st.booleans())
def test_qr(a: NDArray, full: bool, pivoting: bool) -> None:
    q, r, *p = values(*linalg.qr(a, full_matrices=full, pivoting=pivoting))
    m, n = a.shape[-2:]
    assert q.shape[-2:] == (m, m if full else min(m, n))
    orthonormal(q)
    near(np.triu(r), r)
    if pivoting:
        near(q @ r, np.take_along_axis(a, p[0][..., None, :].astype(int), -1))
        sizes = np.abs(np.diagonal(r, axis1=-2, axis2=-1))
        assert np.all(sizes[..., 1:] <= sizes[..., :-1] * 1.001 + 1e-6)
    else:
        near(q @ r, a)


@given(matrices(), st.booleans())
def test_svd(a: NDArray, full: bool) -> None:
    u, s, vh = values(*linalg.svd(a, full_matrices=full))
    k = s.shape[-1]
    orthonormal(u)
    orthonormal(adjoint(vh))
    near((u[..., :k] * s[..., None, :]).astype(a.dtype) @ vh[..., :k, :], a)
    assert np.all(s >= 0)
    assert np.all(s[..., 1:] <= s[..., :-1])
    near(linalg.svd(a, compute_uv=False), s)


@given(matrices(square=True), st.booleans())
def test_eigh(x: NDArray, lower: bool) -> None:
    a = hermitian(x)
    one_triangle = np.tril(a) if lower else np.triu(a)
    v, w = values(*linalg.eigh(one_triangle, lower=lower, symmetrize_input=False))
    orthonormal(v)
    near(a @ v, v @ diagonals(w, a))
    assert np.all(w[..., 1:] >= w[..., :-1])
    for again, first in zip(linalg.eigh(a), (v, w), strict=True):
        assert again.shape == first.shape
    near(linalg.eigh(a)[1], w)


@given(matrices(square=True))
def test_eig(a: NDArray) -> None:
    w, left, right = values(*linalg.eig(a))
    big = a.astype(w.dtype)
    scale = max(1, np.abs(a).max(initial=0))
    near(big @ right / scale, right @ diagonals(w, w) / scale)
    near(adjoint(left) @ big / scale, diagonals(w, w) @ adjoint(left) / scale)
    lengths = np.linalg.norm(right, axis=-2)
    near(lengths, np.ones_like(lengths))
    only = values(*linalg.eig(a, compute_left_eigenvectors=False))
    assert len(only) == 2


@given(matrices())
def test_lu(a: NDArray) -> None:
    factors, pivots, permutation = values(*linalg.lu(a))
    m, n = a.shape[-2:]
    k = min(m, n)
    low = np.tril(factors[..., :k], -1) + np.eye(m, k).astype(a.dtype)
    near(low @ np.triu(factors[..., :k, :]), np.take_along_axis(a, permutation[..., None], -2))
    assert np.all(np.abs(low) <= 1.5)
    (again,) = values(linalg.lu_pivots_to_permutation(pivots, m))
    np.testing.assert_array_equal(again, permutation)
    assert pivots.dtype == permutation.dtype == np.int32


@given(matrices(square=True), st.integers(0, 3), *[st.booleans()] * 5)
def test_triangular_solve(
    x: NDArray,
    count: int,
    left: bool,
    lower: bool,
    transpose: bool,
    conjugate: bool,
    unit: bool,
) -> None:
    n = x.shape[-1]
    x = (x / 4 + 2 * np.eye(n)).astype(x.dtype)
    a = np.tril(x) if lower else np.triu(x)
    if unit:
        a = (a - diagonals(np.diagonal(a, axis1=-2, axis2=-1) - 1, a)).astype(a.dtype)
    shape = (n, count) if left else (count, n)
    b = normal(np.random.default_rng(n), (*x.shape[:-2], *shape), x.dtype)
    found = linalg.triangular_solve(
        x, b, left_side=left, lower=lower, transpose_a=transpose, conjugate_a=conjugate,
        unit_diagonal=unit,
    )  # fmt: skip
    a = a.conj() if conjugate else a
    a = np.swapaxes(a, -1, -2) if transpose else a
    (y,) = values(found)
    near(a @ y if left else y @ a, b)


def test_triangular_solve_takes_vectors() -> None:
    a = np.tril(np.arange(1.0, 10).reshape(3, 3))
    b = np.array([1.0, 2, 3])
    found = linalg.triangular_solve(a, b, left_side=True, lower=True)
    near(found, scipy.linalg.solve_triangular(a, b, lower=True))
    near(linalg.triangular_solve(a, b, lower=True), scipy.linalg.solve_triangular(a.T, b))


@given(matrices(square=True))
def test_schur(a: NDArray) -> None:
    form, vectors = values(*linalg.schur(a))
    orthonormal(vectors)
    near(vectors @ form @ adjoint(vectors), a)
    near(np.triu(form, -1 if a.dtype.kind == "f" else 0), form)
    (alone,) = values(*linalg.schur(a, compute_schur_vectors=False))
    assert alone.shape == a.shape


@given(matrices(square=True, least=1))
def test_hessenberg(a: NDArray) -> None:
    packed, taus = values(*linalg.hessenberg(a))
    n = a.shape[-1]
    q = np.broadcast_to(np.eye(n), a.shape).astype(a.dtype)
    if n > 1:
        (rest,) = values(linalg.householder_product(packed[..., 1:, :-1], taus))
        q[..., 1:, 1:] = rest
    near(q @ np.triu(packed, -1) @ adjoint(q), a)


@given(matrices(square=True, least=1), st.booleans())
def test_tridiagonal(x: NDArray, lower: bool) -> None:
    a = hermitian(x)
    packed, d, e, taus = values(*linalg.tridiagonal(a, lower=lower))
    n = a.shape[-1]
    assert (d.shape, e.shape, taus.shape) == (a.shape[:-1], *[(*a.shape[:-2], n - 1)] * 2)
    assert packed.shape == a.shape
    full = diagonals(d, d)
    places = np.arange(n - 1)
    full[..., places, places + 1] = full[..., places + 1, places] = e
    near(np.linalg.eigvalsh(full), np.linalg.eigvalsh(a), 2000)


@given(matrices(least=1), st.integers(0, 99))
def test_tridiagonal_solve(b: NDArray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = b.shape[-2]
    dl, du = (normal(rng, b.shape[:-1], b.dtype) / 8 for _ in range(2))
    d = (normal(rng, b.shape[:-1], b.dtype) / 8 + 2).astype(b.dtype)
    (x,) = values(linalg.tridiagonal_solve(dl, d, du, b))
    full = diagonals(d, b)
    places = np.arange(n - 1)
    full[..., places + 1, places] = dl[..., 1:]
    full[..., places, places + 1] = du[..., :-1]
    near(full @ x, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 3])
def test_the_diagonal_of_a_hermitian_matrix_is_real(size: int, dtype: str) -> None:
    a = normal(np.random.default_rng(0), (2, size, size), dtype)
    for found, compiled in zip(linalg.tridiagonal(a), fd.jit(linalg.tridiagonal)(a), strict=True):
        near(found, compiled)
        if found.ndim == 3:
            assert not np.diagonal(found, axis1=1, axis2=2).imag.any()


@pytest.mark.parametrize("name", ["eigh", "hessenberg", "schur", "tridiagonal"])
@pytest.mark.parametrize("size", [1, 2])
def test_forms_of_what_is_not_finite_are_nan(size: int, name: str) -> None:
    call = getattr(linalg, name)
    for dtype in DTYPES:
        a = np.full((2, size, size), np.inf, dtype)
        for found, compiled in zip(call(a), fd.jit(call)(a), strict=True):
            assert np.isnan(found).all()
            assert np.isnan(compiled).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_reflections(dtype: str) -> None:
    a = normal(np.random.default_rng(0), (4, 3), dtype)
    (packed, taus), _ = scipy.linalg.qr(a, mode="raw")
    q, _ = np.linalg.qr(a, "complete")
    near(linalg.householder_product(packed, taus), q[:, :3])
    for found, wanted in zip(fnp.linalg.qr(a, "raw"), np.linalg.qr(a, "raw"), strict=True):
        near(found, wanted)
    c = normal(np.random.default_rng(1), (4, 2), dtype)
    near(linalg.ormqr(packed, taus, c), q @ c)
    near(linalg.ormqr(packed, taus, c, transpose=True), adjoint(q) @ c)
    near(linalg.ormqr(packed, taus, c.T, left=False), c.T @ q)


def test_symmetric_product() -> None:
    rng = np.random.default_rng(0)
    a, c = rng.standard_normal((2, 3, 4)), hermitian(rng.standard_normal((2, 3, 3)))
    wanted = 2 * a @ np.swapaxes(a, 1, 2) + 3 * c
    for symmetrize in (False, True):
        found = linalg.symmetric_product(a, c, alpha=2, beta=3, symmetrize_output=symmetrize)
        near(found, wanted)


@given(matrices(least=1))
def test_qdwh(x: NDArray) -> None:
    a = x.reshape(-1, *x.shape[-2:])
    if not a.size:
        return
    m, n = max(a.shape[1:]), min(a.shape[1:])
    a = a[0].reshape(m, n) + np.eye(m, n)
    if np.linalg.cond(a) > 50:
        return
    a = a.astype(x.dtype)
    u, h, count, converged = values(*linalg.qdwh(a))
    wanted_u, wanted_h = scipy.linalg.polar(a)
    near(u, wanted_u, 2000)
    near(h, wanted_h, 2000)
    assert converged
    assert count <= 10


def test_subsets_of_values() -> None:
    a = positive(normal(np.random.default_rng(0), (2, 5, 5), np.float64))
    v, w = values(*linalg.eigh(a))
    for found, whole in zip(
        linalg.eigh(a, subset_by_index=(1, 3)), (v[..., 1:3], w[..., 1:3]), strict=True
    ):
        near(found, whole)
    u, s, vh = values(*linalg.svd(a, full_matrices=False))
    found = linalg.svd(a, full_matrices=False, subset_by_index=(1, 4))
    for part, whole in zip(found, (u[..., 1:4], s[..., 1:4], vh[..., 1:4, :]), strict=True):
        near(part, whole)
    near(linalg.svd(a, compute_uv=False, subset_by_index=(0, 2)), s[..., :2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_does_not_exist_is_nan(dtype: str) -> None:
    """One failing matrix spoils its own result alone, and nothing is raised."""
    good = np.array([[2, 1], [1, 3]], dtype)
    negative = -good
    nan = np.full((2, 2), np.nan, dtype)
    low = np.asarray(linalg.cholesky(np.stack([good, negative, nan])))
    near(low[0], np.linalg.cholesky(good))
    assert np.isnan(low[1:, [0, 1, 1], [0, 0, 1]]).all()
    assert (low[:, 0, 1] == 0).all()
    calls = {
        "svd": lambda x: linalg.svd(x),
        "eigh": lambda x: linalg.eigh(x),
        "eig": lambda x: linalg.eig(x),
        "schur": lambda x: linalg.schur(x),
        "hessenberg": lambda x: linalg.hessenberg(x),
        "tridiagonal": lambda x: linalg.tridiagonal(x),
        "qr": lambda x: linalg.qr(x, pivoting=True)[:2],
    }
    for name, call in calls.items():
        alone = values(*call(good))
        together = values(*call(np.stack([nan, good])))
        for one, both in zip(alone, together, strict=True):
            near(both[1], one)
            assert np.isnan(both[0]).any() or both[0].size == 0, name
    zeros = np.zeros((2, 2), dtype)
    assert not np.isfinite(linalg.triangular_solve(zeros, good, left_side=True)).any()
    line = np.zeros(2, dtype)
    assert np.isnan(np.asarray(linalg.tridiagonal_solve(line, line, line, good))).all()
    factors, *_ = values(*linalg.lu(zeros))
    assert (factors == 0).all()


def test_integers_become_floats() -> None:
    a = np.array([[2, 1], [1, 3]], np.int32)
    assert linalg.cholesky(a).dtype == np.float32
    assert linalg.lu(a)[0].dtype == np.float32
