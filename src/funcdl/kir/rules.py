"""Type rules that the builder applies and the checker enforces."""

from __future__ import annotations

import math

import numpy as np

from funcdl.core import dtypes
from funcdl.kir.ir import Scalar

INDEX_DTYPES = frozenset({np.dtype(np.int32), np.dtype(np.int64)})
"""Element types of positions."""

BOOL = np.dtype(np.bool_)
_REAL_PARTS = frozenset({"abs", "real", "imag"})
PREDICATES = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "is_finite"})


class KernelError(ValueError):
    """A kernel breaks a rule of the kernel IR."""


def elementwise_dtype(name: str, argument: np.dtype) -> np.dtype:
    """Element type of the result of an elementwise operation, from that of its first argument."""
    if name in PREDICATES:
        return BOOL
    if name == "complex":
        return np.dtype(np.complex64 if argument.itemsize == 4 else np.complex128)
    return dtypes.real_dtype(argument) if name in _REAL_PARTS else argument


def canonical_scalar(value: Scalar, dtype: np.dtype) -> Scalar:
    """The Python scalar that stands for `value` in `dtype`: rounded, and one object for NaN.

    Raises:
        OverflowError: an integer that the dtype cannot hold.
    """
    match dtypes.kind(dtype):
        case "b":
            return bool(value)
        case "i" | "u":
            integer = int(value)
            info = np.iinfo(dtype)
            if not info.min <= integer <= info.max:
                raise OverflowError(f"{integer} is not in the range of {dtype}; cast the value")
            return integer
        case "c":
            number = float(value)
        case _:
            with np.errstate(all="ignore"):
                number = float(np.asarray(value, np.float64).astype(dtype))
    return math.nan if math.isnan(number) else number
