"""Temporaries of odd rows: which get longer ones, what programs compute with them, and why not."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from tests.compiler.cuda.pitch_programs import (
    BF16,
    F16,
    F32,
    PROGRAMS,
    arguments,
    difference,
)
from tests.process import answer
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.check.checker import check
from funcdl.kir.interpreter import interpret
from funcdl.kir.ir import Kernel
from funcdl.kir.pitched_rows import Rows, pitch_rows, stored_rows

# Odd, even but not aligned in half types, and a prime beyond a block of a product.
LENGTHS = [257, 260, 1031]
DTYPES = [F32, F16, BF16]


def lowered(name: str, length: int, dtype: Any) -> Any:
    shapes = [fd.ShapeDtypeStruct(x.shape, x.dtype) for x in arguments(name, length, dtype)]
    with fd.config.override(backend="gpu"):
        return fd.jit(PROGRAMS[name].function).lower(*shapes)


def pitched(text: str, pitch: int) -> int:
    """How many temporaries have rows of that many elements."""
    return len(re.findall(rf"^ +\d+  \S.*: \w+\[(?:\d+,)*{pitch}\]", text, re.MULTILINE))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_compute_what_they_mean(name: str, length: int, dtype: Any) -> None:
    # Memory of the stub is NaN at first: whatever is read that nobody wrote shows.
    with installed(StubGpu()) as gpu:
        assert difference(name, length, dtype, gpu) == ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_so_many_temporaries_get_longer_rows(name: str) -> None:
    found = lowered(name, 1031, BF16)
    # Kernels say so of a loop's body, too: each temporary is written once.
    stores = re.findall(r"^  store \w+\[.*\b1040\*", found.as_text("kernels"), re.MULTILINE)
    assert len(stores) == PROGRAMS[name].pitched
    if name != "in a loop":
        assert pitched(found.as_text("memory"), 1040) == PROGRAMS[name].pitched


@pytest.mark.parametrize(
    ("length", "dtype", "pitch"),
    [
        *((1024, BF16, None), (1032, BF16, None), (1028, F32, None), (255, BF16, None)),
        *((1028, BF16, 1040), (1031, F32, 1040), (2001, BF16, 2016), (50257, BF16, 50304)),
    ],
)
def test_lengths(length: int, dtype: Any, pitch: int | None) -> None:
    text = lowered("loss", length, dtype).as_text("memory")
    found = {int(n) for n in re.findall(r"^ +\d+  \S.*: \w+\[5,(\d{3,})\]", text, re.MULTILINE)}
    assert found == {length if pitch is None else pitch}


@pytest.mark.triton
def test_programs_in_tritons_interpreter() -> None:
    names = ["loss", "reductions", "square", "in a loop"]
    found = answer("-m", "tests.compiler.cuda.pitch_programs", "257", *names, interpret=True)
    assert found == dict.fromkeys(found, "") and len(found) == 2 * len(names)


# Kernels by themselves


def doubled(length: int, along: bool = True) -> Kernel:
    """y = 2 x + b for three rows, and the largest of each."""
    builder = KernelBuilder("doubled")
    i, j = builder.axis("i", 3), builder.axis("j", length)
    builder.buffer("x", F32, 3 * length, "in")
    builder.buffer("b", F32, length, "in")
    builder.buffer("y", F32, 3 * length, "out")
    builder.buffer("largest", F32, 3, "out")
    x = builder.load("x", i * length + j)
    y = builder.elementwise("add", builder.elementwise("add", x, x), builder.load("b", j))
    builder.store("largest", i, builder.reduce("max", y, ["j"]))
    builder.store("y", i * length + j if along else j * 3 + i, y)
    return builder.build()


@pytest.mark.parametrize("names", [("x",), ("y",), ("x", "y")])
def test_a_kernel_writes_zeros_between_rows(names: tuple[str, ...]) -> None:
    plain, rows = doubled(7), Rows(7, 12)
    kernel = pitch_rows(plain, dict.fromkeys(names, rows))
    assert kernel is not None
    check(kernel)
    x, b = -np.arange(21, dtype=F32).reshape(3, 7) - 100, np.zeros(7, F32)
    wide = np.pad(x, ((0, 0), (0, 5)))
    y = np.full((3, 12 if "y" in names else 7), np.nan, F32)
    largest = np.zeros(3, F32)
    given = wide if "x" in names else x
    interpret(kernel, {"x": given.ravel(), "b": b, "y": (flat := y.ravel()), "largest": largest})
    want = np.pad(2 * x, ((0, 0), (0, 5))) if "y" in names else 2 * x
    np.testing.assert_array_equal(flat.reshape(y.shape), want)
    np.testing.assert_array_equal(largest, 2 * x.max(1))


def test_rows_are_those_along_an_axis() -> None:
    assert stored_rows(doubled(7), "y") == 7
    assert stored_rows(doubled(7, along=False), "y") == 3  # rows along the other axis
    assert stored_rows(doubled(7), "largest") == 3
    assert stored_rows(doubled(7), "x") is None  # which it does not store


def test_what_crosses_rows_stays_dense() -> None:
    builder = KernelBuilder("shifted")
    i = builder.axis("i", 20)
    builder.buffer("x", F32, 21, "in")
    builder.buffer("y", F32, 20, "out")
    builder.store("y", i, builder.load("x", i + 1))
    assert pitch_rows(builder.build(), {"x": Rows(7, 12)}) is None
