"""Few long rows are shared by many programs, and their results stay what they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.process import answer
from tests.runtime.cuda.environment import StubGpu

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn
from funcdl.kir.program import KernelProgram

F32 = np.dtype(np.float32)

# Programs on one long row, and how often their kernels go over it.
PROGRAMS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "sum of computed terms": (lambda x: fnp.sum(fnp.exp(x) * x), 1),
    "variance": (lambda x: fnp.mean((x - fnp.mean(x)) ** 2), 2),
    "softmax": (lambda x: nn.softmax(x), 3),
    "argmax": (lambda x: fnp.argmax(x * x), 1),
    "running sum": (lambda x: fnp.cumsum(x * x), 2),
    "backwards": (lambda x: lax.cummax(x, reverse=True) + 1, 2),
    "log of a running sum": (lambda x: lax.cumlogsumexp(x), 2),
}


def programs_of(f: Callable[[Any], Any], *shape: int) -> dict[str, int]:
    """By kernel, how many programs are launched."""
    closed = fd.make_jaxpr(f)(fd.ShapeDtypeStruct(shape, F32))
    program = StubGpu().backend.lower(closed, name="rows", donated=[False])
    (segment,) = program._pipeline.program.segments
    assert isinstance(segment, KernelProgram)
    found = {}
    for kernel, schedule in segment.kernels:
        extents = {axis.name: axis.extent for axis in kernel.axes}
        counts = [-(-extents[s.axis] // s.size) for s in schedule.steps if s.kind == "grid"]
        found[kernel.name] = int(np.prod(counts))
    return found


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("count", [10**8, 2**27, 10**8 + 7])
def test_a_row_of_1e8_elements_keeps_a_gpu_busy(name: str, count: int) -> None:
    f, passes = PROGRAMS[name]
    programs = programs_of(f, count)
    busy = [n for n in programs.values() if n >= 512]
    assert len(busy) == passes, programs
    # What joins the parts is one small program.
    assert all(n == 1 for n in programs.values() if n < 512), programs


def test_rows_that_are_many_or_short_stay_whole() -> None:
    for shape in ((4096, 50_000), (10, 8192)):
        assert len(programs_of(lambda x: nn.softmax(x), *shape)) == 1
    assert len(programs_of(lambda x: fnp.cumsum(x, 1), 4096, 100_000)) == 1


def test_columns_become_rows_of_parts() -> None:
    programs = programs_of(lambda x: fnp.max(x, 0), 10**6, 5)
    assert max(programs.values()) >= 200, programs


PROGRAM = """
import json
import numpy as np
from tests.compiler.cuda.test_long_rows import PROGRAMS
from tests.runtime.cuda.environment import StubGpu, installed
import funcdl as fd
from funcdl.kernels.triton.interpret import interpret

rng = np.random.default_rng(0)
x = rng.normal(size=70_001).astype(np.float32)
results = {}
with installed(StubGpu(run=interpret)) as gpu:
    for name, (f, _) in PROGRAMS.items():
        found = np.asarray(fd.jit(f)(fd.device_put(x, "gpu")))
        wanted = np.asarray(fd.jit(f)(fd.device_put(x.astype(np.float64), "cpu")))
        error = np.abs(found - wanted) / np.maximum(np.abs(wanted).max(), 1e-30)
        results[name] = float(error.max())
print(json.dumps(results))
"""


@pytest.mark.triton
def test_the_kernels_in_tritons_interpreter() -> None:
    results = answer("-c", PROGRAM, interpret=True)
    assert results.keys() == PROGRAMS.keys()
    assert all(error <= 1e-5 for error in results.values()), results
