"""Products of integers run on the same micro-kernels as those of floats, and wrap around."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
from funcdl import lax

DTYPES = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
NUMBERS = (((1,), (0,)), ((), ()))
SHAPES = [(3, 300, 40), (65, 33, 7), (40, 5, 100), (9, 70, 20)]


def integers(rng: np.random.Generator, dtype: Any, *shape: int) -> Any:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_wrap_around(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    for m, k, n in SHAPES:
        for transposed in (False, True):
            a, b = integers(rng, dtype, m, k), integers(rng, dtype, k, n)
            right = b.T.copy().T if transposed else b
            product = fd.jit(lambda a, b: lax.dot_general(a, b, NUMBERS) + 1)
            out = np.asarray(product(a, right))
            assert out.dtype == dtype
            expected = (a.astype(object) @ b.astype(object) + 1) % 2 ** (8 * out.itemsize)
            np.testing.assert_array_equal(out.astype(object) % 2 ** (8 * out.itemsize), expected)


@pytest.mark.parametrize(("dtype", "wide"), [(np.int8, np.int32), (np.uint8, np.uint32)])
def test_bytes_are_added_up_in_wider_numbers(dtype: Any, wide: Any) -> None:
    rng = np.random.default_rng(1)
    a, b = integers(rng, dtype, 70, 400), integers(rng, dtype, 400, 50)

    @fd.jit
    def product(a: Any, b: Any) -> Any:
        return lax.dot_general(a, b, NUMBERS, preferred_element_type=wide)

    assert "fd_gemm_" in product.lower(a, b).as_text("c")
    expected = a.astype(np.int64) @ b.astype(np.int64)
    np.testing.assert_array_equal(np.asarray(product(a, b)), expected.astype(wide))
