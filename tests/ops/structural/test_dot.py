"""dot_general on generated dimension numbers, its dtypes and its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ops.structural.bilinear import check_derivatives, check_vmap, operands
from tests.ops.structural.reader import run_kernel

from funcdl.core import dtypes
from funcdl.core.array import as_array
from funcdl.core.avals import ShapedArray
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.ops.dot import MATMUL, DimensionNumbers, dot_dimensions, dot_general
from funcdl.transforms.derivatives import vjp

NDArray = np.ndarray[Any, Any]
Case = tuple[tuple[int, ...], tuple[int, ...], DimensionNumbers]
BF16 = np.dtype(dtypes.bfloat16)


def params(numbers: DimensionNumbers, preferred: Any = None) -> dict[str, Any]:
    preferred = None if preferred is None else np.dtype(preferred)
    return {
        "dimension_numbers": numbers,
        "preferred_element_type": preferred,
        "precision": None,
    }


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Two shapes with some dimensions paired, in any order."""

    def sizes(most: int) -> list[int]:
        return draw(st.lists(st.integers(0, 4), max_size=most))

    batch, contract = sizes(2), sizes(2)
    shapes, paired = [], []
    for own in (sizes(2), sizes(2)):
        whole = batch + contract + own
        order = draw(st.permutations(range(len(whole))))
        place = {role: at for at, role in enumerate(order)}
        shapes.append(tuple(whole[role] for role in order))
        paired.append([place[role] for role in range(len(batch) + len(contract))])
    count = len(batch)
    lhs, rhs = paired
    numbers = (
        (tuple(lhs[count:]), tuple(rhs[count:])),
        (tuple(lhs[:count]), tuple(rhs[:count])),
    )
    return shapes[0], shapes[1], numbers


def by_einsum(lhs: NDArray, rhs: NDArray, numbers: DimensionNumbers) -> NDArray:
    """The same contraction with a letter for each dimension."""
    (lhs_k, rhs_k), (lhs_b, rhs_b) = numbers
    left = [chr(ord("a") + d) for d in range(lhs.ndim)]
    right = [chr(ord("A") + d) for d in range(rhs.ndim)]
    for d, e in zip((*lhs_k, *lhs_b), (*rhs_k, *rhs_b), strict=True):
        right[e] = left[d]
    out = [left[d] for d in lhs_b]
    out += [left[d] for d in range(lhs.ndim) if d not in lhs_k and d not in lhs_b]
    out += [right[d] for d in range(rhs.ndim) if d not in rhs_k and d not in rhs_b]
    return np.einsum(f"{''.join(left)},{''.join(right)}->{''.join(out)}", lhs, rhs)


@given(cases())
def test_values_are_those_of_einsum(case: Case) -> None:
    x, y = operands(case[:2])
    wanted = by_einsum(x, y, case[2])
    found = dot_general.impl(x, y, **params(case[2]))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    aval = dot_general.shape(*(ShapedArray(a.shape, a.dtype) for a in (x, y)), **params(case[2]))
    assert aval.shape == wanted.shape
    if x.size and y.size:
        kernel = run_kernel(dot_general, (x, y), params(case[2]))
        np.testing.assert_allclose(kernel, wanted, rtol=1e-12, atol=1e-12)


@given(cases())
def test_derivatives(case: Case) -> None:
    def f(x: Any, y: Any) -> Any:
        return dot_general(x, y, **params(case[2]))

    check_derivatives(f, lambda x, y: by_einsum(x, y, case[2]), *operands(case[:2]))


@given(cases(), st.data())
def test_vmap(case: Case, data: st.DataObject) -> None:
    def f(x: Any, y: Any) -> Any:
        return dot_general(x, y, **params(case[2]))

    check_vmap(f, lambda x, y: by_einsum(x, y, case[2]), case[:2], data)


