"""Kernel IR to Triton source, without Triton: exact text, refusals, default schedules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.golden import assert_golden
from tests.kernels import triton_kernels as examples
from tests.kir.running_kernels import running_kernels

from funcdl.compiler.cuda.schedule import schedule_gpu
from funcdl.kernels.triton.blocks import UnsupportedKernel
from funcdl.kernels.triton.render import render_kernel
from funcdl.kir import elementwise
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Kernel
from funcdl.kir.schedule import Schedule, Step

GOLDEN = Path(__file__).parent / "golden_triton"


@pytest.fixture(autouse=True, scope="module")
def own_table() -> Iterator[None]:
    saved = elementwise._table
    elementwise._table = examples.own_table()
    yield
    elementwise._table = saved


@pytest.mark.parametrize(
    "name",
    [
        "pointwise",
        "transpose",
        "softmax",
        "softmax_looped",
        "columns_looped",
        "batch_norm_looped",
        "matmul",
        "matmul_bf16",
        "matmul_group_2_3_7",
        "dot_prologue",
        "scatter",
    ],
)
def test_source_is_the_golden_text(name: str) -> None:
    assert_golden(GOLDEN / f"{name}.txt", examples.cases()[name].render().source)


def test_launch_record() -> None:
    kernel = examples.matmul(100, 70, 30, examples.BF16)
    rendered = render_kernel(kernel, examples.tiled(kernel, 32, 64, 16))
    assert rendered.name == kernel.name
    assert rendered.grid == (4 * 2,)
    assert list(rendered.signature.items()) == [
        ("x_ptr", "*bf16"),
        ("w_ptr", "*bf16"),
        ("bias_ptr", "*fp32"),
        ("out_ptr", "*bf16"),
    ]


def test_no_mask_where_blocks_divide_the_axes() -> None:
    kernel = examples.pointwise(8, 256)
    assert "mask" not in render_kernel(kernel, schedule_gpu(kernel)).source
    kernel = examples.matmul(64, 32, 48)
    assert "mask" not in render_kernel(kernel, examples.tiled(kernel, 32, 16, 16)).source


def test_offsets_are_64_bits_wide_only_for_large_buffers() -> None:
    small, large = examples.pointwise(2**20, 2**10), examples.pointwise(2**21, 2**11)
    assert "int64" not in render_kernel(small, schedule_gpu(small)).source
    source = render_kernel(large, schedule_gpu(large)).source
    assert "program = tl.program_id(0).to(tl.int64)" in source
    assert "tl.arange(0, BJ).to(tl.int64)" in source


@pytest.mark.parametrize("precision", ["ieee", "tf32", "tf32x3"])
def test_precision_of_a_float32_product_is_explicit(precision: str) -> None:
    kernel = examples.matmul(32, 32, 32, precision=precision)  # type: ignore[arg-type]  # names from a table of texts
    source = render_kernel(kernel, schedule_gpu(kernel)).source
    assert f'input_precision="{precision}"' in source


def test_widened_halves_are_multiplied_as_halves() -> None:
    kernel = examples.matmul(32, 32, 32, examples.BF16)
    source = render_kernel(kernel, schedule_gpu(kernel)).source
    assert re.search(r"tl\.dot\(x_\d, w_\d, dot_\d, out_dtype=tl\.float32\)", source), source


RUNNING = running_kernels()


def _update(op: str, dtype: type) -> Kernel:
    """Of ten points, two meet at each element."""
    b = KernelBuilder("update")
    i = b.axis("i", 10)
    b.buffer("out", dtype, 5, "inout")
    b.atomic_update(op, "out", i // 2, b.const(1, dtype))  # type: ignore[arg-type]
    return b.build()


def _unary(name: str, dtype: type) -> Kernel:
    b = KernelBuilder("unary")
    i = b.axis("i", 10)
    b.buffer("x", dtype, 10, "in")
    b.buffer("out", dtype, 10, "out")
    b.store("out", i, b.elementwise(name, b.load("x", i)))
    return b.build()


def _order(length: int) -> Kernel:
    b = KernelBuilder("order")
    i = b.axis("i", length)
    b.buffer("x", np.float32, length, "in")
    b.buffer("out", np.int32, length, "out")
    b.store("out", i, b.order([b.load("x", i)], "i", False))
    return b.build()


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (_unary("digamma", np.float32), "kernel unary, Elementwise %1: operation 'digamma'"),
        (_unary("clz", np.int8), "Elementwise %1: operation 'clz' on int8: Triton cannot count"),
        (_unary("exp", np.complex64), r"no element type complex64 \(buffer x\)"),
        (_update("set", np.int32), "kernel update, AtomicUpdate %1: set depends on the order"),
        (_update("mul", np.int32), "AtomicUpdate %1: mul depends on the order"),
        (_update("max", np.float32), "no unordered atomic max on float32"),
        (_update("add", np.int8), "no unordered atomic add on int8"),
        (
            _order(9000),
            "kernel order: a row of 9000 elements is too long to be sorted in one block",
        ),
    ],
)
def test_refusals_name_kernel_and_instruction(kernel: Kernel, message: str) -> None:
    with pytest.raises(UnsupportedKernel, match=message):
        render_kernel(kernel, schedule_gpu(kernel))


GRID_I, LANES_J = Step("i", "grid"), Step("j", "vector", 128)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((GRID_I, Step("j", "vector", 64)), "nothing visits all 77 positions of axis j"),
        ((LANES_J,), "nothing visits all 33 positions of axis i"),
        ((Step("i", "grid", 4), LANES_J), "axis i moves by 4 but its block has 1 lanes"),
        ((GRID_I, Step("j", "grid", 128), LANES_J), "axis j has a grid record"),
        ((Step("i", "loop"), LANES_J), "axis i has a loop record"),
    ],
)
def test_schedules_that_would_compute_something_else(steps: tuple[Step, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_kernel(examples.softmax(33, 77), Schedule(steps))


extents = st.one_of(st.integers(0, 70), st.integers(1, 100_000))


@given(extents, extents, st.sampled_from(["softmax", "pointwise", "i", "j", "ij", "matmul"]))
def test_default_schedules_fit_the_machine(m: int, n: int, form: str) -> None:
    if form in ("softmax", "pointwise"):
        kernel = getattr(examples, form)(m, n)
    elif form == "matmul":
        kernel = examples.matmul(m, n, 50, flip="w")
    else:
        kernel = examples.reductions(m, n, form)
    schedule = schedule_gpu(kernel)
    lanes = {s.axis: s.size for s in schedule.steps if s.kind == "vector"}
    rendered = render_kernel(kernel, schedule)  # refuses what does not visit each position once
    assert all(size & (size - 1) == 0 for size in (*lanes.values(), rendered.num_warps))
    assert prod(lanes.values()) <= 128 * 128 * 64
    assert 1 <= rendered.num_warps <= 32
    if form == "pointwise":
        assert prod(rendered.grid) * prod(lanes.values()) >= m * n


def test_column_sums_read_neighbouring_columns() -> None:
    schedule = schedule_gpu(examples.reductions(4096, 4096, "i"))
    lanes = {s.axis: s.size for s in schedule.steps if s.kind == "vector"}
    assert lanes["j"] >= 32


def test_rows_stay_whole_while_they_fit() -> None:
    kinds = {
        n: {s.kind for s in schedule_gpu(examples.softmax(100, n)).of("j")} for n in (8192, 8193)
    }
    assert kinds == {8192: {"vector"}, 8193: {"tile", "vector"}}
