"""Uncaught errors end at the user's line: whole programs are run and all they print is read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.core import toy

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core import source, traceback_filter
from funcdl.core.traceback_filter import NOTE, filter_traceback

HEADER = """
import sys
import threading
{before}
import numpy as np
from funcdl.core import tree
from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.staging import trace_to_jaxpr
from funcdl.core import traceback_filter
traceback_filter.install()  # the package has done it: nothing is filtered twice

x = Array(np.zeros(3, np.float32))
broken = Primitive("broken")
broken.impl = np.dot

def model(x):
    x[0] = 1
    return [x]

def train():
    trace_to_jaxpr(model, [ShapedArray((3,), np.dtype(np.float32))])

"""


def run(folder: Path, body: str, before: str = "", **environ: str) -> tuple[str, list[str]]:
    """Run a program; return what it printed to stderr, and the lines of code that it shows."""
    script = folder / "script.py"
    script.write_text(HEADER.format(before=before) + body)
    result = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "COLUMNS": "200", **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = result.stderr.splitlines()
    frames = [after for at, after in pairwise(lines) if at.startswith("  File")]
    return result.stderr, [frame.strip() for frame in frames]


MESSAGE = (
    "funcdl.errors.ImmutableArrayError: "
    "arrays are immutable, so item assignment to f32[3] is not possible.\n"
    "Instead of   x[index] = value\n"
    "write        x = x.at[index].set(value)\n"
)
TRAIN = ["train()", "trace_to_jaxpr(model, [ShapedArray((3,), np.dtype(np.float32))])", "x[0] = 1"]


def test_the_last_frame_is_the_users(tmp_path: Path) -> None:
    text, frames = run(tmp_path, "train()")
    assert frames == TRAIN
    assert str(source.PACKAGE_FOLDER) not in text
    assert text.endswith(f"{MESSAGE}{NOTE}\n")
    assert text.count(NOTE) == 1


def test_the_flag_shows_all_frames(tmp_path: Path) -> None:
    text, frames = run(tmp_path, "train()", FUNCDL_TRACEBACK_FILTERING="0")
    assert [frame for frame in frames if frame in TRAIN] == TRAIN
    assert len(frames) == 5
    assert text.count(source.PACKAGE_FOLDER) == 2
    assert text.endswith(MESSAGE)


def test_errors_of_the_users_own_are_left_alone(tmp_path: Path) -> None:
    text, frames = run(tmp_path, "def f():\n    return 1 / 0\n\nf()")
    assert frames == ["f()", "return 1 / 0"]
    assert text.endswith("ZeroDivisionError: division by zero\n")


def test_frames_of_packages_that_the_library_calls_are_hidden(tmp_path: Path) -> None:
    text, frames = run(tmp_path, "broken(x, Array(np.zeros(4, np.float32)))")
    assert frames == ["broken(x, Array(np.zeros(4, np.float32)))"]
    assert re.search(rf"\nValueError: shapes .*\n{re.escape(NOTE)}\n$", text)
    text, frames = run(tmp_path, "tree.map(lambda leaf: leaf[0], 7)")
    assert frames == ["tree.map(lambda leaf: leaf[0], 7)"] * 2


def test_frames_of_packages_that_the_user_calls_stay(tmp_path: Path) -> None:
    text, frames = run(tmp_path, "import numpy.linalg\nnumpy.linalg.inv(np.zeros((2, 3)))")
    assert frames[0] == "numpy.linalg.inv(np.zeros((2, 3)))"
    assert len(frames) > 1
    assert NOTE not in text


def test_threads(tmp_path: Path) -> None:
    body = "thread = threading.Thread(target=train, name='T')\nthread.start()\nthread.join()"
    text, frames = run(tmp_path, body)
    assert text.startswith("Exception in thread T:\nTraceback")
    assert frames[-2:] == TRAIN[1:]
    assert source.PACKAGE_FOLDER not in text
    assert text.endswith(f"{MESSAGE}{NOTE}\n")


CHAIN = """
def wrapped():
    try:
        train()
    except TypeError as error:
        raise RuntimeError("training failed") from error

try:
    wrapped()
finally:
    tree.missing
"""


def test_causes_and_contexts_are_filtered(tmp_path: Path) -> None:
    text, frames = run(tmp_path, CHAIN)
    assert source.PACKAGE_FOLDER not in text
    raised = 'raise RuntimeError("training failed") from error'
    assert frames == [*TRAIN, "wrapped()", raised, "tree.missing"]
    assert "The above exception was the direct cause" in text
    assert "During handling of the above exception" in text
    assert text.endswith(f"{NOTE}\n")
    assert text.count(NOTE) == 1


def test_exception_groups_are_filtered(tmp_path: Path) -> None:
    body = "try:\n    train()\nexcept Exception as e:\n    raise ExceptionGroup('two', [e, e])"
    text, _ = run(tmp_path, body)
    assert source.PACKAGE_FOLDER not in text
    assert "x[0] = 1" in text


def test_hooks_that_were_there_before_are_called(tmp_path: Path) -> None:
    before = """
