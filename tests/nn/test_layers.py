"""Affine maps and perceptrons beside their formulas and gradients by hand."""

from __future__ import annotations

import numpy as np
import pytest

import funcdl as fd
from funcdl import nn, random
from funcdl.errors import ArgumentError
from funcdl.nn import initializers

KEY = random.key(0)


def test_linear_is_affine() -> None:
    params = nn.linear_init(KEY, 4, 3, b_init=initializers.constant(0.5))
    x = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    expected = x @ np.asarray(params["w"]) + 0.5
    np.testing.assert_allclose(nn.linear_apply(params, x), expected, rtol=1e-5, atol=1e-6)
    without = nn.linear_init(KEY, 4, 3, b_init=None)
    assert set(without) == {"w"}
    np.testing.assert_allclose(
        nn.linear_apply(without, x), x @ np.asarray(without["w"]), rtol=1e-5, atol=1e-6
    )


def test_mlp_shapes_and_dtypes() -> None:
    params = nn.mlp_init(KEY, [6, 5, 4, 3], dtype="float64")
    shapes = fd.tree.map(lambda p: p.shape, params, is_leaf=lambda p: hasattr(p, "shape"))
    assert shapes == [
        {"w": (6, 5), "b": (5,)},
        {"w": (5, 4), "b": (4,)},
        {"w": (4, 3), "b": (3,)},
    ]
    assert {p.dtype for p in fd.tree.leaves(params)} == {np.dtype(np.float64)}
    # Layers of one shape get different numbers.
    first, second = nn.mlp_init(KEY, [3, 3, 3])
    assert (np.asarray(first["w"]) != np.asarray(second["w"])).any()


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
def test_gradient_of_an_mlp_by_hand(jitted: bool) -> None:
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((7, 4)), rng.standard_normal((7, 2))
    params = fd.tree.map(
        lambda p: rng.standard_normal(p.shape), nn.mlp_init(KEY, [4, 5, 3, 2], dtype="float64")
    )

    def loss(params: list[dict[str, np.ndarray]]) -> fd.Array:
        return 0.5 * ((nn.mlp_apply(params, x) - target) ** 2).sum()

    # Backpropagation, layer by layer.
    inputs, hidden = [x], x
    for layer in params[:-1]:
        hidden = np.maximum(hidden @ layer["w"] + layer["b"], 0)
        inputs.append(hidden)
    delta = hidden @ params[-1]["w"] + params[-1]["b"] - target
    expected = []
    for layer, value in zip(reversed(params), reversed(inputs), strict=True):
        expected.insert(0, {"w": value.T @ delta, "b": delta.sum(0)})
        delta = (delta @ layer["w"].T) * (value > 0)

    gradient = fd.grad(loss)
    found = (fd.jit(gradient) if jitted else gradient)(params)
    fd.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), found, expected)


def test_activation_between_layers_only() -> None:
    params = nn.mlp_init(KEY, [3, 3, 3])
    x = np.ones((2, 3), np.float32)
    calls = []
    nn.mlp_apply(params, x, lambda h: calls.append(h.shape) or h)
    assert calls == [(2, 3)]
    single = nn.mlp_init(KEY, [3, 2])
    np.testing.assert_array_equal(nn.mlp_apply(single, x), nn.linear_apply(single[0], x))


def test_layers_under_vmap_agree_with_a_batch() -> None:
    params = nn.mlp_init(KEY, [3, 4, 2])
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    mapped = fd.vmap(nn.mlp_apply, in_axes=(None, 0))(params, x)
    np.testing.assert_allclose(mapped, nn.mlp_apply(params, x), rtol=1e-5, atol=1e-6)


def test_too_few_sizes() -> None:
    with pytest.raises(ArgumentError, match=r"at least the input and the output.*\[64\]"):
        nn.mlp_init(KEY, [64])
