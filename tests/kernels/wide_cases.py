"""Kernels on buffers of more than 2**31 elements, in Triton's interpreter.

``python -m tests.kernels.wide_cases`` prints, as JSON, what the kernels found and should have. The
buffers are mapped but hardly touched, so that they need no such memory.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from tests.kernels import attention_cases

from funcdl.compiler.cuda.schedule import schedule_gpu
from funcdl.kernels.triton.interpret import interpret
from funcdl.kernels.triton.library.template import tiles
from funcdl.kernels.triton.render import render_kernel
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Kernel

Array = np.ndarray[Any, Any]

ROWS, COLUMNS = 2**20 + 3, 2**11
"""More than 2**31 elements, whose last rows have positions that do not fit into 32 bits."""
FAR, NEAR, STRIDE = 5, 37, 2**29 + 1
"""Rows, their length, and the elements from one to the next: the last are beyond 2**31."""
QUERIES = 17
MASKS = {
    "heads_far_apart": (0, 2**30 + 16, 16, 1),
    "queries_far_apart": (0, QUERIES * 16, 2**27 + 1000, 1),
    "keys_far_apart": (0, QUERIES, 1, 2**28 + 1000),
}
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


def strided(form: str) -> Kernel:
    """A kernel on rows that lie `STRIDE` elements apart."""
    dtype = np.dtype(np.float16 if form == "dot" else np.int8)
    builder = KernelBuilder(form)
    i, j = builder.axis("i", FAR), builder.axis("j", NEAR)
    size = FAR * STRIDE
    builder.buffer("x", dtype, size, "in")
    if form == "dot":
        k = builder.axis("k", NEAR)
        builder.buffer("y", dtype, NEAR * NEAR, "in")
        builder.buffer("out", dtype, FAR * NEAR, "out")
        values = builder.load("x", i * STRIDE + k), builder.load("y", k * NEAR + j)
        builder.store("out", i * NEAR + j, builder.dot(*values, "i", "j", "k"))
        return builder.build()
    value = builder.load("x", i * STRIDE + j)
    if form == "rows":
        builder.buffer("out", dtype, FAR, "out")
        builder.store("out", i, builder.reduce("sum", value, ["j"]))
    elif form == "columns":
        builder.buffer("out", dtype, NEAR, "out")
        builder.store("out", j, builder.reduce("sum", value, ["i"]))
    else:
        if form == "running":
            value = builder.running("sum", value, "j")
        builder.buffer("out", dtype, size, "inout")
        builder.store("out", i * STRIDE + j, value)
    return builder.build()


MEANINGS: dict[str, Callable[[Array], Array]] = {
    "pointwise": lambda x: x,
    "rows": lambda x: x.sum(1, x.dtype),
    "columns": lambda x: x.sum(0, x.dtype),
    "running": lambda x: x.cumsum(1, x.dtype),
    "dot": lambda x: x,
}


def run_strided(form: str) -> list[list[float]]:
    """What a kernel of this form finds, and what NumPy does."""
    kernel = strided(form)
    arrays = {b.name: mapped(b.dtype, b.size) for b in kernel.buffers}
    rows = arrays["x"].reshape(FAR, STRIDE)
    rows[:, :NEAR] = np.arange(FAR * NEAR).reshape(FAR, NEAR) % 7 - 2
    if form == "dot":
        arrays["y"][:] = np.eye(NEAR).reshape(-1)
    wanted = MEANINGS[form](rows[:, :NEAR])
    run(kernel, **arrays)
    out = arrays["out"]
    if out.size == FAR * STRIDE:
        out = out.reshape(FAR, STRIDE)[:, :NEAR]
    return [out.reshape(-1).tolist(), wanted.reshape(-1).tolist()]


def attention_with_mask(strides: tuple[int, int, int, int]) -> list[float]:
    """All results of all kernels of an attention whose mask lies in memory like this."""
    given = attention_cases.problem(QUERIES, 16, batch=1, heads=4)
    given = replace(given, mask=strides)
    memory = attention_cases.arrays(given)
    places = np.arange(4)[:, None, None] * strides[1] + np.arange(QUERIES)[:, None] * strides[2]
    places = places + np.arange(16) * strides[3]
    mask = mapped(np.bool_, int(places.max()) + 1)
    mask[places] = memory["mask"][0, 0] ^ (np.arange(4) == 2)[:, None, None]
    memory["mask"] = mask
    chosen = tiles(4, 2, BT=16, BS=16, BH=given.padded_size)
    for module in attention_cases.MODULES:
        rendered = module.kernel(given, chosen)
        names = [parameter.removesuffix("_ptr") for parameter in rendered.signature]
        interpret(rendered, {name: memory[name] for name in names})
    results = ("out", "query_gradient", "key_gradient", "value_gradient")
    found: list[float] = np.concatenate([memory[name].reshape(-1) for name in results]).tolist()
    return found


def mapped(dtype: Any, count: int = ROWS * COLUMNS) -> Array:
    memory = mmap.mmap(-1, max(count * np.dtype(dtype).itemsize, 1))
    return np.frombuffer(memory, dtype)[:count]


def results() -> dict[str, list[list[float]]]:
    """By kernel, what it found and what it should have."""
    found: dict[str, list[list[float]]] = {}
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
    found |= {form: run_strided(form) for form in MEANINGS}
    compact = attention_with_mask((0, QUERIES * 16, 16, 1))
    for name, strides in MASKS.items():
        found[f"attention_{name}"] = [attention_with_mask(strides), compact]
    return found


def run(kernel: Kernel, **arrays: Array) -> None:
    interpret(render_kernel(kernel, schedule_gpu(kernel)), arrays)


if __name__ == "__main__":
    print(json.dumps(results()))
