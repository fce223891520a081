"""Collapsing axes keeps results and merges what runs through memory in one stride."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kir.kernels import all_example_kernels, random_buffers

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.check.checker import check
from funcdl.kir.index import Index
from funcdl.kir.interpreter import interpret
from funcdl.kir.ir import Kernel, Reduce, ReduceOp
from funcdl.kir.passes import collapse_axes

EXAMPLES = all_example_kernels()


def extents(kernel: Kernel) -> dict[str, int]:
    return {axis.name: axis.extent for axis in kernel.axes}


def assert_same(kernel: Kernel, other: Kernel, make_inputs: Any) -> None:
    arrays = make_inputs(np.random.default_rng(0))
    others = {name: array.copy() for name, array in arrays.items()}
    interpret(kernel, arrays)
    interpret(other, others)
    for name, array in arrays.items():
        found = others[name].astype(np.float64)
        np.testing.assert_allclose(found, array.astype(np.float64), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_keep_their_results(name: str) -> None:
    kernel, make_inputs = EXAMPLES[name]
    collapsed = collapse_axes(kernel)
    check(collapsed)
    assert collapse_axes(collapsed) == collapsed
    assert_same(kernel, collapsed, make_inputs)


def dense(b: KernelBuilder, shape: dict[str, int]) -> Index:
    index = ix.constant(0)
    for name, extent in shape.items():
        index = index * extent + b.axis(name, extent)
    return index


def elementwise(shape: dict[str, int], *operands: str) -> Kernel:
    """The sum of operands over the named axes (dense over these), stored densely over all."""
    b = KernelBuilder("k")
    index = dense(b, shape)
    size = int(np.prod(list(shape.values())))
    b.buffer("x", np.float32, size, "in")
    total = b.load("x", index)
    for number, names in enumerate(operands):
        at = ix.constant(0)
        for name in names:
            at = at * shape[name] + ix.axis(name, shape[name])
        count = int(np.prod([shape[name] for name in names]))
        total = b.elementwise("add", total, b.load(b.buffer(f"y{number}", "f4", count, "in"), at))
    b.buffer("out0", np.float32, size, "out")
    b.store("out0", index, total)
    return b.build()


ELEMENTWISE: list[tuple[dict[str, int], tuple[str, ...], dict[str, int]]] = [
    ({"i": 8, "j": 5}, (), {"i": 40}),
    ({"i": 8, "j": 5}, ("",), {"i": 40}),
    ({"i": 8, "j": 5}, ("j",), {"i": 8, "j": 5}),
    ({"i": 8, "j": 5}, ("ji",), {"i": 8, "j": 5}),
    ({"i": 2, "j": 3, "k": 4}, (), {"i": 24}),
    ({"i": 2, "j": 3, "k": 4}, ("k",), {"i": 6, "k": 4}),
    ({"i": 2, "j": 3, "k": 4}, ("jk",), {"i": 2, "j": 12}),
    ({"i": 2, "j": 3, "k": 4}, ("jk", "i"), {"i": 2, "j": 12}),
    ({"i": 2, "j": 3, "k": 4}, ("ik",), {"i": 2, "j": 3, "k": 4}),
    ({"i": 2, "j": 1, "k": 4}, ("ik",), {"i": 8}),
    ({"i": 1, "j": 1}, (), {}),
    ({"i": 2, "j": 3, "k": 4, "l": 5}, ("kl", "ij"), {"i": 6, "k": 20}),
]


@pytest.mark.parametrize(("shape", "operands", "wanted"), ELEMENTWISE)
def test_elementwise_axes_merge_where_all_operands_agree(
    shape: dict[str, int], operands: tuple[str, ...], wanted: dict[str, int]
) -> None:
    kernel = elementwise(shape, *operands)
    collapsed = collapse_axes(kernel)
    check(collapsed)
    assert extents(collapsed) == wanted
    assert_same(kernel, collapsed, random_buffers(kernel))


def test_reduced_axes_merge_with_each_other_only() -> None:
    collapsed = collapse_axes(EXAMPLES["batch_norm_statistics"][0])
    assert extents(collapsed) == {"n": 32, "c": 3}
    assert {i.axes for i in collapsed.body if isinstance(i, Reduce)} == {("n",)}
    assert extents(collapse_axes(EXAMPLES["softmax"][0])) == {"i": 6, "j": 10}
    assert extents(collapse_axes(EXAMPLES["full_reduce"][0])) == {"i": 100}


def test_a_flattened_index_becomes_the_axis() -> None:
    b = KernelBuilder("k")
    i, j = b.axis("i", 6), b.axis("j", 4)
    b.buffer("x", np.float32, 24, "in")
    b.buffer("out0", np.float32, 24, "out")
    b.buffer("out1", np.int32, 24, "out")
    flat = i * 4 + j
    b.store("out0", flat, b.load("x", flat // 2))
    b.store("out1", flat, b.index_value(flat))
    collapsed = collapse_axes(b.build())
    check(collapsed)
    assert extents(collapsed) == {"i": 24}
    assert_same(b.build(), collapsed, random_buffers(collapsed))


def padded(colours: int, low: int) -> Kernel:
    """Rows of 5 pixels with `low` before them and one after, as ``low <= k < 5 + low``."""
    b = KernelBuilder("k")
    shape = {"i": 4, "k": 6 + low, "l": colours}
    index = dense(b, shape)
    b.buffer("x", np.float32, 4 * 5 * colours, "in")
    b.buffer("out0", np.float32, 4 * (6 + low) * colours, "out")
    k = b.index_value(ix.axis("k", 6 + low) - low)
    inside = b.elementwise(
        "and",
        b.elementwise("ge", k, b.const(0, np.int32)),
        b.elementwise("lt", k, b.const(5, np.int32)),
    )
    pixel = ix.axis("i", 4) * 5 + ix.axis("k", 6 + low) - low
    b.store("out0", index, b.load("x", pixel * colours + ix.axis("l", colours), inside, 7.0))
    return b.build()


@pytest.mark.parametrize("low", [0, 2])
@pytest.mark.parametrize("colours", [2, 3, 20])
def test_conditions_on_pixels_hold_for_their_colours(low: int, colours: int) -> None:
    kernel = padded(colours, low)
    collapsed = collapse_axes(kernel)
    check(collapsed)
    assert extents(collapsed) == {"i": 4, "k": (6 + low) * colours}
    assert_same(kernel, collapsed, random_buffers(kernel))


@given(
    st.sampled_from(["ge", "gt", "le", "lt"]),
    st.integers(-2, 7),
    st.integers(-3, 3),
    st.integers(2, 5),
)
def test_comparisons_of_rows_become_comparisons_of_elements(
    comparison: str, bound: int, offset: int, columns: int
) -> None:
    kernel = compared(comparison, bound, offset, columns)
    collapsed = collapse_axes(kernel)
    check(collapsed)
    assert extents(collapsed) == {"i": 6 * columns}
    assert_same(kernel, collapsed, random_buffers(kernel))


def test_comparisons_stay_where_positions_would_overflow() -> None:
    kernel = compared("ge", 2**30 + 3, 2**30, 4)
    assert extents(collapse_axes(kernel)) == {"i": 6, "j": 4}


@pytest.mark.parametrize(("rows", "wanted"), [(6, {"i": 240}), (600, {"i": 600, "j": 40})])
def test_comparisons_stay_where_loads_would_be_far_outside(
    rows: int, wanted: dict[str, int]
) -> None:
    """The second of two halves, after ones."""
    b = KernelBuilder("k")
    index = dense(b, {"i": rows, "j": 40})
    half = rows // 2
    b.buffer("x", np.float32, half * 40, "in")
    b.buffer("out0", np.float32, rows * 40, "out")
    inside = b.elementwise("ge", b.index_value(ix.axis("i", rows)), b.const(half, np.int32))
    b.store("out0", index, b.load("x", index - half * 40, inside, 1.0))
    collapsed = collapse_axes(b.build())
    check(collapsed)
    assert extents(collapsed) == wanted
    assert_same(b.build(), collapsed, random_buffers(collapsed))


def compared(comparison: str, bound: int, offset: int, columns: int) -> Kernel:
    """An array where ``i + offset`` compares so with a bound, else 0.5."""
    b = KernelBuilder("k")
    index = dense(b, {"i": 6, "j": columns})
    b.buffer("x", np.float32, 6 * columns, "in")
    b.buffer("out0", np.float32, 6 * columns, "out")
    row = b.index_value(ix.axis("i", 6) + offset)
    which = b.elementwise(comparison, row, b.const(bound, np.int32))
    b.store("out0", index, b.select(which, b.load("x", index), b.const(0.5, np.float32)))
    return b.build()


def dot(batch: int, rhs_batch: bool, m: int = 3, n: int = 4) -> Kernel:
    b = KernelBuilder("k")
    at = b.axis("b", batch)
    i, j, k = b.axis("m", m), b.axis("n", n), b.axis("k", 5)
    b.buffer("x", np.float32, batch * m * 5, "in")
    b.buffer("y", np.float32, (batch if rhs_batch else 1) * 5 * n, "in")
    b.buffer("out0", np.float32, batch * m * n, "out")
    lhs = b.load("x", at * (5 * m) + i * 5 + k)
    rhs = b.load("y", at * (5 * n if rhs_batch else 0) + k * n + j)
    b.store("out0", at * (m * n) + i * n + j, b.dot(lhs, rhs, "m", "n", "k"))
    return b.build()


@pytest.mark.parametrize(
    ("kernel", "wanted"),
    [
        (dot(2, rhs_batch=True), {"b": 2, "m": 3, "n": 4, "k": 5}),
        (dot(2, rhs_batch=False), {"b": 6, "n": 4, "k": 5}),
        (dot(1, rhs_batch=True), {"m": 3, "n": 4, "k": 5}),
        (dot(2, rhs_batch=True, m=1), {"b": 2, "m": 1, "n": 4, "k": 5}),
        (dot(1, rhs_batch=False, m=1, n=1), {"m": 1, "n": 1, "k": 5}),
    ],
)
def test_a_batch_axis_merges_into_rows(kernel: Kernel, wanted: dict[str, int]) -> None:
    collapsed = collapse_axes(kernel)
    check(collapsed)
    assert extents(collapsed) == wanted
    assert_same(kernel, collapsed, random_buffers(kernel))


AXES = "abcd"
REDUCTIONS: list[ReduceOp] = ["sum", "max", "min"]


@st.composite
def random_kernels(draw: st.DrawFn) -> Kernel:
    """Loops over up to four axes: reads dense over subsets, masks, reshapes, perhaps a reduce."""
    shape = {name: draw(st.sampled_from([1, 2, 3, 4])) for name in AXES[: draw(st.integers(1, 4))]}
    b = KernelBuilder("k")
    full = dense(b, shape)
    size = int(np.prod(list(shape.values())))
    values = []
    for number in range(draw(st.integers(1, 3))):
        order = draw(st.permutations(sorted(draw(st.sets(st.sampled_from(sorted(shape)))))))
        in_order = draw(st.booleans())
        at = ix.constant(0)
        for name in sorted(order) if in_order else order:
            at = at * shape[name] + ix.axis(name, shape[name])
        divisor = draw(st.sampled_from([1, 1, 2, 3]))
        at = draw(st.sampled_from([at, at // divisor, at % divisor, full % size, full // divisor]))
        mask = None
        if draw(st.booleans()):
            bound = b.const(draw(st.integers(0, size)), np.int32)
            mask = b.elementwise("lt", b.index_value(draw(st.sampled_from([at, full]))), bound)
        buffer = b.buffer(f"x{number}", np.float32, at.range()[1] + 1, "in")
        values.append(b.load(buffer, at, mask, 7))
    if draw(st.booleans()):
        values.append(b.cast(b.index_value(full + 1), np.float32))
    total = values[0]
    for other in values[1:]:
        total = b.elementwise("add", total, other)
    reduced = draw(st.sets(st.sampled_from(sorted(shape))))
    if reduced and draw(st.booleans()):
        aggregate = b.reduce(draw(st.sampled_from(REDUCTIONS)), total, reduced)
        at, count = ix.constant(0), 1
        for name in sorted(shape.keys() - reduced):
            at, count = at * shape[name] + ix.axis(name, shape[name]), count * shape[name]
        b.buffer("out1", np.float32, count, "out")
        b.store("out1", at, aggregate)
        total = b.elementwise("sub", total, aggregate)
    b.buffer("out0", np.float32, size, "out")
    b.store("out0", full, total)
    return b.build()


@given(random_kernels())
def test_collapsing_keeps_results(kernel: Kernel) -> None:
    check(kernel)
    collapsed = collapse_axes(kernel)
    check(collapsed)
    assert len(collapsed.axes) <= len(kernel.axes)
    assert all(axis.extent > 1 for axis in collapsed.axes)
    assert_same(kernel, collapsed, random_buffers(kernel))
