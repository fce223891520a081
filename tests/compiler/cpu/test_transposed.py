"""Transpositions through tiles: every size of element, odd shapes, and what is fused to them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.runtime.toolchain import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

RNG = np.random.default_rng(0)
DTYPES = ("bool", "int8", "uint16", "float16", "bfloat16", "int32", "float32", "int64", "float64")
COMPLEX = ("complex64", "complex128")


@pytest.fixture(autouse=True)
def in_64_bits() -> Any:
    with fd.config.override(x64="on"):
        yield


def array(dtype: str, *shape: int) -> Any:
    values = RNG.integers(-100, 100, shape)
    if dtype in COMPLEX:
        return (values + 1j * RNG.integers(-100, 100, shape)).astype(dtype)
    return values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def check(f: Any, *args: Any, turned: bool = True) -> None:
    """`f`, on NumPy's arrays and on ours, agrees to the bit, and takes the tiles if it should."""
    assert ("fd_turn_" in fd.jit(f).lower(*args).as_text("c")) == turned
    found, wanted = np.asarray(fd.jit(f)(*args)), np.asarray(f(*args))
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("shape", [(16, 16), (17, 129), (130, 31), (256, 48), (67, 515)])
@pytest.mark.parametrize("dtype", [*DTYPES, *COMPLEX])
def test_every_dtype(dtype: str, shape: tuple[int, int]) -> None:
    check(lambda x: x.T, array(dtype, *shape))


@pytest.mark.parametrize("permutation", [(0, 2, 1), (2, 0, 1), (2, 1, 0), (1, 2, 0)])
def test_permutations(permutation: tuple[int, ...]) -> None:
    check(lambda x: x.transpose(permutation), array("float32", 18, 33, 40))


def test_small_and_empty_matrices_need_no_tiles() -> None:
    check(lambda x: x.T, array("float32", 15, 400), turned=False)
    check(lambda x: x.T, array("float32", 0, 400), turned=False)


def test_what_is_fused() -> None:
    x, y, z = array("float32", 37, 150), array("float32", 150, 37), array("int8", 37, 150)
    check(lambda x, y, z: (x.T * 2 + y) * z.T, x, y, z)
    check(lambda x, y: x.T[::-1, ::2] + y[:, :19], x, y, turned=False)
    check(lambda x, y: x[::-1].T + y, x, y)
    check(lambda x, y: x[:, ::-1].T - y, x, y, turned=False)


def test_parts_of_complex_numbers_are_moved_together() -> None:
    z, w = array("complex64", 40, 130), array("complex64", 130, 40)
    check(lambda z, w: z.T.real * w.imag + z.T.imag, z, w)
    text = fd.jit(lambda z, w: z.T.real * w.imag + z.T.imag).lower(z, w).as_text("c")
    assert text.count("fd_turn_8(") == 1
    # Of a part alone, neighbours are not its own.
    check(lambda z: z.T.imag, z, turned=False)
    check(lambda x: x[::2, ::2].T, array("float32", 61, 301), turned=False)


def test_a_batch_and_a_gradient() -> None:
    x, w = array("float64", 5, 20, 21), array("float64", 21, 20)
    check(lambda x: fnp.transpose(x, (0, 2, 1)), x)
    loss = lambda x, w: fnp.sum(fnp.transpose(x, (0, 2, 1)) * w)  # noqa: E731
    found = fd.jit(fd.grad(loss))(x, w)
    np.testing.assert_array_equal(found, np.broadcast_to(w.T, x.shape))
    found = fd.jit(fd.vmap(fd.grad(loss), (0, None)))(x[:, None], w)
    np.testing.assert_array_equal(found[:, 0], np.broadcast_to(w.T, x.shape))


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_share_the_tiles(threads: int) -> None:
    x = array("float32", 700, 900)
    with fd.config.override(num_threads=threads):
        check(lambda x: x.T + 1, x)
