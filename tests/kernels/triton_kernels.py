"""Kernels that the Triton tests render, run and compile, each with its inputs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from unittest.mock import patch

import ml_dtypes
import numpy as np
from tests.kir.kernels import all_example_kernels

from funcdl.compiler.cuda.schedule import Knobs, schedule_gpu
from funcdl.kernels.triton import blocks
from funcdl.kernels.triton.render import render_kernel
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.kir import elementwise
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Dot, DotPrecision, Kernel, Running
from funcdl.kir.schedule import Schedule, Step

F32 = np.dtype(np.float32)
BF16 = np.dtype(ml_dtypes.bfloat16)

ROWS = {
    "add": (2, np.add, "{0} + {1}"),
    "sub": (2, np.subtract, "{0} - {1}"),
    "mul": (2, np.multiply, "{0} * {1}"),
    "div": (2, np.divide, "{0} / {1}"),
    "max": (2, np.maximum, "tl.maximum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)"),
    "exp": (1, np.exp, "libdevice.exp({0})"),
    "sqrt": (1, np.sqrt, "tl.sqrt_rn({0})"),
    "tanh": (1, np.tanh, "libdevice.tanh({0})"),
    "xor": (2, np.bitwise_xor, "{0} ^ {1}"),
    "and": (2, np.bitwise_and, "{0} & {1}"),
    "le": (2, np.less_equal, "{0} <= {1}"),
    "lt": (2, np.less, "{0} < {1}"),
    "eq": (2, np.equal, "{0} == {1}"),
    "ge": (2, np.greater_equal, "{0} >= {1}"),
    "gt": (2, np.greater, "{0} > {1}"),
    "min": (2, np.minimum, "tl.minimum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)"),
    "or": (2, np.bitwise_or, "{0} | {1}"),
    "log": (1, np.log, "tl.log({0})"),
    "log1p": (1, np.log1p, "libdevice.log1p({0})"),
    "floor": (1, np.floor, "tl.floor({0})"),
    "rsqrt": (1, lambda x: 1 / np.sqrt(x), "tl.rsqrt({0})"),
    "round_even": (1, np.round, "libdevice.nearbyint({0})"),
    "is_finite": (1, np.isfinite, "({0} - {0} == 0)"),
    "shift_right_logical": (2, np.right_shift, "{0} >> {1}"),
    "digamma": (1, np.copy, None),
    "clz": (1, np.copy, lambda dtype: _only_wide(dtype)),
}


# No two sides of a block are equal: square ones would hide a transposed operand.
TILES = ((16, 32, 64), (32, 64, 16), (64, 16, 32))


def _only_wide(dtype: np.dtype) -> str:
    raise NotImplementedError(f"Triton cannot count the bits of {dtype.name}")


def own_table() -> dict[str, elementwise.ElementwiseOp]:
    """An elementwise table for these tests, which judge the renderer and not the op registry."""
    return {
        name: elementwise.ElementwiseOp(name, arity, numpy, None, triton)
        for name, (arity, numpy, triton) in ROWS.items()
    }


@dataclass
class Case:
    """A kernel, its schedule, and what its integer inputs may be at most."""

    kernel: Kernel
    schedule: Schedule
    high: int = 100
    special: bool = False  # sprinkle NaN, infinities and ties into the inputs
    tolerance: float = 1e-5
    wide: bool = False  # render as if the buffers had more than 2**31 elements
    inputs: dict[str, np.ndarray] = field(default_factory=dict)

    def render(self) -> TritonKernel:
        """The kernel as Triton source."""
        with patch.object(blocks, "_INT32_MAX", 0 if self.wide else blocks._INT32_MAX):
            return render_kernel(self.kernel, self.schedule)

    def arrays(self) -> dict[str, np.ndarray]:
        """Random contents for each buffer; outputs hold garbage that must not be read."""
        rng = np.random.default_rng(len(self.kernel.body))
        arrays = {}
        for b in self.kernel.buffers:
            if b.name in self.inputs:
                arrays[b.name] = self.inputs[b.name].astype(b.dtype)
            elif b.dtype == np.bool_:
                arrays[b.name] = rng.random(b.size) < 0.5
            elif b.dtype.kind in "iu":
                arrays[b.name] = rng.integers(0, self.high, b.size).astype(b.dtype)
            else:
                values = rng.standard_normal(b.size)
                if self.special and b.role == "in":
                    values = np.round(values, 1)
                    values[rng.random(b.size) < 0.01] = np.nan
                    values[rng.random(b.size) < 0.05] = -np.inf
                arrays[b.name] = values.astype(b.dtype)
        return arrays


def pointwise(m: int = 37, n: int = 100, dtype: np.dtype = F32) -> Kernel:
    b = KernelBuilder("scale_shift_tanh")
    i, j = b.axis("i", m), b.axis("j", n)
    b.buffer("x", dtype, m * n, "in")
    b.buffer("scale", dtype, 1, "in")
    b.buffer("shift", dtype, n, "in")
    b.buffer("out", dtype, m * n, "out")
    x = b.cast(b.load("x", i * n + j), np.float32)
    scale = b.cast(b.load("scale", i * 0), np.float32)
    shift = b.cast(b.load("shift", j), np.float32)
    scaled = b.elementwise("mul", b.elementwise("mul", x, scale), b.const(0.1, np.float32))
    y = b.elementwise("tanh", b.elementwise("add", scaled, shift))
    b.store("out", i * n + j, b.cast(y, dtype))
    return b.build()


def transpose(m: int = 45, n: int = 70) -> Kernel:
    b = KernelBuilder("transpose_add")
    i, j = b.axis("i", m), b.axis("j", n)
    b.buffer("x", np.float32, m * n, "inout", may_alias=True)
    b.buffer("y", np.float32, m * n, "in")
    b.buffer("out", np.float32, m * n, "out", may_alias=True)
    b.store("out", i * n + j, b.elementwise("add", b.load("x", i * n + j), b.load("y", j * m + i)))
    return b.build()


def rolled(m: int = 9, n: int = 14) -> Kernel:
    """A roll by -3 of a flattened, transposed array: quotients and remainders of negatives."""
    b = KernelBuilder("roll_reshape")
    i, j = b.axis("i", m), b.axis("j", n)
    b.buffer("x", np.float32, m * n, "in")
    b.buffer("out", np.float32, m * n, "out")
    b.buffer("where", np.int32, m * n, "out")
    flat = (i * n + j - 3) % (m * n)
    back = (i - j * 2) // 5
    b.store("out", i * n + j, b.load("x", flat // n + (flat % n) * m))
    b.store("where", i * n + j, b.index_value(back))
    return b.build()


def padded(n: int = 50) -> Kernel:
    b = KernelBuilder("pad")
    i = b.axis("i", n + 7)
    b.buffer("x", np.float32, n, "in")
    b.buffer("out", np.float32, n + 7, "out")
    position = b.index_value(i - 3)
    low = b.elementwise("ge", position, b.const(0, np.int32))
    high = b.elementwise("lt", position, b.const(n, np.int32))
    inside = b.elementwise("and", low, high)
    b.store("out", i, b.load("x", i - 3, mask=inside, other=7.5))
    return b.build()


def masked_broadcast(m: int = 5, n: int = 40) -> Kernel:
    """Masks that vary over more axes than the address, on a load and on a store."""
    b = KernelBuilder("masked_broadcast")
    i, j = b.axis("i", m), b.axis("j", n)
    b.buffer("keep", np.bool_, m * n, "in")
    b.buffer("x", np.float32, m, "in")
    b.buffer("y", np.float32, 1, "in")
    b.buffer("out", np.float32, m * n, "inout")
    keep = b.load("keep", i * n + j)
    x, y = b.load("x", i, mask=keep, other=-1), b.load("y", i * 0, mask=keep, other=2)
    b.store("out", i * n + j, b.elementwise("mul", x, y), mask=keep)
    return b.build()


def gather(rows: int = 30, m: int = 21, n: int = 50) -> Kernel:
    b = KernelBuilder("gather")
    i, j = b.axis("i", m), b.axis("j", n)
    b.buffer("at", np.int32, m, "in")
    b.buffer("table", np.float32, rows * n, "in")
    b.buffer("out", np.float32, m * n, "out")
    row = b.position(b.load("at", i), 0, rows - 1)
    b.store("out", i * n + j, b.load("table", row * n + j))
    return b.build()


def logic(n: int = 90) -> Kernel:
    b = KernelBuilder("logic")
    i = b.axis("i", n)
    b.buffer("x", np.float32, n, "in")
    b.buffer("flag", np.bool_, n, "in")
    b.buffer("both", np.bool_, n, "out")
    b.buffer("picked", BF16, n, "out")
    x, flag = b.load("x", i), b.load("flag", i)
    both = b.elementwise("and", b.elementwise("lt", x, b.const(0.5, np.float32)), flag)
    b.store("both", i, both)
    b.store("picked", i, b.select(both, b.cast(x, BF16), b.const(-2, BF16)))
    return b.build()


def casts(n: int = 60) -> Kernel:
    b = KernelBuilder("casts")
    i = b.axis("i", n)
    b.buffer("x", np.float32, n, "in")
    x = b.load("x", i)
    for name in ("bool", "int8", "uint8", "int32", "uint32", "int64", "float16", "float64"):
        b.buffer(name[:2] + name[-1], np.dtype(name), n, "out")
        b.store(name[:2] + name[-1], i, b.cast(x, name))
    b.buffer("bits", np.uint32, n, "out")
    b.store("bits", i, b.elementwise("xor", b.bitcast(x, np.uint32), b.const(2**32 - 5, np.uint32)))
    b.buffer("back", np.float32, n, "out")
    b.store("back", i, b.cast(b.cast(x, np.int8), np.float32))
    return b.build()


CAST_INPUTS = np.resize([1.5, -2.7, 300, -300, 3e9, -3e9, 1e20, -1e20, np.nan, np.inf, -0.0, 0], 60)


def softmax(m: int = 33, n: int = 77, guarded: bool = False) -> Kernel:
    """A softmax; a `guarded` one subtracts a row's maximum only where that is finite."""
    b = KernelBuilder("softmax")
    i, j = b.axis("i", m), b.axis("j", n)
    b.buffer("x", np.float32, m * n, "in", may_alias=True)
    b.buffer("out", np.float32, m * n, "out", may_alias=True)
    x = b.load("x", i * n + j)
    top = b.reduce("max", x, ["j"])
    if guarded:
        top = b.select(b.elementwise("is_finite", top), top, b.const(0.0, np.float32))
    e = b.elementwise("exp", b.elementwise("sub", x, top))
    b.store("out", i * n + j, b.elementwise("div", e, b.reduce("sum", e, ["j"])))
    return b.build()


