"""The immutable array, and the operators that it shares with tracers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal, NoReturn

import numpy as np

from funcdl.core import absent_methods, dtypes
from funcdl.core.avals import ShapedArray, Typed
from funcdl.core.device_buffer import DeviceBuffer, Value
from funcdl.core.devices import CPU, Device, find_device, platform_of
from funcdl.core.integers import integer, integers
from funcdl.errors import (
    ArgumentError,
    DeletedArrayError,
    DtypeError,
    ImmutableArrayError,
    IndexingError,
    LeafTypeError,
    ShapeError,
    UnhashableArrayError,
)


class ArrayOperators(Typed):
    """Operators and methods of arrays and tracers, except those that need values.

    The user-facing NumPy layer supplies the functions (`install_operators`), since promotion and
    broadcasting are its business.
    """

    __slots__ = ()

    # NumPy must return NotImplemented from `ndarray + Array`, so that our operator decides.
    __array_priority__ = 100

    @property
    def nbytes(self) -> int:
        return self.aval.nbytes

    @property
    def itemsize(self) -> int:
        return self.aval.dtype.itemsize

    def __len__(self) -> int:
        shape = self.aval.shape
        if not shape:
            raise ShapeError(
                f"len() of a 0-dimensional array ({self.aval}): there is no dimension to count "
                "along; its number of elements is x.size"
            )
        return shape[0]

    def __iter__(self) -> Iterator[Any]:
        if not self.aval.shape:
            raise ShapeError(
                f"iteration over a 0-dimensional array ({self.aval}): there is no dimension to go "
                "along; use the array itself, or x.reshape(1)"
            )
        # numpy.operators installs `__getitem__`.
        return (self[i] for i in range(len(self)))  # type: ignore[index]

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise ImmutableArrayError(
            f"arrays are immutable, so item assignment to {self.aval} is not possible.\n"
            "Instead of   x[index] = value\n"
            "write        x = x.at[index].set(value)"
        )

    def __delitem__(self, index: Any) -> NoReturn:
        raise ImmutableArrayError(
            f"arrays are immutable, so deleting elements of {self.aval} is not possible.\n"
            "Instead of   del x[index]\n"
            "write        x = x[kept]   with the positions that stay"
        )

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in absent_methods.ABSENT]

    def __hash__(self) -> int:
        raise UnhashableArrayError(
            f"unhashable type: {type(self).__name__!r} ({self.aval}); arrays compare elementwise. "
            "To use one as a static argument or dict key, pass a tuple or a Python scalar instead."
        )


def install_operators(table: dict[str, Any]) -> None:
    """Give every array and tracer the methods in `table` (called once by the NumPy layer)."""
    for name, function in table.items():
        setattr(ArrayOperators, name, function)
    absent_methods.install(ArrayOperators)


class Array(ArrayOperators):
    """An immutable array, in CPU memory or on another device.

    Use `funcdl.numpy.array` or `funcdl.device_put` to make one. Hashing and equality are as in
    JAX: ``==`` is elementwise and arrays are unhashable.
    """

    __slots__ = ("__weakref__", "_aval", "_value", "weak_type")

    def __init__(self, value: Value, weak_type: bool = False) -> None:
        """Wrap a NumPy array that nobody else will write to, or a buffer; for internal use."""
        self._value: Value | None = value
        self.weak_type = weak_type
        self._aval: ShapedArray | None = None

    @property
    def value(self) -> np.ndarray[Any, Any]:
        """The elements as a NumPy array, which must not be written to; a copy if on a device."""
        value = self._value
        if value is None:
            self._raise_deleted()
        if isinstance(value, DeviceBuffer):
            return value.to_host()
        # Reductions and 0-d arithmetic of NumPy yield scalars rather than arrays.
        if type(value) is not np.ndarray:
            value = self._value = np.asarray(value)
        return value

    @property
    def buffer(self) -> Value:
        """What holds the elements: a NumPy array, or a device's buffer."""
        value = self._value
        return value if isinstance(value, DeviceBuffer) else self.value

    def _raise_deleted(self) -> NoReturn:
        raise DeletedArrayError(
            f"this array ({self._aval}) has been deleted: its memory was donated to a jitted call "
            "(donate_argnums) or freed with delete(). Use the value which that call returned, or "
            "do not donate this argument."
        )

    @property
    def aval(self) -> ShapedArray:
        aval = self._aval
        if aval is None:
            value = self.buffer
            aval = self._aval = ShapedArray(value.shape, value.dtype, self.weak_type)
        return aval

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.aval.dtype

    @property
    def device(self) -> str | Device:
        """Where the data is: ``"cpu"``, or a `Device` such as ``gpu:0``."""
        value = self._value
        return value.device if isinstance(value, DeviceBuffer) else "cpu"

    @property
    def platform(self) -> str:
        """The platform that the data is on: ``"cpu"`` or ``"gpu"``."""
        value = self._value
        return value.device.platform if isinstance(value, DeviceBuffer) else "cpu"

    def devices(self) -> set[Device]:
        """The device that the data is on, as a set."""
        value = self._value
        return {value.device if isinstance(value, DeviceBuffer) else CPU}

    def to_device(self, device: Any, *, stream: None = None) -> Array:
        """The array on a device (see `find_device` for names); itself where it is there already.

        Raises:
          ArgumentError: there is no such device.
          DeviceError: the device's driver is missing.
          DeviceMemoryError: there is not enough memory.
        """
        target = find_device("to_device", device)
        if target in self.devices():
            return self
        if target == CPU:
            return Array(self.value, self.weak_type)
        return Array(platform_of(target.platform).put(self.buffer, target), self.weak_type)

    @property
    def committed(self) -> bool:
        """Whether computations with it must stay on its device; there is one for all."""
        return True

    @property
    def is_fully_addressable(self) -> bool:
        """Whether this process holds all of it; it does."""
        return True

    @property
    def is_fully_replicated(self) -> bool:
        """Whether every device holds all of it; the one device does."""
        return True

    def addressable_data(self, index: int) -> Array:
        """The part that a device of this process holds: all of it, for number 0."""
        if integer("addressable_data: index", index) != 0:
            raise IndexingError(f"there is no part {index} of an array on one device, only part 0")
        return self

    def is_ready(self) -> bool:
        """Whether the value is computed; on CPU it always is."""
        value = self.buffer
        return value.is_ready() if isinstance(value, DeviceBuffer) else True

    def copy_to_host_async(self) -> None:
        """Say that the host will want the data; it is copied when it is asked for."""
        _ = self.buffer

    def on_device_size_in_bytes(self) -> int:
        """How much memory the data takes."""
        return self.buffer.nbytes

    def unsafe_buffer_pointer(self) -> int:
        """The address of the first element, which must not be written to."""
        value = self.buffer
        if isinstance(value, DeviceBuffer):
            value.shared = True
            return value.address
        return self._share().ctypes.data

    def tobytes(self, order: Literal["C", "F", "A", "K"] = "C") -> bytes:
        """The elements as bytes, in row-major order unless another is asked for."""
        wanted: Any = order
        if not isinstance(wanted, str) or wanted not in ("C", "F", "A", "K"):
            raise ArgumentError(f"tobytes: order must be 'C', 'F', 'A' or 'K', got {order!r}")
        return self.value.tobytes(order)

    def delete(self) -> None:
        """Free the memory now; later uses raise `DeletedArrayError`."""
        _ = self.aval
        self._value = None

    def is_deleted(self) -> bool:
        """Whether the memory was donated or freed."""
        return self._value is None

    def block_until_ready(self) -> Array:
        """Wait until the value is computed; on CPU it always is. Returns the array itself."""
        value = self.buffer
        if isinstance(value, DeviceBuffer):
            value.wait()
        return self

    def item(self, *index: int) -> Any:
        """One element as a Python scalar.

        Raises:
          ArgumentError: the index is not made of integers.
          IndexingError: it is out of range, or has not one for each dimension.
          ShapeError: there is no index, and there are several elements.
        """
        value = self.value
        if not index and value.size == 1:
            return value.item()
        given: Any = index
        places = given[0] if len(given) == 1 and isinstance(given[0], tuple) else given
        places = integers("item: index", places)
        if not places and value.size != 1:
            self._refuse("item()", _ELEMENT)
        try:
            return value.item(*places)
        except (IndexError, ValueError, OverflowError):
            raise IndexingError(
                f"item: {places} is no index of one element of an array of shape {value.shape}"
            ) from None

    def tolist(self) -> Any:
        """The elements as nested Python lists."""
        return self.value.tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        value = self._share()
        if dtype is not None and np.dtype(dtype) != value.dtype:
            if copy is False:
                raise ArgumentError(f"converting {self.aval} to {np.dtype(dtype)} needs a copy")
            return value.astype(dtype)
        return value.copy() if copy else value

    def __dlpack__(self, **options: Any) -> Any:
        if isinstance(buffer := self.buffer, DeviceBuffer):
            return buffer.dlpack(**options)
        # Consumers of DLPack before version 1.0 cannot be told that an array is read-only.
        if (options.get("max_version") or (0, 0)) >= (1, 0):
            return self._share().__dlpack__(**options)
        self.value.flags.writeable = True
        capsule = self.value.__dlpack__(**options)
        self._share()
        return capsule

    def _share(self) -> np.ndarray[Any, Any]:
        """A read-only view; read-only memory is never donated, since others may see it."""
        value = self.value
        value.flags.writeable = False
        return value.view()

    def __dlpack_device__(self) -> tuple[int, int]:
        if isinstance(buffer := self.buffer, DeviceBuffer):
            return buffer.dlpack_device()
        return self.value.__dlpack_device__()

    def __bool__(self) -> bool:
        value = self.value
        if value.size != 1:
            raise ShapeError(
                f"the truth value (if, while, and, or, not, assert, bool()) of an array of "
                f"{value.size} elements ({self.aval}) is ambiguous; reduce it with .any() or "
                ".all(), choose elements with funcdl.numpy.where, and combine conditions with "
                "&, | and ~"
            )
        return bool(value)

    def __int__(self) -> int:
        return int(self._only("int()"))

    def __float__(self) -> float:
        return float(self._only("float()"))

    def __complex__(self) -> complex:
        return complex(self._only("complex()"))

    def __index__(self) -> int:
        value = self.value
        if value.ndim or value.dtype.kind not in "iu":
            if value.ndim:
                self._refuse("an integer (range(), a size, a position in a list)", _ELEMENT)
            raise DtypeError(
                f"an integer (range(), a size, a position in a list) was asked of an array of type "
                f"{self.aval}; convert it with int(x)"
            )
        return int(value)

    def _only(self, what: str) -> np.ndarray[Any, Any]:
        """The value, which has no dimensions."""
        value = self.value
        if value.ndim:
            self._refuse(what, _ELEMENT)
        return value

    def _refuse(self, what: str, advice: str) -> NoReturn:
        count = "one element" if self.size == 1 else f"{self.size} elements"
        raise ShapeError(f"{what} was asked of an array of {count} ({self.aval}); {advice}")

    def __format__(self, spec: str) -> str:
        try:
            return format(self.value[()] if self.value.ndim == 0 else str(self), spec)
        except ValueError:
            advice = "" if self.value.ndim == 0 else "; only text can be formatted, numbers singly"
            raise ArgumentError(
                f"the format {spec!r} does not fit an array of type {self.aval}{advice}"
            ) from None

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Array, (np.array(self.value), self.weak_type)

    def __copy__(self) -> Array:
        return self

    def __deepcopy__(self, memo: Any) -> Array:
        return Array(np.array(self.value), self.weak_type)

    def __str__(self) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        if self._value is None:
            return f"Array(<deleted {self._aval}>)"
        body = np.array2string(self.value, separator=", ", prefix="Array(")
        # The elements show the shape, where there are any.
        shape = f", shape={self.shape}" if self.size == 0 else ""
        weak = ", weak_type=True" if self.weak_type else ""
        return f"Array({body}{shape}, dtype={self.value.dtype.name}{weak})"


