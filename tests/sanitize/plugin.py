"""Makes compiled programs easier to catch, in a pytest process that runs under a sanitizer.

Everywhere: small sizes count as large, so that small arrays meet tiles, packed panels and threads.
AddressSanitizer: outputs come from malloc at their exact size, and every temporary has memory of
its own in the arena, with forbidden bytes behind it. ThreadSanitizer: see `strict_pool.c`.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from funcdl.compiler import program as program_module
from funcdl.compiler.cpu import build, convolutions, executable, program_cache, schedule
from funcdl.compiler.memory import ALIGNMENT, ArenaPlan, Lifetime
from funcdl.compiler.program import Program
from funcdl.core.jaxpr import ClosedJaxpr, Var
from funcdl.runtime import shared_object
from funcdl.runtime.cpu_memory import address
from funcdl.runtime.thread_pool import ThreadPool
from funcdl.runtime.toolchain import find_compiler

NDArray = np.ndarray[Any, Any]

# Arrays below this size NumPy may keep for later, forbidden bytes and all.
_KEPT_BYTES = 4096


def small_schedules() -> None:
    """Share, tile and pack what is far too small for that."""
    schedule.PARALLEL_WORK = convolutions.PARALLEL_WORK = 8
    schedule.MIN_CHUNK = 4
    schedule.COLUMN_LANES = schedule.MIN_LANES = schedule.SHORT_LANES = 4
    schedule.TRANSPOSE_TILE = (3, 5)
    schedule.ROW_BLOCK = schedule.COLUMN_BLOCK = 4
    schedule.RUNNING_BLOCK = 4
    schedule.RUNNING_LANES = schedule.RUNNING_MIN_LANES = 3
    schedule.DOT_THIN, schedule.DOT_SMALL, schedule.DOT_MEDIUM = 2, 16, 16


def _apart(lifetimes: Sequence[Lifetime]) -> ArenaPlan:
    """In place of `plan_arena`: no temporary in the memory of another, and room between them."""
    offsets: dict[Var, int] = {}
    end = 0
    for item in lifetimes:
        offsets[item.var] = end
        end += (-(-item.nbytes // ALIGNMENT) + 1) * ALIGNMENT
    return ArenaPlan(offsets, end, tuple(lifetimes))


Gaps = list[tuple[int, int]]
"""Where the forbidden bytes of an arena begin and end."""


class _Guarded(executable.CpuExecutable):
    """An executable whose arena has forbidden bytes behind every temporary."""

    planned: ClassVar[dict[int, Gaps]] = {}  # by the identity of the memory that has them
    running = threading.local()

    def __init__(self, memory: executable.Memory, steps: Sequence[executable.Step]) -> None:
        super().__init__(memory, steps)
        self._gaps = _Guarded.planned.pop(id(memory))

    native_call = None  # not by the extension

    def __call__(self, args: Sequence[NDArray]) -> Sequence[NDArray]:
        _Guarded.running.gaps = self._gaps
        return super().__call__(args)


def _memory_with_gaps(closed: ClosedJaxpr, program: Program) -> executable.Memory:
    """In place of `memory_of`: notes where nothing may be read or written."""
    memory = executable.memory_of(closed, program)
    plan = program.arena
    ends = sorted(plan.offsets[item.var] + item.nbytes for item in plan.lifetimes)
    starts = sorted({*plan.offsets.values(), plan.nbytes})
    _Guarded.planned[id(memory)] = [(end, min(s for s in starts if s >= end)) for end in ends]
    return memory


def guard_memory() -> None:
    """Let AddressSanitizer see the end of every array."""
    poison = ctypes.CDLL(None)["__asan_poison_memory_region"]
    poison.argtypes, poison.restype = (ctypes.c_void_p, ctypes.c_size_t), None

    def arena(nbytes: int) -> NDArray:
        memory = np.empty(max(nbytes, _KEPT_BYTES), np.uint8)
        begin = address(memory)
        for start, end in [*_Guarded.running.gaps, (nbytes, memory.nbytes)]:
            poison(begin + start, end - start)
        return memory

    for module, name, value in (
        (program_module, "plan_arena", _apart),
        (build, "memory_of", _memory_with_gaps),
        (build, "CpuExecutable", _Guarded),
        # A program from the disk cache has no plan that tells where its temporaries end.
        (program_cache, "program_key", lambda *_: None),
        (
            executable,
            "cpu_memory",
            SimpleNamespace(empty=arena, empty_array=np.empty, address=address),
        ),
    ):
        setattr(module, name, value)


def separate_threads() -> None:
    """Run every member of a parallel region on a thread of its own."""
    compiler = find_compiler()
    assert compiler is not None
    source = Path(__file__).with_name("strict_pool.c").read_text()
    library = ctypes.CDLL(str(compiler.build(source, flags=["-O1", "-pthread"])))
    run = ctypes.cast(library.strict_run, ctypes.c_void_p).value
    assert run is not None

    class Strict(ThreadPool):
        def resize(self, threads: int) -> None:
            """The kernels say how many members they have."""

    pool = Strict(library, run)
    setattr(shared_object, "thread_pool", lambda: pool)  # noqa: B010  the name is imported there


def pytest_configure() -> None:
    """Called once, before the tests are imported."""
    modes = os.environ["FUNCDL_TEST_SANITIZER"].split()
    if "small" in modes:
        small_schedules()
    if "address" in modes:
        guard_memory()
    if "strict" in modes:
        separate_threads()
