"""Compiles each function of the C headers into a loop over arrays, and runs it.

Instruction sets other than the machine's widest are left to the slow tests.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from funcdl.kernels.cpu_c.isa import ISAS, compile_flags, host_isa, include_dir
from funcdl.runtime.cpu_memory import address
from funcdl.runtime.shared_object import load
from funcdl.runtime.toolchain import Unit, find_compiler

COMPILER = find_compiler()
# References overflow and meet NaN on purpose.
MARKS = [
    pytest.mark.skipif(COMPILER is None, reason="no C compiler"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
NDArray = np.ndarray[Any, Any]

HOST = host_isa()
OTHERS = [
    name
    for name, isa in ISAS.items()
    if isa is not HOST and isa.cpu_flags <= HOST.cpu_flags and name != "native-generic"
]
every_isa = pytest.mark.parametrize(
    "isa", [HOST.name, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
every_float = pytest.mark.parametrize("t", ["f32", "f64"])

DTYPES = {
    **{
        f"{kind}{bits}": np.dtype(f"{kind}{bits // 8}") for kind in "iu" for bits in (8, 16, 32, 64)
    },
    "f16": np.dtype("f2"),
    "f32": np.dtype("f4"),
    "f64": np.dtype("f8"),
    "bf16": np.dtype(ml_dtypes.bfloat16),
}
C_TYPES = {"f16": "fd_f16", "bf16": "fd_bf16", "f32": "float", "f64": "double"}
C_TYPES |= {t: f"{'u' * (t[0] == 'u')}int{t[1:]}_t" for t in DTYPES if t[0] in "iu"}
INTS = [t for t in DTYPES if t[0] in "iu"]


def loop(name: str, out: str, *ins: str) -> str:
    """An entry point over arrays: its name is that of the function; lengths come first."""
    arguments = "".join(
        f"  const {C_TYPES[t]} *restrict x{i} = p[{i + 2}];\n" for i, t in enumerate(ins)
    )
    call = f"{name}({', '.join(f'x{i}[i]' for i in range(len(ins)))})"
    return (
        f'__attribute__((visibility("default"))) void test_{name}(void **p) {{\n'
        f"  const int64_t n = *(const int64_t *)p[0];\n  {C_TYPES[out]} *restrict y = p[1];\n"
        f"{arguments}#pragma omp simd\n  for (int64_t i = 0; i < n; i++) y[i] = {call};\n}}\n"
    )


# The largest errors in units in the last place, for float32 and float64. First what the headers
# compute by themselves, then what the C library does (its own bounds vary between versions).
OWN = {"exp": (1.2, 1.1), "expm1": (1.7, 2.0), "log": (0.9, 0.9), "log1p": (1.5, 1.5)}
OWN |= {"asin": (1.5, 1.6), "acos": (1.2, 1.2), "atan": (1.4, 1.9)}
OWN |= {"tanh": (2.0, 1.7), "logistic": (1.8, 2.0), "rsqrt": (1.6, 1.6), "sqrt": (0.501, 0.501)}
OWN_F32 = {"exp2": 1.2, "sin": 0.51, "cos": 0.51, "tan": 0.51, "erf": 1.8, "erfc": 0.6}
LIBRARY = ["cbrt", "sinh", "cosh", "asinh", "acosh", "atanh"]
LIBRARY_F64 = ["exp2", "sin", "cos", "tan", "erf", "erfc"]
EXACT = ["floor", "ceil", "round_even", "round_away", "sign", "abs"]
SPECIAL = ["erf_inv", "digamma", "lgamma"]
BINARY = ["pow", "atan2", "rem", "nextafter", "max", "min"]
UNARY = [*OWN, *OWN_F32, *LIBRARY, *EXACT, *SPECIAL]
INT_UNARY = ["neg", "abs", "sign", "population_count", "clz"]
INT_BINARY = ["div", "rem", "add", "sub", "mul", "max", "min", "pow"]
INT_BINARY += ["shift_left", "shift_right_logical", "shift_right_arithmetic"]
CASTS = [("f32", "f16"), ("f32", "bf16"), ("f64", "f16"), ("f64", "bf16")]
CASTS += [(b, a) for a, b in CASTS] + [(f, t) for f in ("f32", "f64") for t in INTS]

GEMM = """
__attribute__((visibility("default"))) void test_gemm_TT(void **p) {
  const int64_t *s = p[0]; /* m, n, k, strides of A, strides of B, row of C, accumulate, panels */
  if (s[9]) {
    const int64_t columns = (s[1] + FD_LANES_UPPER - 1) / FD_LANES_UPPER * FD_LANES_UPPER;
    fd_pack_TT(p[3], p[2], s[5], s[6], s[2], s[1]);
    fd_gemm_TT(s[0], columns, s[2], p[1], s[3], s[4], p[3], FD_NR_UPPER, FD_NR_UPPER * s[2],
                    p[4], s[7], (int)s[8]);
  } else {
    fd_gemm_TT(s[0], s[1], s[2], p[1], s[3], s[4], p[2], s[5], FD_NR_UPPER, p[4], s[7],
                    (int)s[8]);
  }
}
__attribute__((visibility("default"))) void test_tile_TT(void **p) {
  int64_t *shape = p[0];
  shape[0] = FD_LANES_UPPER;
  shape[1] = FD_NR_UPPER;
}
"""
QUOTIENT = """
FD_INLINE TYPE fd_quotient_TT(TYPE x, TYPE d) { return fd_divide_TT(x, fd_invert_TT(d)); }
"""
THREEFRY = """
__attribute__((visibility("default"))) void test_threefry(void **p) {
  const int64_t n = *(const int64_t *)p[0];
  uint32_t *restrict out = p[1];
  const uint32_t *restrict in = p[2];
#pragma omp simd
  for (int64_t i = 0; i < n; i++)
    fd_threefry2x32(in[i], in[n + i], in[2 * n + i], in[3 * n + i], &out[i], &out[n + i]);
}
"""
HEADERS = (
    '#include "fd_types.h"\n#include "fd_math.h"\n#include "fd_gemm.h"\n#include "fd_random.h"\n'
)


def sources() -> dict[str, str]:
    """Units that compile at the same time."""
    units = {
        t: "".join(loop(f"fd_{name}_{t}", t, t) for name in UNARY)
        + "".join(loop(f"fd_{name}_{t}", t, t, t) for name in BINARY)
        + loop(f"fd_is_finite_{t}", "u8", t)
        + QUOTIENT.replace("TT", t).replace("TYPE", C_TYPES[t])
        + loop(f"fd_quotient_{t}", t, t, t)
        + GEMM.replace("TT", t).replace("UPPER", t.upper())
        for t in ("f32", "f64")
    }
    units["int"] = "".join(
        "".join(loop(f"fd_{name}_{t}", t, t) for name in INT_UNARY)
        + "".join(loop(f"fd_{name}_{t}", t, t, t) for name in INT_BINARY)
        for t in INTS
    )
    units["cast"] = THREEFRY + "".join(loop(f"fd_{a}_to_{b}", b, a) for a, b in CASTS)
    return {name: HEADERS + text for name, text in units.items()}


@cache
def libraries(isa: str) -> dict[str, Any]:
    assert COMPILER is not None
    flags = compile_flags(isa, openmp=False)
    units = [Unit(text, flags, name, (include_dir(),)) for name, text in sources().items()]
    return dict(zip(sources(), COMPILER.build_all(units), strict=True))


def run(isa: str, unit: str, name: str, *arrays: NDArray) -> None:
    entry = load(libraries(isa)[unit], f"test_{name}", len(arrays))
    entry([address(array) for array in arrays])


def apply(isa: str, unit: str, name: str, out: str, *xs: NDArray) -> NDArray:
    xs = tuple(np.ascontiguousarray(x) for x in xs)
    y = np.empty(xs[0].shape, DTYPES[out])
    run(isa, unit, name, np.array(xs[0].size, np.int64), y, *xs)
    return y


@cache
def samples(t: str) -> NDArray:
    """Floats of every magnitude, a dense middle, and the special values, as both signs."""
    dtype, rng = DTYPES[t], np.random.default_rng(0)
    bits = rng.integers(0, 1 << (8 * dtype.itemsize), 6000, DTYPES[f"u{8 * dtype.itemsize}"])
    info = np.finfo(dtype)
    edges = [0, 0.25, 0.5, 0.9, 1, 1.5, 2, 2.5, math.pi / 2, math.pi, 10, 88.72, 88.73, 103.9]
    edges += [709.7, 710, 745.1, 4503599627370497.5, 8388609, 1 << 24, info.max, info.tiny, np.inf]
    edges += [info.smallest_subnormal, info.eps, 1 - info.epsneg, np.nan]
    near = np.concatenate([np.nextafter(np.array(edges, dtype), dtype.type(s)) for s in (-9, 9e9)])
    middle = [rng.uniform(-1, 1, 3000) * scale for scale in (1, 10, 100)]
    x = np.concatenate([bits.view(dtype), *(m.astype(dtype) for m in middle), near])
    x = np.concatenate([x, np.array(edges, dtype)])
    return np.concatenate([x, -x])
