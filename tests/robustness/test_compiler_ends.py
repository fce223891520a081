"""Compilers that hang, and programs that are interrupted while they wait for one."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from funcdl.runtime.toolchain import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

# A compiler that hangs at some of its calls, and has started another process, as gcc does.
HANGING = """\
#!/bin/sh
case "$*" in
  {pattern})
    if [ ! -e {go} ]; then
      for last; do :; done
      case "$last" in --version) ;; *) echo half > "$last";; esac
      sleep 1000 &
      echo $$ $! > {pids}.new
      mv {pids}.new {pids}
      wait
    fi;;
esac
exec {compiler} "$@"
"""

START = """
import os, pathlib, signal, sys, threading, time, warnings
import numpy as np
import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core import backend
from funcdl.errors import CompilerWarning

# What a shell starts in the background ignores interrupts, and so does what that starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
fd.config.backend = "cpu"
pids, go, cache = map(pathlib.Path, sys.argv[1:])

@fd.jit
def step(x):
    return fnp.tanh(x @ x.T).sum()

def call():
    found = step(np.full((70, 300), 0.1, np.float32)).item()
    assert abs(found / 4900 - np.tanh(3)) < 1e-4, found

def compiled():
    (entry,) = step._entries.values()
    return not isinstance(entry.executable, backend.ReferenceProgram)

def wait():
    while not pids.exists():
        time.sleep(0.01)

def left():
    # What was killed takes a moment to end.
    for _ in range(500):
        alive = [pid for pid in pids.read_text().split() if is_alive(pid)]
        found = alive + [path.name for path in cache.glob(".tmp*")]
        if not found:
            break
        time.sleep(0.01)
    return found

def is_alive(pid):
    try:
        return ") Z " not in pathlib.Path("/proc", pid, "stat").read_text()
    except OSError:
        return False
"""

INTERRUPTED = (
    START
    + """
def interrupt():
    wait()
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    call()
except KeyboardInterrupt:
    assert not left(), left()
else:
    sys.exit("not interrupted")
go.touch()
with warnings.catch_warnings():
    warnings.simplefilter("error")
    call()
assert compiled()
assert not left(), left()
"""
)


def environment(folder: Path, pattern: str, **more: str) -> dict[str, str]:
    compiler = find_compiler()
    assert compiler is not None
    path = folder / "a compiler"
    path.write_text(
        HANGING.format(
            pattern=pattern,
            go=folder / "go",
            pids=folder / "pids",
            compiler=shlex.join(compiler.command),
        )
    )
    path.chmod(0o755)
    cc = shlex.quote(str(path))
    return {**os.environ, "FUNCDL_CACHE_DIR": str(folder / "cache"), "FUNCDL_CC": cc, **more}


def start(program: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *(str(folder / x) for x in ("pids", "go", "cache"))],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """How it ended, with what it wrote."""
    try:
        out, err = process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, err


def is_alive(pid: str) -> bool:
    try:
        return ") Z " not in Path("/proc", pid, "stat").read_text()
    except OSError:
        return False


def alive(folder: Path) -> list[str]:
    return [pid for pid in (folder / "pids").read_text().split() if is_alive(pid)]


STEPS = {
    "the program": "*step.c*",
    "an object that it is linked with": "*gemm_f32.c*",
    "linking": "*-shared*unit.o*",
    "the thread pool": "*thread_pool*",
    "the question about flags": "*probe*",
}


def all_but_linking(mark: pytest.MarkDecorator) -> list[object]:
    return [name if name == "linking" else pytest.param(name, marks=mark) for name in STEPS]


@pytest.mark.parametrize("name", all_but_linking(pytest.mark.slow))
def test_an_interrupt_ends_the_compiler_and_the_next_call_compiles(
    name: str, tmp_path: Path
) -> None:
    process = start(INTERRUPTED, tmp_path, environment(tmp_path, STEPS[name]))
    assert finish(process) == (0, "", "")


TIMED_OUT = (
    START
    + """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    call()
assert not left(), left()
for each in caught:
    assert each.category is CompilerWarning
    print(each.message)
print("compiled" if compiled() else "not compiled")
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("name", all_but_linking(pytest.mark.exhaustive))
def test_a_compiler_that_hangs_is_ended(name: str, tmp_path: Path) -> None:
    settings = environment(tmp_path, STEPS[name], FUNCDL_COMPILE_SECONDS="12.5")
    process = start(TIMED_OUT, tmp_path, settings)
    code, out, err = finish(process)
    assert (code, err) == (0, "")
    if name in ("the thread pool", "the question about flags"):
        assert out == "compiled\n"  # without it
    else:
        assert out.count("the C compiler was ended") == 1
        assert "took it longer than 12.5 s. Set FUNCDL_COMPILE_SECONDS to more" in out
        assert "command: '" in out and "a compiler' " in out
        assert "NumPy reference back end instead" in out and out.endswith("\nnot compiled\n")
    if name == "the program":
        (tmp_path / "go").touch()
        again = start(TIMED_OUT, tmp_path, settings)
        assert finish(again) == (0, "compiled\n", "")


DAEMON = (
    START
    + """
threading.Thread(target=call, daemon=True).start()
wait()
"""
)
UNCAUGHT = START + "call()\n"


@pytest.mark.parametrize("ending", ["the main thread ends", "an interrupt", "a hang of --version"])
def test_no_compiler_outlives_the_process(ending: str, tmp_path: Path) -> None:
    if ending == "the main thread ends":
        process = start(DAEMON, tmp_path, environment(tmp_path, "*step.c*"))
        assert finish(process) == (0, "", "")
    else:
        pattern = "*--version*" if ending == "a hang of --version" else "*step.c*"
        process = start(UNCAUGHT, tmp_path, environment(tmp_path, pattern))
        while not (tmp_path / "pids").exists():
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(2)
        _, err = process.communicate(timeout=180)
        assert "KeyboardInterrupt" in err and "Warning" not in err
    assert not alive(tmp_path)
