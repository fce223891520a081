"""Attention reads its operands, and writes its gradients, inside of larger arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn
from funcdl.compiler.cuda.strided import Strided, contiguous

Array = np.ndarray[Any, Any]
BATCH, LENGTH, HEADS, SIZE = 2, 130, 4, 8
WIDTH = HEADS * SIZE


@pytest.fixture
def gpu() -> Iterator[StubGpu]:
    with installed(StubGpu()) as stub:
        yield stub


def attend(q: Any, k: Any, v: Any, **options: Any) -> Any:
    return nn.dot_product_attention(q, k, v, is_causal=True, **options)


def by_number(x: Any, w: Any) -> Any:
    """As GPT-2 is often written."""
    qkv = (x @ w).reshape(BATCH, LENGTH, 3, HEADS, SIZE)
    return attend(*(qkv[:, :, i] for i in range(3)))


def by_columns(x: Any, w: Any) -> Any:
    parts = fnp.split(x @ w, 3, axis=-1)
    return attend(*(part.reshape(BATCH, LENGTH, HEADS, SIZE) for part in parts))


def inside_of_heads(x: Any, w: Any) -> Any:
    parts = fnp.split((x @ w).reshape(BATCH, LENGTH, HEADS, 3 * SIZE), 3, axis=-1)
    return attend(*parts)


def heads_first(x: Any, w: Any) -> Any:
    """Transposed as PyTorch wants it, and back."""
    qkv = (x @ w).reshape(BATCH, LENGTH, 3, HEADS, SIZE).transpose(2, 0, 3, 1, 4)
    return attend(*(part.swapaxes(1, 2) for part in qkv))


def few_groups(x: Any, w: Any) -> Any:
    """Two heads of keys and values beside four of queries."""
    y = x @ w[:, : 2 * WIDTH]
    q, k, v = fnp.split(y, [WIDTH, WIDTH + WIDTH // 2], axis=-1)
    q = q.reshape(BATCH, LENGTH, HEADS, SIZE)
    return attend(q, *(part.reshape(BATCH, LENGTH, HEADS // 2, SIZE) for part in (k, v)))


def keys_and_values(x: Any, w: Any) -> Any:
    """A product for keys and values only."""
    q = x.reshape(BATCH, LENGTH, HEADS, SIZE)
    kv = (x @ w[:, : 2 * WIDTH]).reshape(BATCH, LENGTH, 2, HEADS, SIZE)
    return attend(q, kv[:, :, 0], kv[:, :, 1])


def with_extras(x: Any, w: Any) -> Any:
    qkv = (x @ w).reshape(BATCH, LENGTH, 3, HEADS, SIZE)
    mask = fnp.arange(LENGTH) % 3 > 0
    return attend(*(qkv[:, :, i] for i in range(3)), mask=mask[None, None, None])


def odd_rows(x: Any, w: Any) -> Any:
    """Rows of 315 elements, which other kernels would rather have at multiples of 16 bytes."""
    heads, size = 21, 5
    y = fnp.tile(x @ w, (1, 1, 4))[..., : 3 * heads * size] * fnp.cos(fnp.arange(315.0))
    return attend(*(part.reshape(BATCH, LENGTH, heads, size) for part in fnp.split(y, 3, -1)))


def layers(x: Any, w: Any) -> Any:
    def layer(x: Any, _: Any) -> Any:
        return by_number(x, w).reshape(x.shape) + x, None

    return lax.scan(layer, x, None, length=2)[0]


def also_returned(x: Any, w: Any) -> Any:
    """As a cache for later, in other arrays than attention reads."""
    qkv = (x @ w).reshape(BATCH, LENGTH, 3, HEADS, SIZE)
    q, k, v = (qkv[:, :, i] for i in range(3))
    return attend(q, k, v) + k * 2 + v


def bfloat16(x: Any, w: Any) -> Any:
    return by_number(x.astype(fnp.bfloat16), w.astype(fnp.bfloat16)).astype(np.float32)


def one_at_a_time(x: Any, w: Any) -> Any:
    mapped = fd.vmap(lambda y: by_number_of_one(y, w))
    return mapped(x)


def by_number_of_one(x: Any, w: Any) -> Any:
    qkv = (x @ w).reshape(LENGTH, 3, HEADS, SIZE)
    return attend(*(qkv[:, i] for i in range(3)))


PROGRAMS: dict[str, tuple[Callable[..., Any], bool]] = {
    # Whether the gradients are joined, too.
    "by number": (by_number, True),
    "by columns": (by_columns, True),
    "inside of heads": (inside_of_heads, True),
    "heads first": (heads_first, True),
    "odd rows": (odd_rows, True),
    "few groups": (few_groups, True),
    "keys and values": (keys_and_values, True),
    "with extras": (with_extras, True),
    "also returned": (also_returned, False),
    "bfloat16": (bfloat16, True),
    "one at a time": (one_at_a_time, True),
}


def operands() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, LENGTH, WIDTH)).astype(np.float32)
    return x, rng.normal(size=(WIDTH, 3 * WIDTH)).astype(np.float32) * 0.2


def step(program: Callable[..., Any]) -> Callable[..., Any]:
    def loss(x: Any, w: Any) -> Any:
        out = program(x, w)
        return fnp.sum(out * fnp.cos(out))

    return fd.value_and_grad(loss, argnums=(0, 1))


def kernels_of(function: Callable[..., Any], *args: Any) -> tuple[str, list[str]]:
    """The program before fusion, and the names of its kernels, those of loops too."""
    with fd.config.override(backend="gpu"):
        lowered = fd.jit(function).lower(*args)
        pattern = r"^kernel (?:\w+?_body\d+_)?k\d+_(\w+)"
        names = re.findall(pattern, lowered.as_text("kernels"), re.MULTILINE)
        return lowered.as_text("simplified"), names


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_copied(name: str) -> None:
    program, joined = PROGRAMS[name]
    text, names = kernels_of(step(program), *operands())
    assert {"placed_attention_gradient_queries", "placed_attention_gradient_keys"} <= {*names}
    assert " = attention[" not in text
    assert ("joined=(" in text) == joined
    if joined:
        assert not any("concatenate" in each or "slice" in each for each in names), names


@pytest.mark.parametrize("name", [*PROGRAMS, "layers"])
def test_results_are_those_of_the_cpu(name: str, gpu: StubGpu) -> None:
    program = layers if name == "layers" else PROGRAMS[name][0]
    given = operands()
    with fd.config.override(backend="cpu"):
        want = fd.tree.map(np.asarray, fd.jit(step(program))(*given))
    found = fd.jit(step(program))(*(fd.device_put(x, "gpu") for x in given))
    assert any("attention_key_gradient" in each for each, _ in gpu.compiled)
    tolerance = 3e-2 if name == "bfloat16" else 2e-4
    for got, wanted in zip(fd.tree.leaves(found), fd.tree.leaves(want), strict=True):
        margin = tolerance * np.abs(wanted).max()
        np.testing.assert_allclose(np.asarray(got), wanted, tolerance, margin)


def test_loops_over_layers_copy_nothing() -> None:
    _, names = kernels_of(layers, *operands())
    assert names == ["dot", "placed_attention", "add"]


def test_gradients_in_loops_are_joined() -> None:
    _, names = kernels_of(step(layers), *operands())
    assert "placed_attention_gradient_keys" in names
    assert not any("concatenate" in each or "slice" in each for each in names), names


Gradients = Callable[[Array, Array, Array], Any]
JOINS: dict[str, tuple[Gradients, bool]] = {
    # What is made of the gradients of query, key and value, and whether they are written there.
    "in order": (lambda q, k, v: fnp.concatenate([q, k, v], 2), True),
    "in another order": (lambda q, k, v: fnp.concatenate([v, q, k], 2), True),
    "positions": (lambda q, k, v: (fnp.concatenate([k, v], 1), q), True),
    "twice": (lambda q, k, v: fnp.concatenate([fnp.concatenate([k, v], 1), q], 1), True),
    "pieces": (lambda q, k, v: fnp.concatenate([v, q[:, :, :2], q[:, :, 2:], k], 2), True),
    "pieces apart": (lambda q, k, v: fnp.concatenate([q[:, :, :2], k, q[:, :, 2:]], 2), False),
    "pieces turned": (lambda q, k, v: fnp.concatenate([q[:, :, 2:], q[:, :, :2], k], 2), False),
    "first piece": (lambda q, k, v: fnp.concatenate([q[:, :, :3], k, v], 2), False),
    "last piece": (lambda q, k, v: fnp.concatenate([k, v, q[:, :, 3:]], 2), False),
    "first pieces": (lambda q, k, v: fnp.concatenate([q[:, :, :1], q[:, :, 1:3], k], 2), False),
    "every other head": (lambda q, k, v: fnp.concatenate([q[:, :, ::2], k, v], 2), False),
    "one of them twice": (lambda q, k, v: fnp.concatenate([k, k, v], 2), False),
    "with another array": (lambda q, k, v: fnp.concatenate([q, k, fnp.cos(v)], 2), False),
    "and themselves": (lambda q, k, v: (fnp.concatenate([q, k, v], 2), k), False),
}


@pytest.mark.parametrize("name", JOINS)
def test_joined_gradients_are_those_of_the_cpu(name: str, gpu: StubGpu) -> None:
    """An array that holds gradients holds all of them and nothing else."""
    join, joined = JOINS[name]

    def gradients(q: Array, k: Array, v: Array) -> Any:
        loss = fd.grad(lambda q, k, v: fnp.sum(fnp.cos(attend(q, k, v))), argnums=(0, 1, 2))
        return join(*loss(q, k, v))

    rng = np.random.default_rng(0)
    given = [rng.normal(size=(BATCH, LENGTH, HEADS, SIZE)).astype(np.float32) for _ in range(3)]
    with fd.config.override(backend="cpu"):
        want = fd.tree.leaves(fd.jit(gradients)(*given))
    found = fd.tree.leaves(fd.jit(gradients)(*(fd.device_put(x, "gpu") for x in given)))
    for got, wanted in zip(found, want, strict=True):
        np.testing.assert_allclose(np.asarray(got), wanted, 2e-4, 2e-4)
    text, _ = kernels_of(gradients, *given)
    assert ("joined=(" in text) == joined


CACHE = fd.ShapeDtypeStruct((6, BATCH, LENGTH, HEADS, SIZE), np.float32)


def test_a_part_of_an_argument_is_read_where_it_is() -> None:
    _, names = kernels_of(lambda c: attend(c[0], c[1], c[5]), CACHE)
    assert names == ["placed_attention"]


def test_a_transposed_argument_is_read_where_it_is() -> None:
    x = fd.ShapeDtypeStruct((BATCH, HEADS, LENGTH, SIZE), np.float32)
    _, names = kernels_of(lambda x: attend(*[x.swapaxes(1, 2)] * 3), x)
    assert names == ["placed_attention"]


def test_an_array_that_is_not_needed_whole_is_not_stored_whole() -> None:
    text, names = kernels_of(lambda c: attend(*(fnp.tanh(c) * 2)[:3]), CACHE)
    assert "placed" not in text
    assert names[-1] == "attention"


@dataclass(frozen=True)
class Odd:
    """Rows that begin at worse aligned places than those of a copy."""

    start: int
    dtype: Any


@pytest.mark.parametrize("odd", [Odd(1, ml_dtypes.bfloat16), Odd(2, np.float32)])
def test_rows_that_are_not_aligned_are_copied(odd: Odd) -> None:
    x = fd.ShapeDtypeStruct((BATCH, LENGTH, HEADS, SIZE + odd.start), odd.dtype)
    text, _ = kernels_of(lambda x: attend(*[x[..., odd.start :]] * 3), x)
    assert "placed" not in text


def test_columns_of_heads_are_copied() -> None:
    x = fd.ShapeDtypeStruct((BATCH, LENGTH, SIZE, HEADS), np.float32)
    text, _ = kernels_of(lambda x: attend(*[x.swapaxes(2, 3)] * 3), x)
    assert "placed" not in text


@pytest.mark.parametrize(
    ("shape", "new"),
    [
        ((2, 3, 4), (6, 4)),
        ((6, 4), (2, 3, 2, 2)),
        ((2, 1, 3, 4), (2, 3, 4, 1)),
        ((8, 9), (2, 4, 3, 3)),
        ((5,), (1, 5, 1)),
        ((1,), (1, 1)),
        ((4, 6), (6, 4)),
        ((3, 8, 2), (3, 2, 4, 2)),
        ((3, 8, 2), (6, 8)),
        ((3, 8, 2), (2, 3, 8)),
    ],
)
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_views_are_those_of_numpy(
    shape: tuple[int, ...], new: tuple[int, ...], cut: bool, turned: bool
) -> None:
    whole = np.arange(np.prod([n + 2 for n in shape])).reshape([n + 2 for n in shape])
    part, wanted = contiguous(whole.shape), whole
    for dimension, size in enumerate(shape):
        start = 1 if cut else 0
        if cut or turned or dimension:
            part = part.cut(dimension, start, size)
            wanted = wanted[(slice(None),) * dimension + (slice(start, start + size),)]
        else:
            whole = whole[:size]
            part, wanted = contiguous(whole.shape), whole
    if turned:
        order = [*range(len(shape))][::-1]
        part, wanted = part.permuted(order), wanted.transpose(order)
        new = new[::-1]
    np.testing.assert_array_equal(part.of(whole), wanted)
    found: Strided | None = part.reshaped(new)
    if found is None:
        assert not np.shares_memory(wanted.reshape(new), whole)
    else:
        np.testing.assert_array_equal(found.of(whole), wanted.reshape(new))
