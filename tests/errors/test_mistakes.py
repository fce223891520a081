"""Every mistake of mistakes.txt: the whole message, and where the traceback ends.

FUNCDL_UPDATE_GOLDEN=1 writes today's messages into the file.
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.errors.mistakes import Mistake, read, write
from tests.golden import UPDATE

import funcdl as fd
from funcdl import errors
from funcdl.core.source import PACKAGE_FOLDER
from funcdl.core.traceback_filter import NOTE, filter_traceback

MISTAKES = read()


@pytest.fixture(autouse=True)
def reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):
        yield


def fail(mistake: Mistake, folder: Path) -> tuple[BaseException, str]:
    """The error that a program ends with, and its message with the file's bare name."""
    path = folder / "user.py"
    path.write_text(mistake.program)
    try:
        exec(compile(mistake.program, str(path), "exec"), {"__name__": "__main__"})
    except Exception as error:
        return error, str(error).replace(str(path), path.name)
    pytest.fail("there was no error")


def test_the_file_has_each_mistake_once() -> None:
    names = [m.name for m in MISTAKES]
    assert len(set(names)) == len(names) > 110


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.name)
@pytest.mark.filterwarnings("error")
def test_the_message(mistake: Mistake, tmp_path: Path) -> None:
    error, message = fail(mistake, tmp_path)
    if UPDATE:
        updated = replace(mistake, error=type(error).__name__, message=message)
        write([updated if m.name == mistake.name else m for m in read()])
        return
    assert (type(error).__name__, message) == (mistake.error, mistake.message)
    assert error.__suppress_context__ or error.__context__ is None, "another error is shown"
    frames = traceback.extract_tb(filter_traceback(error.__traceback__))
    assert (Path(frames[-1].filename).name, frames[-1].lineno) == ("user.py", mistake.line)
    assert not any(frame.filename.startswith(PACKAGE_FOLDER) for frame in frames)


def test_errors_are_of_the_class_that_python_users_expect() -> None:
    by_name = {m.name: getattr(errors, m.error, None) for m in MISTAKES}
    expected = {
        "matrix product": TypeError,
        "loss that is no scalar": TypeError,
        "grad of an integer": TypeError,
        "vmap sizes": ValueError,
        "if under jit": TypeError,
        "np.asarray": TypeError,
        "leak from jit": RuntimeError,
        "unhashable static": ValueError,
        "leaf": TypeError,
        "item assignment": TypeError,
        "deleted in an operation": RuntimeError,
    }
    for name, builtin in expected.items():
        kind = by_name[name]
        assert kind is not None and issubclass(kind, builtin), name
        assert issubclass(kind, errors.FuncdlError), name


RUN_ALL = """
import sys
from pathlib import Path
for path in map(Path, sys.argv[1:]):
    try:
        exec(compile(path.read_text(), str(path), "exec"), {"__name__": "__main__"})
    except Exception as error:
        # Up to here, as if the program had been run by itself.
        error.__traceback__ = error.__traceback__.tb_next
        sys.excepthook(type(error), error, error.__traceback__)
    print("=" * 20, file=sys.stderr, flush=True)
"""


def test_what_python_prints_ends_at_the_users_line(tmp_path: Path) -> None:
    paths = [tmp_path / f"{mistake.slug}.py" for mistake in MISTAKES]
    for path, mistake in zip(paths, MISTAKES, strict=True):
        path.write_text(mistake.program)
    result = subprocess.run(
        [sys.executable, "-c", RUN_ALL, *map(str, paths)],
        env={**os.environ, "FUNCDL_BACKEND": "reference"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    printed = result.stderr.split("=" * 20 + "\n")[:-1]
    assert len(printed) == len(MISTAKES), result.stderr[-2000:]
    for path, mistake, text in zip(paths, MISTAKES, printed, strict=True):
        assert text.startswith("Traceback (most recent call last):\n"), mistake.name
        assert PACKAGE_FOLDER not in text, f"{mistake.name}:\n{text}"
        assert text.count("Traceback (most recent call last):") == 1, f"{mistake.name}:\n{text}"
        last = [line for line in text.splitlines() if line.startswith("  File ")][-1]
        assert last.startswith(f'  File "{path}", line {mistake.line}, in '), f"{text}"
        message = text.replace(str(path), "user.py").removesuffix(f"\n{NOTE}\n")
        assert message.rstrip("\n").endswith(f"{mistake.error}: {mistake.message}"), text


@pytest.mark.parametrize("name", ["shapes in a jitted function", "leak from jit"])
def test_programs_run_by_themselves(name: str, tmp_path: Path) -> None:
    (mistake,) = [m for m in MISTAKES if m.name == name]
    (tmp_path / "user.py").write_text(mistake.program)
    result = subprocess.run(
        [sys.executable, "user.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("  File ")]
    assert f"line {mistake.line}, in " in lines[-1]
    assert PACKAGE_FOLDER not in result.stderr
    assert result.stderr.endswith(f"\n{NOTE}\n")
