"""Whole programs with a cache folder that is unusable, damaged, full or shared; killed compiles."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from funcdl.runtime.toolchain import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

PROGRAM = """\
import os, resource, sys
import numpy as np
import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core import backend

fd.config.backend = "cpu"
if limit := int(os.environ.get("LARGEST_FILE", "0")):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

@fd.jit
def step(w, x):
    return fnp.tanh(x @ w).sum()

found = step(fnp.ones((3, 2)), fnp.ones((4, 3))).item()
assert abs(found - 8 * np.tanh(3)) < 1e-5, found
(entry,) = step._entries.values()
print("numpy" if isinstance(entry.executable, backend.ReferenceProgram) else "compiled")
"""


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "FUNCDL_CACHE_DIR": str(folder), **more}


def start(folder: Path, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment(folder, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(folder: Path, **more: str) -> tuple[str, str]:
    """What the program used, and what it wrote to stderr; its results are right."""
    process = start(folder, **more)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip(), err


def entries(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("??/*")}


def file_in_its_place(folder: Path) -> None:
    folder.write_text("mine")


def writable_by_all(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def of_another_user(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)


def below_a_file(folder: Path) -> None:
    folder.parent.joinpath("file").touch()
    folder.symlink_to(folder.parent / "file" / "cache")


def to_itself(folder: Path) -> None:
    folder.symlink_to(folder)


def slow(*values: object) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


UNUSABLE = [
    (writable_by_all, r"others can write to it \(mode 777\)"),
    slow(file_in_its_place, "File exists"),
    slow(of_another_user, "it belongs to user 65534"),
    slow(below_a_file, "File exists|Not a directory"),
    slow(to_itself, "Too many levels of symbolic links|File exists"),
]


@pytest.mark.parametrize(("make", "reason"), UNUSABLE, ids=lambda x: getattr(x, "__name__", ""))
def test_an_unusable_folder_is_left_alone(
    make: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    if make is of_another_user and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    folder = tmp_path / "cache"
    make(folder)
    used, err = run(folder)
    assert used == "compiled"
    assert err.count("Warning") == 1 and re.search(reason, err), err
    assert not folder.is_dir() or not list(folder.iterdir())
    temporary = re.search(r"Using '([^']+)'", err)
    assert temporary is not None and not Path(temporary[1]).exists(), "gone with the process"


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_read_only_folder_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o500)
    used, err = run(folder)
    assert used == "compiled" and "Permission denied" in err


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "one bit": lambda data: (
        bytes([*data[:100], data[100] ^ 1, *data[101:]])
        if len(data) > 101
        else data[:-1] + bytes([data[-1] ^ 1])
    ),
    "other text": lambda data: b"#!/bin/sh\n",
}


@pytest.mark.parametrize("damage", ["cut off", *(slow(d) for d in DAMAGES if d != "cut off")])
def test_damaged_entries_are_made_again(damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert run(folder) == ("compiled", "")
    whole = entries(folder)
    assert whole
    for path in folder.glob("??/*"):
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert run(folder) == ("compiled", "")
    assert set(entries(folder)) >= {n for n in whole if n.endswith(".so")}
    assert run(folder) == ("compiled", "")


@pytest.mark.parametrize("largest_file", ["3000", slow("100")])
def test_without_room_programs_run_with_numpy_and_the_cache_stays_whole(
    largest_file: str, tmp_path: Path
) -> None:
    """A file cannot grow beyond some size: neither the source, nor what the compiler writes."""
    folder = tmp_path / "cache"
    used, err = run(folder, LARGEST_FILE=largest_file)
    assert used == "numpy"
    assert err.count("CompilerWarning") == 1, err
    assert "File too large" in err or "File size limit exceeded" in err, err
    # Only what was whole is left: sources and the compiler's version, not that flags were refused.
    assert not [name for name in entries(folder) if not name.endswith((".c", ".version"))]
    assert run(folder) == ("compiled", "")


def compiler_that(folder: Path, body: str) -> str:
    """A compiler that does something first; its version is that of the real one."""
    compiler = find_compiler()
    assert compiler is not None
    path = folder / "compiler"
    path.write_text(f'#!/bin/sh\n{body}\nexec {shlex.join(compiler.command)} "$@"\n')
    path.chmod(0o755)
    return str(path)


SLOW = """\
case "$*" in *--version*|*probe*|*thread_pool*|*call_table*) ;; *)
  for last; do :; done
  echo half > "$last"
  echo $$ >> {log}
  if [ ! -e {go} ]; then exec sleep 20; fi;;
esac"""


def wait_for(path: Path, lines: int) -> list[int]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        words = path.read_text().split() if path.exists() else []
        if len(words) >= lines:
            return [int(word) for word in words]
        time.sleep(0.05)
    raise AssertionError("the compiler was not started")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["compiler", "all"])
def test_after_a_killed_compile_the_next_run_compiles(victim: str, tmp_path: Path) -> None:
    folder, log, go = tmp_path / "cache", tmp_path / "log", tmp_path / "go"
    cc = compiler_that(tmp_path, SLOW.format(log=log, go=go))
    process = start(folder, FUNCDL_CC=cc)
    (pid,) = wait_for(log, 1)
    if victim == "all":
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    else:
        os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "numpy\n"), err
        assert "exit status -9" in err
    go.touch()
    assert run(folder, FUNCDL_CC=cc) == ("compiled", "")


def test_processes_that_compile_the_same_program_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    processes = [start(folder) for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out, err) == (0, "compiled\n", "")
    left = [path.name for path in folder.iterdir() if path.name.startswith(".tmp")]
    assert left == []
    # What they left serves without a compiler's help.
    log = tmp_path / "log"
    compiler = find_compiler()
    assert compiler is not None
    cc = compiler_that(tmp_path, f'case "$*" in *--version*) ;; *) echo run >> {log};; esac')
    run(folder, FUNCDL_CC=cc)
    log.unlink()
    assert run(folder, FUNCDL_CC=cc) == ("compiled", "")
    assert not log.exists()


@pytest.mark.slow
def test_the_folder_may_vanish_between_runs_and_programs(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert run(folder) == ("compiled", "")
    shutil.rmtree(folder)
    assert run(folder) == ("compiled", "")
