"""Everything at once: threads, callbacks, new programs, forks, signals and products of NumPy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from funcdl.runtime.toolchain import find_compiler

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_compiler() is None, reason="no C compiler"),
]

PROGRAM = """
import itertools, os, signal, sys, threading, time, traceback, warnings
import numpy as np
from tests.robustness.test_threads import CALLS, NAMES, bits
import funcdl as fd

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
fd.config.update("backend", "cpu")
x = CALLS["elementwise"][1][0]
inner = fd.jit(CALLS["elementwise"][0])
shape = fd.ShapeDtypeStruct(x.shape, x.dtype)
jitted = {name: fd.jit(CALLS[name][0]) for name in NAMES}
outer = fd.jit(lambda x: fd.pure_callback(lambda x: np.asarray(inner(np.asarray(x))), shape, x) + 1)
wanted = {name: bits(jitted[name](*CALLS[name][1])) for name in NAMES}
wanted_outer = bits(outer(x))
product = x @ x.T
numbers = itertools.count(1)
errors = []
end = time.monotonic() + 8

def old():
    for name in NAMES:
        assert bits(jitted[name](*CALLS[name][1])) == wanted[name], name

def nested():
    assert bits(outer(x)) == wanted_outer

def new():
    n = next(numbers) + os.getpid() % 1000
    assert fd.jit(lambda x: (x * n).sum())(np.ones(50, np.float32)).item() == 50 * n

def beside():
    np.testing.assert_array_equal(x @ x.T, product)

def resize():
    for count in (1, 2, 3):
        fd.config.num_threads = count
        time.sleep(0.01)

def again_and_again(task):
    try:
        while time.monotonic() < end and not errors:
            task()
    except BaseException:
        errors.append(traceback.format_exc())

signals = itertools.count()
signal.signal(signal.SIGALRM, lambda *_: next(signals))
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.013)
tasks = [old, old, nested, new, beside, resize]
threads = [threading.Thread(target=again_and_again, args=(task,)) for task in tasks]
for thread in threads:
    thread.start()
while time.monotonic() < end and not errors:
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)  # ends a child that hangs
        for task in (old, nested, new):
            task()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0:
        errors.append(f"a child ended with {code}")
for thread in threads:
    thread.join()
signal.setitimer(signal.ITIMER_REAL, 0)
assert next(signals) > 10 and next(numbers) > 2
sys.exit("".join(errors) or None)
"""


def test_all_at_once(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)]),
            "FUNCDL_CACHE_DIR": str(tmp_path),
            "FUNCDL_NUM_THREADS": "2",
            # A fork ends OpenBLAS's threads, also under a product that another thread waits for.
            "OPENBLAS_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert (result.returncode, result.stderr) == (0, "")
