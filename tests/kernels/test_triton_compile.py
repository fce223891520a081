"""Cubins for sm_80 and sm_90, without a GPU: they exist, fit in shared memory and do not spill."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from tests.kernels import triton_harness
from tests.kernels.resources import SHARED_LIMIT
from tests.kernels.test_triton_interpret import NAMES
from tests.kernels.triton_kernels import large_cases

QUICK = [f"{name}@{arch}" for name in ("pointwise", "softmax", "matmul") for arch in (80, 90)]

pytestmark = pytest.mark.triton


PLACES = [f"{name}@{arch}" for name in [*NAMES, *large_cases()] for arch in (80, 90)]
# In one process, so that idle workers have something to take over.
TOGETHER = 50


def check(report: Any, place: str) -> None:
    assert not isinstance(report, str), report
    arch = int(place.split("@")[1])
    assert report["elf"] and report["arch"] == arch
    assert report["shared"] <= SHARED_LIMIT[arch]
    assert report["spill_bytes"] == 0
    assert 0 < report["registers"] <= 255
    assert report["num_warps"] in (1, 2, 4, 8, 16, 32)
    assert report["global_scratch_size"] == report["profile_scratch_size"] == 0
    assert report["name"]


@cache
def reports(*places: str) -> dict[str, Any]:
    return triton_harness.run("compile", places)


@pytest.mark.part_of("test_every_kernel_compiles")
@pytest.mark.parametrize("place", QUICK)
def test_one_kernel_of_each_form_compiles(place: str) -> None:
    check(reports(*QUICK)[place], place)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_every_kernel_compiles(place: str) -> None:
    start = PLACES.index(place) // TOGETHER * TOGETHER
    check(reports(*PLACES[start : start + TOGETHER])[place], place)
