"""Golden texts of the example kernels, and of indices, schedules and programs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tests.golden import assert_golden
from tests.kir.kernels import all_example_kernels

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.index import Index
from funcdl.kir.ir import Kernel
from funcdl.kir.printer import format_index, format_kernel, format_program, format_schedule
from funcdl.kir.program import Address, Call, KernelProgram
from funcdl.kir.schedule import Schedule, Step

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = all_example_kernels()


@pytest.mark.parametrize("name", EXAMPLES)
def test_golden(name: str) -> None:
    assert_golden(GOLDEN / f"{name}.txt", format_kernel(EXAMPLES[name][0]))


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(EXAMPLES)


x, y = ix.axis("i", 4), ix.axis("j", 10)
INDICES = [
    (ix.constant(0), "0"),
    (ix.constant(-3), "-3"),
    (x * 10 + y, "10*i + j"),
    (x * -1 + 3, "-i + 3"),
    (x * 2 - y - 7, "2*i - j - 7"),
    (y // 3 * 4 + (y + 1) % 5, "4*(j // 3) + ((j + 1) mod 5)"),
    (ix.value(4, 0, 9) * 5 + x, "i + 5*(%4 in 0..9)"),
]


@pytest.mark.parametrize(("index", "text"), INDICES)
def test_indices(index: Index, text: str) -> None:
    assert format_index(index) == text


def fill(value: float) -> Kernel:
    b = KernelBuilder("fill")
    position = b.axis("i", 4)
    b.buffer("out0", np.float32, 4, "out")
    b.store("out0", position, b.const(value, np.float32))
    return b.build()


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, 1e30, 1 / 3, math.inf, -math.inf])
def test_constants_read_back_and_differ_by_sign(value: float) -> None:
    line = format_kernel(fill(value)).splitlines()[2]
    text = line.split("const ")[1]
    assert np.float32(text).tobytes() == np.float32(value).tobytes()


SCHEDULES = [
    (Schedule(()), "none"),
    (
        Schedule((Step("i", "parallel", 4), Step("j", "loop"), Step("j", "vector"))),
        "i:parallel(4) j:loop j:vector",
    ),
    (
        Schedule((Step("i", "grid", 64), Step("j", "vector", 128)), num_warps=8),
        "i:grid(64) j:vector(128) warps=8 stages=2",
    ),
]


@pytest.mark.parametrize(("schedule", "text"), SCHEDULES)
def test_schedules(schedule: Schedule, text: str) -> None:
    assert format_schedule(schedule) == text


def test_programs() -> None:
    schedule = Schedule((Step("i", "vector"),))
    calls = (Call(0, (Address(1, 16),)), Call(0, (Address(0),)))
    program = KernelProgram("step", ((fill(1.5), schedule),), calls, 2)
    assert format_program(program) == (
        "program step: 2 slots, 1 kernels, 2 calls\n"
        "  call fill(out0=slot1+16)\n"
        "  call fill(out0=slot0+0)\n"
        "\n"
        "kernel fill(out0: f32[4] out)\n"
        "  axes i:4\n"
        "  schedule i:vector\n"
        "  %0 : f32 = const 1.5\n"
        "  store out0[i] = %0\n"
    )
