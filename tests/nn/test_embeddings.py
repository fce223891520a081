"""Embeddings, dropout, and encodings of positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn, random
from funcdl.errors import ArgumentError, DtypeError, ShapeError, TreeError
from funcdl.test_util import check_grads

KEY = random.key(0)
RNG = np.random.default_rng(0)
layers: Any = nn  # whose types do not matter here


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_embeddings(dtype: str) -> None:
    params = nn.embedding_init(KEY, 50, 40, dtype=dtype)
    w = np.asarray(params["w"], np.float64)
    np.testing.assert_allclose(w.var(), 1 / 40, rtol=0.1)
    codes = RNG.integers(-50, 50, (3, 4))
    for f in (nn.embedding_apply, fd.jit(nn.embedding_apply)):
        out = f(params, codes)
        assert out.dtype.name == dtype
        np.testing.assert_array_equal(np.asarray(out, np.float64), w[codes])
        assert np.isnan(np.asarray(f(params, np.array([50, -51])), np.float64)).all()
    assert nn.embedding_apply(params, np.zeros((0, 2), np.int32)).shape == (0, 2, 40)
    logits = nn.embedding_attend(params, out)
    assert (logits.dtype.name, logits.shape) == (dtype, (3, 4, 50))
    wide = np.asarray(out, np.float64) @ w.T
    np.testing.assert_allclose(np.asarray(logits, np.float64), wide, rtol=2e-2, atol=2e-2)


def test_gradient_of_a_tied_embedding() -> None:
    params = nn.embedding_init(KEY, 5, 3, dtype="float64")
    codes = np.array([[1, 1], [4, 0]])

    def loss(params: Any) -> Any:
        return (nn.embedding_attend(params, nn.embedding_apply(params, codes)) ** 2).sum()

    check_grads(loss, (params,), order=2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(rate: float, dtype: str) -> None:
    x = fnp.full((100, 101), 2.0, dtype)
    out = nn.dropout(KEY, x, rate)
    assert (out.dtype.name, out.shape) == (dtype, x.shape)
    values = np.asarray(out, np.float64)
    np.testing.assert_allclose(values[values != 0], 2 / (1 - rate), rtol=1e-2)
    spread = np.sqrt(rate * (1 - rate) / values.size)
    assert abs((values == 0).mean() - rate) < 5 * spread
    jitted = fd.jit(nn.dropout, static_argnums=2)(KEY, x, rate)
    np.testing.assert_array_equal(np.asarray(jitted, np.float64), values)
    assert (np.asarray(nn.dropout(random.key(1), x, rate), np.float64) != values).any()


def test_dropout_of_whole_channels() -> None:
    x = fnp.ones((4, 5, 6, 20))
    kept = np.asarray(nn.dropout(KEY, x, 0.5, shared_axes=(1, -2))) != 0
    assert (kept == kept[:, :1, :1]).all()
    assert 0 < kept.mean() < 1


def test_dropout_of_nothing_and_of_all() -> None:
    x = fnp.asarray(RNG.normal(size=(3, 4)), "float32")
    assert nn.dropout(None, x, 0.5, train=False) is x
    assert nn.dropout(None, x, 0) is x
    assert not np.asarray(nn.dropout(None, x, 1)).any()
    assert nn.dropout(KEY, x[:0], 0.5).shape == (0, 4)
    assert nn.dropout(KEY, np.ones(3, np.int32), 0.5).dtype.name == "float32"


def test_the_gradient_of_dropout_is_dropped_too() -> None:
    x = fnp.asarray(RNG.normal(size=(30, 4)), "float32")
    slope = fd.grad(lambda x: nn.dropout(KEY, x, 0.25).sum())(x)
    expected = np.where(nn.dropout(KEY, x, 0.25) != 0, np.float32(1 / 0.75), 0)
    np.testing.assert_array_equal(slope, expected)
    each = fd.vmap(lambda k: nn.dropout(k, x, 0.25))(random.split(KEY, 2))
    expected = np.stack([nn.dropout(k, x, 0.25) for k in random.split(KEY, 2)])
    np.testing.assert_array_equal(each, expected)


@pytest.mark.parametrize("features", [0, 1, 6, 7])
def test_sinusoidal_positions(features: int) -> None:
    table = np.asarray(nn.sinusoidal_positions(30, features, base=100.0))
    assert table.shape == (30, features)
    assert table.dtype == np.float32
    for p in range(30):
        for i in range(features):
            angle = p / 100 ** ((i - i % 2) / features)
            wanted = np.cos(angle) if i % 2 else np.sin(angle)
            np.testing.assert_allclose(table[p, i], wanted, atol=1e-6)
    assert nn.sinusoidal_positions(3, 4, dtype="bfloat16").dtype.name == "bfloat16"


def turned(x: Any, positions: Any, interleaved: bool) -> Any:
    """By complex numbers, in float64."""
    x = np.asarray(x, np.float64)
    size = x.shape[-1]
    a, b = (x[..., ::2], x[..., 1::2]) if interleaved else np.split(x, 2, axis=-1)
    angles = np.asarray(positions)[..., None, None] * 10_000.0 ** (-np.arange(size // 2) * 2 / size)
    z = (a + 1j * b) * np.exp(1j * angles)
    if interleaved:
        return np.stack([z.real, z.imag], axis=-1).reshape(x.shape)
    return np.concatenate([z.real, z.imag], axis=-1)


@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "interleaved"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_rotary_embedding(dtype: str, interleaved: bool) -> None:
    x = fnp.asarray(RNG.normal(size=(2, 7, 3, 8)), dtype)
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-12}[dtype]
    for positions in (None, np.arange(7) + 20, RNG.integers(0, 90, (2, 7))):
        out = nn.rotary_embedding(x, positions, interleaved=interleaved)
        assert out.dtype.name == dtype
        expected = turned(x, np.arange(7) if positions is None else positions, interleaved)
        found = np.asarray(out, np.float64)
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_rotated_products_depend_on_differences_only() -> None:
    q, k = RNG.normal(size=(2, 1, 1, 16))
    products = [
        (nn.rotary_embedding(q, np.array([a])) * nn.rotary_embedding(k, np.array([a + 3]))).sum()
        for a in (0, 5, 11)
    ]
    np.testing.assert_allclose(products, products[0], rtol=1e-10)
    check_grads(lambda x: nn.rotary_embedding(x), (q[None],), order=2)


X = np.zeros((2, 3, 4), np.float32)
W = nn.embedding_init(KEY, 5, 4)
MISTAKES: list[tuple[Any, type[Exception], str]] = [
    (lambda: layers.embedding_apply([], X), TreeError, "with 'w', as embedding_init .* got a list"),
    (lambda: layers.embedding_apply(W, X), DtypeError, r"must be integers, got f32\[2,3,4\]"),
    (lambda: layers.embedding_init(KEY, 5, -1), ShapeError, "no negative sizes"),
    (lambda: layers.embedding_attend(W, X[..., 1:]), ShapeError, "embedding_attend"),
    (lambda: layers.dropout(KEY, X, 1.5), ArgumentError, r"dropout: rate must be .*\[0, 1\].* 1.5"),
    (lambda: layers.dropout(KEY, X, fnp.ones(())), ArgumentError, "a static argument of jit"),
    (lambda: layers.dropout(None, X, 0.5), ArgumentError, "rate=0.5 needs a random key"),
    (lambda: layers.dropout(KEY, X, 0.5, train=[]), ArgumentError, "train must be True or False"),
    (lambda: layers.dropout(KEY, X, 0.5, shared_axes=3), ArgumentError, "axis"),
    (lambda: layers.sinusoidal_positions(-1, 2), ShapeError, "no negative sizes"),
    (lambda: layers.sinusoidal_positions(1, 2, base=0), ArgumentError, "a positive Python number"),
    (lambda: layers.rotary_embedding(X[..., :3]), ShapeError, "an even size"),
    (lambda: layers.rotary_embedding(X[0]), ShapeError, r"\(..., length, heads, size\)"),
    (lambda: layers.rotary_embedding(X, np.arange(5)), ShapeError, r"broadcast to \(2,\), one"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
