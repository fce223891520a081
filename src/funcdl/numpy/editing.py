"""Arrays with elements put in, replaced or taken out: NumPy's functions that write into arrays.

Arrays are immutable, so these return new ones. Those that write in place in NumPy ask for
``inplace=False``, as in JAX, so that nobody overlooks the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import ArrayOperators, shortened
from funcdl.core.options import flag, host_values, is_option
from funcdl.core.trace import Tracer
from funcdl.errors import ArgumentError, ConcretizationError, DtypeError, IndexingError, ShapeError
from funcdl.numpy.arithmetic import clip
from funcdl.numpy.creation import ShapeLike, array, full, shape_of, zeros
from funcdl.numpy.indexing import take, where
from funcdl.numpy.logic import truth
from funcdl.numpy.promotion import ArrayLike, convert
from funcdl.numpy.promotion import array as as_operand
from funcdl.numpy.ranges import arange
from funcdl.numpy.reductions import cumsum, normalize_axes, normalize_axis
from funcdl.numpy.repetition import tile
from funcdl.numpy.searching import mask_of, nonzero
from funcdl.numpy.shaping import broadcast_to, moveaxis, ravel, reshape
from funcdl.numpy.sorting import argsort, sort

__all__ = [
    "delete",
    "fill_diagonal",
    "insert",
    "place",
    "put",
    "put_along_axis",
    "resize",
    "trim_zeros",
]


def _refuse_inplace(name: str, inplace: bool) -> None:
    if flag(f"{name}: inplace", inplace):
        raise ArgumentError(
            f"{name}: arrays are immutable, so {name} returns the result and needs inplace=False"
        )


def delete(
    arr: ArrayLike,
    obj: Any,
    axis: int | None = None,
    *,
    assume_unique_indices: bool = False,
) -> Any:
    """The array without some slices along an axis (see `jax.numpy.delete`).

    Args:
      arr: the array.
      obj: which: an integer, a slice, or a vector of integers or bools.
      axis: the axis; None: all elements in row-major order.
      assume_unique_indices: a promise that no index is there twice, so that a vector of them may
        be traced.

    Raises:
      ConcretizationError: a vector is traced without that promise.
      DtypeError: the indices are no integers or bools.
      ShapeError: there is not one bool for each element along the axis.
      IndexingError: an index is out of range.
      ArgumentError: there is no such axis.
    """
    assume_unique_indices = flag("delete: assume_unique_indices", assume_unique_indices)
    arr = as_operand("delete", arr)
    if axis is None:
        arr, axis = ravel(arr), 0
    axis = normalize_axis("delete", axis, arr.aval.ndim)
    size = arr.aval.shape[axis]
    if isinstance(obj, slice):
        return take(arr, np.delete(np.arange(size), obj), axis)
    index: Any = obj if isinstance(obj, ArrayOperators) else host_values("delete: obj", obj)
    if dtypes.is_bool(index.dtype) and index.shape != (size,):
        raise ShapeError(
            f"delete: bools must be a vector, one for each of the {size} elements along axis "
            f"{axis}, got shape {index.shape}"
        )
    if not dtypes.is_integer(index.dtype) and not dtypes.is_bool(index.dtype):
        if index.size:
            raise DtypeError(f"delete: indices must be integers or bools, got {index.dtype}")
        index = index.astype(int)
    if not isinstance(index, Tracer):
        known = np.asarray(index)
        beyond = known[(known < -size) | (known >= size)]
        if beyond.size and not dtypes.is_bool(known.dtype):
            raise IndexingError(
                f"delete: index {beyond[0]} is out of range for axis {axis}, of size {size}"
            )
        kept = np.delete(np.arange(size), known)
        return take(arr, kept, axis)
    if index.ndim and not assume_unique_indices:
        raise ConcretizationError(
            "delete: how many indices differ would decide the size of the result, so they must not "
            f"be traced, got {index.aval}.\nPass assume_unique_indices=True if none is there twice."
        )
    traced: Any = index
    places = sort(ravel(where(traced < 0, traced + size, traced)))
    count = places.aval.shape[0]
    # What is left moves back by one for each element before it that is gone.
    left = arange(max(size - count, 0))
    for i in range(count):
        left = left + (left >= places[i])
    return take(arr, left, axis)


def insert(arr: ArrayLike, obj: Any, values: ArrayLike, axis: int | None = None) -> Any:
    """The array with slices put in along an axis (see `jax.numpy.insert`).

    Args:
      arr: the array.
      obj: before which slices: an integer, a slice, or a vector of integers.
      values: what to put in, in the array's dtype; for one integer any number of slices.
      axis: the axis; None: all elements in row-major order.

    Raises:
      DtypeError: the indices are no integers.
      ArgumentError: there is no such axis.
    """
    arr = as_operand("insert", arr)
    if axis is None:
        arr, axis = ravel(arr), 0
    axis = normalize_axis("insert", axis, arr.aval.ndim)
    new = convert(array(values, ndmin=arr.aval.ndim), arr.aval.dtype)
    size = arr.aval.shape[axis]
    if isinstance(obj, slice):
        obj = np.arange(size)[obj]
    index: Any = obj if isinstance(obj, ArrayOperators) else host_values("insert: obj", obj)
    if not dtypes.is_integer(index.dtype):
        if index.size:
            raise DtypeError(f"insert: indices must be integers, got {index.dtype}")
        index = index.astype(int)
    if index.ndim == 0:
        # As in NumPy, the first dimension of the values runs along the axis.
        new = moveaxis(new, 0, axis)
    index = ravel(index)
    if index.aval.shape[0] == 1 and index.aval.shape[0] != new.aval.shape[axis]:
        index = broadcast_to(index, (new.aval.shape[axis],))
    count = index.aval.shape[0]
    shape = list(arr.aval.shape)
    shape[axis] = count
    new = moveaxis(broadcast_to(new, tuple(shape)), axis, 0)
    index = clip(where(index < 0, index + size, index), 0, size)
    order = argsort(index)
    total = size + count
    places = zeros(count, index.aval.dtype).at[order].set(index[order] + arange(count))
    is_old = full((total,), True).at[places].set(False)
    (old,) = nonzero(is_old, size=size)
    rows = moveaxis(arr, axis, 0)
    out = zeros((total, *rows.aval.shape[1:]), arr.aval.dtype).at[old].set(rows)
    return moveaxis(out.at[places].set(new), 0, axis)


def resize(a: ArrayLike, new_shape: ShapeLike) -> Any:
    """The elements in another shape, cut off or repeated as needed (see `numpy.resize`).

    The shape is `new_shape`; the dtype stays. Without elements it is filled with zeros.

    Raises:
      ShapeError: a size is negative.
    """
    a = ravel(as_operand("resize", a))
    shape = shape_of(new_shape, "new_shape")
    count = int(np.prod(shape, dtype=np.int64))
    if a.aval.size == 0 or count == 0:
        return zeros(shape, a.aval.dtype)
    return reshape(tile(a, -(-count // a.aval.size))[:count], shape)


def trim_zeros(filt: ArrayLike, trim: str = "fb", axis: int | Sequence[int] | None = None) -> Any:
    """The array without zeros at its ends (see `numpy.trim_zeros`).

    Args:
      filt: the array.
      trim: where: "f" at the front, "b" at the back, "fb" at both.
      axis: an axis or several; None: all.

    Raises:
      ConcretizationError: the array is traced: its values decide the size of the result.
      ArgumentError: `trim` is something else.
      ShapeError: `filt` is a scalar.
    """
    x = as_operand("trim_zeros", filt)
    if x.aval.ndim == 0:
        raise ShapeError(f"trim_zeros: filt must have at least one dimension, got {x.aval}")
    given: Any = trim
    if not isinstance(given, str) or not given or set(trim.lower()) - {"f", "b"}:
        raise ArgumentError(f"trim_zeros: trim must be 'f', 'b' or 'fb', got {shortened(trim)}")
    mask = mask_of("trim_zeros", x)
    if isinstance(mask, Tracer):
        raise ConcretizationError(
            "trim_zeros: where the zeros are decides the size of the result, so the array must not "
            f"be traced, got {x.aval}"
        )
    used = np.nonzero(mask.value)
    index = [slice(None)] * x.aval.ndim
    for d in normalize_axes("trim_zeros", axis, x.aval.ndim):
        if not used[d].size:
            index[d] = slice(0, 0)
            continue
        front = int(used[d].min()) if "f" in trim.lower() else 0
        back = int(used[d].max()) + 1 if "b" in trim.lower() else x.aval.shape[d]
        index[d] = slice(front, back)
    return x[tuple(index)]


def put(
    a: ArrayLike, ind: ArrayLike, v: ArrayLike, mode: str | None = None, *, inplace: bool = True
) -> Any:
    """Elements replaced, by their row-major places (see `jax.numpy.put`).

    Args:
      a: the array.
      ind: the places.
      v: the values, repeated as needed.
      mode: what becomes of places out of range: None or "clip": they are moved to the nearest
        element; "wrap": they start over. With None, negative places count from the end.
      inplace: must be false.

    Returns:
      An array of the shape and dtype of `a`.

    Raises:
      ArgumentError: `inplace` is true, or another mode.
    """
    _refuse_inplace("put", inplace)
    a, index, values = (as_operand("put", x) for x in (a, ind, v))
    if not is_option(mode, (None, "clip", "wrap")):
        raise ArgumentError(f"put: mode must be None, 'clip' or 'wrap', got {shortened(mode)}")
    if 0 in (a.aval.size, index.aval.size, values.aval.size):
        return a
    index = ravel(index)
    if mode == "wrap":
        index = index % a.aval.size
    else:
        if mode is None:
            index = where(index < 0, index + a.aval.size, index)
        index = clip(index, 0, a.aval.size - 1)
    values = resize(values, index.aval.shape)
    return reshape(ravel(a).at[index].set(values, mode="drop"), a.aval.shape)


def place(arr: ArrayLike, mask: ArrayLike, vals: ArrayLike, *, inplace: bool = True) -> Any:
    """Elements replaced where a mask is true, by values in turn (see `jax.numpy.place`).

    Args:
      arr: the array.
      mask: of the same number of elements.
      vals: the values, repeated as needed.
      inplace: must be false.

    Raises:
      ArgumentError: `inplace` is true, or there are no values.
      ShapeError: the mask has another size.
    """
    _refuse_inplace("place", inplace)
    arr, values = as_operand("place", arr), ravel(as_operand("place", vals))
    chosen = ravel(truth("place", mask))
    if chosen.aval.size != arr.aval.size:
        raise ShapeError(f"place: the mask must be of {arr.aval.size} elements, got {chosen.aval}")
    if values.aval.size == 0:
        raise ArgumentError("place: vals must not be empty")
    number = (cumsum(chosen) - 1) % values.aval.size
    new = convert(take(values, number, mode="clip"), arr.aval.dtype)
    return reshape(where(chosen, new, ravel(arr)), arr.aval.shape)


def put_along_axis(
    arr: ArrayLike,
    indices: ArrayLike,
    values: ArrayLike,
    axis: int | None,
    inplace: bool = True,
    *,
    mode: str | None = None,
) -> Any:
    """Elements replaced at indices along an axis, each row with its own.

    The opposite of `take_along_axis` (see `jax.numpy.put_along_axis`).

    Args:
      arr: the array.
      indices: integers with as many dimensions; those other than `axis` broadcast.
      values: what broadcasts with the indices.
      axis: the axis; None: all elements in row-major order.
      inplace: must be false.
      mode: what becomes of indices out of range, as for ``x.at[...].set``.

    Raises:
      ArgumentError: `inplace` is true.
      ShapeError: the dimensions do not fit.
    """
    _refuse_inplace("put_along_axis", inplace)
    arr, index = as_operand("put_along_axis", arr), as_operand("put_along_axis", indices)
    shape = arr.aval.shape
    if axis is None:
        arr, axis = ravel(arr), 0
    axis = normalize_axis("put_along_axis", axis, arr.aval.ndim)
    if index.aval.ndim != arr.aval.ndim:
        raise ShapeError(
            "put_along_axis: indices must have as many dimensions as the array, got "
            f"{index.aval} for {arr.aval}"
        )
    full_shape = list(arr.aval.shape)
    full_shape[axis] = index.aval.shape[axis]
    index = broadcast_to(index, tuple(full_shape))
    others = [
        reshape(arange(n), (n, *(1,) * (arr.aval.ndim - 1 - d))) for d, n in enumerate(full_shape)
    ]
    others[axis] = index
    values = convert(as_operand("put_along_axis", values), arr.aval.dtype)
    out = arr.at[tuple(others)].set(broadcast_to(values, tuple(full_shape)), mode=mode)
    return reshape(out, shape)


def fill_diagonal(a: ArrayLike, val: ArrayLike, wrap: bool = False, *, inplace: bool = True) -> Any:
    """The main diagonal replaced (see `jax.numpy.fill_diagonal`).

    Args:
      a: an array of two dimensions and more; of more than two, all of one size.
      val: the values, repeated as needed.
      wrap: whether the diagonal starts over in matrices with more rows than columns.
      inplace: must be false.

    Raises:
      ArgumentError: `inplace` is true.
      ShapeError: the array does not fit.
    """
    wrap = flag("fill_diagonal: wrap", wrap)
    _refuse_inplace("fill_diagonal", inplace)
    a, values = as_operand("fill_diagonal", a), ravel(as_operand("fill_diagonal", val))
    shape = a.aval.shape
    if len(shape) < 2 or (len(shape) > 2 and len(set(shape)) > 1):
        raise ShapeError(
            "fill_diagonal: a matrix, or an array with all dimensions of one size, is needed, got "
            f"{a.aval}"
        )
    step = shape[1] + 1 if len(shape) == 2 else sum(shape[0] ** d for d in range(len(shape)))
    end = a.aval.size if wrap or len(shape) > 2 else min(a.aval.size, shape[1] * shape[1])
    places = np.arange(0, end, step)
    if places.size == 0:
        return a
    new = resize(convert(values, a.aval.dtype), (places.size,))
    return reshape(ravel(a).at[:end:step].set(new), shape)
