"""What this machine can do at most: float32 multiply-adds and the bandwidth of a triad.

Two small C loops, compiled for this processor; figures of the same minute as the benchmarks' are
the only ones to compare them with.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import time
from pathlib import Path

_SOURCE = r"""
#include <stddef.h>
typedef float vec __attribute__((vector_size(64)));

/* 24 independent chains of multiply-adds; 24 * 16 * 2 operations a step. */
float fma_loop(long steps) {
  vec a[24];
  for (int i = 0; i < 24; i++) a[i] = (vec){0} + i;
  const vec x = (vec){0} + 0.999f, y = (vec){0} + 0.001f;
  for (long s = 0; s < steps; s++)
    #pragma GCC unroll 24
    for (int i = 0; i < 24; i++) a[i] = a[i] * x + y;
  float sum = 0;
  for (int i = 0; i < 24; i++) sum += a[i][0];
  return sum;
}

void fma_all(int threads, long steps, float* out) {
  #pragma omp parallel for num_threads(threads)
  for (int t = 0; t < threads; t++) out[t] = fma_loop(steps);
}

void triad(int threads, size_t n, float* a, const float* b, const float* c) {
  #pragma omp parallel for num_threads(threads)
  for (size_t i = 0; i < n; i++) a[i] = b[i] + 0.5f * c[i];
}
"""


def peaks(threads: int) -> dict[str, float]:
    """``{"gflops": ..., "gbytes": ...}``: the best of several runs on that many threads."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "peaks.c"), Path(folder, "peaks.so")
        source.write_text(_SOURCE)
        flags = ["-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp", "-shared"]
        subprocess.run(["gcc", *flags, "-fPIC", "-o", library, source], check=True)
        code = ctypes.CDLL(str(library))
        out = (ctypes.c_float * threads)()
        steps = 2_000_000
        code.fma_all.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        seconds = _best(lambda: code.fma_all(threads, steps, out))
        gflops = threads * steps * 24 * 16 * 2 / seconds / 1e9
        n = 1 << 24
        arrays = [(ctypes.c_float * n)() for _ in range(3)]
        code.triad.argtypes = [ctypes.c_int, ctypes.c_size_t] + [ctypes.c_void_p] * 3
        seconds = _best(lambda: code.triad(threads, n, *arrays))
        return {"gflops": gflops, "gbytes": 3 * 4 * n / seconds / 1e9}


def _best(call: object) -> float:
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        call()  # type: ignore[operator]
        times.append(time.perf_counter() - begin)
    return min(times)
