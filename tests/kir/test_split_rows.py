"""Kernels over parts of rows compute what one kernel over whole rows does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kernels.triton_kernels import BF16, normalize, reductions, softmax
from tests.kir.kernels import all_example_kernels
from tests.kir.running_kernels import running_kernels

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.check.checker import check
from funcdl.kir.cut.split_rows import CutKernels, long_axis, split_rows, takes_rests
from funcdl.kir.interpreter import interpret
from funcdl.kir.ir import Kernel, ReduceOp, RunningOp

Array = np.ndarray[Any, Any]
F32, I32 = np.dtype(np.float32), np.dtype(np.int32)

KERNELS: dict[str, Kernel] = {
    **{name: kernel for name, (kernel, _) in all_example_kernels().items()},
    **running_kernels(),
    "softmax": softmax(5, 21),
    "normalize": normalize({"i": 3, "j": 4, "k": 10}, "jk"),
    "columns": reductions(25, 6, "i"),
    "all": reductions(7, 12, "ij"),
    "ints": reductions(3, 19, "j", "int32"),
}
CUT = [
    name
    for name, kernel in KERNELS.items()
    if long_axis(kernel) and 0 not in [axis.extent for axis in kernel.axes]
]


def inputs(kernel: Kernel) -> dict[str, Array]:
    """Small numbers, which sums and products of integers keep exactly."""
    rng = np.random.default_rng(len(kernel.name))
    found = {}
    for buffer in kernel.buffers:
        whole = buffer.dtype.kind in "biu"
        values = rng.integers(0, 3, buffer.size) if whole else rng.normal(size=buffer.size)
        found[buffer.name] = values.astype(buffer.dtype)
    return found


def run(cut: CutKernels, memory: dict[str, Array]) -> None:
    """The kernels one after the other; what they hand on lies between guards."""
    whole, guard = {}, 0x5A
    for name, (dtype, size) in cut.scratch.items():
        bytes_ = size * dtype.itemsize
        whole[name] = np.full(bytes_ + 64, guard, np.uint8)
        memory[name] = whole[name][32 : 32 + bytes_].view(dtype)
    for kernel in cut.kernels:
        check(kernel)
        interpret(kernel, {b.name: memory[b.name] for b in kernel.buffers})
    for array in whole.values():
        assert (array[:32] == guard).all() and (array[-32:] == guard).all()


def compare(kernel: Kernel, length: int, given: dict[str, Array]) -> None:
    axis = long_axis(kernel)
    assert axis is not None
    wanted = {name: array.copy() for name, array in given.items()}
    interpret(kernel, wanted)
    run(split_rows(kernel, axis, length), given)
    for buffer in kernel.buffers:
        left, right = (np.asarray(x[buffer.name], np.float64) for x in (given, wanted))
        exact = buffer.dtype.kind in "biu"
        tolerance = 0 if exact else 2e-2 if buffer.dtype == BF16 else 1e-5
        np.testing.assert_allclose(left, right, tolerance, tolerance, err_msg=buffer.name)


@pytest.mark.parametrize("length", [1, 4, 7, 64])
@pytest.mark.parametrize("name", CUT)
def test_parts_mean_what_the_whole_does(name: str, length: int) -> None:
    kernel = KERNELS[name]
    axis = long_axis(kernel)
    assert axis is not None
    extent = kernel.axis(axis).extent
    if extent % length and not takes_rests(kernel):
        with pytest.raises(ValueError, match="does not divide"):
            split_rows(kernel, axis, length)
        length = next(n for n in range(min(length, extent), extent + 1) if extent % n == 0)
    if name in all_example_kernels() and any(b.dtype == I32 for b in kernel.buffers):
        compare(kernel, length, all_example_kernels()[name][1](np.random.default_rng(0)))
    else:
        compare(kernel, length, inputs(kernel))


def one_reduction(op: ReduceOp, dtype: Any, extent: int) -> Kernel:
    builder = KernelBuilder("reduction")
    at = builder.axis("i", extent)
    builder.buffer("x", dtype, extent, "in")
    builder.buffer("out", np.int32 if op.startswith("arg") else dtype, 1, "out")
    builder.store("out", ix.constant(0), builder.reduce(op, builder.load("x", at), ["i"]))
    return builder.build()


def one_running(op: RunningOp, dtype: Any, extent: int, reverse: bool) -> Kernel:
    builder = KernelBuilder("running")
    at = builder.axis("i", extent)
    builder.buffer("x", dtype, extent, "in")
    builder.buffer("out", dtype, extent, "out")
    builder.store("out", at, builder.running(op, builder.load("x", at), "i", reverse))
    return builder.build()


SPECIAL = st.sampled_from([0.0, -0.0, 1.0, -2.5, 3.0, np.inf, -np.inf, np.nan])


@given(
    st.lists(SPECIAL, min_size=2, max_size=40),
    st.integers(1, 41),
    st.sampled_from(["sum", "max", "min", "argmax", "argmin"]),
)
def test_special_values_are_reduced_alike(values: list[float], length: int, op: ReduceOp) -> None:
    kernel = one_reduction(op, F32, len(values))
    out = np.zeros(1, np.int32 if op.startswith("arg") else F32)
    compare(kernel, length, {"x": np.array(values, F32), "out": out})


@given(
    st.lists(SPECIAL, min_size=2, max_size=40),
    st.integers(1, 41),
    st.sampled_from(["sum", "max", "min", "logsumexp"]),
    st.booleans(),
)
def test_special_values_accumulate_alike(
    values: list[float], length: int, op: RunningOp, reverse: bool
) -> None:
    kernel = one_running(op, F32, len(values), reverse)
    compare(kernel, length, {"x": np.array(values, F32), "out": np.zeros(len(values), F32)})


@pytest.mark.parametrize("op", ["sum", "prod", "max", "min", "and", "or"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint32, np.int64])
def test_integers_wrap_around_alike(op: ReduceOp, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, 23, dtype, endpoint=True)
    compare(one_reduction(op, dtype, 23), 5, {"x": x, "out": np.zeros(1, dtype)})


NO_ROWS = ("elementwise_flat", "dot_bias_relu", "scatter_add", "running_rows", "order_two_keys")


def test_kernels_without_long_rows() -> None:
    for name in NO_ROWS:
        assert long_axis(KERNELS[name]) is None
