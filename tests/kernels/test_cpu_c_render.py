"""The C renderer: its text, and what the compiled code computes, against the interpreter."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.golden import assert_golden
from tests.kernels.cpu_c_kernels import (
    all_cases,
    dot,
    dot_update,
    reduction,
    softmax,
    transpose,
)
from tests.kir.convolution_kernels import forward
from tests.kir.convolution_kernels import kernel as kernel_gradient

from funcdl.compiler.cpu import convolutions, winograd
from funcdl.compiler.cpu import schedule as heuristics
from funcdl.compiler.cpu.schedule import schedule_cpu
from funcdl.core import dtypes
from funcdl.kernels.cpu_c import render_dot
from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.kernels.cpu_c.render import ENTRY_POINT, render_kernel, render_program
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.check.checker import check
from funcdl.kir.interpreter import interpret
from funcdl.kir.ir import Kernel
from funcdl.kir.program import Address, Call, KernelProgram
from funcdl.kir.schedule import Schedule, Step
from funcdl.runtime.toolchain import Unit, find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

Array = np.ndarray[Any, np.dtype[Any]]
Buffers = dict[str, Array]

GOLDEN = Path(__file__).parent / "golden_c"

WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Werror")
CASES = all_cases()
VARIANTS = ("default", "tiny", "tiles")

# Thresholds of the heuristics under which the small kernels of these tests are tiled and shared.
TINY = {
    "PARALLEL_WORK": 0,
    "MIN_CHUNK": 16,
    "MAX_CHUNK": 16,
    "COLUMN_LANES": 8,
    "MIN_LANES": 4,
    "SHORT_LANES": 2,
    "ROW_BLOCK": 10,
    "COLUMN_BLOCK": 4,
    "ARG_BLOCK": 6,
    "RUNNING_BLOCK": 10,
    "RUNNING_LANES": 12,
    "RUNNING_MIN_LANES": 6,
    "TRANSPOSE_TILE": (4, 6),
    "DOT_THIN": 1,
    "DOT_SMALL": 1,
    "DOT_MEDIUM": 1,
    "DOT_TILE": (7, 96),
    "DOT_DEPTH": 8,
}


TINY_CONV = {
    "WINDOWS": 8,
    "BAND_BYTES": 1000,
    "RESULT_BYTES": 1000,
    "POSITIONS": 10,
    "SUM_BYTES": 1 << 16,
    "TILE_BYTES": 1000,
    "FEWEST_FEATURES": 2,
    "PARALLEL_WORK": 0,
}


TINY_TILES = {
    "FEWEST_FEATURES": 1,
    "FEATURE_UNIT": 8,
    "TILES": 4,
    "GRADIENT_TILES": 4,
    "SUM_BYTES": 1000,
    "GAIN": 1000,
}


def schedules(variant: str) -> dict[str, Schedule]:
    with pytest.MonkeyPatch.context() as patch:
        if variant == "tiny":
            for name, value in TINY.items():
                patch.setattr(heuristics, name, value)
            for name, value in TINY_CONV.items():
                patch.setattr(convolutions, name, value)
        if variant == "tiles":
            for name, value in TINY_TILES.items():
                patch.setattr(winograd, name, value)
        return {name: schedule_cpu(kernel) for name, (kernel, _) in CASES.items()}


def one_program(entries: Mapping[str, tuple[Kernel, Schedule]]) -> KernelProgram:
    """All kernels, one call of each, one slot for each buffer."""
    calls: list[Call] = []
    slots = 0
    for number, (kernel, _) in enumerate(entries.values()):
        args = tuple(Address(slots + at) for at in range(len(kernel.buffers)))
        calls.append(Call(number, args))
        slots += len(kernel.buffers)
    return KernelProgram("tests", tuple(entries.values()), tuple(calls), slots)


def build(sources: list[str], extra_flags: tuple[str, ...] = ()) -> list[Path]:
    """Shared objects, compiled at the same time."""
    compiler = find_compiler()
    assert compiler is not None
    flags = (*compile_flags(), *WARNINGS, *extra_flags)
    return compiler.build_all([Unit(source, flags, "test", (include_dir(),)) for source in sources])


def run(library: ctypes.CDLL, arrays: list[Array], threads: int) -> None:
    library.fd_set_num_threads(threads)
    library[ENTRY_POINT]((ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays)))


def inputs(name: str) -> Buffers:
    """Arrays for the buffers, aligned to their elements only; outputs that may alias do alias."""
    kernel, make = CASES[name]
    arrays: Buffers = {}
    for buffer, array in make(np.random.default_rng(0)).items():
        memory = np.empty(array.size + 1, array.dtype)
        arrays[buffer] = memory[1:]
        arrays[buffer][:] = array
    sources = [b for b in kernel.buffers if b.may_alias and b.role == "in"]
    for buffer in kernel.buffers:
        if buffer.may_alias and buffer.role == "out":
            arrays[buffer.name] = arrays[sources.pop(0).name]
    return arrays


@pytest.fixture(scope="module")
def libraries() -> dict[str, ctypes.CDLL]:
    """For each variant, one program of all kernels."""
    sources: dict[str, str] = {}
    for variant in VARIANTS:
        plan = schedules(variant)
        program = one_program({name: (CASES[name][0], plan[name]) for name in CASES})
        with pytest.MonkeyPatch.context() as patch:
            if variant == "tiny":
                patch.setattr(render_dot, "FETCHED_BYTES", 0)
                patch.setattr(render_dot, "FETCHED_TERMS", 0)
            sources[variant] = render_program(program)
    assert "fd_gemm_ahead" in sources["tiny"]
    assert sources["tiles"].count("|| fd_winograd_gradient_f") == 1
    assert sources["tiles"].count("    fd_winograd_windows_f") == 2
    paths = build(list(sources.values()))
    return {variant: ctypes.CDLL(str(path)) for variant, path in zip(sources, paths, strict=True)}


@pytest.fixture(scope="module", params=VARIANTS)
def results(
    request: pytest.FixtureRequest, libraries: dict[str, ctypes.CDLL]
) -> dict[int, dict[str, Buffers]]:
    """For one thread and for three, the buffers of each kernel after a run of all of them."""
    found: dict[int, dict[str, Buffers]] = {}
    for threads in (1, 3):
        buffers = found[threads] = {name: inputs(name) for name in CASES}
        arrays = [buffers[name][b.name] for name in CASES for b in CASES[name][0].buffers]
        run(libraries[request.param], arrays, threads)
    return found


def assert_close(got: Array, want: Array, what: str) -> None:
    """Equal, but for rounding errors relative to the largest value."""
    if not dtypes.is_inexact(want.dtype):
        np.testing.assert_array_equal(got, want, what)
        return
    # Half precision is rounded once, at the end; a float sum has as many roundings as terms.
    tolerance = float(dtypes.finfo(want.dtype).eps) * (1 if want.dtype.itemsize == 2 else 60)
    exact = np.complex128 if want.dtype.kind == "c" else np.float64
    got, want = got.astype(exact), want.astype(exact)
    scale = np.abs(want[np.isfinite(want)]).max(initial=0.0)
    np.testing.assert_allclose(got, want, tolerance, tolerance * scale, err_msg=what)


@pytest.mark.parametrize("name", CASES)
def test_kernels_are_well_formed(name: str) -> None:
    check(CASES[name][0])


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_interpreter(name: str, results: dict[int, dict[str, Buffers]]) -> None:
    want = inputs(name)
    interpret(CASES[name][0], want)
    for buffer, array in want.items():
        assert_close(results[1][name][buffer], array, f"{name}: {buffer}")


def test_same_bits_for_any_number_of_threads(results: dict[int, dict[str, Buffers]]) -> None:
    for name in CASES:
        for buffer, array in results[1][name].items():
            assert array.tobytes() == results[3][name][buffer].tobytes(), (name, buffer)


@pytest.mark.parametrize(("shape", "axis"), [((1, 10_000_000), "j"), ((100_000, 50), "i")])
def test_long_float_sums_are_accurate(shape: tuple[int, int], axis: str) -> None:
    kernel = reduction("long_sum", "sum", shape, axis).build()
    (path,) = build([render_program(one_program({"long_sum": (kernel, schedule_cpu(kernel))}))])
    x = np.full(kernel.buffer("x").size, 0.1, np.float32)
    out = np.zeros(kernel.buffer("out0").size, np.float32)
    run(ctypes.CDLL(str(path)), [x, out], 1)
    np.testing.assert_allclose(out, float(x[0]) * x.size / out.size, rtol=3e-6)


GOLDEN_KERNELS: dict[str, Kernel] = {
    **{
        name: CASES[name][0]
        for name in (
            "pad",
            "argmax_rows",
            "layer_norm",
            "weighted_mean",
            "scatter_add",
            "conv_bias_relu",
            "conv_gradient_image",
            "conv_gradient_kernel",
            "conv_depthwise",
            "running_rows",
            "running_columns",
            "order_rows",
        )
    },
    "conv_tiles": forward("conv_tiles", 32, 32, 64, (32, 32)),
    "conv_tiles_gradient": kernel_gradient("conv_tiles_gradient", 32, 64, 128, (16, 16)),
    "softmax_rows": softmax("softmax_rows", 512, 1000, "j")[0],
    "softmax_columns": softmax("softmax_columns", 512, 1000, "i")[0],
    "column_sum": reduction("column_sum", "sum", (10_000, 1000), "i").build(),
    "column_argmax": reduction("column_argmax", "argmax", (100, 1000), "i").build(),
    "transpose": transpose("transpose", 512, 2, 512)[0],
    "dot_epilogue": dot("dot_epilogue", 128, 512, 784, epilogue=True),
    "dot_prologue": dot("dot_prologue", 512, 100, 512, prologue="xy", transposed=(True, False)),
    "dot_batch": dot("dot_batch", 64, 64, 32, batch=128, transposed=(False, True)),
    "dot_along": dot("dot_along", 128, 10, 784, epilogue=True),
    "dot_tiny": dot("dot_tiny", 4, 4, 4, batch=1000),
    "dot_direct": dot("dot_direct", 64, 64, 64),
    "dot_weights": dot("dot_weights", 512, 512, 256, transposed=(True, False)),
    "dot_weights_long": dot("dot_weights_long", 512, 512, 2048, transposed=(True, False)),
    "dot_update": dot_update("dot_update", 784, 512, 128),
    "matrix_vector": dot("matrix_vector", 1000, 1, 1000),
}


@pytest.mark.parametrize("name", GOLDEN_KERNELS)
def test_text_is_golden(name: str) -> None:
    kernel = GOLDEN_KERNELS[name]
    assert_golden(GOLDEN / f"{name}.c", render_kernel(kernel, schedule_cpu(kernel)))


def test_schedule_decides_the_loops() -> None:
    kernel = dot("product", 40, 200, 30)
    loops = Schedule((Step("m", "loop"), Step("k", "loop"), Step("n", "vector")))
    blocked = Schedule((Step("m", "tile", 24), Step("n", "tile", 96), Step("k", "tile", 15)))
    assert "fd_gemm" not in render_kernel(kernel, loops)
    assert "#pragma omp simd\n      for (int64_t n" in render_kernel(kernel, loops)
    assert "fd_gemm_f32(" in render_kernel(kernel, blocked)
    assert "omp parallel" not in render_kernel(kernel, blocked)


def test_restrict_only_where_buffers_do_not_alias() -> None:
    text = render_kernel(CASES["elementwise_in_place"][0], Schedule(()))
    assert "(const float *p, const float *restrict g, float *out0," in text


def test_program_runs_kernels_in_order_at_their_offsets() -> None:
    """out = (x * 2) * 2 through a temporary in the middle of the last slot."""
    b = KernelBuilder("double_it")
    i = b.axis("i", 5)
    b.buffer("x", np.float32, 5, "in")
    b.buffer("out0", np.float32, 5, "out")
    x = b.load("x", i)
    b.store("out0", i, b.elementwise("add", x, x))
    kernel = b.build()
    calls = (Call(0, (Address(0, 4), Address(2, 64))), Call(0, (Address(2, 64), Address(1))))
    program = KernelProgram("twice", ((kernel, schedule_cpu(kernel)),), calls, 3)
    assert render_program(program) == render_program(program)
    (path,) = build([render_program(program)])
    x_in, out, arena = np.arange(6, dtype=np.float32), np.zeros(5, np.float32), np.zeros(128, "u1")
    run(ctypes.CDLL(str(path)), [x_in, out, arena], 1)
    np.testing.assert_array_equal(out, x_in[1:] * 4)


def test_program_refuses_two_kernels_of_one_name() -> None:
    kernels = [reduction("same", "sum", (3, extent), "j").build() for extent in (2, 4)]
    program = KernelProgram("p", tuple((kernel, Schedule(())) for kernel in kernels), (), 0)
    with pytest.raises(ValueError, match="two kernels are named 'same'"):
        render_program(program)


SANITIZED = """
import ctypes, sys
import numpy as np
from tests.kernels import test_cpu_c_render as tests
buffers = {name: tests.inputs(name) for name in tests.CASES}
arrays = [buffers[name][b.name] for name in tests.CASES for b in tests.CASES[name][0].buffers]
tests.run(ctypes.CDLL(sys.argv[1]), arrays, 2)
print("clean")
"""


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_clean_under_sanitizers(variant: str) -> None:
    plan = schedules(variant)
    program = one_program({name: (CASES[name][0], plan[name]) for name in CASES})
    # -fwrapv, which makes signed overflow defined, is no licence for the renderer. What is
    # optimised less is checked no less, and compiled in half the time; but gcc then takes tiles
    # for uninitialised that a loop before has filled.
    flags = ("-O1", "-Wno-maybe-uninitialized", "-g", "-fno-wrapv")
    flags += ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    (path,) = build([render_program(program)], flags)
    compiler = find_compiler()
    assert compiler is not None
    query = [*compiler.command, "-print-file-name=libasan.so"]
    library = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    result = subprocess.run(
        [sys.executable, "-c", SANITIZED, str(path)],
        env={**os.environ, "LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert result.stdout == "clean\n", result.stderr[-4000:]
