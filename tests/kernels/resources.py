"""What a kernel may take of a GPU's processor, by what its cubin says."""

from __future__ import annotations

from typing import Any

from funcdl.kernels.triton.compile import compile_cubin
from funcdl.kernels.triton.triton_kernel import TritonKernel

SHARED_LIMIT = {80: 163 * 1024, 86: 99 * 1024, 90: 227 * 1024}
"""Bytes of shared memory of one program, by compute capability."""


def assert_fits(kernel: TritonKernel, arch: int) -> dict[str, Any]:
    """Compile; neither may registers be spilled nor shared memory exceeded. Returns metadata."""
    report: dict[str, Any] = compile_cubin(kernel, arch).metadata
    assert report["spill_bytes"] == 0
    assert report["shared"] <= SHARED_LIMIT[arch]
    return report
