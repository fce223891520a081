"""How long kernels take on a GPU, by events in its stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from funcdl.errors import CudaError
from funcdl.runtime.cuda.graph import LaunchGraph
from funcdl.runtime.cuda.launch import Kernel
from funcdl.runtime.cuda.stream import Event, Stream

ROUNDS = 5
"""How often all kernels are timed in turn."""

# How long a kernel is launched again and again in each round, and how often at most: one launch is
# too short to be timed well.
_ROUND_MS = 2.0
_MAX_REPEATS = 100


def time_in_turn(
    stream: Stream, kernels: Sequence[Kernel], pointers: Sequence[int], rounds: int = ROUNDS
) -> list[float | CudaError]:
    """Milliseconds of one launch of each kernel, the least of some rounds over all of them.

    In a round a kernel is launched as often as fits into about two milliseconds, by one graph: a
    launch from Python takes longer than many kernels. Where the driver refuses a kernel, its error
    stands in place of the time. The caller holds the device's lock.

    Args:
      pointers: what all kernels are launched with.
    """
    stream.activate()
    best: list[float | CudaError] = []
    graphs: list[tuple[LaunchGraph, int] | None] = []
    for kernel in kernels:
        try:
            launch = partial(kernel.launch, stream, pointers)
            _time(stream, launch)  # loads what is loaded late
            once = _time(stream, launch)
            graphs.append(_graph(stream, kernel, pointers, once))
            best.append(once)
        except CudaError as error:
            graphs.append(None)
            best.append(error)
    for _ in range(rounds):
        for number, entry in enumerate(graphs):
            known = best[number]
            if entry is not None and isinstance(known, float):
                graph, count = entry
                best[number] = min(known, _time(stream, graph.launch) / count)
    return best


def _graph(
    stream: Stream, kernel: Kernel, pointers: Sequence[int], once: float
) -> tuple[LaunchGraph, int] | None:
    """Launches that fill a round, and how many they are; None for a kernel of no programs."""
    if kernel.programs == 0:
        return None
    count = max(1, min(_MAX_REPEATS, int(_ROUND_MS / max(once, 1e-6))))
    return LaunchGraph(stream, [(kernel, tuple(pointers))] * count), count


def _time(stream: Stream, issue: Callable[[], None]) -> float:
    start, end = Event(stream.driver, timed=True), Event(stream.driver, timed=True)
    start.record(stream)
    issue()
    end.record(stream)
    end.synchronize()
    return end.milliseconds_since(start)
