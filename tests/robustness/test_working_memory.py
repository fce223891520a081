"""Kernels that find no memory while they run: an error with their names, and nothing else lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.robustness.memory_cases import CASES

from funcdl.runtime.toolchain import find_compiler

COMPILER = find_compiler()
pytestmark = pytest.mark.skipif(
    COMPILER is None or not sys.platform.startswith("linux"), reason="no C compiler, or no Linux"
)
ROOT = Path(__file__).parents[2]

A_RESULT = re.compile(r"MemoryError: the system has no \d+ bytes for a result or for temporaries")
A_KERNEL = re.compile(
    r"WorkingMemoryError: the system has no (\d+) bytes of working memory for kernel (\w+) of "
    r"program (\w+), which was stopped\. Free memory, or use smaller operands; arguments donated "
    r"to this call are deleted, since it may have overwritten them"
)
every_way = pytest.mark.parametrize(
    ("threads", "dispatch"), [("1", "auto"), ("2", "auto"), ("2", "python")]
)


def run_refusing(arguments: list[str], **environ: str) -> str:
    """What a Python process prints that can refuse memory."""
    assert COMPILER is not None
    source = Path(__file__).with_name("refuse_memory.c").read_text()
    library = COMPILER.build(source, flags=["-O1"], name="refuse_memory")
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "LD_PRELOAD": str(library),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            # Python's own allocator would take its arenas by the function that refuses.
            "PYTHONMALLOC": "malloc",
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


@cache
def reports(threads: str, dispatch: str) -> dict[str, Any]:
    lines = run_refusing(
        ["-m", "tests.robustness.memory_cases"],
        FUNCDL_NUM_THREADS=threads,
        FUNCDL_DISPATCH=dispatch,
    )
    return {report["name"]: report for report in map(json.loads, lines.splitlines())}


@every_way
@pytest.mark.parametrize("name", CASES)
def test_kernels_without_memory_are_errors(name: str, threads: str, dispatch: str) -> None:
    report = reports(threads, dispatch)[name]
    kernels = set()
    for error in report["errors"]:
        if A_RESULT.fullmatch(error):
            continue
        found = A_KERNEL.fullmatch(error)
        assert found, error
        assert int(found[1]) >= 16 * 1024
        assert f"program {found[3]} " in report["text"]
        kernels.add(found[2])
    takers = re.findall(r"static void \(?(\w+)\)?\([^{}]*fd_missing \*missing\) {", report["text"])
    assert kernels == set(takers) != set()
    assert report["right"]  # the calls after each error, and the memory in use at the end


@every_way
def test_donated_arguments_live_until_the_program_begins(threads: str, dispatch: str) -> None:
    states = reports(threads, dispatch)["donated"]["states"]
    for state in states.values():
        assert state == ["MemoryError", "WorkingMemoryError, deleted", "done, deleted"]
    assert set(states) == {"jitted", "compiled"}


@every_way
def test_profiled_programs_say_the_same(threads: str, dispatch: str) -> None:
    found = A_KERNEL.fullmatch(reports(threads, dispatch)["profiled"]["error"])
    assert found
    assert int(found[1]) >= 800 * 800 * 4
    assert found[2].startswith("k0_dot")
    assert found[3] == "product"


POOL = """
import ctypes
from funcdl.runtime import cpu_memory
pool = {make}(1 << 30)
nbytes = 5 << 20
refuse = ctypes.CDLL(None).refuse_memory
block = pool.empty(nbytes); del block
assert pool.counters()[0] >= nbytes
refuse(ctypes.c_long(0), ctypes.c_long(1), ctypes.c_size_t(1 << 20))
block = pool.empty(2 * nbytes)
block[:] = 1
assert ctypes.CDLL(None).still_to_refuse() <= 0
assert pool.counters()[0] == 0, pool.counters()
refuse(ctypes.c_long(0), ctypes.c_long(2), ctypes.c_size_t(1 << 20))
try:
    pool.empty(3 * nbytes)
except MemoryError as error:
    print(error)
assert pool.empty(3 * nbytes).nbytes == 3 * nbytes
"""


@pytest.mark.parametrize("make", ["cpu_memory.Pool", "cpu_memory._make_pool"])
def test_pools_give_back_what_they_keep_before_they_refuse(make: str) -> None:
    found = run_refusing(["-c", POOL.format(make=make)])
    assert re.fullmatch(
        r"the system has no 157\d{5} bytes for a result or for temporaries", found.rstrip()
    )


LIMITED = """
import resource
import numpy as np
import funcdl as fd
import funcdl.numpy as fnp
from funcdl.runtime import cpu_memory
x, y = fnp.ones((4, 3000)), fnp.ones((6000, 3000))
product = fd.jit(lambda x, y: x @ y.T)
want = np.array(product(x, y))
def limit(more):
    cpu_memory.pool.clear()
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.RLIM_INFINITY))
limit(16 << 20)
try:
    product(x, y)
except MemoryError as error:
    print(f"{type(error).__name__}: {error}")
limit(1 << 30)
assert np.array_equal(product(x, y), want)
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_systems_own_refusal(threads: str) -> None:
    found = A_KERNEL.fullmatch(run_refusing(["-c", LIMITED], FUNCDL_NUM_THREADS=threads).rstrip())
    assert found
    assert int(found[1]) >= 6000 * 3000 * 4
