"""Values and types of every primitive's NumPy implementation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tests.ops.table import ELEMENTWISE, OPS, assert_close, outputs, samples

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.staging import trace_to_jaxpr
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.ops import arithmetic, random_bits, rounding, select
from funcdl.ops.special import error_functions as special

# Their meaning depends on the representation, so that a wider dtype gives other values.
REPRESENTATION = {"bitcast_convert_type", "nextafter", "convert_element_type", "iota"}
REPRESENTATION |= {"reduce_precision"}


@pytest.mark.parametrize("name", sorted(OPS))
def test_types_agree_with_abstract_evaluation(name: str) -> None:
    primitive = OPS[name].primitive
    for dtype in OPS[name].dtypes:
        for sample in samples(name, dtype):
            avals = [Array(x).aval for x in sample.args]
            jaxpr, _ = trace_to_jaxpr(
                lambda *xs, sample=sample: outputs(primitive(*xs, **sample.params)), avals
            )
            values = outputs(primitive.impl(*sample.args, **sample.params))
            eager = outputs(primitive(*map(Array, sample.args), **sample.params))
            for var, value, array in zip(jaxpr.outvars, values, eager, strict=True):
                assert np.shape(value) == var.aval.shape
                assert np.asarray(value).dtype == var.aval.dtype
                assert array.aval == var.aval
                # NumPy's last bit can depend on how the memory is aligned.
                assert_close(array.value, value, 2, array.dtype)


@pytest.mark.parametrize("name", sorted(set(OPS) - REPRESENTATION))
def test_values_agree_with_double_precision(name: str) -> None:
    op = OPS[name]
    for dtype in {"f16", "bf16", "f32", "c64"} & set(op.dtypes):
        narrow = dtypes.from_short_name(dtype)
        wide = np.dtype(np.complex128 if dtypes.is_complex(narrow) else np.float64)
        for sample in samples(name, dtype):
            if any(isinstance(value, np.dtype) for value in sample.params.values()):
                continue
            args = [x.astype(wide) if x.dtype == narrow else x for x in sample.args]
            found = outputs(op.primitive.impl(*sample.args, **sample.params))
            wanted = outputs(op.primitive.impl(*args, **sample.params))
            for x, y in zip(found, wanted, strict=True):
                assert_close(x, y, 16, narrow)


@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_rows_check_their_operands(name: str) -> None:
    primitive, op = ELEMENTWISE[name], OPS[name]
    sample = next(samples(name, op.dtypes[0]))
    arity = len(sample.args)

    def call(*types: tuple[tuple[int, ...], Any]) -> None:
        avals = [ShapedArray(shape, np.dtype(dtype)) for shape, dtype in types]
        primitive.shape(*avals, **sample.params)

    refused = [d for d in dtypes.SUPPORTED if dtypes.short_name(d) not in op.dtypes]
    for dtype in refused:
        with pytest.raises(DtypeError, match=f"{name} does not accept"):
            call(*[((2,), dtype)] * arity)
        with pytest.raises(DtypeError, match=f"{name} does not accept"):
            primitive(*[Array(np.zeros(2, dtype))] * arity, **sample.params)
    if arity == 2:
        accepted = dtypes.from_short_name(op.dtypes[0])
        other = dtypes.from_short_name(op.dtypes[1])
        with pytest.raises(ShapeError, match="equal shape"):
            call(((2,), accepted), ((1,), accepted))
        with pytest.raises(DtypeError, match="equal dtype"):
            call(((2,), accepted), ((2,), other))
        with pytest.raises(ShapeError, match="equal shape"):
            primitive(Array(np.zeros(2, accepted)), Array(np.zeros(1, accepted)))


def test_parameters_are_checked() -> None:
    x = Array(np.ones(2, np.int32))
    with pytest.raises(ArgumentError, match="y >= 0"):
        arithmetic.integer_pow(x, y=-1)
    with pytest.raises(ArgumentError, match="Python int"):
        arithmetic.integer_pow(x, y=0.5)
    with pytest.raises(ArgumentError, match="rounding_method"):
        rounding.round_(Array(np.ones(2, np.float32)), rounding_method=2)


def test_select_n_checks_its_operands() -> None:
    def call(which: Any, *cases: Any) -> Any:
        return select.select_n(*(Array(np.asarray(x)) for x in (which, *cases)))

    one = np.ones(2, np.float32)
    with pytest.raises(ShapeError, match="at least one"):
        call(True)
    with pytest.raises(ShapeError, match="equal shape and dtype"):
        call(True, one, np.ones(3, np.float32))
    with pytest.raises(ShapeError, match="scalar or of the cases' shape"):
        call([True], one, one)
    with pytest.raises(ShapeError, match="at most 2"):
        call(True, one, one, one)
    with pytest.raises(DtypeError, match="bool or i32"):
        call(np.float32(0), one, one)


def test_select_n_keeps_to_the_cases() -> None:
    which = Array(np.array([-5, 0, 1, 2, 9], np.int32))
    cases = [Array(np.full(5, number, np.int8)) for number in range(3)]
    assert select.select_n(which, *cases).tolist() == [0, 0, 1, 2, 2]


# The known answers of the Random123 distribution for threefry2x32 with 20 rounds.
@pytest.mark.parametrize(
    ("key", "counter", "bits"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_known_answers(
    key: tuple[int, int], counter: tuple[int, int], bits: tuple[int, int]
) -> None:
    operands = [Array(np.array([x], np.uint32)) for x in (*key, *counter)]
    found = random_bits.threefry2x32(*operands)
    assert [int(x.value[0]) for x in found] == list(bits)


def test_error_functions_agree_with_math() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [rng.uniform(-6, 6, 3000), 10 ** rng.uniform(-300, 2, 500), rng.uniform(20, 27, 200)]
    )
    for primitive, exact in ((special.erf, math.erf), (special.erfc, math.erfc)):
        wanted = np.array([exact(value) for value in x])
        normal = np.abs(wanted) > 1e-300
        np.testing.assert_allclose(primitive.impl(x)[normal], wanted[normal], rtol=1e-15)


def test_erf_inv_inverts() -> None:
    x = np.concatenate([np.linspace(-5, 5, 1001), [1e-10, 1e-200, 5.8]])
    small = np.abs(x) < 0.5
    found = special.erf_inv.impl(special.erf.impl(x))
    np.testing.assert_allclose(found[small], x[small], rtol=1e-15)
    # Near 1 the rounding of erf itself is what limits the inverse.
    limit = 2e-16 * np.exp(x * x) + 1e-15
    np.testing.assert_array_less(np.abs(found - x)[np.abs(x) < 5.5], limit[np.abs(x) < 5.5])
    ends = special.erf_inv.impl(np.array([1.0, -1.0, 1.5, np.nan]))
    np.testing.assert_array_equal(ends, [np.inf, -np.inf, np.nan, np.nan])


def test_gamma_functions_at_known_points() -> None:
    euler = 0.57721566490153286
    digamma = special.digamma.impl(np.array([1.0, 0.5, 2.0, -0.5]))
    wanted = [-euler, -euler - 2 * math.log(2), 1 - euler, 0.03648997397857652]
    np.testing.assert_allclose(digamma, wanted, rtol=1e-14)
    trigamma = special.trigamma(Array(np.array([1.0, 0.5, 2.0, -0.5]))).value
    pi2 = math.pi**2
    np.testing.assert_allclose(trigamma, [pi2 / 6, pi2 / 2, pi2 / 6 - 1, pi2 / 2 + 4], rtol=1e-14)
    assert special.lgamma.impl(np.array([0.0, -1.0, -np.inf, np.inf])).tolist() == [math.inf] * 4


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8])
def test_integer_powers_wrap(dtype: Any) -> None:
    x, y = np.meshgrid(np.arange(-4, 5), np.arange(0, 10))
    wanted = [
        [int(a) ** int(b) for a, b in zip(*row, strict=True)] for row in zip(x, y, strict=True)
    ]
    wide = np.array(wanted, np.int64).astype(dtype)
    found = arithmetic.pow_.impl(x.astype(dtype), y.astype(dtype))
    np.testing.assert_array_equal(found, wide)
    assert found.dtype == dtype


def test_negative_integer_powers() -> None:
    x = np.array([2, 1, -1, -1, 0], np.int32)
    y = np.array([-1, -3, -3, -2, -1], np.int32)
    assert arithmetic.pow_.impl(x, y).tolist() == [0, 1, -1, 1, 0]
