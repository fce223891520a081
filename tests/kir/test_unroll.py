"""Several positions of a reduced axis at a time give the same results."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.check.checker import check
from funcdl.kir.interpreter import interpret
from funcdl.kir.ir import Kernel
from funcdl.kir.unroll import can_unroll, unroll

ROWS, COLUMNS = 12, 5


def reduced(op: str, dtype: type = np.float32) -> Kernel:
    """``out[j] = op over i of x[i, j] * w[i] + j``, and each square of ``x``, shifted by it."""
    b = KernelBuilder("reduced")
    i, j = b.axis("i", ROWS), b.axis("j", COLUMNS)
    b.buffer("x", dtype, ROWS * COLUMNS, "in")
    b.buffer("w", dtype, ROWS, "in")
    b.buffer("out", dtype, COLUMNS, "out")
    b.buffer("full", dtype, ROWS * COLUMNS, "out")
    x, w = b.load("x", i * COLUMNS + j), b.load("w", i)
    column = b.cast(b.index_value(j, np.int32), dtype)
    term = b.elementwise("add", b.elementwise("mul", x, w), column)
    total = b.reduce(op, term, ["i"])  # type: ignore[arg-type]  # names from a table of texts
    b.store("out", j, total)
    b.store("full", i * COLUMNS + j, b.elementwise("sub", b.elementwise("mul", x, x), total))
    return b.build()


@pytest.mark.parametrize("count", [2, 3, 4, 6])
@pytest.mark.parametrize(
    ("op", "numpy"),
    [("sum", np.sum), ("max", np.max), ("min", np.min), ("prod", np.prod)],
)
def test_results_are_the_same(op: str, numpy: Callable[..., np.ndarray], count: int) -> None:
    kernel = reduced(op)
    assert can_unroll(kernel, "i", count)
    unrolled = unroll(kernel, "i", count)
    check(unrolled)
    assert unrolled.axis("i").extent == ROWS // count
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 1.5, (ROWS, COLUMNS)).astype(np.float32)
    w = rng.uniform(0.1, 0.2, ROWS).astype(np.float32)
    buffers = {
        "x": x.ravel(),
        "w": w,
        "out": np.zeros(COLUMNS, np.float32),
        "full": np.zeros(ROWS * COLUMNS, np.float32),
    }
    interpret(unrolled, buffers)
    wanted = numpy(x * w[:, None] + np.arange(COLUMNS, dtype=np.float32), axis=0)
    np.testing.assert_allclose(buffers["out"], wanted, 1e-5)
    np.testing.assert_allclose(buffers["full"].reshape(x.shape), x * x - wanted, 1e-5, 1e-5)


def test_what_is_left_alone() -> None:
    assert not can_unroll(reduced("sum"), "i", 5)  # a row would be left
    assert not can_unroll(reduced("sum"), "i", ROWS)  # no axis would
    b = KernelBuilder("positions")
    i = b.axis("i", ROWS)
    b.buffer("x", np.float32, ROWS, "in")
    b.buffer("out", np.int32, 1, "out")
    b.store("out", ix.constant(0), b.reduce("argmax", b.load("x", i), ["i"]))
    assert not can_unroll(b.build(), "i", 4)
    b = KernelBuilder("constant")
    b.axis("i", ROWS)
    b.buffer("out", np.float32, 1, "out")
    b.store("out", ix.constant(0), b.reduce("sum", b.const(2.0, np.float32), ["i"]))
    assert not can_unroll(b.build(), "i", 4)
