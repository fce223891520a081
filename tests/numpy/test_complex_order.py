"""Complex numbers are ordered as in NumPy: by their real parts, then by the imaginary ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.errors import DtypeError

RNG = np.random.default_rng(0)
# Few different parts, so that many pairs differ in the imaginary part only, or not at all.
X, Y = (
    (RNG.integers(-2, 3, (5, 6)) + 1j * RNG.integers(-2, 3, (5, 6))).astype(np.complex64)
    for _ in "xy"
)
WITH_NAN = np.where(RNG.random(X.shape) < 0.2, np.complex64(complex(np.nan, 1)), X)
BINARY = "less less_equal greater greater_equal maximum minimum fmax fmin"
REDUCTIONS = "max min ptp nanmax nanmin"


def both(f: Callable[..., Any], *xs: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(f(*xs)), np.asarray(fd.jit(f)(*xs))]


@pytest.mark.parametrize("name", BINARY.split())
def test_pairs_as_numpy(name: str) -> None:
    for x in (X, WITH_NAN):
        with np.errstate(invalid="ignore"):
            wanted = getattr(np, name)(x, Y)
        for found in both(getattr(fnp, name), x, Y):
            np.testing.assert_array_equal(found, wanted)


def test_operators_and_numbers_of_python() -> None:
    x = fnp.asarray(X)
    np.testing.assert_array_equal(x < 1, np.less(X, np.complex64(1)))
    np.testing.assert_array_equal(x >= 1j, np.greater_equal(X, np.complex64(1j)))


@pytest.mark.parametrize("name", REDUCTIONS.split())
def test_reductions_as_numpy(name: str) -> None:
    wanted = getattr(np, name)(X, axis=1)
    for found in both(lambda x: getattr(fnp, name)(x, axis=1), X):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", ["nanmax", "nanmin"])
def test_reductions_that_leave_out_nan(name: str) -> None:
    for found in both(lambda x: getattr(fnp, name)(x, axis=1), WITH_NAN):
        np.testing.assert_array_equal(found, getattr(np, name)(WITH_NAN, axis=1))


@pytest.mark.parametrize("name", ["max", "min"])
def test_accumulations_as_numpy(name: str) -> None:
    wanted = getattr(np, name + "imum").accumulate(X, axis=1)
    for found in both(lambda x: getattr(lax, "cum" + name)(x, 1), X):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("name", "base"), [("logaddexp", np.e), ("logaddexp2", 2.0)])
def test_sums_of_exponentials(name: str, base: float) -> None:
    """The logarithm's principal value, and no overflow."""
    wanted = np.log(base ** X.astype(complex) + base ** Y.astype(complex)) / np.log(base)
    for found in both(getattr(fnp, name), X, Y):
        usual = np.abs(base**X + base**Y) > 1e-3
        np.testing.assert_allclose(found[usual], wanted[usual], rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(base**found, base**X + base**Y, rtol=2e-4, atol=2e-5)
    large = getattr(fnp, name)(np.complex64(1000 + 1j), np.complex64(1000 + 1j))
    np.testing.assert_allclose(large, 1000 + np.log(2) / np.log(base) + 1j, rtol=1e-6)


def test_derivative_of_the_largest() -> None:
    x = fnp.asarray(np.array([1 + 2j, 3 - 1j, 3 + 1j, 0], np.complex64))
    slope = fd.jvp(fnp.max, (x,), (fnp.asarray(np.arange(4) + 1j, np.complex64),))[1]
    assert complex(slope) == 2 + 1j


def test_places_of_an_interpolation_are_real() -> None:
    grid = np.arange(3.0)
    np.testing.assert_array_equal(fnp.interp(0.5, grid, grid * 2j), 1j)
    with pytest.raises(DtypeError, match="interp: places on a line are real"):
        fnp.interp(0.5j, grid, grid)
