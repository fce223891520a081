"""Named axes: random programs over two of them, against NumPy; and JAX, where it has the rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.transforms.collectives import COLLECTIVES, SIZE, Collective, operand
from tests.transforms.compare import assert_same

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax

Function = Callable[..., Any]

SIZES = {"i": 2, "j": 3}
_NAMES = st.sampled_from(["i", "j"])
_STEP = st.one_of(
    st.tuples(st.sampled_from(["psum", "pmax", "pmean", "index", "shift", "jit"]), _NAMES),
    st.tuples(st.sampled_from(["gather", "scatter", "exchange"]), _NAMES),
)


def apply_step(step: tuple[str, str], x: Any, rest: Function) -> Any:
    """One step on a member's value of shape (6, 6), which it keeps; then the rest."""
    kind, name = step
    size = SIZES[name]
    match kind:
        case "psum":
            x = lax.psum(x, name) / size + x
        case "pmax":
            x = lax.pmax(x, name) - x
        case "pmean":
            x = x - lax.pmean(x, name)
        case "index":
            x = x * (1 + lax.axis_index(name))
        case "shift":
            x = x + lax.ppermute(x, name, [(k, (k + 1) % size) for k in range(size)])
        case "gather":
            x = lax.all_gather(x, name, axis=1)[:, size - 1] + 0.5 * x
        case "scatter":
            x = fnp.tile(lax.psum_scatter(x, name, tiled=True), (size, 1)) / size
        case "exchange":
            x = lax.all_to_all(x, name, 0, 0, tiled=True)
        case "jit":
            return fd.jit(rest)(lax.psum(x, name) - x)
    return rest(x)


def mean_step(step: tuple[str, str], x: Any) -> Any:
    """The same on all members' values, of shape (2, 3, 6, 6)."""
    kind, name = step
    size, axis = SIZES[name], "ij".index(name)
    at = [1] * 4
    at[axis] = size
    match kind:
        case "psum":
            return x.sum(axis, keepdims=True) / size + x
        case "pmax":
            return x.max(axis, keepdims=True) - x
        case "pmean":
            return x - x.mean(axis, keepdims=True)
        case "index":
            return x * (1 + np.arange(size).reshape(at))
        case "shift":
            return x + np.roll(x, 1, axis)
        case "gather":
            return np.take(x, [size - 1], axis) + 0.5 * x
        case "scatter":
            parts = np.split(x.sum(axis), size, axis=1)
            return np.stack([np.tile(p, (1, size, 1)) for p in parts], axis) / size
        case "exchange":
            rows = x.reshape(2, 3, size, 6 // size, 6)
            return np.swapaxes(rows, axis, 2).reshape(x.shape)
        case _:
            return x.sum(axis, keepdims=True) - x


@settings(max_examples=40, deadline=None)
@given(st.lists(_STEP, max_size=5), st.booleans(), st.booleans(), st.integers(0, 9))
def test_random_programs(steps: Any, swapped: bool, jitted: bool, seed: int) -> None:
    x = np.random.default_rng(seed).uniform(-1, 1, (2, 3, 6, 6)).astype(np.float32)

    def member(y: Any, position: int = 0) -> Any:
        if position == len(steps):
            return y
        return apply_step(steps[position], y, lambda z: member(z, position + 1))

    names = ("j", "i") if swapped else ("i", "j")
    axes = (1, 0) if swapped else (0, 0)
    f = fd.vmap(
        fd.vmap(member, in_axes=axes[1], out_axes=0, axis_name=names[1]),
        in_axes=axes[0],
        out_axes=axes[0],
        axis_name=names[0],
    )
    wanted = x.astype(np.float64)
    for step in steps:
        wanted = mean_step(step, wanted)
    assert_same((fd.jit(f) if jitted else f)(x), wanted.astype(np.float32), factor=30)


@pytest.mark.peers
@pytest.mark.parametrize("c", COLLECTIVES, ids=lambda c: c.name)
def test_values_and_gradients_as_in_jax(c: Collective) -> None:
    jax = pytest.importorskip("jax")
    x = operand()

    def run(m: Any, xp: Any) -> list[Any]:
        def member(y: Any) -> Any:
            return c.call(m.lax, y * y, "i")

        def loss(y: Any) -> Any:
            return xp.sin(member(y)).sum()

        def whole(y: Any) -> Any:
            return m.vmap(loss, axis_name="i")(y).sum()

        found = [m.vmap(member, axis_name="i")(x)]
        if c.linear and c.name not in ("all_to_all01", "all_to_all02"):  # as JAX cannot
            found += [m.grad(whole)(x)]
            found += [
                m.vmap(m.grad(loss), axis_name="i")(x),
                m.vmap(lambda y: m.jvp(member, (y,), (y,))[1], axis_name="i")(x),
                m.vmap(m.grad(m.checkpoint(loss)), axis_name="i")(x),
            ]
        return found

    for found, wanted in zip(run(fd, fnp), run(jax, jax.numpy), strict=True):
        np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=2e-5, atol=2e-5)


@pytest.mark.peers
def test_several_names_as_in_jax() -> None:
    jax = pytest.importorskip("jax")
    x = operand(3, 2, SIZE)

    def run(m: Any) -> Any:
        def f(y: Any) -> Any:
            both = m.lax.psum(y * m.lax.axis_index(("i", "j")), ("i", "j"))
            one = m.lax.pmean(y, "i") + m.lax.ppermute(y, "j", [(k, 3 - k) for k in range(4)])
            return (both * one).sum() * m.lax.axis_size("j")

        nested = m.vmap(m.vmap(f, axis_name="j"), axis_name="i")
        member = m.vmap(m.vmap(m.grad(f), axis_name="j"), axis_name="i")
        return nested(x), member(x), m.grad(lambda y: nested(y).sum())(x)

    for found, wanted in zip(run(fd), run(jax), strict=True):
        np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=2e-4, atol=2e-4)
