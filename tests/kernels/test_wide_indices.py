"""Positions that do not fit into 32 bits."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from tests.process import answer

from funcdl.compiler.cuda.schedule import parts, schedule_gpu
from funcdl.kernels.triton.render import render_kernel
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.cut.split_rows import split_rows
from funcdl.kir.ir import Kernel


@pytest.mark.triton
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="maps memory that it has not got")
def test_gathers_and_updates_far_beyond_32_bits() -> None:
    results = answer("-m", "tests.kernels.wide_cases", interpret=True)
    assert results
    for name, (found, wanted) in results.items():
        assert found == wanted, name


def long_row(count: int) -> Kernel:
    builder = KernelBuilder("total")
    i = builder.axis("i", count)
    builder.buffer("x", np.int8, count, "in")
    builder.buffer("out", np.int32, 1, "out")
    builder.store("out", i * 0, builder.reduce("argmax", builder.load("x", i), ["i"], np.int32))
    return builder.build()


def test_one_row_of_more_than_32_bits_of_elements_is_cut() -> None:
    kernel = long_row(2**31 + 5)
    cut = parts(kernel)
    assert isinstance(cut, tuple)
    first, last = split_rows(kernel, *cut).kernels
    rendered = render_kernel(first, schedule_gpu(first))
    assert 512 <= rendered.grid[0] <= 1024
    assert "program = tl.program_id(0).to(tl.int64)" in rendered.source
    assert f"tl.full([], {2**31 + 5}, tl.int64)" in rendered.source
    assert render_kernel(last, schedule_gpu(last)).grid == (1,)
