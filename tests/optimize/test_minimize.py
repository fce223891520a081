"""Minima of well-known functions; derivatives of minima; jit, vmap and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.errors import ArgumentError, ShapeError
from funcdl.scipy.optimize import OptimizeResults, minimize
from funcdl.test_util import check_grads


def rosenbrock(x: Any) -> Any:
    return fnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def himmelblau(x: Any) -> Any:
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def matyas(x: Any) -> Any:
    return 0.26 * fnp.sum(x * x) - 0.48 * x[0] * x[1]


def eggholder(x: Any) -> Any:
    y = x[1] + 47
    return -y * fnp.sin(fnp.sqrt(abs(x[0] / 2 + y))) - x[0] * fnp.sin(fnp.sqrt(abs(x[0] - y)))


def steep(x: Any) -> Any:
    """Badly scaled, and not finite on most of the first line."""
    return fnp.exp(x[0]) - 3 * x[0] + 1e4 * x[1] ** 2 - fnp.log(x[1] + 1)


CASES: list[tuple[Callable[[Any], Any], list[float]]] = [
    (rosenbrock, [-1.2, 1.0]),
    (rosenbrock, [1.3, 0.7, 0.8, 1.9, 1.2]),
    (himmelblau, [1.0, 1.0]),
    (matyas, [8.0, -5.0]),
    (eggholder, [100.0, 100.0]),
    (steep, [5.0, 3.0]),
    (lambda x: fnp.sum(x**4), [1.0, -2.0, 0.5]),
]


@pytest.mark.parametrize(("fun", "x0"), CASES)
def test_minima(fun: Callable[[Any], Any], x0: list[float]) -> None:
    found = minimize(fun, np.array(x0), method="BFGS", options={"gtol": 1e-8})
    assert bool(found.success) and int(found.status) == 0
    assert float(abs(found.jac).max()) < 1e-8
    np.testing.assert_allclose(found.jac, fd.grad(fun)(found.x), 1e-6, 1e-14)
    np.testing.assert_allclose(found.fun, fun(found.x), 1e-12, 1e-20)
    theirs = scipy.optimize.minimize(
        lambda x: float(fun(x)), np.array(x0), jac=lambda x: np.asarray(fd.grad(fun)(x))
    )
    if fun is not eggholder:  # which has many
        assert float(found.fun) == pytest.approx(theirs.fun, rel=1e-6, abs=1e-6)
    assert int(found.nfev) == int(found.njev) <= 2.5 * max(theirs.nfev, 8)


@pytest.mark.parametrize("fun", [rosenbrock, himmelblau, matyas])
def test_single_precision_in_one_program(fun: Callable[[Any], Any]) -> None:
    x0 = np.array([-1.2, 1.0], np.float32)
    found = fd.jit(lambda x: minimize(fun, x, method="bfgs", tol=1e-3))(x0)
    assert isinstance(found, OptimizeResults)
    assert found.x.dtype == np.float32 and bool(found.success)
    assert float(fun(found.x)) < 1e-5


def test_the_inverse_of_the_hessian() -> None:
    a = np.array([[3.0, 1.0, 0], [1.0, 2.0, 0.5], [0, 0.5, 1.0]])
    found = minimize(lambda x: x @ a @ x / 2 - x[0], np.zeros(3), method="BFGS", tol=1e-9)
    np.testing.assert_allclose(found.x, np.linalg.inv(a)[0], 1e-8)
    np.testing.assert_allclose(found.hess_inv, np.linalg.inv(a), 0.01, 0.01)


def test_derivatives_are_those_of_the_minimum() -> None:
    """By arguments and by what the function closes over, of any order."""
    a = np.array([[2.0, 0.3], [0.3, 1.0]])

    def minimum(b: Any, c: Any) -> Any:
        def fun(x: Any, c: Any) -> Any:
            return x @ (a * c) @ x / 2 - b @ x + fnp.sum(x**4)

        found = minimize(fun, np.zeros(2), (c,), method="BFGS", options={"gtol": 1e-11})
        return found.x, found.fun

    b, c = np.array([1.0, -0.7]), np.float64(1.3)
    check_grads(minimum, (b, c), order=2, rtol=1e-4, atol=1e-4)
    wanted = fd.jacrev(minimum)(b, c)
    for got, want in zip(fd.jit(fd.jacrev(minimum))(b, c), wanted, strict=True):
        np.testing.assert_allclose(got, want, 1e-8, 1e-9)
    start = fd.grad(lambda x0: minimize(matyas, x0, method="BFGS").fun)(np.ones(2))
    np.testing.assert_array_equal(start, [0, 0])


def test_vmap() -> None:
    starts = np.array([[3.5, 2.5], [-3.0, 3.0], [-3.5, -3.5]])
    scales = np.array([1.0, 2.0, 0.5])

    def solve(x: Any, s: Any) -> Any:
        return minimize(lambda x: s * himmelblau(x), x, method="BFGS", tol=1e-7)

    together = fd.jit(fd.vmap(solve))(starts, scales)
    for i, (x, s) in enumerate(zip(starts, scales, strict=True)):
        alone = solve(x, s)
        np.testing.assert_allclose(together.x[i], alone.x, 1e-5)
        assert int(together.nit[i]) == int(alone.nit)
    assert np.asarray(together.success).all()


def test_why_it_ended() -> None:
    short = minimize(rosenbrock, np.array([-1.2, 1.0]), method="BFGS", options={"maxiter": 3})
    assert (bool(short.success), int(short.status), int(short.nit)) == (False, 1, 3)
    stuck = minimize(lambda x: fnp.nan * x[0], np.ones(1), method="BFGS")
    assert (bool(stuck.success), int(stuck.status)) == (False, 3)
    there = minimize(matyas, np.zeros(2), method="BFGS")
    assert (bool(there.success), int(there.nit), int(there.nfev)) == (True, 0, 1)
    whole = minimize(matyas, np.array([2, 1]), method="BFGS", options={"norm": 2})
    assert bool(whole.success)


def test_errors() -> None:
    with pytest.raises(ArgumentError, match="method must be 'BFGS', got 'CG'"):
        minimize(matyas, np.ones(2), method="CG")
    with pytest.raises(ArgumentError, match=r"options are gtol, .*got 'xtol'"):
        minimize(matyas, np.ones(2), method="BFGS", options={"xtol": 1})
    with pytest.raises(ShapeError, match="x0 must be a vector"):
        minimize(matyas, np.ones((2, 1)), method="BFGS")
    with pytest.raises(ShapeError, match="fun must return a scalar"):
        minimize(lambda x: x, np.ones(2), method="BFGS")
    with pytest.raises(ArgumentError, match="x0 must be real"):
        minimize(matyas, np.ones(2) * 1j, method="BFGS")
    with pytest.raises(ArgumentError, match="args must be a tuple"):
        minimize(lambda x, a: a * x[0], np.ones(2), 3.0, method="BFGS")


@pytest.mark.peers
def test_fields_are_those_of_jax() -> None:
    theirs = pytest.importorskip("jax.scipy.optimize")
    assert OptimizeResults._fields == theirs.OptimizeResults._fields
