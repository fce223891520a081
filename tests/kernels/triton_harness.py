"""Runs or compiles the Triton tests' kernels in a process of their own; prints JSON.

``python -m tests.kernels.triton_harness interpret name …``, ``… compile name@80 …``
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
from tests.process import answer


def run(mode: str, names: Iterable[str]) -> dict[str, Any]:
    """Run this module in a new process."""
    module = "tests.kernels.triton_harness"
    result: dict[str, Any] = answer("-m", module, mode, *names, interpret=mode == "interpret")
    return result


def main(mode: str, names: list[str]) -> None:
    from tests.kernels import triton_kernels

    from funcdl.kir import elementwise

    elementwise._table = triton_kernels.own_table()
    cases = triton_kernels.cases() | triton_kernels.large_cases()
    results: dict[str, Any] = {}
    for place in names:
        source = ""
        name, _, arch = place.partition("@")
        try:
            kernel = cases[name].render()
            source = kernel.source
            if mode == "interpret":
                results[place] = difference(cases[name], kernel)
            else:
                results[place] = compiled(kernel, int(arch))
        except Exception as error:
            results[place] = f"{type(error).__name__}: {error}\n{source}"
    print(json.dumps(results))


def difference(case: Any, kernel: Any) -> str:
    """Where the interpreted source and the kernel IR's own interpreter disagree, or ""."""
    from funcdl.kernels.triton import interpret
    from funcdl.kir import interpreter

    found = case.arrays()
    wanted = {name: array.copy() for name, array in found.items()}
    interpret.interpret(kernel, found)
    interpreter.interpret(case.kernel, wanted)
    for name, array in wanted.items():
        exact = array.dtype.kind in "biu"
        tolerance = 0 if exact else case.tolerance
        left, right = (x if exact else x.astype(np.float64) for x in (found[name], array))
        try:
            np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)
        except AssertionError as error:
            return f"{name}: {error}\n{kernel.source}"
    return ""


def compiled(kernel: Any, arch: int) -> dict[str, Any]:
    """What ptxas says of the kernel."""
    from funcdl.kernels.triton.compile import compile_cubin

    cubin = compile_cubin(kernel, arch)
    return {**cubin.metadata, "elf": cubin.data[:4] == b"\x7fELF"}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
