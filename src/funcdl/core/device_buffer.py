"""What `Array` holds in place of a NumPy array when its elements are in a device's own memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from funcdl.config import config
from funcdl.core.devices import Device

NDArray = np.ndarray[Any, Any]


class DeviceBuffer:
    """The elements of one array in the memory of a device other than the CPU.

    Attributes:
      shape, dtype: as those of a NumPy array.
      device: where it is.
      shared: whether others see the memory too (an array that is its alias, another library), so
        that it may not be reused although its array is given up.
    """

    # Not an ABC: `isinstance` with one is slow, and every read of an array asks it. Subclasses
    # define what raises here.
    __slots__ = ("__weakref__", "device", "dtype", "shape", "shared")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], device: Device) -> None:
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self.shared = False
        _note_first_use()

    @property
    def nbytes(self) -> int:
        """How much memory the elements take."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def address(self) -> int:
        """Where the first element is, as the device counts."""
        raise NotImplementedError

    def to_host(self) -> NDArray:
        """The elements as a read-only NumPy array, once they are computed."""
        raise NotImplementedError

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return np.array(self.to_host(), dtype, copy=copy)

    def wait(self) -> None:
        """Wait until the elements are computed."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether the elements are computed."""
        raise NotImplementedError

    def dlpack(self, **options: Any) -> Any:
        """A capsule for another library; see ``__dlpack__`` of the array interface standard."""
        raise BufferError(f"arrays on {self.device} cannot be exported by DLPack")

    def dlpack_device(self) -> tuple[int, int]:
        """The device's type and number as DLPack counts."""
        raise BufferError(f"arrays on {self.device} cannot be exported by DLPack")


Value = NDArray | DeviceBuffer

_first_use: list[Callable[[], None]] = []
_used = False


def on_first_use(callback: Callable[[], None]) -> None:
    """Call back when the first array is placed on a device; until then no array need be asked."""
    if _used:
        callback()
    else:
        _first_use.append(callback)


def is_used() -> bool:
    """Whether any array was ever placed on a device."""
    return _used


def _note_first_use() -> None:
    global _used
    if not _used:
        _used = True
        for callback in _first_use:
            callback()


def backend_of(values: Iterable[Any]) -> str:
    """The name of the back end for operands: that of the device where any of them is.

    Operands in host memory follow the others. The back ends "cpu" and "reference", where the user
    chose one, compute on the host whatever the operands.
    """
    if config.backend not in ("cpu", "reference"):
        for value in values:
            if isinstance(value, DeviceBuffer):
                return value.device.platform
    return config.backend
