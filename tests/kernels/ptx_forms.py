"""What the PTX of a function's kernel has of instructions.

``python -m tests.kernels.ptx_forms dtype function …`` prints, as JSON, the floating-point
instructions for each function.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from typing import Any

from tests.kernels.spill_cases import kernel_of
from tests.process import answer


def instructions(function: str, dtype: str) -> list[str]:
    """Names of the instructions on floats, each once."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from funcdl.compiler.cuda.schedule import schedule_gpu
    from funcdl.kernels.triton.compile import load_function
    from funcdl.kernels.triton.render import render_kernel

    kernel = kernel_of("pointwise", function, dtype)
    rendered = render_kernel(kernel, schedule_gpu(kernel))
    source = ASTSource(load_function(rendered), rendered.signature)
    options = {"enable_reflect_ftz": False}
    compiled: Any = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    return sorted(set(re.findall(r"\b[a-z][a-z0-9.]*\.f\d\d(?=\s)", compiled.asm["ptx"])))


def run(dtype: str, functions: Iterable[str]) -> dict[str, list[str]]:
    """`instructions` in a process of its own, where Triton's interpreter is not chosen."""
    module = "tests.kernels.ptx_forms"
    found: dict[str, list[str]] = answer("-m", module, dtype, *functions, interpret=False)
    return found


if __name__ == "__main__":
    import tests.ops.table  # noqa: F401 - imports every module of primitives

    _, given, *names = sys.argv
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        print(json.dumps({name: instructions(name, given) for name in names}))
