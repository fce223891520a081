"""Memory for outputs and arenas: aligned, and reused, since a fresh page costs more than its use.

A block goes back to its pool when the last NumPy view of it is gone. Arrays handed out are plain
``numpy.ndarray`` objects.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from _cffi_backend import FFI

from funcdl.config import config
from funcdl.core.dispatch import dispatch
from funcdl.core.integers import round_up
from funcdl.core.records import record

_UINT8 = np.dtype(np.uint8)
NDArray = np.ndarray[Any, Any]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

ALIGNMENT = 64  # a cache line, and the widest vector
# Below, malloc reuses memory by itself, and the pool would cost more than it saves.
SMALL_BYTES = 4096
HUGE_PAGE_BYTES = 2 << 20  # from this size on, blocks are mapped in huge pages


class _Lease(np.ndarray[Any, Any]):
    """The base of an array that was handed out; its end returns the block to the pool.

    NumPy makes the base of a view the last array in the chain of bases that has the view's type.
    Blocks are views of no array, so that the chain ends here and every array holds its lease.
    """

    __slots__ = ("block", "pool")

    block: memoryview
    pool: Pool

    def __del__(self) -> None:
        if hasattr(self, "pool"):  # which views that a user may make of a lease have not
            self.pool._take_back(self.block)


@record
class PoolStats:
    """What a pool holds and did; arrays below `SMALL_BYTES` are not counted.

    Attributes:
        cached_bytes: of free blocks, kept for reuse.
        hits, misses: how many blocks were taken from the free ones, and from the system.
        used_bytes, peak_used_bytes: of blocks handed out, now and at most.
        largest_bytes: of the largest block that was ever handed out.
    """

    cached_bytes: int
    hits: int
    misses: int
    used_bytes: int
    peak_used_bytes: int
    largest_bytes: int


class Pool:
    """Blocks of memory by size class; safe between threads, also while garbage is collected.

    Args:
        max_cached_bytes: blocks are given back to the system above this size, those of the size
            class unused for longest first.
    """

    def __init__(self, max_cached_bytes: int) -> None:
        self.max_cached_bytes = max_cached_bytes
        self._free: dict[int, list[memoryview]] = {}  # size classes, the last used at the end
        self._returned: deque[memoryview] = deque()  # blocks on their way back to `_free`
        self._cached_bytes = self._hits = self._misses = 0
        self._used_bytes = self._peak_used_bytes = self._largest_bytes = 0
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._after_fork)

    def empty(self, nbytes: int) -> Bytes:
        """Return an array u8[nbytes] with undefined content, 64-byte aligned from 4 KiB on."""
        return self.empty_array((nbytes,), np.uint8)

    def empty_array(self, shape: Sequence[int], dtype: Any) -> NDArray:
        """Return a C-contiguous array with undefined content, 64-byte aligned from 4 KiB on.

        Raises:
            MemoryError: the system has not that much memory.
        """
        dtype = np.dtype(dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < SMALL_BYTES:
            return np.empty(shape, dtype)
        block = self._take(_size_class(nbytes))
        lease = np.ndarray.__new__(_Lease, nbytes, _UINT8, block)
        lease.pool = self
        lease.block = block
        return np.ndarray(shape, dtype, lease)

    def clear(self) -> None:
        """Give all cached blocks back to the system."""
        with self._lock:
            self._collect()
            self._free.clear()
            self._cached_bytes = 0

    def stats(self) -> PoolStats:
        """Return the counters."""
        return PoolStats(*self.counters())

    def counters(self) -> tuple[int, ...]:
        """Return the counters, in the order of `PoolStats`."""
        with self._lock:
            self._collect()
            return (
                *(self._cached_bytes, self._hits, self._misses),
                *(self._used_bytes, self._peak_used_bytes, self._largest_bytes),
            )

    def reset_peak(self) -> None:
        """Let the peak be what is handed out now."""
        with self._lock:
            self._collect()
            self._peak_used_bytes = self._used_bytes

    def _take(self, size: int) -> memoryview:
        with self._lock:
            self._collect()
            self._count(size)
            if blocks := self._free.get(size):
                self._hits += 1
                self._cached_bytes -= size
                return blocks.pop()
            self._misses += 1
        try:
            return _allocate(size)
        except (MemoryError, OSError, OverflowError):
            self.clear()
        try:
            return _allocate(size)
        except (MemoryError, OSError, OverflowError):
            with self._lock:
                self._used_bytes -= size
            raise MemoryError(
                f"the system has no {size} bytes for a result or for temporaries"
            ) from None

    def _count(self, size: int) -> None:
        self._used_bytes += size
        if self._used_bytes > self._peak_used_bytes:
            self._peak_used_bytes = self._used_bytes
        if size > self._largest_bytes:
            self._largest_bytes = size

    def _take_back(self, block: memoryview) -> None:
        # A garbage collection may end a lease anywhere, also inside the pool's own methods: so the
        # block is only queued here, by one atomic step, and put away by whoever has the lock.
        self._returned.append(block)
        if self._lock.acquire(blocking=False):
            try:
                self._collect()
            finally:
                self._lock.release()

    def _collect(self) -> None:
        """Put returned blocks where they can be taken from; the lock is held."""
        while self._returned:
            block = self._returned.popleft()
            size = block.nbytes
            self._free[size] = blocks = self._free.pop(size, None) or []
            blocks.append(block)
            self._cached_bytes += size
            self._used_bytes -= size
            while self._cached_bytes > self.max_cached_bytes:
                oldest, blocks = next(iter(self._free.items()))
                if blocks:
                    blocks.pop()
                    self._cached_bytes -= oldest
                else:
                    del self._free[oldest]

    def _after_fork(self) -> None:
        # A thread that the child does not have may have been in the middle of a change.
        if self._lock.locked():
            self._lock = threading.Lock()
            self._free.clear()
            self._cached_bytes = 0


def _size_class(nbytes: int) -> int:
    """Round up to one of eight sizes an octave: at most an eighth is wasted."""
    step = 1 << max((nbytes - 1).bit_length() - 4, 9)
    return round_up(nbytes, step)


def _allocate(size: int) -> memoryview:
    if size < HUGE_PAGE_BYTES:
        return _aligned(bytearray(size + ALIGNMENT), size, ALIGNMENT)
    mapping = mmap.mmap(-1, size + HUGE_PAGE_BYTES)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return _aligned(mapping, size, HUGE_PAGE_BYTES)


def _aligned(memory: bytearray | mmap.mmap, size: int, alignment: int) -> memoryview:
    start = -address(memory) % alignment
    return memoryview(memory)[start : start + size]


_ffi = FFI()
_cast = _ffi.cast
_from_buffer = _ffi.from_buffer
_UINTPTR = _ffi.typeof("uintptr_t")


def address(array: NDArray | bytearray | mmap.mmap) -> int:
    """Return the address of the first element of a C-contiguous array, read-only ones included.

    In 0.3 microseconds; ``array.ctypes.data`` takes 1.0.

    Raises:
        ValueError: the array is not C-contiguous.
    """
    return int(_cast(_UINTPTR, _from_buffer(array)))


def _make_pool(max_cached_bytes: int) -> Any:
    """A pool: the compiled extension's, which is this one's twin, where that may be used."""
    if dispatch.native is None or config.dispatch == "python":
        return Pool(max_cached_bytes)
    return dispatch.native.Pool(max_cached_bytes)


pool: Any = _make_pool(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)
empty: Callable[[int], Bytes] = pool.empty
empty_array: Callable[[Sequence[int], Any], NDArray] = pool.empty_array


def stats() -> PoolStats:
    """Return the counters of the pool that outputs come from."""
    return PoolStats(*pool.counters())
