"""Element types: names, the 64-bit policy, and kinds. Semantics follow JAX (``jax.dtypes``).

``config.x64`` decides about 64 bits:

- ``"on"``: 64-bit defaults, as JAX with ``jax_enable_x64``.
- ``"explicit"``: 32-bit defaults, but a 64-bit dtype that a user asked for is kept, as JAX with
  ``jax_explicit_x64_dtypes="allow"``. No promotion makes 64 bits out of 32.
- ``"off"``: as ``"explicit"``, and 64-bit dtypes are cut to 32 bits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np

from funcdl.config import config
from funcdl.errors import DtypeError, IntegerRangeError

DType = np.dtype[Any]

bool_ = np.bool_
int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
float16, float32, float64 = np.float16, np.float32, np.float64
bfloat16 = ml_dtypes.bfloat16
complex64, complex128 = np.complex64, np.complex128

generic, number, inexact = np.generic, np.number, np.inexact
integer, signedinteger, unsignedinteger = np.integer, np.signedinteger, np.unsignedinteger
floating, complexfloating = np.floating, np.complexfloating
_ABSTRACT = {generic, number, inexact, integer, signedinteger, unsignedinteger, floating}
_ABSTRACT |= {complexfloating, np.character, np.flexible}

float0: DType = np.dtype([("float0", np.void, 0)])
"""The dtype of a tangent of an integer or bool: it holds no data, as in JAX."""

_SHORT_NAMES: dict[DType, str] = {
    np.dtype(scalar): name
    for scalar, name in [
        (bool_, "bool"),
        (int8, "i8"),
        (int16, "i16"),
        (int32, "i32"),
        (int64, "i64"),
        (uint8, "u8"),
        (uint16, "u16"),
        (uint32, "u32"),
        (uint64, "u64"),
        (float16, "f16"),
        (bfloat16, "bf16"),
        (float32, "f32"),
        (float64, "f64"),
        (complex64, "c64"),
        (complex128, "c128"),
    ]
}
SUPPORTED: tuple[DType, ...] = tuple(_SHORT_NAMES)
HALF = frozenset({np.dtype(float16), np.dtype(bfloat16)})
"""Dtypes that are stored, and computed with in float32."""
_SHORT_NAMES[float0] = "float0"
_FROM_SHORT_NAME = {name: dtype for dtype, name in _SHORT_NAMES.items()}
# Equal dtypes can be different objects (long and long long): the values are the ones to keep.
_NATIVE = {dtype: dtype for dtype in SUPPORTED}

PYTHON_KINDS: dict[Any, str] = {bool: "b", int: "i", float: "f", complex: "c"}
_PYTHON_NAMES = {scalar.__name__: kind for scalar, kind in PYTHON_KINDS.items()}
# NumPy files bfloat16 under void. Scalar classes are keys as well, so that asking about one
# answers rather than silently missing.
_KINDS: dict[Any, str] = {
    key: "f" if dtype == bfloat16 else dtype.kind
    for dtype in SUPPORTED
    for key in (dtype, dtype.type)
}

_BITS_32 = {"b": bool_, "i": int32, "u": uint32, "f": float32, "c": complex64}
_BITS_64 = {"b": bool_, "i": int64, "u": uint64, "f": float64, "c": complex128}
_DEFAULTS: dict[str, dict[str, DType]] = {
    mode: {kind: np.dtype(scalar) for kind, scalar in table.items()}
    for mode, table in [("explicit", _BITS_32), ("off", _BITS_32), ("on", _BITS_64)]
}
_REAL_PARTS: dict[DType, DType] = {
    np.dtype(complex64): np.dtype(float32),
    np.dtype(complex128): np.dtype(float64),
}
_TO_32_BITS: dict[DType, DType] = {
    np.dtype(_BITS_64[kind]): np.dtype(_BITS_32[kind]) for kind in "iufc"
}


def short_name(dtype: DType) -> str:
    """Return the name that jaxprs print: ``f32``, ``bf16``, ``bool``, ``float0``, ...

    Raises:
        KeyError: the dtype is neither supported nor float0.
    """
    return _SHORT_NAMES[dtype]


def from_short_name(name: str) -> DType:
    """Return the dtype of a short name; the inverse of ``short_name``.

    Raises:
        ValueError: the name is not one of the short names.
    """
    if name in _FROM_SHORT_NAME:
        return _FROM_SHORT_NAME[name]
    names = ", ".join(_FROM_SHORT_NAME)
    raise ValueError(f"unknown short dtype name {name!r}; use one of: {names}")


def as_dtype(x: Any) -> DType:
    """Return the dtype that a user's ``dtype=`` argument means, not yet cut to 32 bits.

    Args:
        x: a dtype, a scalar class, a NumPy name or ``"bfloat16"``, or one of Python's ``bool``,
            ``int``, ``float``, ``complex`` (or its name), which stand for the default dtype.

    Raises:
        DtypeError: anything else, and dtypes that are not supported.
    """
    try:
        return _NATIVE[x]
    except (KeyError, TypeError):
        pass
    kind = _python_kind(x)
    if kind is not None:
        return default_dtype(kind)
    found = _numpy_dtype(x)
    if found in _NATIVE:
        return _NATIVE[found]
    if found is not None and found.newbyteorder("=") in _NATIVE:
        raise DtypeError(
            f"dtype {found.str!r} is not in this machine's byte order; convert the array with "
            f"x.astype({found.newbyteorder('=').name!r})"
        )
    supported = ", ".join(dtype.name for dtype in SUPPORTED)
    raise DtypeError(f"dtype {_show(x)} is not supported; use one of: {supported}")


def _python_kind(x: Any) -> str | None:
    if isinstance(x, type):
        return PYTHON_KINDS.get(x)
    return _PYTHON_NAMES.get(x) if isinstance(x, str) else None


def _numpy_dtype(x: Any) -> DType | None:
    # NumPy takes much more for a dtype: None and np.floating are float64 to it.
    concrete = isinstance(x, type) and issubclass(x, np.generic) and x not in _ABSTRACT
    if not concrete and not isinstance(x, (np.dtype, str)):
        return None
    try:
        found: DType = np.dtype(x)
    except (TypeError, ValueError):
        return None
    return found


def _show(x: Any) -> str:
    if isinstance(x, np.dtype):
        return repr(x.name)
    if isinstance(x, type):
        return x.__name__
    if hasattr(x, "dtype") and hasattr(x, "shape"):
        return f"given as an array of {x.dtype}"
    return repr(x)


def canonicalize(dtype: DType) -> DType:
    """Cut a 64-bit dtype to 32 bits where ``config.x64`` is ``"off"``; else return it as it is."""
    return _TO_32_BITS.get(dtype, dtype) if config.x64 == "off" else dtype


def default_dtype(kind: str) -> DType:
    """Return the default dtype of a kind, one of ``"b"``, ``"i"``, ``"u"``, ``"f"``, ``"c"``."""
    return _DEFAULTS[config.x64][kind]


def scalar_dtype(x: Any) -> DType:
    """Return the default dtype of a Python bool, int, float or complex, value or type.

    Raises:
        TypeError: ``x`` is none of these.
    """
    kind = scalar_kind(x if isinstance(x, type) else type(x))
    if kind is None:
        raise TypeError(f"expected a Python bool, int, float or complex, got {x!r}")
    return default_dtype(kind)


def scalar_kind(cls: type) -> str | None:
    """Return the kind of a Python scalar's class, None for other classes."""
    # Subclasses count, such as IntEnum; bool comes first, being a subclass of int.
    if cls in PYTHON_KINDS:
        return PYTHON_KINDS[cls]
    if issubclass(cls, np.generic):
        return None
    return next((kind for base, kind in PYTHON_KINDS.items() if issubclass(cls, base)), None)


