"""Costs of kernels: counts by hand, and bytes against the elements that indices really reach."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kir.convolution_kernels import forward, kernel
from tests.kir.kernels import all_example_kernels

import funcdl  # noqa: F401  # registers the elementwise operations
from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.cost import Cost
from funcdl.kir.ir import AtomicUpdate, Kernel, Load, Slide, Store
from funcdl.kir.kernel_cost import is_transcendental, kernel_cost
from funcdl.kir.schedule import Schedule, Step

F32, F64, I32 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int32)


def gelu_like(b: KernelBuilder) -> None:
    """12 elements: y = tanh(x) * x + x, three operations, of which one is transcendental."""
    i = b.axis("i", 12)
    b.buffer("x", F32, 12, "in")
    b.buffer("y", F32, 12, "out")
    x = b.load("x", i)
    b.store("y", i, b.elementwise("add", b.elementwise("mul", b.elementwise("tanh", x), x), x))


def row_sums(b: KernelBuilder) -> None:
    """5 rows of 7: the squares' sums, 35 products and 6 additions a row, in float64."""
    i, j = b.axis("i", 5), b.axis("j", 7)
    b.buffer("x", F64, 35, "in")
    b.buffer("y", F64, 5, "out")
    x = b.load("x", i * 7 + j)
    b.store("y", i, b.reduce("sum", b.elementwise("mul", x, x), ["j"], F64))


def biased_product(b: KernelBuilder) -> None:
    """3 × 4 times 4 × 5, and a bias of 5: 2 · 3 · 5 · 4 and 15 additions."""
    m, n, k = b.axis("m", 3), b.axis("n", 5), b.axis("k", 4)
    b.buffer("x", F32, 12, "in")
    b.buffer("w", F32, 20, "in")
    b.buffer("b", F32, 5, "in")
    b.buffer("y", F32, 15, "out")
    product = b.dot(b.load("x", m * 4 + k), b.load("w", k * 5 + n), "m", "n", "k")
    b.store("y", m * 5 + n, b.elementwise("add", product, b.load("b", n)))


def stencil(b: KernelBuilder) -> None:
    """10 sums of 3 neighbours among 12 elements, each of which counts once."""
    i = b.axis("i", 10)
    b.buffer("x", F32, 12, "in")
    b.buffer("y", F32, 10, "out")
    left, right = b.elementwise("add", b.load("x", i), b.load("x", i + 1)), b.load("x", i + 2)
    b.store("y", i, b.elementwise("add", left, right))


def every_third(b: KernelBuilder) -> None:
    """4 of 12 elements."""
    i = b.axis("i", 4)
    b.buffer("x", F32, 12, "in")
    b.buffer("y", F32, 4, "out")
    b.store("y", i, b.load("x", i * 3))


def gather(b: KernelBuilder) -> None:
    """3 rows of 2 from a table of 100 rows, at most; and the 3 numbers of the rows."""
    i, j = b.axis("i", 3), b.axis("j", 2)
    b.buffer("table", F32, 200, "in")
    b.buffer("rows", I32, 3, "in")
    b.buffer("y", F32, 6, "out")
    row = b.load("rows", i)
    b.store("y", i * 2 + j, b.load("table", ix.value(row, 0, 99) * 2 + j))


def histogram(b: KernelBuilder) -> None:
    """50 additions to 8 bins: each bin is read and written."""
    i = b.axis("i", 50)
    b.buffer("at", I32, 50, "in")
    b.buffer("bins", F32, 8, "inout")
    b.atomic_update("add", "bins", ix.value(b.load("at", i), 0, 7), b.const(1.0, F32))


HAND_COUNTS: list[tuple[Callable[[KernelBuilder], None], Cost]] = [
    (gelu_like, Cost(24, 12, 24 + 12 * 14, 48, 48)),
    (row_sums, Cost(35 + 30, 0, 2 * 65, 280, 40)),
    (biased_product, Cost(120 + 15, 0, 135, 4 * (12 + 20 + 5), 60)),
    (stencil, Cost(20, 0, 20, 48, 40)),
    (every_third, Cost(0, 0, 0, 16, 16)),
    (gather, Cost(0, 0, 0, 12 + 24, 24)),
    (histogram, Cost(0, 0, 0, 200 + 32, 32)),
]


