"""Where gather and scatter find their windows: the part that the two share.

Both pair an array `operand` with an array that holds one window of it for each index vector: the
output of a gather, the updates of a scatter. Meanings are those of XLA's operations of these names,
with the index vector always the last dimension of `indices`, as in JAX.
"""

from __future__ import annotations

import enum
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.avals import Shape
from funcdl.core.options import is_option
from funcdl.core.records import record
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.kir import index as kindex
from funcdl.kir.index import Index
from funcdl.ops.lowering import Position, Reader, all_of

if TYPE_CHECKING:
    from funcdl.kir.builder import KernelBuilder

NDArray = np.ndarray[Any, Any]
Dims = tuple[int, ...]


class GatherScatterMode(enum.Enum):
    """What becomes of windows that are not wholly inside the operand.

    * ``CLIP``: they are moved inside.
    * ``FILL_OR_DROP``: a gather fills them with a value, a scatter leaves them out.
    * ``PROMISE_IN_BOUNDS``: there are none. If there are, no memory outside is touched: a gather
      then clips, a scatter drops.

    See `jax.lax.GatherScatterMode`.
    """

    CLIP = 0
    FILL_OR_DROP = 1
    PROMISE_IN_BOUNDS = 2

    @staticmethod
    def from_any(mode: str | GatherScatterMode | None) -> GatherScatterMode:
        """A mode from its name, as in JAX: ``"clip"``, ``"fill"``, ``"drop"``, ...

        None stands for `FILL_OR_DROP`.

        Raises:
          ArgumentError: no mode is called so.
        """
        if isinstance(mode, GatherScatterMode):
            return mode
        if not is_option(mode, _MODES):
            names = ", ".join(repr(name) for name in _MODES if name)
            raise ArgumentError(f"mode must be one of {names}, or None, got {shortened(mode)}")
        return _MODES[mode]


_MODES: dict[str | None, GatherScatterMode] = {
    "clip": GatherScatterMode.CLIP,
    "fill": GatherScatterMode.FILL_OR_DROP,
    "drop": GatherScatterMode.FILL_OR_DROP,
    "promise_in_bounds": GatherScatterMode.PROMISE_IN_BOUNDS,
    None: GatherScatterMode.FILL_OR_DROP,
}


class GatherDimensionNumbers(NamedTuple):
    """How the dimensions of a gather's operand, indices and output belong together (as in JAX).

    Attributes:
      offset_dims: output dimensions that run over the window, sorted.
      collapsed_slice_dims: operand dimensions whose window has size 1 and is left out, sorted.
      start_index_map: the operand dimension that each component of an index vector is a start for.
      operand_batching_dims: operand dimensions that run along with a dimension of the indices.
      start_indices_batching_dims: those dimensions of the indices, in the same order.
    """

    offset_dims: Dims
    collapsed_slice_dims: Dims
    start_index_map: Dims
    operand_batching_dims: Dims = ()
    start_indices_batching_dims: Dims = ()


@record
class Windows:
    """One pairing of operand, indices and windows, checked and worked out.

    `kept` are the operand dimensions that appear in the windows, ``offset_dims[i]`` the dimension
    for ``kept[i]``; `batch_dims` are the dimensions that run over the index vectors. `limits` are
    the largest starts inside, one for each component of an index vector. `whole` are those of
    `kept` that every window has in full, so that its start along them can only be 0.
    """

    operand: Shape
    indices: Shape
    numbers: GatherDimensionNumbers
    sizes: Shape
    shape: Shape
    kept: Dims
    batch_dims: Dims
    limits: Dims
    whole: Dims


@lru_cache(maxsize=4096)
def find_windows(
    name: str, operand: Shape, indices: Shape, numbers: GatherDimensionNumbers, sizes: Shape
) -> Windows:
    """The windows of `sizes` at `indices` of an operand, by their shapes.

    Raises:
      ShapeError: the dimension numbers, sizes and shapes do not fit. Messages start with `name`.
    """
    if not isinstance(numbers, GatherDimensionNumbers):
        raise ArgumentError(
            f"{name}: dimension_numbers must be a funcdl.lax.GatherDimensionNumbers, got "
            f"{shortened(numbers)}"
        )
    offset_dims, collapsed, index_map, batching, _ = numbers
    kept = tuple(d for d in range(len(operand)) if d not in collapsed and d not in batching)
    _check_windows(name, operand, indices, numbers, sizes, kept)
    batch_dims = tuple(
        d for d in range(len(indices) - 1 + len(offset_dims)) if d not in offset_dims
    )
    shape = [0] * (len(batch_dims) + len(offset_dims))
    for dim, size in zip(batch_dims, indices, strict=False):
        shape[dim] = size
    for dim, d in zip(offset_dims, kept, strict=True):
        shape[dim] = sizes[d]
    return Windows(
        operand,
        indices,
        numbers,
        sizes,
        tuple(shape),
        kept,
        batch_dims,
        tuple(max(operand[d] - sizes[d], 0) for d in index_map),
        tuple(d for d in kept if sizes[d] == operand[d]),
    )


