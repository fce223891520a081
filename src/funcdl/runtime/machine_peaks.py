"""What this machine can do at most: float32 multiply-adds, and the bandwidth of a triad.

Two small C loops, run on the threads that compiled programs run on. Programs are compared with
these figures, rather than with those of a data sheet, which no program reaches.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from funcdl.config import config
from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.runtime import cpu_memory, shared_object
from funcdl.runtime.disk_cache import default_cache
from funcdl.runtime.toolchain import Compiler, CompilerError, find_compiler

_SOURCE = r"""
#include <stdint.h>
#include "fd_runtime.h"
#define EXPORT __attribute__((visibility("default")))
typedef float vec __attribute__((vector_size(64)));

/* 24 independent chains of multiply-adds; 24 * 16 * 2 operations a step. */
static float fma_loop(int64_t steps, int64_t first) {
  vec a[24];
  for (int i = 0; i < 24; i++) a[i] = (vec){0} + (float)(i + first);
  const vec x = (vec){0} + 0.999f, y = (vec){0} + 0.001f;
  for (int64_t s = 0; s < steps; s++)
    #pragma GCC unroll 24
    for (int i = 0; i < 24; i++) a[i] = a[i] * x + y;
  float sum = 0;
  for (int i = 0; i < 24; i++) sum += a[i][0];
  return sum;
}

EXPORT void multiply_add(void **slots) {
  const int64_t *sizes = slots[0];
  float *out = slots[1];
  #pragma omp parallel for num_threads(fd_num_threads)
  for (int64_t t = 0; t < sizes[0]; t++) out[t] = fma_loop(sizes[1], t);
}

EXPORT void triad(void **slots) {
  const int64_t n = *(const int64_t *)slots[0];
  float *restrict a = slots[1];
  const float *restrict b = slots[2], *restrict c = slots[3];
  #pragma omp parallel for num_threads(fd_num_threads)
  for (int64_t i = 0; i < n; i++) a[i] = b[i] + 0.5f * c[i];
}
"""
_OPERATIONS_A_STEP = 24 * 16 * 2
_PARTS_A_THREAD = 4  # as fd_runtime.h cuts parallel loops
_STEPS = 200_000
_TRIAD_ELEMENTS = 1 << 24
_REPETITIONS = 20


@dataclass(frozen=True, slots=True)
class MachinePeaks:
    """The best measured on so many threads: float32 operations and bytes a second."""

    threads: int
    flops: float
    bandwidth: float

    def share(self, seconds: float, operations: float, nbytes: float) -> float:
        """The larger of the two shares of the peaks that some work reached (its roofline)."""
        if seconds <= 0:
            return 0.0
        return max(operations / self.flops, nbytes / self.bandwidth) / seconds


def machine_peaks(threads: int | None = None, *, again: bool = False) -> MachinePeaks | None:
    """The peaks of this machine, measured once and kept in the cache on disk.

    Args:
        threads: how many threads; by default as many as programs run on now.
        again: measure again, and keep the better figures: others may have kept the machine busy.

    Returns:
        None where there is no C compiler.
    """
    compiler = find_compiler()
    if compiler is None:
        return None
    threads = threads or shared_object.num_threads()
    store, key = default_cache(), _key(compiler, threads)
    kept = store.get_text(key, ".peaks")
    known = None if kept is None else MachinePeaks(**json.loads(kept))
    if known is not None and not again:
        return known
    try:
        peaks = measure_peaks(threads)
    except CompilerError:
        return known
    if known is not None:
        best = max(known.flops, peaks.flops), max(known.bandwidth, peaks.bandwidth)
        peaks = MachinePeaks(threads, *best)
        store.remove(key, ".peaks")
    store.put(key, ".peaks", json.dumps(asdict(peaks)))
    return peaks


def measure_peaks(threads: int) -> MachinePeaks:
    """Measure now, which takes about a second; the best of several runs.

    Raises:
        CompilerError: there is no C compiler, or it refuses the loops.
    """
    compiler = find_compiler()
    if compiler is None:
        raise CompilerError("no C compiler found to measure the machine's peaks with", ())
    flags = compile_flags(accepts=compiler.accepts)
    flags = (*flags, "-O3", "-ffp-contract=fast")
    path = compiler.build(_SOURCE, flags=flags, name="peaks", include_dirs=(include_dir(),))
    with config.override(num_threads=threads):
        library = shared_object.SharedObject(path)
        parts = threads * _PARTS_A_THREAD
        sizes, out = np.array([parts, _STEPS]), np.empty(parts, np.float32)
        seconds = _best(library.entry("multiply_add", 2), sizes, out)
        flops = parts * _STEPS * _OPERATIONS_A_STEP / seconds
        arrays = [np.zeros(_TRIAD_ELEMENTS, np.float32) + i for i in range(3)]
        seconds = _best(library.entry("triad", 4), np.array([_TRIAD_ELEMENTS]), *arrays)
        return MachinePeaks(threads, flops, sum(x.nbytes for x in arrays) / seconds)


def _best(run: Callable[[list[int]], None], *arrays: npt.NDArray[Any]) -> float:
    addresses = [cpu_memory.address(x) for x in arrays]
    times = []
    for _ in range(_REPETITIONS):
        start = time.perf_counter()
        run(addresses)
        times.append(time.perf_counter() - start)
    return min(times)


def _key(compiler: Compiler, threads: int) -> str:
    parts = [_SOURCE, compiler.version, platform.machine(), _processor(), str(threads)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _processor() -> str:
    """The processor's name: another machine may share the cache's folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.node())