# Copies of at least so many bytes start at a multiple of the second number.
_ALIGNED_BYTES = 4096
_ALIGNMENT = 64

_SCALARS: tuple[type[Any], ...] = (bool, int, float, complex)


_ELEMENT = (
    "take one element, as in x[0], reduce it with .sum() or .mean(), or use the functions of "
    "funcdl.numpy, which take whole arrays"
)


def as_array(x: Any, dtype: Any = None) -> Any:
    """An `Array` of any array-like leaf; arrays and tracers pass through unchanged.

    Python scalars become weakly typed. NumPy arrays are copied, since their owner may write to
    them later, and canonicalized by the `x64` flag.

    Raises:
      LeafTypeError: `x` is no array and no scalar.
    """
    if isinstance(x, ArrayOperators):
        return x
    kind = type(x)
    if kind in _SCALARS:
        target = dtypes.scalar_dtype(x) if dtype is None else dtype
        if kind is int:
            dtypes.check_python_int(x, target)
        return Array(np.array(x, target), weak_type=dtype is None and kind is not bool)
    if isinstance(x, np.ndarray | np.generic):
        target = _leaf_dtype(x)
        if dtype is not None:
            target = dtypes.canonicalize(dtype)
        return Array(_copy(x, target))
    if hasattr(x, "__funcdl_array__"):
        return as_array(x.__funcdl_array__(), dtype)
    if hasattr(x, "__array__"):
        return as_array(np.asarray(x), dtype)
    for base in _SCALARS:
        if isinstance(x, base):  # such as a member of an IntEnum
            return as_array(base(x), dtype)
    from funcdl.called import given_as

    argument = given_as(x, sys._getframe())
    if argument:
        raise LeafTypeError(
            f"expected an array or a scalar, got {type(x).__name__}{argument}: {shortened(x)}"
        )
    raise LeafTypeError(
        f"expected an array or a scalar, got {type(x).__name__}: {shortened(x)}.\n"
        "Arrays, NumPy arrays, and Python or NumPy scalars are valid leaves; for other static "
        "data use static_argnums or close over it."
    )


