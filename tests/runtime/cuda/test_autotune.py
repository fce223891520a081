"""Tuning on the stub driver, whose events take times that depend on the schedule."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.compiler.cuda.test_knobs import product
from tests.kir.kernels import all_example_kernels
from tests.runtime.cuda.environment import StubGpu, installed
from tests.runtime.cuda.stub_driver import Image
from tests.runtime.cuda.test_driver import NoLibrary

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.compiler.cuda.schedule import schedule_gpu
from funcdl.compiler.cuda.trials import Variant, choose, leave_out_by_estimate
from funcdl.errors import DeviceError
from funcdl.kernels.triton.compile import Cubin
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.kir.schedule import Schedule
from funcdl.ops.attention import attention
from funcdl.runtime.cuda.platform import CudaPlatform

X = np.random.default_rng(0).normal(size=(64, 300)).astype(np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path) -> Iterator[Path]:
    with fd.config.override(cache_dir=str(tmp_path), autotune="1"):
        yield tmp_path


def softmax(x: Any) -> Any:
    e = fnp.exp(x - fnp.max(x, axis=1, keepdims=True))
    return e / fnp.sum(e, axis=1, keepdims=True)


def like_warps(best: int) -> Callable[[Image], float]:
    """Times for which this number of warps is the best."""
    return lambda image: 2.0 * (1 + abs(image.metadata["num_warps"] - best))


def warps_of(gpu: StubGpu) -> int:
    """Runs softmax, and says how wide the kernel is that was launched."""
    seen: list[int] = []
    duration = gpu.stub.duration

    def watch(image: Image) -> float:
        seen.append(image.metadata["num_warps"])
        return duration(image)

    gpu.stub.duration = watch
    found = fd.jit(lambda x: softmax(x))(fd.device_put(X, "gpu"))
    np.testing.assert_allclose(np.asarray(found), softmax(X), 1e-5, 1e-6)
    gpu.stub.duration = duration
    return seen[-1]


@pytest.mark.parametrize("best", [1, 2, 4])
def test_fastest_is_chosen(best: int, gpu: StubGpu) -> None:
    gpu.stub.duration = like_warps(best)
    assert warps_of(gpu) == best


@pytest.mark.parametrize("best", [1, 4])
def test_kernels_shorter_than_a_launch_are_told_apart(best: int, gpu: StubGpu) -> None:
    gpu.stub.duration = like_warps(best)
    gpu.stub.overhead = 1000.0
    assert warps_of(gpu) == best
    assert gpu.stub.calls["cuGraphInstantiate"] == gpu.stub.calls["cuGraphExecDestroy"] > 0


def test_choice_is_kept_for_later_programs_whatever_the_flag(gpu: StubGpu) -> None:
    gpu.stub.duration = like_warps(2)
    assert warps_of(gpu) == 2
    for mode in ("0", "1"):
        with fd.config.override(autotune=mode), installed(StubGpu()) as other:
            other.stub.duration = like_warps(1)
            assert warps_of(other) == 2
            assert len(other.compiled) == 1
    with fd.config.override(autotune="exhaustive"), installed(StubGpu()) as other:
        other.stub.duration = like_warps(1)
        assert warps_of(other) == 1
    with installed(StubGpu()) as other:
        assert warps_of(other) == 1


def test_nothing_is_timed_by_default(gpu: StubGpu) -> None:
    with fd.config.override(autotune="0"):
        warps_of(gpu)
    assert gpu.stub.calls["cuEventElapsedTime"] == 0 and len(gpu.compiled) == 1


SECOND = """
import numpy as np
from tests.runtime.cuda.environment import StubGpu, installed
from tests.runtime.cuda import test_autotune
with installed(StubGpu()) as gpu:
    gpu.stub.duration = test_autotune.like_warps(1)
    print(test_autotune.warps_of(gpu), gpu.stub.calls["cuEventElapsedTime"])
