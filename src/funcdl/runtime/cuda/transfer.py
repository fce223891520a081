"""Copies between host and device, through page-locked memory that the device reads by itself."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from funcdl.runtime.cuda.stream import Event, Stream

# Page-locked memory of 16 MiB; a chunk takes the device longer than its start.
CHUNK_BYTES = 4 << 20
CHUNKS = 4

Bytes = npt.NDArray[np.uint8]


class Staging:
    """A few page-locked chunks that large copies pass through, one being filled or emptied while
    the device works on another.

    Args:
      stream: copies take place in its order.
    """

    def __init__(
        self, stream: Stream, chunk_bytes: int = CHUNK_BYTES, chunks: int = CHUNKS
    ) -> None:
        self._stream = stream
        self._driver = stream.driver
        self._chunk_bytes = chunk_bytes
        self._chunks = chunks
        self._free: deque[tuple[int, Event | None]] = deque()
        self._made = 0
        self._lock = threading.Lock()

    def to_device(self, source: npt.NDArray[Any], address: int) -> None:
        """Start to copy a C-contiguous array; it may be changed as soon as this returns."""
        if source.nbytes == 0:
            return
        data = source.reshape(-1).view(np.uint8)
        with self._lock:
            self._stream.activate()
            for start in range(0, data.nbytes, self._chunk_bytes):
                part = data[start : start + self._chunk_bytes]
                chunk = self._take()
                _view(chunk, part.nbytes)[:] = part
                stream = self._stream.handle
                self._driver.call("cuMemcpyHtoDAsync", address + start, chunk, part.nbytes, stream)
                self._free.append((chunk, self._stream.record()))

    def to_host(self, address: int, target: npt.NDArray[Any]) -> None:
        """Copy into a C-contiguous array, once all work issued before is done."""
        if target.nbytes == 0:
            return
        data = target.reshape(-1).view(np.uint8)
        under_way: deque[tuple[int, Bytes, Event]] = deque()

        def finish() -> None:
            chunk, part, event = under_way.popleft()
            event.synchronize()
            part[:] = _view(chunk, part.nbytes)
            self._free.appendleft((chunk, None))

        with self._lock:
            self._stream.activate()
            for start in range(0, data.nbytes, self._chunk_bytes):
                part = data[start : start + self._chunk_bytes]
                if len(under_way) == self._chunks:
                    finish()
                chunk = self._take()
                stream = self._stream.handle
                self._driver.call("cuMemcpyDtoHAsync", chunk, address + start, part.nbytes, stream)
                under_way.append((chunk, part, self._stream.record()))
            while under_way:
                finish()

    def _take(self) -> int:
        """The address of a chunk that the device has done with."""
        if self._free:
            chunk, event = self._free[0]
            if event is None or event.has_happened() or self._made == self._chunks:
                self._free.popleft()
                if event is not None:
                    event.synchronize()
                return chunk
        self._made += 1
        return int(self._driver.call("cuMemHostAlloc", self._chunk_bytes, 0))


def _view(address: int, nbytes: int) -> Bytes:
    return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))
