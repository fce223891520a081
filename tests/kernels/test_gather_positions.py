"""Gathers at positions that are made from comparisons: 1 reads element 1, whatever gcc's masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.config import config
from funcdl.runtime.toolchain import find_compiler

POSITIONS: dict[str, Callable[[Any], Any]] = {
    "cast": lambda x: (x > 4).astype(fnp.int32),
    "select": lambda x: fnp.where(x > 4, 0, 1),
    "both": lambda x: ((x > 2) & (x < 6)).astype(fnp.int32),
    "shifted": lambda x: fnp.where(x > 4, 2, 1) - 1,
    "clipped": lambda x: fnp.clip(x - 4, 0, 1),
    "wide": lambda x: (x > 4).astype(fnp.int32) + 3,
}


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.float64, np.uint8])
@pytest.mark.parametrize("size", [2, 9])
def test_element_by_comparison(size: int, dtype: type) -> None:
    table: np.ndarray = np.arange(7, 7 + size).astype(dtype)
    x = np.random.default_rng(0).integers(0, 9, 100).astype(np.int32)
    with config.override(backend="cpu", x64="on"):
        found = fd.jit(lambda t, x: [t[place(x)] for place in POSITIONS.values()])(table, x)
    for (name, place), elements in zip(POSITIONS.items(), found, strict=True):
        wanted = table[np.clip(np.asarray(place(fnp.asarray(x))), 0, size - 1)]
        np.testing.assert_array_equal(np.asarray(elements), wanted, err_msg=name)
