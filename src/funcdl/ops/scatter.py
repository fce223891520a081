"""Primitives that update windows at computed positions, as `jax.lax.scatter` and its kin.

Where updates meet, `scatter` keeps the last one in row-major order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_linear, is_zero
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.arithmetic import div, mul
from funcdl.ops.comparison import eq
from funcdl.ops.convert import convert_element_type
from funcdl.ops.gather import gather, window_samples
from funcdl.ops.indexed_windows import (
    Dims,
    GatherDimensionNumbers,
    GatherScatterMode,
    Windows,
    check_index_dtype,
    find_rows,
    find_windows,
    lower_windows,
)
from funcdl.ops.jvp_rules import add_tangents
from funcdl.ops.lowering import Position, Reader, Update, compute_dtype
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.repeated_products import product_of_others
from funcdl.ops.rows import broadcast_batch
from funcdl.ops.select import select_n
from funcdl.ops.shape import full, instantiate, iota, move_to_front, reshape
from funcdl.ops.slicing import slice_along

if TYPE_CHECKING:
    from funcdl.kir.ir import UpdateOp

NDArray = np.ndarray[Any, Any]
Combine = Callable[[NDArray, NDArray, NDArray], None]


class ScatterDimensionNumbers(NamedTuple):
    """How the dimensions of a scatter's operand, indices and updates belong together (as in JAX).

    The fields are those of the gather that would read the same windows.

    Attributes:
      update_window_dims: dimensions of the updates that run over the window, sorted.
      inserted_window_dims: operand dimensions whose window has size 1 and is left out, sorted.
      scatter_dims_to_operand_dims: the operand dimension for each component of an index vector.
      operand_batching_dims: operand dimensions that run along with a dimension of the indices.
      scatter_indices_batching_dims: those dimensions of the indices, in the same order.
    """

    update_window_dims: Dims
    inserted_window_dims: Dims
    scatter_dims_to_operand_dims: Dims
    operand_batching_dims: Dims = ()
    scatter_indices_batching_dims: Dims = ()


def _windows(
    name: str, operand: Shape, indices: Shape, updates: Shape, numbers: ScatterDimensionNumbers
) -> Windows:
    """The windows that a scatter updates; checks that the updates have their shape."""
    if not isinstance(numbers, ScatterDimensionNumbers):
        raise ArgumentError(
            f"{name}: dimension_numbers must be a funcdl.lax.ScatterDimensionNumbers, got "
            f"{shortened(numbers)}"
        )
    expected = len(indices) - 1 + len(numbers.update_window_dims)
    if len(updates) != expected or any(not 0 <= d < expected for d in numbers.update_window_dims):
        raise ShapeError(
            f"{name}: updates must have {expected} dimensions, those of the indices but the last "
            f"and update_window_dims={numbers.update_window_dims}, got shape {updates}"
        )
    window = iter(updates[d] for d in numbers.update_window_dims)
    inserted, batching = numbers.inserted_window_dims, numbers.operand_batching_dims
    sizes = tuple(
        1 if d in inserted else min(size, 1) if d in batching else next(window, 0)
        for d, size in enumerate(operand)
    )
    windows = find_windows(name, operand, indices, GatherDimensionNumbers(*numbers), sizes)
    if windows.shape != updates:
        raise ShapeError(
            f"{name}: updates must have shape {windows.shape} for indices of shape {indices} and "
            f"update_window_dims={numbers.update_window_dims}, got {updates}"
        )
    return windows


def _check_dtypes(name: str, operand: Any, indices: Any, updates: Any) -> None:
    check_index_dtype(name, indices.dtype)
    if operand.dtype != updates.dtype:
        raise DtypeError(
            f"{name} requires operand and updates of equal dtype, got {operand.dtype.name} and "
            f"{updates.dtype.name}.\nPrimitives do not promote; the functions of funcdl.numpy do."
        )


def _scatter(name: str, op: UpdateOp, accepts: tuple[str, ...], combine: Combine) -> Primitive:
    """A scatter with all of its rules but the derivative.

    ``combine(rows, index, updates)`` updates rows of a matrix in place.
    """
    primitive = Primitive(name)

    def shape(
        operand: ShapedArray,
        indices: ShapedArray,
        updates: ShapedArray,
        *,
        dimension_numbers: ScatterDimensionNumbers,
        **params: Any,
    ) -> ShapedArray:
        _check_dtypes(name, operand, indices, updates)
        if dtypes.short_name(operand.dtype) not in accepts:
            raise DtypeError(f"{name} does not accept {operand}; it takes {', '.join(accepts)}")
        _windows(name, operand.shape, indices.shape, updates.shape, dimension_numbers)
        return ShapedArray(operand.shape, operand.dtype)

    def impl(
        operand: NDArray,
        indices: NDArray,
        updates: NDArray,
        *,
        dimension_numbers: ScatterDimensionNumbers,
        mode: GatherScatterMode,
        **hints: bool,
    ) -> NDArray:
        _check_dtypes(name, operand, indices, updates)
        windows = _windows(name, operand.shape, indices.shape, updates.shape, dimension_numbers)
        rows = find_rows(windows, indices, drop=mode is not GatherScatterMode.CLIP)
        dtype = operand.dtype if op == "set" else compute_dtype(operand.dtype)
        out = np.array(rows.of_operand(operand), dtype)
        index, values = rows.index, rows.of_windows(updates).astype(dtype, copy=False)
        if rows.inside is not None and not rows.inside.all():
            index, values = index[rows.inside], values[rows.inside]
        with np.errstate(all="ignore"):
            combine(out, index, values)
            return rows.to_operand(out, operand.shape).astype(operand.dtype, copy=False)

    primitive.shape = shape
    primitive.impl = impl
    primitive.weak = lambda weak, **params: weak[0] and weak[2]
    primitive.batch = _scatter_batch(primitive)
    primitive.lower = Update(op, _scatter_lower(name))
    return primitive


def _scatter_lower(name: str) -> Callable[..., tuple[Position, int | None]]:
    def rule(
        reader: Reader, index: Position, params: dict[str, Any]
    ) -> tuple[Position, int | None]:
        operand, indices, updates = (reader.aval(number).shape for number in range(3))
        windows = _windows(name, operand, indices, updates, params["dimension_numbers"])
        drop = params["mode"] is not GatherScatterMode.CLIP
        return lower_windows(reader, windows, index, drop)

    return rule


def _scatter_batch(primitive: Primitive) -> Callable[..., tuple[Any, int]]:
    def batch(
        axis_size: int,
        args: Sequence[Any],
        dims: Sequence[int | None],
        *,
        dimension_numbers: ScatterDimensionNumbers,
        **params: Any,
    ) -> tuple[Any, int]:
        operand, indices, updates = (
            move_to_front(x, dim) if dim is not None or at == 1 else broadcast_batch(x, axis_size)
            for at, (x, dim) in enumerate(zip(args, dims, strict=True))
        )
        window_dims, inserted, index_map, batching, indices_batching = (
            tuple(d + 1 for d in field) for field in dimension_numbers
        )
        if dims[1] is None:
            # Each window takes the whole batch along.
            window_dims = (0, *window_dims)
            indices_batching = dimension_numbers.scatter_indices_batching_dims
        else:
            batching, indices_batching = (0, *batching), (0, *indices_batching)
        numbers = ScatterDimensionNumbers(
            window_dims, inserted, index_map, batching, indices_batching
        )
        return primitive(operand, indices, updates, dimension_numbers=numbers, **params), 0

    return batch


def gather_windows(
    x: Any,
    indices: Any,
    updates: Shape,
    *,
    dimension_numbers: ScatterDimensionNumbers,
    indices_are_sorted: bool,
    unique_indices: bool,
    mode: GatherScatterMode,
) -> Any:
    """Read from `x` the windows that a scatter with these parameters writes; 0 where it drops."""
    windows = _windows("scatter", x.shape, indices.shape, updates, dimension_numbers)
    drop = mode is not GatherScatterMode.CLIP
    return gather(
        x,
        indices,
        dimension_numbers=windows.numbers,
        slice_sizes=windows.sizes,
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
        mode=GatherScatterMode.FILL_OR_DROP if drop else mode,
        fill_value=0,
    )


def _linear_jvp(primitive: Primitive) -> Callable[..., tuple[Any, Any]]:
    """The jvp rule of a scatter that is linear in operand and updates together."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        operand, indices, updates = primals
        t_operand, _, t_updates = tangents
        out = primitive(operand, indices, updates, **params)
        if is_zero(t_operand) and is_zero(t_updates):
            return out, Zero(out.aval.to_tangent())
        return out, primitive(instantiate(t_operand), indices, instantiate(t_updates), **params)

    return jvp


