"""Type rules that the builder applies and the checker enforces."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np

from funcdl.core import dtypes
from funcdl.kir.ir import Scalar

HALF_DTYPES = frozenset({np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)})
"""Element types of memory only: values are cast before arithmetic."""

BOOL = np.dtype(np.bool_)
PREDICATES = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "is_finite"})


class KernelError(ValueError):
    """A kernel breaks a rule of the kernel IR."""


def elementwise_dtype(name: str, argument: np.dtype) -> np.dtype:
    """Element type of the result of an elementwise operation, from that of its first argument."""
    if name in PREDICATES:
        return BOOL
    if name == "abs" and argument.kind == "c":
        return np.dtype(np.float32 if argument.itemsize == 8 else np.float64)
    return argument


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
