"""Operands at the edges: NaN, infinities, signed zeros, the ends of integer ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.ops.table import ELEMENTWISE, samples

from funcdl.core import dtypes
from funcdl.ops.registry import Sample

NDArray = np.ndarray[Any, Any]

# Primitives with parameters or scalar operands: what of their parameters to try.
_PARAMS: dict[str, list[dict[str, Any]]] = {
    "integer_pow": [{"y": y} for y in (-3, -1, 0, 1, 2, 5)],
    "round": [{"rounding_method": method} for method in (0, 1)],
}

ROWS = frozenset(ELEMENTWISE) | {"clamp", "copy"}


def edges(dtype: np.dtype[Any]) -> NDArray:
    """Special values of a dtype, and a few plain ones."""
    if dtypes.is_bool(dtype):
        return np.array([False, True])
    if dtypes.is_integer(dtype):
        info = np.iinfo(dtype)
        values = [info.min, info.min + 1, -7, -1, 0, 1, 2, 3, 7, info.bits - 1, info.bits]
        return np.array([v for v in [*values, info.max - 1, info.max] if v >= info.min], dtype)
    if dtypes.is_complex(dtype):
        parts = np.array([0.5, -1.0, 2.0, -3.0])
        return (parts[:, None] + 1j * parts).reshape(-1).astype(dtype)
    info = dtypes.finfo(dtype)
    plain = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 10.0, 100.0]
    ends = [0.0, float(info.tiny), float(info.max), np.inf]
    values = np.array([*plain, *ends])
    return np.concatenate([values, -values, [np.nan]]).astype(dtype)


def special_samples(name: str, dtype: str) -> list[Sample]:
    """Calls of an elementwise row on every combination of special values."""
    if name not in ROWS:
        return []
    arity = len(next(samples(name, dtype)).args)
    values = edges(dtypes.from_short_name(dtype))
    grid = np.meshgrid(*[values] * arity, indexing="ij")
    args = tuple(x.reshape(-1) for x in grid)
    negative = [p for p in _PARAMS.get(name, [{}]) if p.get("y", 0) < 0]
    return [
        Sample(args, params)
        for params in _PARAMS.get(name, [{}])
        if not (params in negative and dtypes.is_integer(values.dtype))
    ]


def assert_same_values(
    found: NDArray, wanted: NDArray, tolerance: float, what: str, zero: float = 0.0
) -> None:
    """Equal up to a relative tolerance, or by less than `zero`; NaN and infinities exactly."""
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype), what
    if not dtypes.is_inexact(found.dtype):
        np.testing.assert_array_equal(found, wanted, what)
        return
    least = max(zero, float(dtypes.finfo(found.dtype).tiny))
    wide = np.complex128 if dtypes.is_complex(found.dtype) else np.float64
    np.testing.assert_allclose(
        found.astype(wide), wanted.astype(wide), rtol=tolerance, atol=least, err_msg=what
    )


def assert_same_zeros(found: NDArray, wanted: NDArray, what: str) -> None:
    """Zeros have the same sign."""
    both = (found == 0) & (wanted == 0)
    np.testing.assert_array_equal(np.signbit(found[both]), np.signbit(wanted[both]), what)
