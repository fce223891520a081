"""Rounding to the values of floating-point formats of 8 bits or fewer.

There are no arrays of such dtypes: their values are kept as float32, which has all of them.
"""

from __future__ import annotations

import functools
from typing import Any

import ml_dtypes
import numpy as np

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core.records import record
from funcdl.errors import DtypeError

_FORMATS = (
    "float4_e2m1fn",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3fn",
    "float8_e5m2",
)
_EXPONENT = np.uint32(0x7F800000)
_MANTISSA = np.uint32(0x007FFFFF)
_UNIT = np.uint32(0x00800000)
_HALF = np.uint32(0x00400000)


@record
class FloatGrid:
    """The values of a format: multiples of ``2**-mantissa_bits`` times a power of two.

    `overflow` is what becomes of a positive number that rounds to none of them: NaN, infinity, or
    `largest`, in formats with neither.
    """

    mantissa_bits: int
    smallest_normal: float
    largest: float
    overflow: float


@functools.cache
def _grid(name: str) -> FloatGrid:
    dtype = getattr(ml_dtypes, name)
    finfo: Any = ml_dtypes.finfo
    info = finfo(dtype)
    return FloatGrid(
        mantissa_bits=int(info.nmant),
        smallest_normal=float(info.smallest_normal),
        largest=float(info.max),
        overflow=float(np.float32(np.inf).astype(dtype)),
    )


def float_grid(what: str, dtype: Any) -> FloatGrid:
    """The values of a format that is given by its dtype, as in `ml_dtypes`, or its name.

    Raises:
      DtypeError: it is none of the formats that are known here; `what` says what it is for.
    """
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in _FORMATS:
        raise DtypeError(f"{what} must be one of {', '.join(_FORMATS)}; got {name}")
    return _grid(name)


def round_to_grid(x: Any, grid: FloatGrid) -> Any:
    """The nearest values of a format, of two equally near ones that with an even mantissa.

    This is what a cast by `ml_dtypes` gives, but for NaN, which stays NaN in formats without it.
    Results have no derivative (it is zero almost everywhere).

    Args:
      x: float32, any shape.
    """
    # Twice the largest one overflows as surely as all that is beyond it.
    near = fnp.clip(x, -2 * grid.largest, 2 * grid.largest)
    bits = lax.bitcast_convert_type(near, np.uint32)
    power = lax.bitcast_convert_type(bits & _EXPONENT, np.float32)
    # Powers of two, so that dividing and multiplying by them is exact.
    step = fnp.maximum(power, np.float32(grid.smallest_normal)) * 2.0**-grid.mantissa_bits
    rounded = lax.round(near / step, lax.RoundingMethod.TO_NEAREST_EVEN) * step
    beyond = fnp.where(x < 0, np.float32(-grid.overflow), np.float32(grid.overflow))
    return fnp.where(fnp.abs(rounded) > grid.largest, beyond, rounded)


def power_of_two_above(x: Any) -> Any:
    """The least value of float8_e8m0fnu, a power of two from 2**-127 on, that is not below `x`.

    Infinity and NaN give NaN.

    Args:
      x: float32 from zero on, any shape.
    """
    bits = lax.bitcast_convert_type(x, np.uint32)
    exponent, mantissa = bits & _EXPONENT, bits & _MANTISSA
    # Subnormal numbers up to 2**-127 have it as their bound, all others the smallest normal one.
    up = fnp.where(exponent == 0, mantissa > _HALF, mantissa > 0)
    power = lax.bitcast_convert_type(exponent + up.astype(np.uint32) * _UNIT, np.float32)
    power = fnp.where((exponent == 0) & ~up, np.float32(2.0**-127), power)
    return fnp.where(exponent == _EXPONENT, np.float32(np.nan), power)
