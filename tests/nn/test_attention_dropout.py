"""Dropout in attention: which weights are dropped, by every way there is, and all derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.attention_cases import words

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn
from funcdl.config import config
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.nn import attention as module

B, T, S, N, K, H = 2, 37, 45, 4, 2, 5
RATE, KEY = 0.3, fd.random.key(7)
RNG = np.random.default_rng(1)
ALL: dict[str, Any] = {
    "bias": RNG.normal(size=(1, N, T, S)),
    # Some queries see no key at all.
    "mask": (RNG.random((B, 1, T, S)) < 0.6) & (np.arange(T) % 7 != 0)[:, None],
    "is_causal": True,
    "query_seq_lengths": np.array([20, T], np.int32),
    "key_value_seq_lengths": np.array([S, 33], np.int32),
}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "all": ALL,
    "window": {"local_window_size": (9, 2)},
}


@pytest.fixture(autouse=True)
def on_the_cpu() -> Iterator[None]:
    with config.override(backend="cpu"):
        yield


@contextmanager
def blockwise(yes: bool = True) -> Iterator[None]:
    """Attention of any length block by block, or none."""
    before = module.BLOCKWISE_FROM
    module.BLOCKWISE_FROM = 1 if yes else 10**12
    try:
        yield
    finally:
        module.BLOCKWISE_FROM = before


def operands(dtype: str = "float64", seed: int = 0) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    shapes = [(B, T, N, H), (B, S, K, H), (B, S, K, H)]
    return tuple(fnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)


def attend(*xs: Any, rate: float = RATE, key: Any = KEY, **options: Any) -> Any:
    return nn.dot_product_attention(*xs, dropout_rate=rate, dropout_rng=key, **options)


def kept(rows: int, columns: int, batch: int, heads: int, rate: float, key: Any) -> Any:
    """What the page on attention says: the random words of the keys that `split` makes."""
    keys = np.asarray(fd.random.key_data(fd.random.split(key, (batch, heads))))
    return words(keys, rows, columns) >= rate * 2**32


def shown(rows: int, columns: int, heads: int = 2, rate: float = RATE, key: Any = KEY) -> Any:
    """The weights of two sequences whose keys are all alike, times the number of keys."""
    query, zero = fnp.zeros((2, rows, heads, columns)), fnp.zeros((2, columns, 1, columns))
    value = zero + fnp.eye(columns)[:, None]
    out = attend(query, zero, value, rate=rate, key=key)
    return out.swapaxes(1, 2) * columns


WAYS: dict[str, Callable[..., Any]] = {"eager": lambda f: f, "jit": fd.jit}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(37, 45), (1, 1), (70, 201)])
def test_weights_dropped_are_the_documented_ones(
    way: str, blocks: bool, rows: int, columns: int
) -> None:
    with blockwise(blocks):
        found = WAYS[way](lambda key: shown(rows, columns, key=key))(KEY)
    wanted = kept(rows, columns, 2, 2, RATE, KEY)
    np.testing.assert_array_equal(np.asarray(found) != 0, wanted)
    np.testing.assert_allclose(found, wanted / (1 - RATE), rtol=1e-6)


@settings(max_examples=10, deadline=None)
@given(rate=st.floats(0.1, 0.9), seed=st.integers(0, 2**31))
def test_share_that_is_kept(rate: float, seed: int) -> None:
    weights = kept(64, 64, 4, 4, rate, fd.random.key(seed)).astype(float)
    deviation = np.sqrt(rate * (1 - rate) / weights.size)
    assert abs(weights.mean() - (1 - rate)) < 6 * deviation
    # Neighbouring rows, columns, heads and batch members have nothing to do with each other.
    centred = weights - (1 - rate)
    for axis in range(4):
        after = np.roll(centred, 1, axis)
        assert abs((centred * after).mean()) < 6 * rate * (1 - rate) / np.sqrt(weights.size)


def test_result_has_the_mean_of_attention_without_dropout() -> None:
    q, k, v = (x[:1] for x in operands("float32"))
    keys = fd.random.split(fd.random.key(0), 3000)
    with blockwise():
        some = fd.jit(fd.vmap(lambda key: attend(q, k, v, key=key)))(keys)
    wanted = nn.dot_product_attention(q, k, v)
    deviation = np.asarray(some).std(0) / np.sqrt(len(keys))
    assert (np.abs(np.asarray(some).mean(0) - wanted) < 6 * deviation).all()


@pytest.mark.parametrize("blocks", [False, True])
def test_rate_of_zero_changes_no_bit(blocks: bool) -> None:
    xs = operands("float32")
    with blockwise(blocks):
        plain = fd.jit(lambda *ys: nn.dot_product_attention(*ys, is_causal=True))(*xs)
        for key in (None, KEY):
            found = fd.jit(lambda *ys, key=key: attend(*ys, rate=0, key=key, is_causal=True))(*xs)
            assert np.asarray(found).tobytes() == np.asarray(plain).tobytes()


def materialised(q: Any, k: Any, v: Any, **options: Any) -> Any:
    """Attention whose weights are multiplied by what dropout makes of ones."""
    scale = kept(T, S, B, N, RATE, KEY) / (1 - RATE)
    k, v = (fnp.repeat(x, N // K, 2) for x in (k, v))
    logits = fnp.einsum("btnh,bsnh->bnts", q, k) / np.sqrt(H) + options.get("bias", 0.0)
    here, there = np.arange(T)[:, None], np.arange(S)
    left, right = options.get("local_window_size", (T + S, T + S))
    seen = options.get("mask", True) & (there >= here - left) & (there <= here + right)
    counted = np.full((B, 1, T, 1), True)
    if options.get("is_causal"):
        queries, keys = (options[f"{x}_seq_lengths"] for x in ("query", "key_value"))
        counted = here < queries[:, None, None, None]
        seen = seen & (there <= here) & counted & (there < keys[:, None, None, None])
    hidden = -0.7 * float(np.finfo(np.float32).max)
    weights = nn.softmax(fnp.where(seen, logits, hidden), axis=-1) * scale
    return fnp.where(counted, fnp.einsum("bnts,bsnh->bnth", weights, v), 0).swapaxes(1, 2)


def square(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *xs: (f(*xs) ** 2).sum()


DERIVATIVES: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "gradient": lambda f: fd.value_and_grad(square(f), (0, 1, 2)),
    "jvp": lambda f: lambda *xs: fd.jvp(f, xs, operands(seed=1)),
    "forward_over_reverse": lambda f: (
        lambda *xs: fd.jvp(fd.grad(square(f), (0, 1, 2)), xs, operands(seed=1))[1]
    ),
    "reverse_over_reverse": lambda f: fd.grad(
        lambda *xs: sum((x**2).sum() for x in fd.grad(square(f), (0, 2))(*xs)), (0, 1, 2)
    ),
}


def assert_near(found: Any, wanted: Any, tolerance: float = 1e-12) -> None:
    for x, y in zip(*map(fd.tree.leaves, (found, wanted)), strict=True):
        x, y = (np.asarray(z).astype(np.float64) for z in (x, y))
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * max(np.abs(y).max(), 1))


QUICK = [("gradient", "all", True), ("reverse_over_reverse", "all", True)]
EVERY = [(x, y, z) for x in DERIVATIVES for y in CASES for z in (False, True)]


@pytest.mark.parametrize(
    ("kind", "name", "blocks"),
    [row if row in QUICK else pytest.param(*row, marks=pytest.mark.slow) for row in EVERY],
)
def test_derivatives_are_those_with_the_dropped_weights_in_memory(
    kind: str, name: str, blocks: bool
) -> None:
    options, derive = CASES[name], DERIVATIVES[kind]
    wanted = derive(lambda *xs: materialised(*xs, **options))(*operands())
    with blockwise(blocks):
        function = derive(lambda *xs: attend(*xs, **options))
        assert_near(function(*operands()), wanted)
        if kind == "gradient" or name == "all":
            assert_near(fd.jit(function)(*operands()), wanted)


def test_gradient_by_a_bias() -> None:
    xs = operands()
    options = {name: x for name, x in ALL.items() if name != "bias"}
    bias = fnp.asarray(ALL["bias"])
    wanted = fd.grad(lambda b: (materialised(*xs, bias=b, **options) ** 2).sum())(bias)
    with blockwise():
        found = fd.grad(lambda b: (attend(*xs, bias=b, **options) ** 2).sum())(bias)
    assert_near(found, wanted)


@pytest.mark.parametrize("dtype", [pytest.param("float16", marks=pytest.mark.slow), "bfloat16"])
def test_half_types(dtype: str) -> None:
    xs = operands(dtype)
    wide = [x.astype("float64") for x in xs]
    wanted = DERIVATIVES["gradient"](materialised)(*wide)[1]
    for blocks in (False, True):
        with blockwise(blocks):
            found = fd.jit(DERIVATIVES["gradient"](attend))(*xs)[1]
        assert all(x.dtype == xs[0].dtype for x in found)
        for x, y in zip(found, wanted, strict=True):
            scale = float(np.abs(np.asarray(y)).max())
            assert_near(x / scale, y / scale, 4e-3 if dtype == "float16" else 4e-2)


@pytest.mark.parametrize("blocks", [pytest.param(False, marks=pytest.mark.slow), True])
def test_vmap(blocks: bool) -> None:
    q, k, v = operands()
    keys = fd.random.split(KEY, 3)
    queries = fnp.stack([q, -q, 2 * q])

    def one(q: Any, key: Any) -> Any:
        return fd.value_and_grad(square(lambda *xs: attend(*xs, key=key, is_causal=True)))(q, k, v)

    with blockwise(blocks):
        for axes in ((None, 0), (0, None), (0, 0)):
            given = (q if axes[0] is None else queries, KEY if axes[1] is None else keys)
            found = fd.jit(fd.vmap(one, in_axes=axes))(*given)
            for i in range(3):
                own = [x if axis is None else x[i] for x, axis in zip(given, axes, strict=True)]
                assert_near(fd.tree.map(lambda x, i=i: x[i], found), one(*own))
        different = fd.vmap(lambda key: attend(q, k, v, key=key))(keys)
    assert not np.allclose(different[0], different[1])


def test_keys_typed_or_raw_and_without_a_batch() -> None:
    q, k, v = operands()
    raw = attend(q, k, v, key=fd.random.key_data(KEY))
    np.testing.assert_array_equal(raw, attend(q, k, v))
    np.testing.assert_array_equal(attend(q[0], k[0], v[0]), attend(q[:1], k[:1], v[:1])[0])


def test_bits_do_not_depend_on_threads() -> None:
    function = DERIVATIVES["gradient"](lambda *xs: attend(*xs, **ALL))
    results = []
    with blockwise():
        for threads in (1, 2, 4):
            with config.override(num_threads=threads):
                # A function of its own for each, so that none is found in memory.
                outs = fd.jit(lambda *xs: function(*xs))(*operands())
            results.append([np.asarray(x).tobytes() for x in fd.tree.leaves(outs)])
    assert results[0] == results[1] == results[2]


def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    def temporaries(length: int) -> int:
        x = fnp.zeros((1, length, 2, 16))
        function = fd.grad(square(lambda q, k, v: attend(q, k, v, is_causal=True)), (0, 1, 2))
        analysis = fd.jit(function).lower(x, x, x).compile().memory_analysis()
        assert analysis is not None
        return int(analysis.temp_size_in_bytes)

    sizes = [temporaries(length) for length in (1024, 2048)]
    assert sizes[1] < 2.1 * sizes[0]


EMPTY = [(0, 3, 4, 2, 5), (2, 0, 4, 2, 5), (2, 3, 0, 2, 5), (2, 3, 4, 2, 0)]


@pytest.mark.parametrize("shape", EMPTY)
def test_no_elements(shape: tuple[int, ...]) -> None:
    batch, length, positions, heads, size = shape
    q, k = fnp.ones((batch, length, heads, size)), fnp.ones((batch, positions, heads, size))
    for blocks in (False, True):
        with blockwise(blocks):
            found = fd.jit(lambda q, k: attend(q, k, k))(q, k)
            np.testing.assert_array_equal(found, fnp.zeros(q.shape))


def test_residual_knows_nothing_of_dropout() -> None:
    xs = operands()
    plain = nn.dot_product_attention(*xs, return_residual=True)[1]
    for blocks in (False, True):
        with blockwise(blocks):
            assert_near(attend(*xs, return_residual=True)[1], plain)


X = fnp.ones((1, 4, 2, 3))
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    *(
        (
            lambda rate=rate: attend(X, X, X, rate=rate),
            ArgumentError,
            f"dot_product_attention: dropout_rate must be a Python number in [0, 1), got {rate!r}; "
            "it is a part of the compiled program: make it a static argument of jit",
        )
        for rate in (1, -0.1, float("nan"), "half", True)
    ),
    (
        lambda: fd.jit(lambda rate: attend(X, X, X, rate=rate))(0.5),
        ArgumentError,
        "dropout_rate must be a Python number in [0, 1), got ",
    ),
    (
        lambda: attend(X, X, X, key=None),
        ArgumentError,
        "dot_product_attention: dropout_rate=0.3 needs a random key; pass dropout_rng, such as "
        "funcdl.random.key(0), another one at each step, or leave the rate 0 outside of training",
    ),
    (
        lambda: attend(X, X, X, key=3),
        DtypeError,
        "dot_product_attention: dropout_rng: key must be made by funcdl.random.key(seed), got int: "
        "3",
    ),
    (
        lambda: attend(X, X, X, key=fd.random.split(KEY)),
        ShapeError,
        "dot_product_attention: dropout_rng: one key is needed, got an array of them of shape (2,)",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS)
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