def _samples(unique: bool) -> registry.SampleMaker:
    """Sample calls; with `unique`, only those in which no two updates meet, and they say so."""

    def samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
        for shape, indices, numbers, sizes, mode in window_samples():
            windows = find_windows("scatter", shape, indices.shape, numbers, sizes)
            rows = find_rows(windows, indices, drop=mode is not GatherScatterMode.CLIP)
            used = rows.index if rows.inside is None else rows.index[rows.inside]
            if unique and len(np.unique(used)) != len(used):
                continue
            params = {
                "dimension_numbers": ScatterDimensionNumbers(*numbers),
                "indices_are_sorted": False,
                "unique_indices": unique,
                "mode": mode,
            }
            operand = random_array(rng, shape, dtype)
            updates = random_array(rng, windows.shape, dtype)
            yield Sample((operand, indices, updates), params, (0, 2))

    return samples


def _set(out: NDArray, index: NDArray, values: NDArray) -> None:
    out[index] = values


def _set_transpose(ct: Any, operand: Any, indices: Any, updates: Any, **params: Any) -> list[Any]:
    operand_ct = updates_ct = None
    if is_linear(operand):
        blank = full(updates.aval.shape, 0, ct.dtype)
        operand_ct = scatter(ct, indices, blank, **params)
    if is_linear(updates):
        shape = updates.aval.shape
        updates_ct = gather_windows(ct, indices, shape, **params)
        if not params["unique_indices"]:
            won = _winners(operand.aval.shape, indices, shape, **params)
            updates_ct = select_n(won, full(shape, 0, ct.dtype), updates_ct)
    return [operand_ct, None, updates_ct]


