"""Meanings of the elementwise operations that the example kernels use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import funcdl.ops  # noqa: F401  (its rows fill the table)
from funcdl.kir import elementwise
from funcdl.kir.elementwise import ElementwiseOp

_MEANINGS: dict[str, Callable[..., Any]] = {
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


@pytest.fixture(scope="module", autouse=True)
def meanings() -> Iterator[None]:
    """Rows for the operations that no imported module of funcdl.ops defines."""
    with pytest.MonkeyPatch.context() as patch:
        for name, meaning in _MEANINGS.items():
            if name not in elementwise.names():
                row = ElementwiseOp(name, getattr(meaning, "nin", 1), meaning, None, None)
                patch.setitem(elementwise._table, name, row)
        yield
