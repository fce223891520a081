"""The kernels of rows: NumPy in Triton's interpreter, cubins, text, estimates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.golden import assert_golden
from tests.kernels.resources import assert_fits, in_turn
from tests.kernels.row_cases import BF16, CASES, F32
from tests.process import answer

from funcdl.kernels.triton.library import cross_entropy, norm_gradient
from funcdl.kernels.triton.library.cross_entropy import CrossEntropy
from funcdl.kernels.triton.library.norm_gradient import MAX_SIZE, Norm

GOLDEN = Path(__file__).parent / "golden_triton"


@pytest.fixture(scope="module")
def differences() -> dict[str, str]:
    found: dict[str, str] = answer("-m", "tests.kernels.row_cases", *CASES, interpret=True)
    return found


@pytest.mark.triton
@pytest.mark.parametrize("name", CASES)
def test_kernels_compute_the_formula(name: str, differences: dict[str, str]) -> None:
    assert differences[name] == ""


def check(module: Any, problem: Any, arch: int) -> None:
    assert_fits(module.kernel(problem), arch)


@pytest.mark.triton
def test_a_kernel_of_each_kind_compiles() -> None:
    check(norm_gradient, Norm(8192, 768, BF16), 90)
    check(cross_entropy, CrossEntropy(8192, 50257, BF16), 90)


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize(("size", "arch"), in_turn([5, 100, 1024, 5000, MAX_SIZE]))
def test_first_candidates_fit_without_spills(size: int, dtype: np.dtype[Any], arch: int) -> None:
    check(norm_gradient, Norm(4096, size, dtype), arch)
    check(norm_gradient, Norm(4096, size, dtype, centred=False), arch)
    check(cross_entropy, CrossEntropy(4096, size, dtype), arch)


@pytest.mark.parametrize(
    ("name", "module", "problem"),
    [
        ("norm_gradient", norm_gradient, Norm(4096, 1000, BF16)),
        ("cross_entropy", cross_entropy, CrossEntropy(4096, 50257, BF16)),
    ],
)
def test_source_is_the_golden_text(name: str, module: Any, problem: Any) -> None:
    assert_golden(GOLDEN / f"{name}.txt", module.kernel(problem).source)


def test_a_norms_gradient_reads_and_writes_each_element_once() -> None:
    problem = Norm(65536, 1024, F32)
    chosen = norm_gradient.candidates(problem)[0]
    ideal = 3 * 4 * problem.rows * problem.size
    assert ideal < norm_gradient.estimate(problem, chosen).bytes < 1.01 * ideal


def test_problems_that_no_kernel_takes() -> None:
    with pytest.raises(ValueError, match="takes rows of 1 to 8192 elements"):
        Norm(10, MAX_SIZE + 1, F32)
    with pytest.raises(ValueError, match="one or more logits"):
        CrossEntropy(10, 0, F32)