def normalize(shape: dict[str, int], axes: str) -> Kernel:
    """Layer or batch norm: mean and variance over `axes`, which are stored as well."""
    b = KernelBuilder("norm")
    position, size, stored, stored_size = None, 1, None, 1
    for name, extent in shape.items():
        axis = b.axis(name, extent)
        size *= extent
        position = axis if position is None else position * extent + axis
        if name not in axes:
            stored_size *= extent
            stored = axis if stored is None else stored * extent + axis
    assert position is not None
    stored = position * 0 if stored is None else stored
    b.buffer("x", np.float32, size, "in")
    b.buffer("scale", np.float32, shape[list(shape)[-1]], "in")
    b.buffer("out", np.float32, size, "out")
    b.buffer("mean", np.float32, stored_size, "out")
    x = b.load("x", position)
    count = b.const(size // stored_size, np.float32)
    mean = b.elementwise("div", b.reduce("sum", x, axes), count)
    centred = b.elementwise("sub", x, mean)
    square = b.reduce("sum", b.elementwise("mul", centred, centred), axes)
    variance = b.elementwise("add", b.elementwise("div", square, count), b.const(1e-5, np.float32))
    y = b.elementwise("div", centred, b.elementwise("sqrt", variance))
    last = list(shape)[-1]
    scale = b.load("scale", b.axis("unused", 1) + _axis(last, shape[last]))
    b.store("out", position, b.elementwise("mul", y, scale))
    b.store("mean", stored, mean)
    return b.build()


def _axis(name: str, extent: int):
    from funcdl.kir import index

    return index.axis(name, extent)


def reductions(m: int, n: int, axes: str, dtype: str = "float32") -> Kernel:
    """Every reduction that the dtype has."""
    b = KernelBuilder("reductions")
    i, j = b.axis("i", m), b.axis("j", n)
    b.buffer("x", dtype, m * n, "in")
    x = b.load("x", i * n + j)
    ops = {"bool": ["and", "or"], "float32": ["sum", "prod", "max", "min"]}
    ops |= {d: ["sum", "max", "min", "and", "or"] for d in ("int32", "uint32", "int8", "int64")}
    kept = (i if "j" in axes else j) if len(axes) == 1 else i * 0
    size = (m if "j" in axes else n) if len(axes) == 1 else 1
    for op in ops[dtype] + (["argmax", "argmin"] if len(axes) == 1 and dtype != "bool" else []):
        result = b.reduce(op, x, axes, np.int64)
        b.buffer(f"{op}_out", np.int64 if op.startswith("arg") else dtype, size, "out")
        b.store(f"{op}_out", kept, result)
    return b.build()


def constant_rows(m: int = 20, n: int = 37) -> Kernel:
    """Sums of a value that is constant along the reduced axis."""
    b = KernelBuilder("constant_rows")
    i, _ = b.axis("i", m), b.axis("j", n)
    b.buffer("x", np.float32, m, "in")
    b.buffer("out", np.float32, m, "out")
    b.store("out", i, b.reduce("sum", b.load("x", i), ["j"]))
    return b.build()


def matmul(
    m: int,
    n: int,
    k: int,
    dtype: np.dtype = F32,
    batch: int = 1,
    flip: str = "",
    precision: DotPrecision = "ieee",
) -> Kernel:
    """``max(x @ w + bias, 0)``; `flip` names the factors that are stored transposed."""
    b = KernelBuilder("dot_bias_relu")
    p, i, j, r = b.axis("p", batch), b.axis("m", m), b.axis("n", n), b.axis("k", k)
    acc = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    b.buffer("x", dtype, batch * m * k, "in")
    b.buffer("w", dtype, batch * k * n, "in")
    b.buffer("bias", acc, n, "in")
    b.buffer("out", dtype, batch * m * n, "out")
    x = b.load("x", p * (m * k) + (r * m + i if "x" in flip else i * k + r))
    w = b.load("w", p * (k * n) + (j * k + r if "w" in flip else r * n + j))
    dot = b.dot(b.cast(x, acc), b.cast(w, acc), "m", "n", "k", precision)
    y = b.elementwise("add", dot, b.load("bias", j))
    relu = b.elementwise("max", y, b.const(0, acc))
    b.store("out", p * (m * n) + i * n + j, b.cast(relu, dtype))
    return b.build()


def dot_prologue(m: int = 20, n: int = 30, k: int = 41) -> Kernel:
    """Factors that are computed: exp is 1, not 0, where k is out of range."""
    b = KernelBuilder("dot_prologue")
    i, j, r = b.axis("m", m), b.axis("n", n), b.axis("k", k)
    b.buffer("x", np.float32, m * k, "in")
    b.buffer("w", np.float32, k * n, "in")
    b.buffer("row", np.float32, m, "in")
    b.buffer("inner", np.float32, k, "in")
    b.buffer("out", np.float32, m * n, "out")
    b.buffer("scaled", np.float32, m * n, "out")
    row, inner = b.load("row", i), b.load("inner", r)
    lhs = b.elementwise("exp", b.elementwise("sub", b.load("x", i * k + r), row))
    lhs = b.elementwise("mul", lhs, inner)
    rhs = b.elementwise("add", b.load("w", r * n + j), inner)
    dot = b.dot(lhs, rhs, "m", "n", "k")
    b.store("out", i * n + j, dot)
    b.store("scaled", j * m + i, b.elementwise("mul", dot, row))
    return b.build()


def scatter(m: int = 50, n: int = 12, rows: int = 7) -> Kernel:
    b = KernelBuilder("scatter_add")
    i, j = b.axis("i", m), b.axis("j", n)
    b.buffer("at", np.int32, m, "in")
    b.buffer("x", np.float32, m * n, "in")
    b.buffer("out", np.float32, rows * n, "inout")
    b.buffer("count", np.int32, rows, "inout")
    row = b.position(b.load("at", i), 0, rows - 1)
    b.atomic_update("add", "out", row * n + j, b.load("x", i * n + j))
    b.atomic_update("add", "count", row, b.const(1, np.int32))
    return b.build()


def tiled(kernel: Kernel, bm: int, bn: int, bk: int) -> Schedule:
    """A schedule of a product with these blocks."""
    dot = next(i for i in kernel.body if isinstance(i, Dot))
    lanes = {dot.m: bm, dot.n: bn, dot.k: bk}
    batch = [a.name for a in kernel.axes if a.name not in lanes]
    steps = [Step(a, "grid") for a in batch]
    steps += [Step(dot.m, "grid", bm), Step(dot.n, "grid", bn), Step(dot.k, "tile", bk)]
    steps += [Step(a, "vector", size) for a, size in lanes.items()]
    return Schedule(tuple(steps), num_stages=3)


def example_cases() -> dict[str, Case]:
    """The kernel IR's own example kernels, rows of running results in one block and in several."""
    found = {}
    for name, (kernel, make_inputs) in all_example_kernels().items():
        inputs = make_inputs(np.random.default_rng(0))
        found[f"example_{name}"] = Case(kernel, schedule_gpu(kernel), inputs=inputs)
        if any(isinstance(i, Running) for i in kernel.body):
            small = schedule_gpu(kernel, Knobs(lanes=16))
            found[f"example_{name}_carried"] = Case(kernel, small, inputs=inputs)
        if any(b.dtype.itemsize == 2 for b in kernel.buffers):
            found[f"example_{name}"].tolerance = 1e-2
    return found


def cases() -> dict[str, Case]:
    """Every kernel that the tests try, by name."""
    f64, f16 = np.dtype(np.float64), np.dtype(np.float16)
    kernels: dict[str, tuple[Kernel, dict[str, object]]] = {
        "pointwise": (pointwise(), {}),
        "pointwise_aligned": (pointwise(8, 256), {}),
        "pointwise_bf16": (pointwise(dtype=BF16), {"tolerance": 1e-2}),
        "pointwise_f16": (pointwise(dtype=f16), {"tolerance": 2e-3}),
        "pointwise_small": (pointwise(3, 1), {}),
        "pointwise_empty": (pointwise(0, 5), {}),
        "transpose": (transpose(), {}),
        "rolled": (rolled(), {}),
        "padded": (padded(), {}),
        "masked_broadcast": (masked_broadcast(), {}),
        "gather": (gather(), {"high": 30}),
        "logic": (logic(), {}),
        "casts": (casts(), {"inputs": {"x": CAST_INPUTS}}),
        "softmax": (softmax(), {}),
        "softmax_special": (softmax(), {"special": True}),
        "softmax_row": (softmax(3, 1), {}),
        "softmax_looped": (softmax(2, 9001), {}),
        "layer_norm": (normalize({"i": 9, "j": 130}, "j"), {"tolerance": 1e-4}),
        "layer_norm_looped": (normalize({"i": 2, "j": 8200}, "j"), {"tolerance": 1e-4}),
        "batch_norm": (normalize({"n": 2, "h": 5, "w": 7, "c": 24}, "nhw"), {"tolerance": 1e-4}),
        "batch_norm_looped": (
            normalize({"n": 3, "h": 9, "w": 30, "c": 33}, "nhw"),
            {"tolerance": 1e-4},
        ),
        "middle_norm": (normalize({"a": 3, "b": 11, "c": 40}, "b"), {"tolerance": 1e-4}),
        "total_norm": (normalize({"i": 11, "j": 13}, "ij"), {"tolerance": 1e-4}),
        "total_norm_looped": (normalize({"a": 5, "i": 3, "j": 3000}, "aij"), {"tolerance": 1e-4}),
        "rows": (reductions(21, 19, "j"), {"special": True}),
        "rows_looped": (reductions(2, 8300, "j"), {"special": True}),
        "rows_one": (reductions(4, 1, "j"), {}),
        "rows_empty": (reductions(4, 0, "i"), {}),
        "columns": (reductions(30, 70, "i"), {"special": True}),
        "columns_looped": (reductions(700, 40, "i"), {"special": True}),
        "columns_none": (reductions(0, 3, "i", "int32"), {}),
        "total": (reductions(13, 50, "ij"), {"special": True}),
        "total_looped": (reductions(5, 4100, "ij", "int32"), {}),
        "constant_rows": (constant_rows(), {}),
        **{
            f"rows_{d}": (reductions(6, 41, "j", d), {})
            for d in ("bool", "int8", "int32", "uint32", "int64")
        },
        "rows_looped_bool": (reductions(2, 8300, "j", "bool"), {}),
        "rows_looped_int8": (reductions(2, 8300, "j", "int8"), {}),
        "matmul": (matmul(37, 50, 29), {}),
        "matmul_bf16": (matmul(37, 50, 29, BF16), {"tolerance": 1e-2}),
        "matmul_f16": (matmul(37, 50, 29, f16), {"tolerance": 2e-3}),
        "matmul_f64": (matmul(37, 50, 29, f64), {}),
        "matmul_batch": (matmul(17, 40, 33, batch=3, flip="w"), {}),
        "matmul_large": (matmul(130, 129, 64, flip="x"), {}),
        "matvec": (matmul(40, 1, 29), {}),
        "vecmat": (matmul(1, 40, 29), {}),
        "inner": (matmul(1, 1, 29), {}),
        "outer": (matmul(19, 40, 1), {}),
        "no_terms": (matmul(5, 6, 0), {}),
        "dot_prologue": (dot_prologue(), {}),
        "scatter": (scatter(), {"high": 7}),
    }
    found = {name: Case(k, schedule_gpu(k), **options) for name, (k, options) in kernels.items()}  # type: ignore[arg-type]
    for flip in ("", "x", "w", "xw"):
        kernel = matmul(45, 70, 39, flip=flip)
        for tiles in TILES:
            name = "_".join(["matmul", flip or "plain", *map(str, tiles)])
            found[name] = Case(kernel, tiled(kernel, *tiles))
    # Tiles numbered in groups of rows, with a last group that is lower, and persistent programs.
    for batch, group, programs in ((1, 3, 0), (2, 2, 0), (1, 5, 4), (2, 3, 7), (1, 1, 3)):
        kernel = matmul(16 * 5 - 3, 16 * 3 - 1, 20, batch=batch)
        schedule = replace(tiled(kernel, 16, 16, 16), group=group, programs=programs)
        found[f"matmul_group_{batch}_{group}_{programs}"] = Case(kernel, schedule)
    kernel = pointwise(9, 40)
    schedule = replace(schedule_gpu(kernel, Knobs(lanes=16)), programs=5)
    found["pointwise_persistent"] = Case(kernel, schedule)
    for lanes, guarded in ((16, False), (16, True), (64, True), (512, True)):
        kernel = softmax(6, 1001, guarded)
        schedule = schedule_gpu(kernel, Knobs(lanes=lanes))
        name = f"softmax_looped_{lanes}{'_guarded' if guarded else ''}"
        found[name] = Case(kernel, schedule, special=True)
    kernel = dot_prologue()
    found["dot_prologue_tiles"] = Case(kernel, tiled(kernel, 16, 32, 16))
    # Several programs along an axis that one of the updates lacks: it still happens once.
    steps = [Step(a, kind, n) for kind in ("grid", "vector") for a, n in (("i", 8), ("j", 16))]
    found["scatter_split"] = Case(scatter(20, 40), Schedule(tuple(steps)), high=7)
    for name in (
        *("gather", "softmax_looped", "rows_looped", "total_norm_looped", "matmul_batch"),
        *("matmul_group_2_3_7", "pointwise_persistent"),
    ):
        found[f"wide_{name}"] = replace(found[name], wide=True)
    return found | example_cases()


def large_cases() -> dict[str, Case]:
    """Kernels of real sizes, whose default blocks are the largest: to compile, not to run."""
    f64 = np.dtype(np.float64)
    kernels = {
        "large_pointwise": pointwise(4096, 4096),
        "large_wide": pointwise(2**21, 2**11),
        "large_transpose": transpose(4096, 4096),
        "large_softmax": softmax(4096, 8192),
        "large_softmax_looped": softmax(4096, 50257),
        "large_layer_norm": normalize({"i": 4096, "j": 8192}, "j"),
        "large_batch_norm": normalize({"n": 32, "h": 32, "w": 32, "c": 64}, "nhw"),
        "large_columns": reductions(4096, 4096, "i"),
        "large_total": reductions(4096, 4096, "ij"),
        "large_prologue": dot_prologue(1024, 1024, 1024),
    }
    for dtype in (F32, BF16, f64):
        for flip in ("", "x", "w", "xw"):
            name = f"large_matmul_{dtype.name}_{flip or 'plain'}"
            kernels[name] = matmul(2048, 2000, 2048, dtype, flip=flip)
    kernels["large_matmul_tf32"] = matmul(2048, 2000, 2048, precision="tf32")
    kernels["large_matmul_tf32x3"] = matmul(2048, 2000, 2048, precision="tf32x3")
    return {name: Case(kernel, schedule_gpu(kernel)) for name, kernel in kernels.items()}
