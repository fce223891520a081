"""Parts of an executable that tell `core.profiler` the time they take."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np

from funcdl.compiler.cost import equation_cost, kernel_works, library_works
from funcdl.compiler.cpu.executable import Step, raise_working_memory_error
from funcdl.compiler.program import Program
from funcdl.compiler.steps import HostStep
from funcdl.core import profiler
from funcdl.core.backend import Executable
from funcdl.core.profiler import Work
from funcdl.kir.program import (
    BranchCall,
    Call,
    KernelProgram,
    LibraryCall,
    ScanCall,
    WhileCall,
    all_kernels,
    all_library_calls,
    bodies,
)

NDArray = np.ndarray[Any, Any]

# Words of the table in fd_profile.h: of its head, of a kernel's row, of an event.
_HEAD, _ROW, _EVENT = 4, 3, 3
_MAX_EVENTS_OF_A_CALL = 1 << 14  # a table of 384 KiB


class ProfiledExecutable:
    """An executable whose calls are spans, with the times of its steps inside."""

    def __init__(self, executable: Executable, name: str) -> None:
        self._executable = executable
        self._work = Work("call", name)

    def __call__(self, args: Sequence[NDArray]) -> Sequence[NDArray]:
        with profiler.span(self._work):
            return self._executable(args)


def profiled_native_step(
    function: Callable[[bytes], int], segment: KernelProgram, program: Program
) -> Step:
    """Runs kernels by an entry point that `render_profiled_program` has written.

    Args:
      function: takes the addresses, packed, that of the table at the end; returns how many bytes
        of memory a kernel missed.
    """
    kernels = kernel_works(all_kernels(segment), program, segment.name)
    kernels += library_works(all_library_calls(segment), program, segment.name)
    loops = Work("loops", "loops and copies", segment.name)
    rows = _HEAD + _ROW * len(kernels)
    expected = min(_num_calls(segment), _MAX_EVENTS_OF_A_CALL)

    def run(addresses: bytes, memory: list[NDArray]) -> None:
        wanted = max((recorder.max_events for recorder in profiler.active), default=0)
        capacity = min(wanted, expected)
        table = np.empty(rows + _EVENT * capacity, np.int64)
        table[:rows] = 0
        table[:2] = len(kernels), capacity
        with profiler.span(loops):
            missing = function(addresses + struct.pack("P", table.ctypes.data))
            end = perf_counter_ns()
            for work, row in zip(kernels, table[_HEAD:rows].reshape(-1, _ROW), strict=True):
                calls, total, least = row.tolist()
                if calls:
                    profiler.add_inside(work, calls, total, least)
            profiler.leave_out(end)
        start = perf_counter_ns()
        happened = int(table[2])
        events = table[rows:].reshape(-1, _EVENT)[:happened]
        if happened > capacity > 0:
            events = np.roll(events, -(happened % capacity), axis=0)
        profiler.add_events(kernels, events.copy())
        profiler.leave_out(start)
        if missing:
            raise_working_memory_error(segment.name, kernels[int(table[3])].name, missing)

    return run


def _num_calls(program: KernelProgram) -> int:
    """How many kernels a run calls at most; a great many where only a run can tell."""
    count = 0
    for call in program.calls:
        inner = sum(_num_calls(body.program) for body in bodies(call))
        match call:
            case ScanCall(length=length):
                count += inner * length
            case WhileCall():
                count += inner * _MAX_EVENTS_OF_A_CALL
            case BranchCall():
                count += inner
            case Call() | LibraryCall():
                count += 1
    return count


def profiled_host_step(run: Step, step: HostStep, program: str) -> Step:
    """Runs a host step within a span."""
    eqn = step.eqn
    nbytes = equation_cost(eqn).nbytes
    work = Work("host", eqn.primitive.name, program, eqn.source, nbytes)

    def timed(addresses: bytes, memory: list[NDArray]) -> None:
        with profiler.span(work):
            run(addresses, memory)

    return timed
