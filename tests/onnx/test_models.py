"""Whole networks on onnxruntime: the numbers of funcdl, and graphs of the operators one expects."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from tests.onnx.models import compare

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn, random

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape, dtype=np.float32)


def operators(model: Any) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_mlp() -> None:
    params = nn.mlp_init(random.key(0), (5, 7, 3))
    model = compare(lambda params, x: nn.softmax(nn.mlp_apply(params, x)), params, normal(4, 5))
    found = operators(model)
    assert found["MatMul"] == 2
    assert not found["Expand"], "biases broadcast by themselves"
    assert not found["Transpose"]


def test_gradient_step() -> None:
    def loss(params: Any, x: Any, y: Any) -> Any:
        logits = nn.mlp_apply(params, x)
        return nn.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(params: Any, x: Any, y: Any) -> Any:
        value, grads = fd.value_and_grad(loss)(params, x, y)
        return value, fd.tree.map(lambda w, g: w - 0.1 * g, params, grads)

    params = nn.mlp_init(random.key(1), (5, 7, 3))
    compare(step, params, normal(4, 5), np.array([0, 2, 1, 1], np.int32))


def conv(x: Any, kernel: Any, stride: int = 1, groups: int = 1) -> Any:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def batch_norm(x: Any, norm: Any) -> Any:
    return (x - norm["mean"]) * lax.rsqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]


def test_convolutional_network_with_batch_norm() -> None:
    def network(p: Any, images: Any) -> Any:
        x = nn.relu(batch_norm(conv(images, p["in"]), p["norm"]))
        x = nn.relu(conv(x, p["depthwise"], groups=8)) + x
        x = conv(x, p["strided"], stride=2)
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        x = nn.avg_pool(x, (2, 2))
        return x.reshape(x.shape[0], -1) @ p["out"]

    params = {
        "in": normal(3, 3, 2, 8),
        "norm": {name: np.abs(normal(8)) for name in ("mean", "var", "scale", "bias")},
        "depthwise": normal(3, 3, 1, 8),
        "strided": normal(3, 3, 8, 4),
        "out": normal(4, 5),
    }
    found = operators(compare(network, params, normal(3, 9, 11, 2)[:, :8, :8], rtol=1e-4))
    assert (found["Conv"], found["MaxPool"], found["AveragePool"]) == (3, 1, 1)


def test_transposed_convolution() -> None:
    def generator(kernel: Any, x: Any) -> Any:
        return fnp.tanh(lax.conv_transpose(x, kernel, (2, 2), "SAME"))

    found = operators(compare(generator, normal(4, 4, 3, 2), normal(2, 5, 5, 3)))
    assert (found["ConvTranspose"], found["Conv"]) == (1, 0)


def lstm(p: Any, xs: Any, reverse: bool = False) -> Any:
    def cell(state: Any, x: Any) -> Any:
        h, c = state
        i, f, g, o = fnp.split(x @ p["wx"] + h @ p["wh"] + p["b"], 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * fnp.tanh(g)
        h = nn.sigmoid(o) * fnp.tanh(c)
        return (h, c), h

    zeros = fnp.zeros((xs.shape[1], p["wh"].shape[0]))
    return lax.scan(cell, (zeros, zeros), xs, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
def test_lstm(reverse: bool) -> None:
    params = {"wx": normal(3, 16), "wh": normal(4, 16), "b": normal(16)}
    model = compare(lambda p, xs: lstm(p, xs, reverse), params, normal(6, 2, 3))
    assert operators(model)["Scan"] == 1


def test_decoding_loop() -> None:
    """A while loop with a condition on data, an embedding, and updates of a buffer."""

    def decode(table: Any, out: Any, first: Any) -> Any:
        def going(state: Any) -> Any:
            step, token, _ = state
            return (step < 8) & (token != 0)

        def body(state: Any) -> Any:
            step, token, written = state
            token = fnp.argmax(table[token] @ out).astype(np.int32)
            return step + 1, token, written.at[step].set(token)

        return lax.while_loop(going, body, (0, first, fnp.full(8, -1, np.int32)))

    model = compare(decode, normal(5, 4), normal(4, 5), np.int32(3))
    assert operators(model)["Loop"] == 1


def transformer_block(p: Any, x: Any) -> Any:
    batch, length, size = x.shape
    y = nn.standardize(x) * p["norm"]
    q, k, v = fnp.split((y @ p["qkv"]).reshape(batch, length, 2, -1), 3, axis=-1)
    mixed = nn.dot_product_attention(q, k, v, is_causal=True)
    x = x + mixed.reshape(batch, length, size) @ p["proj"]
    return x + nn.gelu(nn.standardize(x) @ p["up"]) @ p["down"]


def transformer_params() -> Any:
    return {
        "norm": normal(6),
        "qkv": normal(6, 18),
        "proj": normal(6, 6),
        "up": normal(6, 24),
        "down": normal(24, 6),
    }


def test_transformer_block() -> None:
    compare(transformer_block, transformer_params(), normal(2, 5, 6), rtol=1e-4, atol=1e-4)


def test_gradient_of_a_transformer_block() -> None:
    def loss(p: Any, x: Any) -> Any:
        return (transformer_block(p, x) ** 2).mean()

    compare(fd.grad(loss), transformer_params(), normal(2, 5, 6), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_transformer_block_in_other_dtypes(dtype: str) -> None:
    def block(p: Any, x: Any) -> Any:
        p, x = fd.tree.map(lambda w: w.astype(dtype), (p, x))
        return transformer_block(p, x).astype(np.float32)

    scale = {"float16": 0.03, "bfloat16": 0.3, "float64": 1e-5}[dtype]
    params = fd.tree.map(lambda w: w * np.float32(0.3), transformer_params())
    with fd.enable_x64(dtype == "float64"):
        compare(block, params, normal(2, 5, 6), rtol=scale, atol=scale)


def test_int8_network() -> None:
    """Bytes stay bytes, and are multiplied as such: the answers are exactly the same."""
    first = RNG.integers(-127, 128, (64, 32), np.int8)
    second = RNG.integers(-127, 128, (32, 10), np.int8)

    def predict(images: Any) -> Any:
        contract = (((1,), (0,)), ((), ()))
        sums = lax.dot_general(images, first, contract, preferred_element_type=np.int32)
        hidden = fnp.round(fnp.clip(sums.astype(np.float32) * 1e-3, 0, 127)).astype(np.int8)
        out = lax.dot_general(hidden, second, contract, preferred_element_type=np.int32)
        return out, fnp.argmax(out, axis=1)

    images = RNG.integers(0, 17, (7, 64), np.int8)
    model = compare(predict, images, rtol=0, atol=0)
    assert operators(model)["MatMulInteger"] == 2
    sizes = {len(x.raw_data) for x in model.graph.initializer}
    assert {first.nbytes, second.nbytes} <= sizes


def test_dropout_draws_the_same_bits() -> None:
    def bits(x: Any) -> Any:
        return fnp.where(random.bits(random.key(3), x.shape) >> 31 == 1, x, 0.0)

    compare(bits, normal(3, 5), rtol=0, atol=0)
