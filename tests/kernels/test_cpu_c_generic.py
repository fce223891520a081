"""Which kernels are one C function for several extents, and which are not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from funcdl.compiler.cpu.schedule import schedule_cpu
from funcdl.kernels.cpu_c.parameters import Number, generic_axis
from funcdl.kernels.cpu_c.program.standalone import standalone
from funcdl.kernels.cpu_c.render import Function, render_function
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Kernel, ReduceOp

Make = Callable[[int], Kernel]


def function(kernel: Kernel) -> Function:
    return render_function(kernel, schedule_cpu(kernel))


def elementwise(n: int, factor: float = 0.3) -> Kernel:
    b = KernelBuilder("elementwise")
    i = b.axis("i", n)
    b.buffer("x", np.float32, n, "in")
    b.buffer("y", np.float32, n, "out")
    b.store("y", i, b.elementwise("mul", b.load("x", i), b.const(factor, np.float32)))
    return b.build()


def rows(op: ReduceOp = "sum", *, width: int = 10) -> Make:
    """Along rows, of which there are n."""

    def make(n: int) -> Kernel:
        b = KernelBuilder("rows")
        i, j = b.axis("i", n), b.axis("j", width)
        b.buffer("x", np.float32, n * width, "in")
        b.buffer("y", np.float32, n, "out")
        b.store("y", i, b.reduce(op, b.load("x", i * width + j), ["j"]))
        return b.build()

    return make


def columns(op: ReduceOp, width: int = 10) -> Make:
    """Down columns of n."""

    def make(n: int) -> Kernel:
        b = KernelBuilder("columns")
        i, j = b.axis("i", n), b.axis("j", width)
        b.buffer("x", np.float32, n * width, "in")
        b.buffer("y", np.int32 if op == "argmax" else np.float32, width, "out")
        b.store("y", j, b.reduce(op, b.load("x", i * width + j), ["i"]))
        return b.build()

    return make


def total(n: int) -> Kernel:
    b = KernelBuilder("total")
    i = b.axis("i", n)
    b.buffer("x", np.float32, n, "in")
    b.buffer("y", np.float32, 1, "out")
    mean = b.elementwise("div", b.reduce("sum", b.load("x", i), ["i"]), b.const(n, np.float32))
    b.store("y", i * 0, mean)
    return b.build()


def softmax_of_one_row(n: int) -> Kernel:
    b = KernelBuilder("softmax")
    i = b.axis("i", n)
    b.buffer("x", np.float32, n, "in")
    b.buffer("y", np.float32, n, "out")
    x = b.load("x", i)
    powers = b.elementwise("exp", b.elementwise("sub", x, b.reduce("max", x, ["i"])))
    b.store("y", i, b.elementwise("div", powers, b.reduce("sum", powers, ["i"])))
    return b.build()


def first_argmax(n: int) -> Kernel:
    b = KernelBuilder("argmax")
    i = b.axis("i", n)
    b.buffer("x", np.float32, n, "in")
    b.buffer("y", np.int32, 1, "out")
    b.store("y", i * 0, b.reduce("argmax", b.load("x", i), ["i"]))
    return b.build()


def scatter(n: int) -> Kernel:
    b = KernelBuilder("scatter")
    i, j = b.axis("i", n), b.axis("j", 6)
    b.buffer("at", np.int32, n, "in")
    b.buffer("x", np.float32, n * 6, "in")
    b.buffer("y", np.float32, 60, "inout")
    row = b.position(b.load("at", i), 0, 9)
    b.atomic_update("add", "y", row * 6 + j, b.load("x", i * 6 + j))
    return b.build()


def transposed(n: int) -> Kernel:
    """The strides of j are made of n."""
    b = KernelBuilder("transposed")
    j, i = b.axis("j", 7), b.axis("i", n)
    b.buffer("x", np.float32, 7 * n, "in")
    b.buffer("y", np.float32, 7 * n, "out")
    b.store("y", j * n + i, b.load("x", i * 7 + j))
    return b.build()


def wrapped(n: int) -> Kernel:
    """A divisor is n."""
    b = KernelBuilder("wrapped")
    i = b.axis("i", 2 * n)
    b.buffer("x", np.float32, n, "in")
    b.buffer("y", np.float32, 2 * n, "out")
    b.store("y", i, b.load("x", i % n))
    return b.build()


SHARED: dict[str, tuple[Make, tuple[int, ...]]] = {
    "elementwise": (elementwise, (2, 32, 33, 1000)),
    "elementwise in chunks": (elementwise, (40_000, 50_000, 400_001)),
    "rows": (rows(), (2, 12, 15)),
    "rows as lanes": (rows(), (16, 33, 200)),
    "rows as lanes for threads": (rows(), (30_000, 50_000)),
    "rows for threads": (rows(width=100), (1000, 3001)),
    "columns": (columns("sum"), (2, 3, 255)),
    "columns, rows by fours": (columns("sum"), (8, 12, 256)),
    "columns in blocks": (columns("max"), (8, 256, 1000)),
    "argmax": (columns("argmax"), (8, 9)),
    "mean of all": (total, (7, 8, 4096)),
    "argmax of all": (first_argmax, (7, 8)),
    "scatter": (scatter, (3, 12)),
}
SPECIAL: dict[str, tuple[Make, tuple[int, ...]]] = {
    "a row is kept on the stack": (softmax_of_one_row, (30, 31)),
    "another axis's strides": (transposed, (20, 21)),
    "a divisor": (wrapped, (20, 21)),
    "threads from a size on": (elementwise, (100, 100_000)),
    "a long sum is cut in blocks": (columns("sum"), (256, 260)),
    "rows by fours": (columns("sum"), (255, 256)),
    "an axis of one position": (elementwise, (1, 2)),
    "rows enough for lanes": (rows(), (15, 16)),
}


@pytest.mark.parametrize("name", SHARED)
def test_one_function_for_all_extents(name: str) -> None:
    make, extents = SHARED[name]
    functions = [function(make(n)) for n in extents]
    assert len({f.body for f in functions}) == 1
    for n, f in zip(extents, functions, strict=True):
        unrolled = [s.size for s in schedule_cpu(make(n)).steps if s.kind == "unroll"]
        number = next(x.value for x in f.numbers if x.name == f"n_{f.kernel.axes[0].name}")
        assert number == n // math.prod(unrolled)
        assert all(f.text.count(number.declaration) == 1 for number in f.numbers)


@pytest.mark.parametrize("name", SPECIAL)
def test_a_function_for_each_extent(name: str) -> None:
    make, extents = SPECIAL[name]
    assert len({function(make(n)).body for n in extents}) == len(extents)


def test_constants_are_parameters_where_they_cost_nothing() -> None:
    assert function(elementwise(9, 0.3)).body == function(elementwise(9, 0.7)).body
    assert function(elementwise(9, 0.5)).body != function(elementwise(9, 0.7)).body
    b = KernelBuilder("divide")
    i = b.axis("i", 9)
    b.buffer("x", np.float32, 9, "in")
    b.buffer("y", np.float32, 9, "out")
    x = b.load("x", i)
    quotient = b.elementwise("div", x, b.const(8.0, np.float32))
    b.store("y", i, b.elementwise("pow", quotient, b.const(3.0, np.float32)))
    assert [number.name for number in function(b.build()).numbers] == ["n_i"]


def test_the_innermost_of_several_axes_is_never_generic() -> None:
    for make in (rows(), columns("sum"), scatter):
        assert generic_axis(make(12)) == "i"
    assert generic_axis(transposed(12)) == ""


def named(x: str, y: str) -> Kernel:
    b = KernelBuilder(f"named_{x}")
    i = b.axis("i", 90_000)
    b.buffer(x, np.float32, 90_000, "in")
    b.buffer(y, np.float32, 90_000, "out")
    b.store(y, i, b.elementwise("exp", b.load(x, i)))
    return b.build()


def test_standalone_texts_do_not_depend_on_names() -> None:
    """Nor do they touch the words of directives, which are no keywords of C."""
    pairs = [("x", "y"), ("y", "x"), ("parallel", "schedule"), ("omp", "simd"), ("const0", "n_i")]
    texts = {standalone(function(named(*pair)), "f") for pair in pairs}
    assert len(texts) == 1
    assert texts.pop().count("#pragma omp parallel for num_threads(fd_num_threads)") == 1


def test_standalone_texts_differ_where_memory_may_be_shared() -> None:
    kernel = named("x", "y")
    shared = replace(kernel, buffers=tuple(replace(b, may_alias=True) for b in kernel.buffers))
    assert standalone(function(kernel), "f") != standalone(function(shared), "f")


def test_numbers_survive_their_passage_through_words() -> None:
    for dtype, value in ((np.float32, 0.1), (np.float64, -1e-300), (np.int64, 2**40 + 1)):
        number = Number(np.dtype(dtype), "x", np.dtype(dtype).type(value).item())
        word = np.array([number.word], np.int64)
        back = word[0] if dtype is np.int64 else word.view(np.float64)[0]
        assert dtype(back).tobytes() == dtype(value).tobytes()
