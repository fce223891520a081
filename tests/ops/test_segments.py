"""Reductions by segments against loops over rows; their derivatives, modes, and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import ops
from funcdl.errors import ArgumentError, ConcretizationError, DtypeError, ShapeError
from funcdl.test_util import check_grads

NDArray = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)

# Name, how two rows are combined, and what an empty segment holds: of floats, of int32, of bools.
TABLE: dict[str, tuple[Callable[[NDArray, NDArray], NDArray], float, int, bool]] = {
    "segment_sum": (np.add, 0.0, 0, False),
    "segment_prod": (np.multiply, 1.0, 1, True),
    "segment_max": (np.maximum, -np.inf, np.iinfo(np.int32).min, False),
    "segment_min": (np.minimum, np.inf, np.iinfo(np.int32).max, True),
}


def by_rows(name: str, data: NDArray, ids: NDArray, count: int) -> NDArray:
    """The reduction by a loop over the rows whose id is in range."""
    combine, *empty = TABLE[name]
    initial = empty["fib".index(data.dtype.kind)]
    out = np.full((count, *data.shape[1:]), initial, data.dtype)
    for row, place in zip(data, ids, strict=True):
        if 0 <= place < count:
            out[place] = combine(out[place], row)
    return out


def rows_of(dtype: str, shape: tuple[int, ...]) -> NDArray:
    if dtype == "bool":
        return np.asarray(RNG.random(shape) < 0.5)
    return np.asarray(RNG.integers(-4, 5, shape), dtype)


SIZES = [(7, (), 4), (5, (3,), 9), (6, (2, 3), 1), (0, (2,), 3), (4, (0,), 2)]


@pytest.mark.parametrize("bucket_size", [None, 1, 3, 100])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *[(name, dtype) for name in TABLE for dtype in ("float32", "int32")],
        *[("segment_max", "bool"), ("segment_min", "bool")],
    ],
)
def test_values(name: str, dtype: str, bucket_size: int | None) -> None:
    for rows, inner, count in SIZES:
        data, ids = rows_of(dtype, (rows, *inner)), RNG.integers(-2, count + 2, rows)
        found = getattr(ops, name)(data, ids, count, bucket_size=bucket_size)
        assert found.dtype == data.dtype
        np.testing.assert_array_equal(found, by_rows(name, data, ids, count))


def test_compiled_values() -> None:
    """All in one program."""
    calls = [
        (name, rows_of(dtype, (rows, *inner)), RNG.integers(-2, count + 2, rows), count, bucket)
        for name in TABLE
        for dtype in ("float32", "int32")
        for rows, inner, count in SIZES[::2]
        for bucket in (None, 3)
    ]

    def program(operands: list[tuple[NDArray, NDArray]]) -> list[Any]:
        return [
            getattr(ops, name)(data, ids, count, bucket_size=bucket)
            for (name, _, _, count, bucket), (data, ids) in zip(calls, operands, strict=True)
        ]

    found = fd.jit(program)([(data, ids) for _, data, ids, *_ in calls])
    for (name, data, ids, count, _), result in zip(calls, found, strict=True):
        np.testing.assert_array_equal(result, by_rows(name, data, ids, count))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-9, 9)), max_size=20))
def test_the_number_of_segments_comes_from_known_ids(pairs: list[tuple[int, int]]) -> None:
    ids, data = np.array(pairs, np.int32).reshape(-1, 2).T
    count = int(ids.max(initial=-1)) + 1
    found = ops.segment_sum(data, ids)
    np.testing.assert_array_equal(found, by_rows("segment_sum", data, ids, count))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "int64", "uint32"])
def test_ids_of_any_integer_dtype(dtype: str) -> None:
    ids = np.array([0, 2, 2, 100], dtype)
    np.testing.assert_array_equal(ops.segment_sum(np.arange(4.0), ids, 3), [0, 0, 3])


def test_modes_and_promises() -> None:
    data, ids = np.array([1.0, 2.0, 3.0]), np.array([-1, 0, 5])
    np.testing.assert_array_equal(ops.segment_sum(data, ids, 2, mode="drop"), [2, 0])
    np.testing.assert_array_equal(ops.segment_sum(data, ids, 2, mode="clip"), [3, 3])
    sure = ops.segment_max(data, np.array([0, 1, 2]), 3, True, True, mode="promise_in_bounds")
    np.testing.assert_array_equal(sure, data)


@pytest.mark.parametrize("bucket_size", [None, 2])
@pytest.mark.parametrize("name", TABLE)
def test_derivatives(name: str, bucket_size: int | None) -> None:
    data, ids = RNG.permutation(10).reshape(5, 2) + 0.5, np.array([0, 2, 0, 2, 0])
    check_grads(
        lambda x: getattr(ops, name)(x, ids, 3, bucket_size=bucket_size)[fnp.array([0, 2])],
        (data,),
        order=2,
    )


def test_derivatives_of_products_of_zeros() -> None:
    """The derivative by one of two zeros is 0, and the second one by both is not."""
    data, ids = np.array([0.0, 0.0, 3.0, 2.0]), np.array([0, 0, 0, 1])

    def f(x: Any) -> Any:
        return ops.segment_prod(x, ids, 2).sum()

    np.testing.assert_array_equal(fd.grad(f)(data), [0, 0, 0, 1])
    assert float(fd.hessian(f)(data)[0, 1]) == 3
    np.testing.assert_array_equal(fd.jit(fd.grad(f))(data + 1), [4, 4, 1, 1])


@pytest.mark.parametrize("name", TABLE)
def test_vmap_is_a_loop(name: str) -> None:
    data, ids = RNG.normal(size=(3, 5, 2)).astype(np.float32), RNG.integers(0, 4, (3, 5))
    f = getattr(ops, name)
    for batched_ids in (True, False):
        i = ids if batched_ids else ids[0]
        found = fd.vmap(lambda x, k: f(x, k, 4), (0, 0 if batched_ids else None))(data, i)
        wanted = [f(x, k, 4) for x, k in zip(data, i if batched_ids else [i] * 3, strict=True)]
        np.testing.assert_allclose(found, np.stack([np.asarray(w) for w in wanted]), 1e-6)


def test_buckets_round_less() -> None:
    data = np.full(1 << 14, 0.1, np.float16).astype(np.float32)
    wanted = float(data.astype(np.float64).sum())
    ids = np.zeros(data.size, np.int32)
    errors = [
        abs(float(ops.segment_sum(data, ids, 1, bucket_size=b)[0]) - wanted) for b in (None, 128)
    ]
    assert errors[1] <= errors[0] / 4


def test_errors() -> None:
    data = np.zeros((3, 2))
    with pytest.raises(ShapeError, match="an id for each row"):
        ops.segment_sum(data, np.zeros(2, int), 1)
    with pytest.raises(DtypeError, match="must be integers"):
        ops.segment_sum(data, np.zeros(3), 1)
    with pytest.raises(DtypeError, match="data must be numbers"):
        ops.segment_prod(np.zeros(3, bool), np.zeros(3, int), 1)
    with pytest.raises(ArgumentError, match="num_segments must not be negative"):
        ops.segment_max(data, np.zeros(3, int), -1)
    with pytest.raises(ArgumentError, match="bucket_size must be positive"):
        ops.segment_min(data, np.zeros(3, int), 1, bucket_size=0)
    with pytest.raises(ConcretizationError, match="pass num_segments"):
        fd.jit(ops.segment_prod)(data, np.zeros(3, int))
    with pytest.raises(AttributeError, match="no attribute 'segment_mean'"):
        ops.segment_mean  # noqa: B018  # the access raises
