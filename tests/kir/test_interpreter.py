"""The interpreter against NumPy: each example kernel, conversions, programs, and its own checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.kir.convolution_kernels import CONVOLUTION_MEANINGS
from tests.kir.kernels import all_example_kernels
from tests.kir.running_kernels import RUNNING_MEANINGS

from funcdl.kir import index as ix
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.conversion import convert, reinterpret
from funcdl.kir.interpreter import interpret
from funcdl.kir.ir import Kernel
from funcdl.kir.program import Address, Call, KernelProgram
from funcdl.kir.program_interpreter import run_program
from funcdl.kir.schedule import Schedule

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = dict[str, Array]
EXAMPLES = all_example_kernels()


def softmax(a: Arrays) -> Arrays:
    x = a["x"].reshape(6, 10)
    exponent = np.exp(x - x.max(1, keepdims=True))
    return {"out0": exponent / exponent.sum(1, keepdims=True)}


def layer_norm(a: Arrays) -> Arrays:
    x = a["x"].reshape(5, 16)
    mean, variance = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    normal = (x - mean) / np.sqrt(variance + np.float32(1e-5))
    return {"out0": normal * a["scale"] + a["bias"], "out1": mean}


def elementwise_parts(a: Arrays) -> Arrays:
    x, y = a["x"].reshape(5, 33), a["y"].reshape(5, 33)
    return {"out0": np.concatenate([x, x * y], 1), "out1": np.concatenate([x * y, x])}


def reduced_parts(a: Arrays) -> Arrays:
    x = a["x"].reshape(6, 40)
    most = x.max(1, keepdims=True)
    return {"out0": np.concatenate([x - most, most], 1)}


def bits_and_integers(a: Arrays) -> Arrays:
    uniform = (a["x"] >> 9).astype(np.float32) * np.float32(2.0**-23)
    return {"out0": uniform, "out1": (uniform * 100).astype(np.int32)}


def update_window(a: Arrays) -> Arrays:
    out = a["out0"].reshape(5, 6).copy()
    window, x = out[2:4, 1:4], a["x"].reshape(2, 3)
    window[x > 0] = x[x > 0]
    return {"out0": out}


def cross_entropy(a: Arrays) -> Arrays:
    x = a["x"].reshape(6, 10)
    chosen = np.take_along_axis(x, a["labels"][:, None], 1)[:, 0]
    return {"out0": np.log(np.exp(x).sum(1)) - chosen}


def dot_momentum(a: Arrays) -> Arrays:
    gradient = a["x"].reshape(8, 6).T @ a["g"].reshape(8, 5)
    velocity = a["v"].reshape(6, 5) * np.float32(0.9) + gradient
    return {"out0": a["w"].reshape(6, 5) - np.float32(0.1) * velocity, "out1": velocity}


def scatter_add(a: Arrays) -> Arrays:
    out = a["out0"].reshape(8, 5).copy()
    for position, row in zip(a["positions"], a["updates"].reshape(12, 5), strict=True):
        if 0 <= position < 8:
            out[position] += row
    return {"out0": out}


def scatter_set(a: Arrays) -> Arrays:
    out = a["out0"].copy()
    for position, value in zip(a["positions"], a["updates"], strict=True):
        out[position] = value
    return {"out0": out}


def scatter_max(a: Arrays) -> Arrays:
    out = a["out0"].copy()
    for position, value in zip(a["classes"], a["updates"], strict=True):
        out[position] = max(out[position], value)
    return {"out0": out}


def two(first: Callable[[Array], Array], second: Callable[[Array], Array], *shape: int) -> Any:
    return lambda a: {"out0": first(a["x"].reshape(shape)), "out1": second(a["x"].reshape(shape))}


MEANINGS: dict[str, Callable[[Arrays], dict[str, Any]]] = {
    **CONVOLUTION_MEANINGS,
    **RUNNING_MEANINGS,
    "elementwise_broadcast": lambda a: {
        "out0": np.tanh(a["x"].reshape(5, 7) * a["scale"] + a["row"][:, None])
    },
    "elementwise_flat": two(lambda x: np.maximum(x, 0), lambda x: x > 0, 1000),
    "elementwise_scalar": lambda a: {"out0": a["x"] * 3 - 1},
    "elementwise_empty": lambda a: {"out0": a["x"]},
    "elementwise_half": lambda a: {"out0": a["x"].astype(np.float32) ** 2},
    "elementwise_in_place": lambda a: {"out0": a["p"] - np.float32(0.1) * a["g"]},
    "transpose": lambda a: {"out0": a["x"].reshape(4, 9).T},
    "reshape_of_transpose": lambda a: {"out0": a["x"].reshape(4, 6).T},
    "bits_and_integers": bits_and_integers,
    "elementwise_parts": elementwise_parts,
    "reduced_parts": reduced_parts,
    "softmax": softmax,
    "layer_norm": layer_norm,
    "column_sum": lambda a: {"out0": a["x"].reshape(20, 9).sum(0)},
    "middle_max": two(lambda x: x.max(1), lambda x: x.min(1), 3, 8, 5),
    "batch_norm_statistics": two(lambda x: x.sum(0), lambda x: (x * x).sum(0), 32, 3),
    "full_reduce": two(lambda x: np.isfinite(x).all(), np.sum, 100),
    "empty_reduce": lambda a: {"out0": [0.0] * 3, "out1": [1.0] * 3, "out2": [-np.inf] * 3},
    "argmax_rows": lambda a: {"out0": np.round(a["x"]).reshape(7, 11).argmax(1)},
    "argmin_columns": lambda a: {"out0": a["x"].reshape(6, 5).argmin(0)},
    "integer_product": lambda a: {"out0": a["x"].reshape(4, 6) @ a["y"].reshape(6, 5)},
    "pad": lambda a: {"out0": np.pad(a["x"].reshape(4, 5), ((1, 2), (2, 0)), constant_values=-1)},
    "update_window": update_window,
    "gather_rows": lambda a: {"out0": a["table"].reshape(8, 5)[np.clip(a["positions"], 0, 7)]},
    "cross_entropy": cross_entropy,
    "dot_bias_relu": lambda a: {
        "out0": np.maximum(a["x"].reshape(9, 13) @ a["w"].reshape(13, 6) + a["bias"], 0)
    },
    "dot_transposed": lambda a: {"out0": np.exp(a["x"].reshape(7, 4)).T @ a["w"].reshape(5, 7).T},
    "dot_half": lambda a: {
        "out0": a["x"].astype(np.float32).reshape(8, 16) @ a["w"].astype(np.float32).reshape(16, 8)
    },
    "batched_dot": lambda a: {"out0": a["x"].reshape(3, 4, 5) @ a["y"].reshape(3, 5, 6) * 0.5},
    "matrix_vector": lambda a: {"out0": a["x"].reshape(7, 12) @ a["v"]},
    "dot_momentum": dot_momentum,
    "scatter_add": scatter_add,
    "scatter_set": scatter_set,
    "scatter_max": scatter_max,
}


def test_every_example_has_a_meaning_here() -> None:
    assert MEANINGS.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_mean_what_numpy_says(name: str) -> None:
    kernel, make_inputs = EXAMPLES[name]
    arrays = make_inputs(np.random.default_rng(0))
    before = {key: array.copy() for key, array in arrays.items()}
    expected = MEANINGS[name](before)
    interpret(kernel, arrays)
    assert {b.name for b in kernel.buffers if b.role != "in"} == expected.keys()
    for buffer in kernel.buffers:
        found = arrays[buffer.name]
        wanted = np.asarray(expected.get(buffer.name, before[buffer.name])).ravel()
        epsilon = {2: 1e-2, 4: 1e-5}.get(buffer.dtype.itemsize, 1e-12)
        np.testing.assert_allclose(
            found.astype(np.float64), wanted.astype(np.float64), rtol=epsilon, atol=epsilon
        )


@pytest.mark.parametrize("name", ["elementwise_in_place", "dot_momentum"])
def test_loads_come_before_stores_into_the_same_memory(name: str) -> None:
    kernel, make_inputs = EXAMPLES[name]
    arrays = make_inputs(np.random.default_rng(1))
    expected = MEANINGS[name]({key: array.copy() for key, array in arrays.items()})
    donated = [b.name for b in kernel.buffers if b.may_alias and b.role == "in"]
    for number, source in enumerate(donated):
        arrays[f"out{number}"] = arrays[source]
    interpret(kernel, arrays)
    for out, wanted in expected.items():
        np.testing.assert_allclose(arrays[out], wanted.ravel(), rtol=1e-5, atol=1e-6)


def reduce_kernel(op: Any, dtype: Any, extent: int, result: Any = np.int32) -> Kernel:
    b = KernelBuilder("k")
    position = b.axis("i", extent)
    b.buffer("x", dtype, extent, "in")
    value = b.reduce(op, b.load("x", position), ["i"], result)
    b.buffer("out0", b.type_of(value).dtype, 1, "out")
    b.store("out0", ix.constant(0), value)
    return b.build()


IDENTITIES = [
    ("sum", np.int32, 0),
    ("prod", np.float32, 1),
    ("max", np.int8, -128),
    ("max", np.float32, -np.inf),
    ("max", np.bool_, False),
    ("min", np.uint16, 65535),
    ("min", np.float64, np.inf),
    ("min", np.bool_, True),
    ("and", np.bool_, True),
    ("and", np.uint8, 255),
    ("or", np.bool_, False),
    ("or", np.int32, 0),
]


@pytest.mark.parametrize(("op", "dtype", "identity"), IDENTITIES)
def test_reductions_of_nothing_give_the_identity(op: str, dtype: Any, identity: Any) -> None:
    arrays = {"x": np.zeros(0, dtype), "out0": np.zeros(1, dtype)}
    interpret(reduce_kernel(op, dtype, 0), arrays)
    assert arrays["out0"][0] == identity


NAN_REDUCTIONS = [("max", [1, np.nan, 3], np.nan), ("min", [np.nan, 1], np.nan)]
NAN_REDUCTIONS += [("argmax", [1, np.nan, 3, np.nan], 1), ("argmin", [5, 1, 1], 1)]


@pytest.mark.parametrize(("op", "values", "wanted"), NAN_REDUCTIONS)
def test_reductions_of_nan_and_ties(op: str, values: list[float], wanted: float) -> None:
    kernel = reduce_kernel(op, np.float32, len(values))
    arrays = {"x": np.array(values, np.float32), "out0": np.zeros(1, kernel.buffers[1].dtype)}
    interpret(kernel, arrays)
    np.testing.assert_equal(arrays["out0"][0].item(), wanted)


def test_a_value_constant_along_a_reduced_axis_counts_at_each_position() -> None:
    b = KernelBuilder("k")
    m, n = b.axis("m", 2), b.axis("n", 3)
    b.axis("k", 4)
    b.buffer("x", np.float32, 2, "in")
    b.buffer("out0", np.float32, 6, "out")
    b.store("out0", m * 3 + n, b.dot(b.load("x", m), b.const(3, np.float32), "m", "n", "k"))
    arrays = {"x": np.array([1, 2], np.float32), "out0": np.zeros(6, np.float32)}
    interpret(b.build(), arrays)
    assert arrays["out0"].tolist() == [12] * 3 + [24] * 3

    b = KernelBuilder("k")
    b.axis("i", 5)
    b.buffer("out0", np.int32, 1, "out")
    b.store("out0", ix.constant(0), b.reduce("sum", b.const(7, np.int32), ["i"]))
    arrays = {"out0": np.zeros(1, np.int32)}
    interpret(b.build(), arrays)
    assert arrays["out0"].tolist() == [35]


def test_select_of_a_half_value_and_an_iota() -> None:
    b = KernelBuilder("k")
    position = b.axis("i", 6)
    b.buffer("x", ml_dtypes.bfloat16, 6, "in")
    b.buffer("y", ml_dtypes.bfloat16, 6, "in")
    b.buffer("out0", ml_dtypes.bfloat16, 6, "out")
    which = b.elementwise("lt", b.index_value(position * 2 % 5), b.const(3, np.int32))
    b.store("out0", position, b.select(which, b.load("x", position), b.load("y", position)))
    x, y = (np.arange(6).astype(ml_dtypes.bfloat16) + at for at in (0, 10))
    arrays = {"x": x, "y": y, "out0": np.zeros(6, ml_dtypes.bfloat16)}
    interpret(b.build(), arrays)
    assert arrays["out0"].tolist() == [0, 1, 12, 3, 14, 5]


CONVERSIONS = [
    (
        np.float32,
        np.int32,
        [1.9, -1.9, np.nan, np.inf, -np.inf, 3e9],
        [1, -1, 0, 2**31 - 1, -(2**31), 2**31 - 1],
    ),
    (np.float32, np.uint8, [-1, 255.9, 256, np.nan], [0, 255, 255, 0]),
    (np.float64, np.int64, [1e19, -1e19, 2.0**62], [2**63 - 1, -(2**63), 2**62]),
    (np.float64, np.uint64, [1.9e19, 2.0**63, -0.5], [2**64 - 1, 2**63, 0]),
    (np.int32, np.int8, [128, -129, 5], [-128, 127, 5]),
    (np.int64, np.uint32, [-1, 2**32 + 1], [2**32 - 1, 1]),
    (np.float32, np.bool_, [0.0, -0.0, 0.5, np.nan], [False, False, True, True]),
    (np.bool_, np.float32, [True, False], [1, 0]),
    (np.float32, np.float16, [1e6, 1.0009765625], [np.inf, 1.0009765625]),
    (ml_dtypes.bfloat16, np.int32, [2.5, -3.5], [2, -3]),
    (np.float32, ml_dtypes.bfloat16, [1.00390625, 1.01171875], [1.0, 1.015625]),
    (np.complex64, np.float32, [1 + 2j], [1]),
    (np.float32, np.complex64, [1.5], [1.5]),
]


@pytest.mark.parametrize(("source", "target", "values", "wanted"), CONVERSIONS)
def test_conversions(source: Any, target: Any, values: list[Any], wanted: list[Any]) -> None:
    found = convert(np.array(values, source), np.dtype(target))
    assert found.dtype == target
    assert found.tolist() == np.array(wanted, target).tolist()


def test_bits() -> None:
    x = np.array([[1.0], [-2.0]], np.float32)
    bits = reinterpret(x, np.dtype(np.uint32))
    assert bits.tolist() == [[0x3F800000], [0xC0000000]]
    assert np.array_equal(reinterpret(bits, x.dtype), x)


def gather(low: int, high: int, mask: bool = False) -> Kernel:
    b = KernelBuilder("k")
    position = b.axis("i", 3)
    b.buffer("at", np.int32, 3, "in")
    b.buffer("where", np.bool_, 3, "in")
    b.buffer("x", np.float32, 4, "in")
    b.buffer("out0", np.float32, 3, "out")
    where = b.load("where", position) if mask else None
    index = b.position(b.load("at", position), low, high)
    b.store("out0", position, b.load("x", index, where, 9))
    return b.build()


def gather_arrays(*at: int) -> Arrays:
    x, out0 = np.arange(4, dtype=np.float32), np.zeros(3, np.float32)
    return {
        "at": np.array(at, np.int32),
        "where": np.array([1, 0, 1], np.bool_),
        "x": x,
        "out0": out0,
    }


def test_accesses_are_checked_where_the_mask_is_true() -> None:
    with pytest.raises(IndexError, match=r"'x' of size 4 must be in \[0, 4\).*got 0\.\.7"):
        interpret(gather(0, 9), gather_arrays(0, 7, 1))
    with pytest.raises(IndexError, match=r"%0 must be in \[0, 2\], got 0\.\.3"):
        interpret(gather(0, 2), gather_arrays(0, 3, 1))
    arrays = gather_arrays(0, -7, 3)
    interpret(gather(0, 3, mask=True), arrays)
    assert arrays["out0"].tolist() == [0, 9, 3]
    with pytest.raises(IndexError):
        interpret(gather(0, 3, mask=True), gather_arrays(-1, 0, 0))


def test_buffers_are_checked() -> None:
    kernel, arrays = gather(0, 3), gather_arrays(0, 0, 0)
    with pytest.raises(ValueError, match="kernel k: buffers lacks 'at'"):
        interpret(kernel, {})
    with pytest.raises(ValueError, match=r"'x' must be float32 of shape \(4,\), got float64"):
        interpret(kernel, {**arrays, "x": np.zeros(4)})
    with pytest.raises(ValueError, match=r"shape \(4,\), got float32 of shape \(5,\)"):
        interpret(kernel, {**arrays, "x": np.zeros(5, np.float32)})


def scale_program() -> KernelProgram:
    """y = 2 * x into a temporary at byte 12 of the arena, then out = 2 * y."""
    b = KernelBuilder("double")
    position = b.axis("i", 3)
    b.buffer("x", np.float32, 3, "in")
    b.buffer("out0", np.float32, 3, "out")
    b.store("out0", position, b.elementwise("mul", b.load("x", position), b.const(2, np.float32)))
    calls = (Call(0, (Address(0), Address(2, 12))), Call(0, (Address(2, 12), Address(1, 4))))
    return KernelProgram("scale", ((b.build(), Schedule(())),), calls, 3)


def test_programs_run_on_slots_of_bytes() -> None:
    x, out = np.array([1, 2, 3], np.float32), np.zeros(4, np.float32)
    slots = [x.view(np.uint8), out.view(np.uint8), np.zeros(24, np.uint8)]
    run_program(scale_program(), slots)
    assert out.tolist() == [0, 4, 8, 12]
    with pytest.raises(ValueError, match="program scale: slots must be 3 arrays, got 2"):
        run_program(scale_program(), slots[:2])
    slots[2] = slots[2][:20]
    with pytest.raises(
        ValueError, match="'out0' of double ends at byte 24 of slot 2, which has 20"
    ):
        run_program(scale_program(), slots)
