"""Memory of a device: allocated and freed in the order of its stream, from the driver's pool.

Freed memory stays in the pool, so that a later allocation needs no help of the operating system.
Nothing is taken from the card before it is needed.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from funcdl.config import config
from funcdl.errors import DeviceMemoryError
from funcdl.runtime.cuda.driver import cuda_error
from funcdl.runtime.cuda.stream import Stream

_SHOWN = 8  # live allocations that an error lists


class Allocation:
    """Bytes on a device, given back when the object goes away; `address` is 0 where empty."""

    __slots__ = ("__weakref__", "_pool", "address", "label", "nbytes")

    def __init__(self, pool: DevicePool, address: int, nbytes: int, label: str) -> None:
        self._pool = pool
        self.address = address
        self.nbytes = nbytes
        self.label = label

    def __del__(self) -> None:
        if self.address:
            self._pool._give_back(self.address)


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """Bytes in use now and at most, and what the device has in all and may be used."""

    in_use: int
    peak: int
    limit: int
    total: int
    allocations: int


class DevicePool:
    """The memory of one device that this process uses.

    Safe between threads, also while garbage is collected. ``config.gpu_mem_fraction`` caps it.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._driver = driver = stream.driver
        self.total = int(driver.call("cuDeviceTotalMem", stream.device))
        self._live: dict[int, tuple[int, str]] = {}  # address: bytes, label
        self._returned: deque[int] = deque()
        self._lock = threading.Lock()
        self._in_use = self._peak = 0
        api = driver.api
        properties = api.CUmemPoolProps()
        properties.allocType = api.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        properties.location.type = api.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        properties.location.id = stream.ordinal
        self._pool = driver.call("cuMemPoolCreate", properties)
        # By default, the pool would give back all free memory whenever the device is idle.
        keep_all = api.cuuint64_t(2**64 - 1)
        threshold = api.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
        driver.call("cuMemPoolSetAttribute", self._pool, threshold, keep_all)

    @property
    def limit(self) -> int:
        """How many bytes may be in use."""
        return int(self.total * config.gpu_mem_fraction)

    def empty(self, nbytes: int, label: str) -> Allocation:
        """Memory with undefined content, aligned to 256 bytes; `label` says what it is for.

        Raises:
          DeviceMemoryError: the device has not that much, or the cap does not allow it.
        """
        if nbytes == 0:
            return Allocation(self, 0, 0, label)
        with self._lock:
            self._collect()
            address = self._allocate(nbytes, label)
            self._live[address] = (nbytes, label)
            self._in_use += nbytes
            self._peak = max(self._peak, self._in_use)
        return Allocation(self, address, nbytes, label)

    def stats(self) -> MemoryStats:
        """What is in use."""
        with self._lock:
            self._collect()
            return MemoryStats(self._in_use, self._peak, self.limit, self.total, len(self._live))

    def _allocate(self, nbytes: int, label: str) -> int:
        if self._in_use + nbytes > self.limit:
            raise self._out_of_memory(nbytes, label, "the limit set by FUNCDL_GPU_MEM_FRACTION")
        self._stream.activate()
        api = self._driver.api
        for attempt in (0, 1):
            handle = self._stream.handle
            code, address = api.cuMemAllocFromPoolAsync(nbytes, self._pool, handle)
            if code == api.CUresult.CUDA_ERROR_OUT_OF_MEMORY and attempt == 0:
                # What was freed a moment ago is free once the stream has come that far, and may
                # be in pieces that are too small, which the driver makes one again.
                self._driver.call("cuStreamSynchronize", handle)
                self._driver.call("cuMemPoolTrimTo", self._pool, 0)
                continue
            break
        if code == api.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise self._out_of_memory(nbytes, label, "what the driver could find")
        if code != 0:
            raise cuda_error("cuMemAllocFromPoolAsync", code)
        return int(address)

    def _out_of_memory(self, nbytes: int, label: str, bound: str) -> DeviceMemoryError:
        live = sorted(self._live.values(), key=lambda entry: -entry[0])
        lines = [
            f"out of memory on gpu:{self._stream.ordinal}: {_size(nbytes)} for {label} is more "
            f"than {bound}.",
            f"In use: {_size(self._in_use)} of {_size(self.limit)} allowed (the device has "
            f"{_size(self.total)}); at most so far: {_size(self._peak)}.",
        ]
        if live:
            lines.append("Alive, largest first:")
            lines += [f"  {_size(size):>10}  {what}" for size, what in live[:_SHOWN]]
        if len(live) > _SHOWN:
            rest = sum(size for size, _ in live[_SHOWN:])
            lines.append(f"  {_size(rest):>10}  in {len(live) - _SHOWN} more")
        lines.append(
            "Use smaller batches, donate arguments that are not needed again (donate_argnums), "
            "recompute instead of keeping (funcdl.checkpoint), or delete arrays."
        )
        return DeviceMemoryError("\n".join(lines))

    def _give_back(self, address: int) -> None:
        # A garbage collection may end an allocation anywhere, also inside the pool's own methods:
        # so it is only queued here, and freed by whoever has the lock.
        self._returned.append(address)
        if self._lock.acquire(blocking=False):
            try:
                self._collect()
            finally:
                self._lock.release()

    def _collect(self) -> None:
        """Free what was returned; the lock is held."""
        if self._returned:
            self._stream.activate()
        while self._returned:
            address = self._returned.popleft()
            nbytes, _ = self._live.pop(address)
            self._in_use -= nbytes
            # An error of earlier work would appear here, in the middle of anything: whoever waits
            # for that work is told.
            self._driver.api.cuMemFreeAsync(address, self._stream.handle)


def _size(nbytes: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if nbytes >= unit:
            return f"{nbytes / unit:.1f} {name}"
    return f"{nbytes} B"
