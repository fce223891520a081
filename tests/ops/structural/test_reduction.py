"""Reductions: identities, special values, derivatives at ties and zeros, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from funcdl.core import dtypes
from funcdl.core.array import as_array
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.ops.arg_reduction import argmax, argmin
from funcdl.ops.reduction import (
    reduce_and,
    reduce_max,
    reduce_min,
    reduce_or,
    reduce_prod,
    reduce_sum,
)
from funcdl.transforms.derivatives import jvp, vjp

BF16 = np.dtype(dtypes.bfloat16)


@pytest.mark.parametrize(
    ("primitive", "dtype", "wanted"),
    [
        (reduce_sum, "f4", 0),
        (reduce_prod, "i2", 1),
        (reduce_max, "f4", -math.inf),
        (reduce_max, "i1", -128),
        (reduce_max, "u2", 0),
        (reduce_max, "?", False),
        (reduce_min, BF16, math.inf),
        (reduce_min, "i4", 2**31 - 1),
        (reduce_min, "?", True),
        (reduce_and, "?", True),
        (reduce_and, "i4", -1),
        (reduce_and, "u1", 255),
        (reduce_or, "i4", 0),
    ],
)
def test_nothing_reduces_to_the_identity(primitive: Primitive, dtype: Any, wanted: Any) -> None:
    out = primitive.impl(np.zeros((2, 0), dtype), axes=(1,))
    assert out.dtype == np.dtype(dtype)
    assert [x.item() for x in out] == [wanted, wanted]


@pytest.mark.parametrize("dtype", ["f2", BF16, "f4"])
@pytest.mark.parametrize("primitive", [reduce_sum, reduce_prod, reduce_max, reduce_min])
def test_nan_stays(primitive: Primitive, dtype: Any) -> None:
    x = np.array([[1.0, np.nan, np.inf], [2.0, 3.0, 4.0]], dtype)
    out = primitive.impl(x, axes=(1,)).astype(np.float64)
    assert np.isnan(out[0])
    assert not np.isnan(out[1])


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_half_precision_accumulates_in_float32(dtype: Any) -> None:
    x = np.full(4097, 2.0**-12, dtype)
    x[0] = 1.0
    assert reduce_sum.impl(x, axes=(0,)) == 2.0


def test_integers_wrap_around() -> None:
    x = np.array([100, 100, 100], np.int8)
    assert reduce_sum.impl(x, axes=(0,)).item() == 44
    assert reduce_prod.impl(x[:2], axes=(0,)).item() == 16


@pytest.mark.parametrize("primitive", [reduce_max, reduce_min])
def test_equal_extremes_share_the_derivative(primitive: Primitive) -> None:
    x = np.array([[1.0, 2.0, 2.0], [5.0, 5.0, 5.0]])
    x = x if primitive is reduce_max else -x
    _, pull = vjp(lambda x: primitive(x, axes=(1,)), as_array(x))
    (ct,) = pull(as_array(np.array([6.0, 6.0])))
    np.testing.assert_array_equal(ct.value, [[0.0, 3.0, 3.0], [2.0, 2.0, 2.0]])


@given(
    st.lists(st.sampled_from([0.0, 1.0, -2.0, 0.5]), min_size=1, max_size=9),
    st.integers(0, 8),
    st.integers(0, 8),
)
def test_derivatives_of_products_with_zeros(values: list[float], i: int, j: int) -> None:
    """The first derivative leaves out one factor, the second two."""
    i, j = i % len(values), j % len(values)
    unit = np.eye(len(values))

    def partial(x: Any) -> Any:
        return jvp(lambda x: reduce_prod(x, axes=(0,)), (x,), (as_array(unit[i]),))[1]

    x = as_array(np.array(values))
    first, second = jvp(partial, (x,), (as_array(unit[j]),))
    assert first.value == math.prod(v for k, v in enumerate(values) if k != i)
    left = math.prod(v for k, v in enumerate(values) if k not in (i, j))
    assert second.value == (0.0 if i == j else left)
    (ct,) = vjp(lambda x: reduce_prod(x, axes=(0,)), x)[1](as_array(np.array(1.0)))
    assert ct.value[i] == first.value


def test_derivative_of_a_product_over_separate_axes() -> None:
    x = np.arange(24.0).reshape(2, 3, 4) - 5
    (ct,) = vjp(lambda x: reduce_prod(x, axes=(0, 2)), as_array(x))[1](as_array(np.ones(3)))
    for index in np.ndindex(x.shape):
        others = x[:, index[1], :].copy()
        others[index[0], index[2]] = 1.0
        assert ct.value[index] == np.prod(others)


@pytest.mark.parametrize("dtype", ["f2", BF16, "f4", "f8"])
def test_first_extreme_wins_and_nan_over_all(dtype: Any) -> None:
    params = {"axes": (0,), "index_dtype": np.dtype(np.int32)}
    x = np.array([3.0, 7.0, 1.0, 7.0, 1.0], dtype)
    assert argmax.impl(x, **params) == 1
    assert argmin.impl(x, **params) == 2
    x[3:] = np.nan
    assert argmax.impl(x, **params) == argmin.impl(x, **params) == 3


def test_positions_have_no_tangent() -> None:
    x = as_array(np.array([1.0, 2.0]))
    params = {"axes": (0,), "index_dtype": np.dtype(np.int32)}
    _, tangent = jvp(lambda x: argmax(x, **params), (x,), (x,))
    assert tangent.dtype == dtypes.float0


def test_errors() -> None:
    x = np.zeros((2, 3))
    index_dtype = np.dtype(np.int32)
    for axes in [(2,), (-1,), (0, 0)]:
        with pytest.raises(ShapeError, match="different numbers from 0 to 1"):
            reduce_sum.impl(x, axes=axes)
    with pytest.raises(DtypeError, match=r"reduce_sum does not accept bool\[2\]"):
        reduce_sum.shape(ShapedArray((2,), np.dtype(bool)), axes=(0,))
    with pytest.raises(DtypeError, match="reduce_and does not accept"):
        reduce_and.impl(x, axes=(0,))
    with pytest.raises(ArgumentError, match="one axis"):
        argmax.impl(x, axes=(0, 1), index_dtype=index_dtype)
    with pytest.raises(ShapeError, match="is empty"):
        argmin.impl(np.zeros((0, 2)), axes=(0,), index_dtype=index_dtype)
    with pytest.raises(DtypeError, match="index_dtype"):
        argmin.impl(x, axes=(0,), index_dtype=np.dtype(np.float32))
