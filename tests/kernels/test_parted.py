"""Loops in parts: rolled, padded, joined and updated arrays, without conditions inside of loops."""

from __future__ import annotations

import re
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.config import config
from funcdl.runtime.toolchain import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

DTYPES = [np.float32, np.float64, np.int8, np.uint16, np.int64, np.bool_, ml_dtypes.bfloat16]
SHAPES = [(5, 131), (70, 33), (2, 512), (40, 3), (3, 1), (1, 300), (0, 50), (4, 0)]


def moved(x: fd.Array, y: fd.Array) -> list[fd.Array]:
    """Programs whose conditions change along the first axis, the last, or both."""
    return [
        fnp.roll(x, 3, 1),
        fnp.roll(x, (1, -2), (0, 1)),
        fnp.pad(x, ((1, 2), (2, 1))),
        fnp.concatenate([x, y, x], 1),
        fnp.concatenate([x, y], 0),
        x if x.shape[1] < 4 or not x.size else x.at[:, 3].set(y[:, 0]),
        x if x.shape[0] < 2 or not x.size else x.at[1].set(y[0]),
        x[:, ::-1] | fnp.roll(x, 1, 1) if x.dtype == np.bool_ else x[:, ::-1] + fnp.roll(x, 1, 1),
    ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_as_without_compiling(dtype: type) -> None:
    rng = np.random.default_rng(0)
    for shape in SHAPES if dtype is np.float32 else SHAPES[:2]:
        x, y = (rng.integers(0, 100, (2, *shape)) % (2 if dtype is np.bool_ else 100)).astype(dtype)
        with config.override(backend="cpu", x64="on"):
            found = [np.asarray(a) for a in fd.jit(moved)(x, y)]
            wanted = [np.asarray(a) for a in moved(fnp.asarray(x), fnp.asarray(y))]
        for got, want in zip(found, wanted, strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)


def test_same_bits_for_any_number_of_threads_and_bases() -> None:
    @fd.jit
    def heavy(x: fd.Array) -> fd.Array:
        return fnp.tanh(fnp.roll(x, (5, 3), (0, 1)) - x.at[2].add(1.5))

    memory = np.random.default_rng(0).normal(size=(300 * 257 + 1)).astype(np.float32)
    with config.override(backend="cpu"):
        results = []
        for base, threads in [(0, 1), (1, 1), (1, 2), (1, 3), (0, 4)]:
            x = memory[base : base + 300 * 257]
            x[:] = np.linspace(-2, 2, x.size)
            with config.override(num_threads=threads):
                results.append(np.asarray(heavy(x.reshape(300, 257))).tobytes())
    assert len(set(results)) == 1


def c_text(function: Callable[..., fd.Array], *shapes: tuple[int, ...]) -> str:
    with config.override(backend="cpu"):
        return fd.jit(function).lower(*(fnp.zeros(shape) for shape in shapes)).as_text("c")


@pytest.mark.parametrize(
    ("function", "loops"),
    [
        (lambda x: fnp.roll(x, 3, 1), 2),
        (lambda x: fnp.roll(x, 3, 0), 2),
        (lambda x: fnp.pad(x, ((0, 0), (1, 1))), 3),
        (lambda x: fnp.roll(x, (1, 1), (0, 1)), 4),
        (lambda x: x.at[:, 3].add(2) * 2, 3),
    ],
)
def test_a_loop_for_each_part(function: Callable[..., fd.Array], loops: int) -> None:
    text = c_text(function, (64, 256))
    assert not re.search(r"v\d+ \? ", text), text
    innermost = re.findall(r"for \(int64_t (?!i\b)(\w+) = .*\n +const float", text)
    constants = re.findall(r"\{\n +out0\[.*\] = 0\.0f;", text)
    assert len(innermost) + len(constants) == loops, text


def test_short_rows_stay_one_loop() -> None:
    assert " ? " in c_text(lambda x: fnp.roll(x, 3, 1), (64, 20))


def test_a_condition_that_no_longer_matters_makes_no_parts() -> None:
    # In rows of zeros nothing depends on the column.
    text = c_text(lambda x: fnp.pad(x, ((1, 1), (1, 1))), (40, 100))
    assert text.count("j < 102") == 3 and text.count("j < 101") == 1, text


def test_values_of_rows_are_computed_once() -> None:
    def scaled(x: fd.Array, row: fd.Array) -> fd.Array:
        return fnp.roll(x, 3, 1) * fnp.exp(row)[:, None]

    assert c_text(scaled, (64, 256), (64,)).count("fd_exp_f32(") == 1


def test_donated_arrays_are_updated_in_place() -> None:
    update = fd.jit(lambda x: x.at[3].add(2) * 2, donate_argnums=0)
    x = fnp.arange(1000.0)
    wanted = np.arange(1000.0)
    wanted[3] += 2
    with config.override(backend="cpu"):
        np.testing.assert_array_equal(np.asarray(update(x)), wanted * 2)
