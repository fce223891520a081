"""Kernels for which registers or shared memory do not suffice: other schedules are taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from benchmarks.frameworks import Framework
from benchmarks.gpu_models import models
from tests.kernels.resources import SHARED_LIMIT
from tests.runtime.cuda.environment import StubGpu, installed
from tests.runtime.cuda.stub_driver import StubDriver

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.compiler.cuda.defaults import default_knobs
from funcdl.compiler.cuda.leaner import _elements_held, leaner_schedules
from funcdl.compiler.cuda.schedule import Knobs, fits_registers, parts, schedule_gpu
from funcdl.compiler.cuda.target import CudaBackend, CudaExecutable
from funcdl.errors import DeviceError
from funcdl.kernels.triton.compile import Cubin
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.ir import Kernel

BF16 = np.dtype(ml_dtypes.bfloat16)


def product(beside: int, size: int = 4096) -> Kernel:
    """A product, and a sum with so many arrays of its shape."""
    builder = KernelBuilder("product")
    i, j, k = (builder.axis(name, size) for name in "ijk")
    for name in ("x", "y"):
        builder.buffer(name, BF16, size * size, "in")
    wide = [
        builder.cast(value, np.float32)
        for value in (builder.load("x", i * size + k), builder.load("y", k * size + j))
    ]
    total = builder.dot(*wide, "i", "j", "k")
    for number in range(beside):
        builder.buffer(f"z{number}", np.float32, size * size, "in")
        other = builder.load(f"z{number}", i * size + j)
        total = builder.elementwise("add", total, other)
    builder.buffer("out", np.float32, size * size, "out")
    builder.store("out", i * size + j, total)
    return builder.build()


def sides(kernel: Kernel, knobs: Knobs | None = None) -> tuple[int, int, int]:
    schedule = schedule_gpu(kernel, knobs)
    size = {s.axis: s.size for s in schedule.steps if s.kind == "vector"}
    return size["i"], size["j"], schedule.num_warps


def test_tiles_of_a_product_leave_room_for_what_is_read_beside_it() -> None:
    assert default_knobs(product(0), 90).n == 256
    assert default_knobs(product(3), 90) == Knobs()
    found = [sides(product(beside)) for beside in (0, 1, 2, 3, 8)]
    assert found[:3] == [(128, 128, 8)] * 3
    for beside, (m, n, warps) in zip((0, 1, 2, 3, 8), found, strict=True):
        assert m * n // (32 * warps) * (1 + beside) <= 192
    assert fits_registers(product(3), Knobs(m=64, n=64, warps=4))
    assert not fits_registers(product(3), Knobs(m=128, n=128, warps=8))


def test_updates_are_parted_from_products_that_want_large_tiles() -> None:
    assert [parts(product(beside)) for beside in (0, 1, 2, 3)] == [1, 1, 1, 0]
    assert parts(product(3, 1024)) == 1  # a short sum


@pytest.mark.parametrize("beside", [0, 3])
def test_leaner_schedules_hold_fewer_elements(beside: int) -> None:
    kernel = product(beside)
    schedule = schedule_gpu(kernel, default_knobs(kernel, 90))
    held = _elements_held(kernel, schedule)
    found = leaner_schedules(kernel, schedule, 90, 227 << 10)
    assert found and all(_elements_held(kernel, s) < held for s in found)
    assert _elements_held(kernel, found[-1]) >= 4


class Demanding(StubGpu):
    """Only the code of so many attempts at a kernel does not spill, or fits shared memory."""

    lean: int
    wants: str

    def _compile(
        self, kernels: Sequence[TritonKernel], arch: int, *, aligned: bool = True
    ) -> list[Cubin]:
        cubins = super()._compile(kernels, arch, aligned=aligned)
        for kernel, cubin in zip(kernels, cubins, strict=True):
            attempt = [name for name, _ in self.compiled].count(kernel.name)
            excess = 0 if attempt == self.lean else 80 - attempt
            if self.wants == "spill_bytes":
                cubin.metadata["spill_bytes"] = excess
            elif "dot" in kernel.name:
                cubin.metadata["shared"] = SHARED_LIMIT[arch] + excess
        return cubins


@pytest.mark.parametrize(
    ("wants", "lean"),
    [*(("spill_bytes", lean) for lean in (1, 2, 3, 99)), *(("shared", lean) for lean in (1, 2, 3))],
)
def test_code_that_needs_too_much_gives_way(wants: str, lean: int) -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(512, 512)).astype(np.float32) for _ in range(2))
    with installed(Demanding()) as gpu:
        gpu.lean, gpu.wants = lean, wants
        step = fd.jit(lambda x, y: (fnp.tanh(x @ y), fnp.sum(x, 1)))
        for _ in range(4):  # more calls than it takes for a graph
            product_, total = step(fd.device_put(x, "gpu"), y)
            np.testing.assert_allclose(np.asarray(product_), np.tanh(x @ y), 1e-3, 1e-3)
            np.testing.assert_allclose(np.asarray(total), x.sum(1), 1e-3, 1e-3)
        attempts = {name: [n for n, _ in gpu.compiled].count(name) for name, _ in gpu.compiled}
        assert len(attempts) == 2
        assert all(1 <= count <= max(lean, 1) for count in attempts.values())
        if lean < 99:
            assert max(attempts.values()) == lean


def test_code_that_never_fits_is_an_error() -> None:
    with installed(Demanding()) as gpu:
        gpu.lean, gpu.wants = 99, "shared"
        with pytest.raises(DeviceError, match=r"needs .* bytes of shared memory, but gpu:0 has"):
            fd.jit(lambda x: x @ x)(fd.device_put(np.eye(256, dtype=np.float32), "gpu"))


def reports(function: Any, operands: Sequence[Any], arch: int) -> list[dict[str, Any]]:
    """What the real compiler says of each kernel of a jitted function."""
    stub = StubGpu(StubDriver(capabilities=(arch,)))
    with installed(stub), fd.config.override(backend="gpu"):
        pipeline = function.lower(*operands)._lowered._pipeline
        backend = CudaBackend(lambda: stub.platform)  # with the real compiler
        executable = CudaExecutable(backend, pipeline.simplified, pipeline.program, "step")
        compiled = executable._compile(stub.platform.open(0))
    assert not [kernel.why_not for kernel in compiled if kernel.cubin is None]
    return [kernel.cubin.metadata for kernel in compiled if kernel.cubin is not None]


def assert_enough(found: Sequence[dict[str, Any]], arch: int) -> None:
    assert [r["name"] for r in found if r["spill_bytes"]] == []
    assert [r["name"] for r in found if r["shared"] > SHARED_LIMIT[arch]] == []


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 86, 90])
@pytest.mark.parametrize("wide", [np.float32, np.float64])
def test_factors_that_are_narrowed_on_their_way_fit(wide: Any, arch: int) -> None:
    """They lie in shared memory as wide as they were."""
    x = fd.ShapeDtypeStruct((4096, 4096), wide)
    narrowed = fd.jit(lambda x, y: x.astype(BF16) @ y.astype(BF16))
    assert_enough(reports(narrowed, [x, x], arch), arch)


STEPS = [
    pytest.param(model, marks=[] if model.name.startswith("MLP") else pytest.mark.exhaustive)
    for model in models(True)
]


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("model", STEPS, ids=lambda model: model.name)
def test_training_steps_of_full_size_fit(model: Any, arch: int) -> None:
    framework = Framework("funcdl")

    def typed(tree: Any) -> Any:
        return fd.tree.map(lambda x: fd.ShapeDtypeStruct(x.shape, x.dtype), tree)

    p, count = typed(model.parameters()), fd.ShapeDtypeStruct((), np.float32)
    step = fd.jit(model.step(framework), donate_argnums=(0, 1, 2, 3))
    with fd.default_matmul_precision("tensorfloat32"):
        found = reports(step, [p, p, p, count, *typed(list(model.batch()))], arch)
    assert_enough(found, arch)
