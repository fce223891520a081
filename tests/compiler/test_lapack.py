"""Linear algebra of compiled programs by LAPACK: native, in loops, with any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.test_matrices import bind, check, on_host, samples
from tests.linalg.factors import DTYPES, adjoint, near, normal, orthonormal, positive

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.compiler.lapack import LONGEST, NAMES
from funcdl.config import config
from funcdl.core import dtypes
from funcdl.errors import ArgumentError
from funcdl.runtime.toolchain import find_compiler
from funcdl.scipy import linalg

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

NDArray = np.ndarray[Any, Any]
TOLERANCE = {"float32": 1e-4, "float64": 1e-11, "complex64": 1e-4, "complex128": 1e-11}


def compiled(f: Callable[..., Any], *args: Any, threads: int = 1) -> list[Any]:
    """The results of a program that must leave nothing to the host."""
    with config.override(backend="cpu", num_threads=threads):
        assert not on_host(f, *args)
        return [np.asarray(x) for x in fd.tree.leaves(fd.jit(f)(*args))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(NAMES))
def test_samples_are_native_and_as_on_the_host(name: str, dtype: str) -> None:
    found = list(samples(name, dtype))

    def program(*operands: tuple[Any, ...]) -> Any:
        return [bind(name, s.params)(*xs) for s, xs in zip(found, operands, strict=True)]

    operands = [tuple(map(fnp.asarray, s.args)) for s in found]
    hosts = on_host(program, *operands)
    # Q, V and the order of rows that belong to matrices without elements.
    empty = [
        s
        for s in found
        if not s.args[0].size and any(x.size for x in bind(name, s.params)(*s.args))
    ]
    assert len(hosts) <= len(empty), hosts
    check(program, *operands, tolerance=TOLERANCE[dtype])


sizes = st.sampled_from([1, 2, 3, 5, 8, 17, 33, 70])
batches = st.sampled_from([(), (1,), (3,), (2, 5), (40,)])


@st.composite
def problems(draw: st.DrawFn, square: bool = False) -> tuple[NDArray, int]:
    """A batch of matrices, and a number of threads."""
    dtype, batch, m = draw(st.sampled_from(DTYPES)), draw(batches), draw(sizes)
    n = m if square else draw(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return normal(rng, (*batch, m, n), dtype), draw(st.sampled_from([1, 2, 5]))


@settings(max_examples=30, deadline=None)
@given(problems(square=True), st.booleans())
def test_eigenvalues_of_hermitian_matrices(problem: tuple[NDArray, int], lower: bool) -> None:
    x, threads = problem
    a = (x + adjoint(x)) / 2
    # What is not to be read is never given to LAPACK.
    junk = np.triu(np.full_like(x, np.nan), 1)
    junk = junk if lower else np.swapaxes(junk, -1, -2)
    given = np.where(np.isnan(junk), junk, a).astype(x.dtype)
    params = {"lower": lower, "sort_eigenvalues": True}
    vectors, values = compiled(bind("eigh", params), given, threads=threads)
    orthonormal(vectors)
    near(a @ vectors, (vectors * values[..., None, :]).astype(x.dtype), 2000)
    assert (np.diff(values) >= 0).all()


@settings(max_examples=30, deadline=None)
@given(problems(), st.booleans())
def test_singular_values(problem: tuple[NDArray, int], full: bool) -> None:
    a, threads = problem
    m, n = a.shape[-2:]
    s, u, vt = compiled(
        bind("svd", {"full_matrices": full, "compute_uv": True}), a, threads=threads
    )
    assert (u.shape[-1], vt.shape[-2]) == ((m, n) if full else (min(m, n),) * 2)
    orthonormal(u)
    orthonormal(adjoint(vt))
    k = min(m, n)
    near((u[..., :k] * s[..., None, :]) @ vt[..., :k, :], a, 2000)
    (alone,) = compiled(bind("svd", {"full_matrices": False, "compute_uv": False}), a)
    near(alone, s, 2000)


@settings(max_examples=30, deadline=None)
@given(problems(), st.booleans(), st.booleans())
def test_q_and_r(problem: tuple[NDArray, int], full: bool, pivoting: bool) -> None:
    a, threads = problem
    params = {"full_matrices": full, "pivoting": pivoting}
    q, r, *order = compiled(bind("qr", params), a, threads=threads)
    orthonormal(q)
    np.testing.assert_array_equal(r, np.triu(r))
    columns = np.take_along_axis(a, order[0][..., None, :], -1) if pivoting else a
    near(q @ r, columns, 2000)
    if pivoting:
        lengths = np.abs(np.diagonal(r, axis1=-2, axis2=-1))
        assert (np.diff(lengths) <= 1e-4 * lengths[..., :1]).all()


@settings(max_examples=30, deadline=None)
@given(problems(square=True))
def test_general_matrices(problem: tuple[NDArray, int]) -> None:
    a, threads = problem
    wide = a.astype(np.result_type(a.dtype, np.complex64))
    params = {
        "compute_left_eigenvectors": True,
        "compute_right_eigenvectors": True,
        "enable_eigvec_derivs": False,
    }
    values, left, right = compiled(bind("eig", params), a, threads=threads)
    near(wide @ right, right * values[..., None, :], 5000)
    near(adjoint(left) @ wide, values[..., :, None] * adjoint(left), 5000)
    form, vectors = compiled(bind("schur", {"compute_schur_vectors": True}), a, threads=threads)
    orthonormal(vectors)
    near(vectors @ form @ adjoint(vectors), a, 5000)
    np.testing.assert_array_equal(form, np.triu(form, -1))
    factors, _, order = compiled(bind("lu", {}), a, threads=threads)
    low = np.tril(factors, -1) + np.eye(a.shape[-1], dtype=a.dtype)
    near(low @ np.triu(factors), np.take_along_axis(a, order[..., None], -2), 5000)


@settings(max_examples=20, deadline=None)
@given(problems(square=True))
def test_cholesky_factors_and_failures(problem: tuple[NDArray, int]) -> None:
    x, threads = problem
    spd = positive(x)
    if x.ndim > 2:
        spd[0] = -spd[0]
    (factor,) = compiled(bind("cholesky", {}), spd, threads=threads)
    np.testing.assert_array_equal(np.triu(factor, 1), 0)
    if x.ndim > 2:
        low = np.tril(np.ones(x.shape[-2:], bool))
        assert np.isnan(factor[0][..., low]).all()
        spd, factor = spd[1:], factor[1:]
    near(factor @ adjoint(factor), spd, 2000)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [3, 16])
def test_vectors_have_the_signs_of_eager_calls(n: int, dtype: str) -> None:
    a = normal(np.random.default_rng(n), (20, n, n), dtype)
    for f, x in [(fnp.linalg.eigh, a + adjoint(a)), (fnp.linalg.svd, a)]:
        for found, want in zip(compiled(f, x), fd.tree.leaves(f(x)), strict=True):
            near(found, want, 2000)


# Those that iterate might not return from such matrices.
SCREENED: dict[str, dict[str, Any]] = {
    "eigh": {"lower": True, "sort_eigenvalues": True},
    "svd": {"full_matrices": True, "compute_uv": True},
    "eig": {
        "compute_left_eigenvectors": True,
        "compute_right_eigenvectors": True,
        "enable_eigvec_derivs": False,
    },
    "schur": {"compute_schur_vectors": True},
    "hessenberg": {},
    "tridiagonal": {"lower": False},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SCREENED)
def test_matrices_that_are_not_finite_have_nan_as_results(name: str, dtype: str) -> None:
    x = normal(np.random.default_rng(0), (6, 4, 4), dtype)
    sound = (x + adjoint(x)).astype(dtype)
    a = sound.copy()
    for at, value in [(1, np.nan), (2, np.inf), (4, -np.inf)]:
        a[at, 2, 2] = value
    for found, want in zip(
        compiled(bind(name, SCREENED[name]), a),
        compiled(bind(name, SCREENED[name]), sound),
        strict=True,
    ):
        assert np.isnan(found[[1, 2, 4]]).all()
        np.testing.assert_array_equal(found[[0, 3, 5]], want[[0, 3, 5]])


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
def test_a_triangle_that_is_not_read_may_hold_anything(
    lower: bool, dtype: str, backend: str
) -> None:
    x = normal(np.random.default_rng(0), (3, 5, 5), dtype)
    sound = (x + adjoint(x)).astype(dtype)
    unread = np.triu(np.ones((5, 5), bool), 1)
    given = np.where(unread if lower else unread.T, np.asarray(np.nan, dtype), sound)
    read = ~(unread if lower else unread.T)
    for name, params in [
        ("tridiagonal", {"lower": lower}),
        ("eigh", {"lower": lower, "sort_eigenvalues": True}),
    ]:
        f = bind(name, params)
        found, wanted = (
            compiled(f, a) if backend == "cpu" else list(map(np.asarray, f(a)))
            for a in (given, sound)
        )
        if name == "tridiagonal":
            found[0], wanted[0] = (packed[:, read] for packed in (found[0], wanted[0]))
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_exchanges_stay_in_range_whatever_the_numbers(value: float, dtype: str) -> None:
    """A search for the largest of numbers that are none finds some row or column, too."""
    rng = np.random.default_rng(0)
    for m, n in [(1, 1), (2, 2), (3, 7), (7, 3), (33, 33), (70, 65)]:
        a = normal(rng, (5, m, n), dtype)
        a[0], a[1, :, 0], a[2, 0], a[3, m // 2, n // 2], a[4, m - 1, n - 1] = (value,) * 5
        _, pivots, order = compiled(bind("lu", {}), a, threads=2)
        assert (pivots >= np.arange(min(m, n))).all() and (pivots < m).all()
        np.testing.assert_array_equal(np.sort(order), np.broadcast_to(np.arange(m), (5, m)))
        params = {"full_matrices": False, "pivoting": True}
        *_, order = compiled(bind("qr", params), a, threads=2)
        np.testing.assert_array_equal(np.sort(order), np.broadcast_to(np.arange(n), (5, n)))


@pytest.mark.parametrize("name", ["cholesky", "lu", "qr", "tridiagonal_solve", "triangular_solve"])
def test_nan_passes_through_what_does_not_iterate(name: str) -> None:
    sample = next(s for s in samples(name, "complex64") if s.args[0].size)
    args = [np.full_like(x, np.nan) for x in sample.args]
    for found in compiled(bind(name, sample.params), *args):
        assert np.isnan(found).any() or not dtypes.is_inexact(found.dtype)


def test_a_singular_tridiagonal_system_has_nan_as_its_solution() -> None:
    zeros, ones = np.zeros((2, 3)), np.ones((2, 3))
    d = np.stack([np.ones(3), np.array([1.0, 0, 1])])
    (x,) = compiled(bind("tridiagonal_solve", {}), zeros, d, zeros, ones[..., None])
    np.testing.assert_array_equal(x[0], 1)
    assert np.isnan(x[1]).all()


@pytest.mark.parametrize("n", [129, 300])
def test_large_matrices(n: int) -> None:
    a = normal(np.random.default_rng(n), (n, n), np.float64)
    b = normal(np.random.default_rng(n), (n, 3), np.float64)
    spd = positive(a)
    for threads in (1, 2):
        (x,) = compiled(fnp.linalg.solve, spd, b, threads=threads)
        near(spd @ x, b, 5000)
        (factor,) = compiled(fnp.linalg.cholesky, spd, threads=threads)
        near(factor @ factor.T, spd, 2000)


BATCHED: dict[str, dict[str, Any]] = SCREENED | {
    "cholesky": {},
    "geqrf": {},
    "lu": {},
    "qr": {"full_matrices": True, "pivoting": True},
}


@pytest.mark.parametrize("name", BATCHED)
def test_the_same_bits_on_any_number_of_threads(name: str) -> None:
    rng = np.random.default_rng(0)
    for count, n in [(50, 5), (7, 33), (3, 70), (1, 130)]:
        x = normal(rng, (count, n, n), np.float32)
        a = positive(x) if name in ("cholesky", "eigh", "tridiagonal") else x
        bits = [
            [result.tobytes() for result in compiled(bind(name, BATCHED[name]), a, threads=threads)]
            for threads in (1, 2, 4)
        ]
        assert bits[0] == bits[1] == bits[2]


def test_views_of_arrays() -> None:
    views = normal(np.random.default_rng(0), (6, 9, 14), np.float64)[::2, ::-1, 1:13:2]
    for name in ("qr", "svd", "lu", "geqrf"):
        params = {"qr": BATCHED["qr"], "svd": SCREENED["svd"]}.get(name, {})
        found, wanted = (compiled(bind(name, params), a) for a in (views, views.copy()))
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(got, want)


def shampoo(gradients: Any) -> Any:
    """Steps of an optimizer with roots of matrices."""
    m, n = gradients.shape[1:]

    def root(statistics: Any) -> Any:
        values, vectors = fnp.linalg.eigh(statistics)
        return (vectors * values**-0.25) @ vectors.T

    def step(state: Any, gradient: Any) -> Any:
        weights, left, right = state
        left = left + gradient @ gradient.T
        right = right + gradient.T @ gradient
        return (weights - 0.1 * root(left) @ gradient @ root(right), left, right), None

    dtype = gradients.dtype
    start = fnp.zeros((m, n), dtype), fnp.eye(m, dtype=dtype), fnp.eye(n, dtype=dtype)
    return lax.scan(step, start, gradients)[0][0]


def polar(xs: Any) -> Any:
    """An orthogonal factor that each step of a loop moves."""

    def step(carry: Any, x: Any) -> Any:
        u, s, vt = fnp.linalg.svd(carry + x, full_matrices=False)
        q, r = fnp.linalg.qr(x)
        return u @ vt + 0.1 * q, s.sum() + fnp.abs(fnp.linalg.det(r))

    return lax.scan(step, fnp.eye(xs.shape[-1], dtype=xs.dtype), xs)


def matrix_functions(xs: Any) -> Any:
    """General matrices in a loop, and a tridiagonal system."""

    def step(carry: Any, x: Any) -> Any:
        values = fnp.linalg.eigvals(x + carry)
        form, vectors = linalg.schur(x)
        d = fnp.full(x.shape[-1], 4, x.dtype)
        e = fnp.ones_like(d)
        solved = lax.linalg.tridiagonal_solve(e, d, e, x)
        return solved, fnp.abs(values).sum() + fnp.trace(vectors @ form @ vectors.T)

    return lax.scan(step, fnp.zeros_like(xs[0]), xs)


@pytest.mark.parametrize("program", [shampoo, polar, matrix_functions])
def test_loops_around_it_are_native(program: Callable[..., Any]) -> None:
    xs = normal(np.random.default_rng(0), (6, 5, 5), np.float32)
    assert not on_host(program, xs)
    check(program, xs, tolerance=1e-3)


@pytest.mark.parametrize("program", [shampoo, polar])
def test_gradients_of_loops_around_it_are_native(program: Callable[..., Any]) -> None:
    def total(xs: Any) -> Any:
        return sum(fnp.sum(x**2) for x in fd.tree.leaves(program(xs)))

    xs = normal(np.random.default_rng(1), (4, 5, 5), np.float64)
    assert not on_host(fd.grad(total), xs)
    with config.override(x64="on"):
        check(fd.grad(total), xs, tolerance=1e-7)


def test_what_the_host_still_does() -> None:
    empty = np.zeros((0, 3), np.float32)
    assert on_host(lambda x: fnp.linalg.svd(x, full_matrices=True), empty)
    # LAPACK could not say how much room it needs for blocks of so many columns.
    wide = fd.ShapeDtypeStruct((2, LONGEST + 1), np.float32)
    assert on_host(fnp.linalg.qr, wide)
    assert not on_host(fnp.linalg.qr, fd.ShapeDtypeStruct((2, LONGEST), np.float32))
    # There is nothing to compute where there is no result.
    assert not on_host(fnp.linalg.eigh, np.zeros((0, 3, 3), np.float32))


def test_costs_are_counted() -> None:
    a = np.eye(150, dtype=np.float32)
    for f in (fnp.linalg.eigh, fnp.linalg.svd, fnp.linalg.qr, fnp.linalg.cholesky):
        with config.override(backend="cpu"):
            assert fd.jit(f).lower(a).cost_analysis()["flops"] >= 150**3 // 3


def test_libraries_for_other_programs_have_no_lapack(tmp_path: Path) -> None:
    with config.override(backend="cpu"):
        refused = fd.jit(fnp.linalg.eigh).lower(np.eye(3, dtype=np.float32))
        with pytest.raises(ArgumentError, match="these run on the host"):
            refused.write_library(tmp_path)
        large = np.eye(100, dtype=np.float32)
        # Our own functions write it, however soon LAPACK has it done.
        fd.jit(fnp.linalg.cholesky).lower(large).write_library(tmp_path, "factor")
    assert (tmp_path / "factor.h").exists()
