"""Factors and triangular systems of small matrices by our own functions: the same as LAPACK's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.table import OPS

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.compiler.cpu import build
from funcdl.compiler.matrices import LARGEST
from funcdl.config import config
from funcdl.ops.registry import Sample
from funcdl.runtime.toolchain import find_compiler
from funcdl.scipy import linalg

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

NDArray = np.ndarray[Any, Any]
NAMES = ("cholesky", "cholesky_update", "lu", "lu_pivots_to_permutation", "triangular_solve")
DTYPES = ("float32", "float64")
TOLERANCE = {"float32": 1e-4, "float64": 1e-12, "int32": 0.0}


def bind(name: str, params: dict[str, Any]) -> Callable[..., Any]:
    return lambda *xs: fd.tree.leaves(OPS[name].primitive(*map(fnp.asarray, xs), **params))


def on_host(f: Callable[..., Any], *args: Any) -> list[str]:
    with config.override(backend="cpu"):
        text = fd.jit(f).lower(*args).as_text("kernels")
    return [line for line in text.splitlines() if line.startswith("host")]


def check(f: Callable[..., Any], *args: Any, tolerance: float = 1e-4) -> None:
    with config.override(backend="cpu"):
        found = fd.tree.leaves(fd.jit(f)(*args))
    for got, want in zip(found, fd.tree.leaves(f(*args)), strict=True):
        want = np.asarray(want)
        assert got.dtype == want.dtype
        finite = want[np.isfinite(want)]
        close = tolerance * max(np.abs(finite).max(initial=0), 1)
        np.testing.assert_allclose(np.asarray(got), want, rtol=tolerance, atol=close)


def samples(name: str, dtype: str) -> Iterator[Sample]:
    yield from OPS[name].samples(np.random.default_rng(0), np.dtype(dtype))


CASES = [(n, d) for n in NAMES for d in (("int32",) if n.startswith("lu_") else DTYPES)]


@needs_compiler
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_samples_are_native_and_as_on_the_host(name: str, dtype: str) -> None:
    found = list(samples(name, dtype))

    def program(*operands: tuple[Any, ...]) -> Any:
        return [bind(name, s.params)(*xs) for s, xs in zip(found, operands, strict=True)]

    operands = [tuple(map(fnp.asarray, s.args)) for s in found]
    assert not on_host(program, *operands)
    check(program, *operands, tolerance=TOLERANCE[dtype])


@st.composite
def systems(draw: st.DrawFn) -> tuple[NDArray, NDArray, dict[str, bool]]:
    n = draw(st.integers(1, 40))
    batch = draw(st.sampled_from([(), (3,), (2, 2), (40,)]))
    others = draw(st.sampled_from([1, 2, 7, 300]) if len(batch) < 2 else st.just(3))
    names = ("left_side", "lower", "transpose_a", "conjugate_a", "unit_diagonal")
    params = {name: draw(st.booleans()) for name in names}
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    dtype = draw(st.sampled_from(DTYPES))
    # Little outside of the diagonal: random triangular matrices are close to singular.
    a = rng.uniform(-0.5, 0.5, (*batch, n, n)) / n + np.eye(n)
    shape = (n, others) if params["left_side"] else (others, n)
    b = rng.standard_normal((*batch, *shape))
    return a.astype(dtype), b.astype(dtype), params


@needs_compiler
@settings(max_examples=25, deadline=None)
@given(systems(), st.booleans())
def test_triangular_systems(
    system: tuple[NDArray, NDArray, dict[str, bool]], has_lapack: bool
) -> None:
    a, b, params = system
    with pytest.MonkeyPatch.context() as patch:
        if not has_lapack:
            patch.setattr(build, "lapack_table", lambda: None)
        check(bind("triangular_solve", params), a, b, tolerance=TOLERANCE[str(a.dtype)])


@pytest.fixture
def without_lapack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs as for another process, in which our own functions do all that they can."""
    monkeypatch.setattr(build, "lapack_table", lambda: None)


