"""custom_root, custom_linear_solve and composite: derivatives that come from equations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.transforms.compare import assert_same

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.errors import ArgumentError, NotDifferentiableError, ShapeError, TreeError
from funcdl.runtime.toolchain import find_compiler
from funcdl.test_util import check_grads

BACKENDS = ["reference", *(["cpu"] if find_compiler() else [])]
RNG = np.random.default_rng(0)
A = fnp.asarray(RNG.uniform(-1, 1, (3, 3)) + 3 * np.eye(3))
B = fnp.asarray(RNG.uniform(-1, 1, 3))


@pytest.fixture(autouse=True, params=BACKENDS)
def backend(request: Any) -> Iterator[None]:
    with fd.config.override(backend=request.param):
        yield


def jacobi(matvec: Any, b: Any, steps: int = 60) -> Any:
    """A fixed number of Jacobi iterations: no derivative of it would be that of the solution."""
    diagonal = fnp.diagonal(fd.jacfwd(matvec)(b * 0))
    return lax.while_loop(
        lambda s: s[0] < steps, lambda s: (s[0] + 1, s[1] + (b - matvec(s[1])) / diagonal), (0, b)
    )[1]


def solve(a: Any, b: Any) -> Any:
    return lax.custom_linear_solve(lambda x: a @ x, b, jacobi, jacobi)


def solve_symmetric(a: Any, b: Any) -> Any:
    a = (a + a.T) / 2
    return lax.custom_linear_solve(lambda x: a @ x, b, jacobi, jacobi, symmetric=True)


def solve_with_aux(a: Any, b: Any) -> Any:
    def solver(matvec: Any, b: Any) -> Any:
        return jacobi(matvec, b), {"steps": 60, "b": b}

    return lax.custom_linear_solve(lambda x: a @ x, b, solver, solver, has_aux=True)[0]


def solve_tree(a: Any, b: Any) -> Any:
    """Two blocks, in a dict."""

    def matvec(x: Any) -> Any:
        return {"u": a @ x["u"], "v": 2 * x["v"] + x["u"].sum() * 0.1}

    def backward(vecmat: Any, y: Any) -> Any:
        v = y["v"] / 2
        return {"u": fnp.linalg.solve(a.T, y["u"] - 0.1 * v), "v": v}

    def forward(_: Any, y: Any) -> Any:
        u = fnp.linalg.solve(a, y["u"])
        return {"u": u, "v": (y["v"] - u.sum() * 0.1) / 2}

    b = {"u": b, "v": b.sum()}
    return lax.custom_linear_solve(matvec, b, forward, backward)["v"]


def direct_tree(a: Any, b: Any) -> Any:
    return (b.sum() - fnp.linalg.solve(a, b).sum() * 0.1) / 2


SOLVERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "general": (solve, fnp.linalg.solve),
    "symmetric": (solve_symmetric, lambda a, b: fnp.linalg.solve((a + a.T) / 2, b)),
    "aux": (solve_with_aux, fnp.linalg.solve),
    "tree": (solve_tree, direct_tree),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_linear_solve(name: str) -> None:
    found, wanted = SOLVERS[name]
    assert_same(found(A, B), wanted(A, B), 1e3)
    check_grads(found, (A, B), 2)
    for f in (found, fd.jit(found)):

        def loss(a: Any, b: Any, f: Any = f) -> Any:
            return fnp.sin(f(a, b)).sum()

        def true(a: Any, b: Any) -> Any:
            return fnp.sin(wanted(a, b)).sum()

        gradient = fd.grad(true, (0, 1))
        assert_same(fd.grad(loss, (0, 1))(A, B), gradient(A, B), 1e4)
        assert_same(fd.jit(fd.grad(loss, (0, 1)))(A, B), gradient(A, B), 1e4)
        stacked = fnp.stack([A, A * 2]), fnp.stack([B, -B])
        rows = [gradient(a, b) for a, b in zip(*stacked, strict=True)]
        all_rows = fd.tree.map(lambda *xs: fnp.stack(xs), *rows)
        assert_same(fd.vmap(fd.grad(loss, (0, 1)))(*stacked), all_rows, 1e4)
    axes = fd.vmap(found, (None, 0))(A, fnp.stack([B, -B]))
    assert_same(axes, fnp.stack([wanted(A, B), wanted(A, -B)]), 1e3)
    axes = fd.vmap(found, (0, None))(fnp.stack([A, A * 2]), B)
    assert_same(axes, fnp.stack([wanted(A, B), wanted(A * 2, B)]), 1e3)


def test_the_solution_of_the_transposed_system() -> None:
    transposed = fd.linear_transpose(lambda b: solve(A, b), B)
    assert_same(transposed(B)[0], fnp.linalg.solve(A.T, B), 1e3)
    again = fd.linear_transpose(lambda b: transposed(b)[0], B)
    assert_same(again(B)[0], fnp.linalg.solve(A, B), 1e3)


def test_reverse_mode_needs_a_transposed_solver() -> None:
    def f(b: Any) -> Any:
        return lax.custom_linear_solve(lambda x: A @ x, b, jacobi)

    assert_same(fd.jvp(f, (B,), (B,))[1], f(B))
    with pytest.raises(NotDifferentiableError, match="requires its argument transpose_solve"):
        fd.grad(lambda b: f(b).sum())(B)


def newton(f: Any, x: Any) -> Any:
    slope = fd.jacfwd(f)
    return lax.fori_loop(0, 30, lambda _, x: x - fnp.linalg.solve(slope(x), f(x)), x)


def tangent_solve(g: Any, y: Any) -> Any:
    return fnp.linalg.solve(fd.jacfwd(g)(y * 0), y)


def equations(p: Any, x: Any) -> Any:
    """Two equations with one root near (1, 1)."""
    return fnp.stack([x[0] ** 2 * p[0] + x[1] - 2.0, x[1] ** 3 + p[1] * x[0] - 2.0])


def root(p: Any) -> Any:
    return lax.custom_root(lambda x: equations(p, x), fnp.ones_like(p), newton, tangent_solve)


def unrolled(p: Any) -> Any:
    return newton(lambda x: equations(p, x), fnp.ones_like(p))


def test_root() -> None:
    p = fnp.asarray(np.array([1.1, 0.9]))
    assert_same(equations(p, root(p)), p * 0, 10)
    wanted = fd.jacfwd(unrolled)(p)
    assert_same(fd.jacfwd(root)(p), wanted, 1e3)
    assert_same(fd.jacrev(root)(p), wanted, 1e3)
    assert_same(fd.jit(fd.jacrev(root))(p), wanted, 1e3)
    assert_same(fd.jacrev(fd.jit(root))(p), wanted, 1e3)
    many = fnp.stack([p, p * 1.02])
    rows = fnp.stack([fd.jacfwd(unrolled)(q) for q in many])
    assert_same(fd.vmap(fd.jacrev(root))(many), rows, 1e3)
    assert_same(fd.jacfwd(fd.jacrev(root))(p), fd.jacfwd(fd.jacfwd(unrolled))(p), 1e4)
    check_grads(root, (p,), 2)


def square_root(x: Any, has_aux: bool = False) -> Any:
    def solver(f: Any, guess: Any) -> Any:
        found = lax.while_loop(
            lambda s: abs(f(s)) > 1e-12, lambda s: s - f(s) / fd.grad(f)(s), guess
        )
        return (found, {"start": guess}) if has_aux else found

    return lax.custom_root(
        lambda y: y * y - x, fnp.float64(1.0), solver, lambda g, y: y / g(1.0), has_aux=has_aux
    )


def test_root_of_one_number() -> None:
    """The solver is a while loop, which reverse mode cannot pass through."""
    x = fnp.float64(2.0)
    assert_same(square_root(x), fnp.sqrt(x))
    assert_same(fd.grad(square_root)(x), fd.grad(fnp.sqrt)(x), 10)
    assert_same(fd.grad(fd.grad(square_root))(x), fd.grad(fd.grad(fnp.sqrt))(x), 10)
    assert_same(
        fd.jit(fd.vmap(fd.grad(square_root)))(fnp.stack([x, x * 2])),
        fd.vmap(fd.grad(fnp.sqrt))(fnp.stack([x, x * 2])),
        10,
    )
    found, aux = square_root(x, True)
    assert (float(found), float(aux["start"])) == (pytest.approx(2**0.5), 1.0)
    assert_same(fd.grad(lambda x: square_root(x, True)[0])(x), fd.grad(fnp.sqrt)(x), 10)
    without = fd.grad(
        lambda z: (
            z
            * lax.custom_root(
                lambda y: y * y - 2.0,
                fnp.float64(1.0),
                lambda f, y: fnp.sqrt(2.0) + 0 * y,
                lambda g, y: y / g(1.0),
            )
        )
    )
    assert without(fnp.float64(1.0)) == pytest.approx(2**0.5)


def test_composite() -> None:
    f = lax.composite(lambda x, *, scale: (fnp.sin(x) * scale, x), "my.sine", version=1)
    assert_same(f(B, scale=2.0)[0], fnp.sin(B) * 2)
    assert_same(fd.jit(fd.grad(lambda x: f(x, scale=2.0)[0].sum()))(B), fnp.cos(B) * 2)
    assert_same(fd.vmap(lambda x: f(x, scale=3.0)[0])(B), fnp.sin(B) * 3)
    (eqn,) = fd.make_jaxpr(lambda x: f(x, scale=2.0))(B).eqns
    assert (eqn.primitive.name, eqn.params["name"]) == ("jit", "my.sine@1")


ERRORS: dict[str, tuple[Any, type[Exception], str]] = {
    "matvec structure": (
        lambda: lax.custom_linear_solve(lambda x: (x, x), B, jacobi),
        TreeError,
        r"requires <lambda> to return the structure of b:\n  found:  \(\*, \*\)\n  wanted: \*",
    ),
    "matvec shape": (
        lambda: lax.custom_linear_solve(lambda x: x[:2], B, jacobi),
        ShapeError,
        r"requires <lambda> to return the types of b; b is f64\[3\], and f64\[2\] was returned",
    ),
    "solver shape": (
        lambda: lax.custom_linear_solve(lambda x: x, {"u": B}, lambda f, b: {"u": b["u"][1:]}),
        ShapeError,
        r"types of b; b\['u'\] is f64\[3\], and f64\[2\]",
    ),
    "aux": (
        lambda: lax.custom_linear_solve(lambda x: x, B, jacobi, has_aux=True),
        TreeError,
        r"requires jacobi to return a pair \(x, aux\), got \*",
    ),
    "root structure": (
        lambda: lax.custom_root(lambda x: (x,), B, newton, tangent_solve),
        TreeError,
        "custom_root requires <lambda> to return the structure of initial_guess",
    ),
    "root shape": (
        lambda: lax.custom_root(lambda x: x, B, lambda f, x: x[:2], tangent_solve),
        ShapeError,
        r"got f64\[2\] for f64\[3\]",
    ),
    "root aux": (
        lambda: lax.custom_root(lambda x: x, B, lambda f, x: x, tangent_solve, True),
        TreeError,
        r"requires <lambda> to return a pair \(x, aux\), got \*",
    ),
    "both ways to give operands": (
        lambda: lax.cond(True, lambda x: x, lambda x: x, B, operand=B),
        ArgumentError,
        "cond takes its operands by position or by the keyword operand, got both",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    run, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        run()


def test_operand_by_keyword() -> None:
    assert_same(lax.cond(True, lambda x: x, lambda x: -x, operand=B), B)
    assert_same(lax.cond(False, lambda x: 1, lambda x: 2, operand=None), fnp.asarray(2))
    assert_same(lax.switch(1, [lambda x: x, lambda x: -x], operand=B), -B)
    assert lax.fori_loop(0, 3, lambda i, x: x + i, 0, unroll=True) == 3


def test_a_symmetric_system_is_its_own_transpose() -> None:
    m = fnp.asarray(np.array([[3.0, 1.0], [1.0, 2.0]]))

    def solved(b: Any) -> Any:
        return lax.custom_linear_solve(
            lambda x: m @ x, b, lambda _, y: fnp.linalg.solve(m, y), symmetric=True
        )

    found = fd.grad(lambda b: solved(b)[0])(fnp.asarray(np.array([1.0, 2.0])))
    np.testing.assert_allclose(found, np.linalg.inv(m)[0], rtol=1e-6)
