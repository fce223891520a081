"""A product cut into parts computes what it did in one piece."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.triton_kernels import BF16, dot_prologue, matmul
from tests.kir.kernels import all_example_kernels

from funcdl.compiler.cuda.schedule import dot_parts
from funcdl.kir.check.checker import check
from funcdl.kir.convolution import conv_as_dot
from funcdl.kir.cut.split_dot import find_dot, split_dot
from funcdl.kir.interpreter import interpret
from funcdl.kir.ir import Conv, Dot, Kernel

KERNELS: dict[str, tuple[Kernel, int]] = {
    "plain": (matmul(5, 7, 12), 3),
    "batch": (matmul(5, 7, 12, batch=2, flip="xw"), 4),
    "half": (matmul(5, 7, 12, BF16), 2),
    "row": (matmul(1, 7, 12), 6),
    "single": (matmul(1, 1, 12), 12),
    "prologue": (dot_prologue(6, 5, 40), 5),
}


def arrays(kernel: Kernel) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {b.name: rng.normal(size=b.size).astype(b.dtype) for b in kernel.buffers}


@pytest.mark.parametrize("name", KERNELS)
def test_parts_add_up_to_the_product(name: str) -> None:
    kernel, count = KERNELS[name]
    first, second, parts = split_dot(kernel, count)
    wanted = arrays(kernel)
    found = {name: x.copy() for name, x in wanted.items()}
    found[parts] = np.full(first.buffer(parts).size, np.nan, first.buffer(parts).dtype)
    interpret(kernel, wanted)
    for part in (first, second):
        check(part)
        interpret(part, {b.name: found[b.name] for b in part.buffers})
    for buffer in kernel.buffers:
        tolerance = 2e-2 if buffer.dtype == BF16 else 1e-5
        left, right = (x[buffer.name].astype(np.float64) for x in (found, wanted))
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def test_convolutions_are_cut_as_the_products_that_they_are() -> None:
    cut = 0
    for kernel, make_inputs in all_example_kernels().values():
        if not any(isinstance(i, Conv) for i in kernel.body):
            continue
        product = conv_as_dot(kernel)
        id = find_dot(product)
        assert id is not None
        dot = product.body[id]
        assert isinstance(dot, Dot)
        extent = product.axis(dot.k).extent
        count = next((n for n in range(2, extent + 1) if extent % n == 0), 0)
        if not count:
            continue
        cut += 1
        wanted = make_inputs(np.random.default_rng(0))
        found = {name: x.copy() for name, x in wanted.items()}
        first, second, parts = split_dot(kernel, count)
        found[parts] = np.empty(first.buffer(parts).size, first.buffer(parts).dtype)
        interpret(kernel, wanted)
        for part in (first, second):
            interpret(part, {b.name: found[b.name] for b in part.buffers})
        for name in wanted:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-5)
    assert cut


def test_a_count_that_divides_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="5 does not divide the extent of k"):
        split_dot(matmul(2, 3, 12), 5)


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((64, 64, 16384), 32),
        ((64, 64, 3 * 1024), 6),
        ((512, 512, 8192), 2),  # 64 tiles of 128 programs
        ((1024, 1024, 8192), 1),
        ((192, 192, 401408), 16),  # 14 parts would be 126 programs, 15 are no divisor
        ((64, 64, 1000), 1),
        ((1, 4096, 4096), 2),
        ((64, 64, 4099), 1),  # a prime
        ((64, 0, 4096), 1),
    ],
)
def test_sums_are_cut_where_tiles_are_few(shape: tuple[int, int, int], count: int) -> None:
    assert dot_parts(matmul(*shape)) == count
