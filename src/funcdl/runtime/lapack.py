"""LAPACK for compiled code: a table of the functions that SciPy publishes for Cython.

Compiled code (fd_lapack.h) calls them without the interpreter. The table is memory of the process,
which all loaded units share: it also holds what they agree on about LAPACK's threads.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from functools import cache
from typing import Any

from funcdl.core.forks import PATIENCE, held_off

ROUTINES = (
    "geev",
    "gees",
    "gesdd",
    "geqp3",
    "syevd",
    "gehrd",
    "geqrf",
    "getrf",
    "gtsv",
    "sytrd",
    "orgqr",
    "potrf",
    "trsm",
)
"""The fields of fd_lapack_routines.h, by the names for real matrices."""
_COMPLEX_NAMES = {"syevd": "heevd", "sytrd": "hetrd", "orgqr": "ungqr"}
# `get_threads` and `set_threads` of fd_lapack_table; then `lock`, `limited`, `threads_before`,
# `forking` and `inside`.
_THREAD_WORDS, _SHARED_WORDS = 2, 5
_FORKING, _INSIDE = 5, 6
# What OpenBLAS calls the functions that ask for its number of threads and change it, where it is
# SciPy's own and where it is the system's.
_THREADS = ("scipy_openblas_{}_num_threads", "openblas_{}_num_threads")


@cache
def lapack_table() -> int | None:
    """The address of the table; None where this SciPy has no functions of the kind."""
    with held_off():
        from scipy.linalg import cython_blas, cython_lapack

    known = {**cython_blas.__pyx_capi__, **cython_lapack.__pyx_capi__}
    try:
        addresses = [
            _address(known[letter + (_COMPLEX_NAMES.get(name, name) if letter in "cz" else name)])
            for letter in "sdcz"
            for name in ROUTINES
        ]
    except (KeyError, ValueError):
        return None
    words = [*_thread_functions(cython_lapack.__file__), *[0] * _SHARED_WORDS, *addresses]
    table = (ctypes.c_uint64 * len(words))(*words)
    _tables.append(table)
    return ctypes.addressof(table)


# Never freed: loaded units keep the address.
_tables: list[Any] = []


class _Fork(threading.local):
    waited = False


_fork = _Fork()
_one_fork = threading.Lock()


def _before_fork() -> None:
    """Wait until no thread is inside of LAPACK, and keep them out."""
    if not _tables:
        return
    deadline = time.monotonic() + PATIENCE
    _fork.waited = _one_fork.acquire(timeout=PATIENCE)
    for table in _tables:
        table[_FORKING] = 1
    time.sleep(0)  # a barrier: who does not see that is seen
    while any(table[_INSIDE] for table in _tables) and time.monotonic() < deadline:
        time.sleep(1e-4)


def _after_fork_in_parent() -> None:
    for table in _tables:
        table[_FORKING] = 0
    if _fork.waited:
        _fork.waited = False
        _one_fork.release()


def _after_fork() -> None:
    """Forget the calls of threads that a forked child does not have."""
    global _one_fork
    _one_fork, _fork.waited = threading.Lock(), False
    for table in _tables:
        table[_THREAD_WORDS : _THREAD_WORDS + _SHARED_WORDS] = [0] * _SHARED_WORDS


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork
)


def _address(capsule: object) -> int:
    """Where a function is.

    Raises:
        ValueError: it takes other integers than C's int.
    """
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    signature: bytes = name_of(capsule)
    if b"int *" not in signature:
        raise ValueError(signature)
    address: int = pointer_of(capsule, signature)
    return address


def _thread_functions(path: str) -> tuple[int, int]:
    """The functions that ask for and set the number of LAPACK's threads; zeros where unknown.

    Args:
        path: a library that depends on LAPACK: symbols of what it depends on are found as its own.
    """
    library = ctypes.CDLL(path)
    for pattern in _THREADS:
        names = [pattern.format(verb) for verb in ("get", "set")]
        if all(hasattr(library, name) for name in names):
            get, put = (ctypes.cast(library[name], ctypes.c_void_p).value or 0 for name in names)
            return get, put
    return 0, 0
