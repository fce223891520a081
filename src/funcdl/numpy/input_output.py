"""Arrays from and to files, buffers and text, in NumPy's formats."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.integers import integer
from funcdl.core.options import flag
from funcdl.errors import ArgumentError, FuncdlError
from funcdl.numpy.creation import DTypeLike, asarray, canonical

__all__ = [
    "array_repr",
    "array_str",
    "from_dlpack",
    "frombuffer",
    "fromfile",
    "fromiter",
    "fromstring",
    "get_printoptions",
    "load",
    "printoptions",
    "save",
    "savez",
    "set_printoptions",
]

get_printoptions = np.get_printoptions
set_printoptions = np.set_printoptions
printoptions = np.printoptions


def _to_show(
    name: str, x: Any, width: int | None, precision: int | None
) -> tuple[np.ndarray[Any, Any], int | None, int | None]:
    """What NumPy's functions of texts take."""
    try:
        values = np.asarray(x)
    except ValueError:
        raise ArgumentError(f"{name}: nested sequences must have equal lengths") from None
    line = None if width is None else integer(f"{name}: max_line_width", width)
    return values, line, None if precision is None else integer(f"{name}: precision", precision)


def _suppressed(name: str, value: Any) -> bool | None:
    return None if value is None else flag(f"{name}: suppress_small", value)


def array_repr(
    arr: Any,
    max_line_width: int | None = None,
    precision: int | None = None,
    suppress_small: bool | None = None,
) -> str:
    """The text that `repr` gives, with options of its own (see `numpy.array_repr`).

    `max_line_width`, `precision` (digits) and `suppress_small` are those of `numpy.array2string`.

    Raises:
      TracerArrayError: the array is traced.
      ArgumentError: `max_line_width` or `precision` is no integer.
    """
    shown, width, digits = _to_show("array_repr", arr, max_line_width, precision)
    return np.array_repr(shown, width, digits, _suppressed("array_repr", suppress_small))


def array_str(
    a: Any,
    max_line_width: int | None = None,
    precision: int | None = None,
    suppress_small: bool | None = None,
) -> str:
    """The text that `str` gives, with options of its own (see `numpy.array_str`).

    `max_line_width`, `precision` (digits) and `suppress_small` are those of `numpy.array2string`.

    Raises:
      TracerArrayError: the array is traced.
      ArgumentError: `max_line_width` or `precision` is no integer.
    """
    shown, width, digits = _to_show("array_str", a, max_line_width, precision)
    return np.array_str(shown, width, digits, _suppressed("array_str", suppress_small))


def save(file: Any, arr: Any, allow_pickle: bool = False) -> None:
    """Write an array to a file in NumPy's ``.npy`` format.

    Args:
      file: a path or an open binary file.
      arr: the array. bfloat16 is stored as 16 bits without a name; `load` knows them.
      allow_pickle: has no effect, since no array of numbers needs it.
    """
    np.save(file, np.asarray(arr), allow_pickle=False)


def savez(file: Any, *args: Any, allow_pickle: bool = False, **kwds: Any) -> None:
    """Write several arrays to a file in the ``.npz`` format, those by position as ``arr_0``, ...

    See `numpy.savez`.

    Args:
      file: a path or an open binary file.
      args, kwds: the arrays.
      allow_pickle: has no effect.

    Raises:
      ArgumentError: a name such as ``arr_0`` is given where an array without a name has it.
    """
    named = {f"arr_{i}": x for i, x in enumerate(args)}
    if shared := sorted(named.keys() & kwds.keys()):
        raise ArgumentError(f"savez: the name {shared[0]!r} is that of an array without a name")
    arrays: dict[str, Any] = {name: np.asarray(x) for name, x in {**named, **kwds}.items()}
    np.savez(file, **arrays)


