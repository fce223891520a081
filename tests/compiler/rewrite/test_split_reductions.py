"""Long reductions are cut into chunks, whatever their length, and mean the same."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.compiler.programs import P
from tests.compiler.run import interpret, kernels_of, pipeline_of

from funcdl import make_jaxpr
from funcdl.compiler.cpu.schedule import schedule_cpu
from funcdl.compiler.cpu.target import CpuBackend
from funcdl.compiler.rewrite.split_reductions import (
    CHUNKS,
    MIN_ELEMENTS,
    MIN_ROWS,
    split_reductions,
)
from funcdl.core.backend import ReferenceProgram
from funcdl.core.checker import check_jaxpr
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.runtime.toolchain import find_compiler

RNG = np.random.default_rng(0)
LENGTHS = [MIN_ELEMENTS, MIN_ELEMENTS + 1, 1_000_003]


def closed_reduction(name: str, x: Any, axes: tuple[int, ...]) -> ClosedJaxpr:
    closed: ClosedJaxpr = make_jaxpr(lambda x: P[name](x, axes=axes))(x)
    return closed


def threads_of(closed: ClosedJaxpr) -> int:
    """Of the largest kernel, the parallel iterations."""
    (segment,) = pipeline_of(closed, scheduler=schedule_cpu).program.segments
    kernel, schedule = max(
        segment.kernels,  # type: ignore[union-attr]
        key=lambda found: max(buffer.size for buffer in found[0].buffers),
    )
    extents = {axis.name: axis.extent for axis in kernel.axes}
    return int(np.prod([extents[s.axis] for s in schedule.steps if s.kind == "parallel"]))


@pytest.mark.parametrize("length", LENGTHS)
def test_a_long_sum_is_cut_into_chunks(length: int) -> None:
    x = RNG.uniform(-1, 1, length).astype(np.float32)
    closed = closed_reduction("reduce_sum", x, (0,))
    check_jaxpr(split_reductions(closed).jaxpr)
    assert threads_of(closed) == CHUNKS
    (found,) = interpret(pipeline_of(closed), [x])
    np.testing.assert_allclose(found, x.astype(np.float64).sum(), rtol=1e-4)


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_a_long_sum_in_c() -> None:
    x = RNG.uniform(0, 1, 1_000_003).astype(np.float32)
    closed = closed_reduction("reduce_sum", x, (0,))
    (found,) = CpuBackend().lower(closed, name="sum", donated=[False]).compile()([x])
    np.testing.assert_allclose(found, x.astype(np.float64).sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("reduce_sum", np.int32),
        ("reduce_sum", ml_dtypes.bfloat16),
        ("reduce_prod", np.uint32),
        ("reduce_max", np.float32),
        ("reduce_min", np.float16),
        ("reduce_max", np.bool_),
        ("reduce_and", np.int8),
        ("reduce_or", np.uint8),
        ("argmax", np.float32),
    ],
)
def test_every_reduction_keeps_its_meaning(name: str, dtype: Any) -> None:
    x = RNG.integers(1, 100, MIN_ELEMENTS + 37).astype(dtype)
    if name == "argmax":
        params = {"axes": (0,), "index_dtype": np.dtype(np.int32)}
        closed: ClosedJaxpr = make_jaxpr(lambda x: P[name](x, **params))(x)
    else:
        closed = closed_reduction(name, x, (0,))
    (found,) = interpret(pipeline_of(closed), [x])
    (wanted,) = ReferenceProgram(closed)([x])
    # All sums are exact in float32, so that bfloat16 rounds once.
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("shape", "axes", "kernels"),
    [
        ((300, 301), (0, 1), 2),
        ((301, 40, 250), (0, 1, 2), 3),
        ((300, 40, 256), (0, 1, 2), 2),
        ((31, 3001), (0, 1), 3),
        ((70_000, 3), (0,), 3),
        ((64, 2048, 5), (0, 1), 2),
        ((MIN_ROWS + 8, 520), (0,), 3),
        ((MIN_ROWS - 1, 520), (0,), 1),
        ((MIN_ROWS, 500), (0,), 1),
        ((4, 70_000), (1,), 1),
        ((MIN_ELEMENTS - 1,), (0,), 1),
    ],
)
def test_what_is_cut(shape: tuple[int, ...], axes: tuple[int, ...], kernels: int) -> None:
    x = RNG.integers(-9, 9, shape).astype(np.int64)
    closed = closed_reduction("reduce_sum", x, axes)
    pipeline = pipeline_of(closed)
    assert len(kernels_of(pipeline)) == kernels
    (found,) = interpret(pipeline, [x])
    np.testing.assert_array_equal(found, x.sum(axes))
