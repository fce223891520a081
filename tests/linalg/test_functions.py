"""Every public function: derivatives against differences, vmap against a loop, jit, dtypes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.linalg.factors import DTYPES, NDArray, adjoint, matrices, near, normal, positive
from tests.linalg.table import PROGRAMS, Program

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.test_util import check_grads

linalg = fnp.linalg
OURS = SimpleNamespace(lax=fd.lax.linalg, numpy=fnp.linalg, scipy=fd.scipy.linalg)


def cases(programs: list[Program]) -> list[Any]:
    """Test cases; only two of each function run by default."""
    quick = ("-0", "-1")
    return [
        pytest.param(p, id=p.name, marks=[] if p.name.endswith(quick) else [pytest.mark.slow])
        for p in programs
    ]


def call(program: Program) -> Any:
    return lambda *xs: program.function(OURS, *xs)


def public_names() -> list[str]:
    return [f"{module}.{name}" for module, names in vars(OURS).items() for name in names.__all__]


def test_every_public_function_has_a_program() -> None:
    tested = {program.name.partition("-")[0] for program in PROGRAMS}
    assert sorted(set(public_names()) - tested) == []


@pytest.mark.parametrize("program", cases([p for p in PROGRAMS if p.grad]))
def test_derivatives_agree_with_differences(program: Program) -> None:
    check_grads(call(program), [fnp.asarray(x) for x in program.args], 1, atol=1e-4, rtol=1e-4)


SECOND = "lax.cholesky-0 lax.eigh-0 lax.lu-4 lax.qr-0 lax.svd-1 lax.eig-0 numpy.solve-0 "
SECOND += "numpy.det-3 numpy.slogdet-3 numpy.pinv-3 numpy.lstsq-0 scipy.expm-0 scipy.polar-0"


@pytest.mark.parametrize("name", SECOND.split())
def test_second_derivatives(name: str) -> None:
    (program,) = [p for p in PROGRAMS if p.name == name]
    check_grads(call(program), [fnp.asarray(x) for x in program.args], 2, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("program", cases(PROGRAMS))
def test_vmap_agrees_with_a_loop(program: Program) -> None:
    f = call(program)
    scales = (1.0, 0.75, 1.5) if program.args[0].dtype.kind in "fc" else (1,) * 3
    rows = [[(x * s).astype(x.dtype) for x in program.args] for s in scales]
    stacked = [np.stack(column) for column in zip(*rows, strict=True)]
    loop = [fd.tree.leaves(f(*row)) for row in rows]
    for found, wanted in zip(
        fd.tree.leaves(fd.vmap(f)(*stacked)), zip(*loop, strict=True), strict=True
    ):
        assert found.dtype == wanted[0].dtype
        np.testing.assert_allclose(found, np.stack(wanted), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_keep_the_dtype(dtype: str) -> None:
    a = positive(normal(np.random.default_rng(0), (3, 3), dtype))
    real = dtypes.real_dtype(np.dtype(dtype))
    complex_ = np.result_type(dtype, np.complex64)
    wanted = {
        "cholesky": [dtype],
        "cond": [real],
        "det": [dtype],
        "eig": [complex_, complex_],
        "eigh": [real, dtype],
        "inv": [dtype],
        "norm": [real],
        "pinv": [dtype],
        "qr": [dtype, dtype],
        "slogdet": [dtype, real],
        "svd": [dtype, real, dtype],
        "svdvals": [real],
    }
    for name, types in wanted.items():
        found = [x.dtype for x in fd.tree.leaves(getattr(linalg, name)(a))]
        assert found == list(map(np.dtype, types)), name


def test_results_have_names() -> None:
    a = np.array([[2.0, 1], [1, 3]])
    assert linalg.eig(a)._fields == linalg.eigh(a)._fields == ("eigenvalues", "eigenvectors")
    assert linalg.qr(a)._fields == ("Q", "R")
    assert linalg.svd(a)._fields == ("U", "S", "Vh")
    assert linalg.slogdet(a)._fields == ("sign", "logabsdet")


@given(matrices(square=True))
def test_determinants_agree_with_numpy(a: NDArray) -> None:
    near(linalg.det(a), np.linalg.det(a), 2000)
    sign, logs = linalg.slogdet(a)
    near(sign * fnp.exp(logs).astype(a.dtype), np.linalg.det(a), 5000)


@given(matrices(square=True), st.integers(0, 3))
def test_solve_and_inverse(x: NDArray, count: int) -> None:
    a = positive(x)
    b = normal(np.random.default_rng(count), (*a.shape[:-1], count), a.dtype)
    near(a @ np.asarray(linalg.solve(a, b)), b, 5000)
    eye = np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)
    near(a @ np.asarray(linalg.inv(a)), eye, 5000)


@given(matrices(), st.integers(1, 5))
def test_pseudo_inverse_is_that_of_moore_and_penrose(x: NDArray, rank: int) -> None:
    k = min(rank, *x.shape[-2:])
    a = (x[..., :k] @ x[..., :k, :]).astype(x.dtype)
    p = np.asarray(linalg.pinv(a, rtol=1e-3))
    small = float(np.abs(p).max(initial=0)) < 30
    s = np.linalg.svd(a, compute_uv=False)
    ratio = s / np.maximum(s.max(axis=-1, keepdims=True, initial=0), 1e-30)
    # A singular value that is small but no rounding error is cut off: then p inverts less than a.
    cut = bool(((ratio > 1e-6) & (ratio < 2e-3)).any())
    if small and not cut:
        near(a @ p @ a, a, 10**4)
        near(p @ a @ p, p, 10**4)
        near(adjoint(a @ p), a @ p, 10**4)
        near(adjoint(p @ a), p @ a, 10**4)


@given(matrices(least=1))
def test_norms_agree_with_numpy(a: NDArray) -> None:
    for ord in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        for keepdims in (False, True):
            wanted = np.linalg.norm(a, ord, (-2, -1), keepdims)
            near(linalg.norm(a, ord, (-2, -1), keepdims), wanted)
    for ord in (None, 0, 1, 2, 3, 0.5, np.inf, -np.inf):
        near(linalg.norm(a, ord, -1), np.linalg.norm(a, ord, -1).astype(abs(a).dtype), 2000)


def test_rank_and_condition_of_deficient_matrices() -> None:
    a = np.array([[1.0, 2, 3], [2, 4, 6], [0, 0, 1]])
    assert linalg.matrix_rank(a) == 2
    assert linalg.matrix_rank(a, hermitian=False, tol=100.0) == 0
    assert linalg.matrix_rank(np.zeros(3)) == 0
    assert linalg.matrix_rank(np.ones(3)) == 1
    assert linalg.matrix_rank(np.zeros((2, 0, 3))).tolist() == [0, 0]
    assert linalg.cond(np.diag([1.0, 0])) == np.inf
    assert linalg.cond(np.diag([1.0, 0]), 1) == np.inf


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_derivative_of_singular_determinants(n: int) -> None:
    """The gradient is the matrix of cofactors, also where the determinant is 0."""
    rng = np.random.default_rng(n)
    a = rng.standard_normal((n, n))
    a[-1] = a[: n - 1].sum(0)
    minors = [
        [(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(a, i, 0), j, 1)) for j in range(n)]
        for i in range(n)
    ]
    near(fd.grad(linalg.det)(fnp.asarray(a)), np.array(minors), 10**4)


def test_least_squares_of_deficient_matrices() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((5, 2)) @ rng.standard_normal((2, 4))
    b = rng.standard_normal(5)
    x, residuals, rank, s = linalg.lstsq(a, b)
    wanted = np.linalg.lstsq(a, b)
    near(x, wanted[0])
    near(s, wanted[3])
    assert rank == 2
    near(residuals, np.sum((a @ wanted[0] - b) ** 2, keepdims=True))
    assert linalg.lstsq(a, b, numpy_resid=True)[1].shape == (0,)


def test_multi_dot_takes_the_cheapest_order() -> None:
    shapes = [(10, 2), (2, 50), (50, 3), (3, 40)]
    xs = [np.ones(shape) for shape in shapes]
    jaxpr = fd.make_jaxpr(lambda *xs: linalg.multi_dot(xs))(*xs)
    sizes = [eqn.outvars[0].aval.shape for eqn in jaxpr.eqns]
    assert (2, 3) in sizes
    assert (10, 50) not in sizes
    near(linalg.multi_dot(xs), np.linalg.multi_dot(xs))


@pytest.mark.parametrize("compiled", [False, True])
def test_factorizations_inside_loops_and_branches(compiled: bool) -> None:
    a = fnp.asarray(positive(np.random.default_rng(0).standard_normal((3, 3))))

    def loss(a: Any) -> Any:
        def step(carry: Any, scale: Any) -> Any:
            low = linalg.cholesky(carry * scale)
            return low @ low.T + fnp.eye(3), linalg.solve(carry, low[0]).sum()

        carry, outs = fd.lax.scan(step, a, fnp.asarray([1.0, 2.0]))
        other = fd.lax.cond(outs[0] > -100, linalg.cholesky, lambda x: x, carry)
        many = fd.vmap(lambda s: linalg.slogdet(carry * s).logabsdet)(fnp.asarray([1.0, 2.0, 3.0]))
        return outs.sum() + other.sum() + many.sum()

    def rounds(a: Any) -> Any:
        return fd.lax.while_loop(
            lambda state: state[1] < 3,
            lambda state: (linalg.inv(linalg.qr(state[0]).R + fnp.eye(3)), state[1] + 1),
            (a, 0),
        )[0]

    wrap = fd.jit if compiled else (lambda f: f)
    check_grads(wrap(loss), [a], 1 if compiled else 2)
    check_grads(wrap(rounds), [a], 1, modes="fwd")


def test_nothing_is_raised_out_of_compiled_code() -> None:
    bad = fnp.asarray(np.stack([-np.eye(2), np.full((2, 2), np.nan), np.zeros((2, 2))]))

    @fd.jit
    def everything(x: Any) -> Any:
        return (
            linalg.cholesky(x), linalg.inv(x), linalg.eigh(x), linalg.svd(x), linalg.eig(x),
            linalg.pinv(x), linalg.slogdet(x), linalg.qr(x), fd.scipy.linalg.schur(x),
            fd.scipy.linalg.sqrtm(x[1]), fd.scipy.linalg.expm(x * 1e9),
        )  # fmt: skip

    for leaf in fd.tree.leaves(everything(bad)):
        assert np.isnan(np.asarray(leaf)).any()


def test_importing_funcdl_imports_no_scipy() -> None:
    import subprocess
    import sys

    code = "import sys, funcdl, funcdl.numpy.linalg; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
