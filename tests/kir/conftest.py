"""Meanings of the elementwise operations that the example kernels use."""

from __future__ import annotations

import numpy as np

import funcdl.ops  # noqa: F401  (its rows fill the table)
from funcdl.kir.elementwise import ElementwiseOp, define, names

_MEANINGS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "not": np.bitwise_not,
    "neg": np.negative,
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "round_even": np.round,
    "is_finite": np.isfinite,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "shift_right_logical": np.right_shift,
}

for _name, _meaning in _MEANINGS.items():
    if _name not in names():
        define(ElementwiseOp(_name, getattr(_meaning, "nin", 1), _meaning, None, None))
