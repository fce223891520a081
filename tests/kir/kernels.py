"""Example kernels of every form, with inputs: for tests of the IR and of its renderers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from tests.kir.convolution_kernels import convolution_kernels
from tests.kir.running_kernels import running_kernels

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Kernel

Array = np.ndarray[Any, np.dtype[Any]]
MakeInputs = Callable[[np.random.Generator], dict[str, Array]]
Example = tuple[Kernel, MakeInputs]

_EXAMPLES: dict[str, Callable[[], Example]] = {}


def all_example_kernels() -> dict[str, Example]:
    """Each kernel by name, and what makes fresh arrays for all of its buffers.

    Outputs are filled with a pattern, so that elements that the kernel must leave alone show.
    """
    examples = {name: make() for name, make in _EXAMPLES.items()}
    for name, kernel in (*convolution_kernels().items(), *running_kernels().items()):
        examples[name] = kernel, random_buffers(kernel)
    return examples


def random_buffers(
    kernel: Kernel, integers: dict[str, tuple[int, int]] | None = None
) -> MakeInputs:
    """Inputs for `kernel`; `integers` has the inclusive range of an integer buffer's elements."""
    ranges = integers or {}

    def make(rng: np.random.Generator) -> dict[str, Array]:
        arrays: dict[str, Array] = {}
        for buffer in kernel.buffers:
            if buffer.role == "out":
                arrays[buffer.name] = np.full(buffer.size, 77, buffer.dtype)
            elif buffer.dtype.kind == "b":
                arrays[buffer.name] = rng.integers(0, 2, buffer.size).astype(np.bool_)
            elif buffer.dtype.kind in "iu":
                low, high = ranges.get(buffer.name, (0, 20))
                arrays[buffer.name] = rng.integers(low, high, buffer.size, buffer.dtype, True)
            else:
                arrays[buffer.name] = rng.standard_normal(buffer.size).astype(buffer.dtype)
        return arrays

    return make


def _example(make: Callable[[KernelBuilder], dict[str, tuple[int, int]] | None]) -> None:
    name = make.__name__

    def build() -> Example:
        builder = KernelBuilder(name)
        ranges = make(builder)
        kernel = builder.build()
        return kernel, random_buffers(kernel, ranges)

    _EXAMPLES[name] = build


@_example
def elementwise_broadcast(b: KernelBuilder) -> None:
    """out = tanh(x * scale[j] + row[i]), x of [5, 7]."""
    i, j = b.axis("i", 5), b.axis("j", 7)
    b.buffer("x", np.float32, 35, "in")
    b.buffer("scale", np.float32, 7, "in")
    b.buffer("row", np.float32, 5, "in")
    b.buffer("out0", np.float32, 35, "out")
    scaled = b.elementwise("mul", b.load("x", i * 7 + j), b.load("scale", j))
    shifted = b.elementwise("add", scaled, b.load("row", i))
    b.store("out0", i * 7 + j, b.elementwise("tanh", shifted))


@_example
def elementwise_flat(b: KernelBuilder) -> None:
    """Two outputs of one loop, one of them bool: max(x, 0) and x > 0."""
    i = b.axis("i", 1000)
    b.buffer("x", np.float32, 1000, "in")
    b.buffer("out0", np.float32, 1000, "out")
    b.buffer("out1", np.bool_, 1000, "out")
    x = b.load("x", i)
    zero = b.const(0, np.float32)
    b.store("out0", i, b.elementwise("max", x, zero))
    b.store("out1", i, b.elementwise("gt", x, zero))


@_example
def elementwise_scalar(b: KernelBuilder) -> None:
    """A kernel without axes: out[0] = x[0] * 3 - 1, in float64."""
    b.buffer("x", np.float64, 1, "in")
    b.buffer("out0", np.float64, 1, "out")
    zero = ix.constant(0)
    tripled = b.elementwise("mul", b.load("x", zero), b.const(3, np.float64))
    b.store("out0", zero, b.elementwise("sub", tripled, b.const(1, np.float64)))


