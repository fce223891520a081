"""Loops in memory: where carried values live."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax


def history(h: Any, xs: Any, reverse: bool = False) -> Any:
    """A carried vector, stacked before and after each step, and a carried count stacked twice."""

    def step(carry: Any, x: Any) -> Any:
        h, n = carry
        new = h * 0.5 + x * n
        return (new, n + 1), (h, n, new, n)

    return lax.scan(step, (h, fnp.float32(1)), xs, reverse=reverse)


def recurrent_loss(w: Any, h: Any, xs: Any, reverse: bool = False) -> Any:
    final, _ = lax.scan(lambda h, x: (fnp.tanh(h @ w + x), None), h, xs, reverse=reverse)
    return fnp.sum(final * final)


def agree(found: Any, wanted: Any) -> None:
    pairs = zip(fd.tree.leaves(found), fd.tree.leaves(wanted), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_values_that_live_in_their_stacks(length: int, reverse: bool) -> None:
    h, xs = np.ones(3, np.float32), np.arange(3 * length, dtype=np.float32).reshape(length, 3)
    found = fd.jit(history, static_argnums=2)(h, xs, reverse)
    with fd.disable_jit():
        wanted = history(h, xs, reverse)
    agree(found, wanted)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_gradients_of_loops_over_them(length: int, reverse: bool) -> None:
    rng = np.random.default_rng(0)
    w, h = rng.normal(size=(4, 4)).astype("f"), rng.normal(size=(2, 4)).astype("f")
    xs = rng.normal(size=(length, 2, 4)).astype("f")
    gradient = fd.grad(recurrent_loss, argnums=(0, 1, 2))
    found = fd.jit(gradient, static_argnums=3)(w, h, xs, reverse)
    with fd.disable_jit():
        wanted = gradient(w, h, xs, reverse)
    agree(found, wanted)


@pytest.mark.parametrize("reverse", [False, True])
def test_no_step_copies_what_it_carries(reverse: bool) -> None:
    w, h, xs = np.ones((4, 4), "f"), np.ones((2, 4), "f"), np.ones((5, 2, 4), "f")
    gradient = fd.grad(recurrent_loss)
    text = fd.jit(gradient, static_argnums=3).lower(w, h, xs, reverse).as_text("kernels")
    assert "_copy" not in text
    # Only the initial value is put into the stack.
    assert text.count("_begin") == 1
    text = fd.jit(history, static_argnums=2).lower(h, xs, reverse).as_text("kernels")
    assert text.count("_begin") == 2
