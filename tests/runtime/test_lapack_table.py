"""The table of LAPACK's functions: its order, and what it says about threads."""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.config import config
from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.runtime import lapack
from funcdl.runtime.shared_object import SharedObject
from funcdl.runtime.toolchain import find_compiler

COMPILER = find_compiler()
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")

SOURCE = """
#include "fd_lapack.h"
#define EXPORT __attribute__((visibility("default")))
EXPORT int begin(void *table, int threads) { return fd_lapack_begin(table, threads); }
EXPORT void end(void *table, int limits) { fd_lapack_end(table, limits); }
EXPORT void enter(void *table) { fd_lapack_enter(table); }
EXPORT void leave(void *table) { fd_lapack_leave(table); }
EXPORT size_t words(void) { return sizeof(fd_lapack_table) / 8; }
"""


@pytest.fixture(scope="module")
def library() -> Iterator[Any]:
    assert COMPILER is not None
    flags = compile_flags(accepts=COMPILER.accepts)
    path = COMPILER.build(SOURCE, flags=flags, include_dirs=[include_dir()], name="lapack_threads")
    yield SharedObject(path)


def test_the_table_has_the_order_of_the_header() -> None:
    text = (include_dir() / "fd_lapack_routines.h").read_text()
    complex_, real, rest = re.split(r"#else|#endif", text)
    for fields, letters in [(real + rest, "sd"), (complex_ + rest, "cz")]:
        names = re.findall(r"\(\*(\w+)\)", fields)
        own = [lapack._COMPLEX_NAMES.get(n, n) if letters == "cz" else n for n in lapack.ROUTINES]
        # The header has one name for what only the names of real and complex functions tell apart.
        known = {"hetrd": "sytrd", "ungqr": "orgqr"}
        assert names == [known.get(n, n) for n in own]


@needs_compiler
def test_the_table_is_as_long_as_the_header_says(library: Any) -> None:
    assert lapack.lapack_table() is not None
    (table,) = lapack._tables
    assert len(table) == library.function("words")()
    assert all(table[lapack._THREAD_WORDS + lapack._SHARED_WORDS :])


class Threads:
    """A table whose functions for numbers of threads are Python's."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._get = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: self.count)
        self._set = ctypes.CFUNCTYPE(None, ctypes.c_int)(self.change)
        words = [ctypes.cast(f, ctypes.c_void_p).value or 0 for f in (self._get, self._set)]
        self.table = (ctypes.c_uint64 * 64)(*words)

    def change(self, count: int) -> None:
        self.count = count


@needs_compiler
def test_calls_limit_threads_and_restore_their_number(library: Any) -> None:
    begin, end = library.function("begin"), library.function("end")
    threads = Threads(8)
    first = begin(threads.table, 4)
    assert threads.count == 4
    second = begin(threads.table, 1)
    assert threads.count == 1
    # A call that would allow more does not raise the number of one that runs.
    third = begin(threads.table, 6)
    assert threads.count == 1
    for limits in (first, third):
        end(threads.table, limits)
        assert threads.count == 1
    end(threads.table, second)
    assert threads.count == 8


@needs_compiler
def test_calls_never_raise_the_number_of_threads(library: Any) -> None:
    begin, end = library.function("begin"), library.function("end")
    threads = Threads(2)
    limits = begin(threads.table, 4)
    assert (limits, threads.count) == (0, 2)
    end(threads.table, limits)
    assert threads.count == 2
    nobody = (ctypes.c_uint64 * 64)()
    end(nobody, begin(nobody, 1))


@needs_compiler
def test_overlapping_calls_of_threads_leave_the_number_as_it_was(library: Any) -> None:
    begin, end = library.function("begin"), library.function("end")
    threads = Threads(8)

    def work() -> None:
        for limit in (1, 3, 2) * 30:
            limits = begin(threads.table, limit)
            assert threads.count <= limit
            end(threads.table, limits)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert threads.count == 8


@needs_compiler
def test_programs_leave_the_number_of_threads_as_it_was() -> None:
    assert lapack.lapack_table() is not None
    (table,) = lapack._tables
    if not table[0]:
        pytest.skip("this LAPACK does not say how many threads it has")
    count = ctypes.CFUNCTYPE(ctypes.c_int)(table[0])
    before = count()
    with config.override(backend="cpu", num_threads=1):
        fd.jit(fnp.linalg.eigh)(np.eye(70, dtype=np.float32))
        fd.jit(fnp.linalg.cholesky)(np.eye(300, dtype=np.float32))
    assert count() == before


def test_without_the_functions_there_is_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.linalg import cython_lapack

    find = lapack.lapack_table.__wrapped__
    some = {k: v for k, v in cython_lapack.__pyx_capi__.items() if k != "zgeev"}
    monkeypatch.setattr(cython_lapack, "__pyx_capi__", some)
    assert find() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_forgets_the_calls_of_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    table = (ctypes.c_uint64 * 10)(1, 2, 1, 3, 8, 1, 4, 6, 7, 8)
    monkeypatch.setattr(lapack, "_tables", [table])
    lapack._after_fork()
    assert list(table) == [1, 2, 0, 0, 0, 0, 0, 6, 7, 8]


@needs_compiler
def test_forks_wait_for_who_is_inside_and_keep_others_out(
    library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = (ctypes.c_uint64 * 64)()
    monkeypatch.setattr(lapack, "_tables", [table])
    enter, leave = library.function("enter"), library.function("leave")
    enter(table)
    began, ended = threading.Event(), threading.Event()

    def fork() -> None:
        began.set()
        lapack._before_fork()
        ended.set()
        lapack._after_fork_in_parent()

    def call() -> None:
        enter(table)
        leave(table)

    forking = threading.Thread(target=fork)
    forking.start()
    began.wait()
    while not table[lapack._FORKING]:
        pass
    other = threading.Thread(target=call)
    other.start()
    assert not ended.wait(0.1) and other.is_alive()
    leave(table)
    forking.join()
    other.join()
    assert ended.is_set() and not any(table)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_does_not_wait_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    table = (ctypes.c_uint64 * 64)()
    table[lapack._INSIDE] = 1
    monkeypatch.setattr(lapack, "_tables", [table])
    monkeypatch.setattr(lapack, "PATIENCE", 0.01)
    lapack._before_fork()
    lapack._after_fork_in_parent()
    assert not table[lapack._FORKING]


@needs_compiler
def test_a_unit_that_calls_it_does_not_load_without_it(
    library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("funcdl.runtime.shared_object.lapack_table", lambda: None)
    with pytest.raises(OSError, match="calls LAPACK"):
        SharedObject(library.path)
