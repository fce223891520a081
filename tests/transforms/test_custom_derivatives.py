"""What custom rules are given and may return; closure_convert, linear_call, fwd_and_bwd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.transforms.compare import assert_same

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import custom_derivatives as cd
from funcdl.errors import ArgumentError, NotDifferentiableError, ShapeError, TreeError
from funcdl.runtime.toolchain import find_compiler

BACKENDS = ["reference", *(["cpu"] if find_compiler() else [])]
X = fnp.asarray(np.array([0.5, -1.5, 2.0]))


@pytest.fixture(autouse=True, params=BACKENDS)
def backend(request: Any) -> Iterator[None]:
    with fd.config.override(backend=request.param):
        yield


def product(seen: list[Any]) -> Any:
    f = fd.custom_jvp(lambda x, y: {"p": x * y, "s": x + y})

    def rule(primals: Any, tangents: Any) -> Any:
        (x, y), (s, t) = primals, tangents
        zero = [isinstance(u, cd.SymbolicZero) for u in tangents]
        seen.append(tuple(zero))
        assert all((u.shape, u.dtype) == (x.shape, x.dtype) for u in tangents)
        parts = [a * b for a, b, z in ((s, y, zero[0]), (t, x, zero[1])) if not z]
        both = sum(parts[1:], parts[0]) if parts else cd.zero_from_primal(x, symbolic_zeros=True)
        total = s if zero[1] else t if zero[0] else s + t
        return f(x, y), {"p": both, "s": total}

    f.defjvp(rule, symbolic_zeros=True)
    return f


@pytest.mark.parametrize("jit", [False, True])
def test_symbolic_zeros_of_custom_jvp(jit: bool) -> None:
    seen: list[Any] = []
    f = product(seen)
    f = fd.jit(f) if jit else f
    assert_same(fd.jvp(lambda x: f(x, X), (X,), (X,))[1], {"p": X * X, "s": X})
    assert_same(fd.jvp(lambda y: f(X, y), (X,), (X,))[1], {"p": X * X, "s": X})
    assert_same(fd.grad(lambda x: f(x, x)["p"].sum())(X), 2 * X)
    assert seen == [(False, True), (True, False), (False, False)]
    found = fd.vmap(fd.grad(lambda x, y: f(x, y)["p"]), (0, None))(X, fnp.float64(3))
    assert_same(found, fnp.full_like(X, 3))
    assert seen[-1] == (False, True)
    found = fd.grad(lambda x: fd.vmap(f, (0, None))(x, fnp.float64(3))["p"].sum())(X)
    assert_same(found, fnp.full_like(X, 3))
    assert seen[-1] == (False, True)


def test_zeros_that_rules_return_stay_symbolic() -> None:
    f = fd.custom_jvp(lambda x: (x, x))
    f.defjvp(lambda p, t: (f(*p), (t[0], cd.SymbolicZero(p[0].aval))), symbolic_zeros=True)
    g = fd.custom_jvp(lambda x, y: x)
    kinds: list[str] = []

    def rule(primals: Any, tangents: Any) -> Any:
        kinds.extend(type(t).__name__ for t in tangents)
        return primals[0], tangents[0]

    g.defjvp(rule, symbolic_zeros=True)
    assert_same(fd.jvp(lambda x: g(*f(x)), (X,), (X,))[1], X)
    assert kinds == ["Array", "SymbolicZero"]


def three(seen: list[Any]) -> Any:
    f = fd.custom_vjp(lambda x, y: (x * y, x + 1))

    def fwd(x: Any, y: Any) -> Any:
        seen.append((x.perturbed, y.perturbed))
        x, y = cd.custom_vjp_primal_tree_values((x, y))
        return (x * y, x + 1), (x, y)

    def bwd(res: Any, cts: Any) -> Any:
        x, y = res
        seen.append(tuple(isinstance(ct, cd.SymbolicZero) for ct in cts))
        a, b = cts
        if isinstance(a, cd.SymbolicZero):
            return b, None
        dx = a * y if isinstance(b, cd.SymbolicZero) else a * y + b
        return dx, a * x

    f.defvjp(fwd, bwd, symbolic_zeros=True, optimize_remat=True)
    return f


@pytest.mark.parametrize("jit", [False, True])
def test_symbolic_zeros_of_custom_vjp(jit: bool) -> None:
    seen: list[Any] = []
    f = three(seen)
    f = fd.jit(f) if jit else f
    y = fnp.full_like(X, 3)
    assert_same(fd.grad(lambda x: f(x, y)[0].sum())(X), y)
    assert_same(fd.grad(lambda x: f(x, x)[0].sum())(X), 2 * X)
    assert_same(fd.grad(lambda x: f(x, y)[1].sum())(X), X * 0 + 1)
    assert_same(fd.grad(lambda y: f(X, y)[1].sum())(X), X * 0)
    # Which arguments have tangents, and which cotangents are zero, in turn; a jitted forward pass
    # is traced once for each kind.
    forward, backward = [(True, False), (True, True), (False, True)], [(False, True), (True, False)]
    third = [] if jit else [forward[0]]
    calls = [forward[0], backward[0], forward[1], backward[0], *third, backward[1], forward[2]]
    assert seen == [*calls, backward[1]]
    found = fd.grad(lambda x: fd.vmap(f, (0, None))(x, fnp.float64(3))[0].sum())(X)
    assert_same(found, y)


def test_arguments_by_name_and_by_default() -> None:
    f = fd.custom_jvp(lambda x, power=2: x**power, nondiff_argnames=("power",))
    f.defjvp(lambda power, p, t: (f(p[0], power), 10 * power * t[0]))
    assert fd.grad(f)(3.0) == 20.0
    assert fd.grad(lambda x: f(x, power=3))(1.0) == 30.0
    assert fd.grad(lambda x: f(power=4, x=x))(1.0) == 40.0
    g = fd.custom_vjp(lambda x, y=2.0: x * y)
    g.defvjp(lambda x, y: (x * y, (x, y)), lambda r, ct: (ct * r[1], ct * r[0]))
    assert fd.grad(g)(3.0) == 2.0
    assert fd.grad(lambda y: g(y=y, x=5.0))(1.0) == 5.0
    h = fd.custom_vjp(lambda fn, x: fn(x), nondiff_argnums=(0,))
    h.defvjp(lambda fn, x: (fn(x), x), lambda fn, x, ct: (7 * ct * fn(x),))
    assert fd.jit(fd.grad(lambda x: h(fnp.square, x)))(2.0) == 28.0


def test_arguments_without_derivative_need_not_be_hashable() -> None:
    f = fd.custom_jvp(lambda sizes, x: x * len(sizes), nondiff_argnums=(0,))
    f.defjvp(lambda sizes, p, t: (f(sizes, *p), t[0] * sizes[0]))
    assert fd.grad(f, 1)([5, 6], 1.0) == 5.0
    assert fd.jit(lambda x: fd.grad(f, 1)([5, 6], x))(1.0) == 5.0
    assert fd.grad(lambda x: fd.jit(lambda x: f({0: 4}, x))(x))(1.0) == 4.0


def integrate(f: Any, low: Any, high: Any) -> Any:
    """A sum of ten values, with a rule that says how its integrand's constants enter."""
    converted, consts = fd.closure_convert(f, low)
    return _integrate(converted, low, high, *consts)


