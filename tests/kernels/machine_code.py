"""What the default code of the GPU benchmark's kernels is made of.

``python -m tests.kernels.machine_code ARCH PATTERN`` compiles those whose case has the pattern in
its name, at full size, and prints a row for each as JSON. A pattern may name one of `OTHERS`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from benchmarks import gpu_cases
from benchmarks.frameworks import Framework
from tests.process import answer
from tests.runtime.cuda.environment import StubGpu, installed
from tests.runtime.cuda.stub_driver import StubDriver

import funcdl as fd
from funcdl.compiler.cuda.target import CudaBackend, CudaExecutable
from funcdl.kernels.triton.render import render_kernel
from funcdl.kernels.triton.triton_kernel import TritonKernel

SIZE = 8192
FLOAT32 = np.dtype(np.float32)
SHARED = {80: 164 << 10, 90: 228 << 10}
"""Bytes of shared memory of a processor, of which each program takes 1 KB more than it asks for."""
REGISTERS, THREADS = 65536, 2048
"""Of a processor."""

Row = dict[str, Any]


def last_layer(x: Any, embedding: Any, labels: Any) -> Any:
    """A language model's logits and loss, and the gradients of both factors of the logits."""

    def loss(x: Any, embedding: Any) -> Any:
        logits = x @ embedding.astype(x.dtype).T
        logs = fd.nn.log_softmax(logits.astype(FLOAT32))
        return -fd.numpy.take_along_axis(logs, labels[:, None], axis=-1).mean()

    return fd.value_and_grad(loss, argnums=(0, 1))(x, embedding)


# Programs beside the benchmark's: what they take.
OTHERS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "last layer of 50257 classes": (
        last_layer,
        [
            fd.ShapeDtypeStruct((8192, 768), ml_dtypes.bfloat16),
            fd.ShapeDtypeStruct((50257, 768), FLOAT32),
            fd.ShapeDtypeStruct((8192,), np.int32),
        ],
    )
}


def kernels_of_case(case: gpu_cases.Case, arch: int) -> list[TritonKernel]:
    """The kernels of a benchmark, its gradients' where it is of these."""
    framework, count = Framework("funcdl"), case.gradient

    def value(*xs: Any) -> Any:
        return case.general(framework, *xs)

    def gradients(*xs: Any) -> Any:
        *xs, ct = xs
        rest = xs[count:]
        return fd.vjp(lambda *ys: value(*ys, *rest), *xs[:count])[1](ct)

    shapes = [fd.ShapeDtypeStruct(x.shape, x.dtype) for x in case.arrays().values()]
    with fd.default_matmul_precision(case.precision):
        return kernels_of(gradients if count else value, shapes, arch)


def kernels_of(
    function: Callable[..., Any], shapes: Sequence[Any], arch: int
) -> list[TritonKernel]:
    """The kernels that a device would be given, with the shipped schedules."""
    stub = StubGpu(StubDriver(capabilities=(arch,)))
    with installed(stub), fd.config.override(backend="gpu"):
        lowered: Any = fd.jit(function).lower(*shapes)
        pipeline = lowered._lowered._pipeline
        backend = CudaBackend(lambda: stub.platform)
        program = CudaExecutable(backend, pipeline.simplified, pipeline.program, "case")
        kernels = program._commands.kernels
        schedules = backend.tuner.schedules(kernels, stub.platform.open(0))
        return [render_kernel(k, s) for (k, _), s in zip(kernels, schedules, strict=True)]


def row_of(case: str, kernel: TritonKernel, arch: int) -> Row:
    """Matrix instructions, bytes of most accesses of memory, and programs on a processor."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from funcdl.kernels.triton.compile import load_function
    from funcdl.kernels.triton.cubin_elf import resources

    attrs = {(n,): [["tt.divisibility", 16]] for n in range(len(kernel.signature))}
    source = ASTSource(load_function(kernel), kernel.signature, attrs=attrs)
    options = {
        "num_warps": kernel.num_warps,
        "num_stages": kernel.num_stages,
        "enable_fp_fusion": True,
        "enable_reflect_ftz": not kernel.subnormal,
    }
    compiled: Any = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    ptx, made = compiled.asm["ptx"], resources(compiled.asm["cubin"])
    shapes = re.findall(r"\b(wgmma|mma)\S*\.(m\d+n\d+k\d+)\.", ptx)
    threads = 32 * kernel.num_warps
    registers = -(-made["registers"] // 8) * 8
    shared = compiled.metadata.shared + 1024
    return {
        "case": case,
        "kernel": kernel.name,
        "tensor cores": sorted({" ".join(found) for found in shapes}),
        "reads": _usual([*_widths(ptx, "ld"), *_copies(ptx)]),
        "asynchronous": bool(_copies(ptx)),
        "writes": _usual(_widths(ptx, "st")),
        "narrowest": min([*_widths(ptx, "ld"), *_copies(ptx), *_widths(ptx, "st")]),
        "stack": made["stack_bytes"],
        "programs": min(
            REGISTERS // (registers * threads), SHARED[arch] // shared, THREADS // threads
        ),
    }


def _widths(ptx: str, name: str) -> list[int]:
    """Bytes of each access of global memory by a thread."""
    found = re.findall(rf"\b{name}\.global\S*?(?:\.v(\d))?\.[bsuf](\d+)\s", ptx)
    return [int(count or 1) * int(bits) // 8 for count, bits in found]


def _copies(ptx: str) -> list[int]:
    """Bytes of each copy into shared memory that no thread waits for."""
    found = re.findall(r"cp\.async\.c[ag]\.shared\.global.*?,\s*(0x[0-9a-f]+|\d+)\s*[,;]", ptx)
    return [int(size, 0) for size in found]


def _usual(widths: Sequence[int]) -> int:
    """The width in which most bytes are moved; the narrowest one of several."""
    moved: Counter[int] = Counter()
    for width in sorted(widths):
        moved[width] += width
    return moved.most_common(1)[0][0]


def _shape_only(*shape: int, dtype: np.dtype[Any] = FLOAT32, seed: int = 0) -> Any:
    """An array of one element in memory: numbers do not matter."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def rows(arch: int, pattern: str) -> Iterator[Row]:
    """A row for each kernel of each case."""
    gpu_cases._random = _shape_only
    for case in gpu_cases.kernel_cases(SIZE):
        if pattern in case.name:
            for kernel in kernels_of_case(case, arch):
                yield row_of(case.name, kernel, arch)
    for name, (function, shapes) in OTHERS.items():
        if pattern and pattern in name:
            for kernel in kernels_of(function, shapes, arch):
                yield row_of(name, kernel, arch)


def run(arch: int, pattern: str = "") -> list[Row]:
    """`rows` in a process of its own, where Triton's interpreter is not chosen."""
    found: list[Row] = answer(
        "-m", "tests.kernels.machine_code", str(arch), pattern, interpret=False
    )
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        print(json.dumps(list(rows(int(sys.argv[1]), sys.argv[2]))))
