"""Sorting: order, stability, several keys, special values, derivatives, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ops.structural.peer import wide_jax

from funcdl.core import dtypes
from funcdl.core.array import as_array
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.sort import argsort, sort, take_along, top_k
from funcdl.transforms import jit
from funcdl.transforms.derivatives import jvp, vjp

NDArray = np.ndarray[Any, Any]
BF16 = np.dtype(dtypes.bfloat16)
ONE = {"dimension": 0, "is_stable": True, "num_keys": 1}

keys = st.sampled_from([0.0, -0.0, 1.0, -2.0, math.inf, -math.inf, math.nan])


def rank(x: float) -> tuple[bool, float]:
    """A key for Python's own sort: NaN last and all NaNs equal."""
    return (math.isnan(x), 0.0 if math.isnan(x) else x)


def same(a: Any, b: Any) -> bool:
    """Equal bit by bit, but for the sign of NaN."""
    return [repr(x) for x in a] == [repr(x) for x in b]


@given(st.lists(st.tuples(keys, keys), max_size=8), st.integers(1, 2))
def test_order_is_that_of_python(rows: list[tuple[float, float]], num_keys: int) -> None:
    columns = [np.array([row[i] for row in rows]) for i in range(2)]
    places = np.arange(len(rows), dtype=np.int32)
    found = sort.impl(*columns, places, **ONE | {"num_keys": num_keys})
    wanted = sorted(range(len(rows)), key=lambda i: [rank(x) for x in rows[i][:num_keys]])
    assert found[2].tolist() == wanted
    for i in range(2):
        assert same(found[i].tolist(), [rows[j][i] for j in wanted])


@given(st.lists(keys, max_size=8), st.data())
def test_top_k_is_the_largest_first(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(values)))
    found, places = top_k.impl(np.array(values), k=k, axis=0)
    # Python's sort is stable in either direction, so that of equal elements the first comes first.
    wanted = sorted(range(len(values)), key=lambda i: rank(values[i]), reverse=True)[:k]
    assert places.tolist() == wanted
    assert same(found.tolist(), [values[i] for i in wanted])


@pytest.mark.parametrize("dtype", dtypes.SUPPORTED, ids=str)
def test_every_dtype_is_sorted(dtype: np.dtype[Any]) -> None:
    x = np.array([3, 0, 1, 2, 1]).astype(dtype)
    assert sort.impl(x, **ONE)[0].tolist() == sorted(x.tolist(), key=lambda v: complex(v).real)
    if not dtypes.is_complex(dtype):
        assert top_k.impl(x, k=2, axis=0)[0].tolist() == x[[0, 3 if x[3] > 1 else 2]].tolist()


def test_extreme_integers_keep_their_order() -> None:
    for dtype in (np.int64, np.uint64, np.int8):
        info = np.iinfo(dtype)
        x = np.array([info.max, info.min, info.max - 1, info.min + 1], dtype)
        assert sort.impl(x, **ONE)[0].tolist() == sorted(x.tolist())
        assert top_k.impl(x, k=4, axis=0)[0].tolist() == sorted(x.tolist(), reverse=True)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_numbers_are_ordered_by_real_then_imaginary_part(dtype: Any) -> None:
    x = np.array([1 + 2j, 1 + 1j, 0 + 9j, complex(0, math.nan), -1j], dtype)
    found = sort.impl(x, **ONE)[0]
    np.testing.assert_array_equal(found[:4], np.array([-1j, 9j, 1 + 1j, 1 + 2j], dtype))
    assert np.isnan(found[4])


def shuffled(*shape: int) -> NDArray:
    return np.random.default_rng(0).permutation(math.prod(shape)).reshape(shape) * 1.0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_tangents_and_cotangents_follow_the_values(axis: int) -> None:
    x, t = shuffled(2, 3, 4), np.random.default_rng(1).normal(size=(2, 3, 4))
    order = np.argsort(x, axis=axis)

    def first(x: Any) -> Any:
        return sort(x, dimension=axis, is_stable=True, num_keys=1)[0]

    _, tangent = jvp(first, (as_array(x),), (as_array(t),))
    np.testing.assert_array_equal(tangent.value, np.take_along_axis(t, order, axis))
    (ct,) = vjp(first, as_array(x))[1](as_array(t))
    np.testing.assert_array_equal(np.take_along_axis(ct.value, order, axis), t)

    def largest(x: Any) -> Any:
        return top_k(x, k=2, axis=axis)[0]

    last = np.flip(order, axis).take([0, 1], axis)
    out, tangent = jvp(largest, (as_array(x),), (as_array(t),))
    np.testing.assert_array_equal(tangent.value, np.take_along_axis(t, last, axis))
    (ct,) = vjp(largest, as_array(x))[1](as_array(np.ones(out.shape)))
    wanted = np.zeros(x.shape)
    np.put_along_axis(wanted, last, 1.0, axis)
    np.testing.assert_array_equal(ct.value, wanted)


