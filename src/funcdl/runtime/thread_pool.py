"""The threads that parallel regions of generated code run on: one pool for the whole process."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from funcdl.core.records import record
from funcdl.runtime.toolchain import CompilerError, Unit, find_compiler

SOURCE = Path(__file__).with_name("thread_pool.c")
_FLAGS = ("-O2", "-std=gnu11", "-fvisibility=hidden", "-pthread")


@record
class ThreadPool:
    """The loaded pool; `run` is the address of its function that runs a region."""

    library: ctypes.CDLL
    run: int

    def resize(self, threads: int) -> None:
        """Let at most that many threads work in a region, the caller among them."""
        self.library.fd_pool_resize(max(threads - 1, 0))


def unit() -> Unit:
    """What the C compiler makes the pool of."""
    return Unit(SOURCE.read_text(), _FLAGS, "thread_pool")


@cache
def thread_pool() -> ThreadPool | None:
    """The pool, built when first asked for; None where it cannot be built.

    Regions then run on their caller alone.
    """
    compiler = find_compiler()
    if compiler is None:
        return None
    try:
        library = compiler.load(unit(), lambda path: ctypes.CDLL(str(path)))
    except (CompilerError, OSError):
        return None
    run = ctypes.cast(library.fd_pool_run, ctypes.c_void_p).value
    return None if run is None else ThreadPool(library, run)