@needs_compiler
@pytest.mark.usefixtures("without_lapack")
@pytest.mark.parametrize("n", [1, 5, 33, LARGEST])
def test_factors_of_batches(n: int) -> None:
    a = np.random.default_rng(n).standard_normal((5, n, n))
    spd = a @ np.swapaxes(a, 1, 2) + n * np.eye(n)
    check(fnp.linalg.cholesky, spd, tolerance=1e-11)
    check(bind("lu", {}), a, tolerance=1e-9)
    check(bind("lu", {}), a[:, :, : n // 2 + 1], tolerance=1e-9)


@pytest.mark.usefixtures("without_lapack")
def test_what_the_host_does_without_lapack() -> None:
    small, large = np.eye(3, dtype=np.float32), np.eye(LARGEST + 1, dtype=np.float32)
    assert not on_host(fnp.linalg.solve, small, small)
    assert on_host(fnp.linalg.cholesky, large)
    assert on_host(fnp.linalg.cholesky, small.astype(np.complex64))
    assert on_host(fnp.linalg.eigh, small)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_updates_of_batches_of_factors(dtype: str) -> None:
    rng = np.random.default_rng(0)
    r = np.triu(rng.standard_normal((30, 40, 40))).astype(dtype)
    w = rng.standard_normal((30, 40)).astype(dtype)
    w[3], r[4, 7, 7], w[4, 7] = 0, 0, 0
    check(lax.linalg.cholesky_update, r, w, tolerance=100 * TOLERANCE[dtype])


def log_likelihood(noise: Any, observations: Any) -> Any:
    """A Kalman filter: what a loop with small systems in its body looks like."""
    move = fnp.eye(4, dtype=observations.dtype) + 0.1 * fnp.eye(4, k=2, dtype=observations.dtype)
    see = fnp.eye(2, 4, dtype=observations.dtype)

    def step(state: Any, seen: Any) -> Any:
        mean, cov = state
        mean, cov = move @ mean, move @ cov @ move.T + 0.1 * fnp.eye(4)
        gap = seen - see @ mean
        spread = see @ cov @ see.T + noise * fnp.eye(2)
        gain = fnp.linalg.solve(spread, see @ cov).T
        factor = fnp.linalg.cholesky(spread)
        z = linalg.solve_triangular(factor, gap, lower=True)
        likely = -0.5 * z @ z - fnp.log(fnp.diagonal(factor)).sum()
        return (mean + gain @ gap, cov - gain @ see @ cov), likely

    start = fnp.zeros(4, observations.dtype), fnp.eye(4, dtype=observations.dtype)
    return lax.scan(step, start, observations)[1].sum()


@needs_compiler
def test_a_loop_of_systems_and_its_gradient_are_native() -> None:
    seen = np.random.default_rng(0).standard_normal((20, 2)).astype(np.float32)
    gradient = fd.value_and_grad(log_likelihood)
    assert not on_host(gradient, np.float32(0.5), seen)
    check(gradient, np.float32(0.5), seen, tolerance=1e-3)


@needs_compiler
def test_newton_in_a_while_loop() -> None:
    def root(c: Any) -> Any:
        def f(x: Any) -> Any:
            return x**3 + c * x - 1

        def more(state: Any) -> Any:
            return (fnp.abs(f(state[0])).max() > 1e-5) & (state[1] < 20)

        def step(state: Any) -> Any:
            x, count = state
            return x - fnp.linalg.solve(fd.jacfwd(f)(x), f(x)), count + 1

        return lax.while_loop(more, step, (fnp.ones_like(c), 0))

    c = np.linspace(1, 4, 6, dtype=np.float32)
    assert not on_host(root, c)
    check(root, c)


@needs_compiler
def test_costs_are_counted() -> None:
    with config.override(backend="cpu"):
        found = fd.jit(fnp.linalg.cholesky).lower(np.eye(30)).cost_analysis()
    assert found["flops"] >= 30**3 // 3
