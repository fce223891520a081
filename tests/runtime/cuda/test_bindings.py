"""The runtime through NVIDIA's own bindings, which pack its arguments as they do for a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.runtime.cuda.environment import BINDINGS
from tests.runtime.cuda.stub_driver import StubDriver

from funcdl.runtime.cuda.driver import DriverApi

ROOT = Path(__file__).parents[3]
QUICK = ["test_launch.py", "test_dlpack.py", "test_profile.py"]
SLOW = ["test_programs.py", "test_autotune.py", "test_attention.py", "test_ops.py"]


def check(files: list[str]) -> None:
    pytest.importorskip("cuda.bindings.driver")
    places = [f"tests/runtime/cuda/{file}" for file in files]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    environment = os.environ | {BINDINGS: "1"}
    done = subprocess.run(
        [*command, *places], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-5000:]


def test_launches_and_exchange() -> None:
    check(QUICK)


@pytest.mark.slow
def test_programs() -> None:
    check(SLOW)


def test_every_function_of_the_runtime_passes_through_the_bindings() -> None:
    from tests.runtime.cuda.bound_driver import _FORMS

    assert set(DriverApi.__annotations__) <= set(_FORMS)
    assert all(callable(getattr(StubDriver, name, None)) for name in DriverApi.__annotations__)
