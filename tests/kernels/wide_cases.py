"""Kernels on buffers of more than 2**31 elements, in Triton's interpreter.

``python -m tests.kernels.wide_cases`` prints, as JSON, what the kernels found and should have. The
buffers are mapped but hardly touched, so that they need no such memory.
"""

from __future__ import annotations

import json
import mmap
from typing import Any

import numpy as np

from funcdl.compiler.cuda.schedule import schedule_gpu
from funcdl.kernels.triton.interpret import interpret
from funcdl.kernels.triton.render import render_kernel
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Kernel

Array = np.ndarray[Any, Any]

ROWS, COLUMNS = 2**20 + 3, 2**11
"""More than 2**31 elements, whose last rows have positions that do not fit into 32 bits."""
PLACES = np.array([ROWS - 1, 5, ROWS - 2, 2**20, 5], np.int64)


def gather() -> Kernel:
    builder = KernelBuilder("gather")
    i, j = builder.axis("i", PLACES.size), builder.axis("j", 3)
    builder.buffer("table", np.int8, ROWS * COLUMNS, "in")
    builder.buffer("places", np.int64, PLACES.size, "in")
    builder.buffer("out", np.int8, PLACES.size * 3, "out")
    row = builder.position(builder.load("places", i), 0, ROWS - 1)
    builder.store("out", i * 3 + j, builder.load("table", row * COLUMNS + j))
    return builder.build()


def scatter_add() -> Kernel:
    builder = KernelBuilder("scatter_add")
    i, j = builder.axis("i", PLACES.size), builder.axis("j", 3)
    builder.buffer("table", np.int32, ROWS * COLUMNS, "inout")
    builder.buffer("places", np.int64, PLACES.size, "in")
    builder.buffer("x", np.int32, PLACES.size * 3, "in")
    row = builder.position(builder.load("places", i), 0, ROWS - 1)
    builder.atomic_update("add", "table", row * COLUMNS + j, builder.load("x", i * 3 + j))
    return builder.build()


def mapped(dtype: Any) -> Array:
    memory = mmap.mmap(-1, ROWS * COLUMNS * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype)


def results() -> dict[str, list[list[int]]]:
    """By kernel, what it found and what it should have."""
    found = {}
    table = mapped(np.int8)
    rows = table.reshape(ROWS, COLUMNS)
    rows[PLACES, :3] = PLACES[:, None] % 50 + np.arange(3)
    out = np.zeros(PLACES.size * 3, np.int8)
    run(gather(), table=table, places=PLACES.copy(), out=out)
    found["gather"] = [out.tolist(), rows[PLACES, :3].reshape(-1).tolist()]
    sums = mapped(np.int32)
    x = np.arange(1, PLACES.size * 3 + 1, dtype=np.int32)
    run(scatter_add(), table=sums, places=PLACES.copy(), x=x)
    wanted = [x.reshape(-1, 3)[place == PLACES].sum(0) for place in PLACES]
    found["scatter_add"] = [
        sums.reshape(ROWS, COLUMNS)[PLACES, :3].reshape(-1).tolist(),
        np.concatenate(wanted).tolist(),
    ]
    return found


def run(kernel: Kernel, **arrays: Array) -> None:
    interpret(render_kernel(kernel, schedule_gpu(kernel)), arrays)


if __name__ == "__main__":
    print(json.dumps(results()))
