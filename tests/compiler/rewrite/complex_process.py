"""Operations on complex numbers as Triton kernels, in a process of its own.

``python -m tests.compiler.rewrite.complex_process interpret`` runs all of them in Triton's
interpreter; ``… compile 80`` makes machine code of them for that compute capability. It prints
JSON: a list of complaints.
"""

from __future__ import annotations

import json
import sys
import warnings
from itertools import islice
from typing import Any

import numpy as np
from tests.ops.table import OPS, is_by_parts, outputs, samples
from tests.runtime.cuda.environment import StubGpu, installed
from tests.runtime.cuda.ops_on_gpu import check_on_gpu

import funcdl as fd
from funcdl.core.array import Array
from funcdl.errors import CompilerWarning


def names(dtype: str = "c64") -> list[str]:
    """The primitives that are computed by parts."""
    return [name for name, op in OPS.items() if dtype in op.dtypes and is_by_parts(name, dtype)]


def interpreted() -> list[str]:
    """What differs from the reference, or runs on the host."""
    from funcdl.kernels.triton.interpret import interpret

    complaints = []
    with installed(StubGpu(run=interpret)):
        for name in names():
            try:
                check_on_gpu(name, "c64", count=3)
            except (AssertionError, CompilerWarning) as error:
                complaints.append(f"{name}: {error}")
    return complaints


def compiled(arch: int) -> list[str]:
    """What Triton makes no machine code of: all operations, in as few kernels as that takes."""
    from funcdl.compiler.cuda import target
    from funcdl.kernels.triton.compile import compile_cubin
    from funcdl.kernels.triton.render import render_kernel
    from funcdl.kir.program import all_kernels

    calls = {
        f"{name} {dtype}": next(islice(samples(name, dtype), 1, None))
        for dtype in ("c64", "c128")
        for name in names(dtype)
    }

    def program(operands: dict[str, Any]) -> dict[str, list[Any]]:
        return {
            key: outputs(OPS[key.split()[0]].primitive(*operands[key], **sample.params))
            for key, sample in calls.items()
        }

    operands = {key: tuple(map(Array, sample.args)) for key, sample in calls.items()}
    with fd.config.override(backend="gpu"):
        lowered: Any = fd.jit(program).lower(operands)._lowered
    assert isinstance(lowered, target.CudaProgram)
    complaints = []
    seen: set[str] = set()
    for segment in lowered._pipeline.program.segments:
        for kernel, schedule in all_kernels(segment):
            rendered = render_kernel(kernel, schedule)
            if rendered.source not in seen:
                seen.add(rendered.source)
                if compile_cubin(rendered, arch).data[:4] != b"\x7fELF":
                    complaints.append(f"no machine code of {kernel.name}")
    return complaints


def main(mode: str, *archs: str) -> None:
    warnings.simplefilter("error", CompilerWarning)
    np.seterr(all="ignore")
    found = interpreted() if mode == "interpret" else compiled(int(archs[0]))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
