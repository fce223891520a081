"""Spellings of C: index expressions with C's division, literals, long lines."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import funcdl as fd
from funcdl.kernels.cpu_c import text
from funcdl.kir import index as ix
from funcdl.kir.index import Index

EXTENTS = {"i": 6, "j": 5}
LOW, HIGH = -3, 4


class CInteger(int):
    """An integer that divides towards zero, as in C."""

    def __add__(self, other: int) -> CInteger:
        return CInteger(int(self) + int(other))

    def __sub__(self, other: int) -> CInteger:
        return CInteger(int(self) - int(other))

    def __mul__(self, other: int) -> CInteger:
        return CInteger(int(self) * int(other))

    def __neg__(self) -> CInteger:
        return CInteger(-int(self))

    def __truediv__(self, other: int) -> CInteger:
        quotient = abs(int(self)) // int(other)
        return CInteger(quotient if self >= 0 else -quotient)

    def __mod__(self, other: int) -> CInteger:
        return self - (self / other) * other


def extend(inner: st.SearchStrategy[Index]) -> st.SearchStrategy[Index]:
    small, divisor = st.integers(-12, 12), st.sampled_from([2, 3, 4, 5, 6, 12, 30])
    return st.one_of(
        st.builds(lambda a, b: a + b, inner, inner),
        st.builds(lambda a, b: a - b, inner, inner),
        st.builds(lambda a, n: a + n, inner, small),
        st.builds(lambda a, n: a * n, inner, small),
        st.builds(lambda a, n: a // n, inner, divisor),
        st.builds(lambda a, n: a % n, inner, divisor),
    )


ATOMS = [*(ix.axis(*item) for item in EXTENTS.items()), ix.value(7, LOW, HIGH)]
INDICES = st.recursive(st.sampled_from(ATOMS), extend, max_leaves=6)


@given(INDICES)
def test_index_text_means_the_index_in_c(index: Index) -> None:
    spelled = text.index_text(index, lambda axis: axis, lambda id: f"v{id}")
    bound = text.span(index)
    for i, j, v in product(range(EXTENTS["i"]), range(EXTENTS["j"]), range(LOW, HIGH + 1)):
        want = ix.evaluate(index, {"i": i, "j": j}, {7: v})
        assert eval(spelled, {"i": CInteger(i), "j": CInteger(j), "v7": CInteger(v)}) == want
        assert abs(want) <= bound


@pytest.mark.parametrize(
    ("value", "dtype", "spelled"),
    [
        (0.1, np.float32, "0.1f"),
        (1e-5, np.float32, "1e-05f"),
        (3.0, np.float32, "3.0f"),
        (-2.0, np.float64, "(-2.0)"),
        (0.1, np.float64, "0.1"),
        (np.nan, np.float32, "FD_NAN_F32"),
        (-np.inf, np.float64, "(-FD_INF_F64)"),
        (1.5, np.float16, "0x3e00"),
        (-7, np.int32, "(-7)"),
        (-(2**31), np.int32, "INT32_MIN"),
        (2**63 - 1, np.int64, "INT64_C(9223372036854775807)"),
        (2**32 - 1, np.uint32, "4294967295u"),
        (True, np.bool_, "1"),
    ],
)
def test_literals(value: float, dtype: type, spelled: str) -> None:
    assert text.literal(value, np.dtype(dtype)) == spelled


def test_long_calls_break_between_arguments() -> None:
    writer = text.Writer()
    with writer.block():
        writer.call("function", [f"argument_{number}" for number in range(12)])
        writer.call("function", ["x" * 120])
        writer.call("nothing", [])
    lines = writer.text().splitlines()
    assert lines[0] == "{"
    assert max(map(len, lines[1:3])) <= text.WIDTH
    assert lines[2].startswith(" " * len("  function(") + "argument_")
    assert lines[3:] == [f"  function({'x' * 120});", "  nothing();", "}"]


@pytest.mark.parametrize("name", ["lhs_scales", "fd_x", "a_end", "tile_end", "product", "v1"])
def test_arguments_may_have_names_that_the_code_uses(name: str) -> None:
    x = np.ones(3, np.float32)
    np.testing.assert_array_equal(fd.jit(eval(f"lambda {name}: {name} + 1"))(x), x + 1)
