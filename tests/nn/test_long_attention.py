"""Attention block by block, beside its formula in float64, its composition, and JAX."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn
from funcdl.config import config
from funcdl.nn import attention as module
from funcdl.ops.attention import attention
from funcdl.test_util import check_grads

B, T, S, N, K, H = 2, 101, 130, 4, 2, 20
RNG = np.random.default_rng(1)
BIAS = RNG.normal(size=(1, N, T, S)).astype(np.float32)
MASK = RNG.random((B, 1, T, S)) < 0.6
DEAD = MASK & (np.arange(T) % 7 != 0)[:, None]
QUERIES, KEYS = np.array([57, T], np.int32), np.array([S, 99], np.int32)

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "scale": {"scale": -0.3},
    "bias": {"bias": BIAS},
    "bias_of_keys": {"bias": BIAS[:, :1, :1]},
    "bias_of_queries": {"bias": BIAS[:, :, :, :1]},
    "mask": {"mask": MASK},
    "mask_of_keys": {"mask": MASK[:1, :, :1]},
    "causal": {"is_causal": True},
    "lengths_of_queries": {"query_seq_lengths": QUERIES},
    "lengths_of_keys": {"key_value_seq_lengths": KEYS},
    "window": {"local_window_size": 2},
    "window_of_two_sides": {"local_window_size": (40, 3)},
    "window_causal": {"local_window_size": (5, 9), "is_causal": True},
    "hidden": {"mask": DEAD},
    "hidden_causal": {"mask": DEAD, "is_causal": True},
    "all": {
        "bias": BIAS,
        "mask": MASK,
        "scale": 2.0,
        "is_causal": True,
        "query_seq_lengths": QUERIES,
        "key_value_seq_lengths": KEYS,
    },
}


def some(names: Iterable[str], *quick: str) -> list[Any]:
    """Parameters of a test, of which all but a few are slow: each compiles programs."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "BLOCKWISE_FROM", 1)
    with config.override(backend="cpu"):
        yield


@contextmanager
def composition() -> Iterator[None]:
    """Attention of any length by products and a softmax."""
    before = module.BLOCKWISE_FROM
    module.BLOCKWISE_FROM = 10**12
    try:
        yield
    finally:
        module.BLOCKWISE_FROM = before


def operands(groups: int = K, dtype: str = "float32", seed: int = 0) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    shapes = [(B, T, N, H), (B, S, groups, H), (B, S, groups, H)]
    return tuple(fnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)


