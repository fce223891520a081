"""Make arrays: from data, full of one value, in ranges."""

from __future__ import annotations

import cmath
import math
import operator
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes, lattice
from funcdl.core.array import Array, ArrayOperators, as_array, shortened
from funcdl.core.avals import Shape
from funcdl.core.integers import integer
from funcdl.core.options import flag, is_option
from funcdl.core.trace import context, eval_trace
from funcdl.errors import (
    ArgumentError,
    ConcretizationError,
    IntegerRangeError,
    LeafTypeError,
    ShapeError,
)
from funcdl.numpy.promotion import (
    ArrayLike,
    broadcast,
    convert,
    operand,
    promote_inexact,
    strong,
)
from funcdl.ops.arithmetic import add, div, mul, pow_, sub
from funcdl.ops.exponential import exp, log
from funcdl.ops.rounding import floor
from funcdl.ops.shape import broadcast_in_dim, broadcast_to, iota, reshape
from funcdl.ops.shape import full_like as fill_like
from funcdl.ops.slicing import concatenate

__all__ = [
    "arange",
    "array",
    "asarray",
    "astype",
    "copy",
    "empty",
    "empty_like",
    "full",
    "full_like",
    "geomspace",
    "linspace",
    "logspace",
    "meshgrid",
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
        raise ArgumentError(f"asarray: order must be None, 'K' or 'C', got {order!r}")
    if isinstance(a, _NESTED):
        return _from_sequence(a, dtype)
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


_NESTED = (list, tuple, range, deque)


def _from_sequence(a: Sequence[Any], dtype: DTypeLike) -> Any:
    leaves = list(_leaves(a))
    if dtype is None:
        target = lattice.result_type(*_representatives(leaves)) if leaves else _default_float()
    else:
        target = canonical(dtype)
    if not any(isinstance(leaf, ArrayOperators) for leaf in leaves):
        try:
            return Array(np.array(a, target))
        except OverflowError as error:
            raise IntegerRangeError(f"array: an element does not fit: {error}") from None
        except ValueError:
            raise ShapeError(
                f"array: nested sequences must have equal lengths, got {_uneven(a)}; pad them, or "
                "keep a list of arrays"
            ) from None
    return strong(_stack_nested(a, target))


def _uneven(a: Sequence[Any], path: str = "") -> str:
    """Which parts of nested sequences differ in length, or in depth."""
    lengths = [len(x) if isinstance(x, _NESTED) else None for x in a]
    for i, length in enumerate(lengths):
        if length != lengths[0]:
            first, other = (
                "a number" if n is None else f"{n} element{'s' * (n != 1)}"
                for n in (lengths[0], length)
            )
            return f"{first} in a{path}[0] and {other} in a{path}[{i}]"
    for i, x in enumerate(a):
        if isinstance(x, _NESTED) and (found := _uneven(x, f"{path}[{i}]")):
            return found
    return ""


def _leaves(a: Any) -> Iterator[Any]:
    for x in a:
        if isinstance(x, _NESTED):
            yield from _leaves(x)
        else:
            yield x


def _representatives(leaves: list[Any]) -> list[Any]:
    """One leaf for each type: all that promotion needs, however long the data."""
    found: dict[Any, Any] = {}
    for x in leaves:
        key = (type(x), getattr(x, "dtype", None), getattr(x, "weak_type", None))
        if key not in found:
            found[key] = as_array(x) if hasattr(x, "__array__") else x
    for x in found.values():
        if isinstance(x, str | type) or x is None:
            raise LeafTypeError(f"array: elements must be numbers or arrays, got {x!r}")
    return list(found.values())


def _stack_nested(a: Any, dtype: np.dtype[Any]) -> Any:
    if not isinstance(a, _NESTED):
        return convert(operand("array", a), dtype)
    parts = [_stack_nested(x, dtype) for x in a]
    shapes = {part.aval.shape for part in parts}
    if len(shapes) != 1:
        raise ShapeError(
            "array: nested sequences must have equal lengths, got parts of shapes "
            + " and ".join(map(str, sorted(shapes)))
        )
    (shape,) = shapes
    rows = [reshape(part, new_sizes=(1, *shape)) for part in parts]
    return concatenate(*rows, dimension=0)


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
    return full(shape, 0, _default_float() if dtype is None else dtype)


def ones(shape: ShapeLike, dtype: DTypeLike = None) -> Any:
    """An array of ones, by default of the default float type (see `numpy.ones`).

    Args:
      shape: one size, or a sequence of them.
      dtype: the element type.

    Raises:
      ShapeError: a size is negative.
      TypeError: there is no such dtype.
    """
    return full(shape, 1, _default_float() if dtype is None else dtype)


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


def arange(start: Any, stop: Any = None, step: Any = None, dtype: DTypeLike = None) -> Any:
    """Numbers from `start` up to but without `stop`, `step` apart (see `numpy.arange`).

    With one argument, that is `stop`. Without `dtype`, the type to which the arguments promote.

    Raises:
      ConcretizationError: an argument is traced: the size of the result would not be known.
      ArgumentError: `step` is zero.
    """
    if stop is None:
        start, stop = 0, start
    bounds = (start, stop, 1 if step is None else step)
    first, last, width = (_number(x) for x in bounds)
    if not all(map(cmath.isfinite, (first, last, width))):
        raise ArgumentError(f"arange: start, stop and step must be finite, got {bounds}")
    target = lattice.result_type(*bounds) if dtype is None else canonical(dtype)
    if width == 0:
        raise ArgumentError("arange: step must not be zero")
    size = max(0, math.ceil((last - first) / width))
    if context.trace is eval_trace or not all(isinstance(x, int) for x in (first, width)):
        return Array(np.asarray(first + np.arange(size) * width).astype(target))
    out = iota(dtype=target, shape=(size,), dimension=0)
    if width != 1:
        out = mul(out, fill_like(out, width))
    return add(out, fill_like(out, first)) if first else out


def _number(x: Any) -> Any:
    """A Python number out of an argument that must be concrete."""
    if isinstance(x, int | float):
        return x
    try:
        return x.item() if hasattr(x, "item") else operator.index(x)
    except ConcretizationError:
        raise
    except (TypeError, ValueError):
        raise ArgumentError(
            f"arange: start, stop and step must be numbers, got {shortened(x)}"
        ) from None


def linspace(
    start: ArrayLike,
    stop: ArrayLike,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: DTypeLike = None,
    axis: int = 0,
) -> Any:
    """`num` evenly spaced numbers from `start` to `stop` (see `numpy.linspace`).

    Args:
      start, stop: the ends, arrays that broadcast.
      num: how many numbers.
      endpoint: whether `stop` is the last of them.
      retstep: whether to return ``(numbers, spacing)``.
      dtype: the element type; integers are rounded down.
      axis: where the new dimension goes.

    Raises:
      ArgumentError: `num` is negative.
    """
    retstep = flag("linspace: retstep", retstep)
    endpoint = flag("linspace: endpoint", endpoint)
    num = integer("num", num)
    if num < 0:
        raise ArgumentError(f"linspace: num must not be negative, got {num}")
    start, stop = broadcast("linspace", *map(strong, promote_inexact("linspace", start, stop)))
    gaps = num - 1 if endpoint else num
    shape = start.aval.shape
    axis = integer("axis", axis) % (len(shape) + 1)
    sizes = (*shape[:axis], num, *shape[axis:])
    kept = tuple(d for d in range(len(sizes)) if d != axis)
    low, high = (broadcast_in_dim(x, shape=sizes, broadcast_dimensions=kept) for x in (start, stop))
    # Both ends come out exact: each is multiplied by 1 there, and the other by 0.
    place = iota(dtype=dtypes.real_dtype(start.aval.dtype), shape=(num,), dimension=0)
    part = convert(div(place, fill_like(place, max(gaps, 1))), start.aval.dtype)
    part = broadcast_in_dim(part, shape=sizes, broadcast_dimensions=(axis,))
    out = add(mul(low, sub(fill_like(part, 1), part)), mul(high, part))
    if dtype is not None:
        target = canonical(dtype)
        out = convert(floor(out) if dtypes.is_integer(target) else out, target)
    if not retstep:
        return out
    spacing = div(sub(stop, start), fill_like(start, gaps if gaps > 0 else np.nan))
    return out, spacing


def logspace(
    start: ArrayLike,
    stop: ArrayLike,
    num: int = 50,
    endpoint: bool = True,
    base: ArrayLike = 10.0,
    dtype: DTypeLike = None,
    axis: int = 0,
) -> Any:
    """`base` to the power of `num` evenly spaced numbers (see `numpy.logspace`).

    Args:
      start, stop, num, endpoint, axis: as for `linspace`, of the exponents.
      base: the base.
      dtype: the element type.
    """
    exponents = linspace(start, stop, num, endpoint, axis=axis)
    base, exponents = broadcast("logspace", *promote_inexact("logspace", base, exponents))
    out = strong(pow_(base, exponents))
    return out if dtype is None else convert(out, canonical(dtype))


def geomspace(
    start: ArrayLike,
    stop: ArrayLike,
    num: int = 50,
    endpoint: bool = True,
    dtype: DTypeLike = None,
    axis: int = 0,
) -> Any:
    """`num` numbers from `start` to `stop`, each the same multiple of the one before it.

    Args:
      start, stop: the ends, of one sign (see `numpy.geomspace`).
      num, endpoint, axis: as for `linspace`.
      dtype: the element type.
    """
    start, stop = broadcast("geomspace", *map(strong, promote_inexact("geomspace", start, stop)))
    # Both ends come out exact for negative and complex numbers too: what varies is their ratio.
    ratio = log(div(stop, start))
    exponents = linspace(fill_like(ratio, 0), ratio, num, endpoint, axis=axis)
    place = axis % (start.aval.ndim + 1)
    kept = tuple(d for d in range(exponents.aval.ndim) if d != place)
    first = broadcast_in_dim(start, shape=exponents.aval.shape, broadcast_dimensions=kept)
    out = mul(first, exp(exponents))
    return out if dtype is None else convert(out, canonical(dtype))


def meshgrid(
    *xi: ArrayLike, copy: bool = True, sparse: bool = False, indexing: str = "xy"
) -> list[Any]:
    """Coordinates of the points of a grid (see `numpy.meshgrid`).

    Args:
      xi: one-dimensional arrays, the coordinates along each axis.
      copy: must be true, since arrays share no memory that anybody writes.
      sparse: whether to leave dimensions along which nothing changes at size 1.
      indexing: "xy": the first array runs along the second dimension; "ij": along the first.

    Raises:
      ArgumentError: `copy` is false, or `indexing` unknown.
      ShapeError: an array has two dimensions or more.
    """
    sparse = flag("meshgrid: sparse", sparse)
    if not flag("meshgrid: copy", copy):
        raise ArgumentError("meshgrid: copy must be true, since arrays are immutable")
    if not is_option(indexing, ("xy", "ij")):
        raise ArgumentError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    axes = [as_array(operand("meshgrid", x)) for x in xi]
    axes = [reshape(x, new_sizes=(1,)) if x.aval.shape == () else x for x in axes]
    for x in axes:
        if x.ndim != 1:
            raise ShapeError(f"meshgrid: arguments must be one-dimensional, got {x.aval}")
    order = list(range(len(axes)))
    if indexing == "xy" and len(axes) >= 2:
        order[:2] = [1, 0]
    sizes = [0] * len(axes)
    for x, place in zip(axes, order, strict=True):
        sizes[place] = x.aval.shape[0]
    shapes = [
        tuple(n if d == place or not sparse else 1 for d, n in enumerate(sizes)) for place in order
    ]
    return [
        broadcast_in_dim(x, shape=shape, broadcast_dimensions=(place,))
        for x, shape, place in zip(axes, shapes, order, strict=True)
    ]


def _default_float() -> np.dtype[Any]:
    return dtypes.default_dtype("f")