@_example
def elementwise_empty(b: KernelBuilder) -> None:
    """An axis of extent 0: nothing is read or written."""
    i, j = b.axis("i", 3), b.axis("j", 0)
    b.buffer("x", np.float32, 0, "in")
    b.buffer("out0", np.float32, 0, "out")
    b.store("out0", i * 0 + j, b.elementwise("exp", b.load("x", j)))


@_example
def elementwise_parts(b: KernelBuilder) -> None:
    """Two parts of one array, each row of which is x and then x * y, and its mirror image."""
    i, j = b.axis("i", 5), b.axis("j", 33)
    for name in ("x", "y"):
        b.buffer(name, np.float32, 165, "in")
    for name in ("out0", "out1"):
        b.buffer(name, np.float32, 330, "out")
    x, y = b.load("x", i * 33 + j), b.load("y", i * 33 + j)
    product = b.elementwise("mul", x, y)
    b.store("out0", i * 66 + j, x)
    b.store("out0", i * 66 + j + 33, product)
    b.store("out1", i * 33 + j + 165, x)
    b.store("out1", i * 33 + j, product)


@_example
def reduced_parts(b: KernelBuilder) -> None:
    """Rows without their maximum, with it behind them."""
    i, j = b.axis("i", 6), b.axis("j", 40)
    b.buffer("x", np.float32, 240, "in")
    b.buffer("out0", np.float32, 246, "out")
    x = b.load("x", i * 40 + j)
    most = b.reduce("max", x, ["j"])
    b.store("out0", i * 41 + j, b.elementwise("sub", x, most))
    b.store("out0", i * 41 + 40, most)


@_example
def elementwise_half(b: KernelBuilder) -> None:
    """bfloat16 in, float16 out, float32 arithmetic."""
    i = b.axis("i", 33)
    b.buffer("x", ml_dtypes.bfloat16, 33, "in")
    b.buffer("out0", np.float16, 33, "out")
    x = b.cast(b.load("x", i), np.float32)
    b.store("out0", i, b.cast(b.elementwise("mul", x, x), np.float16))


@_example
def elementwise_in_place(b: KernelBuilder) -> None:
    """p -= 0.1 * g, where the output may be the memory of p."""
    i = b.axis("i", 50)
    b.buffer("p", np.float32, 50, "in", may_alias=True)
    b.buffer("g", np.float32, 50, "in")
    b.buffer("out0", np.float32, 50, "out", may_alias=True)
    step = b.elementwise("mul", b.load("g", i), b.const(0.1, np.float32))
    b.store("out0", i, b.elementwise("sub", b.load("p", i), step))


@_example
def transpose(b: KernelBuilder) -> None:
    """out[j, i] = x[i, j] in int32, over the axes of the output."""
    j, i = b.axis("j", 9), b.axis("i", 4)
    b.buffer("x", np.int32, 36, "in")
    b.buffer("out0", np.int32, 36, "out")
    b.store("out0", j * 4 + i, b.load("x", i * 9 + j))


