"""Loading shared objects and calling their entry points.

An entry point is ``void name(void **buffers)``, or returns a number. Its table of addresses is
packed into a new bytes object for each call, so that threads may call the same entry at once.
ctypes makes the call: it is as fast as cffi (0.35 microseconds with twenty addresses packed,
measured), parses no declarations at start-up, and releases the interpreter lock as well.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from funcdl.config import config
from funcdl.runtime.lapack import lapack_table
from funcdl.runtime.thread_pool import thread_pool


class Entry:
    """One entry point of a shared object.

    Calling it with a sequence of `num_pointers` addresses runs it and waits. A hot path may instead
    call ``entry.function(entry.pack(*addresses))``, which saves a Python call.

    Raises:
        struct.error: another number of addresses, or a negative one.
    """

    __slots__ = ("function", "num_pointers", "pack")

    function: Callable[[bytes], Any]
    pack: Callable[..., bytes]
    num_pointers: int

    def __init__(self, function: Callable[[bytes], Any], num_pointers: int) -> None:
        self.function = function
        self.pack = struct.Struct(f"{num_pointers}P").pack
        self.num_pointers = num_pointers

    def __call__(self, addresses: Sequence[int]) -> None:
        self.function(self.pack(*addresses))


class SharedObject:
    """A loaded library, whose parallel regions follow ``config.num_threads`` (fd_runtime.h).

    Raises:
        OSError: the file cannot be loaded.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._library = ctypes.CDLL(os.fspath(self.path))
        if hasattr(self._library, "fd_set_num_threads"):
            _setters[self.path] = self._library.fd_set_num_threads
            pool = thread_pool()
            if pool is not None and hasattr(self._library, "fd_set_pool"):
                pool.resize(num_threads())
                self._library.fd_set_pool(ctypes.c_void_p(pool.run))
            self._library.fd_set_num_threads(num_threads())
        if hasattr(self._library, "fd_set_lapack"):
            table = lapack_table()
            if table is None:
                raise OSError(f"{self.path} calls LAPACK, and this SciPy does not say where it is")
            self._library.fd_set_lapack(ctypes.c_void_p(table))

    def entry(
        self, symbol: str, num_pointers: int, returns: type[ctypes.c_int64] | None = None
    ) -> Entry:
        """Return the entry point `symbol`, which takes a table of `num_pointers` addresses.

        Raises:
            AttributeError: the library exports no such symbol.
        """
        function = self.function(symbol)
        function.argtypes = (ctypes.c_char_p,)
        function.restype = returns
        return Entry(function, num_pointers)

    def function(self, symbol: str) -> Any:
        """Return the function `symbol`, of whatever type, as ctypes has it.

        Raises:
            AttributeError: the library exports no such symbol.
        """
        if not hasattr(self._library, symbol):
            raise AttributeError(f"{self.path} exports no symbol {symbol!r}")
        return self._library[symbol]


def load(
    path: str | os.PathLike[str],
    symbol: str,
    num_pointers: int,
    returns: type[ctypes.c_int64] | None = None,
) -> Entry:
    """Load the library at `path` and return its entry point `symbol`; see `SharedObject`."""
    return SharedObject(path).entry(symbol, num_pointers, returns)


def address_of(function: Callable[..., Any]) -> int:
    """Return the address of an entry point's function."""
    # The stubs of ctypes do not let one of its functions be cast.
    foreign: Any = function
    return ctypes.cast(foreign, ctypes.c_void_p).value or 0


def num_threads() -> int:
    """Return how many threads a parallel region gets: ``config.num_threads``, or one per core.

    Always 1 in a forked child, of which there are usually many: one for each core.
    """
    if _forked:
        return 1
    return config.num_threads or len(os.sched_getaffinity(0))


# Of all libraries: none is ever unloaded, and an entry point may outlive its `SharedObject`.
_setters: dict[Path, Callable[[int], object]] = {}
_forked = False


def _apply_to_all(_: object = None) -> None:
    pool = thread_pool() if _setters else None
    if pool is not None:
        pool.resize(num_threads())
    _set_num_threads()


def _set_num_threads() -> None:
    for set_num_threads in list(_setters.values()):
        set_num_threads(num_threads())


def _after_fork() -> None:
    global _forked
    _forked = True
    _set_num_threads()  # the pool's size does not matter to regions of one thread


config.on_change("num_threads", _apply_to_all)
os.register_at_fork(after_in_child=_after_fork)
