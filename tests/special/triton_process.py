"""Runs or compiles the Triton form of special functions in a process of its own; prints JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from tests.ops.table import OPS, samples
from tests.process import answer

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Kernel
from funcdl.ops.lowering import compute_dtype

NAMES = (
    *("bessel_i0e", "bessel_i1e", "digamma", "igamma", "igamma_grad_a", "igammac", "polygamma"),
    *("random_gamma_grad", "regularized_incomplete_beta", "zeta"),
)


def run(mode: str, dtype: str, *archs: str) -> dict[str, Any]:
    """What a new process finds out; with the mode "compile" for some compute capabilities."""
    module = "tests.special.triton_process"
    found: dict[str, Any] = answer("-m", module, mode, dtype, *archs, interpret=mode == "interpret")
    return found


def operands(name: str, dtype: str) -> list[np.ndarray[Any, Any]]:
    """The operands of all samples in a row, then every combination of special values."""
    element = dtypes.from_short_name(dtype)
    every = [s.args for s in samples(name, dtype)]
    count = len(every[0])
    flat = [np.concatenate([np.ravel(args[i]) for args in every]) for i in range(count)]
    edges = [0.0, 0.3, 0.5, 1.0, 1.7, 3.0, 8.0, 15.0, 40.0, 300.0, -0.5, -2.0, np.inf, np.nan]
    if name == "polygamma":
        edges = [edge for edge in edges if abs(edge) != 300]
    grid = np.meshgrid(*[np.array(edges, element)] * count)
    return [np.concatenate([x, g.ravel()]).astype(element) for x, g in zip(flat, grid, strict=True)]


def build(name: str, args: list[np.ndarray[Any, Any]]) -> Kernel:
    """One kernel that applies the function to its operands."""
    builder = KernelBuilder(name)
    place = builder.axis("i", args[0].size)
    avals = [ShapedArray(x.shape, x.dtype) for x in args]
    values = []
    for number, aval in enumerate(avals):
        buffer = builder.buffer(f"x{number}", aval.dtype, aval.size, "in")
        values.append(builder.cast(builder.load(buffer, place), compute_dtype(aval.dtype)))
    builder.buffer("out", avals[0].dtype, avals[0].size, "out")
    value = OPS[name].primitive.lower.rule(builder, values, avals, 0, {})
    builder.store("out", place, builder.cast(value, avals[0].dtype))
    return builder.build()


def main(mode: str, dtype: str, *archs: str) -> None:
    from funcdl.compiler.cuda.schedule import Knobs, schedule_gpu
    from funcdl.kernels.triton.compile import compile_cubin
    from funcdl.kernels.triton.interpret import interpret
    from funcdl.kernels.triton.render import render_kernel

    found: dict[str, Any] = {}
    for name in NAMES:
        args = operands(name, dtype)
        kernel = build(name, args)
        rendered = render_kernel(kernel, schedule_gpu(kernel, Knobs(lanes=128)))
        try:
            if mode == "compile":
                for arch in archs:
                    compile_cubin(rendered, int(arch))
                found[name] = 0.0
                continue
            arrays = {f"x{i}": x.copy() for i, x in enumerate(args)}
            arrays["out"] = np.zeros_like(args[0])
            interpret(rendered, arrays)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
            continue
        impl = OPS[name].primitive.impl
        assert impl is not None
        found[name] = worst(arrays["out"], np.asarray(impl(*args)), args)
    print(json.dumps(found))


def worst(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], args: Any) -> Any:
    """The largest error in units of the dtype's eps, relative to the value or to 1e-30."""
    eps = float(dtypes.finfo(found.dtype).eps)
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    with np.errstate(all="ignore"):
        error = np.abs(found.astype(np.float64) - wanted) / np.maximum(np.abs(wanted), 1e-30) / eps
    error = np.where(same, 0.0, np.nan_to_num(error, nan=np.inf))
    at = int(np.argmax(error))
    if not np.isfinite(error[at]):
        return f"at {[float(x[at]) for x in args]}: {found[at]} instead of {wanted[at]}"
    return float(error[at])


if __name__ == "__main__":
    main(*sys.argv[1:])
