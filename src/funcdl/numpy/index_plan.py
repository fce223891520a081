"""What an index expression means for an array of a given shape, by NumPy's rules.

An index is worked off in two steps, for reading and for updating alike:

1. a static region: whole numbers and slices known while tracing choose a start, a count and a step
   along each dimension;
2. windows at computed places: the index arrays and traced integers that are left choose among the
   elements of the region.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array, ArrayOperators, as_array, aval_of, shortened
from funcdl.core.avals import Shape
from funcdl.core.records import record
from funcdl.core.trace import Tracer
from funcdl.errors import ConcretizationError, DtypeError, IndexingError, ShapeError
from funcdl.numpy.creation import asarray
from funcdl.numpy.promotion import broadcast, broadcast_shapes, convert
from funcdl.ops.arithmetic import add
from funcdl.ops.comparison import lt
from funcdl.ops.indexed_windows import GatherDimensionNumbers
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_to, full_like, reshape
from funcdl.ops.slicing import concatenate


@record
class Extent:
    """The chosen elements along one dimension: ``start, start + step, ...``, `count` of them."""

    start: int
    count: int
    step: int = 1

    def is_whole(self, size: int) -> bool:
        return self == Extent(0, size)


@record
class Plan:
    """An index, worked out.

    Attributes:
      region: the static choice along each dimension of the array.
      scalars: dimensions with a static whole number: size 1 in the region, absent from the result.
      arrays: for each other dimension that is indexed by an array or a traced integer, the index
        (already counted from the front).
      batch: the shape to which the arrays broadcast.
      place: where `batch` stands among the dimensions of the result that the windows keep.
      shape: the shape of the result.
    """

    region: tuple[Extent, ...]
    scalars: frozenset[int]
    arrays: tuple[tuple[int, Any], ...]
    batch: Shape
    place: int
    shape: Shape

    @property
    def left_out(self) -> tuple[int, ...]:
        """Dimensions of the region that the result does not keep."""
        return tuple(sorted({*self.scalars, *(d for d, _ in self.arrays)}))

    def window_numbers(self) -> tuple[GatherDimensionNumbers, Shape]:
        """Dimension numbers and window sizes of the gather from the region."""
        left_out = self.left_out
        sizes = tuple(1 if d in left_out else e.count for d, e in enumerate(self.region))
        kept = len(sizes) - len(left_out)
        offsets = tuple(d + len(self.batch) * (d >= self.place) for d in range(kept))
        return GatherDimensionNumbers(offsets, left_out, tuple(d for d, _ in self.arrays)), sizes

    def window_shape(self) -> Shape:
        """The shape of what is gathered: the result's, without new dimensions."""
        kept = [e.count for d, e in enumerate(self.region) if d not in self.left_out]
        return (*kept[: self.place], *self.batch, *kept[self.place :])

    def index_vectors(self) -> Any:
        """The arrays as components of index vectors, along a new last dimension."""
        arrays = broadcast("index", *(index for _, index in self.arrays))
        columns = [reshape(x, new_sizes=(*x.aval.shape, 1)) for x in arrays]
        return columns[0] if len(columns) == 1 else concatenate(*columns, dimension=len(self.batch))


def with_axes_for_bools(shape: Shape, index: Any) -> tuple[Shape, Any]:
    """A shape and an index without single bools, and without lists in a tuple, that mean the same.

    A bool stands for a mask without dimensions: it adds an axis, from which all is taken or
    nothing. Here the axis is part of the shape already, and an index array takes 1 or 0 of it.
    """
    if isinstance(index, tuple):
        index = tuple(map(_listed, index))
    entries = index if isinstance(index, tuple) else (index,)
    if not any(map(_is_single_bool, entries)):
        return shape, index
    sizes = list(shape)
    result = list(entries)
    ellipsis_at = next((i for i, e in enumerate(entries) if e is Ellipsis), len(entries))
    for i, entry in enumerate(entries):
        if not _is_single_bool(entry):
            continue
        behind = sum(map(_axes_used, entries[i:]))
        ahead = sum(map(_axes_used, entries[:i])) + sum(map(_is_single_bool, entries[:i]))
        sizes.insert(len(sizes) - behind if i > ellipsis_at else ahead, 1)
        result[i] = np.zeros(int(bool(entry)), np.int32)
    return tuple(sizes), tuple(result)


def _listed(entry: Any) -> Any:
    """An entry of a tuple; lists and tuples in it are index arrays, as in NumPy."""
    if not isinstance(entry, list | tuple):
        return entry
    return asarray(entry) if entry else np.zeros(0, np.int32)


