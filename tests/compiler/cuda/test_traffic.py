"""What generic fusion makes of the operations that libraries write by hand: kernels and bytes.

The least that a program can move is its inputs, once, and its outputs, once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn

ROWS, WIDTH, CLASSES = 4096, 1024, 50257
X = fd.ShapeDtypeStruct((ROWS, WIDTH), np.float32)
WEIGHT = fd.ShapeDtypeStruct((WIDTH,), np.float32)
LOGITS = fd.ShapeDtypeStruct((2048, CLASSES), np.float32)
LABELS = fd.ShapeDtypeStruct((2048,), np.int32)
IMAGE = fd.ShapeDtypeStruct((32, 56, 56, 64), np.float32)


def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    centred = x - x.mean(1, keepdims=True)
    variance = (centred * centred).mean(1, keepdims=True)
    return centred * lax.rsqrt(variance + 1e-5) * scale + shift


def rms_norm(x: Any, scale: Any) -> Any:
    return x * lax.rsqrt((x * x).mean(1, keepdims=True) + 1e-5) * scale


def softmax_gradient(y: Any, cotangent: Any) -> Any:
    return y * (cotangent - (cotangent * y).sum(1, keepdims=True))


def adam(parameter: Any, mean: Any, square: Any, gradient: Any) -> Any:
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient * gradient
    return parameter - 1e-3 * mean / (fnp.sqrt(square) + 1e-8), mean, square


def cross_entropy(logits: Any, labels: Any) -> Any:
    def loss(x: Any) -> Any:
        return nn.losses.softmax_cross_entropy_with_integer_labels(x, labels).mean()

    return fd.value_and_grad(loss)(logits)


def gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda cotangent, *args: fd.vjp(function, *args)[1](cotangent)


def max_pool(x: Any) -> Any:
    return lax.reduce_window(x, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


# The program, its arguments, how many kernels it is, and its bytes as a multiple of the least.
PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], int, float]] = {
    "softmax": (lambda x: nn.softmax(x, axis=-1), (X,), 1, 1.0),
    "log_softmax": (lambda x: nn.log_softmax(x, axis=-1), (X,), 1, 1.0),
    "softmax_gradient": (softmax_gradient, (X, X), 1, 1.0),
    "layer_norm": (layer_norm, (X, WEIGHT, WEIGHT), 1, 1.0),
    "rms_norm": (rms_norm, (X, WEIGHT), 1, 1.0),
    "adam": (adam, (X, X, X, X), 1, 1.0),
    "max_pool": (max_pool, (IMAGE,), 1, 1.0),
    # With the sum of all losses.
    "cross_entropy": (cross_entropy, (LOGITS, LABELS), 2, 1.0001),
    # With the sums of programs, written and read.
    "layer_norm_gradient": (gradient(layer_norm), (X, X, WEIGHT, WEIGHT), 3, 1.09),
    "rms_norm_gradient": (gradient(rms_norm), (X, X, WEIGHT), 2, 1.05),
}


def nbytes(x: Any) -> int:
    return math.prod(x.shape) * np.dtype(x.dtype).itemsize


@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_move_little_more_than_they_must(name: str) -> None:
    function, args, kernels, most = PROGRAMS[name]
    with fd.config.override(backend="gpu"):
        lowered = fd.jit(function).lower(*args)
    outs = fd.tree.leaves(fd.eval_shape(function, *args))
    least = sum(map(nbytes, (*args, *outs)))
    cost: Any = lowered.cost_analysis()
    assert cost["bytes accessed"] <= most * least
    assert sum(kernel["calls"] for kernel in cost["kernels"]) == kernels


@pytest.mark.parametrize("name", ["softmax", "layer_norm", "rms_norm", "softmax_gradient"])
def test_rows_stay_in_one_block(name: str) -> None:
    function, args, _, _ = PROGRAMS[name]
    with fd.config.override(backend="gpu"):
        schedule = fd.jit(function).lower(*args).as_text("schedule")
    assert "i:grid j:vector(1024)" in schedule and "tile" not in schedule


def test_weights_of_attention_never_reach_memory() -> None:
    shape = fd.ShapeDtypeStruct((2, 2048, 12, 64), np.float32)

    def loss(q: Any, k: Any, v: Any) -> Any:
        return fnp.sum(nn.dot_product_attention(q, k, v, is_causal=True))

    with fd.config.override(backend="gpu"):
        lowered = fd.jit(fd.grad(loss, argnums=(0, 1, 2))).lower(shape, shape, shape)
    text = lowered.as_text("kernels")
    names = ("attention_forward", "attention_query_gradient", "attention_key_gradient")
    assert all(f"library {name}" in text for name in names)
    (arena,) = re.findall(r"arena +(\d+) bytes", lowered.as_text("memory"))
    assert int(arena) < 4 * nbytes(shape) < 2 * 12 * 2048**2 * 4


def test_gradients_of_weights_are_summed_in_parts() -> None:
    x, w = (fd.ShapeDtypeStruct(shape, np.float32) for shape in ((16384, 128), (128, 128)))
    with fd.config.override(backend="gpu"):
        lowered = fd.jit(fd.grad(lambda w, x: fnp.sum((x @ w) ** 2))).lower(w, x)
    assert "part:grid" in lowered.as_text("schedule")