def build(make: Callable[[KernelBuilder], None]) -> Kernel:
    builder = KernelBuilder(make.__name__)
    make(builder)
    return builder.build()


@pytest.mark.parametrize(("make", "wanted"), HAND_COUNTS, ids=lambda x: getattr(x, "__name__", ""))
def test_counts_by_hand(make: Callable[[KernelBuilder], None], wanted: Cost) -> None:
    assert kernel_cost(build(make)) == wanted


@given(
    size=st.integers(1, 6),
    width=st.integers(1, 4),
    stride=st.integers(1, 3),
    low=st.integers(0, 3),
    spread=st.integers(1, 3),
    dilation=st.integers(1, 2),
    windows=st.integers(1, 7),
)
def test_convolutions_count_what_meets_an_element(
    size: int, width: int, stride: int, low: int, spread: int, dilation: int, windows: int
) -> None:
    from funcdl.kir.kernel_cost import _taps

    met = 0
    for window, place in itertools.product(range(windows), range(width)):
        at = window * stride + place * dilation - low
        met += any(at == element * spread for element in range(size))
    slide = Slide("i", "x", "k", stride, low, spread, dilation)
    assert _taps(slide, {"i": windows, "x": size, "k": width}) == met


@pytest.mark.parametrize(("make", "places"), [(forward, "ij"), (kernel, "kl")])
def test_tiles_of_windows_take_fewer_operations_for_the_same_sums(
    make: Callable[..., Kernel], places: str
) -> None:
    example = make(n=2, c=8, o=16, size=(6, 7))
    in_pairs = Schedule((Step(places[0], "tile", 2), Step(places[1], "tile", 2)))
    direct, tiles = kernel_cost(example, Schedule(())), kernel_cost(example, in_pairs)
    assert direct == kernel_cost(example)
    assert tiles == replace(direct, operations=tiles.operations)
    # Windows meet 16 elements by rows and 19 by columns; there are 3 by 4 tiles.
    assert direct.operations - tiles.operations == 2 * 2 * 8 * 16 * (16 * 19 - 16 * 3 * 4)


def reached(kernel: Kernel, kinds: tuple[type, ...]) -> int:
    """The bytes of the elements that indices without computed values reach, masks aside."""
    found: dict[str, set[int]] = {}
    for instruction in kernel.body:
        if not isinstance(instruction, kinds):
            continue
        assert isinstance(instruction, Load | Store | AtomicUpdate)
        seen = found.setdefault(instruction.buffer, set())
        if instruction.index.values():
            continue
        axes = sorted(instruction.index.axes())
        for point in itertools.product(*(range(kernel.axis(axis).extent) for axis in axes)):
            seen.add(int(ix.evaluate(instruction.index, dict(zip(axes, point, strict=True)), {})))
    total = 0
    for name, seen in found.items():
        buffer = kernel.buffer(name)
        total += len(seen & set(range(buffer.size))) * buffer.dtype.itemsize
    return total


SMALL = {
    name: kernel
    for name, (kernel, _) in all_example_kernels().items()
    if np.prod([axis.extent for axis in kernel.axes], dtype=float) < 50_000
}


@pytest.mark.parametrize("name", SMALL)
def test_bytes_cover_what_indices_reach(name: str) -> None:
    kernel = SMALL[name]
    cost = kernel_cost(kernel)
    size = sum(buffer.size * buffer.dtype.itemsize for buffer in kernel.buffers)
    assert reached(kernel, (Load,)) <= cost.bytes_read <= size
    assert reached(kernel, (Store,)) <= cost.bytes_written <= size
    assert min(cost.flops, cost.transcendentals, cost.operations) >= 0


def test_arithmetic_is_not_transcendental() -> None:
    arithmetic = ["add", "sub", "mul", "div", "rem", "max", "neg", "abs", "eq", "floor", "xor"]
    functions = ["exp", "log", "sqrt", "rsqrt", "tanh", "pow", "sin", "erf", "logistic"]
    assert [name for name in arithmetic if is_transcendental(name)] == []
    assert [name for name in functions if not is_transcendental(name)] == []
