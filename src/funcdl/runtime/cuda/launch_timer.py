"""When kernels run on a GPU, by events around each launch, for `core.profiler`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter_ns

import numpy as np

from funcdl.core import profiler
from funcdl.core.profiler import Work
from funcdl.runtime.cuda.stream import Event, Stream


class LaunchTimer:
    """Takes the times of the launches of one program's calls.

    A call waits for the GPU before its first launch, so that earlier work is not counted, and after
    its last one. Between the events around a launch lies the kernel, and a microsecond or two of
    the GPU's own work.

    Args:
      stream: where the program runs; the caller holds the device's lock.
      works: what a launch of each kernel is, by the kernel's number.
    """

    def __init__(self, stream: Stream, works: Sequence[Work]) -> None:
        self._stream = stream
        self._works = works
        self._marks: list[tuple[int, Event, Event]] = []

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call of the program, which tells the open profiles of its launches at the end."""
        stream = self._stream
        stream.synchronize()
        first = Event(stream.driver, timed=True)
        begin = perf_counter_ns()
        first.record(stream)
        self._marks = []
        try:
            yield
            stream.synchronize()
            self._tell(first, begin)
        finally:
            self._marks = []

    @contextmanager
    def launch(self, kernel: int) -> Iterator[None]:
        """One launch, by the kernel's number."""
        start, end = (Event(self._stream.driver, timed=True) for _ in range(2))
        start.record(self._stream)
        yield
        end.record(self._stream)
        self._marks.append((kernel, start, end))

    def _tell(self, first: Event, begin: int) -> None:
        rows = np.empty((len(self._marks), 3), np.int64)
        for row, (kernel, start, end) in zip(rows, self._marks, strict=True):
            after = begin + round(1e6 * start.milliseconds_since(first))
            row[:] = kernel, after, after + round(1e6 * end.milliseconds_since(start))
        lengths = rows[:, 2] - rows[:, 1]
        for kernel in sorted(set(rows[:, 0].tolist())):
            own = lengths[rows[:, 0] == kernel]
            profiler.add_inside(self._works[kernel], own.size, int(own.sum()), int(own.min()))
        profiler.add_events(self._works, rows)