def _sum(f: Any, low: Any, high: Any, *consts: Any) -> Any:
    step = (high - low) / 10
    return sum((f(low + (i + 0.5) * step, *consts) * step for i in range(10)), 0.0)


_integrate = fd.custom_vjp(_sum, nondiff_argnums=(0,))
_integrate.defvjp(
    lambda f, low, high, *consts: (_sum(f, low, high, *consts), (low, high, consts)),
    lambda f, res, ct: (
        -ct * f(res[0], *res[2]),
        ct * f(res[1], *res[2]),
        *fd.vjp(lambda *cs: _sum(f, res[0], res[1], *cs), *res[2])[1](ct),
    ),
)


def test_closure_convert() -> None:
    scale = fnp.float64(2.0)

    def total(s: Any, n: Any) -> Any:
        return integrate(lambda x: fnp.sin(s * x) * n, fnp.float64(0.0), fnp.float64(1.0))

    wanted = fd.grad(lambda s: _sum(lambda x: fnp.sin(s * x) * 3, 0.0, fnp.float64(1.0)))(scale)
    assert_same(fd.grad(total)(scale, 3), wanted, 10)
    assert_same(fd.jit(fd.grad(total))(scale, 3), wanted, 10)
    assert_same(fd.grad(fd.jit(total))(scale, 3), wanted, 10)
    assert_same(fd.vmap(fd.grad(total), (0, None))(scale[None], 3)[0], wanted, 10)


