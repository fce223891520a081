"""The tests that need a GPU, as far as they can be tried without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.gpu import sanitize, test_library, test_training, test_updates
from tests.runtime.cuda.environment import StubGpu

from funcdl.kernels.triton.library import kernels

ROOT = Path(__file__).parents[3]


@pytest.mark.filterwarnings("ignore::funcdl.errors.CompilerWarning")
@pytest.mark.parametrize("name", test_library.CASES)
def test_cases_of_hand_written_kernels_run_on_the_stub(name: str, gpu: StubGpu) -> None:
    test_library.test_kernel_computes_what_the_cpu_does(name)


@pytest.mark.filterwarnings("ignore::funcdl.errors.CompilerWarning")
def test_cases_launch_every_hand_written_kernel(gpu: StubGpu) -> None:
    for name in ("extra_attention_gradient", "norm_gradient", "long_sort"):
        test_library.test_kernel_computes_what_the_cpu_does(name)
    launched = {k.library.function for k in gpu._kernels.values() if k.library is not None}
    assert launched == kernels._MODULES.keys()


@pytest.mark.parametrize("method", ["set", "multiply", "min", "max"])
def test_updates_that_meet_run_on_the_stub(method: str, gpu: StubGpu) -> None:
    test_updates.check_same_bits(method, 7, 3000)


def test_a_cache_is_filled_in_place_on_the_stub(gpu: StubGpu) -> None:
    test_updates.check_cache(300, 20)
    assert gpu.stub.calls["cuGraphInstantiate"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), test_training.CASES)
def test_models_are_trained_on_the_stub(name: str, dtype: str, gpu: StubGpu) -> None:
    test_training.check_losses(name, dtype, 6)
    assert gpu.stub.calls["cuGraphLaunch"]


def test_sanitizer_is_told_what_to_run_and_how_to_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> Any:
        commands.append(command)
        return subprocess.CompletedProcess(command, sanitize.FOUND if len(commands) == 2 else 0)

    monkeypatch.setattr(sanitize, "find_sanitizer", lambda: "/tool")
    monkeypatch.setattr(sanitize.subprocess, "run", run)
    assert sanitize.main([]) == 1
    assert [c[1] for c in commands] == [f"--tool={tool}" for tool in sanitize.TOOLS]
    assert all(c[0] == "/tool" and "--error-exitcode=86" in c for c in commands)
    assert "racecheck: status 86" in capsys.readouterr().out
    commands.clear()
    assert sanitize.main(["memcheck", "-k", "attention"]) == 0
    assert commands[0][-2:] == ["-k", "attention"] and sys.executable in commands[0]
    monkeypatch.setattr(sanitize, "find_sanitizer", lambda: None)
    assert sanitize.main(["memcheck"]) == 2
    assert "comes with NVIDIA's CUDA toolkit" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        sanitize.main(["valgrind"])


def test_there_are_cases_for_the_sanitizer() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "--collect-only", "-q"]
    command += ["-m", "gpu and compute_sanitizer", "tests/gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.count("test_kernel_computes_what_the_cpu_does[") == len(test_library.CASES)


def test_array_operands_are_odd_enough() -> None:
    sizes = [x.shape for _, arrays in test_library.CASES.values() for x in arrays]
    assert all(np.prod(shape) % 32 for shape in sizes if len(shape) == 2)
