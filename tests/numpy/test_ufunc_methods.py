"""Methods of universal functions against NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl.numpy as fnp
from funcdl.errors import ArgumentError

FLOAT = ["add", "subtract", "multiply", "maximum", "minimum", "logaddexp", "logaddexp2"]
BITS = ["bitwise_and", "bitwise_or", "bitwise_xor"]
TRUTH = ["logical_and", "logical_or", "logical_xor"]
NAMES = pytest.mark.parametrize("name", [*FLOAT, *BITS, *TRUTH])


def data(name: str) -> np.ndarray:
    x = np.random.default_rng(3).normal(size=(4, 3))
    if name in FLOAT:
        return x
    return (x * 9).astype(np.int32) if name in BITS else x > 0


# NumPy reduces several axes only where the order does not matter.
REDUCTIONS = [
    (name, axis)
    for name in (*FLOAT, *BITS, *TRUTH)
    for axis in (0, 1, None)
    if (name, axis) != ("subtract", None)
]


@pytest.mark.parametrize(("name", "axis"), REDUCTIONS)
def test_reduce(name: str, axis: int | None) -> None:
    x = data(name)
    ours, theirs = getattr(fnp, name), getattr(np, name)
    for options in ({}, {"keepdims": True}):
        wanted = theirs.reduce(x, axis=axis, **options)
        np.testing.assert_allclose(ours.reduce(fnp.array(x), axis=axis, **options), wanted)


@NAMES
def test_accumulate_outer_and_reduceat(name: str) -> None:
    x = data(name)
    ours, theirs = getattr(fnp, name), getattr(np, name)
    for axis in (0, 1):
        wanted = theirs.accumulate(x, axis=axis)
        np.testing.assert_allclose(ours.accumulate(fnp.array(x), axis=axis), wanted)
    np.testing.assert_allclose(ours.outer(fnp.array(x), fnp.array(x[0])), theirs.outer(x, x[0]))
    places = [0, 3, 1, 2]
    wanted = theirs.reduceat(x, places, axis=0)
    np.testing.assert_allclose(ours.reduceat(fnp.array(x), places), wanted)


@NAMES
def test_at_combines_as_often_as_named(name: str) -> None:
    x, places = data(name), np.array([1, 3, 1])
    wanted = x.copy()
    getattr(np, name).at(wanted, places, x[1])
    found = getattr(fnp, name).at(fnp.array(x), places, x[1], inplace=False)
    np.testing.assert_allclose(found, wanted)


def test_where_and_initial() -> None:
    x = data("add")
    options: dict[str, Any] = {"where": x > 0, "initial": -1.0}
    for name in ("add", "maximum", "logaddexp"):
        wanted = getattr(np, name).reduce(x, **options)
        np.testing.assert_allclose(getattr(fnp, name).reduce(fnp.array(x), **options), wanted)


def test_errors() -> None:
    with pytest.raises(ArgumentError) as caught:
        fnp.add.at(fnp.zeros(3), 0, 1.0)
    assert str(caught.value) == (
        "add.at: arrays are immutable, so it returns the result and needs inplace=False"
    )
    with pytest.raises(ArgumentError, match=r"subtract.reduce: there is no result of no elements"):
        fnp.subtract.reduce(fnp.zeros(0))