def test_what_closure_convert_takes_out_and_checks() -> None:
    converted, consts = fd.closure_convert(lambda x: x * X, X)
    assert consts == [] and fnp.array_equal(converted(X), X * X)

    def inside(y: Any, n: Any) -> Any:
        converted, consts = fd.closure_convert(lambda x: {"r": x["u"] * y + n}, {"u": X})
        assert len(consts) == 1 and consts[0] is y
        with pytest.raises(ArgumentError, match=r"takes 1 arguments and the 1 constants .* got 1"):
            converted({"u": X})
        with pytest.raises(TreeError, match="arguments with the structure of example_args"):
            converted((X,), y)
        with pytest.raises(ShapeError, match=r"args\[0\]\['u'\] of type f64\[3\], got f64\[2\]"):
            converted({"u": X[:2]}, y)
        return converted({"u": X}, 2 * y)["r"]

    assert_same(fd.jit(inside)(2.0, 1), X * 4 + 1)


def test_closure_convert_for_a_rule_that_calls_its_own_function() -> None:
    def outer(scale: Any) -> Any:
        converted, consts = fd.closure_convert(lambda x: fnp.sin(x * scale), 1.0)
        inner = fd.custom_jvp(lambda *xs: converted(*xs))
        inner.defjvp(lambda xs, ts: (inner(*xs), 2 * fd.jvp(converted, xs, ts)[1]))
        return inner(2.0, *consts)

    # The rule's factor shows that it is used.
    x = fnp.float64(3.0)
    first = fd.grad(outer)
    assert_same(first(x), 4 * np.cos(6.0), 10)
    for second in (fd.grad(first), fd.jacfwd(first), fd.jit(fd.grad(first)), fd.hessian(outer)):
        assert_same(second(x), -8 * np.sin(6.0), 10)


def scaled(r: Any, x: Any) -> Any:
    return {"y": x[0] * r + x[1]}


def scaled_back(r: Any, ct: Any) -> Any:
    """Twice the true transpose, to be told from it."""
    return [2 * ct["y"] * r, 2 * ct["y"]]


def test_linear_call() -> None:
    def f(r: Any, x: Any) -> Any:
        return cd.linear_call(scaled, scaled_back, r, [x, X])["y"]

    for g in (f, fd.jit(f), fd.checkpoint(f)):
        assert_same(g(3.0, X), 4 * X)
        assert_same(fd.jvp(lambda x, g=g: g(3.0, x), (X,), (X,)), (4 * X, 3 * X))
        assert_same(fd.grad(lambda x, g=g: g(3.0, x).sum())(X), X * 0 + 6)
        assert_same(fd.vmap(fd.grad(lambda x, g=g: g(3.0, x).sum()))(X[None])[0], X * 0 + 6)
        found = fd.vmap(fd.grad(lambda x, r, g=g: g(r, x).sum()), (None, 0))(X, X)
        assert_same(found, 2 * X[:, None] + 0 * X)
    once = fd.linear_transpose(lambda x: cd.linear_call(scaled, scaled_back, 3.0, [x, x])["y"], X)
    assert_same(once(X)[0], 8 * X)
    again = fd.linear_transpose(lambda ct: once(ct)[0], X)
    assert_same(again(X)[0], 4 * X)


def test_linear_call_closes_over_values() -> None:
    def f(r: Any, x: Any) -> Any:
        return cd.linear_call(lambda _, x: x * r, lambda _, ct: ct * (2 * r), (), x)

    assert_same(fd.vmap(fd.grad(f, 1))(X, X), 2 * X)
    assert_same(fd.jit(fd.vmap(fd.jit(fd.grad(f, 1))))(X, X), 2 * X)
    with pytest.raises(NotDifferentiableError, match="no derivative by residual_args"):
        fd.grad(f)(3.0, 1.0)


def test_linear_call_checks_the_transpose() -> None:
    with pytest.raises(TreeError, match="requires scaled_back to return a cotangent with the str"):
        cd.linear_call(lambda r, x: {"y": x}, scaled_back, 1.0, X)
    with pytest.raises(ShapeError, match=r"of type f64\[3\] for a linear .*, got f64\[\]"):
        cd.linear_call(lambda r, x: x, lambda r, ct: ct.sum(), 1.0, X)


