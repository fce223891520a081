"""Accumulations: values, special values, derivatives at zeros and ties, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ops.structural.peer import bind_in_jax
from tests.ops.structural.test_samples import TOLERANCE

from funcdl.core import dtypes
from funcdl.core.array import as_array
from funcdl.core.primitive import Primitive
from funcdl.errors import DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.cumulative import cumlogsumexp, cummax, cummin, cumprod, cumsum
from funcdl.transforms.derivatives import jvp, vjp

NDArray = np.ndarray[Any, Any]
BF16 = np.dtype(dtypes.bfloat16)
ALL = {
    cumsum: np.sum,
    cumprod: np.prod,
    cummax: np.max,
    cummin: np.min,
    cumlogsumexp: lambda x: np.log(np.sum(np.exp(x))),
}
NAMES = sorted(primitive.name for primitive in ALL)

values = st.lists(st.sampled_from([0.0, 1.0, -2.0, 0.5]), max_size=9)


def up_to(x: NDArray, i: int, reverse: bool) -> NDArray:
    return x[i:] if reverse else x[: i + 1]


@given(values, st.booleans())
def test_each_element_combines_those_up_to_it(values: list[float], reverse: bool) -> None:
    x = np.array(values)
    for primitive, combine in ALL.items():
        found = primitive.impl(x, axis=0, reverse=reverse)
        wanted = [combine(up_to(x, i, reverse)) for i in range(len(x))]
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def jacobian(primitive: Primitive, x: NDArray, reverse: bool) -> NDArray:
    """By forward mode, after checking that reverse mode gives the same."""

    def f(x: Any) -> Any:
        return primitive(x, axis=0, reverse=reverse)

    units = np.eye(len(x))
    forward = np.array([jvp(f, (as_array(x),), (as_array(t),))[1].value for t in units]).T
    _, pull = vjp(f, as_array(x))
    backward = np.array([pull(as_array(t))[0].value for t in units])
    np.testing.assert_allclose(backward, forward, rtol=1e-12, atol=1e-15)
    return forward


@given(values.filter(bool), st.booleans())
def test_derivatives(values: list[float], reverse: bool) -> None:
    x = np.array(values)
    size = range(len(x))
    inside = np.array([[j >= i if reverse else j <= i for j in size] for i in size])
    np.testing.assert_array_equal(jacobian(cumsum, x, reverse), inside)
    sums = cumlogsumexp.impl(x, axis=0, reverse=reverse)
    weights = [[math.exp(x[j] - v) for j in size] for v in sums]
    np.testing.assert_allclose(
        jacobian(cumlogsumexp, x, reverse), inside * np.array(weights), rtol=1e-12
    )
    left = [
        [np.prod(up_to(np.where(np.arange(len(x)) == j, 1, x), i, reverse)) for j in size]
        for i in size
    ]
    np.testing.assert_array_equal(jacobian(cumprod, x, reverse), inside * np.array(left))
    for primitive, find in ((cummax, max), (cummin, min)):
        wanted = np.zeros((len(x), len(x)))
        for i in size:
            # The first in the direction of accumulation that has the extreme.
            order = range(len(x) - 1, i - 1, -1) if reverse else range(i + 1)
            wanted[i, find(order, key=lambda j: x[j])] = 1
        np.testing.assert_array_equal(jacobian(primitive, x, reverse), wanted)


def test_logsumexp_of_far_apart_values_and_its_derivative() -> None:
    x = np.array([-np.inf, -np.inf, -1000.0, 1000.0, 999.0, np.inf])
    found = cumlogsumexp.impl(x, axis=0, reverse=False)
    last = 1000 + math.log1p(math.exp(-1))
    np.testing.assert_allclose(found, [-np.inf, -np.inf, -1000, 1000, last, np.inf])
    weights = jacobian(cumlogsumexp, x[:5], False)
    share = 1 / (1 + math.exp(-1))
    np.testing.assert_allclose(weights[4], [0, 0, 0, share, 1 - share])
    np.testing.assert_array_equal(weights[:3], np.diag([0.0, 0.0, 1.0, 0, 0])[:3])


@pytest.mark.parametrize("dtype", ["f2", BF16, "f4"])
def test_nan_stays(dtype: Any) -> None:
    x = np.array([1.0, np.nan, 2.0, np.inf], dtype)
    for primitive in ALL:
        assert np.isnan(primitive.impl(x, axis=0, reverse=False)).tolist() == [0, 1, 1, 1]
        assert np.isnan(primitive.impl(x, axis=0, reverse=True)).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_half_precision_accumulates_in_float32(dtype: Any) -> None:
    x = np.full(4097, 2.0**-12, dtype)
    x[0] = 1.0
    out = cumsum.impl(x, axis=0, reverse=False)
    assert out.dtype == dtype
    assert out[-1] == 2.0


def test_integers_wrap_around() -> None:
    x = np.array([100, 100, 100], np.int8)
    assert cumsum.impl(x, axis=0, reverse=False).tolist() == [100, -56, 44]
    assert cumprod.impl(x, axis=0, reverse=True).tolist() == [64, 16, 100]


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["i8", "bf16", "f32", "c64"])
def test_samples_agree_with_jax(dtype: str) -> None:
    for name in NAMES:
        op = registry.ops()[name]
        if dtype not in op.dtypes:
            continue
        samples = list(op.samples(np.random.default_rng(7), dtypes.from_short_name(dtype)))
        for sample, peer in zip(
            samples, bind_in_jax(name, [(s.args, s.params) for s in samples]), strict=True
        ):
            out = op.primitive.impl(*sample.args, **sample.params)
            assert (out.shape, out.dtype) == (peer.shape, peer.dtype)
            # JAX adds half precision in half precision.
            tolerance = 4 * TOLERANCE.get(dtype, 1e-12)
            np.testing.assert_allclose(
                out.astype(np.complex128),
                peer.astype(np.complex128),
                rtol=tolerance,
                atol=tolerance,
            )


def test_errors() -> None:
    x = np.zeros((2, 3))
    for axis in (-1, 2):
        with pytest.raises(ShapeError, match=rf"axis {axis} does not fit f64\[2,3\]"):
            cumsum.impl(x, axis=axis, reverse=False)
    with pytest.raises(DtypeError, match=r"cumsum does not accept bool\[2,3\]"):
        cumsum.impl(x.astype(bool), axis=0, reverse=False)
    with pytest.raises(DtypeError, match="cummax does not accept bool"):
        cummax.impl(x.astype(bool), axis=0, reverse=False)
    with pytest.raises(DtypeError, match="cumlogsumexp does not accept i64"):
        cumlogsumexp.impl(x.astype(int), axis=0, reverse=False)
