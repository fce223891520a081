"""Derivatives and vmap of every structural primitive on its own samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tests.ops.structural.test_samples import NAMES, samples

from funcdl.core.array import Array, as_array
from funcdl.ops import registry
from funcdl.transforms.derivatives import jvp, vjp
from funcdl.transforms.vmap import vmap

NDArray = np.ndarray[Any, Any]
DIFFERENTIABLE = [n for n in NAMES if not n.startswith(("arg", "reduce_and", "reduce_or"))]


def bound(name: str, sample: registry.Sample) -> Callable[..., Any]:
    """The primitive as a function of the differentiable operands of a sample."""
    primitive = registry.ops()[name].primitive

    def f(*xs: Any) -> Any:
        args = [as_array(x) for x in sample.args]
        for at, x in zip(sample.grad, xs, strict=True):
            args[at] = x
        return primitive(*args, **sample.params)

    return f


def randoms(xs: Sequence[Any], seed: int) -> list[Array]:
    """Arrays like `xs` of normally distributed numbers."""
    rng = np.random.default_rng(seed)
    return [Array(rng.normal(size=x.shape).astype(x.dtype)) for x in xs]


def numeric_jvp(f: Callable[..., Any], xs: list[Array], ts: list[Array]) -> NDArray:
    """The directional derivative by a central difference of order 4."""
    h = 1e-3

    def at(step: float) -> NDArray:
        moved = [Array(x.value + step * t.value) for x, t in zip(xs, ts, strict=True)]
        return np.asarray(f(*moved).value)

    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def inner(xs: Sequence[Any], ys: Sequence[Any]) -> Any:
    return sum(np.sum(x.value * y.value) for x, y in zip(xs, ys, strict=True))


def check_derivative(f: Callable[..., Any], xs: list[Array], order: int) -> None:
    """Forward mode against a difference, reverse mode against forward mode, to some order."""
    ts = randoms(xs, 1)
    out, tangent = jvp(f, tuple(xs), tuple(ts))
    np.testing.assert_allclose(out.value, f(*xs).value)
    np.testing.assert_allclose(tangent.value, numeric_jvp(f, xs, ts), rtol=1e-6, atol=1e-6)
    out, pull = vjp(f, *xs)
    (ct,) = randoms([out], 2)
    cts = pull(ct)
    assert [c.shape for c in cts] == [x.shape for x in xs]
    np.testing.assert_allclose(inner(cts, ts), inner([ct], [tangent]), rtol=1e-9, atol=1e-9)
    if order > 1:
        check_derivative(lambda *ys: jvp(f, ys, tuple(ts))[1], xs, order - 1)
        for at in range(len(xs)):
            check_derivative(lambda *ys, at=at: vjp(f, *ys)[1](ct)[at], xs, order - 1)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives(name: str) -> None:
    for sample in samples(name, "f64"):
        if sample.grad:
            xs = [as_array(sample.args[at]) for at in sample.grad]
            check_derivative(bound(name, sample), xs, order=2)


@pytest.mark.parametrize("name", NAMES)
def test_vmap_is_a_stack_of_single_calls(name: str) -> None:
    primitive = registry.ops()[name].primitive
    dtype = "f32" if "f32" in registry.ops()[name].dtypes else "i32"
    rng = np.random.default_rng(3)
    for number, sample in enumerate(samples(name, dtype)):
        for choice in range(1, 2 ** len(sample.args)):
            size = 0 if number == 0 else 3
            batches = []
            in_axes: list[int | None] = []
            for at, x in enumerate(sample.args):
                if choice >> at & 1:
                    axis = int(rng.integers(0, x.ndim + 1))
                    # Elements of the batch are permutations of the operand, still valid indices.
                    batch = [rng.permutation(x.ravel()).reshape(x.shape) for _ in range(size)]
                    batches.append(
                        np.stack(batch, axis)
                        if size
                        else np.zeros((*x.shape[:axis], 0, *x.shape[axis:]), x.dtype)
                    )
                    in_axes.append(axis)
                else:
                    batches.append(x)
                    in_axes.append(None)
            params = sample.params

            def call(*args: Any, params: dict[str, Any] = params) -> Any:
                return primitive(*args, **params)

            found = vmap(call, in_axes=tuple(in_axes))(*map(as_array, batches))
            singles = [
                primitive.impl(
                    *(
                        x if axis is None else np.take(x, i, axis)
                        for x, axis in zip(batches, in_axes, strict=True)
                    ),
                    **params,
                )
                for i in range(size)
            ]
            assert found.shape[0] == size
            if size:
                np.testing.assert_allclose(found.value, np.stack(singles), rtol=1e-5, atol=1e-6)
