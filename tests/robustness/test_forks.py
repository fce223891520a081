"""Children that are forked while another thread is in the middle of a first call."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from funcdl.runtime.toolchain import find_compiler

pytestmark = [
    pytest.mark.skipif(find_compiler() is None, reason="no C compiler"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
]

# A moment is when `there` is set. What was reached goes on half a second later.
PROGRAM = """
import os, signal, sys, threading, time, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
import numpy as np
import funcdl as fd
import funcdl.numpy as fnp

fd.config.backend = "cpu"
moment = sys.argv[1]
there = threading.Event()
main = threading.get_ident()

def pause():
    if threading.get_ident() != main and not there.is_set():
        there.set()
        time.sleep(0.5)

class Finder:
    @staticmethod
    def find_spec(name, *_):
        if name == moment:
            pause()

def pausing(module, name):
    original = getattr(module, name)
    def function(*args, **kwargs):
        pause()
        return original(*args, **kwargs)
    setattr(module, name, function)

if "." in moment:
    sys.meta_path.insert(0, Finder)
elif moment == "passes":
    from funcdl.compiler import pipeline
    pausing(pipeline, "simplify")
elif moment == "compile":
    from funcdl.runtime import processes
    pausing(processes, "run")

def step(number):
    return lambda x: fnp.tanh(x @ x.T).sum() + number

def right(number):
    found = fd.jit(step(number))(np.ones((4, 3), np.float32)).item()
    return abs(found - 16 * np.tanh(3) - number) < 1e-4

def in_child(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # a hang is what this is about
        sys.exit(0 if work() else 1)  # what is to happen at exit happens, too
    return pid

def wait_for(pid):
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, f"the child ended with {code}"

def fork_at_the_moment():
    results = []
    thread = threading.Thread(target=lambda: results.append(right(1)))
    thread.start()
    assert there.wait(60), "this moment does not come"
    wait_for(in_child(lambda: right(2)))
    thread.join()
    assert results == [True]
    assert right(3)

def fork_often():
    results = []
    thread = threading.Thread(target=lambda: results.extend(right(n) for n in range(3)))
    thread.start()
    while thread.is_alive():
        wait_for(in_child(lambda: right(10)))
    assert results == [True] * 3

if moment == "any":
    fork_often()
else:
    fork_at_the_moment()
print("done")
"""


def run(moment: str, folder: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, moment],
        # Checks compute what passes made once more, so that passes would be another moment.
        env={**os.environ, "FUNCDL_CACHE_DIR": str(folder), "FUNCDL_CHECK": "0"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr[-3000:]


MOMENTS = ["funcdl.compiler.cpu.build", "passes", "compile"]
SLOW = ["funcdl.compiler.cpu.target", "funcdl.kir.printer", "any"]


@pytest.mark.parametrize(
    "moment", [*MOMENTS, *(pytest.param(m, marks=pytest.mark.slow) for m in SLOW)]
)
def test_a_child_forked_during_a_first_call_makes_its_own(moment: str, tmp_path: Path) -> None:
    run(moment, tmp_path)


LOCKS = """
import os, signal, sys, threading
import numpy as np
import funcdl as fd
from funcdl.core import profiler
from funcdl.runtime import cpu_memory

fd.config.backend = "cpu"
double = fd.jit(lambda x: x * 2)
x = np.ones(5000, np.float32)
pool = cpu_memory.Pool(1 << 20)
pool.empty(10_000)
with fd.profile():
    double(x)
    held = [profiler._lock, profiler.active[0]._lock, pool._lock]
    thread = threading.Thread(target=lambda: [lock.acquire() for lock in held])
    thread.start()
    thread.join()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        assert pool.stats().cached_bytes == 0
        assert pool.empty(10_000).nbytes == 10_000
        double(x)
        with fd.profile():
            assert double(x)[0] == 2
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for lock in held:
        lock.release()
sys.exit(code)
"""


def test_a_child_does_not_wait_for_locks_that_other_threads_held() -> None:
    result = subprocess.run([sys.executable, "-c", LOCKS], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


FILE_LOCK = """
import os, sys, time
from funcdl.runtime.disk_cache import CacheDir

cache = CacheDir(sys.argv[1])
with cache.lock("name"):
    pid = os.fork()
    if pid == 0:
        os.close(1)
        time.sleep(60)
        os._exit(0)
if os.fork() == 0:
    with cache.lock("name"):
        os.write(1, b"in")
    os._exit(0)
os.wait()
os.kill(pid, 9)
"""


def test_a_child_does_not_keep_others_out_of_a_lock_on_files(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILE_LOCK, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stdout, result.stderr) == (0, "in", "")


SLOW_COMPILER = """\
#!/bin/sh
case "$*" in *square*) touch {there}; while [ ! -e {go} ]; do sleep 0.05; done;; esac
exec {compiler} "$@"
"""

AT_EXIT = """
import os, pathlib, sys, threading, time
import numpy as np
import funcdl as fd

fd.config.backend = "cpu"
there, go = map(pathlib.Path, sys.argv[1:])

def square(x):
    return x * x

results = []
thread = threading.Thread(target=lambda: results.append(fd.jit(square)(np.full(3, 3.0))))
thread.start()
while not there.exists():
    time.sleep(0.01)
if os.fork() == 0:
    sys.exit()
os.wait()
go.touch()
thread.join()
(entry,) = results
assert entry.tolist() == [9, 9, 9]
"""


def test_a_child_that_ends_leaves_the_compiler_of_its_parent_alone(tmp_path: Path) -> None:
    """Neither killed nor its folder removed: else there would be a warning."""
    compiler = find_compiler()
    assert compiler is not None
    there, go = tmp_path / "there", tmp_path / "go"
    path = tmp_path / "cc"
    command = shlex.join(compiler.command)
    path.write_text(SLOW_COMPILER.format(there=there, go=go, compiler=command))
    path.chmod(0o755)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", AT_EXIT, str(there), str(go)],
        env={**os.environ, "FUNCDL_CACHE_DIR": str(tmp_path / "cache"), "FUNCDL_CC": str(path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, "")
