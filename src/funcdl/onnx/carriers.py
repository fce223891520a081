"""In which dtypes ONNX operators work.

The standard has most operators for most dtypes; runtimes have fewer. onnxruntime, on CPUs, knows
few operators of bfloat16, none on booleans that are no logic, and many for the common integers
only. So a rule says for which dtypes its operator can be had, and other values travel in a
*carrier*: the first dtype of a list that holds all of their values. A float64 has none; where the
runtime lacks the operator the model is still right, and runs on another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.core import dtypes

Kinds = frozenset[str]

INTEGERS: Kinds = frozenset({"i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"})
FLOATS: Kinds = frozenset({"f16", "f32", "f64"})
ANY: Kinds = INTEGERS | FLOATS
COMMON: Kinds = FLOATS | {"i32", "i64"}
"""Sums and products of many elements."""
ORDERED: Kinds = COMMON | {"i8", "u8"}
"""Extremes along axes."""
PAIRED: Kinds = ANY - {"i16", "u16"}
"""Extremes of two arrays, see `Graph.extreme`."""
MOVED: Kinds = FLOATS | {"bool", "i8", "i32", "i64", "u8", "u32", "u64"}
"""What is copied, not computed with."""
SELECTED: Kinds = MOVED - {"bool", "u64"}
"""What a condition chooses from."""

_CARRIERS = {
    "bool": ("u8", "i32"),
    "i8": ("i32", "i64"),
    "i16": ("i32", "i64"),
    "u8": ("i32", "i64"),
    "u16": ("i32", "i64"),
    "i32": ("i64",),
    "u32": ("i64",),
    # By bits; where order counts, with the highest one turned over.
    "u64": ("i64",),
    "bf16": ("f32",),
    "f16": ("f32",),
}


def carrier(dtype: np.dtype[Any], kinds: Kinds) -> np.dtype[Any]:
    """The dtype itself, or the narrowest of `kinds` that can stand for it."""
    name = dtypes.short_name(dtype)
    if name in kinds:
        return dtype
    for wide in _CARRIERS.get(name, ()):
        if wide in kinds:
            return dtypes.from_short_name(wide)
    return dtype


def flips_sign(dtype: np.dtype[Any], kinds: Kinds, exact: bool) -> bool:
    """Whether a carrier keeps the order only of values whose highest bit is turned over."""
    return exact and dtype == np.uint64 and "u64" not in kinds and "i64" in kinds
