"""Slices at computed starts, as `jax.lax.dynamic_slice` and `jax.lax.dynamic_update_slice`.

Starts are clipped so that the slice is inside the operand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_linear, is_zero
from funcdl.errors import DtypeError, ShapeError
from funcdl.kir.index import Index
from funcdl.ops import registry
from funcdl.ops.gather import gather
from funcdl.ops.indexed_windows import GatherDimensionNumbers, GatherScatterMode, clipped_position
from funcdl.ops.lowering import Position, Reader, View, all_of, compare
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.rows import broadcast_batch
from funcdl.ops.scatter import ScatterDimensionNumbers, scatter
from funcdl.ops.shape import broadcast_in_dim, full, instantiate, move_to_front
from funcdl.ops.slicing import concatenate

NDArray = np.ndarray[Any, Any]


def _check(name: str, operand: Any, sizes: Shape, starts: Sequence[Any]) -> None:
    """Check the slice's sizes and the starts; for avals and arrays alike."""
    shape = operand.shape
    if len(sizes) != len(shape) or any(
        not 0 <= size <= most for size, most in zip(sizes, shape, strict=True)
    ):
        raise ShapeError(
            f"{name}: the slice's sizes must fit into the operand's shape {shape}, got {sizes}"
        )
    if len(starts) != len(shape) or any(start.shape != () for start in starts):
        raise ShapeError(
            f"{name}: a start is needed for each of the operand's {len(shape)} dimensions, all "
            f"scalars, got starts of shapes {[start.shape for start in starts]}"
        )
    found = {start.dtype for start in starts}
    if len(found) > 1 or not all(map(dtypes.is_integer, found)):
        raise DtypeError(
            f"{name}: starts must be integers of one dtype, got "
            f"{[start.dtype.name for start in starts]}"
        )


def _clipped_slices(shape: Shape, sizes: Shape, starts: Sequence[NDArray]) -> tuple[slice, ...]:
    firsts = [
        min(max(int(start), 0), most - size)
        for start, most, size in zip(starts, shape, sizes, strict=True)
    ]
    return tuple(slice(first, first + size) for first, size in zip(firsts, sizes, strict=True))


def _first_of(starts: Sequence[Any]) -> Array:
    """The start 0 of a new leading dimension, of the dtype of the other starts."""
    return Array(np.zeros((), starts[0].dtype if starts else np.int32))


def _index_vectors(starts: Sequence[Any], dims: Sequence[int | None], axis_size: int) -> Any:
    """Starts, some of which are batched, as an array of index vectors."""
    columns = [
        broadcast_in_dim(x, shape=(axis_size, 1), broadcast_dimensions=() if dim is None else (0,))
        for x, dim in zip(starts, dims, strict=True)
    ]
    return concatenate(*columns, dimension=1)


def _clipped_starts(reader: Reader, first: int, sizes: Shape) -> list[Index]:
    """The starts, which are the operands from number `first` on, as positions."""
    return [
        clipped_position(reader.builder, reader.read(first + d, ()), most - size)
        for d, (most, size) in enumerate(zip(reader.aval(0).shape, sizes, strict=True))
    ]


dynamic_slice = Primitive("dynamic_slice")


def _slice_shape(x: ShapedArray, *starts: ShapedArray, slice_sizes: Shape) -> ShapedArray:
    _check("dynamic_slice", x, slice_sizes, starts)
    return ShapedArray(tuple(slice_sizes), x.dtype)


def _slice_impl(x: NDArray, *starts: NDArray, slice_sizes: Shape) -> NDArray:
    _check("dynamic_slice", x, slice_sizes, starts)
    return x[_clipped_slices(x.shape, slice_sizes, starts)]


def _slice_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, slice_sizes: Shape
) -> tuple[Any, Any]:
    x, *starts = primals
    out = dynamic_slice(x, *starts, slice_sizes=slice_sizes)
    if is_zero(tangents[0]):
        return out, Zero(out.aval.to_tangent())
    return out, dynamic_slice(tangents[0], *starts, slice_sizes=slice_sizes)


def _slice_transpose(ct: Any, x: Any, *starts: Any, slice_sizes: Shape) -> list[Any]:
    zeros = full(x.aval.shape, 0, ct.dtype)
    return [dynamic_update_slice(zeros, ct, *starts), *(None for _ in starts)]


def _slice_batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int | None], *, slice_sizes: Shape
) -> tuple[Any, int]:
    x, *starts = args
    if all(dim is None for dim in dims[1:]):
        x = move_to_front(x, dims[0])
        sizes = (axis_size, *slice_sizes)
        return dynamic_slice(x, _first_of(starts), *starts, slice_sizes=sizes), 0
    every = tuple(range(len(starts)))
    assert gather.batch is not None
    out: tuple[Any, int] = gather.batch(
        axis_size,
        (x, _index_vectors(starts, dims[1:], axis_size)),
        (dims[0], 0),
        dimension_numbers=GatherDimensionNumbers(every, (), every),
        slice_sizes=tuple(slice_sizes),
        indices_are_sorted=True,
        unique_indices=True,
        mode=GatherScatterMode.CLIP,
        fill_value=None,
    )
    return out


