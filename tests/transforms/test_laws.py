"""Laws that hold for any function, on random small functions of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.transforms.compare import assert_same, pair
from tests.transforms.table import softplus

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax

SIZE = 3

UNARY: dict[str, Callable[[Any], Any]] = {
    "sin": fnp.sin,
    "tanh": fnp.tanh,
    "square": fnp.square,
    "negate": lambda x: -x,
    "halve": lambda x: x / 2,
    "rev": lambda x: x[::-1],
    "cumsum": fnp.cumsum,
    "gather": lambda x: x[fnp.asarray([2, 0, 2])],
    "softmax": lambda x: fnp.exp(x) / fnp.exp(x).sum(),
    "spread": lambda x: x * 0 + x.sum(),
    "maximum": lambda x: x + x.max(),
    "matmul": lambda x: MATRIX @ x,
    "floor": lambda x: x + fnp.floor(x),
    "jit": lambda x: fd.jit(lambda y: fnp.sin(y) * y)(x),
    "vmap": lambda x: fd.vmap(lambda y: y * fnp.cos(x))(x).sum(axis=0),
    "grad": lambda x: fd.grad(lambda y: (fnp.sin(y) * x).sum())(x),
    "scan": lambda x: lax.scan(lambda c, e: (c + fnp.sin(e), c * e), x[0], x)[1],
    "fori": lambda x: lax.fori_loop(0, 3, lambda i, y: fnp.sin(y) + x / (i + 1.0), x),
    "cond": lambda x: lax.cond(x[0] > 0, lambda y: y * y, lambda y: fnp.cos(y) + x, x),
    "switch": lambda x: lax.switch(fnp.argmax(x), [fnp.sin, fnp.cos, lambda y: y * x], x),
    "remat": lambda x: fd.checkpoint(lambda y: fnp.sin(fnp.sin(y) * x))(x),
    "softplus": lambda x: softplus(x),
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "multiply": lambda x, y: x * y,
    "where": lambda x, y: fnp.where(x > y, x, y * 2),
    "outer": lambda x, y: (x[:, None] * y).mean(axis=1),
    "scatter": lambda x, y: x.at[fnp.asarray([0, 0, 2])].add(y),
    "divide": lambda x, y: x / (2 + fnp.cos(y)),
}
MATRIX = fnp.asarray(np.array([[0.2, -0.7, 0.1], [0.5, 0.3, -0.4], [-0.6, 0.8, 0.9]]))

Step = tuple[str, int, int]
steps = st.one_of(
    st.tuples(st.sampled_from(sorted(UNARY)), st.integers(0, 9), st.just(0)),
    st.tuples(st.sampled_from(sorted(BINARY)), st.integers(0, 9), st.integers(0, 9)),
)


class Program:
    """A straight-line function of two arrays, which returns a pair; prints as its steps."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps

    def __call__(self, x: Any, y: Any) -> Any:
        values = [x, y]
        for name, i, j in self.steps:
            a, b = values[i % len(values)], values[j % len(values)]
            values.append(UNARY[name](a) if name in UNARY else BINARY[name](a, b))
        return values[-1], {"previous": values[-2]}

    def __repr__(self) -> str:
        return f"Program({self.steps})"


programs = st.lists(steps, min_size=1, max_size=5).map(Program)
numbers = st.floats(-1.5, 1.5).map(lambda x: round(x, 3))
vectors = st.lists(numbers, min_size=SIZE, max_size=SIZE).map(
    lambda values: fnp.asarray(np.array(values))
)
pairs = st.tuples(vectors, vectors)
few = settings(max_examples=60)


@pytest.fixture(autouse=True, scope="module")
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


def total(program: Callable[..., Any]) -> Callable[..., Any]:
    def loss(x: Any, y: Any) -> Any:
        out, rest = program(x, y)
        return (fnp.sin(out) + rest["previous"]).sum()

    return loss