def hook(kind, error, tb):
    print("hooked", kind.__name__, error.__notes__, file=sys.stderr)
    while tb.tb_next:
        tb = tb.tb_next
    print("last line is in", tb.tb_frame.f_code.co_name, file=sys.stderr)

def thread_hook(args):
    hook(args.exc_type, args.exc_value, args.exc_traceback)
    print(args.thread.name, file=sys.stderr)

sys.excepthook = hook
threading.excepthook = thread_hook
"""
    expected = f"hooked ImmutableArrayError [{NOTE!r}]\nlast line is in model\n"
    assert run(tmp_path, "train()", before)[0] == expected
    body = "thread = threading.Thread(target=train, name='T')\nthread.start()\nthread.join()"
    assert run(tmp_path, body, before)[0] == f"{expected}T\n"


def test_tracebacks_are_whole_again_after_the_hook(tmp_path: Path) -> None:
    body = """
import traceback
try:
    train()
except Exception as e:
    error = e
before = traceback.format_exception(error)
sys.excepthook(type(error), error, error.__traceback__)
assert traceback.format_exception(error) == before and len(before) > 4
print("done", file=sys.stderr)
"""
    text, frames = run(tmp_path, body)
    assert frames == TRAIN
    assert text.endswith(f"{NOTE}\ndone\n")


IPYTHON = """
import types
class Shell:
    def showtraceback(self, exc_tuple=None, filename=None, *, running_compiled_code=False):
        kind, error, tb = exc_tuple or sys.exc_info()
        print(kind.__name__, tb is error.__traceback__, running_compiled_code, file=sys.stderr)
        import traceback
        traceback.print_exception(kind, error, tb)
shell = Shell()
module = types.ModuleType("IPython")
module.get_ipython = lambda: shell
sys.modules["IPython"] = module
"""


@pytest.mark.parametrize("argument", ["", "sys.exc_info(), "])
def test_notebooks(tmp_path: Path, argument: str) -> None:
    body = "try:\n    train()\nexcept Exception:\n"
    body += f"    shell.showtraceback({argument}running_compiled_code=True)"
    text, frames = run(tmp_path, body, IPYTHON)
    assert text.startswith("ImmutableArrayError True True\n")
    assert frames == TRAIN
    assert text.endswith(f"{NOTE}\n")


def test_ipython_without_a_shell_changes_nothing(tmp_path: Path) -> None:
    before = IPYTHON.replace("lambda: shell", "lambda: None")
    assert run(tmp_path, "train()", before)[1] == TRAIN


def test_code_without_a_file_is_the_users() -> None:
    assert not source.is_internal("<stdin>")
    assert not source.is_internal(__file__)
    assert source.is_internal(traceback_filter.__file__)


def test_typed_input_is_the_users_wherever_python_was_started() -> None:
    code = "from funcdl.core import source\nprint(source.current())"
    result = subprocess.run(
        [sys.executable, "-"],
        input=code,
        cwd=source.PACKAGE_FOLDER + "core",  # the package's own folder has a module named numpy
        capture_output=True,
        text=True,
    )
    assert result.stdout == "<stdin>:2 (<module>)\n", result.stderr


def test_filter_traceback_alone() -> None:
    assert filter_traceback(None) is None
    with pytest.raises(TypeError) as caught:
        toy.array(1)[0] = 2
    filtered = filter_traceback(caught.tb)
    assert filtered is not None
    assert filtered.tb_frame.f_code.co_filename == __file__
    assert filtered.tb_next is None
    # Where no frame of the user's is left, nothing is hidden.
    assert caught.tb.tb_next is not None
    assert filter_traceback(caught.tb.tb_next) is caught.tb.tb_next


ARGUMENTS = {
    "fnp.fromiter(3, 'float32')": (
        "TypeError",
        "This came of the arguments of fromiter(iter=3, dtype='float32', count=-1)",
    ),
    # Errors of checks, of wrong signatures and of the user's functions are complete by themselves.
    "fnp.sum(x, 5)": ("ArgumentError", None),
    "fnp.sum(x, dim=0)": ("TypeError", None),
    "fd.config.update('x64', 3)": ("ValueError", None),
    "fd.lax.cond(True, lambda a: a, lambda a: a, x, x)": ("TypeError", None),
    "fnp.apply_along_axis(lambda v: v + {}, 0, x)": ("TypeError", None),
}


def notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


@pytest.mark.parametrize("call", ARGUMENTS)
def test_errors_that_no_check_foresaw_name_the_call(call: str) -> None:
    kind, expected = ARGUMENTS[call]
    scope = {"fd": fd, "fnp": fnp, "np": np, "x": fnp.ones(2)}
    with pytest.raises(Exception) as raised:
        exec(compile(call, "user.py", "exec"), scope)
    assert type(raised.value).__name__ == kind
    assert traceback_filter.call_at_fault(raised.value) == expected
    shown = []
    hook = traceback_filter._filtering_hook(lambda _, e, tb: shown.extend(notes(e)))
    hook(raised.type, raised.value, raised.tb)
    assert [note for note in shown if note != NOTE] == ([] if expected is None else [expected])
    assert not notes(raised.value)