def _check_windows(
    name: str,
    operand: Shape,
    indices: Shape,
    numbers: GatherDimensionNumbers,
    sizes: Shape,
    kept: Dims,
) -> None:
    def require(condition: bool, wanted: str, found: str) -> None:
        if not condition:
            raise ShapeError(
                f"{name}: {wanted}, got {found}\n"
                f"(operand of shape {operand}, indices of shape {indices}, windows of {sizes})"
            )

    offset_dims, collapsed, index_map, batching, indices_batching = numbers
    ndim = len(operand)
    require(len(indices) > 0, "indices must have a last dimension, the index vectors", "a scalar")
    require(
        indices[-1] == len(index_map),
        "an index vector must have a component for each dimension that is indexed",
        f"{indices[-1]} components for {index_map}",
    )
    named = {
        "collapsed dimensions": (collapsed, ndim),
        "operand batching dimensions": (batching, ndim),
        "indexed dimensions": (index_map, ndim),
        "indices' batching dimensions": (indices_batching, len(indices) - 1),
        "offset dimensions": (offset_dims, len(indices) - 1 + len(offset_dims)),
    }
    for what, (dims, limit) in named.items():
        fits = len(set(dims)) == len(dims) and all(0 <= d < limit for d in dims)
        require(fits, f"{what} must be different numbers from 0 to {limit - 1}", str(dims))
    for what in ("collapsed dimensions", "operand batching dimensions", "offset dimensions"):
        dims = named[what][0]
        require(list(dims) == sorted(dims), f"{what} must be sorted", str(dims))
    for what, dims in (("collapsed", collapsed), ("indexed", index_map)):
        require(
            not set(dims) & set(batching),
            f"no dimension can be both {what} and a batching dimension",
            f"{dims} and {batching}",
        )
    require(
        [operand[d] for d in batching] == [indices[d] for d in indices_batching],
        "batching dimensions of operand and indices must pair up with equal sizes",
        f"{batching} and {indices_batching}",
    )
    require(len(sizes) == ndim, "a window needs one size for each dimension", str(sizes))
    require(
        len(offset_dims) == len(kept),
        f"each operand dimension must be collapsed, a batching dimension or one of the "
        f"{len(offset_dims)} in offset dimensions",
        f"{len(kept)} others, {kept}",
    )
    for d in range(ndim):
        most = operand[d] if d in kept else 1
        require(
            0 <= sizes[d] <= most and (sizes[d] <= operand[d] or 0 in indices),
            f"the window's size along dimension {d} must be from 0 to {min(most, operand[d])}",
            str(sizes[d]),
        )
        require(
            sizes[d] == 1 or d not in collapsed, "a collapsed dimension needs size 1", str(sizes[d])
        )


def check_index_dtype(name: str, dtype: np.dtype[Any]) -> None:
    """Raise `DtypeError` unless `dtype` can index."""
    if not dtypes.is_integer(dtype):
        raise DtypeError(
            f"{name}: indices must be integers, got {dtype.name}; convert them with astype first"
        )


@record
class Rows:
    """Windows as rows of a matrix.

    `order` permutes the operand's dimensions: those along which windows start anywhere, then
    those that windows have in full; a row of the `matrix` shape is one element of the former.
    `window_order` and `window_shape` do the same to the array of windows. `index` holds the row of
    the operand for each row of windows, in row-major order; `inside` says which are inside.
    """

    order: Dims
    matrix: Shape
    window_order: Dims
    window_shape: Shape
    index: NDArray
    inside: NDArray | None

    def of_operand(self, x: NDArray) -> NDArray:
        """The operand as a matrix of rows; a view where its memory allows."""
        return x.transpose(self.order).reshape(self.matrix)

    def to_operand(self, rows: NDArray, shape: Shape) -> NDArray:
        """The inverse of `of_operand`."""
        return _undo(rows.reshape([shape[d] for d in self.order]), self.order)

    def of_windows(self, windows: NDArray) -> NDArray:
        """The windows as a matrix of rows."""
        return windows.transpose(self.window_order).reshape(len(self.index), self.matrix[1])

    def to_windows(self, rows: NDArray) -> NDArray:
        """The inverse of `of_windows`."""
        return _undo(rows.reshape(self.window_shape), self.window_order)


def _undo(x: NDArray, order: Dims) -> NDArray:
    inverse: NDArray = x.transpose(sorted(range(len(order)), key=order.__getitem__))
    return inverse


