"""Rows of 8192 elements and more: blocks and warps by arithmetic, results, and cubins."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from tests.compiler.cuda.norm_programs import gradient
from tests.compiler.cuda.row_programs import BF16, FORMS, in_float32, shapes
from tests.kernels.resources import assert_fits
from tests.process import answer

import funcdl as fd
from funcdl import nn
from funcdl.compiler.cuda.defaults import default_knobs
from funcdl.compiler.cuda.rows import CACHE_BYTES
from funcdl.compiler.cuda.schedule import schedule_gpu
from funcdl.kernels.triton.render import render_kernel
from funcdl.kir.ir import Kernel
from funcdl.kir.program import all_kernels
from funcdl.kir.schedule import Schedule

TYPES = [np.float32, BF16]
SIZES = [8193, 16001, 16384, 32000, 50257, 128256]
PROCESSOR_REGISTERS = 65536


def kernel_of(name: str, size: int, dtype: Any) -> Kernel:
    """The kernel of a program that has the matrices."""
    with fd.config.override(backend="gpu"):
        lowered: Any = fd.jit(in_float32(FORMS[name][0])).lower(*shapes(name, 2048, size, dtype))
    program = lowered._lowered._pipeline.program
    kernels = [k for segment in program.segments for k, _ in all_kernels(segment)]
    (found,) = (k for k in kernels if max(b.size for b in k.buffers) >= 2048 * size)
    return found


def lanes_of(schedule: Schedule) -> int:
    return prod(step.size for step in schedule.steps if step.kind == "vector")


# Lanes, warps, and in how many loops a row is read.
CHOICES = {
    ("softmax", 8192, np.float32): (8192, 16, 0),
    ("softmax", 16384, np.float32): (16384, 16, 0),
    ("softmax", 16384, BF16): (16384, 16, 0),
    ("softmax", 12001, np.float32): (4096, 8, 2),
    ("softmax", 32768, np.float32): (8192, 16, 2),
    ("cross-entropy", 50257, np.float32): (8192, 32, 2),
    ("cross-entropy", 50257, BF16): (8192, 16, 2),
    ("cross-entropy", 128256, np.float32): (16384, 32, 2),
    ("cross-entropy", 128256, BF16): (16384, 32, 2),
    ("softmax, gradient", 8192, np.float32): (8192, 8, 0),
    ("softmax, gradient", 4096, np.float32): (4096, 8, 0),
    ("softmax, gradient", 16384, np.float32): (16384, 16, 0),
    ("softmax, gradient", 50257, np.float32): (8192, 32, 2),
}


@pytest.mark.parametrize("case", CHOICES)
def test_choices(case: tuple[str, int, Any]) -> None:
    kernel = kernel_of(*case)
    schedule = schedule_gpu(kernel)
    loops = render_kernel(kernel, schedule).source.count(" in range(0, ")
    assert (lanes_of(schedule), schedule.num_warps, loops) == CHOICES[case]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["softmax", "cross-entropy", "RMS norm"])
def test_enough_is_on_its_way_and_what_is_read_again_is_in_the_cache(
    name: str, size: int, dtype: Any
) -> None:
    schedule = schedule_gpu(kernel_of(name, size, dtype))
    element = np.dtype(dtype).itemsize
    # With 64 registers a thread: that many programs of a processor at a time.
    programs = max(1, PROCESSOR_REGISTERS // 64 // (32 * schedule.num_warps))
    on_its_way = programs * lanes_of(schedule) * element
    assert on_its_way >= 3.35e12 / 132 * 650e-9
    if lanes_of(schedule) < size:
        assert programs == 1 or programs * size * element <= CACHE_BYTES


def test_rows_that_are_read_once_take_small_blocks() -> None:
    with fd.config.override(backend="gpu"):
        x = fd.ShapeDtypeStruct((2048, 50257), np.float32)
        lowered: Any = fd.jit(lambda x: (x * x).sum(1)).lower(x)
    ((kernel, schedule),) = all_kernels(lowered._lowered._pipeline.program.segments[0])
    assert (lanes_of(schedule), schedule.num_warps) == (2048, 4)
    # A thread adds up its own elements before it adds them to the sum: one for each thread.
    assert "tl.full([128]" in render_kernel(kernel, schedule).source


@pytest.mark.triton
def test_programs_in_tritons_interpreter() -> None:
    found = answer("-m", "tests.compiler.cuda.row_programs", "8193", "50257", interpret=True)
    assert found == dict.fromkeys(found, "") and len(found) == 2 * len(TYPES) * len(FORMS)


def check(name: str, size: int, dtype: Any, arch: int) -> None:
    kernel = kernel_of(name, size, dtype)
    schedule = schedule_gpu(kernel, default_knobs(kernel, arch))
    report = assert_fits(render_kernel(kernel, schedule), arch)
    assert report["registers"] * 32 * schedule.num_warps <= PROCESSOR_REGISTERS


@pytest.mark.triton
def test_a_loss_of_gpt_2_compiles() -> None:
    check("cross-entropy", 50257, BF16, 90)


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", FORMS)
def test_kernels_spill_nothing(name: str, dtype: Any) -> None:
    check(name, 50257, dtype, 90)


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FORMS)
def test_kernels_for_every_length_spill_nothing(
    name: str, size: int, dtype: Any, arch: int
) -> None:
    check(name, size, dtype, arch)


def gradient_of_softmax() -> str:
    x = fd.ShapeDtypeStruct((64, 8192), np.float32)
    with fd.config.override(backend="gpu"):
        return fd.jit(gradient(nn.softmax)).lower(x, x).as_text("triton")


def test_all_of_a_row_is_on_its_way_before_the_first_reduction() -> None:
    """A load behind a reduction's barrier would wait for memory once more."""
    source = gradient_of_softmax()
    assert source.count("tl.load(") == 2
    assert source.rindex("tl.load(") < source.index("tl.reduce(")


def test_the_gradient_of_a_quotient_divides_once() -> None:
    assert gradient_of_softmax().count("tl.div_rn(") == 2  # and the quotient itself
