"""Kernels with long functions in every form that kernels have, and what ptxas says of them.

``python -m tests.kernels.spill_cases arch form function dtype …`` prints, as JSON, what spills or
needs too much shared memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from tests.kernels.resources import SHARED_LIMIT
from tests.process import answer

from funcdl.core import dtypes
from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Kernel

# Rows and columns; a matrix product has 512 terms.
SHAPES = {
    "pointwise": (1_000_003, 1),
    "transposed": (1000, 1000),
    "rows": (4096, 4000),
    "long_rows": (2000, 100_003),
    "columns": (4096, 1000),
    "running": (500, 10_000),
    "dot": (1024, 1000),
}
FORMS = tuple(SHAPES)


def kernel_of(form: str, function: str, dtype: str) -> Kernel:
    """A kernel of this form that applies the function to each element."""
    from funcdl.kir import elementwise

    m, n = SHAPES[form]
    type_ = dtypes.from_short_name(dtype)
    builder = KernelBuilder(form)
    i, j = builder.axis("i", m), builder.axis("j", n)
    at = i * n + j
    count = elementwise.lookup(function).arity
    operands = [builder.buffer(f"x{k}", type_, m * n, "in") for k in range(count)]
    read = j * m + i if form == "transposed" else at
    values = [builder.load(buffer, read) for buffer in operands]
    if form == "dot":
        k = builder.axis("k", 512)
        builder.buffer("lhs", type_, m * 512, "in")
        builder.buffer("rhs", type_, 512 * n, "in")
        lhs = builder.load("lhs", i * 512 + k)
        values[0] = builder.dot(lhs, builder.load("rhs", k * n + j), "i", "j", "k")
    out = builder.elementwise(function, *values)
    if form in ("rows", "long_rows"):
        at, out, m, n = i, builder.reduce("sum", out, ["j"]), m, 1
    elif form == "columns":
        at, out, m, n = j, builder.reduce("sum", out, ["i"]), 1, n
    elif form == "running":
        out = builder.running("sum", out, "j")
    builder.buffer("out", builder.type_of(out).dtype, m * n, "out")
    builder.store("out", at if isinstance(at, ix.Index) else i, out)
    return builder.build()


def complaints(arch: int, cases: Iterable[Sequence[str]]) -> list[str]:
    """What a thread spills, and too much shared memory, by case."""
    import tests.ops.table  # noqa: F401 - imports every module of primitives

    from funcdl.compiler.cuda.schedule import schedule_gpu
    from funcdl.kernels.triton.compile import compile_cubin
    from funcdl.kernels.triton.render import render_kernel

    found = []
    for form, function, dtype in cases:
        kernel = kernel_of(form, function, dtype)
        rendered = render_kernel(kernel, schedule_gpu(kernel))
        report: dict[str, Any] = compile_cubin(rendered, arch).metadata
        if report["spill_bytes"] or report["shared"] > SHARED_LIMIT[arch]:
            found.append(f"{form} of {function} {dtype} on sm_{arch}: {report}")
    return found


def run(arch: int, cases: Iterable[Sequence[str]]) -> list[str]:
    """`complaints` in a process of its own, where Triton's interpreter is not chosen."""
    words = [word for case in cases for word in case]
    found: list[str] = answer("-m", "tests.kernels.spill_cases", str(arch), *words, interpret=False)
    return found


if __name__ == "__main__":
    _, number, *given = sys.argv
    print(json.dumps(complaints(int(number), np.reshape(given, (-1, 3)).tolist())))
