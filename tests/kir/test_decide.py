"""Conditions on positions are decided between the positions at which they change."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.decide import changes, decide, decided
from funcdl.kir.ir import Const, Kernel, Load, Store

EXTENT = 12
COMPARISONS = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
}


@dataclass(frozen=True)
class Condition:
    """How to build it, and whether it holds at a position."""

    build: Callable[[KernelBuilder, ix.Index], int]
    holds: Callable[[int], bool]


def compared(name: str, step: int, offset: int, bound: int, mirrored: bool) -> Condition:
    def build(b: KernelBuilder, i: ix.Index) -> int:
        sides = [b.index_value(i * step + offset), b.const(bound, np.int32)]
        return b.elementwise(name, *(reversed(sides) if mirrored else sides))

    def holds(i: int) -> bool:
        sides = (step * i + offset, bound)
        return bool(COMPARISONS[name](*(reversed(sides) if mirrored else sides)))

    return Condition(build, holds)


def negated(inner: Condition) -> Condition:
    return Condition(
        lambda b, i: b.elementwise("not", inner.build(b, i)), lambda i: not inner.holds(i)
    )


def joined(name: str, left: Condition, right: Condition) -> Condition:
    combine = operator.and_ if name == "and" else operator.or_
    return Condition(
        lambda b, i: b.elementwise(name, left.build(b, i), right.build(b, i)),
        lambda i: combine(left.holds(i), right.holds(i)),
    )


STEPS = st.sampled_from([1, -1, 2, -2, 3, -5])
LEAVES = st.builds(
    compared,
    st.sampled_from(list(COMPARISONS)),
    STEPS,
    st.integers(-30, 30),
    st.integers(-30, 30),
    st.booleans(),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(negated, inner) | st.builds(joined, st.sampled_from(["and", "or"]), inner, inner)
    ),
    max_leaves=4,
)


def kernel_of(condition: Condition, masked: bool) -> Kernel:
    """``out[i, j] = x[i, j] if condition(i) else y[i, j]``, or 7 for `y` where `masked`."""
    b = KernelBuilder("k")
    i, j = b.axis("i", EXTENT), b.axis("j", 3)
    b.buffer("x", np.float32, EXTENT * 3, "in")
    b.buffer("y", np.float32, EXTENT * 3, "in")
    b.buffer("out", np.float32, EXTENT * 3, "out")
    which = condition.build(b, i)
    at = i * 3 + j
    if masked:
        value = b.load("x", at, which, 7.0)
    else:
        value = b.select(which, b.load("x", at), b.load("y", at))
    b.store("out", at, value)
    return b.build()


def stored(kernel: Kernel) -> object:
    """What is left of the stored value: the buffer that is read without a mask, or a number."""
    (store,) = (i for i in kernel.body if isinstance(i, Store))
    value = kernel.body[store.value]
    if isinstance(value, Load) and value.mask is None:
        return value.buffer
    return value.value if isinstance(value, Const) else None


@settings(max_examples=150, deadline=None)
@given(CONDITIONS, st.booleans())
def test_one_branch_is_left_in_each_part(condition: Condition, masked: bool) -> None:
    kernel = kernel_of(condition, masked)
    begins = [0, *changes(kernel, "i")]
    for begin, end in zip(begins, [*begins[1:], EXTENT], strict=True):
        assert len({condition.holds(i) for i in range(begin, end)}) == 1
        left = stored(decide(kernel, "i", begin))
        # A condition that holds everywhere may be folded when the kernel is built.
        assert left == ("x" if condition.holds(begin) else 7.0 if masked else "y")


@settings(max_examples=50, deadline=None)
@given(LEAVES)
def test_changes_are_where_the_truth_does(leaf: Condition) -> None:
    truth = [leaf.holds(i) for i in range(EXTENT)]
    wanted = [i for i in range(1, EXTENT) if truth[i] != truth[i - 1]]
    assert changes(kernel_of(leaf, False), "i") == wanted


def test_other_axes_and_values_stay_undecided() -> None:
    b = KernelBuilder("k")
    i, j = b.axis("i", 8), b.axis("j", 8)
    b.buffer("x", np.float32, 64, "in")
    b.buffer("out", np.float32, 64, "out")
    three = b.const(3, np.int32)
    diagonal = b.elementwise("lt", b.index_value(i + j), three)
    column = b.elementwise("lt", b.index_value(j), three)
    x = b.load("x", i * 8 + j, b.elementwise("and", diagonal, column))
    b.store("out", i * 8 + j, b.elementwise("mul", x, x))
    kernel = b.build()
    assert changes(kernel, "i") == []
    assert changes(kernel, "j") == [3]
    left = decide(kernel, "j", 0).body[x]
    assert isinstance(left, Load) and left.mask == diagonal
    assert diagonal not in decided(kernel, "j")
    assert {column, x} <= decided(kernel, "j")


def test_what_no_stored_value_asks_for_changes_nothing() -> None:
    b = KernelBuilder("k")
    i = b.axis("i", 8)
    b.buffer("out", np.bool_, 8, "out")
    small = b.elementwise("lt", b.index_value(i), b.const(3, np.int32))
    b.store("out", i, small)
    assert changes(b.build(), "i") == []


@pytest.mark.parametrize("extent", [0, 1])
def test_axes_without_room_for_a_change(extent: int) -> None:
    b = KernelBuilder("k")
    i = b.axis("i", extent)
    b.buffer("out", np.float32, extent, "out")
    small = b.elementwise("lt", b.index_value(i), b.const(0, np.int32))
    values = (b.const(value, np.float32) for value in (1.0, 2.0))
    b.store("out", i, b.select(small, *values))
    assert changes(b.build(), "i") == []
