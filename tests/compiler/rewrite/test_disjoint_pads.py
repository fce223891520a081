"""Sums of padded arrays that meet nowhere become concatenations, with the same bits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.compiler.run import interpret, pipeline_of

import funcdl as fd
import funcdl.lax as lax
import funcdl.numpy as fnp
from funcdl.compiler.rewrite import disjoint_pads
from funcdl.compiler.rewrite.simplify import simplify

Shape = tuple[int, ...]
F32 = np.dtype(np.float32)

# The shape of an array, a dimension, the sizes of the parts along it, and whether they are joined.
CUTS: list[tuple[Shape, int, Sequence[int], bool]] = [
    ((7, 15), 1, (5, 5, 5), True),
    ((9, 4), 0, (3, 3, 3), True),
    ((2, 3, 5), 1, (1, 1, 1), True),
    ((6,), 0, (1,) * 6, True),
    ((7, 96), 1, (64, 16, 16), True),
    ((9, 5), 0, (3, 6), False),
    ((12, 5), 0, (4, 8), True),
    ((8, 96), 1, (0, 32, 64), True),
    ((5, 100), 1, (1,) * 100, True),
    ((5, 37), 1, (1,) * 37, False),
    ((3, 7), 1, (3, 4), False),
]


def values(shape: Shape, dtype: Any = F32, seed: int = 0) -> Any:
    """Numbers with zeros of both signs, NaN and infinities where the type has them."""
    x = np.random.default_rng(seed).normal(scale=8, size=shape).astype(dtype)
    if x.dtype.kind in "fcV" and x.size:
        flat = x.reshape(-1)
        for n, special in enumerate([-0.0, 0.0, np.nan, np.inf, -np.inf]):
            flat[n :: max(len(flat) // 3, 5)] = special
        return flat.reshape(shape)
    return x


def cut(x: Any, axis: int, sizes: Sequence[int]) -> list[Any]:
    ends = itertools.accumulate(sizes)
    return [lax.slice_in_dim(x, e - s, e, axis=axis) for s, e in zip(sizes, ends, strict=True)]


def gradient(shape: Shape, axis: int, sizes: Sequence[int]) -> Any:
    """From cotangents of the parts of an array to that of the array."""
    return lambda *cts: fd.linear_transpose(
        lambda x: cut(x, axis, sizes), fnp.zeros(shape, cts[0].dtype)
    )(list(cts))[0]


def bits(x: Any) -> bytes:
    return np.ascontiguousarray(x).tobytes()


def joined(f: Any, *args: Any) -> bool:
    text: str = fd.jit(f).lower(*args).as_text("simplified")
    return "concatenate" in text


@pytest.mark.parametrize(("shape", "axis", "sizes", "join"), CUTS)
def test_gradients_of_parts_keep_their_bits(
    shape: Shape, axis: int, sizes: Sequence[int], join: bool
) -> None:
    f = gradient(shape, axis, sizes)
    cts = [
        values((*shape[:axis], size, *shape[axis + 1 :]), seed=n) for n, size in enumerate(sizes)
    ]
    assert joined(f, *cts) == join
    out = fd.jit(f)(*cts)
    assert out.shape == shape
    assert bits(out) == bits(f(*cts))


@pytest.mark.parametrize(
    "dtype",
    ["float16", ml_dtypes.bfloat16, "float64", "int8", "uint16", "int32", "int64", "complex64"],
)
def test_all_types_keep_their_bits(dtype: Any) -> None:
    config = ((0, 0, 0), (0, 8, 0)), ((0, 0, 0), (8, 0, 0))

    def f(x: Any, y: Any) -> Any:
        zero = np.zeros((), x.dtype)
        return lax.pad(x, zero, config[0]) + lax.pad(y, zero, config[1])

    x, y = values((5, 8), dtype), values((5, 8), dtype, 1)
    assert joined(f, x, y)
    assert bits(fd.jit(f)(x, y)) == bits(f(x, y))


def padded(*parts: tuple[int, int, int], value: float = 0, between: int = 0) -> Any:
    """The sum of arrays of one dimension, each with (low, high, size)."""

    def f(*arrays: Any) -> Any:
        terms = [
            lax.pad(x, np.float32(value), ((low, high, between),))
            for x, (low, high, _) in zip(arrays, parts, strict=True)
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    return f, [values((size,), seed=n) for n, (_, _, size) in enumerate(parts)]


@pytest.mark.parametrize(
    "case",
    {
        "overlap": padded((0, 3, 5), (3, 0, 5)),
        "gap": padded((0, 5, 3), (5, 0, 3)),
        "twice and never": padded((0, 8, 4), (0, 8, 4), (8, 0, 4)),
        "other value": padded((0, 4, 4), (4, 0, 4), value=1),
        "negative zero": padded((0, 4, 4), (4, 0, 4), value=-0.0),
        "holes": padded((0, 3, 2), (3, 0, 2), between=1),
        "cut off": padded((0, -1, 5), (-1, 0, 5)),
    }.items(),
    ids=lambda case: case[0],
)
def test_other_sums_stay(case: Any) -> None:
    f, arrays = case[1]
    assert not joined(f, *arrays)
    np.testing.assert_array_equal(fd.jit(f)(*arrays), f(*arrays))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_terms_come_in_any_order(order: tuple[int, ...]) -> None:
    places = [(0, 8, 4), (4, 4, 4), (8, 0, 4)]
    f, arrays = padded(*(places[n] for n in order))
    assert joined(f, *arrays)
    assert bits(fd.jit(f)(*arrays)) == bits(f(*arrays))


def test_a_part_of_the_sum_may_be_used_as_well() -> None:
    def f(x: Any, y: Any, z: Any) -> Any:
        a, b, c = (
            lax.pad(v, np.float32(0), ((4 * n, 8 - 4 * n, 0),)) for n, v in enumerate((x, y, z))
        )
        return a + b, (a + b) + c

    args = [values((4,), seed=n) for n in range(3)]
    for found, wanted in zip(fd.jit(f)(*args), f(*args), strict=True):
        assert bits(found) == bits(wanted)


@given(st.data())
def test_any_cut_of_any_array_keeps_its_bits(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    sizes = data.draw(st.lists(st.sampled_from([0, 1, 2, 4, 32]), min_size=1, max_size=5))
    shape = (*shape[:axis], sum(sizes), *shape[axis + 1 :])
    cts = [values((*shape[:axis], s, *shape[axis + 1 :]), seed=n) for n, s in enumerate(sizes)]
    f = gradient(shape, axis, sizes)
    (found,) = interpret(pipeline_of(fd.make_jaxpr(f)(*cts)), cts)
    assert bits(found) == bits(f(*cts))


def gates(w: Any, x: Any) -> Any:
    i, f, g, o = cut(x @ w, x.ndim - 1, (8, 8, 8, 8))
    c = fnp.tanh(i) * f + g
    return fnp.sum(o * fnp.sin(c))


@pytest.mark.parametrize(
    "make",
    [
        lambda: fd.grad(gates, (0, 1)),
        lambda: fd.grad(fd.jit(gates), (0, 1)),
        lambda: fd.vmap(fd.grad(gates, (0, 1)), (None, 1)),
        lambda: fd.grad(lambda w, x: fnp.sum(fd.grad(gates)(w, x) ** 2), (0, 1)),
        lambda: lambda w, x: fd.jvp(fd.grad(gates), (w, x), (w, x)),
        lambda: fd.grad(fd.checkpoint(gates), (0, 1)),
    ],
    ids=["grad", "of jit", "vmap", "of grad", "jvp", "checkpoint"],
)
def test_under_transforms(make: Any) -> None:
    f = make()
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(6, 32)), rng.normal(size=(5, 3, 6))
    with fd.config.override(x64="on"):
        assert joined(f, w, x)
        with fd.config.override(backend="reference"):
            wanted = fd.jit(f)(w, x)
        for a, b in zip(fd.tree.leaves(fd.jit(f)(w, x)), fd.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_in_the_body_of_a_loop() -> None:
    def loss(w: Any, xs: Any) -> Any:
        def cell(h: Any, x: Any) -> Any:
            i, f, g = cut(fnp.concatenate([h, x], 1) @ w, 1, (8, 8, 8))
            h = h * fnp.tanh(f) + fnp.tanh(i) * g
            return h, h

        h, hs = lax.scan(cell, fnp.zeros((3, 8), xs.dtype), xs)
        return fnp.sum(h) + fnp.sum(hs**2)

    f = fd.grad(loss, (0, 1))
    rng = np.random.default_rng(0)
    w, xs = rng.normal(size=(16, 24)) / 4, rng.normal(size=(4, 3, 8))
    with fd.config.override(x64="on"):
        lowered = fd.jit(f).lower(w, xs)
        assert "pad[" not in lowered.as_text("simplified")
        with fd.config.override(backend="reference"):
            wanted = fd.jit(f)(w, xs)
        for a, b in zip(fd.jit(f)(w, xs), wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_long_chains_take_time_in_proportion() -> None:
    def cost(count: int) -> int:
        f, arrays = padded(*((n, count - 1 - n, 1) for n in range(count)))
        closed = fd.make_jaxpr(f)(*arrays)
        calls = 0
        plain = disjoint_pads.DisjointPads._sum

        def counted(self: Any, eqn: Any) -> Any:
            nonlocal calls
            calls += 1
            return plain(self, eqn)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(disjoint_pads.DisjointPads, "_sum", counted)
            simplify(closed)
        return calls

    assert cost(192) <= 4 * cost(64)
