"""Kernels that the C renderer is tried on, beside the examples of every form in tests/kir."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
from tests.kir.kernels import Example, MakeInputs, all_example_kernels, random_buffers

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Kernel, ReduceOp
from funcdl.ops import arithmetic, bits, exponential  # noqa: F401  (their rows have C templates)

Array = np.ndarray[Any, np.dtype[Any]]

F32, F64, BOOL = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.bool_)
BF16, F16 = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)
INTEGERS = [np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)]

ORDER_OPS: list[ReduceOp] = ["max", "min", "argmax", "argmin"]
BOOL_OPS: list[ReduceOp] = ["and", "or", *ORDER_OPS]
INTEGER_OPS: list[ReduceOp] = ["sum", "prod", *BOOL_OPS]


def all_cases() -> dict[str, Example]:
    """Each kernel by name, and what makes arrays for its buffers."""
    cases = all_example_kernels()
    for example in [*_reductions(), *_layouts(), *_conversions(), *_dots(), *_odd_names()]:
        assert example[0].name not in cases
        cases[example[0].name] = example
    return cases


def reductions(
    name: str, ops: Sequence[ReduceOp], shape: tuple[int, ...], axes: str, dtype: np.dtype = F32
) -> KernelBuilder:
    """``out<number> = op(x, axes)`` for each op, of an array with axes i, j, k, l."""
    b = KernelBuilder(name)
    positions = [b.axis(axis, extent) for axis, extent in zip("ijkl", shape, strict=False)]
    b.buffer("x", dtype, prod(shape), "in")
    x = b.load("x", row_major(positions, shape))
    left = [at for at, axis in enumerate("ijkl"[: len(shape)]) if axis not in axes]
    out_shape = tuple(shape[at] for at in left)
    at = row_major([positions[at] for at in left], out_shape)
    for number, op in enumerate(ops):
        result = b.reduce(op, x, axes)
        b.buffer(f"out{number}", b.type_of(result).dtype, prod(out_shape), "out")
        b.store(f"out{number}", at, result)
    return b


def reduction(
    name: str, op: ReduceOp, shape: tuple[int, ...], axes: str, dtype: np.dtype = F32
) -> KernelBuilder:
    return reductions(name, [op], shape, axes, dtype)


def row_major(positions: list[ix.Index], shape: tuple[int, ...]) -> ix.Index:
    index = ix.constant(0)
    for position, extent in zip(positions, shape, strict=True):
        index = index * extent + position
    return index


def special_values(make: MakeInputs) -> MakeInputs:
    """Inputs with NaN, infinities, ties and zeros of both signs sprinkled over them."""

    def made(rng: np.random.Generator) -> dict[str, Array]:
        arrays = make(rng)
        for name, array in arrays.items():
            if array.dtype.kind == "f" and name.startswith("x"):
                values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 1.0], array.dtype)
                where = rng.random(array.size) < 0.2
                array[where] = rng.choice(values, where.sum())
                array[: array.size // 4] = -np.inf  # a run of equal values
        return arrays

    return made


def _example(b: KernelBuilder, **ranges: tuple[int, int]) -> Example:
    kernel = b.build()
    return kernel, random_buffers(kernel, ranges)


def _reductions() -> Iterator[Example]:
    for op in ("sum", "max", "argmin"):
        yield _example(reduction(f"long_rows_{op}", op, (2, 100_003), "j"))
    yield _example(reduction("four_axes", "sum", (3, 40, 9, 21), "ik"))
    yield _example(reduction("blocks_of_rows", "sum", (50, 60, 3, 2), "ijk"))
    yield _example(reduction("three_columns", "sum", (700, 3), "i"))
    yield _example(reduction("one_column", "prod", (9, 1), "i"))
    yield _example(reduction("column_sums", "sum", (1100, 301), "i", F64))
    yield _example(reduction("scalar_max", "max", (37,), "i"))
    for dtype in INTEGERS:
        ends = np.iinfo(dtype)
        for axes in "ij":
            b = reductions(f"{dtype.name}_{axes}", INTEGER_OPS, (7, 35), axes, dtype)
            yield _example(b, x=(int(ends.min), int(ends.max)))
    for axes in "ij":
        yield _example(reductions(f"bool_{axes}", BOOL_OPS, (5, 19), axes, BOOL))
        for dtype in (F32, F64):
            b = reductions(f"special_{axes}_{dtype.name}", ORDER_OPS, (33, 20), axes, dtype)
            kernel, make = _example(b)
            yield kernel, special_values(make)
    yield _example(reduction("complex_sum", "sum", (6, 9), "j", np.dtype(np.complex64)))
    yield from (softmax("softmax_columns", 37, 301, "i"), softmax("softmax_long", 2, 9000, "j"))
    yield from (softmax("softmax_in_place", 12, 50, "j", True), _weighted_mean(), _constant_rows())
    yield _argmax_of_exp()


def softmax(name: str, rows: int, columns: int, axis: str, in_place: bool = False) -> Example:
    b = KernelBuilder(name)
    i, j = b.axis("i", rows), b.axis("j", columns)
    b.buffer("x", F32, rows * columns, "in", may_alias=in_place)
    b.buffer("out0", F32, rows * columns, "out", may_alias=in_place)
    at = i * columns + j
    x = b.load("x", at)
    exponent = b.elementwise("exp", b.elementwise("sub", x, b.reduce("max", x, axis)))
    b.store("out0", at, b.elementwise("div", exponent, b.reduce("sum", exponent, axis)))
    return _example(b)


def _weighted_mean() -> Example:
    """Columns, with reductions that do not vary over the columns, and what follows from both."""
    b = KernelBuilder("weighted_mean")
    i, j = b.axis("i", 30), b.axis("j", 21)
    for name, size in (("x", 630), ("w", 30), ("offset", 21)):
        b.buffer(name, F32, size, "in")
    for name, size in (("out0", 21), ("out1", 630), ("out2", 1)):
        b.buffer(name, F32, size, "out")
    x, w = b.load("x", i * 21 + j), b.elementwise("exp", b.load("w", i))
    offset = b.elementwise("tanh", b.load("offset", j))
    total = b.reduce("sum", w, "i")
    mean = b.elementwise("div", b.reduce("sum", b.elementwise("mul", x, w), "i"), total)
    away = b.elementwise("sub", b.elementwise("add", x, offset), b.elementwise("exp", mean))
    spread = b.reduce("max", b.elementwise("mul", away, away), "i")
    b.store("out0", j, b.elementwise("add", spread, offset))
    b.store("out1", i * 21 + j, b.elementwise("div", away, spread))
    b.store("out2", ix.constant(0), total)
    return _example(b)


def _constant_rows() -> Example:
    """Sums over an axis along which the terms, or some of them, do not change."""
    b = KernelBuilder("constant_rows")
    i, j, k = b.axis("i", 4), b.axis("j", 6), b.axis("k", 5)
    b.buffer("x", F32, 4, "in")
    b.buffer("y", F32, 6, "in")
    b.buffer("out0", F32, 4, "out")
    b.buffer("out1", F32, 4, "out")
    x, y = b.load("x", i), b.load("y", j)
    b.store("out0", i, b.reduce("sum", x, "jk"))
    b.store("out1", i, b.reduce("sum", b.elementwise("mul", x, y), "jk"))
    iota = b.reduce("max", b.index_value(i * 7 - j + k), "jk")
    b.buffer("out2", np.int32, 4, "out")
    b.store("out2", i, iota)
    return _example(b)


def _argmax_of_exp() -> Example:
    """A search for a maximum of what is dear to compute, beside a sum of it."""
    b = KernelBuilder("argmax_of_exp")
    i, j = b.axis("i", 9), b.axis("j", 70)
    b.buffer("x", F32, 630, "in")
    b.buffer("out0", np.int64, 9, "out")
    b.buffer("out1", F32, 9, "out")
    exponent = b.elementwise("exp", b.load("x", i * 70 + j))
    b.store("out0", i, b.reduce("argmax", exponent, "j", np.int64))
    b.store("out1", i, b.reduce("sum", exponent, "j"))
    return _example(b)


def _layouts() -> Iterator[Example]:
    b = KernelBuilder("long_pointwise")
    i, j = b.axis("i", 3), b.axis("j", 25_001)
    b.buffer("x", F32, 75_003, "in")
    b.buffer("scale", F32, 3, "in")
    b.buffer("out0", F32, 75_003, "out")
    b.buffer("out1", F32, 3, "out")
    scale = b.elementwise("exp", b.load("scale", i))
    b.store("out0", i * 25_001 + j, b.elementwise("mul", b.load("x", i * 25_001 + j), scale))
    b.store("out1", i, scale)
    yield _example(b)

    yield transpose("long_transpose", 67, 2, 259)

    b = KernelBuilder("negative_quotients")
    i = b.axis("i", 50)
    b.buffer("x", F32, 25, "in")
    for name, dtype in (("out0", np.int32), ("out1", np.int64), ("out2", F32)):
        b.buffer(name, dtype, 50, "out")
    b.store("out0", i, b.index_value((i * 3 - 70) // 4))
    b.store("out1", i, b.index_value((i - 31) % 7 * 2 - (i - 20) // 9, np.int64))
    b.store("out2", i, b.load("x", (i - 25) // 4 + 7 + i % 2))
    yield _example(b)

    b = KernelBuilder("gather_elements")
    i, j = b.axis("i", 6), b.axis("j", 11)
    b.buffer("x", F64, 30, "in")
    b.buffer("at", np.int64, 66, "in")
    b.buffer("out0", F64, 66, "out")
    at = b.load("at", i * 11 + j)
    inside = b.elementwise("lt", at, b.const(5, np.int64))
    b.store("out0", i * 11 + j, b.load("x", i * 5 + b.position(at, 0, 4), inside, np.nan))
    yield _example(b, at=(0, 7))

    b = KernelBuilder("nothing_but_an_unused_buffer")
    b.axis("i", 5)
    b.buffer("x", F32, 5, "in")
    b.buffer("out0", np.int32, 1, "out")
    b.store("out0", ix.constant(0), b.const(-(2**31), np.int32))
    yield _example(b)


def transpose(name: str, rows: int, middle: int, columns: int) -> Example:
    """``out0[j, h, i] = x[h, i, j]``, over the axes of the output."""
    b = KernelBuilder(name)
    j, h, i = b.axis("j", rows), b.axis("h", middle), b.axis("i", columns)
    size = rows * middle * columns
    b.buffer("x", F32, size, "in")
    b.buffer("out0", F32, size, "out")
    x = b.load("x", h * (columns * rows) + i * rows + j)
    b.store("out0", j * (middle * columns) + h * columns + i, x)
    return _example(b)


def _conversions() -> Iterator[Example]:
    """Casts from every type to every other, of values at and past the ends of the range."""
    dtypes = [BOOL, *INTEGERS, F16, BF16, F32, F64]
    for source in dtypes:
        b = KernelBuilder(f"from_{source.name}")
        i = b.axis("i", 41)
        b.buffer("x", source, 41, "in")
        x = b.load("x", i)
        for target in dtypes:
            name = f"to_{target.name}"
            b.buffer(name, target, 41, "out")
            b.store(name, i, b.cast(x, target))
        yield b.build(), _wide_inputs(source, dtypes)
    b = KernelBuilder("bitcasts")
    i = b.axis("i", 9)
    for number, (source, target) in enumerate([("f4", "i4"), ("u8", "f8"), ("i2", "u2")]):
        b.buffer(f"x{number}", source, 9, "in")
        b.buffer(f"out{number}", target, 9, "out")
        b.store(f"out{number}", i, b.bitcast(b.load(f"x{number}", i), target))
    yield _example(b)
    b = KernelBuilder("constants")
    floats = [(-0.0, "f4"), (np.nan, "f8"), (-np.inf, "f4"), (0.1, "f8"), (1e-45, "f4")]
    ends = [(2**64 - 1, "u8"), (-(2**63), "i8"), (-(2**31), "i4"), (-128, "i1"), (2**32 - 1, "u4")]
    for number, (value, dtype) in enumerate([*floats, *ends, (True, "?")]):
        b.buffer(f"out{number}", dtype, 1, "out")
        b.store(f"out{number}", ix.constant(0), b.const(value, dtype))
    yield _example(b)


def _wide_inputs(source: np.dtype, targets: list[np.dtype]) -> MakeInputs:
    def make(rng: np.random.Generator) -> dict[str, Array]:
        if source.kind in "biu":
            x = rng.integers(0, 2, 41) if source == BOOL else _spread(rng, source)
        else:
            values = [
                0.0,
                -0.0,
                0.49,
                -0.99,
                1.5,
                -2.5,
                1e-8,
                np.nan,
                np.inf,
                -np.inf,
                65504,
                65520,
            ]
            values += [s * 2.0**p for s in (1, -1) for p in (7, 8, 15, 16, 31, 32, 63, 64)]
            x = np.resize(np.array(values), 41) * np.where(np.arange(41) < 28, 1, 0.999)
        arrays = {f"to_{t.name}": np.zeros(41, t) for t in targets}
        with np.errstate(all="ignore"):
            return {"x": x.astype(source)} | arrays

    return make


def _spread(rng: np.random.Generator, dtype: np.dtype) -> Array:
    """Integers of every magnitude, and the ends of the range."""
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, 41, dtype, endpoint=True)
    x >>= rng.integers(0, info.bits, 41).astype(dtype)
    x[:2] = info.min, info.max
    return x


def dot(
    name: str,
    m: int,
    n: int,
    k: int,
    *,
    batch: int = 0,
    batched_rhs: bool = True,
    transposed: tuple[bool, bool] = (False, False),
    dtype: np.dtype = F32,
    prologue: str = "",
    epilogue: bool = False,
) -> Kernel:
    """``x @ y`` and, with `epilogue`, ``tanh(x @ y + bias)`` beside its sign, where it is large."""
    b = KernelBuilder(name)
    at_b = b.axis("b", batch) if batch else ix.constant(0)
    at_m, at_n, at_k = b.axis("m", m), b.axis("n", n), b.axis("k", k)
    x_index = at_k * m + at_m if transposed[0] else at_m * k + at_k
    y_index = at_n * k + at_k if transposed[1] else at_k * n + at_n
    y_index += at_b * (n * k if batched_rhs else 0)
    b.buffer("x", dtype, max(1, batch) * m * k, "in")
    b.buffer("y", dtype, (max(1, batch) if batched_rhs else 1) * k * n, "in")
    x, y = b.load("x", x_index + at_b * (m * k)), b.load("y", y_index)
    x, y = (b.cast(v, F32) if dtype.itemsize == 2 else v for v in (x, y))
    if "x" in prologue:
        b.buffer("row", F32, m, "in")
        x = b.elementwise("exp", b.elementwise("mul", x, b.load("row", at_m)))
    if "y" in prologue:
        even = b.elementwise("eq", b.index_value(at_k % 2), b.const(0, np.int32))
        y = b.load("y", y_index, even, 0.5)
    value = b.dot(x, y, "m", "n", "k")
    out_index = at_b * (m * n) + at_m * n + at_n
    size = max(1, batch) * m * n
    if epilogue:
        b.buffer("bias", b.type_of(value).dtype, n, "in")
        b.buffer("out1", BOOL, size, "out")
        b.buffer("out2", b.type_of(value).dtype, n, "out")
        value = b.elementwise("tanh", b.elementwise("add", value, b.load("bias", at_n)))
        half = b.const(0.5, b.type_of(value).dtype)
        large = b.elementwise("ge", b.elementwise("mul", value, value), half)
        b.store("out1", out_index, b.elementwise("gt", value, half), large)
        b.store("out2", at_n, b.elementwise("exp", b.load("bias", at_n)))
    if dtype.itemsize == 2:
        value = b.cast(value, dtype)
    b.buffer("out0", dtype, size, "out")
    b.store("out0", out_index, value)
    return b.build()


def dot_update(name: str, m: int, n: int, k: int) -> Kernel:
    """``p -= scale * (x.T @ y)`` in place, where `scale` is an array that is only read."""
    b = KernelBuilder(name)
    at_m, at_n, at_k = b.axis("m", m), b.axis("n", n), b.axis("k", k)
    b.buffer("x", F32, k * m, "in")
    b.buffer("y", F32, k * n, "in")
    b.buffer("scale", F32, m * n, "in")
    b.buffer("p", F32, m * n, "in", may_alias=True)
    b.buffer("out0", F32, m * n, "out", may_alias=True)
    product = b.dot(b.load("x", at_k * m + at_m), b.load("y", at_k * n + at_n), "m", "n", "k")
    at = at_m * n + at_n
    step = b.elementwise("mul", b.load("scale", at), product)
    b.store("out0", at, b.elementwise("sub", b.load("p", at), step))
    return b.build()


def _dots() -> Iterator[Example]:
    both: list[tuple[bool, bool]] = [(a, b) for a in (False, True) for b in (False, True)]
    make: list[Kernel] = []
    for t in both:
        name = f"{'t' if t[0] else 'n'}{'t' if t[1] else 'n'}"
        make.append(dot(f"dot_{name}", 13, 130, 21, transposed=t, epilogue=True))
        make.append(dot(f"dot_values_{name}", 14, 99, 20, transposed=t, prologue="xy"))
        make.append(dot(f"dot_half_{name}", 17, 18, 19, transposed=t, dtype=BF16))
        make.append(dot(f"dot_tiny_{name}", 4, 4, 6, batch=40, transposed=t, epilogue=True))
        make.append(dot(f"dot_small_{name}", 7, 8, 8, batch=9, transposed=t, epilogue=True))
        make.append(dot(f"dot_thin_{name}", 1, 300, 19, transposed=t, epilogue=True))
        make.append(dot(f"dot_narrow_{name}", 300, 1, 19, transposed=t))
    make.append(dot("dot_f64", 25, 33, 41, dtype=F64, epilogue=True))
    make.append(dot("dot_one", 1, 1, 1))
    make.append(dot("dot_no_terms", 3, 4, 0, epilogue=True))
    make.append(dot("dot_no_rows", 0, 4, 5))
    make.append(dot("dot_deep", 100, 97, 800))
    make.append(dot("dot_batch", 9, 10, 11, batch=3, epilogue=True, prologue="x"))
    make.append(dot("dot_many", 9, 10, 50, batch=40, prologue="y"))
    make.append(dot("dot_shared_rhs", 9, 10, 11, batch=3, batched_rhs=False))
    make.append(dot("dot_many_shared_rhs", 9, 10, 50, batch=40, batched_rhs=False))
    make.append(dot_update("dot_update", 41, 130, 12))
    for t in both[:2]:
        name = f"n{'t' if t[1] else 'n'}"
        make.append(dot(f"dot_along_{name}", 21, 11, 83, transposed=t, epilogue=True))
        make.append(dot(f"dot_along_f64_{name}", 22, 5, 41, transposed=t, dtype=F64, batch=3))
        make.append(dot(f"dot_along_far_{name}", 5, 7, 5000, transposed=t))
    make.append(dot("dot_column", 71, 1, 100))
    make.append(dot("dot_two_columns", 71, 2, 100, epilogue=True))
    make.append(dot("dot_direct", 21, 97, 40))
    make.append(dot("dot_direct_f64", 21, 97, 40, dtype=F64))
    make.append(dot("dot_direct_packed", 21, 96, 40, transposed=(True, True), batch=2))
    yield from ((kernel, random_buffers(kernel)) for kernel in make)


def _odd_names() -> Iterator[Example]:
    """Names that C or the renderer has taken."""
    b = KernelBuilder("odd_names")
    i, j = b.axis("for", 6), b.axis("v1", 7)
    b.buffer("int", F32, 42, "in")
    b.buffer("acc2", F32, 6, "in")
    b.buffer("for_", F32, 42, "out")
    x = b.load("int", i * 7 + j)
    total = b.reduce("sum", b.elementwise("mul", x, b.load("acc2", i)), ["v1"])
    b.store("for_", i * 7 + j, b.elementwise("div", x, total))
    yield _example(b)
