"""Short rows as one loop: biases of few features, colours of images."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import ml_dtypes
import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.config import config
from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.flat_rows import LEAST_TILES, flat_rows
from funcdl.kir.ir import Kernel
from funcdl.runtime.toolchain import find_compiler

with_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

LENGTHS = [2, 3, 5, 10, 20, 33, 61]
DTYPES = [np.float32, np.float64, np.int8, np.int64, np.bool_, ml_dtypes.bfloat16]


def c_text(function: Callable[..., fd.Array], *arguments: fd.Array) -> str:
    with config.override(backend="cpu", x64="on"):
        return fd.jit(function).lower(*arguments).as_text("c")


@with_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_same_as_without_compiling(dtype: type) -> None:
    rng = np.random.default_rng(0)

    def scaled(arrays: list[tuple[fd.Array, fd.Array]]) -> list[fd.Array]:
        return [fnp.where(fnp.arange(b.size) < 2, a * b, fnp.flip(b)) for a, b in arrays]

    arrays = [
        (rng.integers(0, 11, (1201, length)).astype(dtype), np.ones(length, dtype) * 3)
        for length in (LENGTHS if dtype is np.float32 else LENGTHS[1:4])
    ]
    for _, b in arrays:
        b[1:2] = 2
    with config.override(backend="cpu", x64="on"):
        found = fd.jit(scaled)(arrays)
        wanted = scaled([(fnp.asarray(a), fnp.asarray(b)) for a, b in arrays])
    for got, want in zip(found, wanted, strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(np.asarray(got), np.asarray(want))


@with_compiler
def test_same_bits_for_any_number_of_threads_and_bases() -> None:
    def heavy(x: fd.Array, b: fd.Array, s: fd.Array) -> fd.Array:
        return fnp.tanh((x - b) / fnp.exp(b) + fnp.exp(s)) * s

    rows, memory = 20_011, np.empty(20_011 * 3 + 1, np.float32)
    b, s = np.array([0.4, 0.5, 0.6], np.float32), np.float32(0.3)
    assert "float rows" in c_text(heavy, fnp.zeros((rows, 3)), fnp.zeros(3), fnp.zeros(()))
    results = []
    compiled = fd.jit(heavy)
    for base, threads in [(0, 1), (1, 1), (1, 2), (1, 3), (0, 4)]:
        x = memory[base : base + rows * 3].reshape(rows, 3)
        x[:] = np.linspace(-2, 2, x.size).reshape(x.shape)
        with config.override(backend="cpu", num_threads=threads):
            results.append(np.asarray(compiled(x, b, s)))
    assert len({result.tobytes() for result in results}) == 1
    np.testing.assert_allclose(results[0], np.tanh((x - b) / np.exp(b) + np.exp(s)) * s, 1e-5, 1e-6)


@with_compiler
def test_what_follows_from_a_row_alone_is_computed_once() -> None:
    def scaled(x: fd.Array, b: fd.Array) -> fd.Array:
        return x * fnp.exp(b)

    text = c_text(scaled, fnp.zeros((5000, 3)), fnp.zeros(3))
    before, after = text.split("for (int64_t i ")
    assert "fd_exp_f32(" in before and "fd_exp_f32(" not in after
    assert "float rows" in before and " = x[i * 3 + j]" in after


@with_compiler
def test_one_function_for_any_number_of_rows() -> None:
    def shifted(x: fd.Array, b: fd.Array) -> fd.Array:
        return x + b

    texts = {
        c_text(shifted, fnp.zeros((n, 3)), fnp.zeros(3)).split("any n_i")[1].split("}\n}")[0]
        for n in (3000, 3001, 3500)
    }
    assert len(texts) == 1


@with_compiler
def test_outer_axes_are_loops_around_tiles() -> None:
    def shifted(x: fd.Array, b: fd.Array, c: fd.Array) -> fd.Array:
        return x * c[:, None, None] + b

    x = np.random.default_rng(0).normal(size=(3, 1500, 5)).astype(np.float32)
    b, c = x[0, 0], x[:, 1, 1]
    assert "float rows" in c_text(shifted, fnp.asarray(x), fnp.asarray(b), fnp.asarray(c))
    with config.override(backend="cpu"):
        found = fd.jit(shifted)(x, b, c)
    np.testing.assert_allclose(np.asarray(found), x * c[:, None, None] + b, 1e-5, 1e-6)


def rows(extent: int, length: int, stride: int = 1, of_rows: bool = False) -> Kernel:
    """``out[i, j] = x[i, j] + b[j]``, or what else stands in for these."""
    b = KernelBuilder("rows")
    i, j = b.axis("i", extent), b.axis("j", length)
    b.buffer("x", np.float32, extent * length * stride, "in")
    b.buffer("b", np.float32, max(extent, length), "in")
    b.buffer("out", np.float32, extent * length, "out")
    added = b.load("b", i if of_rows else j)
    x = b.load("x", (i * length + j) * stride)
    b.store("out", i * length + j, b.elementwise("add", x, added))
    return b.build()


def test_which_rows_are_worth_it() -> None:
    found = flat_rows(rows(5000, 3), "i", "j")
    assert found is not None and found.length == 3
    assert found.rows % 16 == 0 and len(found.repeated) == 1
    few = LEAST_TILES * found.rows
    assert flat_rows(rows(few, 3), "i", "j") is not None
    assert flat_rows(rows(few - 1, 3), "i", "j") is None
    # Whole vectors or halves of them, long rows, strided ones, none at all.
    for length in (8, 16, 24, 64, 100):
        assert flat_rows(rows(5000, length), "i", "j") is None
    assert flat_rows(rows(5000, 3, stride=2), "i", "j") is None
    assert flat_rows(rows(0, 3), "i", "j") is None
    assert flat_rows(rows(5000, 0), "i", "j") is None


def test_which_values_of_rows_are_spread() -> None:
    for length in (2, 3, 4, 10, 33):
        found = flat_rows(rows(5000, length, of_rows=True), "i", "j")
        assert found is not None and found.rows == 16 and found.itemsize == 4
        assert len(found.spread) == 1 and found.repeated == ()
    least = LEAST_TILES * 16
    assert flat_rows(rows(least, 3, of_rows=True), "i", "j") is not None
    assert flat_rows(rows(least - 1, 3, of_rows=True), "i", "j") is None
    for length in (8, 16, 24, 64, 100):
        assert flat_rows(rows(5000, length, of_rows=True), "i", "j") is None


# Sizes with and without rows that fill no tile, and an axis around the runs of rows.
SPREAD: dict[str, Callable[..., fd.Array]] = {
    "scaled": lambda x, r, b, o: x * r[..., None],
    "divided": lambda x, r, b, o: x / (fnp.abs(r[..., None]) + 1),
    "beside what repeats": lambda x, r, b, o: x * r[..., None] + b,
    "within a run": lambda x, r, b, o: x * r[..., None] * o[:, None, :],
    "copied": lambda x, r, b, o: fnp.broadcast_to(r[..., None], x.shape),
    "compared": lambda x, r, b, o: r[..., None] == fnp.arange(x.shape[-1]),
    "chosen": lambda x, r, b, o: fnp.where((r > 3)[..., None], x, b),
    "two": lambda x, r, b, o: fnp.where((r > 3)[..., None], x * r[..., None], b),
    "positions": lambda x, r, b, o: fnp.where(
        fnp.arange(x.shape[-2])[:, None] >= fnp.arange(x.shape[-1]), x, b
    ),
    "gathered": lambda x, r, b, o: x + b[r.astype("int32") % b.size][..., None],
}


@with_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_spread_values_give_what_they_do_without_compiling(dtype: type) -> None:
    rng = np.random.default_rng(1)
    sizes = [(2, 259, 3), (3, 256, 10), (1, 300, 4), (5, 1001, 33), (1, 257, 7), (2, 90, 5)]
    arrays = [
        [
            rng.integers(0, 7, shape).astype(dtype)
            for shape in (size, size[:2], size[2:], (size[0], size[2]))
        ]
        for size in (sizes if dtype is np.float32 else sizes[:2])
    ]

    def of_all_sizes(f: Callable[..., fd.Array], arrays: list[list[fd.Array]]) -> list[fd.Array]:
        return [f(*group) for group in arrays]

    def all_of_them(arrays: list[list[fd.Array]]) -> list[fd.Array]:
        return [x for f in SPREAD.values() for x in of_all_sizes(f, arrays)]

    with config.override(backend="cpu", x64="on"):
        # Kernels of different sizes are apart in one program, too.
        one_by_one = [x for f in SPREAD.values() for x in fd.jit(partial(of_all_sizes, f))(arrays)]
        together = fd.jit(all_of_them)(arrays)
        wanted = all_of_them([[fnp.asarray(array) for array in group] for group in arrays])
    for found in (one_by_one, together):
        for got, want in zip(found, wanted, strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(np.asarray(got), np.asarray(want))


@with_compiler
@pytest.mark.parametrize("name", SPREAD)
def test_spread_values_are_shuffled(name: str) -> None:
    sizes = ((64, 300, 10), (64, 300), (10,), (64, 10))
    text = c_text(SPREAD[name], *(fnp.zeros(size, "float32") for size in sizes))
    assert re.search("fd_spread_[48]", text)


@with_compiler
def test_the_same_spread_values_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(20_011, 3)).astype(np.float32)
    r = rng.normal(size=20_011).astype(np.float32)
    compiled = fd.jit(lambda x, r: fnp.tanh(x) / r[:, None])
    results = []
    for threads in (1, 2, 3):
        with config.override(backend="cpu", num_threads=threads):
            results.append(np.asarray(compiled(x, r)).tobytes())
    assert len(set(results)) == 1


def test_gathered_rows_stay_apart() -> None:
    b = KernelBuilder("gathered")
    i, j = b.axis("i", 5000), b.axis("j", 3)
    b.buffer("x", np.float32, 30, "in")
    b.buffer("at", np.int32, 5000, "in")
    b.buffer("b", np.float32, 3, "in")
    b.buffer("out", np.float32, 15_000, "out")
    row = ix.value(b.load("at", i), 0, 9)
    b.store("out", i * 3 + j, b.elementwise("add", b.load("x", row * 3 + j), b.load("b", j)))
    assert flat_rows(b.build(), "i", "j") is None