def load(file: Any, *args: Any, **kwargs: Any) -> Any:
    """Read what `save` or `savez` has written (see `numpy.load`).

    Args:
      file: a path or an open binary file.
      args, kwargs: more arguments of `numpy.load`.

    Returns:
      An array of a ``.npy`` file. Of a ``.npz`` file, NumPy's mapping from names to NumPy arrays,
      which is to be closed.
    """
    found = np.load(file, *args, **kwargs)
    return _array(found) if isinstance(found, np.ndarray) else found


def _array(x: np.ndarray[Any, Any]) -> Any:
    if x.dtype == np.dtype("V2"):
        x = x.view(dtypes.bfloat16)  # NumPy's format has no name for it.
    return asarray(x)


def frombuffer(buffer: Any, dtype: DTypeLike = float, count: int = -1, offset: int = 0) -> Any:
    """The numbers in a buffer of bytes (see `numpy.frombuffer`).

    Args:
      buffer: the bytes, or what has them.
      dtype: the element type; Python's `float` reads 64 bits and returns the default type.
      count: how many numbers to read; -1: all.
      offset: at which byte to begin.

    Raises:
      ArgumentError: there is no such dtype, or the buffer has not as many numbers.
    """
    with _naming("frombuffer"):
        found = np.frombuffer(buffer, dtype, count, offset)
    return _converted(found, dtype)


def fromstring(string: str, dtype: DTypeLike = float, count: int = -1, *, sep: str) -> Any:
    """The numbers in a text, with `sep` between them (see `numpy.fromstring`).

    A vector of dtype `dtype`, of `count` elements or, with -1, of all.

    Raises:
      ArgumentError: there is no such dtype, or the text holds something else than numbers.
    """
    with _naming("fromstring"):
        found = np.fromstring(string, dtype, count, sep=sep)
    return _converted(found, dtype)


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Give errors of NumPy, which reads what a user passes, the function's name."""
    try:
        yield
    except FuncdlError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise ArgumentError(f"{name}: {error}") from None


def fromfile(
    file: Any, dtype: DTypeLike = float, count: int = -1, sep: str = "", offset: int = 0
) -> Any:
    """The numbers in a file, of bytes or, with `sep`, of text (see `numpy.fromfile`).

    Args:
      file: a path or an open file.
      dtype: the element type in the file, and of the result as ``config.x64`` allows.
      count: how many numbers to read; -1: all.
      sep: what is between numbers in a text.
      offset: how many bytes to skip.

    Returns:
      A vector.
    """
    return _converted(np.fromfile(file, dtype, count, sep, offset), dtype)


def fromiter(iter: Iterable[Any], dtype: DTypeLike, count: int = -1) -> Any:
    """The numbers that an iterable gives, in one dimension (see `numpy.fromiter`).

    A vector of dtype `dtype`, of `count` elements or, with -1, of all.
    """
    return _converted(np.fromiter(iter, dtype, count), dtype)


def _converted(x: np.ndarray[Any, Any], dtype: DTypeLike) -> Any:
    return asarray(x, canonical(dtype))


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Any:
    """The array of another library, by the DLPack protocol (see `numpy.from_dlpack`).

    Args:
      x: an array on the CPU of a library that has the protocol.
      device: must be None.
      copy: False is refused, since the memory's owner could write into it.

    Returns:
      An array of the same shape and dtype, with memory of its own.

    Raises:
      ArgumentError: `device` is given, or `copy` is False.
    """
    if device is not None or copy is False:
        raise ArgumentError(
            "from_dlpack: device must be None, and copy not False: arrays are immutable, and share "
            "no memory that others write"
        )
    if not hasattr(x, "__dlpack__"):
        raise ArgumentError(
            f"from_dlpack: x must be an array with __dlpack__, got {type(x).__name__}; "
            "funcdl.numpy.asarray takes lists and numbers"
        )
    try:
        return asarray(np.from_dlpack(x).copy())
    except BufferError as error:
        raise ArgumentError(f"from_dlpack: x cannot be shared: {error}") from None
