"""Products with few rows or columns: by vectors along k, or as sums, in blocks where k is long."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import funcdl as fd
from funcdl.core import dtypes

DTYPES = ["float16", "bfloat16", "float32", "float64", "int8", "int32"]
# m, k, n: on both sides of where vectors run along k, and of where sums are in blocks.
SHAPES = [(100, 1000, 3), (5, 5000, 1), (1, 5000, 1), (2, 5000, 2), (1, 5000, 7), (7, 9000, 1)]
SHAPES += [(64, 4096, 12), (2, 12000, 10), (3, 4097, 3), (1, 64, 1), (300, 300, 7)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", DTYPES)
def test_every_form_adds_all_terms(name: str, transposed: bool) -> None:
    dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    rng = np.random.default_rng(0)
    inexact = dtypes.is_inexact(dtype)
    wide = np.dtype(np.float64 if inexact else dtype)
    rounding = float(dtypes.finfo(dtype).eps) if inexact else 0.0
    product = fd.jit(lambda a, b: a @ (b.T if transposed else b))
    for m, k, n in SHAPES:
        a = (4 * rng.standard_normal((m, k))).astype(dtype)
        b = (4 * rng.standard_normal((k, n))).astype(dtype)
        found = product(a, np.ascontiguousarray(b.T) if transposed else b)
        wanted = a.astype(wide) @ b.astype(wide)
        # Half precision is summed in float32; what it owes is the rounding of the result.
        error = rounding * (np.abs(a.astype(wide)) @ np.abs(b.astype(wide)))
        difference = np.abs(np.asarray(found).astype(wide) - wanted)
        assert (difference <= error).all(), (m, k, n)
