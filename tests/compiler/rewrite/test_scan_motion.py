"""Products that leave their loop: the results stay, and the loop holds fewer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.lax as lax
import funcdl.numpy as fnp
from funcdl.compiler.rewrite import scan_motion

STEPS, BATCH, INPUTS, UNITS = 5, 3, 4, 6
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape)


W, U = normal(INPUTS, UNITS), normal(UNITS, UNITS)
XS = normal(STEPS, BATCH, INPUTS)


def rnn(w: Any, u: Any, xs: Any, reverse: bool = False) -> Any:
    def cell(h: Any, x: Any) -> Any:
        h = fnp.tanh(x @ w + h @ u)
        return h, h

    return lax.scan(cell, fnp.zeros((BATCH, UNITS)), xs, reverse=reverse)[1]


def products_in_loops(f: Any, *args: Any) -> list[int]:
    """For each scan of the simplified program, how many products its body has."""
    closed = fd.jit(f).lower(*args)._lowered._pipeline.simplified
    return [
        sum(inner.primitive.name == "dot_general" for inner in eqn.params["jaxpr"].eqns)
        for eqn in closed.eqns
        if eqn.primitive.name == "scan"
    ]


def check(f: Any, *args: Any) -> None:
    with fd.config.override(backend="reference"):
        wanted = fd.jit(f)(*args)
    found = fd.jit(f)(*args)
    for a, b in zip(fd.tree.leaves(found), fd.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.fixture(autouse=True)
def in_64_bits() -> Any:
    with fd.config.override(x64="on"):
        yield


def loss(w: Any, u: Any, xs: Any, reverse: bool = False) -> Any:
    return fnp.sum(rnn(w, u, xs, reverse) ** 2)


@pytest.mark.parametrize("reverse", [False, True])
def test_an_input_projection_is_made_before_the_loop(reverse: bool) -> None:
    def f(w: Any, u: Any, xs: Any) -> Any:
        return rnn(w, u, xs, reverse)

    assert products_in_loops(f, W, U, XS) == [1]
    check(f, W, U, XS)


@pytest.mark.parametrize("reverse", [False, True])
def test_weight_gradients_are_made_after_the_loop(reverse: bool) -> None:
    f = fd.grad(lambda w, u, xs: loss(w, u, xs, reverse), (0, 1, 2))
    # Backwards, the product with the state's weights stays: the next step needs it.
    assert products_in_loops(f, W, U, XS) == [1, 1]
    check(f, W, U, XS)
    assert products_in_loops(fd.grad(loss, (0, 1)), W, U, XS) == [1, 1]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_weight_that_each_step_would_pack_is_transposed_once(reverse: bool) -> None:
    def f(w: Any, u: Any, xs: Any) -> Any:
        return fd.grad(loss, (0, 1, 2))(w, u, xs, reverse)

    closed = fd.jit(f).lower(W, U, XS)._lowered._pipeline.simplified
    terms = [
        inner.params["dimension_numbers"][0][1]
        for eqn in closed.eqns
        if eqn.primitive.name == "scan"
        for inner in eqn.params["jaxpr"].eqns
        if inner.primitive.name == "dot_general"
    ]
    assert terms == [(0,), (0,)]
    turned = [eqn for eqn in closed.eqns if eqn.primitive.name == "transpose"]
    assert UNITS * UNITS in [eqn.outvars[0].aval.size for eqn in turned]
    check(f, W, U, XS)


def test_a_constant_with_batches_and_several_terms_is_transposed() -> None:
    weights = normal(2, 5, 3, 4)  # batch, column, two terms

    def f(weights: Any, h: Any, xs: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            numbers = (((1, 3), (3, 2)), ((2,), (0,)))
            return h + x * lax.dot_general(h, weights, numbers).sum(), h

        return lax.scan(step, h, xs)

    check(f, weights, normal(7, 4, 2, 3), normal(STEPS))


def test_under_vmap() -> None:
    f = fd.vmap(fd.grad(loss, (0, 1)), (0, None, 0))
    check(f, normal(2, INPUTS, UNITS), U, normal(2, STEPS, BATCH, INPUTS))


def test_an_accumulated_product_of_inputs() -> None:
    """Nothing of the body is left but what the outputs need."""

    def f(xs: Any, ys: Any) -> Any:
        def step(total: Any, pair: Any) -> Any:
            x, y = pair
            return x.T @ y + total, x.sum()

        return lax.scan(step, fnp.ones((INPUTS, UNITS)), (xs, ys))

    ys = normal(STEPS, BATCH, UNITS)
    assert products_in_loops(f, XS, ys) == [0]
    check(f, XS, ys)


def test_a_sum_that_is_read_in_the_loop_stays() -> None:
    def f(xs: Any, ys: Any) -> Any:
        def step(total: Any, pair: Any) -> Any:
            x, y = pair
            total = total + x.T @ y
            return total, total[0]

        return lax.scan(step, fnp.zeros((INPUTS, UNITS)), (xs, ys))

    ys = normal(STEPS, BATCH, UNITS)
    assert products_in_loops(f, XS, ys) == [1]
    check(f, XS, ys)


def test_products_with_batches_move_too() -> None:
    def f(w: Any, xs: Any) -> Any:
        def step(total: Any, x: Any) -> Any:
            y = fnp.einsum("bi,bij->bj", x, w)
            return total + fnp.einsum("bi,bj->bij", x, fnp.sin(y)), y

        return lax.scan(step, fnp.zeros((BATCH, INPUTS, UNITS)), xs)

    w = normal(BATCH, INPUTS, UNITS)
    check(f, w, XS)


def test_nested_loops() -> None:
    def f(w: Any, u: Any, xs: Any) -> Any:
        def outer(total: Any, x: Any) -> Any:
            return total + loss(w, u, x), ()

        return lax.scan(outer, 0.0, xs)[0]

    xs = normal(2, STEPS, BATCH, INPUTS)
    check(f, W, U, xs)
    check(fd.grad(f, (0, 1)), W, U, xs)


@pytest.mark.parametrize("reverse", [False, True])
def test_an_output_projection_is_made_after_the_loop(reverse: bool) -> None:
    def f(w: Any, u: Any, xs: Any) -> Any:
        def cell(h: Any, x: Any) -> Any:
            h = fnp.tanh(x + h @ u)
            return h, (h.T * 2).T @ w

        return lax.scan(cell, fnp.zeros((BATCH, UNITS)), xs, reverse=reverse)

    args = (normal(UNITS, 2), U, normal(STEPS, BATCH, UNITS))
    assert products_in_loops(f, *args) == [1]
    check(f, *args)


def test_large_stacks_stay_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_motion, "LARGEST_STACK", 8)
    assert products_in_loops(fd.grad(lambda *a: loss(*a), (0, 1)), W, U, XS) == [2, 3]


def test_one_step_and_none() -> None:
    for steps in (0, 1):
        check(fd.grad(loss, (0, 1)), W, U, XS[:steps])
