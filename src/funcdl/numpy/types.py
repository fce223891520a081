"""Dtypes by name, constants, and questions about types."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import ArrayOperators, aval_of, shortened
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
    signedinteger,
    uint8,
    uint16,
    uint32,
    uint64,
    unsignedinteger,
)
from funcdl.core.lattice import promote_types, result_type
from funcdl.core.options import is_option
from funcdl.errors import ArgumentError, DtypeError

dtype = np.dtype
bool = np.bool_
single, double = float32, float64
csingle, cdouble = complex64, complex128
# Python's types stand for the default dtypes, which depend on the `x64` flag.
int_, float_, complex_ = int, float, complex
uint = uint32
character, flexible, object_ = np.character, np.flexible, np.object_
ComplexWarning = np.exceptions.ComplexWarning
iterable = np.iterable
ndarray = ArrayOperators
"""The common base of arrays and tracers, for `isinstance`."""

newaxis = None
pi = math.pi
e = math.e
euler_gamma = 0.5772156649015329
inf = math.inf
nan = math.nan


def can_cast(from_: Any, to: Any, casting: Any = "safe") -> builtins.bool:
    """Whether values of one dtype can be converted to another (see `numpy.can_cast`).

    Args:
      from_, to: dtypes, or what names them.
      casting: what counts: "no", "equiv", "safe", "same_kind" or "unsafe".

    Raises:
      DtypeError: `from_` or `to` is no dtype; of an array, pass its dtype.
      ArgumentError: there is no such `casting`.
    """
    if not is_option(casting, _CASTING):
        raise ArgumentError(
            f"can_cast: casting must be one of {', '.join(map(repr, _CASTING))}, got "
            f"{shortened(casting)}"
        )
    try:
        return np.can_cast(from_, to, casting)
    except (TypeError, ValueError):
        raise DtypeError(
            f"can_cast: from_ and to must be dtypes, such as 'float32', got {shortened(from_)} and "
            f"{shortened(to)}"
        ) from None


_CASTING: Any = ("no", "equiv", "safe", "same_kind", "unsafe")


def isscalar(element: Any) -> builtins.bool:
    """Whether `element` is a scalar of Python or NumPy, or an array without dimensions.

    See `numpy.isscalar`.
    """
    if isinstance(element, ArrayOperators | np.ndarray):
        return element.ndim == 0
    return builtins.bool(np.isscalar(element)) and not isinstance(element, str | bytes)


def isdtype(dtype: Any, kind: Any) -> builtins.bool:
    """Whether a dtype is one of a kind, by the Array API's names (see `numpy.isdtype`).

    Args:
      dtype: the dtype.
      kind: "bool", "signed integer", "unsigned integer", "integral", "real floating", "complex
        floating", "numeric"; a dtype; or a tuple of these.

    Raises:
      ArgumentError: an unknown kind.
    """
    found = dtypes.as_dtype(dtype)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return any(_is_of_kind(found, entry) for entry in kinds)


_KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": "iufc",
}


def _is_of_kind(dtype: np.dtype[Any], kind: Any) -> builtins.bool:
    if not isinstance(kind, str):
        return dtype == dtypes.as_dtype(kind)
    if kind in _KINDS:
        return dtypes.kind(dtype) in _KINDS[kind]
    try:
        return dtype == dtypes.as_dtype(kind)
    except TypeError:
        names = ", ".join(map(repr, _KINDS))
        raise ArgumentError(
            f"isdtype: kind must be a dtype or one of {names}, got {shortened(kind)}"
        ) from None


def iscomplexobj(x: Any) -> builtins.bool:
    """Whether the dtype is complex (see `numpy.iscomplexobj`).

    Raises:
      LeafTypeError: `x` is no array or scalar.
    """
    return dtypes.is_complex(aval_of(x).dtype)


def isrealobj(x: Any) -> builtins.bool:
    """Whether the dtype is not complex (see `numpy.isrealobj`).

    Raises:
      LeafTypeError: `x` is no array or scalar.
    """
    return not iscomplexobj(x)


__all__ = [
    "ComplexWarning",
    "bfloat16",
    "bool",
    "bool_",
    "can_cast",
    "cdouble",
    "character",
    "complex64",
    "complex128",
    "complex_",
    "complexfloating",
    "csingle",
    "double",
    "dtype",
    "e",
    "euler_gamma",
    "finfo",
    "flexible",
    "float16",
    "float32",
    "float64",
    "float_",
    "floating",
    "generic",
    "iinfo",
    "inexact",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "int_",
    "integer",
    "iscomplexobj",
    "isdtype",
    "isrealobj",
    "isscalar",
    "issubdtype",
    "iterable",
    "nan",
    "ndarray",
    "newaxis",
    "number",
    "object_",
    "pi",
    "promote_types",
    "result_type",
    "signedinteger",
    "single",
    "uint",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "unsignedinteger",
]
