"""What reductions and running results begin with changes no value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from funcdl.kir.identity import identity

COMBINE: dict[str, Callable[..., Any]] = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "logsumexp": np.logaddexp,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
}
BOOL, INTEGERS = ["?"], ["i1", "u1", "i4", "u4", "i8", "u8"]
FLOATS: list[Any] = ["f2", ml_dtypes.bfloat16, "f4", "f8"]
DTYPES = {
    **dict.fromkeys(("max", "min"), BOOL + INTEGERS + FLOATS),
    **dict.fromkeys(("sum", "prod"), INTEGERS + FLOATS),
    **dict.fromkeys(("and", "or"), BOOL + INTEGERS),
    "logsumexp": FLOATS,
}


def values(dtype: np.dtype) -> Any:
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array([info.min, 0, 1, info.max], dtype)
    return np.array([-np.inf, -2.5, 0, 1, np.inf], dtype)


@pytest.mark.parametrize(
    ("op", "dtype"), [(op, np.dtype(d)) for op, dtypes in DTYPES.items() for d in dtypes]
)
def test_it_changes_nothing(op: str, dtype: np.dtype) -> None:
    x = values(dtype)
    found = COMBINE[op](np.asarray(identity(op, dtype), dtype), x)
    np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize("dtype", ["?", "i1", "u4", "f4"])
def test_positions_begin_with_what_loses_to_all(dtype: str) -> None:
    for op, other in (("argmax", "max"), ("argmin", "min")):
        assert identity(op, np.dtype(dtype)) == identity(other, np.dtype(dtype))
