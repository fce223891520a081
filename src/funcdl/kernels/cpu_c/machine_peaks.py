"""What this machine can do at most: float32 multiply-adds, and bytes from memory and caches.

Small loops (machine_peaks.c), run on the threads that compiled programs run on. Programs are
compared with these figures, rather than with those of a data sheet, which no program reaches.

Other programs can only make a loop slower, so the best of many runs counts. A run is shorter than
the turns that an operating system gives to programs (some milliseconds): even on a busy machine
some runs have all processors to themselves. Rounds of such runs go on until one finds nothing
better.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from funcdl.config import config
from funcdl.core.records import record
from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.runtime import cpu_memory, shared_object
from funcdl.runtime.disk_cache import default_cache
from funcdl.runtime.toolchain import Compiler, CompilerError, find_compiler

_SOURCE = Path(__file__).with_name("machine_peaks.c")
_PARTS_A_THREAD = 4  # as fd_runtime.h cuts parallel loops
_STEPS = 8_000
_ARRAYS = 3
_ARRAY_ELEMENTS = 1 << 24  # 201 MB in all: more than caches hold
_MEMORY_SLICES = 16  # so many runs go by before memory is read again
# Elements of each array, a fourth from one to the next: 48 KiB in all to 48 MiB.
_CACHED_ELEMENTS = tuple(1 << bits for bits in range(12, 24, 2))
_STEP_OF_SIZES = 4
_BYTES_A_RUN = 1 << 26
_PADDING = 67 * 16  # so that equal places of the arrays are not in the same set of a cache
_ROUND = 128  # elements; the sums take 8 vectors at once
_MIN_RUNS = 4
_SECONDS = 0.015  # of runs of each loop in a round
_MAX_ROUNDS = 8
_STEADY = 1.02  # a round that finds less than this much more is the last one
_THREADS_SCALE = 0.75  # of one thread's rate; what is less is suspicious, hyperthreads or not
_PAUSE_SECONDS = 0.05
_STALE_SECONDS = 86400.0
_STALE_SECONDS_UNSETTLED = 60.0


@record
class MachinePeaks:
    """The best measured on so many threads: float32 operations and bytes a second.

    Attributes:
        threads: how many.
        flops: of multiply-adds, each of which is two operations.
        bandwidth: of memory: the faster of a triad ``a = b + s * c`` and a sum, over more than
            caches hold.
        cached: the same over fewer bytes, again and again: pairs of bytes and bandwidth.
    """

    threads: int
    flops: float
    bandwidth: float
    cached: tuple[tuple[int, float], ...] = ()

    def bandwidth_of(self, nbytes: float) -> float:
        """What work on so many bytes could reach: that of the largest loop on no more bytes.

        Loops on more bytes that were faster count as well, so it falls as `nbytes` grows.
        """
        rates = (rate for size, rate in self.cached if size * _STEP_OF_SIZES > nbytes)
        return max((self.bandwidth, *rates))

    def share(self, seconds: float, operations: float, nbytes: float) -> float:
        """The larger of the two shares of the peaks that a piece of work reached (its roofline).

        Args:
            seconds, operations, nbytes: of one call: what it reads and writes may stay in a cache
                from one call to the next, where it fits.
        """
        if seconds <= 0:
            return 0.0
        return max(operations / self.flops, nbytes / self.bandwidth_of(nbytes)) / seconds

    def raised(self, seconds: float, operations: float, nbytes: float) -> MachinePeaks:
        """Peaks that this work is not beyond: what was reached can be reached."""
        peaks = self
        if operations > peaks.flops * seconds:
            peaks = replace(peaks, flops=operations / seconds)
        if nbytes > peaks.bandwidth_of(nbytes) * seconds:
            peaks = replace(peaks, cached=(*peaks.cached, (math.ceil(nbytes), nbytes / seconds)))
        return peaks

    def better(self, other: MachinePeaks) -> MachinePeaks:
        """The better one of each figure, of two measurements on as many threads."""
        return MachinePeaks(
            self.threads,
            max(self.flops, other.flops),
            max(self.bandwidth, other.bandwidth),
            tuple(
                (size, max(rate, rate_too))
                for (size, rate), (_, rate_too) in zip(self.cached, other.cached, strict=True)
            ),
        )

    def rises_to(self, other: MachinePeaks) -> float:
        """By how much `other`, better or equal, is better in the figure that differs most."""
        rates = zip(self._rates(), other._rates(), strict=True)
        return max(theirs / own for own, theirs in rates)

    def _rates(self) -> Iterable[float]:
        return self.flops, self.bandwidth, *(rate for _, rate in self.cached)


def machine_peaks(threads: int | None = None, *, again: bool = False) -> MachinePeaks | None:
    """The peaks of this machine, kept in the cache on disk.

    They are measured when they are first asked for, and again when they are a day old, when they
    are a minute old and the machine seemed busy, or when `again` is set. The better of the old and
    the new figures are kept, so that a measurement on a busy machine, which others slow down and
    none speeds up, does no lasting harm.

    Args:
        threads: how many threads; by default as many as programs run on now.
        again: measure now, for instance because a program went beyond them.

    Returns:
        None where nothing can be compiled or loaded.
    """
    compiler = find_compiler()
    if compiler is None:
        return None
    threads = threads or shared_object.num_threads()
    store, key = default_cache(), _key(compiler, threads)
    kept = store.get_text(key, ".peaks")
    known, until = (None, 0.0) if kept is None else _from_text(kept)
    if known is not None and not again and time.time() < until:
        return known
    try:
        peaks, settled = _measure(threads)
    except (CompilerError, OSError):  # nothing compiled, or nothing that can be loaded
        return known
    if known is not None:
        peaks = known.better(peaks)
        store.remove(key, ".peaks")
    until = time.time() + (_STALE_SECONDS if settled else _STALE_SECONDS_UNSETTLED)
    store.put(key, ".peaks", json.dumps(asdict(peaks) | {"until": until}))
    return peaks


def _from_text(text: str) -> tuple[MachinePeaks, float]:
    """Peaks, and until when they hold."""
    kept = json.loads(text)
    until = kept.pop("until")
    cached = tuple((size, rate) for size, rate in kept.pop("cached"))
    return MachinePeaks(**kept, cached=cached), until


def measure_peaks(threads: int) -> MachinePeaks:
    """Measure now, which takes a second, and up to three on a busy machine.

    Raises:
        CompilerError: there is no C compiler, or it refuses the loops.
    """
    return _measure(threads)[0]


def _measure(threads: int) -> tuple[MachinePeaks, bool]:
    compiler = find_compiler()
    if compiler is None:
        raise CompilerError("no C compiler found to measure the machine's peaks with", ())
    flags = compile_flags(accepts=compiler.accepts)
    flags = (*flags, "-O3", "-ffp-contract=fast")
    path = compiler.build(
        _SOURCE.read_text(), flags=flags, name="peaks", include_dirs=(include_dir(),)
    )
    with config.override(num_threads=threads):
        loops = _Loops(path, threads)
        return _until_settled(loops.round, loops.one_thread)


def _until_settled(
    measure: Callable[[], MachinePeaks], one_thread: Callable[[], float]
) -> tuple[MachinePeaks, bool]:
    """The best of so many rounds that the last one finds nothing better; False if they ended first.

    Threads that together do much less than each alone had no processor each, perhaps because others
    used them: rounds go on, after a pause, while there are some left.

    Args:
        measure: one round's figures.
        one_thread: float32 operations a second of a single thread.
    """
    best, alone = measure(), one_thread()
    for _ in range(_MAX_ROUNDS - 1):
        before, best = best, best.better(measure())
        alone = max(alone, one_thread())
        scales = best.flops >= _THREADS_SCALE * best.threads * alone
        if scales and before.rises_to(best) < _STEADY:
            return best, True
        if not scales:
            time.sleep(_PAUSE_SECONDS)
    return best, False


class _Loops:
    """The compiled loops, and the arrays that they run on."""

    def __init__(self, path: Path, threads: int) -> None:
        library = shared_object.SharedObject(path)
        self._threads = threads
        self._multiply_add = library.entry("multiply_add", 2)
        self._streams = library.entry("triad", 5), library.entry("sum", 5)
        self._operations = int(library.function("operations_a_step")())
        self._out = np.empty(threads * _PARTS_A_THREAD, np.float32)
        stride = _ARRAY_ELEMENTS + _PADDING
        memory = np.ones(_ARRAYS * stride, np.float32)
        self._arrays = [memory[i * stride :][:_ARRAY_ELEMENTS] for i in range(_ARRAYS)]

    def round(self) -> MachinePeaks:
        """Every figure, each the best of some milliseconds' runs."""
        cached = [
            (_ARRAYS * elements * 4, self._bandwidth(elements)) for elements in _CACHED_ELEMENTS
        ]
        flops = self._flops(self._threads * _PARTS_A_THREAD)
        return MachinePeaks(self._threads, flops, self._memory_bandwidth(), tuple(cached))

    def one_thread(self) -> float:
        """Float32 operations a second of one thread alone."""
        return self._flops(1)

    def _flops(self, parts: int) -> float:
        sizes = np.array([parts, _STEPS])
        seconds = _best(lambda _: self._multiply_add(_addresses(sizes, self._out)))
        return parts * _STEPS * self._operations / seconds

    def _bandwidth(self, elements: int) -> float:
        nbytes = _ARRAYS * elements * 4
        return self._stream(elements, 1, max(_BYTES_A_RUN // nbytes, 1))

    def _memory_bandwidth(self) -> float:
        return self._stream(_ARRAY_ELEMENTS // _MEMORY_SLICES, _MEMORY_SLICES, 1)

    def _stream(self, elements: int, windows: int, passes: int) -> float:
        """Bytes a second of the faster loop, which takes one of the windows after the other."""
        part = max(elements // self._threads // _ROUND * _ROUND, _ROUND)
        parts = elements // part
        rates = []
        for loop in self._streams:

            def run(turn: int, loop: shared_object.Entry = loop) -> None:
                sizes = np.array([parts, part, turn % windows * elements, passes])
                loop(_addresses(sizes, *self._arrays, self._out))

            rates.append(_ARRAYS * parts * part * 4 * passes / _best(run))
        return max(rates)


def _addresses(*arrays: npt.NDArray[Any]) -> list[int]:
    return [cpu_memory.address(x) for x in arrays]


def _best(run: Callable[[int], None]) -> float:
    """The shortest of some milliseconds' runs, after one to warm up."""
    run(0)
    begin = time.perf_counter()
    turn, least, now = 1, float("inf"), begin
    while turn < _MIN_RUNS or now - begin < _SECONDS:
        start = time.perf_counter()
        run(turn)
        now = time.perf_counter()
        least = min(least, now - start)
        turn += 1
    return least


def _key(compiler: Compiler, threads: int) -> str:
    parts = [_SOURCE.read_text(), compiler.version, platform.machine(), _processor(), str(threads)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _processor() -> str:
    """The processor's name: another machine may share the cache's folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.node())
