"""Hand-written kernels on a GPU, as they run under compute-sanitizer (see `tests.gpu.sanitize`).

Sizes are small and odd: the tools slow a kernel down a hundred times, and edges are where accesses
go wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn

pytestmark = [pytest.mark.gpu, pytest.mark.compute_sanitizer]


def attention(q: Any, k: Any, v: Any) -> Any:
    return nn.dot_product_attention(q, k, v, is_causal=True)


def attention_gradient(q: Any, k: Any, v: Any) -> Any:
    return fd.grad(lambda *xs: fnp.sum(attention(*xs) ** 2), argnums=(0, 1, 2))(q, k, v)


def extra_attention(q: Any, k: Any, v: Any, bias: Any) -> Any:
    lengths = fnp.array([LENGTH, 70], fnp.int32)
    options: Any = {"local_window_size": (9, 4), "key_value_seq_lengths": lengths}
    return nn.dot_product_attention(q, k, v, bias, bias[:, :1] > -1, **options)


def extra_attention_gradient(q: Any, k: Any, v: Any, bias: Any) -> Any:
    def loss(*xs: Any) -> Any:
        return fnp.sum(extra_attention(*xs, bias) ** 2)

    return fd.grad(loss, argnums=(0, 1, 2))(q, k, v)


def hidden_attention(q: Any, k: Any, v: Any, bias: Any) -> Any:
    """The bias hides the first keys, all that the first queries see."""
    bias = fnp.where(fnp.arange(LENGTH) < 70, -fnp.inf, bias)
    return nn.dot_product_attention(q, k, v, bias, is_causal=True)


def hidden_attention_gradient(q: Any, k: Any, v: Any, bias: Any) -> Any:
    def loss(*xs: Any) -> Any:
        return fnp.sum(hidden_attention(*xs, bias) ** 2)

    return fd.grad(loss, argnums=(0, 1, 2))(q, k, v)


def dropped_attention(q: Any, k: Any, v: Any) -> Any:
    """By the keys of heads: the bits must be those of the CPU."""
    options: Any = {"dropout_rate": 0.3, "dropout_rng": fd.random.key(2)}
    return nn.dot_product_attention(q, k, v, is_causal=True, **options)


def dropped_attention_gradient(q: Any, k: Any, v: Any) -> Any:
    return fd.grad(lambda *xs: fnp.sum(dropped_attention(*xs) ** 2), argnums=(0, 1, 2))(q, k, v)


def rows(x: Any) -> Any:
    return nn.softmax(x), nn.log_softmax(x), nn.standardize(x)


def rows_gradient(x: Any) -> Any:
    return fd.grad(lambda x: fnp.sum(nn.log_softmax(x)[:, 0] * fnp.sum(nn.standardize(x), 1)))(x)


def norm_gradient(x: Any, scale: Any, shift: Any) -> Any:
    """Of the weights, too: sums of columns beside those of rows."""

    def loss(x: Any, scale: Any, shift: Any) -> Any:
        return fnp.sum(fnp.tanh(nn.standardize(x) * scale + shift))

    return fd.grad(loss, argnums=(0, 1, 2))(x, scale, shift)


def running(x: Any) -> Any:
    return fnp.cumsum(x, 1), fnp.cumprod(x, 0), fnp.sort(x, 1), fnp.argsort(-x, 0)


def product(x: Any) -> Any:
    return fnp.tanh(x @ x.T + 1), x.T @ x


def scatter(x: Any) -> Any:
    return x.at[fnp.array([3, 0, 3, 11])].add(2.0)


RNG = np.random.default_rng(0)
# Shorter sequences are composed of products and a softmax.
LENGTH = 133
HEADS = [RNG.normal(size=(2, LENGTH, 4, 24)).astype(np.float32) for _ in range(3)]
ROWS = [RNG.normal(size=(13, 5001)).astype(np.float32)]
FEW = [RNG.normal(size=(13, 37)).astype(np.float32)]
BIAS = [RNG.normal(size=(2, 4, LENGTH, LENGTH)).astype(np.float32)]
WEIGHTS = [RNG.normal(size=37).astype(np.float32) for _ in range(2)]
LONG = [RNG.normal(size=(2, 20_011)).astype(np.float32)]

CASES: dict[str, tuple[Any, list[np.ndarray[Any, Any]]]] = {
    "attention": (attention, HEADS),
    "attention_gradient": (attention_gradient, HEADS),
    "extra_attention": (extra_attention, HEADS + BIAS),
    "extra_attention_gradient": (extra_attention_gradient, HEADS + BIAS),
    "hidden_attention": (hidden_attention, HEADS + BIAS),
    "hidden_attention_gradient": (hidden_attention_gradient, HEADS + BIAS),
    "dropped_attention": (dropped_attention, HEADS),
    "dropped_attention_gradient": (dropped_attention_gradient, HEADS),
    "norm_gradient": (norm_gradient, FEW + WEIGHTS),
    "rows": (rows, FEW),
    "long_rows": (rows, ROWS),
    "rows_gradient": (rows_gradient, FEW),
    "running": (running, FEW),
    "long_running": (lambda x: fnp.cumsum(x, 1), ROWS),
    "long_sort": (lambda x: (fnp.sort(x, 1), fnp.argsort(x, 1)), LONG),
    "product": (product, FEW),
    "long_product": (lambda x: x @ x.T, ROWS),
    "scatter": (scatter, FEW),
}


@pytest.mark.parametrize("name", CASES)
def test_kernel_computes_what_the_cpu_does(name: str) -> None:
    function, arrays = CASES[name]
    wanted = fd.jit(function)(*arrays)
    found = fd.jit(function)(*(fd.device_put(x, "gpu") for x in arrays))
    for x, y in zip(fd.tree.leaves(found), fd.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), 2e-3, 2e-3)
