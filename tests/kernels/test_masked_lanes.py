"""Loads that interleave under one mask: each element lands in its own lane."""

from __future__ import annotations

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.config import config
from funcdl.runtime.toolchain import find_compiler


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("columns", [2, 3, 4])
def test_padded_columns_beside_each_other(dtype: type, columns: int) -> None:
    x = np.arange(1, 9 * columns + 1).reshape(9, columns).astype(dtype)

    @fd.jit
    def padded(x: fd.Array) -> fd.Array:
        return fnp.stack([fnp.pad(x[:, j], (1, 2)) for j in range(columns)], axis=1)

    with config.override(backend="cpu", x64="on"):
        found = np.asarray(padded(fnp.asarray(x)))
        text = padded.lower(fnp.asarray(x)).as_text("c")
    np.testing.assert_array_equal(found, np.pad(x, ((1, 2), (0, 0))))
    assert "x_lane1" in text
