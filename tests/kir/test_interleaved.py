"""Which loads are the two parts of pairs."""

from __future__ import annotations

import numpy as np

from funcdl.kir.builder import KernelBuilder
from funcdl.kir.interleaved import interleaved


def test_pairs() -> None:
    b = KernelBuilder("pairs")
    i, j = b.axis("i", 4), b.axis("j", 6)
    b.buffer("x", np.float32, 48, "in")
    b.buffer("y", np.float32, 24, "out")
    imaginary = b.load("x", i * 12 + j * 2 + 1)
    real = b.load("x", i * 12 + j * 2)
    odd = b.load("x", i * 12 + j)
    alone = b.load("x", i * 2 + j * 8)
    total = b.elementwise(
        "add", b.elementwise("add", real, imaginary), b.elementwise("add", odd, alone)
    )
    b.store("y", i * 6 + j, total)
    assert interleaved(b.build()) == {real: (real, 0), imaginary: (real, 1)}
