"""Loops and branches as bodies of ONNX's Loop, Scan and If; calls inlined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.onnx.models import compare

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax

X = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
EXACT = {"rtol": 1e-6, "atol": 1e-6}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 4])
def test_scan(reverse: bool, length: int) -> None:
    def run(offset: Any, xs: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            total, count = carry
            return (total + x * offset, count + 1), (total, x, fnp.float32(2))

        return lax.scan(step, (fnp.zeros(3), 0), xs, reverse=reverse)

    compare(run, np.float32(1.5), X[:length], **EXACT)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 5])
def test_scan_over_nothing(reverse: bool, length: int) -> None:
    def run(x: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            return carry * 2, carry

        return lax.scan(step, x, None, length=length, reverse=reverse)

    compare(run, X, **EXACT)


def test_scan_without_carry_of_empty_rows() -> None:
    compare(lambda xs: lax.map(lambda x: (x, x.sum()), xs), np.zeros((3, 0), np.float32))


def test_scan_in_a_scan() -> None:
    def run(xs: Any) -> Any:
        def outer(total: Any, row: Any) -> Any:
            def inner(carry: Any, x: Any) -> Any:
                return carry + x * total, carry

            return lax.scan(inner, total, row)

        return lax.scan(outer, fnp.float32(1), xs)

    compare(run, X, **EXACT)


def test_gradient_of_a_scan() -> None:
    def loss(w: Any, xs: Any) -> Any:
        return lax.scan(lambda h, x: (fnp.tanh(h @ w + x), h.sum()), fnp.zeros(3), xs)[1].sum()

    compare(fd.grad(loss), X[:3], X, **EXACT)


@pytest.mark.parametrize("start", [-3.0, 0.0, 50.0])
def test_while_loop(start: float) -> None:
    def run(limit: Any, x: Any) -> Any:
        def going(state: Any) -> Any:
            return (state[1] < limit).all() & (state[0] < 9)

        return lax.while_loop(going, lambda s: (s[0] + 1, s[1] * 2 + 1), (0, x))

    compare(run, np.float32(20), np.array([start, 1], np.float32), **EXACT)


def test_fori_loop_of_a_mapped_length() -> None:
    def power(x: Any, n: Any) -> Any:
        return lax.fori_loop(0, n, lambda i, y: y * x + i, x)

    compare(fd.vmap(power), X[0], np.array([0, 1, 5], np.int32), **EXACT)


@pytest.mark.parametrize("index", [-2, 0, 1, 2, 3, 9])
def test_switch(index: int) -> None:
    branches = [lambda x: (x, x.sum()), lambda x: (x + 1, x[0, 0]), lambda x: (x * 0, x.max())]
    branches.append(lambda x: (fnp.zeros_like(x), fnp.float32(3)))
    compare(lambda i, x: lax.switch(i, branches, x), np.int32(index), X, **EXACT)


@pytest.mark.parametrize("flag", [False, True])
def test_cond_that_passes_its_operands_on(flag: bool) -> None:
    compare(lambda f, x, y: lax.cond(f, lambda: (x, y), lambda: (y, x)), flag, X, X + 1)


@pytest.mark.parametrize("flag", [False, True])
def test_cond_within_loops_within_cond(flag: bool) -> None:
    def run(flag: Any, xs: Any) -> Any:
        def step(total: Any, x: Any) -> Any:
            return lax.cond(x.sum() > 1, lambda: total + x, lambda: total - x), x

        return lax.cond(flag, lambda: lax.scan(step, xs[0], xs)[0], lambda: xs[1] * 3)

    compare(run, flag, X, **EXACT)


def test_calls_are_inlined() -> None:
    @fd.custom_jvp
    def curved(x: Any) -> Any:
        return fnp.sin(x)

    curved.defjvp(lambda primals, tangents: (curved(*primals), 2 * tangents[0]))

    @fd.custom_vjp
    def clipped(x: Any) -> Any:
        return x * 3

    clipped.defvjp(lambda x: (clipped(x), None), lambda _, ct: (fnp.clip(ct, -1, 1),))

    def run(x: Any) -> Any:
        return fd.checkpoint(fd.jit(lambda y: clipped(curved(y)) * 2))(x).sum()

    model = compare(fd.value_and_grad(run), X, **EXACT)
    assert {"Sin", "Mul"} <= {node.op_type for node in model.graph.node}
    assert not model.functions
