"""The memory of one array on a GPU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from funcdl.core.device_buffer import DeviceBuffer
from funcdl.runtime.cuda.device import CudaDevice
from funcdl.runtime.cuda.device_memory import Allocation

NDArray = npt.NDArray[Any]


class CudaBuffer(DeviceBuffer):
    """A row-major array in the memory of a GPU, written by work that may still be under way."""

    __slots__ = ("_host", "allocation", "gpu")

    def __init__(
        self,
        gpu: CudaDevice,
        allocation: Allocation,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        super().__init__(shape, dtype, gpu.device)
        self.gpu = gpu
        self.allocation = allocation
        self._host: NDArray | None = None

    @property
    def address(self) -> int:
        """Where it is in the device's memory; 0 where it has no elements."""
        return self.allocation.address

    def to_host(self) -> NDArray:
        """A read-only copy in host memory, made once."""
        if self._host is None:
            host = np.empty(self.shape, self.dtype)
            self.gpu.staging.to_host(self.address, host)
            host.flags.writeable = False
            self._host = host
        return self._host

    def dlpack(self, **options: Any) -> Any:
        """A capsule for another library, ordered behind the work that writes the array."""
        from funcdl.runtime.cuda.dlpack import export

        return export(self, **options)

    def dlpack_device(self) -> tuple[int, int]:
        """The device as DLPack counts."""
        from funcdl.runtime.cuda.dlpack import CUDA

        return CUDA, self.device.id

    def wait(self) -> None:
        """Wait until it is computed."""
        self.gpu.stream.synchronize()

    def is_ready(self) -> bool:
        """Whether it is computed; True only once all work issued on its device is done."""
        return self.gpu.stream.is_idle()


def empty_buffer(
    gpu: CudaDevice, shape: tuple[int, ...], dtype: np.dtype[Any], label: str
) -> CudaBuffer:
    """Memory for an array; `label` says what it is for.

    Raises:
      DeviceMemoryError: there is not enough.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    text = f"{label} {dtype.name}[{','.join(map(str, shape))}]"
    return CudaBuffer(gpu, gpu.pool.empty(nbytes, text), shape, dtype)


def to_gpu(gpu: CudaDevice, value: NDArray, label: str) -> CudaBuffer:
    """A copy of a NumPy array on a GPU; `value` may be changed as soon as this returns.

    Raises:
      DeviceMemoryError: there is not enough memory.
    """
    buffer = empty_buffer(gpu, value.shape, value.dtype, label)
    gpu.staging.to_device(np.ascontiguousarray(value), buffer.address)
    return buffer
