"""What a kernel may take of a GPU's processor, by what its cubin says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from funcdl.kernels.triton.compile import compile_cubin
from funcdl.kernels.triton.triton_kernel import TritonKernel

SHARED_LIMIT = {80: 163 * 1024, 86: 99 * 1024, 90: 227 * 1024}
"""Bytes of shared memory of one program, by compute capability."""


def in_turn(values: Sequence[Any]) -> list[Any]:
    """Values with one architecture in turn, and with the other one in exhaustive tests."""
    archs = (80, 90)
    return [
        pytest.param(value, arch, marks=() if at % 2 == turn else pytest.mark.exhaustive)
        for at, value in enumerate(values)
        for turn, arch in enumerate(archs)
    ]


def assert_fits(kernel: TritonKernel, arch: int) -> dict[str, Any]:
    """Compile; neither may registers be spilled nor shared memory exceeded. Returns metadata."""
    report: dict[str, Any] = compile_cubin(kernel, arch).metadata
    assert report["spill_bytes"] == 0
    assert report["shared"] <= SHARED_LIMIT[arch]
    return report