def _winners(operand: Shape, indices: Any, updates: Shape, **params: Any) -> Any:
    """Which elements of the updates a scatter leaves in its output.

    Updates are numbered and the numbers scattered: those that can be read back have won. (The
    first one may count as a winner although it was dropped; its cotangent is 0 then anyway.)
    """
    size = math.prod(updates)
    dtype = np.dtype(np.int32 if size <= 2**31 else np.int64)
    numbers = reshape(iota(dtype=dtype, shape=(size,), dimension=0), new_sizes=updates)
    written = scatter(full(operand, 0, dtype), indices, numbers, **params)
    return eq(gather_windows(written, indices, updates, **params), numbers)


scatter = _scatter("scatter", "set", registry.ALL, _set)
scatter.jvp = _linear_jvp(scatter)
scatter.transpose = _set_transpose
registry.add(Op(scatter, registry.ALL, _samples(unique=False)))


def _add_transpose(ct: Any, operand: Any, indices: Any, updates: Any, **params: Any) -> list[Any]:
    operand_ct = ct if is_linear(operand) else None
    if not is_linear(updates):
        return [operand_ct, None, None]
    return [operand_ct, None, gather_windows(ct, indices, updates.aval.shape, **params)]


scatter_add = _scatter("scatter_add", "add", registry.NUMBERS, np.add.at)
scatter_add.jvp = _linear_jvp(scatter_add)
scatter_add.transpose = _add_transpose
registry.add(Op(scatter_add, registry.NUMBERS, _samples(unique=False)))


