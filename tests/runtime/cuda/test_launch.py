"""Loading, launching and graphs: what the driver is told about a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.runtime.cuda.environment import StubGpu, api_of
from tests.runtime.cuda.stub_driver import CUresult, DriverMisuse, Image, StubDriver

from funcdl.errors import CudaError, DeviceError
from funcdl.kir.builder import KernelBuilder
from funcdl.runtime.cuda.graph import LaunchGraph
from funcdl.runtime.cuda.launch import Kernel
from funcdl.runtime.cuda.module_cache import Function
from funcdl.runtime.cuda.platform import CudaPlatform

METADATA: dict[str, Any] = {
    "name": "double",
    "arch": 90,
    "num_warps": 2,
    "shared": 0,
    "alignment": 16,
    "num_ctas": 1,
    "global_scratch_size": 0,
    "profile_scratch_size": 0,
    "cuda": "13.1",
}


def double_kernel() -> Any:
    builder = KernelBuilder("double")
    i = builder.axis("i", 8)
    builder.buffer("x", np.float32, 8, "in")
    builder.buffer("y", np.float32, 8, "out")
    value = builder.load("x", i)
    builder.store("y", i, builder.elementwise("add", value, value))
    return builder.build()


class Setup:
    """A device, with the kernel y = 2 x in an aligned and an unaligned variant."""

    def __init__(self, **changes: Any) -> None:
        self.stub = StubDriver()
        self.device = CudaPlatform(api_of(self.stub)).open(0)
        self.unaligned_loads = 0
        self.kernel = Kernel(self.load(b"aligned", **changes), self.load_unaligned, 4, 2)
        self.x = np.arange(8, dtype=np.float32)

    def load(self, code: bytes, **changes: Any) -> Function:
        metadata = METADATA | changes
        self.stub.images[code] = Image(double_kernel(), 4, metadata)
        return self.device.modules.load(code, metadata)

    def load_unaligned(self) -> Function:
        self.unaligned_loads += 1
        return self.load(b"unaligned", alignment=1)

    def empty(self, nbytes: int = 32) -> Any:
        return self.device.pool.empty(nbytes, "a test")

    def read(self, address: int) -> list[float]:
        out = np.empty(8, np.float32)
        self.device.staging.to_host(address, out)
        return out.tolist()


def test_launch() -> None:
    setup = Setup()
    x, y = setup.empty(), setup.empty()
    setup.device.staging.to_device(setup.x, x.address)
    setup.kernel.launch(setup.device.stream, [x.address, y.address])
    assert setup.read(y.address) == (2 * setup.x).tolist()
    assert setup.unaligned_loads == 0


def test_pointers_that_are_not_aligned_get_the_other_variant() -> None:
    setup = Setup()
    x, y = setup.empty(36), setup.empty()
    setup.device.staging.to_device(setup.x, x.address + 4)
    for _ in range(2):
        setup.kernel.launch(setup.device.stream, [x.address + 4, y.address])
        assert setup.read(y.address) == (2 * setup.x).tolist()
    assert setup.unaligned_loads == 1


def test_number_of_pointers_is_checked() -> None:
    setup = Setup()
    with pytest.raises(ValueError, match="double takes 2 pointers, got 1"):
        setup.kernel.launch(setup.device.stream, [0])


def test_stub_catches_accesses_out_of_bounds_and_after_free() -> None:
    setup = Setup()
    x, y = setup.empty(16), setup.empty()
    setup.kernel.launch(setup.device.stream, [x.address, y.address])
    with pytest.raises(DriverMisuse, match="reach past"):
        setup.device.stream.synchronize()
    x = setup.empty()
    place = x.address
    del x
    setup.kernel.launch(setup.device.stream, [place, y.address])
    with pytest.raises(DriverMisuse, match="was freed"):
        setup.device.stream.synchronize()


def test_more_than_48_kib_of_shared_memory_is_asked_for() -> None:
    small, large = Setup(shared=48 << 10), Setup(shared=100 << 10)
    for setup, asked in ((small, 0), (large, 1)):
        x, y = setup.empty(), setup.empty()
        setup.kernel.launch(setup.device.stream, [x.address, y.address])
        assert setup.stub.calls["cuFuncSetAttribute"] == asked


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": 80}, "double was compiled for sm_80, but gpu:0 is an sm_90"),
        ({"shared": 300 << 10}, "needs 307200 bytes of shared memory, but gpu:0 has 232448"),
        ({"global_scratch_size": 64}, "asks for 64 bytes of global_scratch_size"),
        ({"num_ctas": 2}, "asks for clusters of 2 blocks"),
    ],
)
def test_kernels_that_the_device_cannot_run(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        Setup(**changes)


def test_code_that_the_driver_does_not_know() -> None:
    setup = Setup()
    with pytest.raises(CudaError) as caught:
        setup.device.modules.load(b"other", METADATA)
    assert "double could not be loaded: cuModuleLoadData failed with" in str(caught.value)
    assert "CUDA 13.1; the driver serves CUDA 12.8" in str(caught.value)


def test_graph_replays_with_other_pointers() -> None:
    setup = Setup()
    x, y, z = setup.empty(), setup.empty(), setup.empty()
    setup.device.staging.to_device(setup.x, x.address)
    pairs = [(setup.kernel, (x.address, y.address)), (setup.kernel, (y.address, z.address))]
    graph = LaunchGraph(setup.device.stream, pairs)
    graph.launch()
    assert setup.read(z.address) == (4 * setup.x).tolist()
    for number in range(5):
        fresh = setup.empty()
        before = setup.stub.calls["cuGraphExecKernelNodeSetParams"]
        graph.set_pointers(0, (x.address, y.address))
        graph.set_pointers(1, (y.address, fresh.address))
        setup.device.staging.to_device(setup.x + number, x.address)
        graph.launch()
        assert setup.read(fresh.address) == (4 * (setup.x + number)).tolist()
        assert setup.stub.calls["cuGraphExecKernelNodeSetParams"] == before + 1
    assert setup.stub.calls["cuGraphInstantiate"] == 1
    assert setup.stub.calls["cuLaunchKernel"] == 0


def test_graph_changes_to_the_unaligned_variant_and_back() -> None:
    setup = Setup()
    x, y = setup.empty(36), setup.empty()
    graph = LaunchGraph(setup.device.stream, [(setup.kernel, (x.address, y.address))])
    for shift in (4, 0):
        setup.device.staging.to_device(setup.x, x.address + shift)
        graph.set_pointers(0, (x.address + shift, y.address))
        graph.launch()
        assert setup.read(y.address) == (2 * setup.x).tolist()


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 64 * 9 + 5])
def test_copies_pass_through_chunks(count: int) -> None:
    from funcdl.runtime.cuda.transfer import Staging

    stub = StubDriver()
    device = CudaPlatform(api_of(stub)).open(0)
    staging = Staging(device.stream, chunk_bytes=256, chunks=3)
    values = np.arange(count, dtype=np.float32)
    place = device.pool.empty(values.nbytes, "a test")
    for shift in range(3):
        source = values + shift
        staging.to_device(source, place.address)
        source[:] = -1  # which the device must not see
        found = np.empty(count, np.float32)
        staging.to_host(place.address, found)
        np.testing.assert_array_equal(found, values + shift)
    assert stub.calls["cuMemHostAlloc"] <= 3


def test_full_device_waits_for_freed_memory_once() -> None:
    setup = Setup()
    setup.stub.failures["cuMemAllocFromPoolAsync"] = CUresult.CUDA_ERROR_OUT_OF_MEMORY
    waits = setup.stub.calls["cuStreamSynchronize"]
    with pytest.raises(MemoryError, match=r"32 B for a test is more than what the driver could"):
        setup.empty()
    assert setup.stub.calls["cuStreamSynchronize"] == waits + 1
    assert setup.stub.calls["cuMemPoolTrimTo"] == 1


def test_kernels_with_much_shared_memory_run_in_graphs() -> None:
    from tests.runtime.cuda.environment import installed

    import funcdl as fd

    with installed(StubGpu(shared=64 << 10)):
        f = fd.jit(lambda x: (x @ x.T, x.sum()))
        x = np.ones((3, 4), np.float32)
        for _ in range(4):
            product, total = f(fd.device_put(x, "gpu"))
        assert float(total) == 12 and float(product[0, 0]) == 4


def test_faults_of_kernels_are_told_to_whoever_waits() -> None:
    setup = Setup()
    x, y = setup.empty(), setup.empty()
    setup.device.staging.to_device(setup.x, x.address)
    setup.stub.faults = lambda image: True
    setup.kernel.launch(setup.device.stream, [x.address, y.address])
    with pytest.raises(CudaError, match=r"ILLEGAL_ADDRESS \(700\): a kernel accessed memory that"):
        setup.read(y.address)
    with pytest.raises(CudaError, match="every later call of this process will fail"):
        setup.device.stream.synchronize()
    del x, y  # finalizers tell nobody


def test_graphs_are_destroyed() -> None:
    setup = Setup()
    x, y = setup.empty(), setup.empty()
    graph = LaunchGraph(setup.device.stream, [(setup.kernel, (x.address, y.address))])
    assert setup.stub.graphs == 2
    del graph
    assert setup.stub.graphs == 0
