"""Runs or compiles the Triton form of elementwise primitives in a process of its own.

``python -m tests.ops.triton_process interpret|compile dtype …`` prints JSON: for each dtype a list
of complaints.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from tests.ops.special_values import assert_same_values, special_samples
from tests.ops.table import ELEMENTWISE, reason_missing
from tests.process import answer

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Kernel
from funcdl.ops.lowering import compute_dtype
from funcdl.ops.registry import Sample

NDArray = np.ndarray[Any, Any]
Calls = dict[str, tuple[str, Sample]]


def run(mode: str, dtype: str) -> list[str]:
    """What is wrong with a dtype, found in a new process: one mode excludes the other."""
    module = "tests.ops.triton_process"
    complaints: list[str] = answer("-m", module, mode, dtype, interpret=mode == "interpret")
    return complaints


def calls_by_arity(dtype: str) -> dict[int, Calls]:
    """Every row on its special values, by the name of the output buffer."""
    found: dict[int, Calls] = {}
    for name, _ in sorted(ELEMENTWISE.items()):
        if reason_missing_or_dtype(name, dtype):
            continue
        for number, sample in enumerate(special_samples(name, dtype)):
            found.setdefault(len(sample.args), {})[f"{name}_{number}"] = (name, sample)
    return found


def reason_missing_or_dtype(name: str, dtype: str) -> bool:
    from tests.ops.table import OPS

    # Kernels have no complex values: where there is one, its parts are what they compute.
    if name == "complex" or dtype not in OPS[name].dtypes:
        return True
    return reason_missing(name, dtype, "triton") is not None


def build(calls: Calls) -> Kernel:
    """One kernel for all calls, which share their operands."""
    builder = KernelBuilder("rows")
    args = next(iter(calls.values()))[1].args
    place = builder.axis("i", args[0].size)
    avals = [ShapedArray(x.shape, x.dtype) for x in args]
    values = []
    for number, aval in enumerate(avals):
        buffer = builder.buffer(f"x{number}", aval.dtype, aval.size, "in")
        values.append(builder.cast(builder.load(buffer, place), compute_dtype(aval.dtype)))
    for buffer, (name, sample) in calls.items():
        primitive = ELEMENTWISE[name]
        (out,) = primitive.output_avals(avals, sample.params)
        builder.buffer(buffer, out.dtype, out.size, "out")
        value = primitive.lower.rule(builder, values, avals, 0, sample.params)
        builder.store(buffer, place, builder.cast(value, out.dtype))
    return builder.build()


def interpreted(kernel: Any, calls: Calls) -> list[str]:
    """Where Triton's interpreter and the reference disagree."""
    from funcdl.kernels.triton.interpret import interpret

    sample = next(iter(calls.values()))[1]
    wanted = {
        buffer: np.asarray(ELEMENTWISE[name].impl(*s.args, **s.params))
        for buffer, (name, s) in calls.items()
    }
    arrays = {f"x{i}": x.copy() for i, x in enumerate(sample.args)}
    arrays |= {buffer: np.zeros_like(out) for buffer, out in wanted.items()}
    interpret(kernel, arrays)
    complaints = []
    for buffer, out in wanted.items():
        eps = 0.0
        if dtypes.is_inexact(out.dtype):
            eps = float(dtypes.finfo(out.dtype).eps)
        try:
            assert_same_values(arrays[buffer], out, 16 * eps, buffer)
        except AssertionError as error:
            complaints.append(f"{buffer}: {error}")
    return complaints


def main(mode: str, dtype: str) -> None:
    from funcdl.compiler.cuda.schedule import schedule_gpu
    from funcdl.kernels.triton.compile import compile_cubin
    from funcdl.kernels.triton.render import render_kernel

    complaints: list[str] = []
    for calls in calls_by_arity(dtype).values():
        kernel = build(calls)
        rendered = render_kernel(kernel, schedule_gpu(kernel))
        if mode == "interpret":
            complaints += interpreted(rendered, calls)
        elif compile_cubin(rendered, 90).data[:4] != b"\x7fELF":
            complaints.append(f"no machine code for {dtype}")
    print(json.dumps(complaints))


if __name__ == "__main__":
    main(*sys.argv[1:])
