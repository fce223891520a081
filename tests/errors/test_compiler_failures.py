"""What a user sees of a C compiler that fails or is missing, in programs of their own process."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from funcdl.core.traceback_filter import NOTE
from funcdl.runtime.toolchain import find_compiler

PROGRAM = """\
import numpy as np
import funcdl as fd
import funcdl.numpy as fnp

@fd.jit
def step(w, x):
    return fnp.tanh(x @ w).sum()

w, x = fnp.ones((3, 2)), fnp.ones((4, 3))
for _ in range(3):
    value, slope = step(w, x), fd.jit(fd.grad(step))(w, x)
assert abs(value.item() - 8 * np.tanh(3)) < 1e-5
assert np.allclose(slope, 4 * (1 - np.tanh(3) ** 2), atol=1e-6)
print("done", fd.jit(lambda a: a * 2)(x).sum().item())
"""

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def run(folder: Path, status: int = 0, **environ: str) -> tuple[str, str]:
    """Run a program with an empty cache of its own; return what it printed."""
    path = folder / "user.py"
    path.write_text(PROGRAM)
    result = subprocess.run(
        [sys.executable, str(path)],
        env={
            **{k: v for k, v in os.environ.items() if k not in ("CC", "FUNCDL_CC")},
            "FUNCDL_CACHE_DIR": str(folder / "cache"),
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == status, result.stderr
    return result.stdout, result.stderr


def script(folder: Path, body: str) -> str:
    path = folder / "broken-cc"
    path.write_text(f"#!{shutil.which('sh')}\n{body}\n")
    path.chmod(0o755)
    return str(path)


BROKEN = """\
if [ "$1" = --version ]; then echo "broken cc 1.0"; exit 0; fi
for last in "$@"; do :; done
case "$*" in *probe*) exit 0;; esac
echo "unit.c:1:1: error: the disk of this machine is full" >&2
exit 3"""


def test_a_failing_compiler_is_shown_and_the_result_is_right(tmp_path: Path) -> None:
    cc = script(tmp_path, BROKEN)
    out, err = run(tmp_path, FUNCDL_CC=cc)
    assert out == "done 24.0\n"
    first = err.split("CompilerWarning: ", 1)[1]
    pattern = (
        r"the C compiler refused '(?P<name>\w+)' \(exit status 3\)\n"
        rf"  command: {re.escape(cc)} -shared -fPIC [^\n]* (?P<source>\S+\.c) [^\n]*\n"
        r"  source:  (?P=source)\n"
        r"  unit\.c:1:1: error: the disk of this machine is full\n"
        r"This program runs on the NumPy reference back end instead\.\n"
    )
    match = re.match(pattern, first)
    assert match, first
    assert match["name"] == "step"
    kept = Path(match["source"])
    assert kept.parent.parent == tmp_path / "cache"
    assert "tanh" in kept.read_text()
    assert err.count("the C compiler refused") == 3, "the step, its gradient, and the doubling"


UNLOADABLE = """\
if [ "$1" = --version ]; then echo "odd cc 1.0"; exit 0; fi
while [ "$1" != -o ]; do shift; done
echo no code > "$2" """


def test_code_that_cannot_be_loaded(tmp_path: Path) -> None:
    """As from a file system that is mounted with noexec."""
    out, err = run(tmp_path, FUNCDL_CC=script(tmp_path, UNLOADABLE))
    assert out == "done 24.0\n"
    assert err.count("cannot be loaded: ") == 3
    assert re.search(
        r"user\.py:11: CompilerWarning: the code of 'step' cannot be loaded: .*: file too short\. "
        r"Set FUNCDL_CACHE_DIR to a folder from whose file system code may run\n"
        r"This program runs on the NumPy reference back end instead\.\n",
        err,
    ), err


def test_the_warning_points_at_the_users_line(tmp_path: Path) -> None:
    _, err = run(tmp_path, FUNCDL_CC=script(tmp_path, BROKEN))
    assert err.startswith(f"{tmp_path / 'user.py'}:11: CompilerWarning: "), err
    shown = [line for line in err.splitlines() if "CompilerWarning" in line]
    assert len(shown) == 3 and all(line.startswith(str(tmp_path)) for line in shown)


def test_without_a_compiler_there_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out, err = run(tmp_path, PATH=str(tmp_path / "empty"))
    assert out == "done 24.0\n"
    assert err == (
        f"{tmp_path / 'user.py'}:11: CompilerWarning: no C compiler found (gcc, clang or cc on "
        "the PATH, or FUNCDL_CC): jitted functions run on the NumPy reference back end, many "
        "times slower. Install one, or set FUNCDL_BACKEND=reference to choose this without a "
        "warning.\n"
        "  value, slope = step(w, x), fd.jit(fd.grad(step))(w, x)\n"
    )


def test_the_reference_back_end_warns_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out, err = run(tmp_path, PATH=str(tmp_path / "empty"), FUNCDL_BACKEND="reference")
    assert (out, err) == ("done 24.0\n", "")


def test_a_configured_compiler_that_does_not_exist(tmp_path: Path) -> None:
    """The user asked for this one, so that nothing is put in its place."""
    _, err = run(tmp_path, status=1, FUNCDL_CC="/nowhere/gcc -O9")
    assert f'File "{tmp_path / "user.py"}", line 11, in <module>' in err
    assert err.endswith(
        "CompilerError: config.cc (FUNCDL_CC) is '/nowhere/gcc -O9', which is no working C "
        "compiler: not found on PATH. Set it to a compiler such as 'gcc', or to '' to search for "
        f"one\n{NOTE}\n"
    )


@needs_compiler
def test_a_working_compiler_says_nothing(tmp_path: Path) -> None:
    assert run(tmp_path) == ("done 24.0\n", "")
