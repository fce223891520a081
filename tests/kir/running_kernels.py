"""Example kernels with running results and orders, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Kernel

Arrays = dict[str, np.ndarray[Any, Any]]
F32, F64, I32 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int32)
I8, BF16 = np.dtype(np.int8), np.dtype(ml_dtypes.bfloat16)

LONG = 5000
"""Positions of a row for which sorting needs memory that is not on the stack."""


def running_kernels() -> dict[str, Kernel]:
    """Each kernel by name; `RUNNING_MEANINGS` has the results."""
    kernels = [_rows(), _rows_backwards(), _columns(), _middle_backwards(), _constant()]
    kernels += [_in_place(), _orders(), _two_keys(), _long_columns(), _few()]
    return {kernel.name: kernel for kernel in kernels}


def _builder(
    name: str, shape: tuple[int, ...], **dtypes: np.dtype[Any]
) -> tuple[KernelBuilder, ix.Index]:
    """A builder with axes i, j, k and a buffer of their shape for each dtype."""
    b = KernelBuilder(name)
    place = ix.constant(0)
    for axis, extent in zip("ijk", shape, strict=False):
        place = place * extent + b.axis(axis, extent)
    for buffer, dtype in dtypes.items():
        b.buffer(buffer, dtype, int(np.prod(shape)), "out" if buffer.startswith("out") else "in")
    return b, place


def _rows() -> Kernel:
    """Two running results one after the other, of a value that is costly to compute twice."""
    b, at = _builder("running_rows", (5, 37), x=F32, out0=F32, out1=F32)
    x = b.load("x", at)
    e = b.elementwise("exp", x)
    total = b.running("sum", e, "j")
    b.store(
        "out0", at, b.elementwise("mul", e, b.running("max", b.elementwise("mul", total, x), "j"))
    )
    b.store("out1", at, total)
    return b.build()


def _rows_backwards() -> Kernel:
    b, at = _builder("running_rows_backwards", (4, 29), x=I8, out0=I8, out1=I8)
    x = b.load("x", at)
    b.store("out0", at, b.running("sum", x, "j", True))
    b.store("out1", at, b.running("prod", x, "j", True))
    return b.build()


def _columns() -> Kernel:
    b, at = _builder("running_columns", (23, 40), x=F32, out0=F32, out1=F32)
    x = b.load("x", at)
    b.store("out0", at, b.running("logsumexp", x, "i"))
    b.store("out1", at, b.running("min", b.elementwise("add", x, b.const(1.0, F32)), "i"))
    return b.build()


def _middle_backwards() -> Kernel:
    b, at = _builder("running_middle_backwards", (3, 11, 9), x=BF16, out0=BF16)
    x = b.cast(b.load("x", at), F32)
    b.store("out0", at, b.cast(b.running("sum", x, "j", True), BF16))
    return b.build()


def _constant() -> Kernel:
    """Of a value that varies over nothing: it counts once for each position."""
    b, at = _builder("running_constant", (3, 7), x=F64, out0=F64)
    count = b.running("sum", b.const(1.0, F64), "j")
    b.store("out0", at, b.elementwise("mul", b.load("x", at), count))
    return b.build()


def _in_place() -> Kernel:
    """What is read again, after the running result, is overwritten."""
    b = KernelBuilder("running_in_place")
    at = b.axis("i", 50)
    b.buffer("p", F32, 50, "in", may_alias=True)
    b.buffer("out0", F32, 50, "out", may_alias=True)
    p = b.load("p", at)
    total = b.running("sum", p, "i")
    b.store("out0", at, b.elementwise("mul", p, b.running("max", total, "i")))
    return b.build()


def _orders() -> Kernel:
    b, at = _builder("order_rows", (6, 90), n=I32, y=F32, out0=I32, out1=F32)
    i = ix.axis("i", 6)
    order = b.order([b.load("n", at)], "j")
    place = i * 90 + b.position(order, 0, 89)
    b.store("out0", at, b.load("n", place))
    b.store("out1", at, b.elementwise("exp", b.load("y", place)))
    return b.build()


def _two_keys() -> Kernel:
    b, at = _builder("order_two_keys", (3, 70), n=I32, y=F64, out0=I32)
    keys = [b.cast(b.load("n", at), np.bool_), b.load("y", at)]
    b.store("out0", at, b.order(keys, "j", descending=True))
    return b.build()


def _long_columns() -> Kernel:
    b, at = _builder("order_long_columns", (LONG, 2), x=F32, out0=I32)
    b.store("out0", at, b.order([b.elementwise("floor", b.load("x", at))], "i"))
    return b.build()


def _few() -> Kernel:
    b, at = _builder("order_few", (4, 9), n=I32, out0=I32)
    b.store("out0", at, b.order([b.load("n", at)], "j"))
    return b.build()


def _meaning_of_rows(a: Arrays) -> Arrays:
    x = a["x"].reshape(5, 37)
    total = np.cumsum(np.exp(x), 1)
    return {"out0": np.exp(x) * np.maximum.accumulate(total * x, 1), "out1": total}


def _meaning_of_rows_backwards(a: Arrays) -> Arrays:
    x = a["x"].reshape(4, 29)[:, ::-1]
    return {
        "out0": np.cumsum(x, 1, x.dtype)[:, ::-1],
        "out1": np.cumprod(x, 1, x.dtype)[:, ::-1],
    }


def _meaning_of_columns(a: Arrays) -> Arrays:
    x = a["x"].reshape(23, 40)
    return {
        "out0": np.log(np.cumsum(np.exp(x.astype(np.float64)), 0)),
        "out1": np.minimum.accumulate(x + 1, 0),
    }


def _meaning_of_orders(a: Arrays) -> Arrays:
    order = np.argsort(a["n"].reshape(6, 90), 1, "stable")
    return {
        name: np.take_along_axis(x.reshape(6, 90), order, 1)
        for name, x in (("out0", a["n"]), ("out1", np.exp(a["y"])))
    }


def _meaning_of_two_keys(a: Arrays) -> Arrays:
    # No two are equal, so that stability plays no part.
    keys = np.where(a["n"] != 0, 100, 0) + a["y"]
    return {"out0": np.argsort(-keys.reshape(3, 70), 1)}


RUNNING_MEANINGS: dict[str, Callable[[Arrays], Arrays]] = {
    "running_rows": _meaning_of_rows,
    "running_rows_backwards": _meaning_of_rows_backwards,
    "running_columns": _meaning_of_columns,
    "running_middle_backwards": lambda a: {
        "out0": np.cumsum(a["x"].reshape(3, 11, 9).astype(np.float32)[:, ::-1], 1)[:, ::-1]
    },
    "running_constant": lambda a: {"out0": a["x"].reshape(3, 7) * np.arange(1, 8)},
    "running_in_place": lambda a: {"out0": a["p"] * np.maximum.accumulate(np.cumsum(a["p"]))},
    "order_rows": _meaning_of_orders,
    "order_two_keys": _meaning_of_two_keys,
    "order_long_columns": lambda a: {
        "out0": np.argsort(np.floor(a["x"].reshape(LONG, 2)), 0, "stable")
    },
    "order_few": lambda a: {"out0": np.argsort(a["n"].reshape(4, 9), 1, "stable")},
}
