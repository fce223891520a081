"""Gradients of norms as users write them; run as a script, in Triton's interpreter on the stub."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.compiler.cuda.schedule import Knobs, schedule_gpu
from funcdl.kernels.triton.library.row_sums import kernel
from funcdl.kir.program import all_kernels
from funcdl.kir.row_sums import RowSums

Array = np.ndarray[Any, Any]


def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred * centred).mean(-1, keepdims=True)
    return centred * lax.rsqrt(variance + 1e-5) * scale + shift


def layer_norm_by_moments(x: Any, scale: Any, shift: Any) -> Any:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / fnp.sqrt(variance + 1e-5) * scale + shift


def rms_norm(x: Any, scale: Any) -> Any:
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale


def rms_norm_in_float32(x: Any, scale: Any) -> Any:
    wide = x.astype(np.float32)
    normal = wide * lax.rsqrt((wide * wide).mean(-1, keepdims=True) + 1e-5)
    return normal.astype(x.dtype) * scale


def gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """All arguments' gradients, given the result's."""

    def run(cotangent: Any, *args: Any) -> Any:
        return fd.vjp(function, *args)[1](cotangent)

    return run


def with_residual(cotangent: Any, x: Any, scale: Any, shift: Any) -> Any:
    return fd.vjp(lambda *args: args[0] + layer_norm(*args), x, scale, shift)[1](cotangent)


def update(cotangent: Any, x: Any, scale: Any, mean: Any) -> Any:
    """A step with momentum, which is part of the kernel that ends the sum."""
    x_gradient, scale_gradient = fd.vjp(rms_norm, x, scale)[1](cotangent)
    mean = 0.9 * mean + 0.1 * scale_gradient
    return x_gradient, scale - 0.1 * mean, mean


def weights_alone(cotangent: Any, x: Any, scale: Any, shift: Any) -> Any:
    return fd.vjp(lambda *w: layer_norm(x, *w), scale, shift)[1](cotangent)


def before_product(cotangent: Any, x: Any, scale: Any, shift: Any, weights: Any) -> Any:
    """The sums of both weights' gradients read the same rows, which a product has stored."""

    def run(*args: Any) -> Any:
        return layer_norm(*args) @ weights

    return fd.vjp(run, x, scale, shift)[1](cotangent)


def tied(cotangent: Any, x: Any, scale: Any) -> Any:
    return fd.vjp(lambda x, s: rms_norm(rms_norm(x, s) + x, s), x, scale)[1](cotangent)


def normal(*shape: int, dtype: Any = np.float32) -> Array:
    rng = np.random.default_rng(len(shape) + shape[0])
    return (rng.normal(size=shape) + 0.5).astype(dtype)


def rows_of(*shape: int, weights: int, dtype: Any = np.float32) -> tuple[Array, ...]:
    """A cotangent, an input of this shape, and weights of a row's length."""
    two = (normal(*shape, dtype=dtype), normal(*shape, dtype=dtype)[::-1].copy())
    return (*two, *(normal(shape[-1], dtype=dtype) * (n + 1) for n in range(weights)))


BF16 = ml_dtypes.bfloat16

# A program, its arguments, and how many kernels it launches on a GPU.
PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Array, ...], int]] = {
    "layer_norm": (gradient(layer_norm), rows_of(37, 50, weights=2), 3),
    "moments": (gradient(layer_norm_by_moments), rows_of(20, 33, weights=2), 3),
    "rms_norm": (gradient(rms_norm), rows_of(41, 64, weights=1), 2),
    "bf16": (gradient(rms_norm_in_float32), rows_of(24, 40, weights=1, dtype=BF16), 2),
    "three_dimensions": (gradient(layer_norm), rows_of(3, 11, 20, weights=2), 3),
    "residual": (with_residual, rows_of(30, 24, weights=2), 3),
    "update": (update, rows_of(19, 40, weights=2), 2),
    "weights_alone": (weights_alone, rows_of(26, 36, weights=2), 3),
    "tied": (tied, rows_of(18, 24, weights=1), 2),
    # So many elements that the sums are cut into parts before they are moved.
    "parts": (gradient(layer_norm), rows_of(1029, 256, weights=2), 3),
    "parts_before_product": (
        before_product,
        (*rows_of(1029, 256, weights=2), normal(256, 256) / 16),
        5,
    ),
}


def differences(names: list[str]) -> dict[str, str]:
    """Where programs differ from the CPU's in Triton's interpreter, by name; "" where nowhere."""
    from funcdl.kernels.triton.interpret import interpret

    found = {}
    for name in names:
        with installed(StubGpu(run=interpret)) as gpu:
            found[name] = difference(name, gpu)
    return found


def difference(name: str, gpu: StubGpu) -> str:
    """The same for one program and a GPU."""
    function, args, _ = PROGRAMS[name]
    left = fd.tree.leaves(fd.jit(function)(*(fd.device_put(x, "gpu") for x in args)))
    right = fd.tree.leaves(function(*args))  # eagerly, by NumPy
    tolerance = 0.1 if args[0].dtype == BF16 else 3e-4
    for a, b in zip(left, right, strict=True):
        try:
            np.testing.assert_allclose(
                np.asarray(a).astype(np.float64), np.asarray(b).astype(np.float64), 0.02, tolerance
            )
        except AssertionError as error:
            return str(error)
    return "" if any(kernel == "row_sums" for kernel, _ in gpu.compiled) else "no row_sums"


def row_sums(name: str) -> list[RowSums]:
    """The problems of a program's kernels over rows."""
    function, args, _ = PROGRAMS[name]
    return problems(function, *args)


def problems(function: Callable[..., Any], *args: Any) -> list[RowSums]:
    """The same for any program."""
    with fd.config.override(backend="gpu"):
        program: Any = fd.jit(function).lower(*args)._lowered
    found = []
    for segment in program._pipeline.program.segments:
        for other, _ in all_kernels(segment):
            if other.library is not None:
                found.append(dict(other.library.problem)["rows"])
    return found


# Lanes of a block and programs: one row at a time, several, and more than there are.
BLOCKS = ((64, 5), (256, 3), (1024, 1), (128, 2))


def blocks(names: list[str]) -> dict[str, str]:
    """Where other blocks and numbers of programs give other sums than NumPy, by name."""
    from funcdl.kernels.triton.interpret import interpret

    found = {}
    for name in names:
        (problem,) = row_sums(name)
        for lanes, programs in BLOCKS:
            schedule = schedule_gpu(problem.kernel, Knobs(lanes=lanes))
            problem = replace(problem, schedule=replace(schedule, programs=programs))
            found[f"{name} {lanes} {programs}"] = _block_difference(problem, interpret)
    return found


def _block_difference(problem: RowSums, interpret: Callable[..., None]) -> str:
    rng = np.random.default_rng(0)
    memory = {}
    for buffer in problem.kernel.buffers:
        sums = buffer.name in problem.sums
        size = problem.schedule.programs * problem.columns if sums else buffer.size
        memory[buffer.name] = rng.normal(size=size).astype(buffer.dtype)
    wanted = {name: array.copy() for name, array in memory.items()}
    problem.run(wanted)
    interpret(kernel(problem), memory)
    for name, array in memory.items():
        if not np.allclose(array, wanted[name], 1e-4, 1e-4):
            return f"{name} differs by {np.abs(array - wanted[name]).max()}"
    return ""


if __name__ == "__main__":
    names = sys.argv[1:]
    three = [name for name in names if name in ("layer_norm", "moments", "rms_norm")]
    print(json.dumps(differences(names) | blocks(three)))