def _is_single_bool(entry: Any) -> bool:
    if isinstance(entry, bool | np.bool_):
        return True
    return isinstance(entry, Array | np.ndarray) and dtypes.is_bool(entry.dtype) and entry.ndim == 0


def _axes_used(entry: Any) -> int:
    """How many axes of the array an entry of an index takes."""
    if entry is None or entry is Ellipsis or _is_single_bool(entry):
        return 0
    if isinstance(entry, ArrayOperators | np.ndarray):
        aval = aval_of(entry)
        return aval.ndim if dtypes.is_bool(aval.dtype) else 1
    return 1


def plan_index(shape: Shape, index: Any, wrap_negative: bool = True) -> Plan:
    """Work out ``x[index]`` for an array of this shape.

    Index arrays count negative places from the end unless `wrap_negative` is false; then these are
    out of range.

    Raises:
      IndexingError: too many indices, or a static whole number out of range.
      DtypeError: an index is no integer, bool, slice, None or Ellipsis.
      ShapeError: index arrays do not broadcast, or a mask does not fit.
      ConcretizationError: a mask or the bound of a slice is traced.
    """
    entries = _expand(shape, index if isinstance(index, tuple) else (index,))
    region: list[Extent] = []
    scalars: set[int] = set()
    arrays: list[tuple[int, Any]] = []
    # What each entry leaves in the result: None (a new dimension), a size, or True (part of the
    # block of index arrays; static whole numbers belong to it as well, as in NumPy).
    left: list[Any] = []
    for entry in entries:
        size = shape[len(region)] if len(region) < len(shape) else 0
        if entry is None:
            left.append(None)
        elif isinstance(entry, slice):
            start, stop, step = _slice_bounds(entry, size)
            region.append(Extent(start, len(range(start, stop, step)), step))
            left.append(region[-1].count)
        elif isinstance(entry, int):
            scalars.add(len(region))
            region.append(Extent(_wrap_scalar(entry, size, len(region), shape), 1))
            left.append(True)
        else:
            arrays.append((len(region), wrap(entry, size) if wrap_negative else _widened(entry)))
            region.append(Extent(0, size))
            left.append(True)
    arrays = _one_dtype(arrays)
    batch = broadcast_shapes(*(x.aval.shape for _, x in arrays), name="index")
    block = [i for i, entry in enumerate(left) if entry is True]
    adjacent = block == list(range(block[0], block[0] + len(block))) if block else True
    first = block[0] if block and arrays and adjacent else 0
    place = sum(1 for entry in left[:first] if entry is not None)
    result: list[int] = [] if arrays and adjacent else list(batch)
    for i, entry in enumerate(left):
        if entry is True:
            if arrays and adjacent and i == first:
                result += batch
        else:
            result.append(1 if entry is None else entry)
    return Plan(tuple(region), frozenset(scalars), tuple(arrays), batch, place, tuple(result))


def _expand(shape: Shape, index: tuple[Any, ...]) -> list[Any]:
    """One entry for each dimension of the array, and None for each new one.

    Entries are None, slices, Python integers, and integer arrays or tracers.
    """
    entries: list[Any] = []
    ellipsis_at = None
    used = 0
    for entry in map(_checked, index):
        if entry is Ellipsis:
            if ellipsis_at is not None:
                raise IndexingError("an index can only have a single ellipsis ('...')")
            ellipsis_at = len(entries)
        elif entry is None or isinstance(entry, slice | int):
            entries.append(entry)
            used += entry is not None
        elif dtypes.is_bool(entry.aval.dtype):
            found = _mask_places(entry, shape, used)
            entries += found
            used += entry.aval.ndim
        else:
            entries.append(entry)
            used += 1
    if used > len(shape):
        raise IndexingError(
            f"too many indices: an array of shape {shape} has {len(shape)} dimensions, but {used} "
            "were indexed"
        )
    rest = [slice(None)] * (len(shape) - used)
    where = len(entries) if ellipsis_at is None else ellipsis_at
    return entries[:where] + rest + entries[where:]


