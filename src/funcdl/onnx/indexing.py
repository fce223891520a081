"""Rules of reads and updates at computed positions.

Gather and scatter become reads and updates of rows: the operand is a matrix whose rows are what all
windows have in full, as the reference computes them (`funcdl.ops.indexed_windows`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.jaxpr import Eqn
from funcdl.core.records import record
from funcdl.onnx.carriers import ANY
from funcdl.onnx.graph import BOOL, INT64, Graph, Value
from funcdl.onnx.reductions import reduce
from funcdl.onnx.rules import aval, rule
from funcdl.ops.gather import default_fill
from funcdl.ops.indexed_windows import (
    GatherDimensionNumbers,
    GatherScatterMode,
    Windows,
    find_windows,
)
from funcdl.ops.scatter import ScatterDimensionNumbers
from funcdl.ops.shape import inverse_permutation

_REDUCED = {
    "scatter": "none",
    "scatter_add": "add",
    "scatter_mul": "mul",
    "scatter_max": "max",
    "scatter_min": "min",
}


@record
class _Rows:
    """Windows as rows of a matrix: see `funcdl.ops.indexed_windows.Rows`.

    `index` are the rows' numbers, of shape `row_shape`; `inside` says which are of windows inside,
    None where all are.
    """

    order: tuple[int, ...]
    matrix: tuple[int, int]
    window_order: tuple[int, ...]
    window_shape: tuple[int, ...]
    index: Value
    inside: Value | None


def _rows(g: Graph, windows: Windows, indices: Value, drop: bool) -> _Rows:
    operand, numbers = windows.operand, windows.numbers
    leading = tuple(d for d in range(len(operand)) if d not in windows.whole)
    strides = dict.fromkeys(range(len(operand)), 0)
    stride = 1
    for d in reversed(leading):
        strides[d] = stride
        stride *= operand[d]
    matrix = (stride, math.prod(operand[d] for d in windows.whole))
    rows, inside = _starts(g, windows, indices, [strides[d] for d in numbers.start_index_map])
    if not drop:
        inside = None

    # What does not depend on the indices is one constant, added at the end.
    window_dim = dict(zip(windows.kept, numbers.offset_dims, strict=True))
    whole_dims = tuple(window_dim[d] for d in windows.whole)
    row_dims = tuple(d for d in range(len(windows.shape)) if d not in whole_dims)
    row_shape = tuple(windows.shape[d] for d in row_dims)
    counted = [dim for dim in row_dims if dim not in numbers.offset_dims]
    offsets: Any = np.zeros((1,) * len(row_dims), np.int64)
    for d, dim in window_dim.items():
        if d not in windows.whole:
            offsets = (
                offsets + _along(row_dims.index(dim), len(row_dims), windows.sizes[d]) * strides[d]
            )
    pairs = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    for d, dim in pairs:
        at = row_dims.index(counted[dim])
        offsets = offsets + _along(at, len(row_dims), operand[d]) * strides[d]
    own = [windows.shape[d] if d in counted else 1 for d in row_dims]
    index = g.reshape(rows, own)
    if offsets.any():
        index = g.apply("Add", index, g.constant(offsets))
    index = g.dense(Value(index.name, INT64, row_shape, index.own))
    if inside is not None:
        inside = g.reshape(inside, own)
        inside = g.dense(Value(inside.name, BOOL, row_shape, inside.own))
    window_order = row_dims + whole_dims
    window_shape = tuple(windows.shape[d] for d in window_order)
    return _Rows(leading + windows.whole, matrix, window_order, window_shape, index, inside)


def _along(axis: int, ndim: int, size: int) -> Any:
    shape = [1] * ndim
    shape[axis] = size
    return np.arange(size).reshape(shape)


def _starts(
    g: Graph, windows: Windows, indices: Value, strides: list[int]
) -> tuple[Value, Value | None]:
    """For each index vector the row of its window's start, moved inside, and whether it was."""
    shape = indices.shape[:-1]
    if not strides:
        return g.constant(np.zeros(shape, np.int64)), None
    known = g.known(indices)
    if known is not None and indices.own == indices.shape:
        starts = known.astype(np.int64)
        clipped = np.clip(starts, 0, windows.limits)
        is_inside = np.all(starts == clipped, axis=-1)
        inside = None if is_inside.all() else g.constant(is_inside)
        return g.constant(clipped @ np.array(strides, np.int64)), inside
    places = g.cast(indices, INT64)
    limits = g.constant(windows.limits, INT64)
    zero = g.constant(0, INT64)
    moved = g.extreme("Min", g.extreme("Max", places, zero), limits)
    equal = g.cast(g.apply("Equal", moved, places, dtype=BOOL), np.int32)
    last = len(shape)
    if len(strides) == 1:
        rows = g.reshape(moved, shape)
        if strides[0] != 1:
            rows = g.apply("Mul", rows, g.constant(strides[0], INT64))
        return rows, g.cast(g.reshape(equal, shape), BOOL)
    scaled = g.apply("Mul", moved, g.constant(strides, INT64))
    rows = reduce(g, "ReduceSum", g.dense(scaled), [last], exact=False)
    return rows, g.cast(reduce(g, "ReduceMin", g.dense(equal), [last]), BOOL)