@given(cases())
def test_dimensions_have_one_role_each(case: Case) -> None:
    lhs, rhs, numbers = case
    dims = dot_dimensions(lhs, rhs, numbers)
    assert sorted((*dims.lhs_batch, *dims.m, *dims.lhs_k)) == list(range(len(lhs)))
    assert sorted((*dims.rhs_batch, *dims.n, *dims.rhs_k)) == list(range(len(rhs)))
    assert dims.batch_sizes == tuple(lhs[d] for d in dims.lhs_batch)
    assert dims.k_sizes == tuple(rhs[d] for d in dims.rhs_k)


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_half_precision_accumulates_in_float32(dtype: Any) -> None:
    # 1 + 4096 ulps/2: each addend alone is lost in the sum of half precision.
    x = np.full((1, 4097), 2.0**-12, dtype)
    x[0, 0] = 1.0
    out = dot_general.impl(x, np.ones((4097, 1), dtype), **params(MATMUL))
    assert out.dtype == dtype
    assert out[0, 0] == 2.0


def test_integers_wrap_around() -> None:
    x = np.full((1, 3), 100, np.int8)
    out = dot_general.impl(x, x.T, **params(MATMUL))
    assert out.dtype == np.int8
    assert out[0, 0] == np.int8(30000 % 256 - 256 * (30000 % 256 > 127))
    wide = dot_general.impl(x, x.T, **params(MATMUL, np.int32))
    assert wide.dtype == np.int32
    assert wide[0, 0] == 30000


@pytest.mark.parametrize(
    ("operand", "preferred"),
    [
        (BF16, np.float32),
        (np.float16, BF16),
        (np.float32, np.float64),
        (np.float32, BF16),
        (np.complex64, np.complex128),
    ],
)
def test_preferred_element_type_and_its_derivatives(operand: Any, preferred: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-3, 4, shape).astype(operand) for shape in [(2, 3), (3, 5)])
    ct = rng.integers(-3, 4, (2, 5)).astype(preferred)

    def f(x: Any, y: Any) -> Any:
        return dot_general(x, y, **params(MATMUL, preferred))

    out, pull = vjp(f, as_array(x), as_array(y))
    x_ct, y_ct = pull(as_array(ct))
    assert out.dtype == preferred
    assert x_ct.dtype == y_ct.dtype == operand
    wide = np.complex128 if np.dtype(operand).kind == "c" else np.float64
    x, y, ct = (a.astype(wide) for a in (x, y, ct))
    np.testing.assert_array_equal(out.value.astype(wide), x @ y)
    np.testing.assert_array_equal(x_ct.value.astype(wide), ct @ y.T)
    np.testing.assert_array_equal(y_ct.value.astype(wide), x.T @ ct)


@pytest.mark.parametrize(
    ("lhs", "rhs", "numbers", "error", "message"),
    [
        ((2, 3), (4, 5), MATMUL, ShapeError, "dimension 1 of lhs (2, 3) has 3 and dimension 0 of"),
        ((2, 3), (2, 5), (((), ()), ((1,), (0,))), ShapeError, "batch dimensions must have equal"),
        ((2, 3), (3,), (((-1,), (0,)), ((), ())), ShapeError, "d + 2"),
        ((2, 3), (3,), (((1,), (1,)), ((), ())), ShapeError, "dimensions of rhs must be from 0 to"),
        ((2, 3), (3, 3), (((1,), (0, 1)), ((), ())), ShapeError, "must pair up"),
        ((3, 3), (3, 3), (((1,), (0,)), ((1,), (1,))), ShapeError, "of lhs can be named once"),
        ((2, 3), (3,), ((1,), (0,)), ArgumentError, "dimension_numbers must be ((lhs_contract"),
    ],
)
def test_shape_errors(
    lhs: tuple[int, ...], rhs: tuple[int, ...], numbers: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        dot_general.impl(np.zeros(lhs), np.zeros(rhs), **params(numbers))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("lhs", "rhs", "preferred", "message"),
    [
        ("f4", "f8", None, "got float32 and float64"),
        ("?", "?", None, "does not accept bool"),
        ("i4", "i4", "i2", "narrower"),
        ("i4", "i4", "u4", "signedness"),
        ("f4", "f4", "i4", "preferred_element_type=int32 does not fit"),
        ("c8", "c8", "f4", "preferred_element_type=float32 does not fit"),
    ],
)
def test_dtype_errors(lhs: str, rhs: str, preferred: str | None, message: str) -> None:
    with pytest.raises(DtypeError, match=message):
        dot_general.impl(np.zeros((2, 2), lhs), np.zeros((2, 2), rhs), **params(MATMUL, preferred))
