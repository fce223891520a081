"""Which sums are made in the pass that finds a maximum, and how often rows are read then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.kernels.triton_kernels import normalize, softmax

from funcdl.compiler.cuda.schedule import Knobs, schedule_gpu
from funcdl.kernels.triton.online import online_sums
from funcdl.kernels.triton.render import render_kernel
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Kernel


def row_kernel(subtracted: str) -> Kernel:
    """The sum of exp(x - something), and that."""
    b = KernelBuilder("row")
    i, j = b.axis("i", 4), b.axis("j", 100)
    for name in ("x", "y"):
        b.buffer(name, np.float32, 400, "in")
    b.buffer("out", np.float32, 4, "out")
    x, y = b.load("x", i * 100 + j), b.load("y", i * 100 + j)
    top = b.reduce("max", x, ["j"])
    one = b.const(1.0, np.float32)
    other: dict[str, int] = {
        "maximum": top,
        "minimum": b.reduce("min", x, ["j"]),
        "of another": b.reduce("max", y, ["j"]),
        "or one": b.select(b.elementwise("is_finite", top), top, one),
        "scaled": b.elementwise("mul", top, one),
    }
    terms = b.elementwise("exp", b.elementwise("sub", x, other[subtracted]))
    b.store("out", i, b.reduce("sum", terms, ["j"]))
    return b.build()


@pytest.mark.parametrize("kernel", [softmax(), softmax(guarded=True), row_kernel("maximum")])
def test_sums_relative_to_the_maximum_are_found(kernel: Kernel) -> None:
    assert len(online_sums(kernel)) == 1


OTHERS: dict[str, Any] = {
    name: row_kernel(name) for name in ("minimum", "of another", "or one", "scaled")
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_wait_for_the_maximum(name: str) -> None:
    assert not online_sums(OTHERS[name])
    assert passes(OTHERS[name]) == 2


def passes(kernel: Kernel) -> int:
    """How often a kernel reads a row that lies in several blocks."""
    source = render_kernel(kernel, schedule_gpu(kernel, Knobs(lanes=16))).source
    return source.count("for j_start in") + source.count("for j_left in")  # every other backwards


def test_a_softmax_reads_a_row_twice_and_its_normaliser_once() -> None:
    assert passes(softmax()) == passes(softmax(guarded=True)) == 2
    assert passes(row_kernel("maximum")) == 1
    assert passes(normalize({"i": 9, "j": 130}, "j")) == 3  # mean, variance, result