def kind(dtype: Any) -> str:
    """Return ``"b"``, ``"i"``, ``"u"``, ``"f"`` (bfloat16 too) or ``"c"``; ``""`` for others."""
    return _KINDS.get(dtype, "")


def is_bool(dtype: Any) -> bool:
    """Whether ``dtype`` is bool."""
    return _KINDS.get(dtype) == "b"


def is_signed(dtype: Any) -> bool:
    """Whether ``dtype`` is a signed integer."""
    return _KINDS.get(dtype) == "i"


def is_unsigned(dtype: Any) -> bool:
    """Whether ``dtype`` is an unsigned integer."""
    return _KINDS.get(dtype) == "u"


def is_integer(dtype: Any) -> bool:
    """Whether ``dtype`` is an integer; bool is not."""
    return _KINDS.get(dtype) in ("i", "u")


def is_float(dtype: Any) -> bool:
    """Whether ``dtype`` is a real floating type, bfloat16 included."""
    return _KINDS.get(dtype) == "f"


def is_complex(dtype: Any) -> bool:
    """Whether ``dtype`` is complex."""
    return _KINDS.get(dtype) == "c"


def is_inexact(dtype: Any) -> bool:
    """Whether ``dtype`` is floating or complex: the dtypes that have tangents."""
    return _KINDS.get(dtype) in ("f", "c")


