"""Kernel forms of elementwise primitives, run by the interpreter of the kernel IR."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.table import (
    OPS,
    assert_close,
    cases,
    is_by_parts,
    outputs,
    quick_dtypes,
    reason_missing,
    samples,
)

from funcdl.core.avals import ShapedArray
from funcdl.kir import index as kindex
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.check.checker import check
from funcdl.kir.interpreter import interpret
from funcdl.ops.lowering import KERNEL_DTYPES, Pointwise, compute_dtype
from funcdl.ops.registry import Sample

NDArray = np.ndarray[Any, Any]

POINTWISE = sorted(name for name, op in OPS.items() if isinstance(op.primitive.lower, Pointwise))


def run_kernel(name: str, sample: Sample) -> list[NDArray]:
    """All outputs of an elementwise primitive, as one kernel over the flat elements."""
    primitive = OPS[name].primitive
    avals = [ShapedArray(x.shape, x.dtype) for x in sample.args]
    out_avals = primitive.output_avals(avals, sample.params)
    size = out_avals[0].size
    builder = KernelBuilder("k")
    place = builder.axis("i", size)
    values = []
    for number, aval in enumerate(avals):
        buffer = builder.buffer(f"x{number}", aval.dtype, aval.size, "in")
        index = place if aval.shape == out_avals[0].shape else kindex.constant(0)
        values.append(builder.cast(builder.load(buffer, index), compute_dtype(aval.dtype)))
    for number, out in enumerate(out_avals):
        value = primitive.lower.rule(builder, values, avals, number, sample.params)
        assert builder.type_of(value).dtype == compute_dtype(out.dtype)
        builder.buffer(f"out{number}", out.dtype, size, "out")
        builder.store(f"out{number}", place, builder.cast(value, out.dtype))
    kernel = builder.build()
    check(kernel)
    outs = [np.empty(size, out.dtype) for out in out_avals]
    buffers = {f"x{i}": np.ascontiguousarray(x).reshape(-1) for i, x in enumerate(sample.args)}
    buffers |= {f"out{i}": out for i, out in enumerate(outs)}
    interpret(kernel, buffers)
    return [out.reshape(aval.shape) for out, aval in zip(outs, out_avals, strict=True)]


def check_kernel(name: str, dtype: str) -> None:
    if reason_missing(name, dtype, "c") or is_by_parts(name, dtype):
        return
    for sample in samples(name, dtype):
        wanted = outputs(OPS[name].primitive.impl(*sample.args, **sample.params))
        if any(np.asarray(out).dtype not in KERNEL_DTYPES for out in wanted):
            continue
        for found, out in zip(run_kernel(name, sample), wanted, strict=True):
            assert_close(found, out, 2, found.dtype)


@pytest.mark.parametrize("name", POINTWISE)
def test_kernel_form_agrees_with_reference(name: str) -> None:
    for dtype in quick_dtypes(OPS[name]):
        check_kernel(name, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), cases(slow=True))
def test_kernel_form_for_other_dtypes(name: str, dtype: str) -> None:
    if name in POINTWISE:
        check_kernel(name, dtype)


def test_outputs_of_threefry_share_their_rounds() -> None:
    builder = KernelBuilder("k")
    place = builder.axis("i", 4)
    avals = [ShapedArray((4,), np.dtype(np.uint32))] * 4
    values = [builder.load(builder.buffer(f"x{i}", np.uint32, 4, "in"), place) for i in range(4)]
    rule = OPS["threefry2x32"].primitive.lower.rule
    for number in range(2):
        out = builder.buffer(f"out{number}", np.uint32, 4, "out")
        builder.store(out, place, rule(builder, values, avals, number, {}))
    # 5 groups of 4 rounds of 5 operations and 3 additions of keys, and what starts them.
    operations = 5 * (4 * 5 + 3) + 4
    constants = len({13, 15, 26, 6, 17, 29, 16, 24, 19, 3, 8} | set(range(1, 6)))
    assert len(builder.build().body) <= 4 + operations + constants + 1 + 2
