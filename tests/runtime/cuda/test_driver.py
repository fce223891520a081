"""The driver's errors, and whether the stub is like NVIDIA's bindings."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

import pytest
from tests.runtime.cuda import stub_driver
from tests.runtime.cuda.stub_driver import CUresult, StubDriver

import funcdl as fd
from funcdl.errors import ArgumentError, CudaError, DeviceError
from funcdl.runtime.cuda.driver import Driver, DriverApi
from funcdl.runtime.cuda.platform import CudaPlatform


class NoLibrary(StubDriver):
    def cuInit(self, flags: int) -> Any:
        raise RuntimeError("Failed to load libcuda.so.1\nmore")


def failing(name: str, code: CUresult) -> StubDriver:
    stub = StubDriver()
    stub.failures[name] = code
    return stub


REFUSED: dict[str, tuple[StubDriver, str]] = {
    "no driver": (
        NoLibrary(),
        "no NVIDIA driver is installed on this machine (Failed to load libcuda.so.1)",
    ),
    "no device": (
        failing("cuInit", CUresult.CUDA_ERROR_NO_DEVICE),
        "no GPU can be used: cuInit failed with CUDA_ERROR_NO_DEVICE (100): the driver finds no "
        "GPU",
    ),
    "hidden devices": (
        StubDriver(capabilities=()),
        "the NVIDIA driver finds no GPU; is CUDA_VISIBLE_DEVICES set to an empty list?",
    ),
    "old driver": (
        StubDriver(version=11040),
        "the NVIDIA driver serves CUDA 11.4, but funcdl needs 12.0 or later; update the driver",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_machines_without_a_usable_driver(name: str) -> None:
    stub, message = REFUSED[name]
    with pytest.raises(DeviceError) as caught:
        Driver(stub)
    assert str(caught.value) == message


def test_package_of_bindings_is_named_where_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(DeviceError, match=r"cuda-bindings, which is not installed: pip install"):
        Driver()


def test_errors_name_the_call_and_the_code() -> None:
    driver = Driver(failing("cuStreamCreate", CUresult.CUDA_ERROR_INVALID_VALUE))
    with pytest.raises(CudaError) as caught:
        driver.call("cuStreamCreate", 1)
    assert str(caught.value) == "cuStreamCreate failed with CUDA_ERROR_INVALID_VALUE (1)"
    broken = Driver(failing("cuStreamSynchronize", CUresult.CUDA_ERROR_ILLEGAL_ADDRESS))
    with pytest.raises(CudaError, match=r"ILLEGAL_ADDRESS \(700\): a kernel accessed memory that"):
        broken.call("cuStreamSynchronize", None)


def test_devices_that_there_are_not() -> None:
    platform = CudaPlatform(StubDriver(capabilities=(80, 90)))
    assert [d.id for d in platform.devices()] == [0, 1]
    assert (platform.open(0).capability, platform.open(1).capability) == (80, 90)
    with pytest.raises(ArgumentError, match="no device gpu:2; this machine has 2: gpu:0, gpu:1"):
        platform.open(2)


def test_names_of_devices(gpu: Any) -> None:
    assert fd.devices("cuda") == fd.devices("gpu") and fd.device_count("gpu") == 1
    with pytest.raises(ArgumentError, match=r"there is no device 'gpu:3'; devices are: 'gpu:0'"):
        fd.device_put(1.0, "gpu:3")
    with pytest.raises(ArgumentError, match=r"no device 'tpu:0'; devices are: 'cpu', 'gpu'"):
        fd.device_put(1.0, "tpu:0")


ENUMERATIONS = [
    "CUresult",
    "CUdevice_attribute",
    "CUmemAllocationType",
    "CUmemLocationType",
    "CUmemPool_attribute",
    "CUfunction_attribute",
]


def test_stub_is_like_the_bindings() -> None:
    real = pytest.importorskip("cuda.bindings.driver")
    for enumeration in ENUMERATIONS:
        for member in getattr(stub_driver, enumeration):
            found = getattr(getattr(real, enumeration), member.name)
            assert int(found) == member, member
    assert real.CUresult.CUDA_SUCCESS == 0 and real.CUresult(2).name == "CUDA_ERROR_OUT_OF_MEMORY"
    for name in DriverApi.__annotations__:
        signature = getattr(real, name).__doc__.strip().splitlines()[0]
        arguments = re.sub(r"\[[^][]*(\[[^]]*\][^][]*)*\]", "", signature[len(name) + 1 : -1])
        wanted = [a for a in arguments.split(",") if a.strip()]
        own = inspect.signature(getattr(StubDriver, name)).parameters
        assert len(wanted) == len(own) - 1, signature


def test_structures_are_like_the_bindings() -> None:
    real = pytest.importorskip("cuda.bindings.driver")
    properties = real.CUmemPoolProps()
    properties.allocType = real.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    properties.location.type = real.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    properties.location.id = 3
    assert properties.location.id == 3 and int(properties.location.type) == 1
    node = real.CUDA_KERNEL_NODE_PARAMS()
    for field in stub_driver.CUDA_KERNEL_NODE_PARAMS.__dataclass_fields__:
        assert hasattr(node, field), field
    node.gridDimX, node.kernelParams = 5, 4096
    assert (node.gridDimX, int(node.kernelParams)) == (5, 4096)
    assert int(real.cuuint64_t(2**64 - 1)) == 2**64 - 1
