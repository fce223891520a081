from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from funcdl.config import config
from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.runtime.cpu_memory import address
from funcdl.runtime.shared_object import load
from funcdl.runtime.toolchain import find_compiler

COMPILER = find_compiler()
pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")

SOURCE = """
#include <stdint.h>
#include "fd_runtime.h"
__attribute__((visibility("default"))) void square(void **slots);
void square(void **slots) {
  const int64_t n = *(const int64_t *)slots[2];
  const double *x = slots[0];
  double *out = slots[1];
  #pragma omp parallel for num_threads(fd_num_threads) schedule(static)
  for (int64_t i = 0; i < n; ++i) out[i] += x[i] * x[i];
}
"""


def path() -> Path:
    assert COMPILER is not None
    return COMPILER.build(SOURCE, flags=compile_flags(), include_dirs=[include_dir()])


def check(n: int, repeats: int) -> bool:
    """Every element is worked on exactly once in each region."""
    entry = load(path(), "square", 3)
    x, out, count = np.arange(float(n)), np.zeros(n), np.array(n, np.int64)
    for _ in range(repeats):
        entry([address(x), address(out), address(count)])
    return np.array_equal(out, repeats * x * x)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("n", [0, 1, 3, 1000])
def test_every_part_is_done_once(threads: int, n: int) -> None:
    with config.override(num_threads=threads):
        assert check(n, 500)


def check_in_threads(bursts: int, repeats: int, pause: float) -> bool:
    results: list[bool] = []

    def run() -> None:
        for _ in range(bursts):
            results.append(check(2000, repeats))
            threading.Event().wait(pause)

    with config.override(num_threads=3):
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return results == [True] * 4 * bursts


def test_regions_of_several_threads_at_once() -> None:
    assert check_in_threads(1, 500, 0)


@pytest.mark.parametrize("repeats", [1, 30])
def test_regions_of_several_threads_that_find_the_pool_busy_awake_or_asleep(repeats: int) -> None:
    assert check_in_threads(60, repeats, 0.001)


def test_sleeping_threads_wake_up() -> None:
    with config.override(num_threads=3):
        for _ in range(20):
            assert check(100, 1)
            threading.Event().wait(0.005)


FORK = """
import os
import time
from funcdl.config import config
from tests.runtime.test_thread_pool import check
config.num_threads = 3
for pause in (0, 0.005):  # awake and asleep
    assert check(1000, 50)
    time.sleep(pause)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if check(1000, 50) else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert check(1000, 50)
"""


def test_parent_and_child_work_on_after_a_fork() -> None:
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", FORK], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr


def test_programs_do_not_load_another_openmp_library() -> None:
    needed = subprocess.run(
        ["readelf", "-d", str(path())], capture_output=True, text=True, check=True
    ).stdout
    assert "Dynamic section" in needed  # or the text is not what this test takes it for
    assert "gomp" not in needed
