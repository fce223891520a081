"""Default CPU schedules: what is shared among threads, what is a vector, and in what tiles."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.cpu_c_kernels import all_cases, dot, reduction, softmax, transpose

from funcdl.compiler.cpu import schedule as heuristics
from funcdl.compiler.cpu.schedule import schedule_cpu, work
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.convolution import find_conv
from funcdl.kir.ir import AtomicUpdate, Dot, Kernel, Reduce
from funcdl.kir.printer import format_schedule

CASES = {name: kernel for name, (kernel, _) in all_cases().items()}


def flat(*shape: int) -> Kernel:
    """exp of an array, over one axis for each dimension."""
    b = KernelBuilder("flat")
    positions = [b.axis(name, extent) for name, extent in zip("ijk", shape, strict=False)]
    size = int(np.prod(shape))
    index = positions[0]
    for position, extent in zip(positions[1:], shape[1:], strict=True):
        index = index * extent + position
    b.buffer("x", np.float32, size, "in")
    b.buffer("out0", np.float32, size, "out")
    b.store("out0", index, b.elementwise("exp", b.load("x", index)))
    return b.build()


@pytest.mark.parametrize(
    ("kernel", "schedule"),
    [
        (flat(100), "i:vector"),
        (flat(1_000_000), "i:parallel(16384) i:vector"),
        (flat(100_000), "i:parallel(3328) i:vector"),
        (flat(500, 1000), "i:parallel j:vector"),
        (flat(2, 100_000), "i:parallel j:parallel(6400) j:vector"),
        (flat(4, 50, 60), "i:parallel j:parallel k:vector"),
        (transpose("t", 512, 1, 512)[0], "j:parallel(16) i:parallel(128) j:loop i:vector"),
        (softmax("s", 500, 100, "j")[0], "i:parallel j:vector"),
        (softmax("s", 10, 10, "j")[0], "i:loop j:vector"),
        (softmax("s", 100, 10, "j")[0], "i:tile(256) j:loop i:vector"),
        (softmax("s", 50_000, 10, "j")[0], "i:parallel(256) j:loop i:vector"),
        (softmax("s", 100, 17, "j")[0], "i:tile(128) j:loop i:vector"),
        (softmax("s", 1000, 60, "j")[0], "i:parallel(16) j:loop i:vector"),
        (softmax("s", 15, 60, "j")[0], "i:loop j:vector"),
        (softmax("s", 1000, 65, "j")[0], "i:parallel j:vector"),
        (softmax("s", 100, 50_000, "i")[0], "j:parallel(1024) i:loop j:vector"),
        (softmax("s", 100, 500, "i")[0], "j:parallel(64) i:loop j:vector"),
        (reduction("r", "sum", (4, 10_000), "j").build(), "i:parallel j:tile(4096) j:vector"),
        (reduction("r", "max", (4, 10_000), "j").build(), "i:parallel j:vector"),
        (
            reduction("r", "sum", (64, 40, 40, 128), "ijk").build(),
            "l:parallel(64) i:loop j:tile(6) j:loop k:loop k:unroll(4) l:vector",
        ),
        (
            reduction("r", "sum", (64, 40, 200, 128), "ijk").build(),
            "l:parallel(64) i:loop j:tile k:loop k:unroll(4) l:vector",
        ),
        (dot("d", 1, 1000, 1000), "n:parallel(64) k:tile(256) k:loop k:unroll(4) n:vector"),
        (dot("d", 1000, 1, 1000), "m:parallel(128) n:parallel(32) k:tile(1000) k:vector"),
        (dot("d", 1000, 1, 60), "m:parallel(16) k:loop m:vector"),
        (dot("d", 4, 4, 4, batch=1000), "b:parallel m:loop n:tile(1024) k:loop n:vector"),
        (
            dot("d", 8, 8, 8, batch=1000),
            "b:parallel m:loop n:tile(1024) k:loop k:unroll(4) n:vector",
        ),
        (
            dot("d", 8, 8, 8, batch=1000, transposed=(False, True)),
            "b:parallel m:tile(8) n:tile(32) k:tile(8) n:vector",
        ),
        (
            dot("d", 7, 7, 7, batch=1000),
            "b:parallel m:tile(8) n:tile(32) k:tile(7) n:vector",
        ),
        (dot("d", 3, 3, 3, batch=1000), "b:parallel m:loop n:loop k:vector"),
        (dot("d", 32, 32, 32), "m:tile(32) n:tile(32) k:tile(32) n:vector"),
        (dot("d", 2048, 2048, 2048), "m:parallel(128) n:parallel(256) k:tile(2048) n:vector"),
        (
            dot("d", 128, 128, 64, batch=64),
            "b:parallel m:tile(128) n:tile(32) k:tile(64) n:vector",
        ),
        (CASES["scatter_add"], "i:loop j:vector"),
        (CASES["scatter_set"], "i:loop"),
    ],
    ids=lambda value: value.name if isinstance(value, Kernel) else "",
)
def test_schedule(kernel: Kernel, schedule: str) -> None:
    assert format_schedule(schedule_cpu(kernel)) == schedule


@pytest.mark.parametrize("parallel_work", [0, heuristics.PARALLEL_WORK])
@pytest.mark.parametrize("name", CASES)
def test_threads_never_share_a_reduction(
    name: str, parallel_work: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heuristics, "PARALLEL_WORK", parallel_work)
    kernel = CASES[name]
    schedule = schedule_cpu(kernel)
    shared = {step.axis for step in schedule.steps if step.kind == "parallel"}
    reduced = {axis for i in kernel.body if isinstance(i, Reduce) for axis in i.axes}
    reduced |= {i.k for i in kernel.body if isinstance(i, Dot)}
    assert not shared & reduced
    if any(isinstance(i, AtomicUpdate) for i in kernel.body) or work(kernel) < parallel_work:
        assert not shared


@pytest.mark.parametrize("name", CASES)
def test_every_axis_has_a_loop(name: str) -> None:
    kernel = CASES[name]
    if find_conv(kernel) is not None:
        return  # blocks of windows and of images are scheduled, the library loops over the rest
    named = {step.axis for step in schedule_cpu(kernel).steps}
    assert {axis.name for axis in kernel.axes if axis.extent != 1} <= named