def find_rows(windows: Windows, indices: NDArray, drop: bool) -> Rows:
    """The rows of the operand that windows cover; starts outside are clipped.

    With `drop`, `inside` tells which windows were wholly inside before.
    """
    operand, numbers = windows.operand, windows.numbers
    leading = tuple(d for d in range(len(operand)) if d not in windows.whole)
    strides = dict.fromkeys(range(len(operand)), 0)
    stride = 1
    for d in reversed(leading):
        strides[d] = stride
        stride *= operand[d]
    order = leading + windows.whole
    matrix = (stride, math.prod(operand[d] for d in windows.whole))

    indices = to_int64(indices)
    limits = np.array(windows.limits, np.int64)
    starts = np.clip(indices, 0, limits)
    scale = np.array([strides[d] for d in numbers.start_index_map], np.int64)
    rows = starts @ scale if len(scale) else np.zeros(indices.shape[:-1], np.int64)
    batching = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    for d, dim in batching:
        rows = rows + _along(dim, rows.ndim, np.arange(operand[d]) * strides[d])
    inside = np.all(starts == indices, axis=-1) if drop else None

    window_dim = dict(zip(windows.kept, numbers.offset_dims, strict=True))
    whole_dims = tuple(window_dim[d] for d in windows.whole)
    row_dims = tuple(d for d in range(len(windows.shape)) if d not in whole_dims)
    # Dimensions of the windows that are no index vectors' are new to `rows` and `inside`.
    new = tuple(at for at, dim in enumerate(row_dims) if dim in numbers.offset_dims)
    rows = np.expand_dims(rows, new)
    for d, dim in window_dim.items():
        if d not in windows.whole:
            place = np.arange(windows.sizes[d]) * strides[d]
            rows = rows + _along(row_dims.index(dim), rows.ndim, place)
    row_shape = tuple(windows.shape[d] for d in row_dims)
    if inside is not None:
        inside = np.broadcast_to(np.expand_dims(inside, new), row_shape).ravel()
    return Rows(
        order,
        matrix,
        row_dims + whole_dims,
        row_shape + tuple(windows.shape[d] for d in whole_dims),
        np.broadcast_to(rows, row_shape).ravel(),
        inside,
    )


def to_int64(indices: NDArray) -> NDArray:
    """Indices in a signed dtype; what it does not hold is outside in any case."""
    if indices.dtype == np.uint64:
        indices = np.minimum(indices, np.uint64(2**63 - 1))
    return indices.astype(np.int64, copy=False)


def _along(dim: int, ndim: int, values: NDArray) -> NDArray:
    """One-dimensional values along dimension `dim` of `ndim`."""
    return values.reshape([-1 if d == dim else 1 for d in range(ndim)])


def lower_windows(
    reader: Reader, windows: Windows, index: Position, drop: bool
) -> tuple[Position, int | None]:
    """The operand position of an element of the windows; operand 1 of the equation is the indices.

    With `drop`, also a bool value that says whether the element's window is wholly inside. The
    position is inside in any case.
    """
    numbers = windows.numbers
    batch = tuple(index[d] for d in windows.batch_dims)
    position = [kindex.constant(0)] * len(windows.operand)
    for d, dim in zip(
        numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True
    ):
        position[d] = batch[dim]
    for d, dim in zip(windows.kept, numbers.offset_dims, strict=True):
        position[d] = index[dim]
    checks: list[int] = []
    builder = reader.builder
    for component, (d, limit) in enumerate(
        zip(numbers.start_index_map, windows.limits, strict=True)
    ):
        start = reader.read(1, (*batch, kindex.constant(component)))
        position[d] = position[d] + clipped_position(builder, start, limit)
        if drop:
            checks += _inside(builder, start, limit)
    return tuple(position), all_of(builder, checks) if checks else None


def clipped_position(builder: KernelBuilder, start: int, limit: int) -> Index:
    """An integer value of any dtype, clipped to ``[0, limit]``, as a position."""
    if limit == 0:
        return kindex.constant(0)
    place = builder.position(start, 0, limit)
    if start not in place.values():
        return place  # known to be inside
    if builder.type_of(start).dtype.itemsize < 4:
        start = builder.cast(start, np.int32)
    dtype = builder.type_of(start).dtype
    largest = int(np.iinfo(dtype).max)
    if dtypes.is_signed(dtype):
        start = builder.elementwise("max", start, builder.const(0, dtype))
    if limit < largest:
        start = builder.elementwise("min", start, builder.const(limit, dtype))
    start = builder.cast(start, np.int32 if limit < 2**31 else np.int64)
    return builder.position(start, 0, min(limit, largest))


def _inside(builder: KernelBuilder, start: int, limit: int) -> list[int]:
    """Bool values that are all true where a start is from 0 to `limit`."""
    dtype = builder.type_of(start).dtype
    checks = []
    if dtypes.is_signed(dtype):
        checks.append(builder.elementwise("ge", start, builder.const(0, dtype)))
    if limit < int(np.iinfo(dtype).max):
        checks.append(builder.elementwise("le", start, builder.const(limit, dtype)))
    return checks
