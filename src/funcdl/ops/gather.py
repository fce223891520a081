"""The primitive that reads windows at computed positions, as `jax.lax.gather`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.ops import registry
from funcdl.ops.indexed_windows import (
    GatherDimensionNumbers,
    GatherScatterMode,
    Windows,
    check_index_dtype,
    find_rows,
    find_windows,
    lower_windows,
    to_int64,
)
from funcdl.ops.lowering import Position, Reader, View, compute_dtype
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.shape import full, move_to_front

NDArray = np.ndarray[Any, Any]

gather = Primitive("gather")


def default_fill(dtype: np.dtype[Any]) -> Any:
    """What a gather reads outside by default: NaN, or the integer least likely to be meant."""
    if dtypes.is_bool(dtype):
        return True
    if dtypes.is_integer(dtype):
        info = np.iinfo(dtype)
        return int(info.max if dtypes.is_unsigned(dtype) else info.min)
    return float("nan")


def _gather_shape(
    operand: ShapedArray,
    indices: ShapedArray,
    *,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Shape,
    **params: Any,
) -> ShapedArray:
    check_index_dtype("gather", indices.dtype)
    windows = find_windows("gather", operand.shape, indices.shape, dimension_numbers, slice_sizes)
    return ShapedArray(windows.shape, operand.dtype)


def _take(operand: NDArray, indices: NDArray, windows: Windows, drop: bool) -> NDArray | None:
    """Whole slices along one dimension, which NumPy has a function for; None for all else."""
    numbers = windows.numbers
    if len(numbers.start_index_map) != 1 or windows.whole != windows.kept:
        return None
    (axis,) = numbers.start_index_map
    size = operand.shape[axis]
    batch_dims = tuple(range(axis, axis + indices.ndim - 1))
    if (
        numbers.collapsed_slice_dims != (axis,)
        or numbers.operand_batching_dims
        or windows.batch_dims != batch_dims
        or size == 0
        or not operand.flags.c_contiguous
    ):
        return None
    places = to_int64(indices)[..., 0]
    if drop and not ((places >= 0) & (places < size)).all():
        return None
    return operand.take(places, axis, mode="clip")


def _gather_impl(
    operand: NDArray,
    indices: NDArray,
    *,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Shape,
    mode: GatherScatterMode,
    fill_value: Any,
    **hints: bool,
) -> NDArray:
    check_index_dtype("gather", indices.dtype)
    windows = find_windows("gather", operand.shape, indices.shape, dimension_numbers, slice_sizes)
    drop = mode is GatherScatterMode.FILL_OR_DROP
    taken = _take(operand, indices, windows, drop)
    if taken is not None:
        return taken
    rows = find_rows(windows, indices, drop)
    out = rows.of_operand(operand)[rows.index]
    if rows.inside is not None and not rows.inside.all():
        out[~rows.inside] = default_fill(operand.dtype) if fill_value is None else fill_value
    return rows.to_windows(out)


def _gather_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, fill_value: Any, **params: Any
) -> tuple[Any, Any]:
    operand, indices = primals
    out = gather(operand, indices, fill_value=fill_value, **params)
    if is_zero(tangents[0]):
        return out, Zero(out.aval.to_tangent())
    return out, gather(tangents[0], indices, fill_value=0, **params)


def _gather_transpose(
    ct: Any,
    operand: Any,
    indices: Any,
    *,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Shape,
    indices_are_sorted: bool,
    unique_indices: bool,
    mode: GatherScatterMode,
    fill_value: Any,
) -> list[Any]:
    from funcdl.ops.scatter import ScatterDimensionNumbers, scatter_add

    zeros = full(operand.aval.shape, 0, ct.dtype)
    found = scatter_add(
        zeros,
        indices,
        ct,
        dimension_numbers=ScatterDimensionNumbers(*dimension_numbers),
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
        mode=mode,
    )
    return [found, None]


def _gather_batch(
    axis_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Shape,
    indices_are_sorted: bool,
    unique_indices: bool,
    **params: Any,
) -> tuple[Any, int]:
    operand, indices = (move_to_front(x, dim) for x, dim in zip(args, dims, strict=True))
    offset_dims, collapsed, index_map, batching, indices_batching = dimension_numbers
    offset_dims = _shift(offset_dims)
    if dims[0] is not None:
        collapsed, index_map, batching = _shift(collapsed), _shift(index_map), _shift(batching)
    if dims[1] is not None:
        indices_batching = _shift(indices_batching)
    if dims[1] is None:
        # Each window takes the whole batch along.
        offset_dims = (0, *offset_dims)
        slice_sizes = (axis_size, *slice_sizes)
    elif dims[0] is None:
        # All of the batch reads one operand, in no order and perhaps twice.
        indices_are_sorted = unique_indices = False
    else:
        batching, indices_batching = (0, *batching), (0, *indices_batching)
        slice_sizes = (min(axis_size, 1), *slice_sizes)
    out = gather(
        operand,
        indices,
        dimension_numbers=GatherDimensionNumbers(
            offset_dims, collapsed, index_map, batching, indices_batching
        ),
        slice_sizes=slice_sizes,
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
        **params,
    )
    return out, 0


def _shift(dims: Sequence[int]) -> tuple[int, ...]:
    return tuple(d + 1 for d in dims)


def _gather_lower(reader: Reader, index: Position, params: dict[str, Any]) -> int:
    windows = find_windows(
        "gather",
        reader.aval(0).shape,
        reader.aval(1).shape,
        params["dimension_numbers"],
        params["slice_sizes"],
    )
    fill = params["mode"] is GatherScatterMode.FILL_OR_DROP
    position, inside = lower_windows(reader, windows, index, drop=fill)
    value = reader.read(0, position)
    if inside is None:
        return value
    dtype = reader.aval(0).dtype
    fill_value = params["fill_value"]
    if fill_value is None:
        fill_value = default_fill(dtype)
    other = reader.builder.const(fill_value, compute_dtype(dtype))
    return reader.builder.select(inside, value, other)


gather.shape = _gather_shape
gather.impl = _gather_impl
gather.weak = lambda weak, **params: weak[0]
gather.jvp = _gather_jvp
gather.transpose = _gather_transpose
gather.batch = _gather_batch
gather.lower = View(_gather_lower)


WindowSample = tuple[Shape, NDArray, GatherDimensionNumbers, Shape, GatherScatterMode]


def window_samples() -> Iterator[WindowSample]:
    """Operand shape, indices, dimension numbers, window sizes and mode, for gather and scatter."""
    clip, fill, inside = GatherScatterMode
    numbers = GatherDimensionNumbers
    rows, vector = numbers((1,), (0,), (0,)), numbers((), (0,), (0,))
    # Rows of a matrix, one of them twice; elements of a vector.
    yield (5, 3), np.array([[1], [4], [1]], np.int32), rows, (1, 3), inside
    yield (7,), np.array([[[0], [6]], [[3], [2]]], np.int64), vector, (1,), inside
    # Windows that overlap, in every mode where they reach outside.
    corners = np.array([[1, 0], [2, 3], [4, 1], [-1, 9]], np.int32)
    for mode in (clip, fill):
        yield (6, 5), corners, numbers((0, 2), (), (0, 1)), (3, 2), mode
    yield (3, 4), np.array([[2], [200]], np.uint8), numbers((0,), (1,), (1,)), (3, 1), fill
    # Index vectors in another order than the operand's dimensions.
    swapped = np.array([[3, 0], [0, 2], [1, 1]], np.uint32)
    yield (3, 4, 2), swapped, numbers((1,), (0, 1), (1, 0)), (1, 1, 2), fill
    # Dimensions of the operand that run along with one of the indices.
    along = np.array([[[1], [4], [0]], [[2], [7], [3]]], np.int32)
    yield (2, 5), along, numbers((), (1,), (1,), (0,), (0,)), (1, 1), clip
    yield (5, 2), along, numbers((), (0,), (0,), (1,), (0,)), (1, 1), fill
    # No index vectors; empty ones; one alone.
    yield (4, 2), np.zeros((0, 1), np.int32), rows, (1, 2), clip
    yield (2, 3), np.zeros((0,), np.int32), numbers((0, 1), (), ()), (2, 2), fill
    yield (4,), np.array([2], np.int32), numbers((0,), (), (0,)), (2,), clip


def _gather_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape, indices, numbers, sizes, mode in window_samples():
        params = {
            "dimension_numbers": numbers,
            "slice_sizes": sizes,
            "indices_are_sorted": False,
            "unique_indices": False,
            "mode": mode,
            "fill_value": 1 if mode is GatherScatterMode.FILL_OR_DROP else None,
        }
        yield Sample((random_array(rng, shape, dtype), indices), params, (0,))


registry.add(Op(gather, registry.ALL, _gather_samples))
