"""What `Cast` and `Bitcast` mean, on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.core import dtypes

Array = np.ndarray[Any, np.dtype[Any]]


def convert(x: Array, dtype: np.dtype) -> Array:
    """`x` in another element type, as XLA's ``ConvertElementType``.

    Floats become integers by dropping the fraction, keeping to the integer's range, and NaN is 0.
    Integers wrap around. Everything but zero is true. Complex numbers lose their imaginary part.
    """
    if x.dtype == dtype:
        return x
    with np.errstate(all="ignore"):
        if dtypes.kind(x.dtype) == "c" and dtypes.kind(dtype) not in ("c", "b"):
            x = x.real
        if dtypes.is_bool(dtype):
            return np.asarray(x != 0)
        if dtypes.is_float(x.dtype) and dtypes.is_integer(dtype):
            return _to_integer(x, dtype)
        return x.astype(dtype)


def _to_integer(x: Array, dtype: np.dtype) -> Array:
    wide = x.astype(np.float64)
    info = np.iinfo(dtype)
    # The bounds as floats: the upper one, of the form 2^n, is the first value out of range.
    above = wide >= float(info.max) + (1.0 if info.bits < 64 else 0.0)
    below = wide < float(info.min)
    inside = np.where(above | below | np.isnan(wide), 0.0, wide).astype(dtype)
    return np.where(
        above, np.asarray(info.max, dtype), np.where(below, np.asarray(info.min, dtype), inside)
    )


def reinterpret(x: Array, dtype: np.dtype) -> Array:
    """The bits of `x` as another element type of the same width."""
    return np.ascontiguousarray(x).view(dtype).reshape(x.shape)
