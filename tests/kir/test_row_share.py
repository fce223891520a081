"""A kernel on each share of its rows computes what it does on all of them."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.triton_kernels import softmax
from tests.kir.kernels import all_example_kernels
from tests.kir.running_kernels import running_kernels

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.check.checker import check
from funcdl.kir.cut.row_share import divided_buffers, row_axis, share_of_rows
from funcdl.kir.interpreter import interpret
from funcdl.kir.ir import Kernel


def product(rows: int, columns: int, terms: int) -> Kernel:
    """A product plus a bias: rows of the left operand and of the result."""
    builder = KernelBuilder("product")
    for name, extent in (("m", rows), ("n", columns), ("k", terms)):
        builder.axis(name, extent)
    m, n, k = ix.axis("m", rows), ix.axis("n", columns), ix.axis("k", terms)
    for name, size in (("x", rows * terms), ("w", terms * columns), ("b", columns)):
        builder.buffer(name, "float32", size, "in")
    builder.buffer("out", "float32", rows * columns, "out")
    dot = builder.dot(
        builder.load("x", m * terms + k), builder.load("w", k * columns + n), "m", "n", "k"
    )
    result = builder.elementwise("add", dot, builder.load("b", n))
    builder.store("out", m * columns + n, result)
    return builder.build()


def elementwise(stored: str, read: str) -> Kernel:
    """Copies an array of 6 by 4 by index expressions of these names."""
    builder = KernelBuilder("copy")
    builder.axis("i", 6)
    builder.axis("j", 4)
    i, j = ix.axis("i", 6), ix.axis("j", 4)
    places = {
        "rows": i * 4 + j,
        "columns": j * 6 + i,
        "upwards": i * -4 + j + 20,
        "halves": (i // 2) * 8 + (i % 2) * 4 + j,
        "next": i * 4 + j + 1,
        "once": j,
    }
    builder.buffer("x", "float32", 25, "in")
    builder.buffer("y", "float32", 24, "out")
    builder.store("y", places[stored], builder.load("x", places[read]))
    return builder.build()


KERNELS: dict[str, Kernel] = {
    **{name: kernel for name, (kernel, _) in all_example_kernels().items()},
    **running_kernels(),
    "softmax of rows": softmax(6, 21),
    "product": product(12, 5, 7),
}
SHARED = [
    (name, axis, count)
    for name, kernel in KERNELS.items()
    if (axis := row_axis(kernel)) is not None
    for count in (2, 3, 4)
    if kernel.axis(axis).extent % count == 0
]


@pytest.mark.parametrize(("name", "axis", "count"), SHARED)
def test_shares_are_parts_of_the_whole(name: str, axis: str, count: int) -> None:
    kernel = KERNELS[name]
    rng = np.random.default_rng(len(name))
    arrays = {b.name: rng.integers(0, 9, b.size).astype(b.dtype) for b in kernel.buffers}
    whole = {name: array.copy() for name, array in arrays.items()}
    interpret(kernel, whole)
    share = share_of_rows(kernel, axis, count)
    check(share)
    divided = divided_buffers(kernel, kernel.axis(axis))
    assert divided is not None
    for part in range(count):
        mine = {}
        for buffer in share.buffers:
            start = part * buffer.size if buffer.name in divided else 0
            mine[buffer.name] = arrays[buffer.name][start : start + buffer.size]
        interpret(share, mine)
    for written in kernel.buffers:
        if written.role != "in":
            np.testing.assert_allclose(arrays[written.name], whole[written.name], rtol=1e-6)


def test_many_kernels_have_rows() -> None:
    assert len({name for name, _, _ in SHARED}) >= 8
    assert row_axis(KERNELS["product"]) == "m"
    assert row_axis(KERNELS["softmax of rows"]) == "i"


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("rows", "columns"),  # a transpose
        ("rows", "next"),  # of the next row
        ("rows", "upwards"),
        ("rows", "halves"),
        ("columns", "rows"),
        ("upwards", "rows"),
    ],
)
def test_rows_that_meet(stored: str, read: str) -> None:
    kernel = elementwise(stored, read)
    assert row_axis(kernel) != "i"


def test_what_every_row_reads_is_not_divided() -> None:
    kernel = elementwise("rows", "once")
    assert divided_buffers(kernel, kernel.axis("i")) == frozenset({"y"})


def test_the_wrong_count_is_refused() -> None:
    with pytest.raises(ValueError, match="equal shares"):
        share_of_rows(KERNELS["product"], "m", 5)
