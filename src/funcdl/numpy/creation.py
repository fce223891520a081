"""Make arrays: from data, or full of one value."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array, ArrayOperators, as_array, shortened
from funcdl.core.avals import Shape
from funcdl.core.integers import integer
from funcdl.core.options import is_option
from funcdl.core.trace import context, eval_trace
from funcdl.errors import ArgumentError, ConcretizationError, ShapeError
from funcdl.numpy.promotion import ArrayLike, convert, operand, strong
from funcdl.numpy.sequences import SEQUENCES, array_of_sequence
from funcdl.ops.shape import broadcast_to, reshape

__all__ = [
    "array",
    "asarray",
    "astype",
    "copy",
    "empty",
    "empty_like",
    "full",
    "full_like",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]

DTypeLike = Any
ShapeLike = Any


def shape_of(shape: ShapeLike, name: str = "shape") -> Shape:
    """A shape argument, one integer or several, as a tuple.

    Raises:
      ShapeError: a size is no integer, or negative.
      ConcretizationError: a size is traced.
    """
    sizes = shape if isinstance(shape, Sequence | np.ndarray) else (shape,)
    try:
        result = tuple(size if type(size) is int else operator.index(size) for size in sizes)
    except ConcretizationError:
        raise
    except TypeError:
        aval = getattr(shape, "aval", None)
        found = shortened(shape) if aval is None else f"an array of type {aval}"
        raise ShapeError(f"{name} must be an integer or a sequence of them, got {found}") from None
    if not all(0 <= size < _TOO_LARGE for size in result):
        if any(size < 0 for size in result):
            raise ShapeError(f"{name} must have no negative sizes, got {result}")
        raise ShapeError(f"{name} has sizes that no array can have, got {result}")
    return result


_NUMBERS = frozenset(dtypes.SUPPORTED)
_TOO_LARGE = 2**48  # more bytes than a machine can address


def canonical(dtype: DTypeLike) -> np.dtype[Any]:
    """A `dtype` argument as a dtype, cut to 32 bits where the `x64` flag says so."""
    return dtypes.canonicalize(dtypes.as_dtype(dtype))


def asarray(a: Any, dtype: DTypeLike = None, order: str | None = None, *, copy: Any = None) -> Any:
    """An array of scalars, NumPy arrays, arrays, or nested sequences of them (`jax.numpy.asarray`).

    Sequences are lists, tuples, ranges and deques. What shows its memory as NumPy's arrays do is
    taken as well: a `memoryview`, an `array.array`, an image of Pillow.

    Python scalars become weakly typed arrays, unless `dtype` is given; sequences of them do not.

    Args:
      a: the data.
      dtype: the element type; by default that to which the elements promote.
      order: must be None, "K" or "C".
      copy: has no effect, since arrays are immutable and NumPy's are always copied.

    Raises:
      LeafTypeError: an element is no number.
      IntegerRangeError: a Python int does not fit the dtype.
      ShapeError: nested sequences have different lengths.
      ArgumentError: another `order`.
      TypeError: there is no such dtype.
    """
    if not is_option(order, (None, "K", "C")):
        raise ArgumentError(f"asarray: order must be None, 'K' or 'C', got {shortened(order)}")
    if isinstance(a, SEQUENCES):
        return array_of_sequence(a, None if dtype is None else canonical(dtype))
    if _shows_memory(a):
        a = np.asarray(a)
    if dtype is None:
        return as_array(a)
    target = canonical(dtype)
    if isinstance(a, ArrayOperators) or type(a) in (bool, int, float, complex):
        return strong(convert(a, target))
    return as_array(a, target)


def _shows_memory(a: Any) -> bool:
    # `array.array` by its module, which is imported wherever there is one.
    if isinstance(a, memoryview) or type(a).__module__ == "array":
        return True
    return hasattr(a, "__array_interface__") and not hasattr(a, "__array__")


def array(
    object: Any,
    dtype: DTypeLike = None,
    copy: bool = True,
    order: str | None = "K",
    ndmin: int = 0,
) -> Any:
    """As `asarray`; leading dimensions of size 1 are added up to `ndmin` dimensions."""
    out = asarray(object, dtype, order)
    missing = integer("array: ndmin", ndmin) - out.ndim
    return reshape(out, new_sizes=(1,) * missing + out.shape) if missing > 0 else out


def copy(a: ArrayLike, order: str | None = None) -> Any:
    """The array itself: arrays are immutable, and NumPy arrays are copied anyway.

    Shape and dtype stay. See `numpy.copy`.

    Raises:
      ArgumentError: `order` is not None, "K" or "C".
    """
    return asarray(a, order=order)


def astype(x: ArrayLike, dtype: DTypeLike, /, *, copy: bool = False) -> Any:
    """The array converted to another dtype; the result is not weakly typed (see `numpy.astype`).

    Floats are truncated towards zero when they become integers, and complex numbers lose their
    imaginary part.

    The shape stays; None means the default float dtype. `copy` has no effect.

    Raises:
      TypeError: there is no such dtype.
    """
    return asarray(as_array(x), canonical(_default_float() if dtype is None else dtype))


def full(shape: ShapeLike, fill_value: ArrayLike, dtype: DTypeLike = None) -> Any:
    """An array full of one value (see `jax.numpy.full`).

    Args:
      shape: the shape of the result.
      fill_value: a scalar, or an array that broadcasts to `shape`.
      dtype: the element type; by default the value's own (weak) type.

    Raises:
      ShapeError: `fill_value` does not broadcast to `shape`.
    """
    sizes = shape_of(shape)
    value = asarray(fill_value, dtype)
    fitted = zip(value.aval.shape[::-1], sizes[::-1], strict=False)
    if value.ndim > len(sizes) or any(own not in (1, new) for own, new in fitted):
        raise ShapeError(f"full: fill_value {value.aval} does not broadcast to shape {sizes}")
    if type(value) is Array and context.trace is eval_trace:
        return Array(np.full(sizes, value.value, value.dtype), value.weak_type)
    return broadcast_to(value, sizes)


def zeros(shape: ShapeLike, dtype: DTypeLike = None) -> Any:
    """An array of zeros, by default of the default float type (see `numpy.zeros`).

    Args:
      shape: one size, or a sequence of them.
      dtype: the element type.

    Raises:
      ShapeError: a size is negative.
      TypeError: there is no such dtype.
    """
    return _filled(shape, 0, dtype)


def ones(shape: ShapeLike, dtype: DTypeLike = None) -> Any:
    """An array of ones, by default of the default float type (see `numpy.ones`).

    Args:
      shape: one size, or a sequence of them.
      dtype: the element type.

    Raises:
      ShapeError: a size is negative.
      TypeError: there is no such dtype.
    """
    return _filled(shape, 1, dtype)


def _filled(shape: ShapeLike, value: int, dtype: DTypeLike) -> Any:
    """As `full`, of a number that every dtype has."""
    sizes = shape_of(shape)
    target = canonical(_default_float() if dtype is None else dtype)
    if target not in _NUMBERS or context.trace is not eval_trace:
        return full(sizes, value, target)
    return Array(np.zeros(sizes, target) if value == 0 else np.full(sizes, value, target))


def empty(shape: ShapeLike, dtype: DTypeLike = None) -> Any:
    """An array of zeros: pure functions cannot hand out memory as they find it (see `numpy.empty`).

    Arguments and errors are those of `zeros`.
    """
    return zeros(shape, dtype)


def full_like(
    a: ArrayLike, fill_value: ArrayLike, dtype: DTypeLike = None, shape: ShapeLike = None
) -> Any:
    """An array full of one value (see `jax.numpy.full_like`).

    Args:
      a: gives shape and type, a weak one too, where these are not given.
      fill_value: a scalar, or an array that broadcasts to the shape.
      dtype, shape: those of the result, in place of the ones of `a`.

    Raises:
      ShapeError: `fill_value` does not broadcast to the shape.
    """
    a = as_array(operand("full_like", a))
    sizes = a.aval.shape if shape is None else shape_of(shape)
    if dtype is not None:
        return full(sizes, fill_value, dtype)
    # A weak type is kept, as in JAX.
    value = convert(operand("full_like", fill_value), a.aval.dtype, a.aval.weak_type)
    return full(sizes, value)


def zeros_like(a: ArrayLike, dtype: DTypeLike = None, shape: ShapeLike = None) -> Any:
    """Zeros of the type and shape of `a` unless others are given (see `numpy.zeros_like`).

    Args:
      a: an array or scalar.
      dtype, shape: those of the result; None: those of `a`.

    Raises:
      ShapeError: a size is negative.
      TypeError: there is no such dtype.
    """
    return full_like(a, 0, dtype, shape)


def ones_like(a: ArrayLike, dtype: DTypeLike = None, shape: ShapeLike = None) -> Any:
    """Ones of the type and shape of `a` unless others are given (see `numpy.ones_like`).

    Args:
      a: an array or scalar.
      dtype, shape: those of the result; None: those of `a`.

    Raises:
      ShapeError: a size is negative.
      TypeError: there is no such dtype.
    """
    return full_like(a, 1, dtype, shape)


def empty_like(prototype: ArrayLike, dtype: DTypeLike = None, shape: ShapeLike = None) -> Any:
    """As `zeros_like` (see `numpy.empty_like`).

    Arguments and errors are the same.
    """
    return zeros_like(prototype, dtype, shape)


def _default_float() -> np.dtype[Any]:
    return dtypes.default_dtype("f")
