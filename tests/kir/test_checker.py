"""The checker accepts every example and names what is wrong with a broken kernel."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.kir.kernels import all_example_kernels

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.check.checker import KernelError, check
from funcdl.kir.ir import (
    Axis,
    Cast,
    Const,
    Elementwise,
    IndexValue,
    Kernel,
    Reduce,
    Select,
    ValueType,
)

EXAMPLES = all_example_kernels()
F32, F64, I32, BOOL = (np.dtype(name) for name in ("float32", "float64", "int32", "bool"))
F16 = np.dtype(np.float16)
i, j = ix.axis("i", 4), ix.axis("j", 6)
flat = i * 6 + j


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_accepted(name: str) -> None:
    check(EXAMPLES[name][0])


def base(*, alias: bool = False, names: tuple[str, ...] = ("out0",)) -> KernelBuilder:
    b = KernelBuilder("k1_bad")
    b.axis("i", 4)
    b.axis("j", 6)
    b.buffer("x", F32, 24, "in", may_alias=alias)
    b.buffer("n", I32, 4, "in")
    b.buffer("h", F16, 24, "in")
    b.buffer("p", BOOL, 24, "in")
    for name in names:
        b.buffer(name, F32, 24, "out", may_alias=alias)
    return b


def plain() -> Kernel:
    """%0 = x, %1 = add, store."""
    b = base()
    x = b.load("x", flat)
    b.store("out0", flat, b.elementwise("add", x, x))
    return b.build()


def edit(at: int, **changes: Any) -> Kernel:
    kernel = plain()
    body = list(kernel.body)
    body[at] = replace(body[at], **changes)
    return replace(kernel, body=tuple(body))


def value(instruction: Any) -> Kernel:
    """`plain` with an instruction, which may be wrong in itself, before the store."""
    kernel = plain()
    load, add, store = kernel.body
    return replace(kernel, body=(load, add, instruction, store))


def built(make: Callable[[KernelBuilder], Any], **options: Any) -> Kernel:
    b = base(**options)
    make(b)
    return b.build()


def scatter(b: KernelBuilder) -> int:
    b.buffer("total", F32, 4, "inout")
    b.store("out0", flat, b.load("x", flat))
    row = b.position(b.load("n", i), 0, 3)
    b.atomic_update("add", "total", row, b.load("x", i))
    return b.load("x", flat)


def two_reduces(b: KernelBuilder) -> None:
    x = b.load("x", flat)
    first, second = b.reduce("sum", x, ["i"]), b.reduce("sum", x, ["j"])
    b.store("out0", flat, b.elementwise("add", first, second))


def partial_store(b: KernelBuilder) -> None:
    total = b.reduce("sum", b.load("x", flat), ["i", "j"])
    b.store("out0", i, b.elementwise("add", b.load("x", i), total))


def dot(b: KernelBuilder, lhs: ix.Index, rhs: ix.Index, **options: Any) -> int:
    b.axis("k", 2)
    return b.dot(b.load("x", lhs), b.load("x", rhs), "i", "j", "k")


k = ix.axis("k", 2)


def dot_and_reduce(b: KernelBuilder) -> None:
    product = dot(b, i + k, j + k)
    b.store("out0", i, b.reduce("sum", product, ["j"]))


def two_dots(b: KernelBuilder) -> None:
    product = dot(b, i + k, j + k)
    again = b.dot(b.load("x", i + k), b.load("x", j + k * 2), "i", "j", "k")
    b.store("out0", flat, b.elementwise("add", product, again))


def dot_stored_prologue(b: KernelBuilder) -> None:
    b.buffer("out1", F32, 8, "out")
    b.store("out0", flat, dot(b, i + k, j + k))
    b.store("out1", i * 2 + k, b.load("x", i + k))


def dot_of_bytes(b: KernelBuilder) -> None:
    b.axis("k", 2)
    n = b.cast(b.load("n", k), np.int8)
    b.store("out0", flat, b.cast(b.dot(n, n, "i", "j", "k"), F32))


def shifted_alias(b: KernelBuilder) -> None:
    b.store("out0", flat, b.load("x", i * -6 - j + 23))


def inout_elsewhere(b: KernelBuilder) -> None:
    b.buffer("state", F32, 24, "inout")
    b.store("out0", flat, b.load("state", i * 6))
    b.store("state", flat, b.load("x", flat))


T = ValueType
full = ("i", "j")


def running_and_reduce(b: KernelBuilder) -> None:
    x = b.load("x", flat)
    total = b.running("sum", x, "j")
    b.store("out0", flat, b.elementwise("add", total, b.reduce("sum", x, "j")))


def running_both_ways(b: KernelBuilder) -> None:
    x = b.load("x", flat)
    total = b.running("sum", x, "j")
    b.store("out0", flat, b.elementwise("add", total, b.running("sum", x, "j", True)))


def order_and_running(b: KernelBuilder) -> None:
    x = b.load("x", flat)
    order = b.cast(b.order([x], "j"), F32)
    b.store("out0", flat, b.elementwise("add", order, b.running("sum", x, "j")))


BROKEN: list[tuple[str, Callable[[], Kernel], str]] = [
    (
        "kernel name",
        lambda: replace(plain(), name="k-1"),
        "kernel k-1: kernel name must be an identifier, got 'k-1'",
    ),
    (
        "axis name",
        lambda: replace(plain(), axes=(Axis("i", 4), Axis("x", 6))),
        "kernel k1_bad: names of buffers and axes must be unique, 'x' is not",
    ),
    (
        "extent",
        lambda: replace(plain(), axes=(Axis("i", 4), Axis("j", -6))),
        "kernel k1_bad: extent of axis 'j' must be >= 0, got -6",
    ),
    (
        "order",
        lambda: edit(1, args=(0, 1)),
        "kernel k1_bad: %1 (add %0 %1): operands must come earlier in the body, %1 does not",
    ),
    (
        "effect as operand",
        lambda: replace(plain(), body=(*plain().body, Cast(T(F32, ()), 2))),
        "%3 (cast %2): operands must be values, %2 is an effect",
    ),
    (
        "axes of a type",
        lambda: edit(1, type=T(F32, ("i",))),
        "%1 (add %0 %0): type must be f32{i,j}, is f32{i}",
    ),
    (
        "order of axes",
        lambda: edit(0, type=T(F32, ("j", "i"))),
        "%0 (load x[6*i + j]): type must be f32{i,j}, is f32{j,i}",
    ),
    (
        "dtype of a load",
        lambda: edit(0, type=T(F64, full)),
        "type must be f32{i,j}, is f64{i,j}",
    ),
    (
        "dtype of a comparison",
        lambda: value(Elementwise(T(F32, full), "lt", (0, 1))),
        "type must be bool{i,j}, is f32{i,j}",
    ),
    (
        "unknown axis",
        lambda: edit(0, index=ix.axis("z", 3)),
        "%0 (load x[z]): the kernel has no axis z",
    ),
    (
        "extent in an index",
        lambda: edit(0, index=ix.axis("i", 3) // 2),
        "axis i in the index has extent 3, in the kernel 4",
    ),
    (
        "float position",
        lambda: edit(2, index=ix.value(0, 0, 3)),
        "computed positions must be integers, %0 is not",
    ),
    (
        "operation",
        lambda: edit(1, name="frobnicate"),
        "kir.elementwise has no operation 'frobnicate'",
    ),
    (
        "arity",
        lambda: edit(1, args=(0, 0, 0)),
        "%1 (add %0 %0 %0): add takes 2 arguments, got 3",
    ),
    (
        "dtypes differ",
        lambda: built(
            lambda b: b.store("out0", i, b.elementwise("add", b.load("x", i), b.load("n", i)))
        ),
        "%2 (add %0 %1): dtypes must agree, got f32{i}, i32{i}",
    ),
    (
        "half arithmetic",
        lambda: built(
            lambda b: b.store("out0", i, b.cast(b.elementwise("neg", b.load("h", i)), F32))
        ),
        "%1 (neg %0): f16 must be cast to f32 before it is computed with",
    ),
    (
        "half constant",
        lambda: value(Const(T(np.dtype(ml_dtypes.bfloat16), ()), 1.0)),
        "bf16 must be cast to f32",
    ),
    (
        "half reduce",
        lambda: built(
            lambda b: b.store("out0", j, b.cast(b.reduce("max", b.load("h", flat), "i"), F32))
        ),
        "%1 (reduce max i %0): f16 must be cast to f32",
    ),
    (
        "constant's scalar",
        lambda: value(Const(T(F32, ()), 1)),
        "a float32 scalar must be a Python float, got 1",
    ),
    (
        "mask",
        lambda: edit(2, mask=0),
        "%2 (store out0[6*i + j] = %1 if %0): mask must be bool, %0 is f32{i,j}",
    ),
    (
        "condition",
        lambda: value(Select(T(F32, full), 0, 1, 1)),
        "the condition must be bool, %0 is f32{i,j}",
    ),
    (
        "index dtype",
        lambda: value(IndexValue(T(F32, ("i",)), i)),
        "%2 (index i): an index value must be i32 or i64, is float32",
    ),
    (
        "index overflow",
        lambda: value(IndexValue(T(I32, ("i",)), i * 2**30)),
        "index 0..3221225472 does not fit into int32",
    ),
    (
        "bitcast width",
        lambda: built(lambda b: b.store("out0", i, b.bitcast(b.load("h", i), F32))),
        "%1 (bitcast %0): bitcast must keep the width, float16 to float32 does not",
    ),
    (
        "unknown buffer",
        lambda: edit(0, buffer="y"),
        "%0 (load y[6*i + j]): the kernel has no buffer 'y'",
    ),
    (
        "read of an output",
        lambda: edit(0, buffer="out0"),
        "buffer 'out0' has role out and must not be read",
    ),
    (
        "write of an input",
        lambda: edit(2, buffer="x"),
        "buffer 'x' has role in and must not be written",
    ),
    (
        "load out of bounds",
        lambda: edit(0, index=flat + 1),
        "%0 (load x[6*i + j + 1]): without a mask the index must be in 0..23 of buffer 'x', "
        "its range is 1..24",
    ),
    (
        "gather out of bounds",
        lambda: built(
            lambda b: b.store("out0", i, b.load("x", b.position(b.load("n", i), -1, 23)))
        ),
        "its range is -1..23",
    ),
    (
        "store out of bounds",
        lambda: edit(2, index=flat - 1),
        "its range is -1..22",
    ),
    (
        "dtype of a store",
        lambda: built(lambda b: b.store("out0", i, b.load("n", i))),
        "%1 (store out0[i] = %0): value must be float32 as the buffer, is int32",
    ),
    (
        "store of many points to one element",
        lambda: edit(2, index=i),
        "%2 (store out0[i] = %1): points along j would be stored to one element",
    ),
    (
        "overlapping store",
        lambda: edit(2, index=i * 4 + j),
        "two points may have one index 4*i + j",
    ),
    (
        "stores that meet",
        lambda: built(
            lambda b: [b.store("out0", place, b.load("x", j)) for place in (j, j + 6, j + 11)]
        ),
        "an element at j + 6 may be stored twice",
    ),
    (
        "argmax over two axes",
        lambda: value(Reduce(T(I32, ()), "argmax", 0, full)),
        "argmax takes one axis, got 2",
    ),
    (
        "argmax to float",
        lambda: value(Reduce(T(F32, ("i",)), "argmax", 0, ("j",))),
        "argmax must give i32 or i64, gives float32",
    ),
    (
        "reduce over nothing",
        lambda: value(Reduce(T(F32, full), "sum", 0, ())),
        "reduced axes must be at least one, in the kernel's order",
    ),
    (
        "reduce over an unknown axis",
        lambda: value(Reduce(T(F32, full), "sum", 0, ("z",))),
        "the kernel has no axis z",
    ),
    (
        "conjunction of floats",
        lambda: value(Reduce(T(F32, ("i",)), "and", 0, ("j",))),
        "and is not defined on float32",
    ),
    (
        "two sets of reduced axes",
        lambda: built(two_reduces),
        "%2 (reduce sum j %0): all reduces must be over the same axes, i",
    ),
    (
        "store between the levels",
        lambda: built(partial_store),
        "must vary over all of the axes i, j or none",
    ),
    (
        "dot and reduce",
        lambda: built(dot_and_reduce),
        "(reduce sum j %2): a kernel with a dot must have no reduce",
    ),
    ("two dots", lambda: built(two_dots), "a kernel must have one dot at most"),
    (
        "lhs over n",
        lambda: built(lambda b: b.store("out0", flat, dot(b, i + j + k, j + k))),
        "%0 must not vary over j",
    ),
    (
        "dot of bytes",
        lambda: built(dot_of_bytes),
        "dot takes numbers of 32 or 64 bits, got int8",
    ),
    (
        "store over k",
        lambda: built(dot_stored_prologue),
        "must not vary over k, which the dot sums over",
    ),
    (
        "update with a reduce",
        lambda: built(lambda b: b.store("out0", i, b.reduce("sum", scatter(b), ["j"]))),
        "a kernel with updates must have no reduce and no dot",
    ),
    (
        "update of an output",
        lambda: built(lambda b: b.atomic_update("add", "out0", i, b.load("x", flat))),
        "an updated buffer must have role inout, 'out0' has out",
    ),
    (
        "update beside a load",
        lambda: built(lambda b: [scatter(b), b.store("out0", i * 6, b.load("total", i))]),
        "buffer 'total' takes updates and nothing else",
    ),
    (
        "unwritten output",
        lambda: built(lambda b: b.store("out0", i, b.load("x", i)), names=("out0", "out1")),
        "kernel k1_bad: buffer 'out1' has role out but is never written",
    ),
    (
        "alias read elsewhere",
        lambda: built(shifted_alias, alias=True),
        "%0 (load x[-6*i - j + 23]): buffer 'x' may alias, but is read at another index",
    ),
    (
        "running and reduce",
        lambda: built(running_and_reduce),
        "%2 (reduce sum j %0): a running or order kernel must have no reduce, dot or update",
    ),
    (
        "running in two directions",
        lambda: built(running_both_ways),
        "%2 (running sum j %0 reverse): running results must go along one axis in one direction",
    ),
    (
        "order and running",
        lambda: built(order_and_running),
        "%3 (running sum j %0): running results must go along one axis in one direction, or order",
    ),
    (
        "running in half precision",
        lambda: built(lambda b: b.store("out0", flat, b.running("sum", b.load("h", flat), "j"))),
        "%1 (running sum j %0): f16 must be cast to f32",
    ),
    (
        "running of bools",
        lambda: built(lambda b: b.store("out0", flat, b.running("sum", b.load("p", flat), "j"))),
        "%1 (running sum j %0): running sum is not defined on bool",
    ),
    (
        "order in half precision",
        lambda: built(lambda b: b.store("out0", flat, b.order([b.load("h", flat)], "j"))),
        "%1 (order j %0): f16 must be cast to f32",
    ),
    (
        "inout read elsewhere",
        lambda: built(inout_elsewhere),
        "%0 (load state[6*i]): buffer 'state' is written at another index",
    ),
]


@pytest.mark.parametrize(
    ("make", "message"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)
def test_broken_kernels_are_named(make: Callable[[], Kernel], message: str) -> None:
    with pytest.raises(KernelError, match=re.escape(message)):
        check(make())


def test_errors_are_value_errors_that_name_the_kernel() -> None:
    with pytest.raises(ValueError, match=r"^kernel k1_bad: %1 \(add %0 %1\): "):
        check(edit(1, args=(0, 1)))


def accepted_mask(b: KernelBuilder) -> None:
    x = b.load("x", flat + 9, b.load("p", flat), 1)
    b.store("out0", flat - 3, x, b.load("p", flat))


def accepted_empty(b: KernelBuilder) -> None:
    empty = b.axis("empty", 0)
    total = b.reduce("sum", b.load("x", empty + 100), ["empty"])
    b.store("out0", i, total)


def accepted_reversal(b: KernelBuilder) -> None:
    b.store("out0", i * -6 - j + 23, b.load("x", (flat + 5) % 24))


@pytest.mark.parametrize("make", [accepted_mask, accepted_empty, accepted_reversal])
def test_indices_that_are_fine(make: Callable[[KernelBuilder], None]) -> None:
    check(built(make))
