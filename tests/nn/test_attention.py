"""Attention beside its formula, head by head, and beside JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.test_util import check_grads

B, T, S, N, K, H = 2, 5, 7, 4, 2, 3


def operands(groups: int = K, dtype: str = "float32", batch: bool = True) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    shapes = [(B, T, N, H), (B, S, groups, H), (B, S, groups, H)]
    return tuple(
        fnp.asarray(rng.normal(size=shape if batch else shape[1:]), dtype) for shape in shapes
    )


RNG = np.random.default_rng(1)
BIAS = RNG.normal(size=(1, N, T, S)).astype(np.float32)
MASK = RNG.random((B, 1, T, S)) < 0.6
LENGTHS = np.array([3, 5], np.int32)

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "scale": {"scale": 0.3},
    "bias": {"bias": BIAS},
    "bias_of_one_head": {"bias": BIAS[:, :1]},
    "mask": {"mask": MASK},
    "mask_of_every_head": {"mask": RNG.random((1, N, T, S)) < 0.6},
    "causal": {"is_causal": True},
    "lengths_of_queries": {"query_seq_lengths": LENGTHS},
    "lengths_of_keys": {"key_value_seq_lengths": LENGTHS},
    "window": {"local_window_size": 2},
    "window_of_two_sides": {"local_window_size": (2, 1)},
    "window_causal": {"local_window_size": (1, 0), "is_causal": True},
    "all": {
        "bias": BIAS,
        "mask": MASK,
        "scale": 2.0,
        "is_causal": True,
        "query_seq_lengths": LENGTHS,
        "key_value_seq_lengths": LENGTHS,
    },
}


def formula(q: Any, k: Any, v: Any, **options: Any) -> np.ndarray[Any, Any]:
    """One query at a time, in float64."""
    q, k, v = (np.asarray(x).astype(np.float64) for x in (q, k, v))
    out = np.zeros(q.shape)
    group = q.shape[2] // k.shape[2]
    bias = np.broadcast_to(options.get("bias", 0.0), (B, N, T, S))
    mask = np.broadcast_to(options.get("mask", True), (B, N, T, S))
    window = options.get("local_window_size", (T + S, T + S))
    left, right = (window, window) if isinstance(window, int) else window
    queries = options.get("query_seq_lengths", [T] * B)
    keys = options.get("key_value_seq_lengths", [S] * B)
    for b in range(B):
        for t in range(queries[b]):
            for n in range(N):
                logits = k[b, :, n // group] @ q[b, t, n] * options.get("scale", H**-0.5)
                logits = logits + bias[b, n, t]
                for s in range(S):
                    hidden = not mask[b, n, t, s] or s >= keys[b] or not -left <= s - t <= right
                    if hidden or (options.get("is_causal") and s > t):
                        logits[s] = -1e30
                weights = np.exp(logits - logits.max())
                out[b, t, n] = weights @ v[b, :, n // group] / weights.sum()
    return out


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("groups", [1, K, N])
def test_formula(name: str, groups: int) -> None:
    arrays = operands(groups)
    found = nn.dot_product_attention(*arrays, **CASES[name])
    np.testing.assert_allclose(found, formula(*arrays, **CASES[name]), rtol=2e-5, atol=1e-6)


def test_without_batch() -> None:
    single = operands(batch=False)
    found = nn.dot_product_attention(*single, is_causal=True)
    assert found.shape == (T, N, H)
    whole = nn.dot_product_attention(*(x[None] for x in single), is_causal=True)
    np.testing.assert_allclose(found, whole[0], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_are_added_up_in_float32(dtype: str) -> None:
    arrays = operands(dtype=dtype)
    found = nn.dot_product_attention(*arrays)
    assert found.dtype == arrays[0].dtype
    wanted = formula(*arrays)
    np.testing.assert_allclose(np.asarray(found).astype(float), wanted, rtol=0.02, atol=0.01)
    # Products beyond float16's largest number.
    big = fnp.full((1, 2, 1, 3), 200, dtype)
    out = nn.dot_product_attention(big, big, fnp.ones_like(big), scale=1.0)
    np.testing.assert_array_equal(np.asarray(out).astype(float), 1.0)


def test_float64_keeps_its_precision() -> None:
    arrays = operands(dtype="float64")
    np.testing.assert_allclose(
        nn.dot_product_attention(*arrays, is_causal=True),
        formula(*arrays, is_causal=True),
        rtol=1e-12,
    )


def test_heads_without_elements() -> None:
    q, k = fnp.ones((2, 3, 4, 0)), fnp.ones((2, 5, 4, 0))
    assert nn.dot_product_attention(q, k, k).shape == q.shape


def test_residual() -> None:
    q, k, v = operands(N)
    out, residual = nn.dot_product_attention(q, k, v, return_residual=True)
    logits = np.einsum("btnh,bsnh->btns", q, k) / np.sqrt(H)
    np.testing.assert_allclose(residual, np.log(np.exp(logits).sum(-1)), rtol=1e-5)
    np.testing.assert_allclose(out, nn.dot_product_attention(q, k, v), rtol=1e-6)


@pytest.mark.parametrize("name", ["plain", "all", "window"])
def test_derivatives(name: str) -> None:
    arrays = operands(dtype="float64")
    check_grads(
        lambda *xs: nn.dot_product_attention(*xs, **CASES[name]), arrays, order=1, modes=["rev"]
    )


def test_bias_has_a_gradient_and_hidden_keys_none() -> None:
    q, k, v = operands()
    lengths = fnp.asarray(LENGTHS)

    def total(bias: Any, value: Any) -> Any:
        out = nn.dot_product_attention(q, k, value, bias, key_value_seq_lengths=lengths)
        return (out**2).sum()

    by_bias, by_value = fd.grad(total, (0, 1))(fnp.asarray(BIAS), v)
    assert by_bias.shape == BIAS.shape
    assert float(fnp.abs(by_bias).max()) > 0
    assert not np.asarray(by_value)[0, 3:].any()
    assert np.asarray(by_value)[0, :3].all()


def test_jit_and_vmap() -> None:
    q, k, v = operands()

    def attend(q: Any, k: Any, v: Any) -> Any:
        return nn.dot_product_attention(q, k, v, is_causal=True, local_window_size=3)

    wanted = attend(q, k, v)
    np.testing.assert_allclose(fd.jit(attend)(q, k, v), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fd.vmap(attend)(q, k, v), wanted, rtol=1e-5, atol=1e-6)


def call(**changes: Any) -> Callable[[], Any]:
    q, k, v = operands()
    arguments = {"query": q, "key": k, "value": v} | changes
    return lambda: nn.dot_product_attention(**arguments)


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        call(query=fnp.ones((T, H))),
        ShapeError,
        "query must have shape [batch, length, heads, size], or [length, heads, size], got "
        "f32[5,3]",
    ),
    (
        call(value=fnp.ones((B, S, K, H + 1))),
        ShapeError,
        "key and value must have one shape, got f32[2,7,2,3] and f32[2,7,2,4]",
    ),
    (
        call(query=fnp.ones((B, T, N, H + 1))),
        ShapeError,
        "query and key must agree in batch and size, their first and last dimensions, got "
        "f32[2,5,4,4] and f32[2,7,2,3]",
    ),
    (
        call(query=fnp.ones((B, T, 3, H))),
        ShapeError,
        "the heads of query must be a multiple of those of key, got 3 and 2, in f32[2,5,3,3] and "
        "f32[2,7,2,3]",
    ),
    (
        call(key=fnp.ones((B, S, K, H), "float16")),
        DtypeError,
        "query, key and value must have one dtype, got f32[2,5,4,3], f16[2,7,2,3], f32[2,7,2,3]; "
        "convert with astype",
    ),
    (
        call(query=fnp.ones((B, T, N, H), int)),
        DtypeError,
        "query must be floating, got i32[2,5,4,3]",
    ),
    (
        call(mask=fnp.ones((T, S))),
        DtypeError,
        "mask must be bool, got f32[5,7]; write mask != 0, or add a bias",
    ),
    (
        call(bias=fnp.ones((B, K, T, S))),
        ShapeError,
        "bias must broadcast to [batch, heads, queries, keys] = (2, 4, 5, 7), got f32[2,2,5,7]",
    ),
    (
        call(query_seq_lengths=fnp.ones(3, int)),
        ShapeError,
        "query_seq_lengths must be integers of shape (2,), one for each sequence of the batch, got "
        "i32[3]",
    ),
    (
        call(local_window_size=(1, 2, 3)),
        ArgumentError,
        "local_window_size must be None, an integer >= 0 or a pair of them, got (1, 2, 3)",
    ),
    (
        call(implementation="cudnn"),
        ArgumentError,
        "implementation must be None or 'xla', got 'cudnn'",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2][:40] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == f"dot_product_attention: {message}"