@few
@given(programs, st.lists(pairs, min_size=1, max_size=4))
def test_vmap_is_a_loop(f: Program, batch: list[Any]) -> None:
    xs, ys = (fnp.stack([p[i] for p in batch]) for i in (0, 1))
    outs = [f(x, y) for x, y in batch]
    wanted = fd.tree.map(lambda *leaves: fnp.stack(leaves), *outs)
    assert_same(fd.vmap(f)(xs, ys), wanted, 10)
    assert_same(fd.jit(fd.vmap(f, (1, 0)))(xs.T, ys), wanted, 10)
    held = fd.tree.map(lambda *leaves: fnp.stack(leaves), *[f(x, ys[0]) for x in xs])
    assert_same(fd.vmap(f, (0, None))(xs, ys[0]), held, 10)


@few
@given(programs, pairs, pairs, pairs)
def test_jvp_and_vjp_are_transposes(f: Program, at: Any, tangent: Any, ct: Any) -> None:
    cotangent = ct[0], {"previous": ct[1]}
    pushed = fd.jvp(f, at, tangent)[1]
    pulled = fd.vjp(f, *at)[1](cotangent)
    size = pair(pulled, pulled) ** 0.5 * pair(tangent, tangent) ** 0.5
    assert pair(cotangent, pushed) == pytest.approx(pair(pulled, tangent), abs=1e-10 * (1 + size))


@few
@given(programs, pairs, pairs)
def test_jit_changes_nothing(f: Program, at: Any, tangent: Any) -> None:
    assert_same(fd.jit(f)(*at), f(*at), 10)
    assert_same(fd.jvp(fd.jit(f), at, tangent), fd.jvp(f, at, tangent), 100)
    wanted = fd.grad(total(f), (0, 1))(*at)
    assert_same(fd.jit(fd.grad(total(f), (0, 1)))(*at), wanted, 100)
    assert_same(fd.grad(fd.jit(total(f)), (0, 1))(*at), wanted, 100)


@few
@given(programs, pairs, pairs)
def test_linearize_is_jvp(f: Program, at: Any, tangent: Any) -> None:
    out, linear = fd.linearize(f, *at)
    assert_same((out, linear(*tangent)), fd.jvp(f, at, tangent), 10)


@few
@given(programs, programs, pairs)
def test_the_gradient_of_a_sum_is_the_sum_of_gradients(f: Program, g: Program, at: Any) -> None:
    left = fd.grad(lambda x, y: total(f)(x, y) + total(g)(x, y), (0, 1))(*at)
    parts = fd.grad(total(f), (0, 1))(*at), fd.grad(total(g), (0, 1))(*at)
    assert_same(left, fd.tree.map(lambda a, b: a + b, *parts), 100)


@few
@given(programs, pairs, pairs, pairs, numbers, numbers)
def test_pushing_and_pulling_are_linear(
    f: Program, at: Any, u: Any, v: Any, a: float, b: float
) -> None:
    def mixed(s: Any, t: Any) -> Any:
        return fd.tree.map(lambda x, y: a * x + b * y, s, t)

    pullback = fd.vjp(f, *at)[1]
    cts = [(p[0], {"previous": p[1]}) for p in (u, v)]
    assert_same(pullback(mixed(*cts)), mixed(*map(pullback, cts)), 1000)
    push = fd.linearize(f, *at)[1]
    assert_same(push(*mixed(u, v)), mixed(push(*u), push(*v)), 1000)


@few
@given(programs, pairs, pairs)
def test_second_derivatives_commute(f: Program, at: Any, tangent: Any) -> None:
    """A Hessian is symmetric, whichever modes it is made of."""
    loss = total(f)
    forward = fd.jvp(fd.grad(loss, (0, 1)), at, tangent)[1]
    slope = fd.grad(lambda x, y: fd.jvp(loss, (x, y), tangent)[1], (0, 1))(*at)
    assert_same(slope, forward, 1000)
    reverse = fd.vjp(fd.grad(loss, (0, 1)), *at)[1](tangent)
    assert_same(reverse, forward, 1000)


