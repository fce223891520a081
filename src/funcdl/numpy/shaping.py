"""Change the shape of an array, or the order of its elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.core.array import shortened
from funcdl.core.avals import Shape
from funcdl.core.compound import by_parts
from funcdl.core.integers import integer, integers
from funcdl.core.options import is_option
from funcdl.core.trace import Tracer
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy import promotion
from funcdl.numpy.creation import ShapeLike, shape_of
from funcdl.numpy.promotion import ArrayLike, array
from funcdl.numpy.reductions import normalize_axes, normalize_axis
from funcdl.ops import shape as ops
from funcdl.ops.dynamic import dynamic_slice
from funcdl.ops.shape import full_like
from funcdl.ops.slicing import concatenate, slice_along

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "expand_dims",
    "flip",
    "fliplr",
    "flipud",
    "matrix_transpose",
    "moveaxis",
    "ndim",
    "permute_dims",
    "ravel",
    "reshape",
    "roll",
    "rollaxis",
    "rot90",
    "shape",
    "size",
    "squeeze",
    "swapaxes",
    "transpose",
]


def shape(a: ArrayLike) -> Shape:
    """The sizes of an array's dimensions (see `numpy.shape`).

    Raises:
      LeafTypeError: `a` is no array or scalar.
    """
    sizes: Shape = array("shape", a).aval.shape
    return sizes


def ndim(a: ArrayLike) -> int:
    """How many dimensions an array has (see `numpy.ndim`).

    Raises:
      LeafTypeError: `a` is no array or scalar.
    """
    return len(shape(a))


def size(a: ArrayLike, axis: int | None = None) -> int:
    """How many elements an array has, or along one axis (see `numpy.size`).

    Returns:
      An int.

    Raises:
      ArgumentError: there is no such axis.
    """
    sizes = shape(a)
    return math.prod(sizes) if axis is None else sizes[normalize_axis("size", axis, len(sizes))]


@by_parts
def reshape(a: ArrayLike, shape: ShapeLike, order: str = "C") -> Any:
    """The same elements in another shape (see `jax.numpy.reshape`).

    Args:
      a: the array.
      shape: the new sizes; one of them can be -1, to be worked out from the others.
      order: "C": elements are taken in row-major order; "F": in column-major order.

    Raises:
      ShapeError: the number of elements differs.
      ArgumentError: another `order`.
    """
    a = array("reshape", a)
    new = _complete(a.aval.shape, shape)
    if not is_option(order, ("C", "F")):
        raise ArgumentError(f"reshape: order must be 'C' or 'F', got {shortened(order)}")
    if order == "F":
        reversed_ = ops.reshape(transpose(a), new_sizes=new[::-1])
        return transpose(reversed_)
    return a if new == a.aval.shape else ops.reshape(a, new_sizes=new)


def _complete(old: Shape, shape: ShapeLike) -> Shape:
    """The new shape, with -1 worked out."""
    sizes = tuple(shape) if isinstance(shape, Sequence | np.ndarray) else (shape,)
    unknown = [d for d, size in enumerate(sizes) if type(size) is int and size == -1]
    if not unknown:
        new = shape_of(sizes)
        if math.prod(new) == math.prod(old):
            return new
    elif len(unknown) == 1:
        known = shape_of([size for d, size in enumerate(sizes) if d != unknown[0]])
        rest, count = math.prod(known), math.prod(old)
        if rest and count % rest == 0:
            return (*known[: unknown[0]], count // rest, *known[unknown[0] :])
    else:
        raise ShapeError(f"reshape: only one size can be -1, got {sizes}")
    raise ShapeError(
        f"reshape: an array of shape {old} ({math.prod(old)} elements) cannot take shape {sizes}"
        + (f" ({math.prod(sizes)} elements)" if not unknown else "")
    )


@by_parts
def ravel(a: ArrayLike, order: str = "C") -> Any:
    """All elements in one dimension (see `numpy.ravel`).

    The dtype stays; `order` and errors are those of `reshape`.
    """
    return reshape(a, -1 if size(a) else 0, order)


@by_parts
def transpose(a: ArrayLike, axes: Sequence[int] | None = None) -> Any:
    """Dimensions in another order, by default reversed (see `numpy.transpose`).

    Raises:
      ArgumentError: `axes` does not name every dimension once.
    """
    a = array("transpose", a)
    count = a.aval.ndim
    if axes is None:
        order = tuple(range(count))[::-1]
    else:
        given = integers("transpose: axes", axes)
        order = tuple(normalize_axis("transpose", axis, count) for axis in given)
        if sorted(order) != list(range(count)):
            raise ArgumentError(
                f"transpose: axes must name each dimension of {a.aval} once, got {tuple(axes)}"
            )
    return a if order == tuple(range(count)) else ops.transpose(a, permutation=order)


permute_dims = transpose


def matrix_transpose(x: ArrayLike, /) -> Any:
    """The last two dimensions swapped (see `numpy.matrix_transpose`).

    The dtype stays.

    Raises:
      ShapeError: there are not two dimensions.
    """
    if ndim(x) < 2:
        raise ShapeError(f"matrix_transpose: two dimensions are needed, got shape {shape(x)}")
    return swapaxes(x, -1, -2)


@by_parts
def swapaxes(a: ArrayLike, axis1: int, axis2: int) -> Any:
    """Two dimensions swapped (see `numpy.swapaxes`).

    `axis1` and `axis2`; the dtype stays.

    Raises:
      ArgumentError: there is no such dimension.
    """
    a = array("swapaxes", a)
    order = list(range(a.aval.ndim))
    first, second = (normalize_axis("swapaxes", axis, a.aval.ndim) for axis in (axis1, axis2))
    order[first], order[second] = second, first
    return transpose(a, order)


@by_parts
def moveaxis(a: ArrayLike, source: int | Sequence[int], destination: int | Sequence[int]) -> Any:
    """Some dimensions moved to other places, the others left in order (see `numpy.moveaxis`).

    Raises:
      ArgumentError: `source` and `destination` differ in length, or name a dimension twice.
    """
    a = array("moveaxis", a)
    count = a.aval.ndim
    old, new = (
        [normalize_axis("moveaxis", d, count) for d in _axes_of(dims)]
        for dims in (source, destination)
    )
    if len(old) != len(new) or len(set(old)) != len(old) or len(set(new)) != len(new):
        raise ArgumentError(
            f"moveaxis: source and destination must pair up different dimensions, got {source} and "
            f"{destination}"
        )
    order = [d for d in range(count) if d not in old]
    for place, d in sorted(zip(new, old, strict=True)):
        order.insert(place, d)
    return transpose(a, order)


def _axes_of(axes: int | Sequence[int]) -> list[int]:
    """One axis or several as a list."""
    return list(axes) if isinstance(axes, Sequence) else [axes]


def rollaxis(a: ArrayLike, axis: int, start: int = 0) -> Any:
    """One dimension moved to before another (see `numpy.rollaxis`; `moveaxis` is clearer).

    Args:
      a: an array, whose dtype stays.
      axis: the dimension to move.
      start: the dimension before which it is put.

    Raises:
      ArgumentError: there is no such dimension.
    """
    a = array("rollaxis", a)
    count = a.aval.ndim
    place = normalize_axis("rollaxis", axis, count)
    start = integer("rollaxis: start", start)
    before = normalize_axis("rollaxis", start, count + 1) if start >= 0 else start + count
    if before < 0:
        raise ArgumentError(f"rollaxis: start={start} is out of range for {a.aval}")
    return moveaxis(a, place, before - (before > place))


@by_parts
def expand_dims(a: ArrayLike, axis: int | Sequence[int]) -> Any:
    """New dimensions of size 1, at these places of the result (see `numpy.expand_dims`).

    The dtype stays; `axis` is one place or several.

    Raises:
      ArgumentError: a place is out of range, or named twice.
    """
    a = array("expand_dims", a)
    axes = _axes_of(axis)
    count = a.aval.ndim + len(axes)
    places = normalize_axes("expand_dims", axes, count)
    rest = iter(a.aval.shape)
    return ops.reshape(a, new_sizes=tuple(1 if d in places else next(rest) for d in range(count)))


@by_parts
def squeeze(a: ArrayLike, axis: int | Sequence[int] | None = None) -> Any:
    """Without dimensions of size 1: all of them, or those named (see `numpy.squeeze`).

    The dtype stays; `axis` is one dimension or several.

    Raises:
      ArgumentError: a named dimension has another size.
      ArgumentError: there is no such dimension.
    """
    a = array("squeeze", a)
    sizes = a.aval.shape
    if axis is None:
        axes = tuple(d for d, size in enumerate(sizes) if size == 1)
    else:
        axes = normalize_axes("squeeze", axis, len(sizes))
        wrong = [d for d in axes if sizes[d] != 1]
        if wrong:
            raise ArgumentError(
                f"squeeze: axis {wrong[0]} of {a.aval} has size {sizes[wrong[0]]}, not 1"
            )
    return reshape(a, tuple(size for d, size in enumerate(sizes) if d not in axes))


@by_parts
def broadcast_to(array: ArrayLike, shape: ShapeLike) -> Any:
    """Repeated along new leading dimensions and those of size 1 (see `numpy.broadcast_to`).

    The dtype stays; `shape` is that of the result.

    Raises:
      ShapeError: the array's dimensions do not fit.
    """
    a = promotion.array("broadcast_to", array)
    sizes = shape_of(shape)
    if len(sizes) < a.aval.ndim or any(
        own not in (1, new) for own, new in zip(a.aval.shape[::-1], sizes[::-1], strict=False)
    ):
        raise ShapeError(f"broadcast_to: shape {a.aval.shape} does not broadcast to {sizes}")
    return ops.broadcast_to(a, sizes)


def broadcast_arrays(*args: ArrayLike) -> list[Any]:
    """Arrays broadcast to one shape; their dtypes stay (see `numpy.broadcast_arrays`).

    Raises:
      ShapeError: the shapes do not broadcast.
    """
    return promotion.broadcast("broadcast_arrays", *(array("broadcast_arrays", x) for x in args))


def broadcast_shapes(*shapes: ShapeLike) -> Shape:
    """The shape to which these shapes broadcast (see `numpy.broadcast_shapes`).

    Raises:
      ShapeError: there is none.
    """
    return promotion.broadcast_shapes(*map(shape_of, shapes))


def atleast_1d(*arys: ArrayLike) -> Any:
    """Arrays of one dimension at least; a list of them for several arguments.

    Dtypes stay. See `numpy.atleast_1d`.

    Raises:
      LeafTypeError: an argument is no array or scalar.
    """
    return _each("atleast_1d", arys, lambda x: reshape(x, 1) if x.ndim == 0 else x)


def atleast_2d(*arys: ArrayLike) -> Any:
    """Arrays of two dimensions at least: vectors become rows (see `numpy.atleast_2d`).

    Dtypes stay.

    Raises:
      LeafTypeError: an argument is no array or scalar.
    """
    return _each("atleast_2d", arys, lambda x: reshape(x, (1, -1)) if x.ndim < 2 else x)


def atleast_3d(*arys: ArrayLike) -> Any:
    """Arrays of three dimensions at least: ``[n] -> [1, n, 1]``, ``[m, n] -> [m, n, 1]``.

    Dtypes stay. See `numpy.atleast_3d`.

    Raises:
      LeafTypeError: an argument is no array or scalar.
    """

    def raised(x: Any) -> Any:
        if x.ndim < 2:
            return reshape(x, (1, x.size, 1))
        return expand_dims(x, 2) if x.ndim == 2 else x

    return _each("atleast_3d", arys, raised)


def _each(name: str, arrays: Sequence[ArrayLike], f: Any) -> Any:
    results = [f(array(name, x)) for x in arrays]
    return results[0] if len(results) == 1 else results


@by_parts
def flip(m: ArrayLike, axis: int | Sequence[int] | None = None) -> Any:
    """Elements in reverse order along some axes; None: along all (see `numpy.flip`).

    Shape and dtype stay; `axis` is one axis or several.

    Raises:
      ArgumentError: there is no such axis.
    """
    m = array("flip", m)
    axes = normalize_axes("flip", axis, m.aval.ndim)
    return ops.rev(m, dimensions=axes) if axes else m


def flipud(m: ArrayLike) -> Any:
    """Reversed along the first axis (see `numpy.flipud`).

    Shape and dtype stay.

    Raises:
      ArgumentError: there is no such axis.
    """
    return flip(m, 0)


def fliplr(m: ArrayLike) -> Any:
    """Reversed along the second axis (see `numpy.fliplr`).

    Shape and dtype stay.

    Raises:
      ArgumentError: there is no such axis.
    """
    return flip(m, 1)


def rot90(m: ArrayLike, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    """An array turned by `k` times 90 degrees (see `numpy.rot90`).

    Args:
      m: the array.
      k: how often; negative numbers turn the other way.
      axes: the two dimensions of the plane; the first turns towards the second.

    Returns:
      An array of the same dtype.

    Raises:
      ArgumentError: the axes are equal, or there are no such ones.
    """
    m = array("rot90", m)
    plane = integers("rot90: axes", axes)
    if len(plane) != 2:
        raise ArgumentError(f"rot90: axes must be two dimensions, got {axes}")
    first, second = (normalize_axis("rot90", axis, m.aval.ndim) for axis in plane)
    if first == second:
        raise ArgumentError(f"rot90: axes must be different, got {axes}")
    match integer("k", k) % 4:
        case 0:
            return m
        case 1:
            return swapaxes(flip(m, second), first, second)
        case 2:
            return flip(m, (first, second))
        case _:
            return flip(swapaxes(m, first, second), second)


@by_parts
def roll(
    a: ArrayLike, shift: ArrayLike | Sequence[ArrayLike], axis: int | Sequence[int] | None = None
) -> Any:
    """Elements moved along, those that fall off the end coming back at the start (`numpy.roll`).

    Args:
      a: the array.
      shift: by how many places; one number, or one for each axis. It may be traced.
      axis: the axis or axes; None: along all elements in row-major order.

    Returns:
      An array of the shape and dtype of `a`.

    Raises:
      ArgumentError: there are not as many shifts as axes, or no such axis.
    """
    a = array("roll", a)
    if axis is None:
        return reshape(roll(ravel(a), shift, 0), a.aval.shape)
    axes = [normalize_axis("roll", d, a.aval.ndim) for d in _axes_of(axis)]
    shifts = list(shift) if isinstance(shift, Sequence) or np.ndim(shift) else [shift]
    if len(shifts) == 1:
        shifts *= len(axes)
    elif len(axes) == 1:
        axes *= len(shifts)
    if len(shifts) != len(axes):
        raise ArgumentError(f"roll: one shift is needed for each axis, got {shift} and {axis}")
    for places, d in zip(shifts, axes, strict=True):
        count = a.aval.shape[d]
        if isinstance(places, Tracer):
            a = _rolled(a, places, d)
            continue
        cut = -integer("shift", places) % count if count else 0
        if cut:
            parts = (slice_along(a, d, cut, count), slice_along(a, d, 0, cut))
            a = concatenate(*parts, dimension=d)
    return a


def _rolled(a: Any, shift: Any, axis: int) -> Any:
    """The elements along an axis moved by a number that is not known: cut from two copies."""
    count = a.aval.shape[axis]
    if count == 0:
        return a
    twice = concatenate(a, a, dimension=axis)
    start = (-array("roll", shift)) % count
    zero = full_like(start, 0)
    starts = [start if d == axis else zero for d in range(a.aval.ndim)]
    return dynamic_slice(twice, *starts, slice_sizes=a.aval.shape)
