"""Processes that end, or fork, while a thread prepares values."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings

import pytest

from funcdl import data
from funcdl.errors import ArgumentError

WAITS = "import threading\nfrom funcdl import data\n"
ENDS = {
    "full": WAITS + "values = data.prefetch(iter(int, 1)); next(values); print('end')",
    "source that waits": WAITS
    + "def source():\n  yield 1\n  threading.Event().wait()\n"
    + "values = data.prefetch(source()); next(values); print('end')",
}


@pytest.mark.parametrize("code", ENDS.values(), ids=list(ENDS))
def test_the_interpreter_ends(code: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "end\n", "")


def test_a_fork_is_told_to_make_its_own() -> None:
    with data.prefetch(iter(int, 1)) as values:
        next(values)
        with warnings.catch_warnings():
            # Python 3.12, and JAX where it is loaded, warn of threads that a child does not have.
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            signal.alarm(120)  # a child that hangs ends
            status = 1
            try:
                next(values)
            except ArgumentError as error:
                values.close()
                status = 0 if "this is a fork of that" in str(error) else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert next(values) == 0