def _copy(x: np.ndarray[Any, Any] | np.generic, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """A contiguous copy that starts at a cache line, if it is large.

    NumPy's own memory starts a quarter of a line later, so that each vector of AVX-512 that is
    loaded from it lies in two lines: the product of a matrix and a vector takes a fifth longer.
    """
    nbytes = x.size * dtype.itemsize
    if nbytes < _ALIGNED_BYTES:
        return np.array(x, dtype, order="C")
    memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    out = memory[start : start + nbytes].view(dtype).reshape(x.shape)
    np.copyto(out, x, casting="unsafe")
    return out


def _leaf_dtype(x: np.ndarray[Any, Any] | np.generic) -> np.dtype[Any]:
    """The dtype that a NumPy leaf gets; tangents of integers keep float0."""
    if x.dtype == dtypes.float0:
        return x.dtype
    try:
        return dtypes.canonicalize(dtypes.as_dtype(x.dtype))
    except DtypeError as error:
        raise LeafTypeError(
            f"expected numbers, got a NumPy array of shape {x.shape}: {error.reason}"
        ) from None


def aval_of(x: Any) -> ShapedArray:
    """The aval of an array-like leaf, without copying it."""
    if isinstance(x, ArrayOperators):
        return x.aval
    kind = type(x)
    if kind in _SCALARS:
        return ShapedArray((), dtypes.scalar_dtype(x), kind is not bool)
    if isinstance(x, np.ndarray | np.generic):
        return ShapedArray(x.shape, _leaf_dtype(x))
    aval = getattr(x, "aval", None)
    return aval if isinstance(aval, ShapedArray) else as_array(x).aval


def shortened(x: Any, limit: int = 60) -> str:
    """The text of a value in a message: the type of a large array, cut off where it is long."""
    text = repr(x)
    if len(text) <= limit and "\n" not in text:
        return text
    if isinstance(x, ArrayOperators):
        return f"an array of type {x.aval}"
    if isinstance(x, np.ndarray):
        return f"a NumPy array of dtype {x.dtype} and shape {x.shape}"
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
