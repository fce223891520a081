"""Reductions along rows of all kinds of lengths: whole groups of lanes, rests, blocks of groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.kernels.cpu_c.loops import Loop
from funcdl.kernels.cpu_c.row_lanes import in_lanes
from funcdl.runtime.toolchain import find_compiler

LENGTHS = [31, 64, 65, 81, 100, 127, 128, 160, 255, 256, 257, 1000, 4096, 9001]
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def reductions(x: Any) -> dict[str, Any]:
    return {
        "sum": fnp.sum(x, axis=1),
        "prod": fnp.prod(x, axis=1),
        "max": fnp.max(x, axis=1),
        "min": fnp.min(x, axis=1),
        "var": fnp.var(x, axis=1),
        "exps": fnp.sum(fnp.exp(x - fnp.max(x, axis=1, keepdims=True)), axis=1),
        "all": fnp.sum(x),
    }


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", LENGTHS)
def test_all_elements_are_taken_in_once(length: int, dtype: str) -> None:
    rng = np.random.default_rng(length)
    x = rng.uniform(0.9, 1.1, (3, length)).astype(dtype)
    got = fd.jit(reductions)(x)
    wide = x.astype(np.longdouble)
    tolerance = 2e-6 if dtype == "float32" else 5e-15
    expected = {
        "sum": wide.sum(1),
        "max": x.max(1),
        "min": x.min(1),
        "var": wide.var(1),
        "exps": np.exp(wide - wide.max(1, keepdims=True)).sum(1),
        "all": wide.sum(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, tolerance, err_msg=name)
    # A product's errors add up along the row.
    np.testing.assert_allclose(got["prod"], wide.prod(1), length * tolerance)


@needs_compiler
@pytest.mark.parametrize("length", [256, 1000, 9001])
def test_nan_and_infinity_at_any_place(length: int) -> None:
    f = fd.jit(lambda x: (fnp.max(x, axis=1), fnp.min(x, axis=1), fnp.sum(x, axis=1)))
    places = [*range(0, length, 61), length - 1]
    x = np.random.default_rng(0).standard_normal((3 * len(places), length)).astype(np.float32)
    for row, place in enumerate(places):
        x[row, place] = np.nan if row % 2 else -np.nan
        x[len(places) + row, place] = np.inf
        x[2 * len(places) + row, place] = -np.inf
    for got, expected in zip(f(x), (x.max(1), x.min(1), x.sum(1)), strict=True):
        np.testing.assert_allclose(got, expected, 2e-6, 1e-4)


@needs_compiler
@pytest.mark.parametrize("length", [1000, 1024])
def test_a_row_of_any_length_in_several_passes(length: int) -> None:
    """The second sum needs the first; their loops stand in one block."""
    x = np.random.default_rng(0).standard_normal(length).astype(np.float32)
    np.testing.assert_allclose(fd.jit(fnp.var)(x), x.var(), 2e-6)


@needs_compiler
def test_rows_of_nothing_but_ends() -> None:
    f = fd.jit(lambda x: (fnp.max(x, axis=1), fnp.min(x, axis=1)))
    for value in (np.inf, -np.inf, np.nan, 0.0, -0.0):
        for got in f(np.full((2, 300), value, np.float32)):
            np.testing.assert_array_equal(got, np.full(2, value, np.float32))


@pytest.mark.parametrize(
    ("begin", "end", "twice", "expected"),
    [
        ("0", "256", True, [("0", "256", 64, 0)]),
        ("0", "300", False, [("0", "44", 1, 0), ("0", "256", 64, 0)]),
        ("0", "300", True, [("0", "64", 1, 20), ("0", "256", 64, 0)]),
        ("j_tile", "j_tile + 4096", True, [("j_tile", "j_tile + 4096", 64, 0)]),
        ("0", "n_j", True, [("0", "n_j % 64", 1, 0), ("0", "n_j - n_j % 64", 64, 0)]),
        (
            "j_tile",
            "j_end",
            True,
            [
                ("0", "(j_end - j_tile) % 64", 1, 0),
                ("j_tile", "j_end - (j_end - j_tile) % 64", 64, 0),
            ],
        ),
    ],
)
def test_loops_in_place_of_one(
    begin: str, end: str, twice: bool, expected: list[tuple[str, str, int, int]]
) -> None:
    loop = Loop("j", "vector", "j", begin, end, pragma="#pragma omp simd")
    found = [(*group.loops[:1], group.first) for group in in_lanes(loop, 64, True, twice)]
    assert [(loop.begin, loop.end, loop.step, first) for loop, first in found] == expected
