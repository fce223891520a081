"""Cheap values are computed again by their readers instead of being stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn

RNG = np.random.default_rng(0)


def array(*shape: int) -> Any:
    return fnp.asarray(RNG.normal(size=shape), "float32")


def stored_bytes(f: Callable[..., Any], *args: Any) -> int:
    """The bytes of all temporaries that the compiled program stores."""
    program = fd.jit(f).lower(*args)._lowered._pipeline.program
    return sum(lifetime.nbytes for lifetime in program.arena.lifetimes)


def recomputed(f: Callable[..., Any], *args: Any) -> int:
    groups = fd.jit(f).lower(*args)._lowered._pipeline.grouping.groups
    return sum(len(group.recomputed) for group in groups)


def check(f: Callable[..., Any], *args: Any) -> None:
    with fd.config.override(backend="reference"):
        wanted = fd.jit(f)(*args)
    for a, b in zip(fd.tree.leaves(fd.jit(f)(*args)), fd.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


X, W1, W2 = array(32, 16), array(16, 24), array(24, 8)


@pytest.mark.parametrize("activation", [nn.gelu, nn.silu, nn.softplus, nn.mish, fnp.tanh])
def test_an_activation_between_products_keeps_at_most_two_arrays(activation: Any) -> None:
    """Its argument and its result, which the weight gradient reads."""

    def loss(w1: Any, w2: Any, x: Any) -> Any:
        return fnp.sum((activation(x @ w1) @ w2) ** 2)

    f = fd.grad(loss, (0, 1))
    hidden, out = 32 * 24 * 4, 32 * 8 * 4
    # Besides, the gradient of the hidden layer and of the output; tanh needs its result alone.
    assert stored_bytes(f, W1, W2, X) <= 3 * hidden + 2 * out + 64
    check(f, W1, W2, X)


def test_batch_norm_keeps_its_input() -> None:
    def loss(x: Any, scale: Any, shift: Any, w: Any) -> Any:
        mean = x.mean(axis=0)
        variance = ((x - mean) ** 2).mean(axis=0)
        return fnp.sum(nn.relu((x - mean) / fnp.sqrt(variance + 1e-5) * scale + shift) @ w)

    args = (array(64, 24), array(24), array(24), W2)
    f = fd.grad(loss, (0, 1, 2))
    assert recomputed(f, *args) > 0
    check(f, *args)


def test_a_group_for_nothing_else_is_left_out() -> None:
    """The gradient by a batch's rows: sums of it are subtracted, from what is computed again."""

    def loss(x: Any, scale: Any, w: Any) -> Any:
        centred = x - x.mean(axis=0)
        deviation = fnp.sqrt((centred**2).mean(axis=0) + 1e-5)
        return fnp.sum(nn.relu(centred / deviation * scale) @ w)

    args = (array(4096, 24), array(24), W2)
    f = fd.grad(loss, (0, 1))
    large = 4096 * 24 * 4
    # The gradient of what relu takes in is all that lies between input and result.
    assert stored_bytes(f, *args) < 1.5 * large
    check(f, *args)


def test_what_others_must_store_anyway_is_read() -> None:
    """The square of a stored value is not stored beside it."""

    def f(x: Any, w: Any) -> Any:
        y = fnp.sin(x)
        return y, (y * y).T @ w

    def products(x: Any, w: Any) -> Any:
        y = fnp.sin(x @ w)
        return y @ w.T, fnp.sum(fnp.exp(x) @ w * (y * y))

    check(f, X, array(32, 4))
    check(products, X, W1)


def test_dear_values_are_stored() -> None:
    """lgamma costs more than a store and a load."""

    def f(x: Any, w: Any) -> Any:
        y = fd.lax.lgamma(x @ w)
        return (y @ w.T).sum(axis=0), (fnp.exp(x) @ w + y).sum(axis=0)

    assert recomputed(f, X, W1) == 0
    check(f, X, W1)


def test_indices_from_memory_are_no_place_to_compute_at() -> None:
    def f(x: Any, w: Any, i: Any) -> Any:
        y = fnp.exp(x @ w)
        return y[i] * 2.0, (y @ w.T)

    check(f, X, W1, np.array([3, 1, 1]))


def test_the_groups_say_what_they_compute_again() -> None:
    def loss(w1: Any, w2: Any, x: Any) -> Any:
        return fnp.sum((nn.gelu(x @ w1) @ w2) ** 2)

    text = fd.jit(fd.grad(loss, (0, 1))).lower(W1, W2, X).as_text("groups")
    assert "  computes again " in text


def test_equal_programs_become_equal_kernels() -> None:
    """The table of compiled programs on disk is by their text."""

    def loss(w1: Any, w2: Any, x: Any) -> Any:
        hidden = nn.gelu(x @ w1) * fnp.sin(x @ w1) + nn.silu(x @ w1)
        return fnp.sum((hidden @ w2) ** 2)

    texts = set()
    kept = []  # so that no two programs have variables at the same addresses
    for _ in range(10):
        kept.append(fd.jit(fd.grad(lambda *args: loss(*args), (0, 1))).lower(W1, W2, X))
        kept.append([object() for _ in range(101)])
        texts.add(kept[-2].as_text("kernels"))
    assert len(texts) == 1


def test_what_is_recomputed_stands_before_its_readers() -> None:
    """Values that a group computes again follow from others that it did already."""

    def layer(x: Any, w: Any) -> Any:
        x = fnp.tanh(fnp.matmul(x, w))
        x = fnp.tanh(lax.pad(x, np.float32(1), ((0, 0, 0), (1, 2, 0), (0, 1, 1))))
        return fnp.tanh(x - x.mean((0, 2), keepdims=True) + x.mean(0))

    def loss(x: Any, w: Any) -> Any:
        return (layer(layer(x, w)[:, :, ::2], w) ** 2).sum()

    check(fd.grad(loss, (0, 1)), array(4, 8, 6), array(6, 6))
