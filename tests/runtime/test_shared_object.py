"""Loading and calling: address tables, threads, the interpreter lock, forked children."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from funcdl.config import config
from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.runtime import shared_object
from funcdl.runtime.cpu_memory import address
from funcdl.runtime.shared_object import Entry, SharedObject, load
from funcdl.runtime.toolchain import find_compiler

COMPILER = find_compiler()
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")

SOURCE = """
#include "fd_runtime.h"
#include <sched.h>
#define EXPORT __attribute__((visibility("default")))

EXPORT void add(void **p) {
  const double *x = p[0], *y = p[1];
  double *out = p[2];
  for (int i = 0; i < 1000; i++) out[i] = x[i] + y[i];
}

/* Waits for another thread to write to the flag, five seconds or so. */
EXPORT void wait_for(void **p) {
  _Atomic int *flag = p[0];
  for (int i = 0; i < 5000000 && !*flag; i++) sched_yield();
  *(int *)p[1] = *flag;
}
EXPORT void raise_flag(void **p) { *(_Atomic int *)p[0] = 1; }

EXPORT void count_threads(void **p) {
  int *count = p[0];
  *count = 0;
#pragma omp parallel num_threads(fd_num_threads)
#pragma omp atomic
  *count += 1;
}
"""


def build() -> Path:
    assert COMPILER is not None
    flags = compile_flags(accepts=COMPILER.accepts)
    return COMPILER.build(SOURCE, flags=flags, include_dirs=[include_dir()], name="test")


@pytest.fixture(scope="module")
def library() -> Iterator[SharedObject]:
    yield SharedObject(build())


def count_threads(entry: Entry) -> int:
    count = np.zeros((), np.int32)
    entry([address(count)])
    return int(count)


def test_an_entry_gets_its_addresses_in_order(library: SharedObject) -> None:
    x, y, out = np.arange(1000.0), np.ones(1000), np.empty(1000)
    library.entry("add", 3)([address(x), address(y), address(out)])
    np.testing.assert_array_equal(out, x + 1)
    out[:] = 0
    entry = load(library.path, "add", 3)
    entry.function(entry.pack(address(x), address(y), address(out)))
    np.testing.assert_array_equal(out, x + 1)


def test_mistakes_are_errors(library: SharedObject, tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="exports no symbol 'subtract'"):
        library.entry("subtract", 3)
    with pytest.raises(struct.error, match="expected 3 items"):
        library.entry("add", 3)([0, 0])
    with pytest.raises(OSError, match="missing"):
        SharedObject(tmp_path / "missing.so")


def test_threads_may_call_the_same_entry_at_once(library: SharedObject) -> None:
    entry = library.entry("add", 3)
    wrong = []

    def work(seed: int) -> None:
        x, y, out = np.full(1000, float(seed)), np.arange(1000.0), np.empty(1000)
        for _ in range(300):
            out[:] = -1
            entry([address(x), address(y), address(out)])
            if not np.array_equal(out, x + y):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_interpreter_runs_on_during_a_call(library: SharedObject) -> None:
    flag, seen = np.zeros((), np.int32), np.zeros((), np.int32)
    wait, signal = library.entry("wait_for", 2), library.entry("raise_flag", 1)
    thread = threading.Thread(target=wait, args=([address(flag), address(seen)],))
    thread.start()
    signal([address(flag)])
    thread.join()
    assert seen == 1


def test_threads_follow_the_flag(library: SharedObject) -> None:
    entry = library.entry("count_threads", 1)
    for count in (3, 1, 2):
        with config.override(num_threads=count):
            assert shared_object.num_threads() == count
            # 1: a compiler without OpenMP; otherwise a thread claims several members.
            members = 1 if count == 1 else 4 * count
            assert count_threads(entry) in (members, 1)
    with config.override(num_threads=0):
        assert shared_object.num_threads() == len(os.sched_getaffinity(0))


FORK = """
import os, sys, warnings
import numpy as np
from funcdl.config import config
from funcdl.runtime import shared_object
from funcdl.runtime.cpu_memory import address, empty
warnings.simplefilter("ignore")
path = sys.argv[1]
config.num_threads = 2
entry = shared_object.load(path, "count_threads", 1)

def count(entry):
    result = np.zeros((), np.int32)
    entry([address(result)])
    return int(result)

parent = count(entry)
pid = os.fork()
if pid == 0:
    empty(100_000)
    config.num_threads = 3  # must not bring the threads back
    child = [count(entry), count(shared_object.load(path, "count_threads", 1))]
    os._exit(0 if child == [1, 1] else 1)
_, status = os.waitpid(pid, 0)
print(parent, os.waitstatus_to_exitcode(status), count(entry))
"""


def test_a_forked_child_runs_on_one_thread_and_does_not_hang(library: SharedObject) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FORK, str(library.path)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    parent, child, parent_again = map(int, result.stdout.split())
    assert child == 0
    assert parent == parent_again