@_example
def reshape_of_transpose(b: KernelBuilder) -> None:
    """[4, 6] transposed and reshaped to [8, 3]: quotients and remainders in an index."""
    i, j = b.axis("i", 8), b.axis("j", 3)
    b.buffer("x", np.float32, 24, "in")
    b.buffer("out0", np.float32, 24, "out")
    flat = i * 3 + j
    b.store("out0", flat, b.load("x", flat % 4 * 6 + flat // 4))


@_example
def bits_and_integers(b: KernelBuilder) -> dict[str, tuple[int, int]]:
    """uint32 shifts, bitcast, casts between kinds."""
    i = b.axis("i", 40)
    b.buffer("x", np.uint32, 40, "in")
    b.buffer("out0", np.float32, 40, "out")
    b.buffer("out1", np.int32, 40, "out")
    x = b.load("x", i)
    mantissa = b.elementwise("shift_right_logical", x, b.const(9, np.uint32))
    one = b.elementwise("or", mantissa, b.const(0x3F800000, np.uint32))
    uniform = b.elementwise("sub", b.bitcast(one, np.float32), b.const(1, np.float32))
    b.store("out0", i, uniform)
    b.store("out1", i, b.cast(b.elementwise("mul", uniform, b.const(100, np.float32)), np.int32))
    return {"x": (0, 2**32 - 1)}


@_example
def softmax(b: KernelBuilder) -> None:
    """Rows of [6, 10]: max, exp and sum, divide, three phases."""
    i, j = b.axis("i", 6), b.axis("j", 10)
    b.buffer("x", np.float32, 60, "in")
    b.buffer("out0", np.float32, 60, "out")
    x = b.load("x", i * 10 + j)
    shifted = b.elementwise("sub", x, b.reduce("max", x, ["j"]))
    exponent = b.elementwise("exp", shifted)
    total = b.reduce("sum", exponent, ["j"])
    b.store("out0", i * 10 + j, b.elementwise("div", exponent, total))


@_example
def layer_norm(b: KernelBuilder) -> None:
    """Rows of [5, 16] with scale and bias; also stores each row's mean."""
    i, j = b.axis("i", 5), b.axis("j", 16)
    for name, size in (("x", 80), ("scale", 16), ("bias", 16)):
        b.buffer(name, np.float32, size, "in")
    b.buffer("out0", np.float32, 80, "out")
    b.buffer("out1", np.float32, 5, "out")
    share = b.const(1 / 16, np.float32)
    x = b.load("x", i * 16 + j)
    mean = b.elementwise("mul", b.reduce("sum", x, ["j"]), share)
    centred = b.elementwise("sub", x, mean)
    squares = b.reduce("sum", b.elementwise("mul", centred, centred), ["j"])
    variance = b.elementwise("add", b.elementwise("mul", squares, share), b.const(1e-5, np.float32))
    normal = b.elementwise("mul", centred, b.elementwise("rsqrt", variance))
    scaled = b.elementwise("mul", normal, b.load("scale", j))
    b.store("out0", i * 16 + j, b.elementwise("add", scaled, b.load("bias", j)))
    b.store("out1", i, mean)


@_example
def column_sum(b: KernelBuilder) -> None:
    """Sum of [20, 9] over rows: the reduced axis leads."""
    i, j = b.axis("i", 20), b.axis("j", 9)
    b.buffer("x", np.float32, 180, "in")
    b.buffer("out0", np.float32, 9, "out")
    b.store("out0", j, b.reduce("sum", b.load("x", i * 9 + j), ["i"]))


@_example
def middle_max(b: KernelBuilder) -> None:
    """Maximum and minimum of [3, 8, 5] over the middle axis."""
    i, j, k = b.axis("i", 3), b.axis("j", 8), b.axis("k", 5)
    b.buffer("x", np.float32, 120, "in")
    b.buffer("out0", np.float32, 15, "out")
    b.buffer("out1", np.float32, 15, "out")
    x = b.load("x", i * 40 + j * 5 + k)
    b.store("out0", i * 5 + k, b.reduce("max", x, ["j"]))
    b.store("out1", i * 5 + k, b.reduce("min", x, ["j"]))


@_example
def batch_norm_statistics(b: KernelBuilder) -> None:
    """Sum and sum of squares over n, h, w of NHWC [2, 4, 4, 3]."""
    n, h, w, c = b.axis("n", 2), b.axis("h", 4), b.axis("w", 4), b.axis("c", 3)
    b.buffer("x", np.float32, 96, "in")
    b.buffer("out0", np.float32, 3, "out")
    b.buffer("out1", np.float32, 3, "out")
    x = b.load("x", n * 48 + h * 12 + w * 3 + c)
    b.store("out0", c, b.reduce("sum", x, ["n", "h", "w"]))
    b.store("out1", c, b.reduce("sum", b.elementwise("mul", x, x), ["n", "h", "w"]))


@_example
def full_reduce(b: KernelBuilder) -> None:
    """Whether all of [4, 25] is finite, and the sum: every axis is reduced."""
    i, j = b.axis("i", 4), b.axis("j", 25)
    b.buffer("x", np.float64, 100, "in")
    b.buffer("out0", np.bool_, 1, "out")
    b.buffer("out1", np.float64, 1, "out")
    x = b.load("x", i * 25 + j)
    zero = ix.constant(0)
    b.store("out0", zero, b.reduce("and", b.elementwise("is_finite", x), ["i", "j"]))
    b.store("out1", zero, b.reduce("sum", x, ["i", "j"]))


@_example
def empty_reduce(b: KernelBuilder) -> None:
    """Reductions over an axis of extent 0 give their identities."""
    i, j = b.axis("i", 3), b.axis("j", 0)
    b.buffer("x", np.float32, 0, "in")
    for number in range(3):
        b.buffer(f"out{number}", np.float32, 3, "out")
    x = b.load("x", j)
    b.store("out0", i, b.reduce("sum", x, ["j"]))
    b.store("out1", i, b.reduce("prod", x, ["j"]))
    b.store("out2", i, b.reduce("max", x, ["j"]))


@_example
def argmax_rows(b: KernelBuilder) -> None:
    """Position of the maximum in each row of [7, 11]; ties go to the first."""
    i, j = b.axis("i", 7), b.axis("j", 11)
    b.buffer("x", np.float32, 77, "in")
    b.buffer("out0", np.int32, 7, "out")
    rounded = b.elementwise("round_even", b.load("x", i * 11 + j))
    b.store("out0", i, b.reduce("argmax", rounded, ["j"], np.int32))


@_example
def argmin_columns(b: KernelBuilder) -> dict[str, tuple[int, int]]:
    """Position of the minimum in each column of [6, 5], int32 to int64."""
    i, j = b.axis("i", 6), b.axis("j", 5)
    b.buffer("x", np.int32, 30, "in")
    b.buffer("out0", np.int64, 5, "out")
    b.store("out0", j, b.reduce("argmin", b.load("x", i * 5 + j), ["i"], np.int64))
    return {"x": (-2, 2)}


@_example
def integer_product(b: KernelBuilder) -> dict[str, tuple[int, int]]:
    """An int32 matrix product [4, 6] @ [6, 5] as multiply and sum."""
    i, j, k = b.axis("i", 4), b.axis("j", 5), b.axis("k", 6)
    b.buffer("x", np.int32, 24, "in")
    b.buffer("y", np.int32, 30, "in")
    b.buffer("out0", np.int32, 20, "out")
    product = b.elementwise("mul", b.load("x", i * 6 + k), b.load("y", k * 5 + j))
    b.store("out0", i * 5 + j, b.reduce("sum", product, ["k"]))
    return {"x": (-9, 9), "y": (-9, 9)}


@_example
def pad(b: KernelBuilder) -> None:
    """[4, 5] padded with -1 by (1, 2) rows and (2, 0) columns, by a masked load."""
    i, j = b.axis("i", 7), b.axis("j", 7)
    b.buffer("x", np.float32, 20, "in")
    b.buffer("out0", np.float32, 49, "out")
    zero, four = b.const(0, np.int32), b.const(4, np.int32)
    row, column = b.index_value(i - 1), b.index_value(j - 2)
    inside = b.elementwise("and", b.elementwise("ge", row, zero), b.elementwise("lt", row, four))
    inside = b.elementwise("and", inside, b.elementwise("ge", column, zero))
    b.store("out0", i * 7 + j, b.load("x", i * 5 + j - 7, inside, -1))


@_example
def update_window(b: KernelBuilder) -> None:
    """Writes a [2, 3] window of a [5, 6] buffer, and only where the new value is positive."""
    i, j = b.axis("i", 2), b.axis("j", 3)
    b.buffer("x", np.float32, 6, "in")
    b.buffer("out0", np.float32, 30, "inout")
    x = b.load("x", i * 3 + j)
    b.store("out0", i * 6 + j + 13, x, b.elementwise("gt", x, b.const(0, np.float32)))


@_example
def gather_rows(b: KernelBuilder) -> dict[str, tuple[int, int]]:
    """Rows of a [8, 5] table by clamped positions: an embedding."""
    i, j = b.axis("i", 12), b.axis("j", 5)
    b.buffer("table", np.float32, 40, "in")
    b.buffer("positions", np.int32, 12, "in")
    b.buffer("out0", np.float32, 60, "out")
    wanted = b.elementwise("max", b.load("positions", i), b.const(0, np.int32))
    row = b.position(b.elementwise("min", wanted, b.const(7, np.int32)), 0, 7)
    b.store("out0", i * 5 + j, b.load("table", row * 5 + j))
    return {"positions": (-3, 11)}


@_example
def cross_entropy(b: KernelBuilder) -> dict[str, tuple[int, int]]:
    """log-sum-exp of each row of [6, 10] minus the entry at the label."""
    i, j = b.axis("i", 6), b.axis("j", 10)
    b.buffer("x", np.float32, 60, "in")
    b.buffer("labels", np.int32, 6, "in")
    b.buffer("out0", np.float32, 6, "out")
    x = b.load("x", i * 10 + j)
    top = b.reduce("max", x, ["j"])
    total = b.reduce("sum", b.elementwise("exp", b.elementwise("sub", x, top)), ["j"])
    label = b.position(b.load("labels", i), 0, 9)
    chosen = b.elementwise("sub", top, b.load("x", i * 10 + label))
    b.store("out0", i, b.elementwise("add", b.elementwise("log", total), chosen))
    return {"labels": (0, 9)}


@_example
def dot_bias_relu(b: KernelBuilder) -> None:
    """relu(x @ w + bias), [9, 13] @ [13, 6]."""
    m, n, k = b.axis("m", 9), b.axis("n", 6), b.axis("k", 13)
    for name, size in (("x", 117), ("w", 78), ("bias", 6)):
        b.buffer(name, np.float32, size, "in")
    b.buffer("out0", np.float32, 54, "out")
    product = b.dot(b.load("x", m * 13 + k), b.load("w", k * 6 + n), "m", "n", "k")
    shifted = b.elementwise("add", product, b.load("bias", n))
    b.store("out0", m * 6 + n, b.elementwise("max", shifted, b.const(0, np.float32)))


@_example
def dot_transposed(b: KernelBuilder) -> None:
    """xᵀ @ wᵀ in float64 with a computed left operand, [7, 4]ᵀ @ [5, 7]ᵀ."""
    m, n, k = b.axis("m", 4), b.axis("n", 5), b.axis("k", 7)
    b.buffer("x", np.float64, 28, "in")
    b.buffer("w", np.float64, 35, "in")
    b.buffer("out0", np.float64, 20, "out")
    lhs = b.elementwise("exp", b.load("x", k * 4 + m))
    b.store("out0", m * 5 + n, b.dot(lhs, b.load("w", n * 7 + k), "m", "n", "k"))


@_example
def dot_half(b: KernelBuilder) -> None:
    """bfloat16 operands, float32 product, bfloat16 result, [8, 16] @ [16, 8]."""
    m, n, k = b.axis("m", 8), b.axis("n", 8), b.axis("k", 16)
    b.buffer("x", ml_dtypes.bfloat16, 128, "in")
    b.buffer("w", ml_dtypes.bfloat16, 128, "in")
    b.buffer("out0", ml_dtypes.bfloat16, 64, "out")
    lhs = b.cast(b.load("x", m * 16 + k), np.float32)
    rhs = b.cast(b.load("w", k * 8 + n), np.float32)
    product = b.dot(lhs, rhs, "m", "n", "k")
    b.store("out0", m * 8 + n, b.cast(product, ml_dtypes.bfloat16))


@_example
def batched_dot(b: KernelBuilder) -> None:
    """[3, 4, 5] @ [3, 5, 6], scaled."""
    batch, m, n, k = b.axis("b", 3), b.axis("m", 4), b.axis("n", 6), b.axis("k", 5)
    b.buffer("x", np.float32, 60, "in")
    b.buffer("y", np.float32, 90, "in")
    b.buffer("out0", np.float32, 72, "out")
    lhs, rhs = b.load("x", batch * 20 + m * 5 + k), b.load("y", batch * 30 + k * 6 + n)
    scaled = b.elementwise("mul", b.dot(lhs, rhs, "m", "n", "k"), b.const(0.5, np.float32))
    b.store("out0", batch * 24 + m * 6 + n, scaled)


@_example
def matrix_vector(b: KernelBuilder) -> None:
    """[7, 12] @ [12]: n has extent 1, and nothing varies over it."""
    m, n, k = b.axis("m", 7), b.axis("n", 1), b.axis("k", 12)
    b.buffer("x", np.float32, 84, "in")
    b.buffer("v", np.float32, 12, "in")
    b.buffer("out0", np.float32, 7, "out")
    b.store("out0", m + n, b.dot(b.load("x", m * 12 + k), b.load("v", k + n), "m", "n", "k"))


@_example
def dot_momentum(b: KernelBuilder) -> None:
    """A weight gradient xᵀ @ g with the momentum step as epilogue, in place: two outputs."""
    m, n, k = b.axis("m", 6), b.axis("n", 5), b.axis("k", 8)
    b.buffer("x", np.float32, 48, "in")
    b.buffer("g", np.float32, 40, "in")
    for name in ("w", "v"):
        b.buffer(name, np.float32, 30, "in", may_alias=True)
    for name in ("out0", "out1"):
        b.buffer(name, np.float32, 30, "out", may_alias=True)
    gradient = b.dot(b.load("x", k * 6 + m), b.load("g", k * 5 + n), "m", "n", "k")
    at = m * 5 + n
    decayed = b.elementwise("mul", b.load("v", at), b.const(0.9, np.float32))
    velocity = b.elementwise("add", decayed, gradient)
    step = b.elementwise("mul", velocity, b.const(0.1, np.float32))
    b.store("out0", at, b.elementwise("sub", b.load("w", at), step))
    b.store("out1", at, velocity)


@_example
def scatter_add(b: KernelBuilder) -> dict[str, tuple[int, int]]:
    """Adds [12, 5] rows to the rows of an [8, 5] table; positions outside are left out."""
    i, j = b.axis("i", 12), b.axis("j", 5)
    b.buffer("updates", np.float32, 60, "in")
    b.buffer("positions", np.int32, 12, "in")
    b.buffer("out0", np.float32, 40, "inout")
    row = b.load("positions", i)
    inside = b.elementwise(
        "and",
        b.elementwise("ge", row, b.const(0, np.int32)),
        b.elementwise("le", row, b.const(7, np.int32)),
    )
    index = b.position(row, 0, 7) * 5 + j
    b.atomic_update("add", "out0", index, b.load("updates", i * 5 + j), inside)
    return {"positions": (-2, 9)}


@_example
def scatter_set(b: KernelBuilder) -> dict[str, tuple[int, int]]:
    """Sets elements in order, so that of two updates of one element the last stays."""
    i = b.axis("i", 15)
    b.buffer("updates", np.int32, 15, "in")
    b.buffer("positions", np.int32, 15, "in")
    b.buffer("out0", np.int32, 6, "inout")
    index = b.position(b.load("positions", i), 0, 5)
    b.atomic_update("set", "out0", index, b.load("updates", i))
    return {"positions": (0, 5)}


@_example
def scatter_max(b: KernelBuilder) -> dict[str, tuple[int, int]]:
    """Running maximum of each class."""
    i = b.axis("i", 20)
    b.buffer("updates", np.float32, 20, "in")
    b.buffer("classes", np.int32, 20, "in")
    b.buffer("out0", np.float32, 4, "inout")
    index = b.position(b.load("classes", i), 0, 3)
    b.atomic_update("max", "out0", index, b.load("updates", i))
    return {"classes": (0, 3)}