@lru_cache(maxsize=512)
def index_dtype(size: int) -> DType:
    """The dtype of positions among so many elements."""
    return np.dtype(int32 if size < 2**31 else int64)


def _scalar_type(x: Any) -> Any:
    try:
        return np.dtype(x).type
    except (TypeError, ValueError):
        raise DtypeError(f"issubdtype: there is no dtype {x!r}") from None


def issubdtype(a: Any, b: Any) -> bool:
    """``numpy.issubdtype`` where bfloat16 counts as floating, as ``jax.numpy.issubdtype``.

    `a` and `b` are dtypes, or types of NumPy's scalars.

    Raises:
      DtypeError: one is neither.
    """
    scalar, wanted = (
        x if isinstance(x, type) and issubclass(x, np.generic) else _scalar_type(x) for x in (a, b)
    )
    if scalar is not bfloat16:
        return issubclass(scalar, wanted)
    return wanted in (bfloat16, floating, inexact, number, generic)


def finfo(dtype: Any) -> Any:
    """``numpy.finfo`` that knows bfloat16 as well; `DtypeError` if ``dtype`` is not inexact."""
    dtype = as_dtype(dtype)
    if not is_inexact(dtype):
        raise DtypeError(f"finfo: dtype must be floating or complex, got {dtype.name}; see iinfo")
    if dtype == bfloat16:
        untyped: Any = ml_dtypes.finfo
        return untyped(dtype)
    return np.finfo(dtype)


def iinfo(dtype: Any) -> Any:
    """``numpy.iinfo``; `DtypeError` if ``dtype`` is not an integer."""
    dtype = as_dtype(dtype)
    if not is_integer(dtype):
        raise DtypeError(f"iinfo: dtype must be an integer type, got {dtype.name}; see finfo")
    return np.iinfo(dtype)


def real_dtype(dtype: DType) -> DType:
    """Return the dtype of the real part; real dtypes come back unchanged."""
    return _REAL_PARTS.get(dtype, dtype)


def complex_dtype(dtype: DType) -> DType:
    """Return the smallest complex dtype that holds ``dtype``, after ``to_inexact``."""
    wide = real_dtype(to_inexact(dtype)) == float64
    return canonicalize(np.dtype(complex128 if wide else complex64))


def to_inexact(dtype: DType) -> DType:
    """Return the dtype in which ``sin`` of ``dtype`` is computed: itself if inexact.

    As in ``jax.numpy``, 64-bit integers go to float64, all others and bool to float32.
    """
    if not is_inexact(dtype):
        dtype = np.dtype(float64 if dtype.itemsize == 8 else float32)
    return canonicalize(dtype)


def check_python_int(value: int, dtype: DType) -> None:
    """Check that a Python int can become a scalar of ``dtype`` without wrapping around.

    Raises:
        IntegerRangeError: it is outside the range of an integer dtype, or of Python's float where
            ``dtype`` is inexact.
    """
    if is_integer(dtype):
        info = np.iinfo(dtype)
        if not info.min <= value <= info.max:
            raise IntegerRangeError(
                f"Python int {value} does not fit in {dtype.name}, which holds {info.min} to "
                f"{info.max}; use a wider dtype or a float"
            )
    elif is_inexact(dtype):
        try:
            float(value)
        except OverflowError:
            raise IntegerRangeError(
                f"a Python int of {value.bit_length()} bits does not fit in {dtype.name}; pass a "
                "float, which may be infinite"
            ) from None
