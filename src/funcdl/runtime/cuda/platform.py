"""The GPUs of this machine."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from funcdl.core.device_buffer import DeviceBuffer, Value
from funcdl.core.devices import Device
from funcdl.errors import ArgumentError
from funcdl.runtime.cuda.buffer import CudaBuffer, to_gpu
from funcdl.runtime.cuda.device import CudaDevice
from funcdl.runtime.cuda.dlpack import adopt
from funcdl.runtime.cuda.driver import Driver, DriverApi


class CudaPlatform:
    """All GPUs, opened one by one when they are first used.

    Args:
      api: the driver's functions; by default those of the installed driver.

    Raises:
      DeviceError: there is no driver, it is too old, or it finds no GPU.
    """

    def __init__(self, api: DriverApi | None = None) -> None:
        self.driver = Driver(api)
        self._opened: dict[int, CudaDevice] = {}
        self._lock = threading.Lock()

    def open(self, ordinal: int = 0) -> CudaDevice:
        """A GPU by its number.

        Raises:
          ArgumentError: there is no GPU of this number.
        """
        device = self._opened.get(ordinal)
        if device is None:
            count = self.driver.device_count
            if not 0 <= ordinal < count:
                raise ArgumentError(
                    f"there is no device gpu:{ordinal}; this machine has {count}: "
                    + ", ".join(f"gpu:{i}" for i in range(count))
                )
            with self._lock:
                device = self._opened.get(ordinal)
                if device is None:
                    device = self._opened[ordinal] = CudaDevice(self.driver, ordinal)
        return device

    def devices(self) -> list[Device]:
        """All GPUs in the order of their numbers."""
        return [self.open(i).device for i in range(self.driver.device_count)]

    def put(self, value: Value, device: Device) -> CudaBuffer:
        """A copy of an array on a GPU; between two GPUs through host memory.

        Raises:
          DeviceMemoryError: there is not enough memory.
        """
        host = value.to_host() if isinstance(value, DeviceBuffer) else value
        return to_gpu(self.open(device.id), host, "an array")

    def adopt(self, external: Any, ordinal: int) -> CudaBuffer:
        """The memory of another library's array on a GPU, by DLPack.

        Raises:
          ArgumentError: it is not in row-major order.
          DtypeError: its element type is not supported.
        """
        return adopt(self.open(ordinal), external)


@cache
def installed_platform() -> CudaPlatform:
    """The GPUs of the installed driver."""
    return CudaPlatform()
