"""Spellings of Triton's language: types, literals, index expressions, combining functions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from funcdl.kernels.index_text import sum_text
from funcdl.kir.index import Atom, AxisAtom, DivAtom, Index, ModAtom, ValueAtom
from funcdl.kir.ir import Scalar

# Element type: its name in `tl`, and in a signature. A bool lies in memory as one byte.
_TYPES: dict[str, tuple[str, str]] = {
    "bool": ("int1", "u8"),
    "int8": ("int8", "i8"),
    "int16": ("int16", "i16"),
    "int32": ("int32", "i32"),
    "int64": ("int64", "i64"),
    "uint8": ("uint8", "u8"),
    "uint16": ("uint16", "u16"),
    "uint32": ("uint32", "u32"),
    "uint64": ("uint64", "u64"),
    "float16": ("float16", "fp16"),
    "bfloat16": ("bfloat16", "bf16"),
    "float32": ("float32", "fp32"),
    "float64": ("float64", "fp64"),
}

# Combining functions that Triton's standard library lacks or has with another meaning of NaN.
COMBINE: dict[str, str] = {
    "combine_prod": "def combine_prod(a, b):\n    return a * b\n",
    "combine_and": "def combine_and(a, b):\n    return a & b\n",
    "combine_or": "def combine_or(a, b):\n    return a | b\n",
    "combine_max": (
        "def combine_max(a, b):\n    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)\n"
    ),
    "combine_min": (
        "def combine_min(a, b):\n    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)\n"
    ),
    **{
        f"combine_{op}": (
            f"def combine_{op}(a, at, b, bt):\n"
            f"    # A NaN beats every number; of equals, the one that comes first wins.\n"
            f"    equal = (a == b) | ((a != a) & (b != b))\n"
            f"    first = (a {sign} b) | ((a != a) & (b == b)) | (equal & (at < bt))\n"
            f"    return tl.where(first, a, b), tl.where(first, at, bt)\n"
        )
        for op, sign in (("argmax", ">"), ("argmin", "<"))
    },
}


def supported(dtype: np.dtype) -> bool:
    """Whether Triton has this element type (complex numbers it has not)."""
    return dtype.name in _TYPES


def type_name(dtype: np.dtype) -> str:
    """``tl.float32`` and the like."""
    return f"tl.{_TYPES[dtype.name][0]}"


def pointer_type(dtype: np.dtype) -> str:
    """A buffer's type in a signature: ``*fp32``."""
    return f"*{_TYPES[dtype.name][1]}"


def literal(value: Scalar, dtype: np.dtype) -> str:
    """`value` as Python text that has exactly its value in `dtype`."""
    if dtype == np.bool_:
        return repr(bool(value))
    if np.issubdtype(dtype, np.integer):
        return repr(int(value))
    number = float(value)
    return repr(number) if math.isfinite(number) else f'float("{number}")'


def saturating_cast(dtype: np.dtype) -> tuple[str, str]:
    """Name and text of a function from floats to integers: keeps to the range, NaN becomes 0."""
    info = np.iinfo(dtype)
    name = f"saturate_{dtype.name}"
    return name, (
        f"def {name}(x):\n"
        f"    inside = tl.where(x == x, x, 0.0).to({type_name(dtype)})\n"
        f"    low = tl.where(x <= {float(info.min)}, {info.min}, inside)\n"
        f"    return tl.where(x >= {float(info.max)}, {info.max}, low)\n"
    )


def index_text(index: Index, axis: Callable[[str], str], value: Callable[[int], str]) -> str:
    """An index expression, given the text of an axis's position and of a computed value."""
    return sum_text(index, lambda atom: _atom_text(atom, axis, value))


def _atom_text(atom: Atom, axis: Callable[[str], str], value: Callable[[int], str]) -> str:
    match atom:
        case AxisAtom(name):
            return axis(name)
        case ValueAtom(id):
            return value(id)
        case DivAtom(index, divisor) | ModAtom(index, divisor):
            inner = f"({index_text(index, axis, value)})"
            rest = f"{inner} % {divisor}"
            if index.range()[0] < 0:  # Triton truncates towards zero, an index rounds down
                rest = f"({rest} + {divisor}) % {divisor}"
                inner = f"({inner} - {rest})"
            return f"({rest})" if isinstance(atom, ModAtom) else f"({inner} // {divisor})"