def _slice_lower(reader: Reader, index: Position, params: dict[str, Any]) -> int:
    starts = _clipped_starts(reader, 1, params["slice_sizes"])
    return reader.read(0, tuple(i + start for i, start in zip(index, starts, strict=True)))


dynamic_slice.shape = _slice_shape
dynamic_slice.impl = _slice_impl
dynamic_slice.weak = lambda weak, **params: weak[0]
dynamic_slice.jvp = _slice_jvp
dynamic_slice.transpose = _slice_transpose
dynamic_slice.batch = _slice_batch
dynamic_slice.lower = View(_slice_lower)


_CASES: list[tuple[Shape, Shape, tuple[int, ...], Any]] = [
    ((7,), (3,), (2,), np.int32),
    ((3,), (2,), (0,), np.int32),
    ((7,), (3,), (100,), np.int64),
    ((7,), (3,), (-2,), np.int32),
    ((4, 5), (2, 5), (1, 3), np.uint32),
    ((3, 4, 2), (1, 4, 1), (2, 0, 1), np.uint8),
    ((4, 3), (0, 2), (1, 1), np.int32),
    ((), (), (), np.int32),
]


def _slice_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape, sizes, starts, index_dtype in _CASES:
        positions = [np.array(start, index_dtype) for start in starts]
        args = (random_array(rng, shape, dtype), *positions)
        yield Sample(args, {"slice_sizes": sizes}, (0,))


registry.add(Op(dynamic_slice, registry.ALL, _slice_samples))


dynamic_update_slice = Primitive("dynamic_update_slice")


def _check_update(x: Any, update: Any, starts: Sequence[Any]) -> None:
    _check("dynamic_update_slice", x, update.shape, starts)
    if x.dtype != update.dtype:
        raise DtypeError(
            "dynamic_update_slice requires operand and update of equal dtype, got "
            f"{x.dtype.name} and {update.dtype.name}; convert one of them with astype first"
        )


def _update_shape(x: ShapedArray, update: ShapedArray, *starts: ShapedArray) -> ShapedArray:
    _check_update(x, update, starts)
    return ShapedArray(x.shape, x.dtype)


def _update_impl(x: NDArray, update: NDArray, *starts: NDArray) -> NDArray:
    _check_update(x, update, starts)
    out = np.array(x)
    out[_clipped_slices(x.shape, update.shape, starts)] = update
    return out


def _update_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    out = dynamic_update_slice(*primals)
    if all(map(is_zero, tangents[:2])):
        return out, Zero(out.aval.to_tangent())
    return out, dynamic_update_slice(*map(instantiate, tangents[:2]), *primals[2:])


def _update_transpose(ct: Any, x: Any, update: Any, *starts: Any) -> list[Any]:
    shape = update.aval.shape
    x_ct = update_ct = None
    if is_linear(x):
        x_ct = dynamic_update_slice(ct, full(shape, 0, ct.dtype), *starts)
    if is_linear(update):
        update_ct = dynamic_slice(ct, *starts, slice_sizes=shape)
    return [x_ct, update_ct, *(None for _ in starts)]


def _update_batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int | None]
) -> tuple[Any, int]:
    x, update, *starts = args
    if all(dim is None for dim in dims[2:]):
        x, update = (
            broadcast_batch(value, axis_size) if dim is None else move_to_front(value, dim)
            for value, dim in zip((x, update), dims, strict=False)
        )
        return dynamic_update_slice(x, update, _first_of(starts), *starts), 0
    every = tuple(range(len(starts)))
    assert scatter.batch is not None
    out: tuple[Any, int] = scatter.batch(
        axis_size,
        (x, _index_vectors(starts, dims[2:], axis_size), update),
        (dims[0], 0, dims[1]),
        dimension_numbers=ScatterDimensionNumbers(every, (), every),
        indices_are_sorted=True,
        unique_indices=True,
        mode=GatherScatterMode.CLIP,
    )
    return out


def _update_lower(reader: Reader, index: Position, params: dict[str, Any]) -> int:
    builder = reader.builder
    sizes = reader.aval(1).shape
    starts = _clipped_starts(reader, 2, sizes)
    place = tuple(i - start for i, start in zip(index, starts, strict=True))
    checks = []
    for i, size, most in zip(place, sizes, reader.aval(0).shape, strict=True):
        if size == most:
            continue
        low, high = i.range()
        if low < 0:
            checks.append(compare(builder, "ge", i, 0))
        if high >= size:
            checks.append(compare(builder, "lt", i, size))
    if not checks:
        return reader.read(1, place)
    inside = all_of(builder, checks)
    return builder.select(inside, reader.read(1, place, inside), reader.read(0, index))


dynamic_update_slice.shape = _update_shape
dynamic_update_slice.impl = _update_impl
dynamic_update_slice.weak = lambda weak, **params: weak[0] and weak[1]
dynamic_update_slice.jvp = _update_jvp
dynamic_update_slice.transpose = _update_transpose
dynamic_update_slice.batch = _update_batch
dynamic_update_slice.lower = View(_update_lower)


def _update_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape, sizes, starts, index_dtype in _CASES:
        positions = [np.array(start, index_dtype) for start in starts]
        args = (random_array(rng, shape, dtype), random_array(rng, sizes, dtype), *positions)
        yield Sample(args, {}, (0, 1))


registry.add(Op(dynamic_update_slice, registry.ALL, _update_samples))