def test_derivatives_beside_integer_keys() -> None:
    names = as_array(np.array([2, 0, 1], np.int32))
    x, t = (as_array(np.array(v)) for v in ([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]))
    outs, tangents = jvp(lambda x: sort(names, x, **ONE), (x,), (t,))
    assert [out.tolist() for out in outs] == [[0, 1, 2], [2.0, 3.0, 1.0]]
    assert tangents[0].dtype == dtypes.float0
    assert tangents[1].tolist() == [20.0, 30.0, 10.0]
    (ct,) = vjp(lambda x: sort(names, x, **ONE)[1], x)[1](t)
    assert ct.tolist() == [30.0, 10.0, 20.0]


def test_ties_keep_their_order_in_derivatives() -> None:
    x, t = (as_array(np.array(v)) for v in ([1.0, 0.0, 1.0, 0.0], [1.0, 2.0, 3.0, 4.0]))
    _, tangent = jvp(lambda x: sort(x, **ONE)[0], (x,), (t,))
    assert tangent.tolist() == [2.0, 4.0, 1.0, 3.0]
    _, tangent = jvp(lambda x: top_k(x, k=3, axis=0)[0], (x,), (t,))
    assert tangent.tolist() == [1.0, 3.0, 2.0]


def test_argsort_sorts() -> None:
    x = as_array(shuffled(3, 5))
    for f in (argsort, jit(argsort, static_argnums=1)):
        order = f(x, 1)
        assert order.dtype == np.int32
        np.testing.assert_array_equal(take_along(x, order, 1).value, np.sort(x.value, 1))
        np.testing.assert_array_equal(order.value, np.argsort(x.value, 1))


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["bool", "i8", "bf16", "c64"])
def test_samples_agree_with_jax(dtype: str) -> None:
    calls = [
        (name, sample)
        for name in ("sort", "top_k")
        if dtype in registry.ops()[name].dtypes
        for sample in registry.ops()[name].samples(
            np.random.default_rng(7), dtypes.from_short_name(dtype)
        )
    ]
    with wide_jax() as jax:

        def run(args: Any) -> Any:
            return [
                list(jax.lax.sort(xs, **sample.params))
                if name == "sort"
                else jax.lax.top_k(xs[0], **sample.params)
                for xs, (name, sample) in zip(args, calls, strict=True)
            ]

        wanted = jax.jit(run)([sample.args for _, sample in calls])
    for (name, sample), peers in zip(calls, wanted, strict=True):
        outs = registry.ops()[name].primitive.impl(*sample.args, **sample.params)
        for out, peer in zip(outs, map(np.asarray, peers), strict=True):
            assert out.dtype == peer.dtype
            np.testing.assert_array_equal(out.astype(complex), peer.astype(complex))


def test_errors() -> None:
    x, y = np.zeros((2, 3)), np.zeros((3, 2))
    with pytest.raises(ShapeError, match="operands of equal shape"):
        sort.impl(x, y, **ONE)
    with pytest.raises(ShapeError, match="dimension must be from 0 to 1"):
        sort.impl(x, **ONE | {"dimension": -1})
    for num_keys in (0, 2):
        with pytest.raises(ArgumentError, match=f"num_keys must be from 1 to 1.*got {num_keys}"):
            sort.impl(x, **ONE | {"num_keys": num_keys})
    with pytest.raises(ArgumentError, match=r"k must be from 0 to 3, the size of dimension 1"):
        top_k.impl(x, k=4, axis=1)
    with pytest.raises(ShapeError, match="axis must be from 0 to 1"):
        top_k.impl(x, k=1, axis=2)
    with pytest.raises(DtypeError, match="top_k does not accept c128"):
        top_k.impl(x.astype(complex), k=1, axis=0)
