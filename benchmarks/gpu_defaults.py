"""Write the shipped table of GPU schedules (docs/autotuning.md).

``python -m benchmarks.gpu_defaults`` needs no GPU: candidates are ordered by the estimate, and the
first one is taken that compiles without spilling and fits into shared memory. With ``--measure``
some (or, with ``--exhaustive``, all) are timed on the GPU of this machine, whose rows alone are
written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.compiler.cuda.autotune import Autotuner
from funcdl.compiler.cuda.candidates import Candidate, candidates, refinements, to_json
from funcdl.compiler.cuda.defaults import default_knobs, kernel_class
from funcdl.compiler.cuda.roofline import MODELS, estimate, model_of
from funcdl.compiler.cuda.schedule import Knobs, schedule_gpu
from funcdl.compiler.pipeline import Pipeline
from funcdl.errors import DeviceError
from funcdl.kernels.triton.compile_pool import compile_all
from funcdl.kernels.triton.render import render_kernel
from funcdl.kir.ir import Kernel
from funcdl.runtime.cuda.device import CudaDevice
from funcdl.runtime.cuda.platform import installed_platform

TABLE = Path(__file__).parents[1] / "src/funcdl/compiler/cuda/defaults.json"
TRIED = 3  # of the best estimates, beside the heuristics
WORTH_IT = 1.1  # an estimate by which a candidate is better is no noise of the model


def typical_programs() -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Functions of one kernel each, with their operands' types."""

    def array(*shape: int, dtype: Any = np.float32) -> Any:
        return fd.ShapeDtypeStruct(shape, dtype)

    for power in (12, 18, 24):
        yield lambda x, y: fnp.tanh(x) * y + x, (array(1 << power),) * 2
    for length in (128, 1024, 8192, 65536):
        count = max(1, (1 << 24) // length)
        yield lambda x: fd.nn.softmax(x, axis=1), (array(count, length),)
        yield lambda x: fnp.sum(x * x, axis=0), (array(length, 1024),)
        yield lambda x: fnp.cumsum(x, axis=1), (array(count, length),)
    for side in (128, 1024, 4096):
        for dtype in (fnp.bfloat16, np.float32, np.float64):
            yield (
                lambda x, y: (
                    fnp.matmul(x, y, preferred_element_type=np.float32)
                    if x.dtype == fnp.bfloat16
                    else x @ y
                ),
                (array(side, side, dtype=dtype),) * 2,
            )


def typical_kernels() -> list[Kernel]:
    """The kernels of the typical programs, the largest of each."""
    found = []
    for function, operands in typical_programs():
        closed = fd.make_jaxpr(function)(*operands)
        pipeline = Pipeline(
            closed,
            name="typical",
            donated=[False] * len(operands),
            scheduler=schedule_gpu,
            renderer=("triton", lambda program: ""),
        )
        (kernel, _), *_ = pipeline.program.segments[0].kernels
        found.append(kernel)
    return found


def best_by_estimate(kernel: Kernel, capability: int) -> tuple[Candidate, dict[str, Any]]:
    """The best estimate of what compiles, fits and needs no stack, or the least of it."""
    model = model_of(capability)
    found = candidates(kernel, Knobs())
    first = found[0]
    bound = estimate(kernel, first.schedule, model) / WORTH_IT
    found = [c for c in found if estimate(kernel, c.schedule, model) < bound]
    found.sort(key=lambda c: estimate(kernel, c.schedule, model))
    tried: list[tuple[Candidate, dict[str, Any]]] = []
    for candidate in [*found[:TRIED], first]:
        try:
            (cubin,) = compile_all([render_kernel(kernel, candidate.schedule)], capability)
        except DeviceError:
            continue
        if cubin.metadata["shared"] <= model.shared_bytes:
            tried.append((candidate, cubin.metadata))
            if cubin.metadata["stack_bytes"] == 0:
                return tried[-1]
    return min(tried, key=lambda entry: entry[1]["stack_bytes"])


def measured(
    kernel: Kernel, gpu: CudaDevice, tuner: Autotuner, mode: str
) -> tuple[Candidate, dict[str, Any]]:
    """The fastest candidate on a GPU."""
    with fd.config.override(autotune=mode):
        (schedule,) = tuner.schedules([(kernel, schedule_gpu(kernel))], gpu)
    exhaustive = mode == "exhaustive"
    first = default_knobs(kernel, gpu.capability)
    for tiles in candidates(kernel, first, exhaustive=exhaustive):
        for found in refinements(kernel, tiles.knobs, gpu.processors, exhaustive=exhaustive):
            if found.schedule == schedule:
                return found, {}
    raise AssertionError("the tuner chooses among the candidates")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table; returns the process's exit code: 1 where there is no GPU to measure on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", type=int, nargs="*", default=sorted(MODELS))
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--exhaustive", action="store_true", help="measure all candidates")
    options = parser.parse_args(arguments)
    table = json.loads(TABLE.read_text())
    try:
        gpu = installed_platform().open(0) if options.measure else None
    except DeviceError as error:
        print(f"--measure needs an NVIDIA GPU: {error}", file=sys.stderr)
        return 1
    tuner, mode = Autotuner(render_kernel, compile_all), "exhaustive" if options.exhaustive else "1"
    for capability in options.arch if gpu is None else [gpu.capability]:
        rows: dict[str, dict[tuple[int, ...], dict[str, int]]] = {}
        for kernel in typical_kernels():
            kind = kernel_class(kernel)
            assert kind is not None
            choice, metadata = (
                best_by_estimate(kernel, capability)
                if gpu is None
                else measured(kernel, gpu, tuner, mode)
            )
            print(capability, kind.name, kind.sizes, choice.label, metadata.get("registers"))
            rows.setdefault(kind.name, {})[kind.sizes] = to_json(choice.knobs)
        table[str(capability)] = {
            name: [{"sizes": sizes, "knobs": knobs} for sizes, knobs in sorted(found.items())]
            for name, found in sorted(rows.items())
        }
    text = json.dumps(table)
    TABLE.write_text(
        text.replace('{"sizes"', '\n      {"sizes"').replace('"], "', '"],\n  "') + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
