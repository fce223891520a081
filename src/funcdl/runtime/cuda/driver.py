"""The CUDA driver behind one class: each call of it that the runtime makes, errors as exceptions.

The functions come from NVIDIA's `cuda-bindings`, which is imported when the driver is first asked
for. Tests pass an object with the same functions (`DriverApi`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from funcdl.errors import CudaError, DeviceError

OLDEST_DRIVER = 12000
"""The first driver release (1000 × major + 10 × minor) with all calls that are made here."""

Call = Callable[..., tuple[Any, ...]]


class DriverApi(Protocol):
    """What is used of ``cuda.bindings.driver``: functions that return a code, then results.

    Beside them the enumerations and structures named after the C header's.
    """

    cuInit: Call
    cuDriverGetVersion: Call
    cuDeviceGetCount: Call
    cuDeviceGet: Call
    cuDeviceGetName: Call
    cuDeviceGetAttribute: Call
    cuDeviceTotalMem: Call
    cuDevicePrimaryCtxRetain: Call
    cuCtxSetCurrent: Call
    cuStreamCreate: Call
    cuStreamSynchronize: Call
    cuStreamQuery: Call
    cuStreamWaitEvent: Call
    cuEventCreate: Call
    cuEventRecord: Call
    cuEventSynchronize: Call
    cuEventQuery: Call
    cuEventElapsedTime: Call
    cuEventDestroy: Call
    cuMemPoolCreate: Call
    cuMemPoolSetAttribute: Call
    cuMemPoolTrimTo: Call
    cuMemAllocFromPoolAsync: Call
    cuMemFreeAsync: Call
    cuMemHostAlloc: Call
    cuMemcpyHtoDAsync: Call
    cuMemcpyDtoHAsync: Call
    cuMemcpyDtoDAsync: Call
    cuModuleLoadData: Call
    cuModuleGetFunction: Call
    cuFuncSetAttribute: Call
    cuLaunchKernel: Call
    cuGraphCreate: Call
    cuGraphAddKernelNode: Call
    cuGraphInstantiate: Call
    cuGraphExecKernelNodeSetParams: Call
    cuGraphLaunch: Call
    cuGraphExecDestroy: Call
    cuGraphDestroy: Call


def load_api() -> DriverApi:
    """The functions of the driver that is installed.

    Raises:
      DeviceError: `cuda-bindings` or the driver is missing.
    """
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise DeviceError(
            "GPUs need the package cuda-bindings, which is not installed: pip install 'funcdl[gpu]'"
        ) from error
    api: DriverApi = driver
    return api


class Driver:
    """Calls of the driver that raise where they fail.

    Args:
      api: the functions; by default those of the installed driver.

    Raises:
      DeviceError: there is no driver, it is too old, or it finds no GPU.
    """

    def __init__(self, api: DriverApi | None = None) -> None:
        self.api: Any = load_api() if api is None else api
        try:
            self.call("cuInit", 0)
        except CudaError as error:
            raise DeviceError(f"no GPU can be used: {error}") from None
        except RuntimeError as error:  # as the bindings report a missing library
            raise DeviceError(
                f"no NVIDIA driver is installed on this machine ({str(error).splitlines()[0]})"
            ) from None
        self.version = int(self.call("cuDriverGetVersion"))
        if self.version < OLDEST_DRIVER:
            raise DeviceError(
                f"the NVIDIA driver serves CUDA {_release(self.version)}, but funcdl needs "
                f"{_release(OLDEST_DRIVER)} or later; update the driver"
            )
        self.device_count = int(self.call("cuDeviceGetCount"))
        if self.device_count == 0:
            raise DeviceError(
                "the NVIDIA driver finds no GPU; is CUDA_VISIBLE_DEVICES set to an empty list?"
            )

    def call(self, name: str, *args: Any) -> Any:
        """Call a function of the driver; returns its result, or None where it has none.

        Raises:
          CudaError: the driver reports an error, maybe of earlier asynchronous work.
        """
        code, *results = getattr(self.api, name)(*args)
        if code != 0:
            raise cuda_error(name, code)
        return results[0] if results else None

    def attribute(self, device: Any, name: str) -> int:
        """A number that a device has, by the name of the C header without its prefix."""
        wanted = getattr(self.api.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self.call("cuDeviceGetAttribute", wanted, device))


_MEANINGS = {
    "CUDA_ERROR_OUT_OF_MEMORY": "there is not enough memory on the device",
    "CUDA_ERROR_NO_DEVICE": "the driver finds no GPU",
    "CUDA_ERROR_ILLEGAL_ADDRESS": "a kernel accessed memory that does not exist; every later call "
    "of this process will fail",
    "CUDA_ERROR_MISALIGNED_ADDRESS": "a kernel accessed memory at an address that is not a "
    "multiple of its element's size",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "the code was compiled for another architecture",
    "CUDA_ERROR_INVALID_IMAGE": "the driver does not know this form of code; it may be too old",
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES": "a kernel needs more registers than the device has for "
    "its number of threads",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "the driver's kernel module and its library are of "
    "different versions; reboot, or reinstall the driver",
}


def cuda_error(call: str, code: Any) -> CudaError:
    """The exception for a code other than success that `call` returned."""
    name = getattr(code, "name", f"error {int(code)}")
    meaning = _MEANINGS.get(name)
    return CudaError(
        f"{call} failed with {name} ({int(code)})" + (f": {meaning}" if meaning else "")
    )


def _release(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
