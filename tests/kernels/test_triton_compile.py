"""Cubins for sm_80 and sm_90, without a GPU: they exist, fit in shared memory and do not spill."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from tests.kernels import triton_harness
from tests.kernels.resources import SHARED_LIMIT
from tests.kernels.test_triton_interpret import NAMES
from tests.kernels.triton_kernels import large_cases

QUICK = [f"{name}@{arch}" for name in ("pointwise", "softmax", "matmul") for arch in (80, 90)]

pytestmark = pytest.mark.triton


# Products become other instructions on each architecture: they are compiled for both.
ALL = [*NAMES, *large_cases()]
PRODUCTS = {name for name in ALL if re.search("matmul|dot|prologue|conv", name)}
BOTH = [f"{name}@{arch}" for name in ALL for arch in (80, 90)]
# Loops and sums are made by the same passes for both, and compiled for one of them in turn.
TURN = {f"{name}@{(80, 90)[at % 2]}" for at, name in enumerate(ALL)}
SOME = [place for place in BOTH if place in TURN or place.split("@")[0] in PRODUCTS]
OTHERS = [place for place in BOTH if place not in SOME]
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
@pytest.mark.parametrize("place", SOME)
def test_every_kernel_compiles(place: str) -> None:
    start = SOME.index(place) // TOGETHER * TOGETHER
    check(reports(*SOME[start : start + TOGETHER])[place], place)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("place", OTHERS)
def test_every_kernel_compiles_for_the_other_architecture(place: str) -> None:
    check(reports(*OTHERS)[place], place)