@pytest.mark.parametrize("jitted", [True, False])
def test_fwd_and_bwd(jitted: bool) -> None:
    traced: list[str] = []

    def f(x: Any, w: Any, n: Any) -> Any:
        traced.append("f")
        return {"y": fnp.sin(x) @ w["w"] * n}

    w = {"w": fnp.asarray(np.eye(3) * 2)}
    fwd, bwd = fd.fwd_and_bwd(f, (0, 1), jitted=jitted)
    for scale in (1.0, 2.0, 3.0):
        out, residuals = fwd(X * scale, w, 5)
        wanted, pullback = fd.vjp(lambda x, w: f(x, w, 5), X * scale, w)
        assert_same(out, wanted, 10)
        assert_same(bwd(residuals, {"y": X}), pullback({"y": X}), 10)
        assert all(isinstance(x, fd.Array) for x in fd.tree.leaves(residuals))
    assert traced.count("f") == (4 if jitted else 6)
    with pytest.raises(ArgumentError, match="requires the residuals that its forward pass"):
        bwd([X], {"y": X})


def test_fwd_and_bwd_with_aux() -> None:
    fwd, bwd = fd.fwd_and_bwd(lambda x: (x * x, {"n": 3, "x": x}), 0, has_aux=True)
    out, residuals, aux = fwd(X)
    assert_same((out, aux), (X * X, {"n": 3, "x": X}))
    assert_same(bwd(residuals, X), (2 * X * X,))


def test_pullbacks_are_pytrees() -> None:
    pullback = fd.jit(lambda x: fd.vjp(fnp.sin, x)[1])(X)
    assert_same(pullback(X)[0], fnp.cos(X) * X)
    assert_same(fd.jit(lambda f, ct: f(ct)[0])(pullback, X), fnp.cos(X) * X, 10)
    doubled = fd.tree.map(lambda r: 2 * r, pullback)
    assert_same(doubled(X)[0], 2 * fnp.cos(X) * X)
    assert_same(fd.vmap(lambda ct: pullback(ct)[0])(X[None])[0], fnp.cos(X) * X)


NONE_FOR_PARTS = {
    "an argument": (lambda x, g: None, (0.0, 0.0, 0.0)),
    "a subtree": (lambda x, g: {"a": None, "b": g * 2}, (0.0, 0.0, 2.0)),
    "leaves": (lambda x, g: {"a": (None, g * x), "b": None}, (0.0, 1.0, 0.0)),
    "nothing": (lambda x, g: {"a": (g, g * 3), "b": g * x}, (1.0, 3.0, 1.0)),
}


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("what", NONE_FOR_PARTS)
def test_none_stands_for_zero_cotangents_of_parts(what: str, jit: bool) -> None:
    rule, factors = NONE_FOR_PARTS[what]
    f = fd.custom_vjp(lambda p: p["a"][0] * p["b"] + p["a"][1])
    f.defvjp(lambda p: (f(p), p["b"] / p["b"]), lambda one, g: (rule(one, g),))
    gradient = fd.grad(lambda p: f(p).sum())
    found = (fd.jit(gradient) if jit else gradient)({"a": (X, X + 1), "b": X})
    assert_same(found, {"a": (0 * X + factors[0], 0 * X + factors[1]), "b": 0 * X + factors[2]})


WRONG_PARTS = [
    {"a": (None,), "b": None},
    {"a": [None, None], "b": None},
    {"a": None},
    {"a": None, "b": (None,)},
]


@pytest.mark.parametrize("wrong", WRONG_PARTS, ids=str)
def test_none_for_parts_that_are_not_there(wrong: Any) -> None:
    f = fd.custom_vjp(lambda p: p["a"][0] * p["b"] + p["a"][1])
    f.defvjp(lambda p: (f(p), None), lambda _, g: (wrong,))
    with pytest.raises(TreeError, match="structure of argument p"):
        fd.grad(lambda p: f(p).sum())({"a": (X, X), "b": X})


@pytest.mark.parametrize("argnums", [(0, 0), (1, -1), [0, 1, 0]])
@pytest.mark.parametrize("transform", [fd.grad, fd.value_and_grad, fd.jacfwd, fd.jacrev])
def test_arguments_to_differentiate_by_are_named_once(transform: Any, argnums: Any) -> None:
    with pytest.raises(ArgumentError, match=r"names an argument of .* twice"):
        transform(lambda x, y: (x * y).sum(), argnums=argnums)(X, X)
