"""How long kernels take on a GPU, by events in its stream."""

from __future__ import annotations

from collections.abc import Sequence

from funcdl.errors import CudaError
from funcdl.runtime.cuda.launch import Kernel
from funcdl.runtime.cuda.stream import Event, Stream

ROUNDS = 5
"""How often all kernels are timed in turn."""

_ROUND_MS = 2.0
_MAX_REPEATS = 100


def time_in_turn(
    stream: Stream, kernels: Sequence[Kernel], pointers: Sequence[int], rounds: int = ROUNDS
) -> list[float | CudaError]:
    """Milliseconds of one launch of each kernel, the least of some rounds over all of them.

    In a round a kernel is launched as often as fits into about two milliseconds. Where the driver
    refuses a kernel, its error stands in place of the time. The caller holds the device's lock.

    Args:
      pointers: what all kernels are launched with.
    """
    stream.activate()
    best: list[float | CudaError] = []
    repeats = []
    for kernel in kernels:
        try:
            _time(stream, kernel, pointers, 1)  # loads what is loaded late
            best.append(_time(stream, kernel, pointers, 1))
        except CudaError as error:
            best.append(error)
        last = best[-1]
        once = last if isinstance(last, float) else _ROUND_MS
        repeats.append(max(1, min(_MAX_REPEATS, int(_ROUND_MS / max(once, 1e-6)))))
    for _ in range(rounds):
        for number, kernel in enumerate(kernels):
            known = best[number]
            if isinstance(known, float):
                count = repeats[number]
                best[number] = min(known, _time(stream, kernel, pointers, count) / count)
    return best


def _time(stream: Stream, kernel: Kernel, pointers: Sequence[int], count: int) -> float:
    start, end = Event(stream.driver, timed=True), Event(stream.driver, timed=True)
    start.record(stream)
    for _ in range(count):
        kernel.launch(stream, pointers)
    end.record(stream)
    end.synchronize()
    return end.milliseconds_since(start)
