"""Primitives that cut arrays apart and put them together: slice, pad, concatenate.

Parameters and meanings are those of the `jax.lax` functions of the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core.array import Array
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import is_linear
from funcdl.errors import ShapeError
from funcdl.ops import registry
from funcdl.ops.arithmetic import sub
from funcdl.ops.jvp_rules import linear_jvp
from funcdl.ops.lowering import Position, Reader, View, all_of, compare
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_in_dim, full, move_to_front

NDArray = np.ndarray[Any, Any]

slice_ = Primitive("slice")


def _slice_shape(
    x: ShapedArray, *, start_indices: Shape, limit_indices: Shape, strides: Shape | None
) -> ShapedArray:
    steps = strides or (1,) * x.ndim
    fits = len(start_indices) == len(limit_indices) == len(steps) == x.ndim and all(
        0 <= start <= limit <= size and step > 0
        for start, limit, step, size in zip(
            start_indices, limit_indices, steps, x.shape, strict=True
        )
    )
    if not fits:
        raise ShapeError(
            f"slice: start_indices={start_indices}, limit_indices={limit_indices}, "
            f"strides={strides} do not fit {x}; each needs 0 <= start <= limit <= size, stride > 0"
        )
    sizes = tuple(
        -((start - limit) // step)
        for start, limit, step in zip(start_indices, limit_indices, steps, strict=True)
    )
    return ShapedArray(sizes, x.dtype)


def _slice_impl(
    x: NDArray, *, start_indices: Shape, limit_indices: Shape, strides: Shape | None
) -> NDArray:
    steps = strides or (1,) * x.ndim
    return x[tuple(map(slice, start_indices, limit_indices, steps))]


def _slice_transpose(
    ct: Any, x: Any, *, start_indices: Shape, limit_indices: Shape, strides: Shape | None
) -> list[Any]:
    steps = strides or (1,) * len(start_indices)
    config = []
    for start, step, size, out in zip(
        start_indices, steps, x.aval.shape, ct.aval.shape, strict=True
    ):
        covered = start + (out - 1) * step + 1 if out else start
        config.append((start, size - covered, step - 1))
    zero = Array(np.zeros((), ct.aval.dtype))
    return [pad(ct, zero, padding_config=tuple(config))]


def _slice_batch(
    axis_size: int,
    args: Sequence[Any],
    dims: Sequence[int],
    *,
    start_indices: Shape,
    limit_indices: Shape,
    strides: Shape | None,
) -> tuple[Any, int]:
    x = move_to_front(args[0], dims[0])
    out = slice_(
        x,
        start_indices=(0, *start_indices),
        limit_indices=(axis_size, *limit_indices),
        strides=None if strides is None else (1, *strides),
    )
    return out, 0


def _slice_lower(reader: Reader, index: Position, params: dict[str, Any]) -> int:
    steps = params["strides"] or (1,) * len(index)
    starts = params["start_indices"]
    return reader.read(0, tuple(i * s + o for i, s, o in zip(index, steps, starts, strict=True)))


slice_.shape = _slice_shape
slice_.impl = _slice_impl
slice_.jvp = linear_jvp(slice_)
slice_.transpose = _slice_transpose
slice_.batch = _slice_batch
slice_.lower = View(_slice_lower)


def _slice_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape, start, limit, strides in [
        ((7,), (1,), (6,), (2,)),
        ((7,), (2,), (2,), None),
        ((4, 5), (0, 1), (3, 5), None),
        ((4, 5), (1, 0), (4, 5), (2, 3)),
        ((), (), (), None),
    ]:
        params = {"start_indices": start, "limit_indices": limit, "strides": strides}
        yield Sample((random_array(rng, shape, dtype),), params, (0,))


registry.add(Op(slice_, registry.ALL, _slice_samples))


def slice_along(x: Any, axis: int, start: int, limit: int, stride: int | None = None) -> Any:
    """The elements from `start` up to `limit` along one axis, or every `stride`-th of them."""
    starts, limits, strides = [0] * x.ndim, list(x.shape), [1] * x.ndim
    starts[axis], limits[axis], strides[axis] = start, limit, stride or 1
    return slice_(
        x,
        start_indices=tuple(starts),
        limit_indices=tuple(limits),
        strides=None if stride is None else tuple(strides),
    )


pad = Primitive("pad")

PaddingConfig = tuple[tuple[int, int, int], ...]


def _pad_shape(x: ShapedArray, value: ShapedArray, *, padding_config: PaddingConfig) -> ShapedArray:
    if value.shape != () or value.dtype != x.dtype:
        raise ShapeError(f"pad: the padding value must be a scalar of {x.dtype}, got {value}")
    if len(padding_config) != x.ndim or any(interior < 0 for _, _, interior in padding_config):
        raise ShapeError(f"pad: padding_config {padding_config} does not fit {x}")
    sizes = tuple(
        low + high + size + max(size - 1, 0) * interior
        for size, (low, high, interior) in zip(x.shape, padding_config, strict=True)
    )
    if any(size < 0 for size in sizes):
        raise ShapeError(f"pad: padding_config {padding_config} removes more than {x} holds")
    return ShapedArray(sizes, x.dtype)


def _pad_impl(x: NDArray, value: NDArray, *, padding_config: PaddingConfig) -> NDArray:
    sizes = [
        max(low, 0) + max(high, 0) + size + max(size - 1, 0) * interior
        for size, (low, high, interior) in zip(x.shape, padding_config, strict=True)
    ]
    out = np.full(sizes, value, x.dtype)
    inside = tuple(
        slice(max(low, 0), max(low, 0) + size + max(size - 1, 0) * interior, interior + 1)
        for size, (low, _, interior) in zip(x.shape, padding_config, strict=True)
    )
    out[inside] = x
    return out[
        tuple(
            slice(max(-low, 0), size - max(-high, 0))
            for size, (low, high, _) in zip(sizes, padding_config, strict=True)
        )
    ]


def _pad_transpose(ct: Any, x: Any, value: Any, *, padding_config: PaddingConfig) -> list[Any]:
    from funcdl.ops.reduction import reduce_sum

    inside = _unpad(ct, padding_config)
    x_ct = inside if is_linear(x) else None
    if not is_linear(value):
        return [x_ct, None]
    everything = tuple(range(ct.ndim))
    total = reduce_sum(ct, axes=everything)
    return [x_ct, sub(total, reduce_sum(inside, axes=everything))]


def _unpad(ct: Any, padding_config: PaddingConfig) -> Any:
    """The elements of a padded array that came from the operand; zeros for those cut off."""
    zero = Array(np.zeros((), ct.aval.dtype))
    undo = tuple((-low, -high, 0) for low, high, _ in padding_config)
    ct = pad(ct, zero, padding_config=undo)
    steps = tuple(interior + 1 for _, _, interior in padding_config)
    if all(step == 1 for step in steps):
        return ct
    return slice_(ct, start_indices=(0,) * ct.ndim, limit_indices=ct.shape, strides=steps)


def _pad_batch(
    axis_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    padding_config: PaddingConfig,
) -> tuple[Any, int]:
    x, value = args
    if dims[1] is None:
        x = move_to_front(x, dims[0])
        return pad(x, value, padding_config=((0, 0, 0), *padding_config)), 0
    if dims[0] is None:
        x = broadcast_in_dim(
            x, shape=(axis_size, *x.shape), broadcast_dimensions=tuple(range(1, x.ndim + 1))
        )
    else:
        x = move_to_front(x, dims[0])
    config = ((0, 0, 0), *padding_config)
    padded = pad(x, Array(np.zeros((), x.aval.dtype)), padding_config=config)
    inside = pad(
        full(x.shape, True, np.dtype(bool)), Array(np.zeros((), bool)), padding_config=config
    )
    values = broadcast_in_dim(value, shape=padded.shape, broadcast_dimensions=(0,))
    return select_n(inside, values, padded), 0


def _pad_lower(reader: Reader, index: Position, params: dict[str, Any]) -> int:
    builder = reader.builder
    inner, checks = [], []
    for i, size, (low, _, interior) in zip(
        index, reader.aval(0).shape, params["padding_config"], strict=True
    ):
        place = i - low
        step = interior + 1
        lowest, highest = place.range()
        if lowest < 0:
            checks.append(compare(builder, "ge", place, 0))
        if highest > (size - 1) * step:
            checks.append(compare(builder, "le", place, (size - 1) * step))
        if step > 1:
            checks.append(compare(builder, "eq", place % step, 0))
        inner.append(place // step)
    if not checks:
        return reader.read(0, tuple(inner))
    mask = all_of(builder, checks)
    return builder.select(mask, reader.read(0, tuple(inner), mask), reader.read(1, ()))


pad.shape = _pad_shape
pad.impl = _pad_impl
pad.jvp = linear_jvp(pad)
pad.transpose = _pad_transpose
pad.batch = _pad_batch
pad.weak = lambda weak, **params: weak[0]
pad.lower = View(_pad_lower)


def _pad_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape, config in [
        ((3,), ((1, 2, 0),)),
        ((2, 3), ((0, 1, 2), (2, 0, 1))),
        ((4, 5), ((-1, 2, 0), (1, -2, 0))),
        ((0,), ((2, 1, 0),)),
        ((), ()),
    ]:
        args = (random_array(rng, shape, dtype), random_array(rng, (), dtype))
        yield Sample(args, {"padding_config": config}, (0, 1))


registry.add(Op(pad, registry.ALL, _pad_samples))


concatenate = Primitive("concatenate")


def _concatenate_shape(*xs: ShapedArray, dimension: int) -> ShapedArray:
    first = xs[0]
    for x in xs:
        rest = [s for i, s in enumerate(x.shape) if i != dimension]
        if x.dtype != first.dtype or rest != [
            s for i, s in enumerate(first.shape) if i != dimension
        ]:
            raise ShapeError(
                f"concatenate: operands differ apart from dimension {dimension}: "
                + ", ".join(map(str, xs))
            )
    if not 0 <= dimension < first.ndim:
        raise ShapeError(f"concatenate: dimension {dimension} does not fit {first}")
    sizes = list(first.shape)
    sizes[dimension] = sum(x.shape[dimension] for x in xs)
    return ShapedArray(tuple(sizes), first.dtype)


def _concatenate_transpose(ct: Any, *xs: Any, dimension: int) -> list[Any]:
    cts: list[Any] = []
    start = 0
    for x in xs:
        limit = start + x.aval.shape[dimension]
        if is_linear(x):
            cts.append(slice_along(ct, dimension, start, limit))
        else:
            cts.append(None)
        start = limit
    return cts


def _concatenate_batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int | None], *, dimension: int
) -> tuple[Any, int]:
    xs = [
        broadcast_in_dim(
            x, shape=(axis_size, *x.shape), broadcast_dimensions=tuple(range(1, x.ndim + 1))
        )
        if dim is None
        else move_to_front(x, dim)
        for x, dim in zip(args, dims, strict=True)
    ]
    return concatenate(*xs, dimension=dimension + 1), 0


def _concatenate_lower(reader: Reader, index: Position, params: dict[str, Any]) -> int:
    builder = reader.builder
    dimension = params["dimension"]
    operand, start, value = 0, 0, None
    while start < reader.out_aval.shape[dimension] or value is None:
        size = reader.aval(operand).shape[dimension]
        if size or start >= reader.out_aval.shape[dimension]:
            place = index[dimension] - start
            inner = (*index[:dimension], place, *index[dimension + 1 :])
            low, high = place.range()
            checks = [compare(builder, "ge", place, 0)] if low < 0 else []
            if high >= size:
                checks.append(compare(builder, "lt", place, size))
            mask = all_of(builder, checks) if checks else None
            part = reader.read(operand, inner, mask)
            if value is None:
                value = part
            else:
                after = compare(builder, "ge", index[dimension], start)
                value = builder.select(after, part, value)
        start += size
        operand += 1
    return value


concatenate.shape = _concatenate_shape
concatenate.impl = lambda *xs, dimension: np.concatenate(xs, axis=dimension)
concatenate.jvp = linear_jvp(concatenate)
concatenate.transpose = _concatenate_transpose
concatenate.batch = _concatenate_batch
concatenate.lower = View(_concatenate_lower)


def _concatenate_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shapes, dimension in [
        (((2,), (3,)), 0),
        (((2, 3), (2, 1), (2, 0)), 1),
        (((1, 3), (4, 3)), 0),
        (((3,),), 0),
    ]:
        args = tuple(random_array(rng, shape, dtype) for shape in shapes)
        yield Sample(args, {"dimension": dimension}, tuple(range(len(args))))


registry.add(Op(concatenate, registry.ALL, _concatenate_samples))