def formula(q: Any, k: Any, v: Any, **options: Any) -> tuple[np.ndarray[Any, Any], ...]:
    """The result and the logarithm of the denominators, in float64."""
    q, k, v = (np.asarray(x).astype(np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[2] // x.shape[2], 2) for x in (k, v))
    logits = np.einsum("btnh,bsnh->bnts", q, k) * options.get("scale", H**-0.5)
    logits = logits + options.get("bias", 0.0)
    here, there = np.arange(T)[:, None], np.arange(S)
    window = options.get("local_window_size", (T + S, T + S))
    left, right = (window, window) if isinstance(window, int) else window
    seen = (there >= here - left) & (there <= here + right)
    seen = seen & (there <= here) if options.get("is_causal") else seen
    counted = here < np.asarray(options.get("query_seq_lengths", [T] * B))[:, None, None, None]
    keys = np.asarray(options.get("key_value_seq_lengths", [S] * B))[:, None, None, None]
    seen = seen & options.get("mask", True) & counted & (there < keys)
    logits = np.where(seen, logits, -0.7 * float(np.finfo(np.float32).max))
    largest = logits.max(-1, keepdims=True)
    weights = np.exp(logits - largest)
    total = weights.sum(-1, keepdims=True)
    out = np.where(counted, np.einsum("bnts,bsnh->bnth", weights / total, v), 0)
    residual = (largest + np.log(total))[..., 0]
    return out.transpose(0, 2, 1, 3), residual.transpose(0, 2, 1)


def attend(options: dict[str, Any]) -> Callable[..., Any]:
    return lambda q, k, v: nn.dot_product_attention(q, k, v, **options)


def gradient(options: dict[str, Any]) -> Callable[..., Any]:
    """Of a sum of the results with weights that are not all alike."""

    def total(q: Any, k: Any, v: Any) -> Any:
        out = nn.dot_product_attention(q, k, v, **options)
        weights = np.cos(np.arange(out.size)).reshape(out.shape)
        return (out * fnp.asarray(weights, out.dtype)).sum()

    return fd.grad(total, (0, 1, 2))


def assert_near(found: Any, wanted: Any, tolerance: float) -> None:
    found, wanted = (np.asarray(x).astype(np.float64) for x in (found, wanted))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize(
    "groups", [pytest.param(1, marks=pytest.mark.slow), K, pytest.param(N, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", some(CASES, "hidden", "all"))
def test_formula(name: str, groups: int) -> None:
    arrays = operands(groups)
    residual = CASES[name] | {"return_residual": True}
    found = fd.jit(attend(residual))(*arrays)
    for x, y in zip(found, formula(*arrays, **CASES[name]), strict=True):
        assert_near(x, y, 2e-6)


@pytest.mark.parametrize("scale", [2, 0.25, 1 / np.sqrt(20), np.float16(0.25), np.int8(2), True])
def test_numbers_of_python_and_numpy_are_scales(scale: Any) -> None:
    """And none makes logits wider."""
    arrays = operands()
    jaxpr = fd.make_jaxpr(attend({"scale": scale}))(*arrays)
    assert "attention" in {eqn.primitive.name for eqn in jaxpr.jaxpr.eqns}
    with composition():
        for given in (scale, np.asarray(scale, np.float64)):
            jaxpr = fd.make_jaxpr(attend({"scale": given}))(*arrays)
            assert "f64" not in {str(v.aval)[:3] for e in jaxpr.jaxpr.eqns for v in e.outvars}
            assert_near(attend({"scale": given})(*arrays), formula(*arrays, scale=scale)[0], 2e-6)


@pytest.mark.parametrize("name", some(CASES, "all"))
def test_gradient_is_that_of_the_composition(name: str) -> None:
    found = fd.jit(gradient(CASES[name]))(*operands())
    with composition():
        wanted = gradient(CASES[name])(*(x.astype("float64") for x in operands()))
    for x, y in zip(found, wanted, strict=True):
        assert_near(x, y, 5e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64, 64, 1, 1, 1), (96, 192, 2, 1, 64), (1, 4099, 3, 3, 33)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_edges_of_blocks(shape: tuple[int, ...], dtype: str) -> None:
    length, positions, heads, groups, size = shape
    rng = np.random.default_rng(0)
    query = fnp.asarray(rng.normal(size=(1, length, heads, size)), dtype)
    key, value = (fnp.asarray(rng.normal(size=(1, positions, groups, size)), dtype) for _ in "kv")
    for options in ({}, {"local_window_size": (70, 7)}):
        found = fd.jit(attend(options))(query, key, value)
        pulled = fd.jit(gradient(options))(query, key, value)
        with composition():
            wanted = attend(options)(query, key, value)
            expected = gradient(options)(query, key, value)
        for x, y in zip((found, *pulled), (wanted, *expected), strict=True):
            assert_near(x, y, 1e-5 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("dtype", some(["float16", "bfloat16"], "bfloat16"))
def test_half_types_are_computed_in_float32(dtype: str) -> None:
    arrays = operands(dtype=dtype)
    options = CASES["all"]
    found = fd.jit(attend(options))(*arrays)
    assert found.dtype == arrays[0].dtype
    # One rounding of the result.
    assert_near(found, formula(*arrays, **options)[0], 2e-3 if dtype == "float16" else 8e-3)
    wide = [x.astype("float32") for x in arrays]
    with composition():
        wanted = gradient({})(*wide)
    for x, y in zip(fd.jit(gradient({}))(*arrays), wanted, strict=True):
        assert x.dtype == arrays[0].dtype
        assert_near(x, y, 3e-3 if dtype == "float16" else 2e-2)


def test_infinite_logits() -> None:
    arrays = operands(N)
    bias = np.where(RNG.random((1, N, T, S)) < 0.9, -np.inf, 0.0).astype(np.float32)
    bias[:, :, :, :97] = -np.inf  # the whole first block
    bias[:, :, 5] = -np.inf  # all keys of a query: not a number
    bias[:, :, 7, 3] = np.inf
    bias[:, :, 9] = np.finfo(np.float32).min  # below what hidden keys have
    for options in ({"bias": bias}, {"bias": bias, "is_causal": True}):
        found = fd.jit(attend(options))(*arrays)
        with composition():
            wanted = attend(options)(*arrays)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        assert np.isnan(np.asarray(found)[:, 7]).all()


@pytest.mark.slow
def test_finite_differences() -> None:
    rng = np.random.default_rng(0)
    arrays = [fnp.asarray(rng.normal(size=(1, 64, 2, 3)), "float64") for _ in range(3)]
    function = fd.jit(attend({"is_causal": True}))
    check_grads(function, tuple(arrays), order=1, modes=["rev"])


def small(seed: int = 0) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    return tuple(
        fnp.asarray(rng.normal(size=shape), "float64")
        for shape in [(2, 64, 2, 3), (2, 65, 1, 3), (2, 65, 1, 3)]
    )


SMALL_BIAS = RNG.normal(size=(1, 2, 64, 65))
TRANSFORMS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "jvp": lambda f: lambda *xs: fd.jvp(f, xs, small(1)),
    "linearize": lambda f: lambda *xs: fd.linearize(f, *xs)[1](*small(1)),
    "vjp_of_one": lambda f: lambda *xs: fd.grad(lambda k: (f(xs[0], k, xs[2]) ** 2).sum())(xs[1]),
    "gradient_of_bias": lambda f: (
        lambda q, k, v: fd.grad(lambda bias: (nn.dot_product_attention(q, k, v, bias) ** 2).sum())(
            fnp.asarray(SMALL_BIAS)
        )
    ),
    "hessian_vector": lambda f: (
        lambda *xs: fd.jvp(fd.grad(lambda *ys: (f(*ys) ** 2).sum(), (0, 1, 2)), xs, small(1))[1]
    ),
    "reverse_over_reverse": lambda f: fd.grad(
        lambda *xs: sum(
            (x**2).sum() for x in fd.grad(lambda *ys: (f(*ys) ** 2).sum(), (0, 2))(*xs)
        ),
        (0, 1, 2),
    ),
    "checkpoint": lambda f: fd.grad(lambda *xs: (fd.checkpoint(f)(*xs) ** 2).sum(), (0, 1)),
    "vmap": lambda f: fd.vmap(f, in_axes=(1, 0, 0), out_axes=1),
    "vmap_of_gradient": lambda f: (
        lambda *xs: fd.vmap(
            fd.grad(lambda q, v: (f(q, xs[1], v) ** 2).sum(), (0, 1)), in_axes=(0, None)
        )(fnp.stack([xs[0], -xs[0], 2 * xs[0]]), xs[2])
    ),
    "scan": lambda f: (
        lambda *xs: fd.lax.scan(lambda q, _: (f(q, *xs[1:]), q.sum()), xs[0], None, length=2)
    ),
}


@pytest.mark.parametrize("name", some(TRANSFORMS, "linearize", "vmap_of_gradient"))
@pytest.mark.parametrize("biased", [pytest.param(False, marks=pytest.mark.slow), True])
def test_transforms(name: str, biased: bool) -> None:
    options: dict[str, Any] = {"is_causal": True, "bias": SMALL_BIAS} if biased else {}
    function = TRANSFORMS[name](attend(options))
    xs = small()
    if name == "vmap":
        xs = (fnp.stack([xs[0], 2 * xs[0]], 1), *(fnp.stack([x, -x]) for x in xs[1:]))
    found = fd.jit(function)(*xs)
    eager = function(*xs)
    with composition():
        wanted = TRANSFORMS[name](attend(options))(*xs)
    for x, y, z in zip(*map(fd.tree.leaves, (found, wanted, eager)), strict=True):
        assert_near(x, y, 1e-12)
        assert_near(z, y, 1e-12)


@pytest.mark.slow
def test_vmap_of_lengths_and_biases() -> None:
    q, k, v = operands()
    bias, lengths = fnp.asarray(np.stack([BIAS, -BIAS])), fnp.asarray(np.stack([KEYS, KEYS - 9]))

    def one(bias: Any, lengths: Any, q: Any) -> Any:
        return nn.dot_product_attention(q, k, v, bias, key_value_seq_lengths=lengths)

    found = fd.jit(fd.vmap(one, in_axes=(0, 0, None)))(bias, lengths, q)
    for i in range(2):
        assert_near(found[i], one(bias[i], lengths[i], q), 2e-6)


def test_vmap_of_one_sequence_with_its_length() -> None:
    q, k, v = (x[:1] for x in operands())
    queries = fnp.stack([q, -q, 2 * q])

    def one(q: Any) -> Any:
        return nn.dot_product_attention(q, k, v, key_value_seq_lengths=KEYS[1:])

    found = fd.jit(fd.vmap(one))(queries)
    for x, y in zip(found, queries, strict=True):
        assert_near(x, one(y), 2e-6)


def test_statistics_are_constants() -> None:
    q, k, v = small()
    options = {"scale": 0.5, "before": None, "after": None, "extra_names": (), "dropout_rate": 0.0}
    total = fd.grad(lambda q: attention(q, k, v, **options)[1].sum())(q)
    assert not np.asarray(total).any()


def test_bits_do_not_depend_on_threads() -> None:
    arrays = operands()
    results = []
    for threads in (1, 2, 4):
        with config.override(num_threads=threads):
            outs = fd.jit(lambda *xs: (attend(CASES["all"])(*xs), *gradient({})(*xs)))(*arrays)
            results.append([np.asarray(x).tobytes() for x in outs])
    assert results[0] == results[1] == results[2]


def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    def temporaries(length: int) -> int:
        x = fnp.zeros((1, length, 2, 16))
        compiled = fd.jit(gradient({"is_causal": True})).lower(x, x, x).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return int(analysis.temp_size_in_bytes)

    sizes = [temporaries(length) for length in (1024, 2048, 4096)]
    assert sizes[1] < 2.1 * sizes[0] and sizes[2] < 2.1 * sizes[1]
    with composition():
        assert temporaries(1024) > 4 * sizes[0]


def test_costs_count_products() -> None:
    q, k, v = operands()
    cost = fd.jit(attend({})).lower(q, k, v).cost_analysis()
    assert cost["flops"] >= 4 * B * N * T * S * H


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("name", CASES)
def test_jax(name: str) -> None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax = pytest.importorskip("jax")
    arrays = operands()
    found = fd.jit(attend(CASES[name]))(*arrays)
    wanted = jax.nn.dot_product_attention(*map(np.asarray, arrays), **CASES[name])
    assert_near(found, wanted, 5e-6)
