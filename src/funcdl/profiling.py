"""Why a step takes as long as it does: `profile`, and `memory_stats`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from funcdl.core import profiler
from funcdl.core.forks import held_off
from funcdl.core.options import flag
from funcdl.core.records import record
from funcdl.core.source import SourceLine
from funcdl.errors import ArgumentError

if TYPE_CHECKING:
    from funcdl.kernels.cpu_c.machine_peaks import MachinePeaks

__all__ = ["Profile", "ProfileRow", "memory_stats", "profile"]

RowKind = Literal["kernel", "loops", "host", "equation", "call", "compile", "python"]


@record
class ProfileRow:
    """One line of a profile; times of rows do not overlap, and add up to those of their threads.

    Attributes:
      kind: ``"kernel"``; ``"loops"``: native loops around kernels, and copies; ``"host"``: an
        equation that a compiled program leaves to NumPy; ``"equation"``: one of the reference back
        end; ``"call"``: Python code of a program's calls, which allocates and packs; ``"compile"``:
        tracing and compiling; ``"python"``: all else, eager operations and dispatch included.
      name: the kernel's, the primitive's or the program's.
      program: the name of the jitted function.
      source: the user's line of the main equation, where there is one.
      calls: how many there were.
      seconds, min_seconds: of all calls, and of the shortest one.
      nbytes, flops: read and written, and computed, by all calls, as counted from the kernel
        (`funcdl.kir.cost`); flops include transcendentals here. 0 where nobody knows.
      operations: flops in units of one float32 addition.
      platform: where it ran, ``"cpu"`` or ``"gpu"``.
    """

    kind: RowKind
    name: str
    program: str
    source: SourceLine | None
    calls: int
    seconds: float
    min_seconds: float
    nbytes: int
    flops: int
    operations: int
    platform: str = "cpu"

    @property
    def mean_seconds(self) -> float:
        """The time of one call."""
        return self.seconds / self.calls


class Profile:
    """What ran while it was open; made by `profile`.

    Attributes:
      seconds: how long it has been open.
      rows: a `ProfileRow` for each thing that took time, the longest first.
    """

    def __init__(self, peaks: MachinePeaks | None, max_events: int) -> None:
        self._recorder = profiler.Recorder(max_events)
        self._given_peaks = peaks
        self._measured_again = False
        self._opened: int | None = None
        self._nanoseconds = 0

    def __enter__(self) -> Profile:
        if self._opened is not None:
            raise ArgumentError("this profile is open already; make another one to nest them")
        self._opened = perf_counter_ns()
        profiler.open_recorder(self._recorder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._opened is not None
        profiler.close_recorder(self._recorder)
        self._nanoseconds += perf_counter_ns() - self._opened
        self._opened = None

    @property
    def seconds(self) -> float:
        """How long it has been open, in all."""
        return self._elapsed() * 1e-9

    def _elapsed(self) -> int:
        running = 0 if self._opened is None else perf_counter_ns() - self._opened
        return self._nanoseconds + running

    @property
    def rows(self) -> list[ProfileRow]:
        """One for each thing that took time, the longest first."""
        found = [
            ProfileRow(
                work.kind,
                work.name,
                work.program,
                work.source,
                timing.calls,
                timing.total * 1e-9,
                timing.least * 1e-9,
                timing.calls * work.nbytes,
                timing.calls * work.flops,
                timing.calls * work.operations,
                work.platform,
            )
            for work, timing in self._recorder.snapshot()
        ]
        rest = max(self._elapsed() - self._recorder.covered, 0) * 1e-9
        found.append(ProfileRow("python", "outside of programs", "", None, 1, rest, rest, 0, 0, 0))
        return sorted(found, key=lambda row: -row.seconds)

    @property
    def peaks(self) -> MachinePeaks | None:
        """What the machine can do; None without a compiler.

        Measured where it was not given, and once again where a row went beyond it. What rows
        reached all the same can be reached: it raises the peaks of this profile.
        """
        return self._peaks_and_raisers(self.rows)[0]

    def _peaks_and_raisers(
        self, rows: Sequence[ProfileRow]
    ) -> tuple[MachinePeaks | None, list[ProfileRow]]:
        """The peaks, and the rows that raised them."""
        if self._given_peaks is not None:
            return self._given_peaks, []
        with held_off():
            from funcdl.kernels.cpu_c.machine_peaks import machine_peaks

        measured = machine_peaks()
        if measured is None:
            return None, []
        peaks, raisers = _raised(measured, rows)
        if raisers and not self._measured_again:
            self._measured_again = True
            measured = machine_peaks(again=True) or measured
            peaks, raisers = _raised(measured, rows)
        return peaks, raisers

    def peak_share(self, row: ProfileRow) -> float | None:
        """The larger of the shares of the machine's peaks that a row's calls reached (a roofline).

        One is of operations by multiply-adds, the other of bytes by a loop that moves as many bytes
        as one call of the row, again and again: where they fit in a cache, it is compared with the
        cache, else with memory. None where the row's counts or the peaks are not known, and for
        kernels on a GPU: the peaks are this machine's processors'. Above 1 only where peaks were
        given.
        """
        return _share(row, self.peaks)

    def table(self, limit: int | None = None) -> str:
        """The rows as text.

        Args:
          limit: how many of them, the longest; None for all.
        """
        rows = self.rows
        shown = rows if limit is None else rows[:limit]
        peaks, raisers = self._peaks_and_raisers(rows)
        compiling = sum(row.seconds for row in rows if row.kind == "compile")
        running = max(self.seconds - compiling, 1e-9)
        heads = ("ms", "%", "calls", "mean us", "min us", "MB", "GB/s", "GFLOP/s", "peak %")
        cells: list[tuple[str, ...]] = [(*heads, "kind", "name", "source")]
        cells += [_cells(row, peaks, running) for row in shown]
        lines = [f"{self.seconds * 1e3:.3f} ms, {_by_kind(rows)}"]
        if peaks is not None:
            lines.append(_peak_line(peaks))
        if raisers:
            names = ", ".join(dict.fromkeys(_full_name(row) for row in raisers))
            lines.append(f"went beyond the measured peak, and so raised it: {names}")
        lines += ["", *_aligned(cells, len(heads))]
        if len(shown) < len(rows):
            rest = sum(row.seconds for row in rows[len(shown) :])
            lines.append(f"and {len(rows) - len(shown)} more rows of {rest * 1e3:.3f} ms")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def trace(self, path: str | os.PathLike[str]) -> None:
        """Write the latest events as a Chrome trace, for chrome://tracing or ui.perfetto.dev.

        Raises:
          OSError: the file cannot be written.
        """
        import json

        events: list[dict[str, Any]] = []
        for event in self._recorder.latest_events():
            work = event.work
            notes = {"program": work.program, "bytes": work.nbytes, "flops": work.flops}
            events.append(
                {
                    "name": work.name,
                    "cat": work.kind,
                    "ph": "X",
                    "ts": event.start / 1e3,
                    "dur": (event.end - event.start) / 1e3,
                    "pid": os.getpid(),
                    "tid": event.thread,
                    "args": notes | ({"source": str(work.source)} if work.source else {}),
                }
            )
        text = json.dumps({"traceEvents": events, "displayTimeUnit": "ns"})
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def profile(*, peaks: MachinePeaks | None = None, max_events: int = 100_000) -> Profile:
    """Find out where time goes: a context manager that times what runs inside.

    ::

        with fd.profile() as p:
            step(params, x)
        print(p)

    Jitted functions run as variants, compiled for this, whose code takes the time of each kernel.
    So call them before once inside of a profile, for a table without compilation. The reference
    back end's equations, and those that compiled programs leave to NumPy, are timed too. Programs
    of all threads are recorded. Profiles can be nested: each gets all that runs while it is open.

    Args:
      peaks: what to compare with, as it is; by default what
        `funcdl.kernels.cpu_c.machine_peaks.machine_peaks` measured within a day.
      max_events: how many events to keep for `Profile.trace`, the latest ones; of one call of a
        program at most 16384.

    Raises:
      ArgumentError: `max_events` is negative or no integer.
    """
    given: Any = max_events
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ArgumentError(f"profile: max_events must be an integer >= 0, got {max_events!r}")
    return Profile(peaks, max_events)


def memory_stats(*, reset_peak: bool = False) -> dict[str, int]:
    """Memory of the results and temporaries of compiled programs, in bytes.

    These are blocks of a pool (`funcdl.runtime.cpu_memory`); arrays below 4 KiB and those that
    NumPy made, eagerly, are not counted: see `live_arrays`.

    * ``bytes_in_use``, ``peak_bytes_in_use``: of arrays that are alive, now and at most;
    * ``largest_alloc_size``: of the largest ever;
    * ``num_allocs``: how many there were, and ``num_reused`` of them without new memory;
    * ``bytes_cached``: free, kept for reuse, and ``bytes_reserved``: both, in use and cached.

    Args:
      reset_peak: let the peak begin anew, after this call.
    """
    reset_peak = flag("memory_stats: reset_peak", reset_peak)
    from funcdl.runtime import cpu_memory

    stats = cpu_memory.stats()
    if reset_peak:
        cpu_memory.pool.reset_peak()
    return {
        "bytes_in_use": stats.used_bytes,
        "peak_bytes_in_use": stats.peak_used_bytes,
        "largest_alloc_size": stats.largest_bytes,
        "num_allocs": stats.hits + stats.misses,
        "num_reused": stats.hits,
        "bytes_cached": stats.cached_bytes,
        "bytes_reserved": stats.used_bytes + stats.cached_bytes,
    }


def _share(row: ProfileRow, peaks: MachinePeaks | None) -> float | None:
    return None if peaks is None or not _is_counted(row) else peaks.share(*_call(row))


def _raised(
    peaks: MachinePeaks, rows: Sequence[ProfileRow]
) -> tuple[MachinePeaks, list[ProfileRow]]:
    """Peaks that no row is beyond, and the rows that raised them."""
    raisers = []
    for row in rows:
        raised = peaks.raised(*_call(row)) if _is_counted(row) else peaks
        if raised is not peaks:
            raisers.append(row)
        peaks = raised
    return peaks, raisers


def _is_counted(row: ProfileRow) -> bool:
    return row.platform == "cpu" and row.seconds > 0 and bool(row.nbytes or row.operations)


def _call(row: ProfileRow) -> tuple[float, float, float]:
    """The seconds, operations and bytes of a call."""
    return row.mean_seconds, row.operations / row.calls, row.nbytes / row.calls


def _by_kind(rows: Sequence[ProfileRow]) -> str:
    """Compiling in milliseconds, which happens once, and the shares of all else."""
    seconds: dict[str, float] = {}
    for row in rows:
        seconds[row.kind] = seconds.get(row.kind, 0.0) + row.seconds
    compiling = seconds.pop("compile", 0.0)
    total = sum(seconds.values()) or 1.0
    shares = ", ".join(f"{kind} {100 * s / total:.1f} %" for kind, s in seconds.items())
    if not compiling:
        return f"by kind: {shares}"
    return f"of which compile {compiling * 1e3:.3f} ms; the rest by kind: {shares}"


def _peak_line(peaks: MachinePeaks) -> str:
    flops, bandwidth = peaks.flops / 1e9, peaks.bandwidth / 1e9
    cached = peaks.bandwidth_of(0) / 1e9
    caches = f", {cached:.0f} GB/s from caches" if peaks.cached else ""
    return (
        f"peak on {peaks.threads} thread{'s' * (peaks.threads > 1)}: {flops:.0f} GFLOP/s of "
        f"float32, {bandwidth:.1f} GB/s from memory{caches}"
    )


def _cells(row: ProfileRow, peaks: MachinePeaks | None, running: float) -> tuple[str, ...]:
    share = _share(row, peaks)
    seconds = max(row.seconds, 1e-9)
    return (
        f"{row.seconds * 1e3:.3f}",
        "" if row.kind == "compile" else f"{100 * row.seconds / running:.1f}",
        str(row.calls),
        f"{row.mean_seconds * 1e6:.2f}",
        f"{row.min_seconds * 1e6:.2f}",
        f"{row.nbytes / 1e6:.3f}" if row.nbytes else "",
        f"{row.nbytes / seconds / 1e9:.2f}" if row.nbytes else "",
        f"{row.flops / seconds / 1e9:.2f}" if row.flops else "",
        "" if share is None else f"{100 * share:.1f}",
        row.kind,
        _full_name(row),
        "" if row.source is None else _place(row.source),
    )


def _full_name(row: ProfileRow) -> str:
    return f"{row.program}: {row.name}" if row.program else row.name


def _place(source: SourceLine) -> str:
    scope = f" in {source.scope}" if source.scope else ""
    text = f"  {source.text}" if source.text else ""
    return f"{os.path.basename(source.file)}:{source.line}{scope}{text}"


def _aligned(rows: Sequence[Sequence[str]], numbers: int) -> list[str]:
    """Columns of equal width, the first ones, of numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place < numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
