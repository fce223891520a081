"""The kernels that sort long rows: NumPy in Triton's interpreter, cubins, text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.golden import assert_golden
from tests.kernels.resources import assert_fits
from tests.kernels.sort_cases import CASES, problem
from tests.process import answer

from funcdl.compiler.cuda.schedule import schedule_gpu
from funcdl.kernels.triton.library import merge_runs, sort_blocks
from funcdl.kernels.triton.library.sort_problem import Sort
from funcdl.kernels.triton.render import render_kernel
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.schedule import SORTED_BYTES

GOLDEN = Path(__file__).parent / "golden_triton"
LONG = 1_000_003


@pytest.fixture(scope="module")
def differences() -> dict[str, str]:
    found: dict[str, str] = answer("-m", "tests.kernels.sort_cases", *CASES, interpret=True)
    return found


@pytest.mark.triton
@pytest.mark.parametrize("name", CASES)
def test_rows_are_sorted_as_numpy_sorts_them(name: str, differences: dict[str, str]) -> None:
    assert differences[name] == ""


@pytest.mark.triton
@pytest.mark.parametrize("module", [sort_blocks, merge_runs])
def test_a_kernel_of_each_kind_compiles(module: Any) -> None:
    assert_fits(module.kernel(problem(1, LONG, "f4")), 90)


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("module", [sort_blocks, merge_runs])
@pytest.mark.parametrize(
    ("names", "block"),
    [
        (("f4",), 2048),
        (("f8",), 1024),
        (("bfloat16",), 2048),
        (("?",), 2048),
        (("u8", "f4"), 512),
        (("f4",) * 4, 512),
        (("f8",) * 8, 128),
    ],
)
def test_no_kernel_spills(names: tuple[str, ...], block: int, module: Any, arch: int) -> None:
    dtypes = problem(1, LONG, *names).dtypes
    sort = Sort(3, LONG, dtypes, descending=len(names) == 1, block=block)
    assert_fits(module.kernel(sort), arch)


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize(("count", "dtype"), [(1, "f4"), (1, "f8"), (1, "i1"), (2, "f8")])
def test_the_longest_rows_of_one_block_do_not_spill(count: int, dtype: str, arch: int) -> None:
    length = SORTED_BYTES // (count * max(np.dtype(dtype).itemsize, 4))
    builder = KernelBuilder("order")
    i, j = builder.axis("i", 3), builder.axis("j", length)
    keys = [builder.buffer(f"x{n}", dtype, 3 * length, "in") for n in range(count)]
    values = [builder.load(key, i * length + j) for key in keys]
    builder.buffer("out", np.int32, 3 * length, "out")
    builder.store("out", i * length + j, builder.order(values, "j"))
    kernel = builder.build()
    assert_fits(render_kernel(kernel, schedule_gpu(kernel)), arch)


@pytest.mark.parametrize("module", [sort_blocks, merge_runs])
def test_source_is_the_golden_text(module: Any) -> None:
    kernel = module.kernel(problem(1, LONG, "f4"))
    assert_golden(GOLDEN / f"{kernel.name}.txt", kernel.source)


def test_problems_that_no_kernel_takes() -> None:
    for rows, length, dtypes in ((0, 5, ("f4",)), (1, 2**31, ("f4",)), (1, 5, ())):
        with pytest.raises(ValueError, match="sorting kernels take"):
            Sort(rows, length, tuple(map(np.dtype, dtypes)))
