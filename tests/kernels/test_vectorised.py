"""Loops of compiled programs that the generated C marks as vector loops: gcc makes them so."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from tests.kernels.c_harness import HOST

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn
from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.runtime.toolchain import find_compiler

# AVX-512 has a mask for every loop; AVX2 shows what needs one.
ISA = "avx2" if HOST.name == "avx512" else HOST.name

SIZE = 1000
ACTIVATIONS = (
    *("celu", "elu", "gelu", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu"),
    *("log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_sign"),
    *("softplus", "sparse_plus", "squareplus", "tanh"),
)
ROWS: dict[str, Callable[[Any], Any]] = {
    "softmax": nn.softmax,
    "log_softmax": nn.log_softmax,
    "logsumexp": nn.logsumexp,
    "standardize": nn.standardize,
}


def positive_sum(x: Any) -> Any:
    return fnp.sum(fnp.where(x > 0, x, 0), axis=-1)


# What takes little work for each element of a row.
REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "sum": lambda x: fnp.sum(x, axis=-1),
    "prod": lambda x: fnp.prod(x, axis=-1),
    "max": lambda x: fnp.max(x, axis=-1),
    "min": lambda x: fnp.min(x, axis=-1),
    "variance": lambda x: fnp.var(x, axis=-1),
    "norm": lambda x: fnp.sqrt(fnp.sum(x * x, axis=-1)),
    "masked": positive_sum,
    "reversed": lambda x: fnp.sum(x[:, ::-1] * x, axis=-1),
    "strided": lambda x: fnp.sum(x[:, ::2], axis=-1),
    "two": lambda x: (fnp.sum(x, axis=-1), fnp.max(x, axis=-1)),
    "all": fnp.sum,
}


# What comparisons give, as numbers of the dtypes in which kernels compute.
COUNTED = ("bfloat16", "float16", "float32", "float64", "int8", "int32", "int64", "uint8")


def as_number(dtype: str) -> Callable[[Any], Any]:
    return lambda x: (x > 0.5).astype(dtype)


def value_and_gradient(f: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return fd.value_and_grad(lambda x, w: fnp.sum(f(x) * w))


def programs() -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    x = fnp.ones(SIZE, "float32")
    matrix = fnp.ones((40, SIZE), "float32")
    halves, integers = fnp.ones((40, SIZE), "bfloat16"), fnp.ones((40, SIZE), "int8")
    result: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
    result["arctan2"] = (fnp.arctan2, (x, x))
    result["searchsorted"] = (fnp.searchsorted, (x, x))
    result["searchsorted, rows of 128"] = (fd.vmap(fnp.searchsorted), (matrix[:, :128], matrix))
    result["interp"] = (fnp.interp, (x, x, x))
    result["digitize"] = (fnp.digitize, (x, x[:64]))
    for name in ACTIVATIONS:
        f = getattr(nn, name)
        result[name] = (f, (x,))
        result[f"grad {name}"] = (value_and_gradient(f), (x, x))
    for name, f in REDUCTIONS.items():
        result[name] = (f, (matrix,))
    for dtype in COUNTED:
        result[f"comparison as {dtype}"] = (as_number(dtype), (x,))
    result["one_hot"] = (lambda i: nn.one_hot(i, 96), (fnp.ones(40, "int32"),))
    result["identity"] = (lambda x: x - fnp.eye(*x.shape, dtype=x.dtype), (matrix,))
    result["sum of halves"] = (REDUCTIONS["sum"], (halves,))
    result["mean of integers"] = (lambda x: fnp.mean(x, axis=-1), (integers,))
    for dtype in ("float16", "bfloat16", "float32", "int8", "int32"):
        result[f"mask as {dtype}"] = (lambda x, d=dtype: ((x > 0) & (x < 2)).astype(d), (x,))
    result["share of a mask"] = (lambda x: fnp.mean(x > 0, axis=-1), (matrix,))
    rows, labels = fnp.ones((SIZE, 7), "float32"), fnp.ones(SIZE, "int32")
    # Labels as they are would be copied by memcpy.
    result["one-hot"] = (lambda i: nn.one_hot(i + 1, 7), (labels,))
    result["number for each short row"] = (lambda x: x / x[:, :1], (rows,))
    for name, f in ROWS.items():
        result[name] = (f, (matrix,))
        weights = fnp.ones(f(matrix).shape, "float32")
        result[f"grad {name}"] = (value_and_gradient(f), (matrix, weights))
    return result


def scalar_loops(source: str) -> tuple[int, list[str]]:
    """How many loops are marked as vector loops, and the text of those that gcc leaves scalar."""
    compiler = find_compiler()
    if compiler is None or "gcc" not in compiler.version.lower():
        pytest.skip("reads gcc's reports")
    flags = [*compile_flags(ISA), "-fopt-info-vec-optimized", "-c"]
    command = [*compiler.command, *flags, f"-I{include_dir()}", "-x", "c", "-", "-o", "/dev/null"]
    result = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    # The line that gcc names is one of the loop's, often its first statement.
    found = re.findall(r"^<stdin>:(\d+):.*loop vectorized", result.stderr, re.MULTILINE)
    lines = source.splitlines()
    marked = [i for i, line in enumerate(lines) if "omp simd" in line or "GCC ivdep" in line]
    loops = [range(i, lines.index(lines[i + 1].split("for")[0] + "}", i)) for i in marked]
    done = {int(number) - 1 for number in found}
    return len(loops), ["\n".join(lines[i] for i in loop) for loop in loops if not done & {*loop}]


@pytest.mark.parametrize("name", programs())
def test_every_marked_loop_is_vectorised(name: str) -> None:
    f, args = programs()[name]
    count, scalar = scalar_loops(fd.jit(f).lower(*args).as_text("c"))
    assert scalar == []
    assert count
