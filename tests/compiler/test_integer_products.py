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


def test_products_of_bytes_with_a_scale_of_their_own() -> None:
    """Quantised layers keep the sums, and scale them: rows of both are fetched ahead."""
    rng = np.random.default_rng(4)
    a, b = integers(rng, np.int8, 128, 256), integers(rng, np.int8, 256, 128)
    scale = rng.uniform(size=128).astype(np.float32)

    @fd.jit
    def layer(a: Any, b: Any, scale: Any) -> Any:
        sums = lax.dot_general(a, b, NUMBERS, preferred_element_type=np.int32)
        return sums, sums.astype(np.float32) * scale

    assert "fd_gemm_ahead_i32" in layer.lower(a, b, scale).as_text("c")
    expected = a.astype(np.int32) @ b.astype(np.int32)
    sums, scaled = layer(a, b, scale)
    np.testing.assert_array_equal(np.asarray(sums), expected)
    np.testing.assert_array_equal(np.asarray(scaled), expected.astype(np.float32) * scale)


# Shapes of images and kernels, and groups: every form of convolutions in C.
CONVOLUTIONS = {
    "plain": ((2, 9, 8, 5), (3, 3, 5, 20), 1),
    "few features": ((2, 9, 8, 32), (3, 3, 32, 3), 1),
    "depthwise": ((2, 9, 7, 18), (3, 2, 1, 18), 18),
    "groups": ((2, 9, 8, 6), (3, 3, 3, 8), 2),
}


def gradients(x: Any, k: Any, ct: Any, groups: int) -> tuple[Any, ...]:
    """What a convolution and its gradients compute; that they are gradients, only floats know."""
    numbers = ("NHWC", "HWIO", "NHWC")
    options = {"dimension_numbers": numbers, "feature_group_count": groups}
    whole = {"dimension_numbers": ("CHWN", "IHWO", "HWNC"), "batch_group_count": groups}
    return (
        lax.conv_general_dilated(x, k, (1, 2), "SAME", **options),
        lax.conv_general_dilated(x, ct, (1, 1), ((1, 1), (1, 1)), **whole),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_convolutions_wrap_around(dtype: Any) -> None:
    rng = np.random.default_rng(2)
    args = {
        name: tuple(integers(rng, dtype, *shape) for shape in (lhs, rhs, (*lhs[:3], rhs[3])))
        for name, (lhs, rhs, _) in CONVOLUTIONS.items()
    }
    program = fd.jit(
        lambda args: {name: gradients(*args[name], CONVOLUTIONS[name][2]) for name in CONVOLUTIONS}
    )
    text = program.lower(args).as_text("c")
    assert text.count("/* kernel ") == 2 * len(args) and '#include "fd_conv_int.h"' in text
    results = program(args)
    for name, (_, _, groups) in CONVOLUTIONS.items():
        for found, expected in zip(results[name], gradients(*args[name], groups), strict=True):
            assert found.dtype == dtype
            np.testing.assert_array_equal(np.asarray(found), np.asarray(expected), name)


def test_convolutions_of_bytes_are_added_up_in_wider_numbers() -> None:
    rng = np.random.default_rng(3)
    x, k = integers(rng, np.int8, 2, 6, 6, 200), integers(rng, np.int8, 3, 3, 200, 17)
    numbers = ("NHWC", "HWIO", "NHWC")

    @fd.jit
    def convolution(x: Any, k: Any) -> Any:
        return lax.conv_general_dilated(
            x, k, (1, 1), "VALID", dimension_numbers=numbers, preferred_element_type=np.int32
        )

    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.int64), (3, 3), (1, 2))
    expected = np.einsum("nijckl,klco->nijo", windows, k)
    np.testing.assert_array_equal(np.asarray(convolution(x, k)), expected)
