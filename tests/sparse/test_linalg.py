"""Iterative solvers against dense ones; derivatives, pytrees, jit, vmap and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
from funcdl.errors import ShapeError, TreeError
from funcdl.scipy.sparse.linalg import bicgstab, cg
from funcdl.test_util import check_grads

NDArray = np.ndarray[Any, Any]
Solver = Callable[..., Any]
RNG = np.random.default_rng(0)
BOTH = pytest.mark.parametrize("solver", [cg, bicgstab])


def matrix(n: int, definite: bool, dtype: Any = np.float64) -> NDArray:
    a = RNG.normal(size=(n, n))
    if dtype == np.complex128:
        a = a + 1j * RNG.normal(size=(n, n))
    return np.asarray(a @ a.conj().T / n + np.eye(n) if definite else a / n + np.eye(n), dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128, np.float32])
@BOTH
def test_solutions(solver: Solver, dtype: Any) -> None:
    tol = 1e-5 if dtype == np.float32 else 1e-11
    for n in (1, 9):
        a = matrix(n, solver is cg, dtype)
        b = RNG.normal(size=n).astype(dtype)
        wanted = np.linalg.solve(a, b)
        for options in ({}, {"x0": b}, {"M": np.diag(1 / np.diag(a))}, {"M": lambda x: x / 2}):
            x, info = solver(a, b, tol=tol, **options)
            assert info is None and x.dtype == dtype
            np.testing.assert_allclose(x, wanted, 30 * tol, 30 * tol)
        x, _ = fd.jit(lambda a, b: solver(lambda y: a @ y, b, tol=tol))(a, b)
        np.testing.assert_allclose(x, wanted, 30 * tol, 30 * tol)


@BOTH
def test_pytrees_and_vmap(solver: Solver) -> None:
    def operator(x: dict[str, Any]) -> dict[str, Any]:
        return {"u": 3 * x["u"] + x["v"][0], "v": 2 * x["v"] + x["u"].sum() * np.array([1.0, 0])}

    b = {"u": np.array([1.0, 2, 3]), "v": np.array([4.0, 5])}
    x, _ = solver(operator, b, tol=1e-12)
    for name, value in operator(x).items():
        np.testing.assert_allclose(value, b[name], 1e-9)
    a, rows = matrix(4, True), RNG.normal(size=(3, 4))
    together = fd.jit(fd.vmap(lambda b: solver(a, b, tol=1e-12)[0]))(rows)
    np.testing.assert_allclose(together, np.linalg.solve(a, rows.T).T, 1e-4)


@BOTH
def test_derivatives(solver: Solver) -> None:
    """By the right-hand side and by what the operator is made of, forwards and backwards."""
    a, b = matrix(4, True), RNG.normal(size=4)

    def solution(a: Any, b: Any) -> Any:
        even = (a + a.T) / 2 if solver is cg else a
        return solver(lambda x: even @ x, b, tol=1e-13)[0]

    check_grads(solution, (a, b), order=2, rtol=1e-4)


def test_when_it_ends() -> None:
    a, b = matrix(9, True), RNG.normal(size=9)
    start, _ = cg(a, b, maxiter=0)
    np.testing.assert_array_equal(start, np.zeros(9))
    loose, _ = cg(a, b, tol=0.0, atol=0.3)
    assert 1e-9 < np.linalg.norm(a @ np.asarray(loose) - b) <= 0.3
    np.testing.assert_array_equal(cg(a, np.zeros(9))[0], np.zeros(9))


@BOTH
def test_errors(solver: Solver) -> None:
    with pytest.raises(ShapeError, match="A must be a function, or a square matrix"):
        solver(np.ones((2, 3)), np.ones(3))
    with pytest.raises(ShapeError, match="x0 must have the shapes of b"):
        solver(np.eye(3), np.ones(3), np.ones(2))
    with pytest.raises(TreeError, match="x0 must have the structure of b"):
        solver(np.eye(3), np.ones(3), [np.ones(3)])
    with pytest.raises(ShapeError):
        solver(lambda x: x[:2], np.ones(3))
