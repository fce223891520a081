"""Dtypes by name, constants, and questions about types."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import ArrayOperators, aval_of
from funcdl.core.dtypes import (
    bfloat16,
    bool_,
    complex64,
    complex128,
    complexfloating,
    finfo,
    float16,
    float32,
    float64,
    floating,
    generic,
    iinfo,
    inexact,
    int8,
    int16,
    int32,
    int64,
    integer,
    issubdtype,
    number,
    promote_types,
    result_type,
    signedinteger,
    uint8,
    uint16,
    uint32,
    uint64,
    unsignedinteger,
)

dtype = np.dtype
ndarray = ArrayOperators
"""The common base of arrays and tracers, for `isinstance`."""

newaxis = None
pi = math.pi
e = math.e
euler_gamma = 0.5772156649015329
inf = math.inf
nan = math.nan


def isscalar(element: Any) -> bool:
    """Whether `element` is a scalar of Python or NumPy, or an array without dimensions."""
    if isinstance(element, ArrayOperators | np.ndarray):
        return element.ndim == 0
    return bool(np.isscalar(element)) and not isinstance(element, str | bytes)


def iscomplexobj(x: Any) -> bool:
    """Whether the dtype is complex."""
    return dtypes.is_complex(aval_of(x).dtype)


def isrealobj(x: Any) -> bool:
    """Whether the dtype is not complex."""
    return not iscomplexobj(x)


__all__ = [
    "bfloat16",
    "bool_",
    "complex64",
    "complex128",
    "complexfloating",
    "dtype",
    "e",
    "euler_gamma",
    "finfo",
    "float16",
    "float32",
    "float64",
    "floating",
    "generic",
    "iinfo",
    "inexact",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "integer",
    "iscomplexobj",
    "isrealobj",
    "isscalar",
    "issubdtype",
    "nan",
    "ndarray",
    "newaxis",
    "number",
    "pi",
    "promote_types",
    "result_type",
    "signedinteger",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "unsignedinteger",
]
