"""Sums of columns that move into kernels over the same rows: results, kernels, bytes, cubins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.compiler.cuda.norm_programs import (
    BLOCKS,
    PROGRAMS,
    before_product,
    difference,
    gradient,
    layer_norm,
    problems,
    rms_norm,
)
from tests.golden import assert_golden
from tests.kernels.resources import assert_fits, in_turn
from tests.process import answer
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
from funcdl.kernels.triton.library import norm_gradient, row_sums

GOLDEN = Path(__file__).parents[2] / "kernels/golden_triton/row_sums.txt"
F32 = np.dtype(np.float32)


def lowered(function: Any, *args: Any) -> Any:
    with fd.config.override(backend="gpu"):
        return fd.jit(function).lower(*args)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_compute_what_they_mean(name: str) -> None:
    with installed(StubGpu()) as gpu:
        assert difference(name, gpu) == ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_launch_so_many_kernels(name: str) -> None:
    function, args, kernels = PROGRAMS[name]
    found = lowered(function, *args).cost_analysis()["kernels"]
    assert sum(kernel["calls"] for kernel in found) == kernels


@pytest.mark.triton
def test_programs_and_other_blocks_in_tritons_interpreter() -> None:
    names = [name for name in PROGRAMS if not name.startswith("parts")]
    found = answer("-m", "tests.compiler.cuda.norm_programs", *names, interpret=True)
    assert found == dict.fromkeys(found, "") and len(found) == len(names) + 3 * len(BLOCKS)


def inputs(rows: int, size: int, weights: int, dtype: Any = np.float32) -> list[Any]:
    shapes = [(rows, size)] * 2 + [(size,)] * weights
    return [fd.ShapeDtypeStruct(shape, dtype) for shape in shapes]


NORMS = {
    "layer_norm": (gradient(layer_norm), 2, norm_gradient.Norm(8192, 1024, F32)),
    "rms_norm": (gradient(rms_norm), 1, norm_gradient.Norm(8192, 1024, F32, centred=False)),
}


@pytest.mark.parametrize("name", NORMS)
def test_the_kernel_moves_no_more_than_the_hand_written_one(name: str) -> None:
    function, weights, problem = NORMS[name]
    (rows,) = problems(function, *inputs(8192, 1024, weights))
    problem = replace(problem, programs=rows.schedule.programs)
    chosen = norm_gradient.candidates(problem)[0]
    by_hand = norm_gradient.estimate(problem, chosen).bytes
    assert by_hand <= row_sums.estimate(rows, row_sums.candidates(rows)[0]).bytes <= 1.001 * by_hand
    assert row_sums.kernel(rows).grid == norm_gradient.kernel(problem).grid


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_both_sums_join_behind_a_product(dtype: Any) -> None:
    rows, size = 4096, 1024
    args = [*inputs(rows, size, 2, dtype), fd.ShapeDtypeStruct((size, size), dtype)]
    kernels = lowered(before_product, *args).cost_analysis()["kernels"]
    moved = sum(k["bytes accessed"] * k["calls"] for k in kernels if "dot" not in k["name"])
    # The input is read for its mean and variance. Then it and its cotangent are read, and one such
    # matrix is written, and sums of programs: one more pass for each sum would make two more.
    assert moved <= 4.6 * rows * size * np.dtype(dtype).itemsize


def check(name: str, size: int, dtype: Any, arch: int) -> None:
    function, weights, _ = NORMS[name]
    (rows,) = problems(function, *inputs(4096, size, weights, dtype))
    assert_fits(row_sums.kernel(rows), arch)


@pytest.mark.triton
def test_a_kernel_of_a_common_size_compiles() -> None:
    check("layer_norm", 768, ml_dtypes.bfloat16, 90)


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize(("size", "arch"), in_turn([5, 100, 1024, 5000, 8192]))
@pytest.mark.parametrize("name", NORMS)
def test_kernels_spill_nothing(name: str, size: int, dtype: Any, arch: int) -> None:
    check(name, size, dtype, arch)


def test_source_is_the_golden_text() -> None:
    (rows,) = problems(gradient(layer_norm), *inputs(4096, 1000, 2, ml_dtypes.bfloat16))
    assert_golden(GOLDEN, row_sums.kernel(rows).source)


# What has no sum of columns beside a kernel over rows, or none that could move there.
OTHERS = {
    "rows of several blocks": (gradient(layer_norm), inputs(64, 9000, 2)),
    "a maximum": (lambda x: (x - x.mean(1, keepdims=True), x.max(0)), inputs(40, 30, 0)[:1]),
    "of what waits for it": (
        lambda x: (x / x.sum(1, keepdims=True)) * (x / x.sum(1, keepdims=True)).sum(0),
        inputs(40, 30, 0)[:1],
    ),
    "of other rows": (lambda x, y: (x / x.sum(1, keepdims=True), y.sum(0)), inputs(40, 30, 0)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_sums_stay(name: str) -> None:
    function, args = OTHERS[name]
    assert not problems(function, *args)


def test_sums_of_every_length_are_cut_evenly() -> None:
    for rows in (1024, 1023 * 8, 4095, 2046 * 3):
        (found,) = problems(gradient(rms_norm), *inputs(rows, 1024, 1))
        assert found.kernel.axes[0].extent == rows