def _mul_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    operand, indices, updates = primals
    t_operand, _, t_updates = tangents
    out = scatter_mul(operand, indices, updates, **params)
    parts = []
    if not is_zero(t_operand):
        parts.append(scatter_mul(t_operand, indices, updates, **params))
    if not is_zero(t_updates):
        if not params["unique_indices"]:
            t_updates = mul(t_updates, _others(operand.shape, indices, updates, **params))
        blank = full(operand.shape, 0, operand.dtype)
        spread = scatter_add(blank, indices, t_updates, **params)
        parts.append(mul(operand, spread))
    return out, add_tangents(parts, out.aval)


def _others(operand: Shape, indices: Any, updates: Any, **params: Any) -> Any:
    """For each update the product of all others that go to the same element."""
    shape = updates.aval.shape
    flat = (math.prod(shape),)
    places = reshape(numbers_of_elements(operand, indices, shape, **params), new_sizes=flat)
    return reshape(product_of_others(places, reshape(updates, new_sizes=flat)), new_sizes=shape)


def numbers_of_elements(operand: Shape, indices: Any, updates: Shape, **params: Any) -> Any:
    """The element of the operand that each update of a scatter goes to, and 0 if it is dropped.

    Elements are numbered from 1, in row-major order.
    """
    size = math.prod(operand)
    dtype = np.dtype(np.int32 if size < 2**31 - 1 else np.int64)
    numbers = slice_along(iota(dtype=dtype, shape=(size + 1,), dimension=0), 0, 1, size + 1)
    return gather_windows(reshape(numbers, new_sizes=operand), indices, updates, **params)


def _mul_transpose(ct: Any, operand: Any, indices: Any, updates: Any, **params: Any) -> list[Any]:
    assert is_linear(operand) and not is_linear(updates)
    return [scatter_mul(ct, indices, updates, **params), None, None]


scatter_mul = _scatter("scatter_mul", "mul", registry.NUMBERS, np.multiply.at)
scatter_mul.jvp = _mul_jvp
scatter_mul.transpose = _mul_transpose
registry.add(Op(scatter_mul, registry.NUMBERS, _samples(unique=False)))


def _extreme_jvp(primitive: Primitive) -> Callable[..., tuple[Any, Any]]:
    """Values that share the extreme share its derivative equally, as in JAX."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        operand, indices, updates = primals
        t_operand, _, t_updates = tangents
        out = primitive(operand, indices, updates, **params)
        if is_zero(t_operand) and is_zero(t_updates):
            return out, Zero(out.aval.to_tangent())

        def indicator(x: Any, y: Any) -> Any:
            return convert_element_type(eq(x, y), new_dtype=out.dtype, weak_type=False)

        kept = indicator(operand, out)
        won = indicator(updates, gather_windows(out, indices, updates.shape, **params))
        count = scatter_add(kept, indices, won, **params)
        t_operand, t_updates = instantiate(t_operand), instantiate(t_updates)
        total = scatter_add(mul(t_operand, kept), indices, mul(t_updates, won), **params)
        return out, div(total, count)

    return jvp


_ORDERED = registry.BOOL + registry.REAL

scatter_min = _scatter("scatter_min", "min", _ORDERED, np.minimum.at)
scatter_min.jvp = _extreme_jvp(scatter_min)
registry.add(Op(scatter_min, _ORDERED, _samples(unique=False)))

scatter_max = _scatter("scatter_max", "max", _ORDERED, np.maximum.at)
scatter_max.jvp = _extreme_jvp(scatter_max)
registry.add(Op(scatter_max, _ORDERED, _samples(unique=False)))
