"""The GPU benchmark: its results are right on the stub driver, and it says what went wrong."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import gpu as benchmark
from benchmarks import gpu_worker
from benchmarks.gpu_cases import kernel_cases
from tests.runtime.cuda.environment import StubGpu, installed
from tests.runtime.cuda.test_driver import NoLibrary

from funcdl.core import devices

SIZE = 64
pytestmark = pytest.mark.filterwarnings("ignore::funcdl.errors.CompilerWarning")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_worker, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(gpu_worker, "ROUNDS", 1)


def here(framework: str, path: str, task: dict[str, Any], timeout: float) -> None:
    """The worker, in this process, where the stub is."""
    gpu_worker.main([framework, path, json.dumps(task)])


def test_benchmark_on_the_stub(
    gpu: StubGpu, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gpu.json"
    arguments = ["--size", str(SIZE), "--small", "--frameworks", "funcdl", "--json", str(path)]
    arguments += ["-k", "gr"]  # gradients
    assert benchmark.main(arguments, here) == 0, capsys.readouterr().out
    rows = json.loads(path.read_text())["rows"]
    names = [n for n in gpu_worker.case_names(SIZE, False) if n == gpu_worker.COPY or "gr" in n]
    assert [row["case"] for row in rows] == names
    assert all(row["us"] > 0 and row["error"] < 0.03 for row in rows)
    assert all("of peak" in row for row in rows if row["GB/s"])
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"Stub GPU, matrices of {SIZE} × {SIZE}" and len(shown) == 2 + len(rows)


def test_small_step_is_a_graph_after_its_first_calls(gpu: StubGpu) -> None:
    row = gpu_worker.measure(gpu_worker.SMALL, gpu_worker.General("funcdl"), SIZE, False, {})
    assert row["us"] > 0
    calls, launches = gpu.stub.calls["cuGraphLaunch"], gpu.stub.calls["cuLaunchKernel"]
    assert calls > launches == 2 * 2
    # Its state is donated, and stays where it is: nothing is bound anew.
    assert gpu.stub.calls["cuGraphExecKernelNodeSetParams"] == 0


def without_gpu(name: str) -> Any:
    """A peer, on the CPU."""
    pytest.importorskip(name.split(".")[0])
    if name == "jax":
        return gpu_worker.General(name, "cpu")
    return gpu_worker.Torch(name, "cpu")


KERNELS = [gpu_worker.COPY, gpu_worker.SMALL, *(case.name for case in kernel_cases(SIZE))]


@pytest.mark.peers
@pytest.mark.parametrize("peer", ["torch", "jax"])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_of_peers_compute_the_same(name: str, peer: str) -> None:
    row = gpu_worker.measure(name, without_gpu(peer), SIZE, False, {})
    assert row["us"] > 0 and row["error"] < 0.05


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("peer", ["torch", "jax"])
@pytest.mark.parametrize("name", [model.name for model in gpu_worker.models(False)])
def test_training_steps_of_peers_have_the_same_losses(name: str, peer: str) -> None:
    losses = benchmark.reference_losses([name], False, 60, here)
    row = gpu_worker.measure(name, without_gpu(peer), SIZE, False, losses)
    assert row["us"] > 0 and row["error"] < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", [model.name for model in gpu_worker.models(False)])
def test_training_steps_on_the_stub(name: str, gpu: StubGpu) -> None:
    losses = benchmark.reference_losses([name], False, 60, here)
    assert gpu_worker.measure(name, gpu_worker.General("funcdl"), SIZE, False, losses)["us"] > 0


def test_every_case_has_a_measure_and_wrong_results_are_found() -> None:
    for case in kernel_cases(SIZE):
        assert bool(case.nbytes) != bool(case.flops)
        wanted = case.reference(case.arrays())
        with pytest.raises(gpu_worker.WrongResultError, match="wrong by"):
            gpu_worker._compare([x * 1.1 for x in wanted], wanted, case.tolerance)
        with pytest.raises(gpu_worker.WrongResultError, match="wrong by nan"):
            gpu_worker._compare([x * np.nan for x in wanted], wanted, case.tolerance)


def faulty(framework: str, path: str, task: dict[str, Any], timeout: float) -> None:
    """A worker that dies in the third case, and one that measures what is left."""
    with open(path, "a") as file:
        for case in task["cases"]:
            print(json.dumps({"case": case}), file=file)
            if case == "c":
                return
            row = {"us": 1.0, "GB/s": 2.0, "TFLOP/s": 0.0, "kind": "", "error": 0.0}
            print(json.dumps({"case": case} | row), file=file)


def test_measurements_go_on_after_a_case_that_ends_its_process() -> None:
    task = {"cases": [benchmark.COPY, "b", "c", "d"]}
    rows = benchmark.measure_all("f", task, time.monotonic() + 60, faulty)
    assert [r["case"] for r in rows] == task["cases"]
    assert [r.get("failed") for r in rows] == [None, None, "the process ended", None]
    benchmark.add_shares(rows)
    assert rows[1]["of peak"] == 1.0
    assert "the process ended" in benchmark.table(rows)
    late = benchmark.measure_all("f", task, time.monotonic() - 1, faulty)
    assert {r["failed"] for r in late} == {"no time was left"}


def test_references_that_take_too_long_are_done_without() -> None:
    names = [model.name for model in gpu_worker.models(False)]
    assert list(benchmark.reference_losses(names[:2], False, 60, here)) == names[:2]

    def slow(framework: str, path: str, task: dict[str, Any], timeout: float) -> None:
        Path(path).write_text(json.dumps({"case": names[0], "losses": [1.0]}) + "\n")

    losses = benchmark.reference_losses(names, False, 0.1, slow)
    assert losses == {names[0]: [1.0]}
    with pytest.raises(LookupError, match="losses in float64 were not computed in time"):
        gpu_worker.measure(names[1], None, SIZE, False, losses)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frameworks", "tinygrad"], "invalid choice: 'tinygrad'"),
        (["--json", "nowhere/gpu.json"], "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    arguments: list[str], message: str, gpu: StubGpu, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(arguments, faulty)
    assert message in capsys.readouterr().err


def test_frameworks_that_are_missing_are_said_to_be(tmp_path: Path) -> None:
    task = {"cases": ["a", "b"], "size": SIZE, "full": False, "losses": {}}
    rows = benchmark.measure_all("torch.nowhere", task, time.monotonic() + 60, here)
    assert [r["case"] for r in rows] == ["a", "b"] and "no torch.nowhere" in rows[0]["failed"]


def test_benchmark_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    with installed(StubGpu()):
        from funcdl.runtime.cuda.platform import CudaPlatform

        devices.register_platform("gpu", lambda: CudaPlatform(NoLibrary()))
        assert benchmark.main([]) == 1
    message = capsys.readouterr().err
    assert message.startswith("benchmarks.gpu measures on an NVIDIA GPU: no NVIDIA driver is")
