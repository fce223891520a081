"""The GPU benchmark: its results are right on the stub driver, and it says when there is no GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import gpu as benchmark
from tests.runtime.cuda.environment import StubGpu, installed
from tests.runtime.cuda.test_driver import NoLibrary

from funcdl.core import devices


def test_benchmark_on_the_stub(
    gpu: StubGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(benchmark, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(benchmark, "ROUNDS", 1)
    path = tmp_path / "gpu.json"
    arguments = ["--size", "16", "--frameworks", "funcdl", "--json", str(path)]
    assert benchmark.main(arguments) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [row["case"] for row in rows] == [case.name for case in benchmark.cases(16)]
    assert all(row["us"] > 0 and row["error"] < 0.02 for row in rows)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "Stub GPU, matrices of 16 × 16" and len(shown) == 2 + len(rows)


def test_benchmark_without_a_gpu(capsys: pytest.CaptureFixture) -> None:
    with installed(StubGpu()):
        from funcdl.runtime.cuda.platform import CudaPlatform

        devices.register_platform("gpu", lambda: CudaPlatform(NoLibrary()))
        assert benchmark.main([]) == 1
    message = capsys.readouterr().err
    assert message.startswith("benchmarks.gpu measures on an NVIDIA GPU: no NVIDIA driver is")
