"""Rows of costly elements in whole vectors, the last of which overlaps the one before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.golden import assert_golden

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.config import config
from funcdl.kernels.cpu_c.render import render_kernel
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Kernel
from funcdl.kir.schedule import Schedule, Step
from funcdl.runtime.toolchain import find_compiler

with_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

GOLDEN = Path(__file__).parent / "golden_c"
ROWS = 5
LENGTHS = [1, 8, 15, 16, 17, 20, 24, 25, 31, 33, 41, 64, 67, 71, 73, 79, 80, 100]
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]


def rows_kernel(
    length: int, dtype: Any = np.float32, op: str = "tanh", alias: bool = False, flag: bool = False
) -> Kernel:
    """``op(x + bias)`` of five rows, and with `flag` whether that is positive."""
    b = KernelBuilder("rows")
    i, j = b.axis("i", ROWS), b.axis("j", length)
    b.buffer("x", dtype, ROWS * length, "in", may_alias=alias)
    b.buffer("bias", dtype, length, "in")
    b.buffer("out", dtype, ROWS * length, "out", may_alias=alias)
    at = i * length + j
    value = b.elementwise(op, b.elementwise("add", b.load("x", at), b.load("bias", j)))
    b.store("out", at, value)
    if flag:
        b.buffer("flags", np.bool_, ROWS * length, "out")
        b.store("flags", at, b.elementwise("gt", value, b.const(0, dtype)))
    return b.build()


def c_text(kernel: Kernel) -> str:
    return render_kernel(kernel, Schedule((Step("i", "loop"), Step("j", "vector"))))


def test_text_is_golden() -> None:
    assert_golden(GOLDEN / "whole_vectors.c", c_text(rows_kernel(41, flag=True)))


@pytest.mark.parametrize(
    ("length", "options", "lanes"),
    [
        (79, {}, 16),
        (67, {}, 16),
        (73, {}, 16),
        (19, {"dtype": np.float64}, 8),
        (79, {"dtype": np.int16, "op": "abs"}, 0),
        (41, {"flag": True}, 32),
        (80, {}, 0),
        (65, {}, 0),
        (72, {}, 0),
        (15, {}, 0),
        (79, {"op": "neg"}, 0),
        (79, {"alias": True}, 0),
    ],
)
def test_which_rows_are_cut_into_blocks(length: int, options: dict[str, Any], lanes: int) -> None:
    text = c_text(rows_kernel(length, **options))
    assert text.count("j_block") == (5 if lanes else 0)
    assert (f"j_block += {lanes})" in text) == bool(lanes)
    assert (f"j_block < {length - lanes} ? j_block : {length - lanes};" in text) == bool(lanes)


def several(arrays: list[tuple[fd.Array, fd.Array]]) -> list[list[fd.Array]]:
    return [
        [
            fnp.exp(x - b),
            fnp.tanh(fnp.roll(x, (1, 2), (0, 1)) + b),
            fnp.where(x > b, fnp.sqrt(x) / b / 3, fnp.pad(x, ((0, 0), (1, 0)))[:, 1:]),
            fnp.log1p(x),
            x > b,
        ]
        for x, b in arrays
    ]


@with_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_are_those_of_elements_by_themselves(dtype: type) -> None:
    rng = np.random.default_rng(0)
    arrays = []
    for length in LENGTHS:
        x, b = (np.abs(rng.normal(size=(n, length))).astype(dtype) for n in (ROWS, 1))
        x.flat[:2] = np.nan, np.inf
        arrays.append((x, b[0]))
    with config.override(backend="cpu", x64="on"):
        found = fd.jit(several)(arrays)
        columns = [[(x[:, k : k + 1], b[k : k + 1]) for k in range(b.size)] for x, b in arrays[-3:]]
        single = fd.jit(lambda arrays: [[(fnp.exp(x - b),) for x, b in row] for row in arrays])(
            columns
        )
        wanted = several([(fnp.asarray(x), fnp.asarray(b)) for x, b in arrays])
    bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[np.dtype(dtype).itemsize]
    for row, of_row in zip(found[-3:], single, strict=True):
        whole = np.concatenate([np.asarray(part) for (part,) in of_row], 1)
        np.testing.assert_array_equal(np.asarray(row[0]).view(bits), whole.view(bits))
    bound = 16 * float(fnp.finfo(dtype).eps)
    for got, want in zip(fd.tree.leaves(found), fd.tree.leaves(wanted), strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        got, want = (np.asarray(a, np.float64) for a in (got, want))
        np.testing.assert_allclose(got, want, rtol=bound, atol=bound)


def halved(x: fd.Array, b: fd.Array) -> fd.Array:
    return fnp.tanh(x) * b


@with_compiler
@pytest.mark.parametrize("length", [67, 79, 100])
@pytest.mark.parametrize("step", [halved, lambda x, b: fnp.exp(-fnp.roll(x, 1, 1)) * b])
def test_arrays_that_are_given_up_are_not_computed_twice(
    step: Callable[[fd.Array, fd.Array], fd.Array], length: int
) -> None:
    x = np.random.default_rng(0).normal(size=(ROWS, length)).astype(np.float32)
    b = np.linspace(0.5, 1, length, dtype=np.float32)
    with config.override(backend="cpu"):
        kept = np.asarray(fd.jit(step)(x, b))
        given = fd.jit(step, donate_argnums=0)(fnp.array(x), b)
        looped = fd.jit(lambda x: fd.lax.fori_loop(0, 1, lambda _, x: step(x, b), x))(x)
    np.testing.assert_array_equal(given, kept)
    np.testing.assert_array_equal(looped, kept)