@few
@given(programs, programs, pairs, pairs)
def test_the_chain_rule(f: Program, g: Program, at: Any, tangent: Any) -> None:
    def unpacked(x: Any, y: Any) -> Any:
        out, rest = f(x, y)
        return out, rest["previous"]

    whole = fd.jvp(lambda x, y: g(*unpacked(x, y)), at, tangent)
    assert_same(whole, fd.jvp(g, *fd.jvp(unpacked, at, tangent)), 100)


@few
@given(programs, pairs)
def test_tracing_gives_a_program_that_computes_the_same(f: Program, at: Any) -> None:
    from funcdl.core.jaxpr import eval_jaxpr

    program = fd.make_jaxpr(f)(*at)
    outs = eval_jaxpr(program.jaxpr, program.consts, at)
    assert_same(outs, fd.tree.leaves(f(*at)), 10)


@few
@given(programs, pairs)
def test_jacobians_of_both_modes_agree(f: Program, at: Any) -> None:
    assert_same(fd.jacfwd(f, (0, 1))(*at), fd.jacrev(f, (0, 1))(*at), 100)


@few
@given(programs, pairs)
def test_hessians_are_symmetric(f: Program, at: Any) -> None:
    (xx, xy), (yx, yy) = fd.hessian(total(f), (0, 1))(*at)
    assert_same(xx, xx.T, 1000)
    assert_same(yy, yy.T, 1000)
    assert_same(xy, yx.T, 1000)


@few
@given(programs, pairs, st.lists(vectors, min_size=1, max_size=4), st.booleans())
def test_scan_is_a_loop(f: Program, at: Any, rows: list[Any], reverse: bool) -> None:
    """The program's results become the next carry, bounded so that no step explodes."""

    def step(carry: Any, row: Any) -> Any:
        out, rest = f(carry[0], carry[1] + row)
        return (fnp.tanh(out), fnp.tanh(rest["previous"])), rest

    def scanned(x: Any, y: Any, xs: Any) -> Any:
        return lax.scan(step, (x, y), xs, reverse=reverse)

    def looped(x: Any, y: Any, xs: Any) -> Any:
        carry, outs = (x, y), []
        for row in reversed(xs) if reverse else xs:
            carry, out = step(carry, row)
            outs.append(out)
        ordered = outs[::-1] if reverse else outs
        return carry, fd.tree.map(lambda *leaves: fnp.stack(leaves), *ordered)

    def loss(fun: Any) -> Any:
        def summed(*args: Any) -> Any:
            return sum(fnp.sin(leaf).sum() for leaf in fd.tree.leaves(fun(*args)))

        return summed

    xs = fnp.stack(rows)
    assert_same(scanned(*at, xs), looped(*at, xs), 10)
    wanted = fd.grad(loss(looped), (0, 1, 2))(*at, xs)
    assert_same(fd.grad(loss(scanned), (0, 1, 2))(*at, xs), wanted, 1000)


POLICIES = [
    None,
    fd.checkpoint_policies.nothing_saveable,
    fd.checkpoint_policies.everything_saveable,
    fd.checkpoint_policies.dots_saveable,
]


@few
@given(programs, pairs, pairs, st.sampled_from(POLICIES))
def test_remat_changes_no_value(f: Program, at: Any, tangent: Any, policy: Any) -> None:
    again = fd.checkpoint(f, policy=policy)
    assert_same(again(*at), f(*at), 10)
    assert_same(fd.jvp(again, at, tangent), fd.jvp(f, at, tangent), 100)
    wanted = fd.grad(total(f), (0, 1))(*at)
    assert_same(fd.grad(total(again), (0, 1))(*at), wanted, 100)
    assert_same(fd.jit(fd.grad(total(again), (0, 1)))(*at), wanted, 100)
