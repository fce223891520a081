"""Rounding to formats of 8 bits or fewer, exhaustively against the casts of ml_dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import funcdl as fd
from funcdl.errors import DtypeError
from funcdl.nn.float_grids import _FORMATS, float_grid, power_of_two_above, round_to_grid

WAYS: dict[str, Callable[[Any], Callable[[Any], Any]]] = {
    "eager": lambda f: f,
    "jit": fd.jit,
    "vmap": fd.vmap,
}
RNG = np.random.default_rng(0)


def interesting(dtype: Any) -> np.ndarray:
    """Every value of a format, what lies half way to the next, and both neighbours of all these."""
    bits = int(np.dtype(dtype).name[len("float")])
    values = np.arange(2**bits, dtype=np.uint8).view(dtype).astype(np.float32)
    values = np.unique(values[np.isfinite(values)])
    beyond = values[-1] + (values[-1] - values[-2])
    values = np.concatenate([[-beyond], values, [beyond]]).astype(np.float32)
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2])
    special = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45, -1e-45, 1.2e-38, 1e-30], np.float32
    )
    near = [np.nextafter(points, np.float32(s) * np.inf) for s in (1, -1)]
    spread = RNG.normal(size=2000) * 2.0 ** RNG.integers(-140, 100, 2000)
    return np.concatenate([points, *near, special, spread.astype(np.float32)]).astype(np.float32)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", _FORMATS)
def test_rounding_is_that_of_a_cast(name: str, way: str) -> None:
    dtype = getattr(ml_dtypes, name)
    xs = interesting(dtype)
    grid = float_grid("x", dtype)
    found = np.asarray(WAYS[way](lambda x: round_to_grid(x, grid))(xs))
    wanted = xs.astype(dtype).astype(np.float32)
    nan = np.isnan(xs)
    assert np.isnan(found[nan]).all()  # kept in formats without NaN, too
    np.testing.assert_array_equal(found[~nan], wanted[~nan])
    nan |= np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(found[~nan]), np.signbit(wanted[~nan]))


@pytest.mark.parametrize("name", _FORMATS)
def test_a_grid_is_what_it_rounds_to(name: str) -> None:
    grid = float_grid("x", name)
    values = round_to_grid(interesting(getattr(ml_dtypes, name)), grid)
    np.testing.assert_array_equal(round_to_grid(values, grid), values)


@pytest.mark.parametrize("way", WAYS)
def test_powers_of_two_are_the_least_above(way: str) -> None:
    every = np.arange(255, dtype=np.uint8).view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    xs = np.concatenate([every, [0, 1e-45, 1e-39, 3.3e38 / 6], np.abs(interesting("float8_e5m2"))])
    xs = xs.astype(np.float32)
    xs = np.concatenate([xs, np.nextafter(xs, np.float32(0)), np.nextafter(xs, np.float32(np.inf))])
    xs = xs[~np.isfinite(xs) | (xs <= 2.0**127)]
    found = np.asarray(WAYS[way](power_of_two_above)(xs))
    finite = np.isfinite(xs)
    assert np.isnan(found[~finite]).all()
    powers = every.astype(np.float64)
    wanted = powers[np.searchsorted(powers, xs[finite].astype(np.float64))]
    np.testing.assert_array_equal(found[finite].astype(np.float64), wanted)


def test_no_derivative() -> None:
    grid = float_grid("x", "float8_e4m3fn")
    assert fd.grad(lambda x: round_to_grid(x, grid))(1.3) == 0


def test_other_formats_are_refused() -> None:
    with pytest.raises(DtypeError, match=r"^data_type must be one of float4.* got float32"):
        float_grid("data_type", np.float32)