def _checked(entry: Any) -> Any:
    """An entry of the index as None, Ellipsis, a slice, a Python integer or an array."""
    kind = type(entry)
    if entry is None or entry is Ellipsis or kind is int or kind is slice:
        return entry
    if isinstance(entry, np.integer):
        return int(entry)
    if isinstance(entry, bool | np.bool_):
        return Array(np.array(entry))
    if isinstance(entry, list):
        raise DtypeError(
            f"a list cannot be an index, "
            f"got {shortened(entry)}; convert it: x[funcdl.numpy.array(index)], "
            "or use a tuple to index several dimensions"
        )
    if isinstance(entry, ArrayOperators | np.ndarray):
        array = as_array(entry)
        if dtypes.is_integer(array.aval.dtype) or dtypes.is_bool(array.aval.dtype):
            return array
        if array.size == 0 and isinstance(entry, np.ndarray):
            return as_array(np.zeros(entry.shape, np.int32))
        raise DtypeError(
            f"index arrays must hold integers or bools, got {array.aval}; convert it with "
            ".astype(int)"
        )
    if hasattr(entry, "__array__"):
        return _checked(as_array(entry))
    if hasattr(kind, "__index__"):
        return int(entry.__index__())
    raise DtypeError(
        "an index must be made of integers, slices, None, ..., and arrays of integers or bools; "
        f"got {kind.__name__}: {entry!r}"
    )


def _mask_places(mask: Any, shape: Shape, dim: int) -> list[Any]:
    """Index arrays that choose the elements where a mask is true."""
    if isinstance(mask, Tracer):
        raise ConcretizationError(
            f"a mask must not be traced when it is used as an index, since the number of elements "
            f"that it chooses would be part of the result's type; got {mask.aval}.\n"
            "Use where(mask, x, other) for a result of fixed shape, or x.at[mask].set(value) to "
            "update."
        )
    covered = shape[dim : dim + mask.aval.ndim]
    if mask.aval.shape != covered:
        raise IndexingError(
            f"a mask must have the shape of the dimensions that it indexes, {covered}, got "
            f"{mask.aval.shape}"
        )
    kind = dtypes.default_dtype("i")
    return [Array(places.astype(kind)) for places in np.nonzero(mask.value)]


def _slice_bounds(entry: slice, size: int) -> tuple[int, int, int]:
    for bound in (entry.start, entry.stop, entry.step):
        if isinstance(bound, Tracer):
            raise ConcretizationError(
                f"the bounds of a slice must not be traced, since they decide the result's shape; "
                f"got {bound.aval}.\nUse funcdl.lax.dynamic_slice, whose size is fixed, "
                "or x[start + funcdl.numpy.arange(size)]."
            )
    return entry.indices(size)


def _wrap_scalar(entry: int, size: int, dim: int, shape: Shape) -> int:
    if not -size <= entry < size:
        raise IndexingError(
            f"index {entry} is out of range for dimension {dim}, of size {size}, of an array of "
            f"shape {shape}"
        )
    return entry % size


def wrap(index: Any, size: int) -> Any:
    """An index array that counts negative places from the end, in a dtype fit for a gather."""
    dtype = index.aval.dtype
    index = _widened(index)
    if dtypes.is_unsigned(dtype) and dtype.itemsize < 4:
        return index
    if type(index) is Array:
        value = index.value
        return Array(np.where(value < 0, value + value.dtype.type(size), value))
    negative = lt(index, full_like(index, 0))
    return select_n(negative, index, add(index, full_like(index, size)))


def _widened(index: Any) -> Any:
    """An index array in a signed dtype that holds its places."""
    dtype = index.aval.dtype
    wide = dtype.itemsize == 8 or (dtype.itemsize == 4 and dtypes.is_unsigned(dtype))
    return convert(index, dtypes.canonicalize(np.dtype(np.int64 if wide else np.int32)))


def _one_dtype(arrays: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """Index arrays in the widest of their dtypes."""
    if len({x.aval.dtype for _, x in arrays}) < 2:
        return arrays
    widest = max((x.aval.dtype for _, x in arrays), key=lambda dtype: dtype.itemsize)
    return [(d, convert(x, widest)) for d, x in arrays]


def broadcast_update(value: Any, plan: Plan) -> Any:
    """A value to be written, in the shape of the windows.

    Raises:
      ShapeError: it does not broadcast to the indexed elements.
    """
    shape = value.aval.shape
    # As in NumPy, leading dimensions of size 1 may be too many.
    while len(shape) > len(plan.shape) and shape[0] == 1:
        shape = shape[1:]
    fits = len(shape) <= len(plan.shape) and all(
        own in (1, size) for own, size in zip(shape[::-1], plan.shape[::-1], strict=False)
    )
    if not fits:
        raise ShapeError(
            f"the value, {value.aval}, does not broadcast to the indexed elements, which have "
            f"shape {plan.shape}"
        )
    value = broadcast_to(reshape(value, new_sizes=shape), plan.shape)
    return reshape(value, new_sizes=plan.window_shape())
