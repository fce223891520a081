"""Pooling against loops over windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax, nn
from funcdl.errors import ArgumentError

X = np.random.default_rng(0).permutation(2 * 5 * 6 * 3).reshape(2, 5, 6, 3) / 4.0 - 20


def loop(x: Any, window: tuple[int, int], strides: tuple[int, int], pads: Any, f: Any) -> Any:
    """`f` of the list of elements of each window that are in `x`."""
    (top, bottom), (left, right) = pads
    rows = range(-top, x.shape[1] + bottom - window[0] + 1, strides[0])
    columns = range(-left, x.shape[2] + right - window[1] + 1, strides[1])
    return np.stack(
        [
            np.stack(
                [f(x[:, max(i, 0) : i + window[0], max(j, 0) : j + window[1]]) for j in columns],
                1,
            )
            for i in rows
        ],
        1,
    )


@pytest.mark.parametrize(
    ("window", "strides", "padding", "pads"),
    [
        ((2, 2), (2, 2), "VALID", ((0, 0), (0, 0))),
        ((3, 2), None, "SAME", ((1, 1), (0, 1))),
        ((2, 3), (2, 2), "SAME", ((0, 1), (0, 1))),
        ((2, 2), (1, 3), ((1, 0), (1, 1)), ((1, 0), (1, 1))),
    ],
)
def test_values(window: Any, strides: Any, padding: Any, pads: Any) -> None:
    steps = strides or (1, 1)

    def wanted(f: Any) -> Any:
        return loop(X, window, steps, pads, f)

    x = fnp.asarray(X)
    top = nn.max_pool(x, window, strides, padding)
    np.testing.assert_array_equal(top, wanted(lambda w: w.max((1, 2))))
    low = nn.min_pool(x, window, strides, padding)
    np.testing.assert_array_equal(low, wanted(lambda w: w.min((1, 2))))
    mean = nn.avg_pool(x, window, strides, padding)
    size = window[0] * window[1]
    np.testing.assert_allclose(mean, wanted(lambda w: w.sum((1, 2)) / size))
    mean = nn.avg_pool(x, window, strides, padding, count_include_pad=False)
    np.testing.assert_allclose(mean, wanted(lambda w: w.mean((1, 2))))


def test_any_number_of_batch_dimensions() -> None:
    x = fnp.asarray(X)
    whole = nn.max_pool(x, (2, 2), (2, 2))
    np.testing.assert_array_equal(nn.max_pool(x[0], (2, 2), (2, 2)), whole[0])
    np.testing.assert_array_equal(nn.max_pool(x[None], (2, 2), (2, 2)), whole[None])
    np.testing.assert_array_equal(fd.vmap(lambda x: nn.max_pool(x, (2, 2), (2, 2)))(x), whole)
    np.testing.assert_array_equal(
        fd.jit(lambda x: nn.avg_pool(x, (5, 6)))(x)[:, 0, 0], X.mean((1, 2))
    )


@pytest.mark.parametrize("dtype", ["int8", "uint16", "bfloat16", "float16", "float64"])
def test_padding_never_is_the_extreme(dtype: str) -> None:
    x = fnp.asarray([[3], [1], [2]], dtype=dtype)
    top, low = (f(x, (3,), padding="SAME") for f in (nn.max_pool, nn.min_pool))
    assert (top.dtype, low.dtype) == (x.dtype, x.dtype)
    assert (top.ravel().tolist(), low.ravel().tolist()) == ([3, 3, 2], [1, 1, 1])


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "bfloat16", "float16"])
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_sums_of_means_fit(dtype: str, count_include_pad: bool) -> None:
    """Those of bytes, beyond the largest half, and counts of elements that no half can hold."""
    value = {"bool": 1, "int8": 100, "uint8": 200, "bfloat16": 3}.get(dtype, 30_000)
    x = fnp.full((2, 18, 19, 1), value, dtype)
    found = nn.avg_pool(x, (17, 17), padding="VALID", count_include_pad=count_include_pad)
    assert found.dtype.name == (dtype if dtype.endswith("float16") else "float32")
    np.testing.assert_array_equal(np.asarray(found, np.float32), np.full((2, 2, 3, 1), value))


def test_derivatives() -> None:
    x = fnp.asarray([[1.0], [4.0], [4.0], [2.0]])
    weights = fnp.asarray([[1.0], [10.0]])

    def total(f: Any) -> Any:
        return fd.grad(lambda x: fnp.sum(f(x, (2,), (2,)) * weights))(x).ravel().tolist()

    assert total(nn.max_pool) == [0.0, 1.0, 10.0, 0.0]
    assert total(nn.min_pool) == [1.0, 0.0, 0.0, 10.0]
    assert total(nn.avg_pool) == [0.5, 0.5, 5.0, 5.0]
    # Overlapping windows with one maximum, the first of equals.
    ct = fd.grad(lambda x: fnp.sum(nn.max_pool(x, (2,))))(x)
    assert ct.ravel().tolist() == [0.0, 2.0, 1.0, 0.0]


def test_errors() -> None:
    x = fnp.ones((4, 4, 1))
    with pytest.raises(ArgumentError, match=r"requires 3 spatial dimensions.*f32\[4,4,1\]"):
        nn.max_pool(x, (2, 2, 2))
    with pytest.raises(ArgumentError, match=r"strides must have one entry.*got \(2,\)"):
        nn.avg_pool(x, (2, 2), (2,))
    with pytest.raises(ArgumentError, match="one pair for each of"):
        nn.pool(x, 0.0, lax.add, (2, 2), None, ((0, 0),))