def _matrix(g: Graph, x: Value, rows: _Rows) -> Value:
    return g.reshape(g.transpose(x, rows.order), rows.matrix)


@rule("gather")
def _gather(g: Graph, eqn: Eqn, operand: Value, indices: Value) -> Value:
    params, out = eqn.params, aval(eqn)
    windows = find_windows(
        "gather", operand.shape, indices.shape, params["dimension_numbers"], params["slice_sizes"]
    )
    fill = params["fill_value"]
    fill = g.constant(default_fill(operand.dtype) if fill is None else fill, operand.dtype)
    if not operand.size:
        return Value(fill.name, fill.dtype, out.shape, ())
    drop = params["mode"] is GatherScatterMode.FILL_OR_DROP
    return gather(g, operand, windows, indices, fill if drop else None)


def gather(g: Graph, operand: Value, windows: Windows, indices: Value, fill: Value | None) -> Value:
    """The windows at some indices; where they are not inside, `fill`, or the nearest inside."""
    rows = _rows(g, windows, indices, drop=fill is not None)
    shape = (*rows.index.shape, rows.matrix[1])
    found = g.node("Gather", _matrix(g, operand, rows), rows.index, shape=shape, axis=0)
    if rows.inside is not None:
        assert fill is not None
        inside = g.reshape(rows.inside, (*rows.index.shape, 1))
        found = g.dense(g.where(inside, found, fill))
    found = g.reshape(found, rows.window_shape)
    return g.transpose(found, inverse_permutation(rows.window_order))


@rule(*_REDUCED)
def _scatter(g: Graph, eqn: Eqn, operand: Value, indices: Value, updates: Value) -> Value:
    numbers: ScatterDimensionNumbers = eqn.params["dimension_numbers"]
    if not updates.size or not operand.size:
        return operand
    window = iter(updates.shape[d] for d in numbers.update_window_dims)
    left_out = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    sizes = tuple(1 if d in left_out else next(window) for d in range(len(operand.shape)))
    windows = find_windows(
        "scatter", operand.shape, indices.shape, GatherDimensionNumbers(*numbers), sizes
    )
    drop = eqn.params["mode"] is not GatherScatterMode.CLIP
    return scatter(g, operand, windows, indices, updates, _REDUCED[eqn.primitive.name], drop)


def scatter(
    g: Graph,
    operand: Value,
    windows: Windows,
    indices: Value,
    updates: Value,
    reduction: str,
    drop: bool,
) -> Value:
    """The operand with its windows at some indices set, or combined with updates."""
    narrow = operand.dtype
    if reduction != "none":
        operand, updates = (g.carried(x, ANY) for x in (operand, updates))
        if narrow in dtypes.HALF:
            operand, updates = (g.cast(x, np.float32) for x in (operand, updates))
    rows = _rows(g, windows, indices, drop)
    count, width = rows.matrix
    matrix, index = _matrix(g, operand, rows), rows.index
    if rows.inside is not None:
        # What falls outside goes to one more row, which is cut off again.
        index = g.dense(g.where(rows.inside, index, g.constant(count, INT64)))
        spare = g.constant(np.zeros((1, width), matrix.dtype))
        matrix = g.concatenate([matrix, spare], 0)
    found = g.reshape(g.transpose(updates, rows.window_order), (index.size, width))
    index = g.reshape(index, (index.size, 1))
    out = g.node("ScatterND", matrix, index, found, shape=matrix.shape, reduction=reduction)
    out = g.slice_along(out, 0, 0, count)
    out = g.reshape(out, [windows.operand[d] for d in rows.order])
    return g.cast(g.transpose(out, inverse_permutation(rows.order)), narrow)


def _start_vector(g: Graph, starts: tuple[Value, ...]) -> Value:
    """Scalar starts as one vector of int64."""
    parts = [g.reshape(g.cast(start, INT64), (1,)) for start in starts]
    return g.concatenate(parts, 0)


@rule("dynamic_slice")
def _dynamic_slice(g: Graph, eqn: Eqn, x: Value, *starts: Value) -> Value:
    sizes = eqn.params["slice_sizes"]
    moving = [d for d, size in enumerate(sizes) if size != x.shape[d]]
    if not moving:
        return x
    first = _start_vector(g, tuple(starts[d] for d in moving))
    limits = g.constant([x.shape[d] - sizes[d] for d in moving], INT64)
    first = g.extreme("Min", g.extreme("Max", first, g.constant(0, INT64)), limits)
    last = g.apply("Add", first, g.constant([sizes[d] for d in moving], INT64))
    return g.node("Slice", x, first, last, g.constant(moving, INT64), shape=tuple(sizes))


@rule("dynamic_update_slice")
def _dynamic_update_slice(g: Graph, eqn: Eqn, x: Value, update: Value, *starts: Value) -> Value:
    dims = tuple(range(len(x.shape)))
    if not update.size or not dims:
        return x if not update.size else update
    if update.shape == x.shape:
        return update
    numbers = GatherDimensionNumbers(dims, (), dims)
    windows = find_windows("dynamic_update_slice", x.shape, (len(dims),), numbers, update.shape)
    return scatter(g, x, windows, _start_vector(g, starts), update, "none", drop=False)
