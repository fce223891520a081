"""The builder infers types, shares equal values, folds what is known, and drops dead values."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from tests.work import count_calls

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.check.checker import KernelError, check
from funcdl.kir.ir import Axis, Buffer, Const, Load, Store, ValueType, operands

F32, I32, BOOL = np.dtype(np.float32), np.dtype(np.int32), np.dtype(np.bool_)
i = ix.axis("i", 4)
j = ix.axis("j", 6)


@pytest.fixture
def b() -> KernelBuilder:
    builder = KernelBuilder("k")
    assert builder.axis("i", 4) == i
    assert builder.axis("j", 6) == j
    builder.buffer("x", np.float32, 24, "in")
    builder.buffer("n", np.int32, 4, "in")
    builder.buffer("out0", np.float32, 24, "out")
    return builder


def test_types_follow_from_the_arguments(b: KernelBuilder) -> None:
    x, row, column = b.load("x", i * 6 + j), b.load("x", i), b.load("x", j)
    assert b.type_of(x) == ValueType(F32, ("i", "j"))
    assert b.type_of(b.elementwise("add", column, row)) == ValueType(F32, ("i", "j"))
    assert b.type_of(b.elementwise("lt", row, row)) == ValueType(BOOL, ("i",))
    assert b.type_of(b.elementwise("is_finite", column)) == ValueType(BOOL, ("j",))
    assert b.type_of(b.const(1, F32)) == ValueType(F32, ())
    assert b.type_of(b.index_value(j + 1)) == ValueType(I32, ("j",))
    assert b.type_of(b.select(b.elementwise("lt", row, row), column, x)).axes == ("i", "j")
    assert b.type_of(b.cast(row, np.float64)) == ValueType(np.dtype(np.float64), ("i",))
    assert b.type_of(b.bitcast(row, I32)) == ValueType(I32, ("i",))
    complex_row = b.elementwise("complex", row, column)
    assert b.type_of(complex_row) == ValueType(np.dtype(np.complex64), ("i", "j"))
    for name in ("real", "imag", "abs"):
        assert b.type_of(b.elementwise(name, complex_row)).dtype == F32
    assert b.type_of(b.reduce("sum", x, ["j"])) == ValueType(F32, ("i",))
    assert b.type_of(b.reduce("argmax", x, ["i"], np.int64)) == ValueType(np.dtype("int64"), ("j",))
    assert b.type_of(b.dot(column, x, "j", "i", "j")).axes == ("i",)


def test_axes_of_a_load_include_those_of_its_computed_position_and_mask(b: KernelBuilder) -> None:
    position = b.position(b.load("n", i), 0, 3)
    assert b.type_of(b.load("x", position * 6)).axes == ("i",)
    assert b.type_of(b.load("x", position * 6 + j)).axes == ("i", "j")
    assert b.type_of(b.load("x", (position * 3 + j) % 5)).axes == ("i", "j")
    mask = b.elementwise("lt", b.load("x", j), b.const(0, F32))
    assert b.type_of(b.load("x", i, mask, 2)).axes == ("i", "j")


def test_equal_values_are_one(b: KernelBuilder) -> None:
    x = b.load("x", i * 6 + j)
    mask = b.elementwise("lt", x, b.const(0, F32))
    for make in (
        lambda: b.load("x", j + i * 6),
        lambda: b.load("x", i, mask, 1),
        lambda: b.const(2, F32),
        lambda: b.const(math.nan, F32),
        lambda: b.index_value(i + j),
        lambda: b.elementwise("mul", x, x),
        lambda: b.cast(x, np.float64),
        lambda: b.bitcast(x, I32),
        lambda: b.reduce("max", x, ["j"]),
        lambda: b.select(mask, x, b.const(2, F32)),
        lambda: b.dot(x, x, "i", "i", "j"),
    ):
        assert make() == make()


def test_different_values_are_not_one(b: KernelBuilder) -> None:
    x = b.load("x", i)
    mask = b.elementwise("lt", x, b.const(5, F32))
    values = [
        x,
        mask,
        b.const(0.0, F32),
        b.const(-0.0, F32),
        b.const(0, I32),
        b.const(False, BOOL),
        b.const(0, np.int64),
        b.load("x", i, mask, 0.0),
        b.load("x", i, mask, -0.0),
        b.index_value(i, I32),
        b.index_value(i, np.int64),
        b.reduce("max", x, ["i"]),
        b.reduce("max", x, ["j"]),
        b.reduce("min", x, ["j"]),
        b.reduce("argmin", x, ["j"], I32),
        b.reduce("argmin", x, ["j"], np.int64),
        b.cast(x, I32),
        b.bitcast(x, I32),
        b.elementwise("sub", x, b.const(0.0, F32)),
        b.elementwise("sub", b.const(0.0, F32), x),
    ]
    assert len(set(values)) == len(values)


def test_folding(b: KernelBuilder) -> None:
    x, y = b.load("x", i), b.load("x", j)
    true, false = b.const(True, BOOL), b.const(False, BOOL)
    mask = b.elementwise("lt", x, y)
    assert b.select(true, x, y) == x
    assert b.select(false, x, y) == y
    assert b.select(mask, x, x) == x
    assert b.cast(x, F32) == b.bitcast(x, F32) == x
    assert b.cast(b.const(2.75, F32), I32) == b.const(2, I32)
    assert b.elementwise("and", mask, true) == b.elementwise("or", false, mask) == mask
    assert b.elementwise("and", false, mask) == false
    assert b.elementwise("or", mask, true) == true
    assert b.load("x", i, true, 3) == x
    assert b.index_value(ix.constant(3)) == b.const(3, I32)
    assert b.reduce("sum", x, []) == x
    assert b.position(b.const(2, I32), 0, 3) == ix.constant(2)
    assert b.position(b.index_value(i), 0, 3) == i
    assert b.position(b.index_value(i), 0, 2).values()


DECIDED = [("lt", 4, 0), ("le", 3, -1), ("gt", -1, 3), ("ge", 0, 4), ("ne", 4, None)]


@pytest.mark.parametrize(("name", "true", "false"), [*DECIDED, ("eq", None, 4)])
def test_comparisons_that_ranges_decide(
    b: KernelBuilder, name: str, true: int | None, false: int | None
) -> None:
    position = b.index_value(i)
    for bound in range(-2, 7):
        outcomes = {bool(getattr(np, _NUMPY_NAMES[name])(value, bound)) for value in range(4)}
        found = b.elementwise(name, position, b.const(bound, I32))
        wanted = {b.const(outcome, BOOL) for outcome in outcomes}
        assert (found in wanted) == (len(outcomes) == 1)
    for bound, outcome in ((true, True), (false, False)):
        if bound is not None:
            found = b.elementwise(name, position, b.const(bound, I32))
            assert found == b.const(outcome, BOOL)


def test_clamps_that_ranges_decide(b: KernelBuilder) -> None:
    position, zero, three, two = b.index_value(i), *(b.const(n, I32) for n in (0, 3, 2))
    assert b.elementwise("max", position, zero) == b.elementwise("max", zero, position) == position
    assert b.elementwise("min", position, three) == b.elementwise("min", three, position)
    assert b.elementwise("min", position, three) == position
    assert b.elementwise("max", position, three) == three
    assert b.elementwise("min", two, three) == two
    assert b.elementwise("min", position, two) not in (position, two)
    wide = b.cast(position, np.int64)
    assert wide == b.index_value(i, np.int64) != position
    assert b.cast(b.index_value(i * 2**40, np.int64), I32) not in (position, wide)


_NUMPY_NAMES = {
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
}


def test_reductions_leave_axes_of_extent_one_out() -> None:
    b = KernelBuilder("k")
    b.axis("one", 1)
    position = b.axis("i", 4)
    b.buffer("x", np.float32, 4, "in")
    x = b.load("x", position)
    assert b.reduce("sum", x, ["one"]) == x
    assert b.reduce("argmax", x, ["one"]) == b.const(0, I32)
    assert b.reduce("max", x, ["one", "i"]) == b.reduce("max", x, ["i"])


def test_constants_are_rounded_to_their_type(b: KernelBuilder) -> None:
    assert b.const(0.1, F32) == b.const(float(np.float32(0.1)), F32)
    b.store("out0", i, b.const(0.1, F32))
    (constant, _) = b.build().body
    assert constant == Const(ValueType(F32, ()), float(np.float32(0.1)))
    assert type(constant.value) is float
    with pytest.raises(OverflowError, match="-1 is not in the range of uint32"):
        b.const(-1, np.uint32)


def test_other_takes_the_type_of_the_buffer() -> None:
    b = KernelBuilder("k")
    position = b.axis("i", 4)
    for name, dtype in (("h", ml_dtypes.bfloat16), ("n", np.int8), ("p", np.bool_)):
        b.buffer(name, dtype, 9, "in")
    mask = b.load("p", position)
    loads = [b.load(name, position + 1, mask, 1) for name in ("h", "n", "p")]
    b.buffer("out0", np.bool_, 4, "out")
    for value in loads:
        b.store("out0", position, value)
    others = [i.other for i in b.build().body if isinstance(i, Load) and i.mask is not None]
    assert [type(other) for other in others] == [float, int, bool]


def test_dead_values_are_dropped_and_ids_renumbered(b: KernelBuilder) -> None:
    b.const(5, F32)
    number = b.load("n", i)
    b.elementwise("add", number, number)
    mask = b.elementwise("ge", number, b.const(0, I32))
    b.const(7, F32)
    value = b.load("x", b.position(number, 0, 3) * 6 + j, mask, 1)
    b.store("out0", i * 6 + j, value, mask)
    b.const(9, F32)
    kernel = b.build()
    check(kernel)
    names = [type(instruction).__name__ for instruction in kernel.body]
    assert names == ["Load", "Const", "Elementwise", "Load", "Store"]
    assert operands(kernel.body[3]) == (2, 0)
    assert kernel.body[4] == Store("out0", i * 6 + j, 3, 2)
    assert kernel.axes == (Axis("i", 4), Axis("j", 6))
    assert kernel.buffers[2] == Buffer("out0", F32, 24, "out")
    assert b.build() == kernel


def test_names_are_unique(b: KernelBuilder) -> None:
    with pytest.raises(KernelError, match="kernel k: axis 'i' is added twice"):
        b.axis("i", 3)
    with pytest.raises(KernelError, match="kernel k: buffer 'x' is added twice"):
        b.buffer("x", np.float32, 3, "in")


def test_building_is_linear_work() -> None:
    def build(count: int) -> None:
        b = KernelBuilder("k")
        position = b.axis("i", 4)
        b.buffer("x", np.float32, 10 * count, "in")
        b.buffer("out0", np.float32, 4, "out")
        total = b.load("x", position)
        for step in range(count):
            total = b.elementwise("add", total, b.load("x", position * 2 + step))
        b.store("out0", position, total)
        b.build()

    few, many = (count_calls(lambda count=count: build(count)) for count in (300, 3000))
    assert many < 11 * few
