"""Cubins for sm_80 and sm_90, without a GPU: they exist, fit in shared memory and do not spill."""

from __future__ import annotations

from typing import Any

import pytest
from tests.kernels import triton_harness
from tests.kernels.resources import SHARED_LIMIT
from tests.kernels.test_triton_interpret import NAMES
from tests.kernels.triton_kernels import large_cases

QUICK = ["pointwise", "softmax", "matmul"]

pytestmark = pytest.mark.triton


def check(reports: dict[str, Any], name: str) -> None:
    assert not isinstance(reports[name], str), reports[name]
    for arch, report in reports[name].items():
        assert report["elf"] and report["arch"] == int(arch)
        assert report["shared"] <= SHARED_LIMIT[int(arch)]
        assert report["spill_bytes"] == 0
        assert 0 < report["registers"] <= 255
        assert report["num_warps"] in (1, 2, 4, 8, 16, 32)
        assert report["global_scratch_size"] == report["profile_scratch_size"] == 0
        assert report["name"]


@pytest.fixture(scope="module")
def quick() -> dict[str, Any]:
    return triton_harness.run("compile", QUICK)


@pytest.fixture(scope="module")
def reports() -> dict[str, Any]:
    return triton_harness.run("compile", [*NAMES, *large_cases()])


@pytest.mark.part_of("test_every_kernel_compiles")
@pytest.mark.parametrize("name", QUICK)
def test_one_kernel_of_each_form_compiles(name: str, quick: dict[str, Any]) -> None:
    check(quick, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, *large_cases()])
def test_every_kernel_compiles(name: str, reports: dict[str, Any]) -> None:
    check(reports, name)
