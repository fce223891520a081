"""Modes, ranks and standard errors against SciPy, under vmap and jit too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import funcdl as fd
from funcdl.errors import ArgumentError
from funcdl.scipy import stats
from funcdl.test_util import check_grads

NDArray = np.ndarray[Any, Any]
METHODS = ["average", "min", "max", "dense", "ordinal"]
SMALL = arrays(
    np.float64,
    st.sampled_from([(5,), (1,), (3, 4), (2, 1, 3)]),
    elements=st.integers(-3, 3).map(float),
)


@settings(max_examples=40, deadline=None)
@given(SMALL, st.booleans())
def test_mode(x: NDArray, keepdims: bool) -> None:
    for axis in (None, *range(-x.ndim, x.ndim)):
        found = stats.mode(x, axis, keepdims=keepdims)
        wanted = scipy.stats.mode(x, axis, keepdims=keepdims)
        np.testing.assert_array_equal(found.mode, wanted.mode)
        np.testing.assert_array_equal(found.count, wanted.count)


@settings(max_examples=40, deadline=None)
@given(SMALL, st.sampled_from(METHODS))
def test_rankdata(x: NDArray, method: str) -> None:
    for axis in (None, *range(-x.ndim, x.ndim)):
        found = stats.rankdata(x, method, axis=axis)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, scipy.stats.rankdata(x, method, axis=axis))


def test_samples_with_nan_and_without_elements() -> None:
    x = np.array([[1.0, np.nan, np.nan], [2.0, 1.0, 2.0]])
    found = stats.mode(x, axis=1)
    np.testing.assert_array_equal(found.mode, [np.nan, 2])
    np.testing.assert_array_equal(found.count, [2, 2])
    np.testing.assert_array_equal(stats.rankdata(x, axis=1), [[np.nan] * 3, [2.5, 1, 2.5]])
    empty = stats.mode(np.zeros((0, 2)))
    np.testing.assert_array_equal(empty.mode, [np.nan] * 2)
    np.testing.assert_array_equal(empty.count, [0, 0])
    assert stats.rankdata(np.zeros((2, 0)), axis=1).shape == (2, 0)


@pytest.mark.parametrize("ddof", [0, 1])
def test_sem(ddof: int) -> None:
    x = np.random.default_rng(0).normal(size=(5, 3))
    for axis in (0, 1, None):
        wanted = scipy.stats.sem(x, axis, ddof)
        np.testing.assert_allclose(stats.sem(x, axis, ddof), wanted, 1e-13)
        kept = stats.sem(x, axis, ddof, keepdims=True)
        assert kept.shape == np.sum(x, axis=axis, keepdims=True).shape
    check_grads(lambda x: stats.sem(x, ddof=ddof), (x,), order=2)
    x[1, 1] = np.nan
    wanted = scipy.stats.sem(x, ddof=ddof, nan_policy="omit")
    np.testing.assert_allclose(stats.sem(x, ddof=ddof, nan_policy="omit"), wanted, 1e-13)
    assert np.isnan(np.asarray(stats.sem(x, ddof=ddof))).tolist() == [False, True, False]


def test_vmap_and_jit() -> None:
    x = np.random.default_rng(1).integers(0, 4, (3, 6)).astype(np.float32)
    mode, count = fd.jit(fd.vmap(lambda row: tuple(stats.mode(row))))(x)
    wanted = scipy.stats.mode(x, 1)
    np.testing.assert_array_equal(mode, wanted.mode)
    np.testing.assert_array_equal(count, wanted.count)
    ranks = fd.jit(fd.vmap(lambda row: [stats.rankdata(row, m) for m in METHODS]))(x)
    for method, rank in zip(METHODS, ranks, strict=True):
        np.testing.assert_array_equal(rank, scipy.stats.rankdata(x, method, axis=1))


def test_errors() -> None:
    for f in (stats.mode, stats.rankdata, stats.sem):
        with pytest.raises(ArgumentError, match="nan_policy must be 'propagate'"):
            f(np.ones(3), nan_policy="raise")
    with pytest.raises(ArgumentError, match="method must be one of"):
        stats.rankdata(np.ones(3), "mean")
    with pytest.raises(ArgumentError, match="have no mode"):
        stats.mode(np.zeros((0, 2), int))
