"""Where the time of a profiled stretch of a program goes: spans, which nest, and who records them.

`funcdl.profile` opens a `Recorder`. While one is open, `jit` runs executables that report the time
of each kernel, and spans are taken of all that happens around kernels. A span's own time is its
time without that of the spans inside it, so the own times of one thread add up to its time.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Any, Literal

import numpy as np

from funcdl.core.records import record
from funcdl.core.source import SourceLine

Kind = Literal["kernel", "loops", "host", "equation", "call", "compile"]


@record
class Work:
    """Something that takes time.

    `kind` is what it is: a native ``kernel``, the native ``loops`` around kernels, an equation that
    a compiled program runs on the ``host``, an ``equation`` of the reference back end, the Python
    code of a ``call`` of an executable, or tracing and compiling (``compile``). `nbytes`, `flops`
    and `operations` are those of one call (see `funcdl.kir.cost`), 0 where they are not known.
    `platform` is where it runs, ``"cpu"`` or ``"gpu"``.
    """

    kind: Kind
    name: str
    program: str = ""
    source: SourceLine | None = None
    nbytes: int = 0
    flops: int = 0
    operations: int = 0
    platform: str = "cpu"


@dataclass(slots=True)
class Timing:
    """The calls of some work: their number, own nanoseconds in all, and of the shortest."""

    calls: int = 0
    total: int = 0
    least: int = 0

    def add(self, calls: int, total: int, least: int) -> None:
        self.least = min(self.least, least) if self.calls else least
        self.calls += calls
        self.total += total


@record
class Event:
    """One call, from `start` to `end` on the clock of `time.perf_counter_ns`, on a thread."""

    work: Work
    start: int
    end: int
    thread: int


@record
class Block:
    """Events that native code has written: rows of ``(position in works, start, end)``."""

    works: Sequence[Work]
    rows: np.ndarray[Any, Any]
    thread: int


class Recorder:
    """What the spans taken while it was open add up to; safe between threads.

    `covered` are the nanoseconds of the spans of the thread that opened it that are in no other
    span.

    Args:
      max_events: how many events to keep, the latest ones.
    """

    def __init__(self, max_events: int) -> None:
        self.max_events = max_events
        self.timings: dict[Work, Timing] = {}
        self._events: deque[Event] = deque(maxlen=max_events)
        self._blocks: deque[Block] = deque()
        self._in_blocks = 0
        self.covered = 0
        self._lock = threading.Lock()
        self._thread = threading.get_ident()
        self._depth = 0
        self._start = 0

    def add(self, work: Work, calls: int, total: int, least: int) -> None:
        """Count some calls of some work."""
        with self._lock:
            self.timings.setdefault(work, Timing()).add(calls, total, least)

    def begin(self) -> None:
        """Take in spans that start from now on; called by `open_recorder`."""
        self._thread, self._depth = threading.get_ident(), len(_stack.spans)
        self._start = perf_counter_ns()

    def snapshot(self) -> list[tuple[Work, Timing]]:
        """The timings so far."""
        with self._lock:
            return [(work, replace(timing)) for work, timing in self.timings.items()]

    def latest_events(self) -> list[Event]:
        """The events that were kept, in the order in which they began."""
        with self._lock:
            events = list(self._events)
            for block in self._blocks:
                for number, start, end in block.rows.tolist():
                    events.append(Event(block.works[number], start, end, block.thread))
        events.sort(key=lambda event: (event.start, -event.end))
        return events[max(len(events) - self.max_events, 0) :]

    def add_block(self, block: Block) -> None:
        """Keep some events, whose times are counted elsewhere."""
        with self._lock:
            self._blocks.append(block)
            self._in_blocks += len(block.rows)
            while self._in_blocks - len(self._blocks[0].rows) > self.max_events:
                self._in_blocks -= len(self._blocks.popleft().rows)

    def end_span(self, event: Event, own: int, aside: int, depth: int) -> None:
        """Count a span that has ended, with so many others around it; `aside` was left out."""
        if event.start >= self._start:
            self.add(event.work, 1, own, own)
            with self._lock:
                self._events.append(event)
            if event.thread == self._thread and depth == self._depth:
                self.covered += event.end - event.start - aside


active: tuple[Recorder, ...] = ()
"""The recorders that are open, of all threads; each span goes to all of them."""

_listeners: list[Callable[[], None]] = []
_lock = threading.Lock()


def _after_fork() -> None:
    # Threads that the child does not have may hold the locks.
    global _lock
    _lock = threading.Lock()
    for recorder in active:
        recorder._lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def on_change(listener: Callable[[], None]) -> None:
    """Call a function whenever the first recorder is opened, and when the last one is closed."""
    _listeners.append(listener)


def open_recorder(recorder: Recorder) -> None:
    """Record from now on."""
    recorder.begin()
    _set(lambda: (*active, recorder))


def close_recorder(recorder: Recorder) -> None:
    """Record no more."""
    _set(lambda: tuple(other for other in active if other is not recorder))


def _set(change: Callable[[], tuple[Recorder, ...]]) -> None:
    global active
    with _lock:
        was, active = bool(active), change()
        if was != bool(active):
            for listener in _listeners:
                listener()


@dataclass(slots=True)
class _Span:
    work: Work
    inside: int = 0  # nanoseconds of the spans inside it
    aside: int = 0  # and of what `leave_out` leaves out


class _Stack(threading.local):
    def __init__(self) -> None:
        self.spans: list[_Span] = []


_stack = _Stack()


def current_program() -> str:
    """The name of the program that this thread is running."""
    spans = reversed(_stack.spans)
    return next((span.work.name for span in spans if span.work.kind == "call"), "")


@contextmanager
def span(work: Work) -> Iterator[None]:
    """Record the time that this takes; nothing where no recorder is open at its end."""
    this = _Span(work)
    spans = _stack.spans
    spans.append(this)
    start = perf_counter_ns()
    try:
        yield
    finally:
        end = perf_counter_ns()
        spans.pop()
        counted = end - start - this.aside
        if spans:
            spans[-1].inside += counted
            spans[-1].aside += this.aside
        if active:
            event = Event(work, start, end, threading.get_ident())
            for recorder in active:
                recorder.end_span(event, counted - this.inside, this.aside, len(spans))


def leave_out(start: int) -> None:
    """Leave the time since `start` out of the current spans: that of writing times down, which
    takes longer than a small kernel. A profile has it outside of programs."""
    _stack.spans[-1].aside += perf_counter_ns() - start


def add_inside(work: Work, calls: int, total: int, least: int) -> None:
    """Record calls of some work that happened inside the current span."""
    _stack.spans[-1].inside += total
    for recorder in active:
        recorder.add(work, calls, total, least)


def add_events(works: Sequence[Work], rows: np.ndarray[Any, Any]) -> None:
    """Record when calls happened, whose time is counted elsewhere (see `Block`)."""
    block = Block(works, rows, threading.get_ident())
    for recorder in active:
        recorder.add_block(block)