"""


def test_second_process_finds_the_choice(
    cache: Path, gpu: StubGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.stub.duration = like_warps(2)
    assert warps_of(gpu) == 2
    monkeypatch.setenv("FUNCDL_CACHE_DIR", str(cache))
    monkeypatch.setenv("FUNCDL_AUTOTUNE", "1")
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", SECOND]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["2", "0"], done.stderr


def test_log_says_why_candidates_were_left_out(
    gpu: StubGpu, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile(kernels: Sequence[TritonKernel], arch: int, *, aligned: bool = True) -> list[Cubin]:
        if len(kernels) > 1:
            raise DeviceError("one of them cannot be compiled")
        cubins = StubGpu._compile(gpu, kernels, arch, aligned=aligned)
        for kernel, cubin in zip(kernels, cubins, strict=True):
            match kernel.num_warps:
                case 2:
                    cubin.metadata["stack_bytes"] = 96
                case 8:
                    cubin.metadata["shared"] = 1 << 20
                case 16:
                    raise DeviceError("kernel k could not be compiled: too wide\nand more")
        return cubins

    monkeypatch.setattr(gpu.backend.tuner, "_compile", compile)
    gpu.stub.refuses = lambda image: image.metadata["num_warps"] == 1
    gpu.stub.duration = like_warps(1)
    with (
        caplog.at_level(logging.DEBUG, "funcdl.autotune"),
        fd.config.override(autotune="exhaustive"),
    ):
        assert warps_of(gpu) == 4
    text = caplog.text
    for reason in (
        "96 bytes of registers spilled",
        "needs 1048576 bytes of shared memory",
        "does not compile: kernel k could not be compiled: too wide",
        "does not run: cuLaunchKernel failed with CUDA_ERROR_INVALID_VALUE",
    ):
        assert f"left out, {reason}" in text
    assert "on Stub GPU: " in text and " candidates, " in text


def test_where_nothing_runs_the_default_is_used(
    gpu: StubGpu, caplog: pytest.LogCaptureFixture
) -> None:
    with fd.config.override(autotune="0"):
        wanted = warps_of(gpu)
    fd.clear_caches()
    failing = iter([True] * 1000)
    gpu.stub.refuses = lambda image: next(failing)
    with caplog.at_level(logging.INFO, "funcdl.autotune"), pytest.raises(fd.errors.CudaError):
        warps_of(gpu)
    assert "nothing could be timed" in caplog.text
    gpu.stub.refuses = lambda image: False
    with fd.config.override(autotune="0"):
        assert warps_of(gpu) == wanted


def test_threads_tune_a_kernel_once(gpu: StubGpu) -> None:
    gpu.stub.duration = like_warps(2)
    tuner, device = gpu.backend.tuner, gpu.platform.open(0)
    kernel, _ = all_example_kernels()["softmax"]
    found: list[Any] = []

    def work() -> None:
        found.extend(tuner.schedules([(kernel, schedule_gpu(kernel))], device))

    before = len(gpu.compiled)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1
    assert len(gpu.compiled) - before <= 12


def variant(seconds: float, milliseconds: float | None = None) -> Variant:
    kernel = TritonKernel("", "k", (1,), 4, 2, {})
    return Variant(f"{seconds}", {}, kernel, seconds, None, milliseconds)


def test_estimate_leaves_out_the_hopeless_but_not_the_default() -> None:
    variants = [variant(9.0), variant(1.0), variant(1.4), variant(1.6)]
    leave_out_by_estimate(variants)
    assert [bool(v.why_not) for v in variants] == [False, False, False, True]
    assert variants[3].why_not == "estimated at 1.6 times the best"
    many = [variant(1.0 + i / 100) for i in range(30)]
    leave_out_by_estimate(many)
    assert sum(not v.why_not for v in many) == 12
    leave_out_by_estimate([])


def test_of_equals_the_first_is_chosen() -> None:
    times = [None, 1.01, 1.0, 1.5]
    variants = [variant(1.0, t) for t in times]
    assert choose(variants) is variants[1]
    assert choose([variant(1.0)]) is None


def test_hand_written_kernels_are_tuned_by_their_own_candidates(
    gpu: StubGpu, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.stub.duration = like_warps(8)
    params = {"scale": 0.3, "before": None, "after": 0, "extra_names": (), "dropout_rate": 0.0}
    shape = (1, 40, 2, 16)
    q = fd.device_put(np.random.default_rng(0).normal(size=shape).astype(np.float32), "gpu")
    attend = fd.jit(lambda q: attention.bind(q, q, q, **params)[0])
    with caplog.at_level(logging.INFO, "funcdl.autotune"):
        first = np.asarray(attend(q))
    assert "k0_attention on Stub GPU: BT=128 " in caplog.text and "warps=8" in caplog.text
    timed = gpu.stub.calls["cuEventElapsedTime"]
    fd.clear_caches()
    np.testing.assert_array_equal(np.asarray(attend(q)), first)
    assert gpu.stub.calls["cuEventElapsedTime"] == timed


def product_tuned_by(duration: Callable[[Image], float]) -> Schedule:
    """The schedule of a product of 8 × 8 tiles, on a device of four processors."""
    kernel = product(1024, 1024, 64)
    with installed(StubGpu(run=lambda kernel, arrays: None)) as gpu:
        gpu.stub.duration = duration
        device = gpu.platform.open(0)
        assert device.processors == 4
        (found,) = gpu.backend.tuner.schedules([(kernel, schedule_gpu(kernel))], device)
        return found


@pytest.mark.parametrize("mode", ["1", "exhaustive"])
def test_products_are_refined_once_their_tiles_are_chosen(mode: str) -> None:
    def persistent(image: Image) -> float:
        return {8: 1.0, 4: 2.0}.get(image.programs, 3.0)

    def grouped(image: Image) -> float:
        return 1.0 if "* 4 + program" in image.metadata["source"] else 2.0

    with fd.config.override(autotune=mode):
        assert product_tuned_by(persistent).programs == 8
        with fd.config.override(autotune="0"):  # it is kept
            assert product_tuned_by(persistent).programs == 8
    with fd.config.override(autotune=mode, cache_dir=fd.config.cache_dir + "/other"):
        assert product_tuned_by(grouped).group == 4


def test_refinements_are_no_better_than_what_they_refine() -> None:
    found = product_tuned_by(lambda image: 1.0)
    assert (found.group, found.programs) == (8, 0)


@pytest.mark.parametrize("mode", ["1", "exhaustive"])
def test_measured_rows_of_the_table_are_what_was_fastest(mode: str) -> None:
    from benchmarks.gpu_defaults import measured

    with installed(StubGpu(run=lambda kernel, arrays: None)) as gpu:
        gpu.stub.duration = lambda image: float(image.programs)
        tuner, device = gpu.backend.tuner, gpu.platform.open(0)
        candidate, _ = measured(product(1024, 1024, 64), device, tuner, mode)
        assert candidate.knobs.programs == 4


def test_nothing_is_measured_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import gpu_defaults

    shipped = gpu_defaults.TABLE.read_text()
    monkeypatch.setattr(gpu_defaults, "installed_platform", lambda: CudaPlatform(NoLibrary()))
    assert gpu_defaults.main(["--measure"]) == 1
    assert capsys.readouterr().err.startswith("--measure needs an NVIDIA GPU: no NVIDIA driver is")
    assert gpu_defaults.TABLE.read_text() == shipped
