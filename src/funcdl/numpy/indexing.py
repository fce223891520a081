"""Read elements by index: ``x[index]``, take, take_along_axis, where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.compound import by_parts
from funcdl.core.device_buffer import DeviceBuffer
from funcdl.core.options import flag
from funcdl.core.trace import context, eval_trace
from funcdl.errors import ArgumentError, DtypeError, IndexingError, ShapeError
from funcdl.numpy import promotion
from funcdl.numpy.index_plan import Plan, plan_index, with_axes_for_bools, wrap
from funcdl.numpy.logic import truth
from funcdl.numpy.promotion import ArrayLike, array, promote_dtypes, refuse_out
from funcdl.numpy.reductions import normalize_axis
from funcdl.numpy.searching import find_nonzero
from funcdl.ops.arithmetic import add, rem
from funcdl.ops.comparison import lt
from funcdl.ops.dynamic import dynamic_slice
from funcdl.ops.gather import gather
from funcdl.ops.indexed_windows import GatherDimensionNumbers, GatherScatterMode
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_to, full_like, reshape, rev
from funcdl.ops.slicing import slice_

__all__ = [
    "select",
    "take",
    "take_along_axis",
    "where",
]

Mode = str | GatherScatterMode | None

_BASIC = frozenset([int, slice, type(None), type(Ellipsis)])


def getitem(x: Any, index: Any) -> Any:
    """``x[index]``, with NumPy's meaning (see `index_plan.plan_index` for errors).

    Index arrays and traced integers out of range are moved to the nearest element, as in JAX.
    """
    if _is_on_host(x) and context.trace is eval_trace and _is_basic(index):
        value = x.value
        try:
            out = value[index]
        except IndexError:
            pass  # The message below says more.
        else:
            if type(out) is np.ndarray:
                # A view: its memory has two owners now, so neither may donate it.
                out.flags.writeable = value.flags.writeable = False
            return Array(out, x.weak_type)
    shape, index = with_axes_for_bools(x.aval.shape, index)
    return read(
        x if shape == x.aval.shape else reshape(x, new_sizes=shape), plan_index(shape, index)
    )


def _is_on_host(x: Any) -> bool:
    return type(x) is Array and not isinstance(x._value, DeviceBuffer)


def _is_basic(index: Any) -> bool:
    kind = type(index)
    if kind is tuple:
        return all(type(entry) in _BASIC for entry in index)
    return kind in _BASIC


def read(
    x: Any,
    plan: Plan,
    *,
    mode: Mode = GatherScatterMode.PROMISE_IN_BOUNDS,
    fill_value: Any = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
) -> Any:
    """The elements that a plan chooses."""
    out = read_region(x, plan)
    if plan.arrays:
        mode = GatherScatterMode.from_any(mode)
        inside = mode is GatherScatterMode.PROMISE_IN_BOUNDS
        if plan.batch == () and (inside or mode is GatherScatterMode.CLIP):
            out = _read_slice(out, plan)
        else:
            numbers, sizes = plan.window_numbers()
            out = gather(
                out,
                plan.index_vectors(),
                dimension_numbers=numbers,
                slice_sizes=sizes,
                indices_are_sorted=indices_are_sorted,
                unique_indices=unique_indices,
                mode=mode,
                fill_value=fill_value,
            )
    return out if out.aval.shape == plan.shape else reshape(out, new_sizes=plan.shape)


def _read_slice(x: Any, plan: Plan) -> Any:
    """One window at a computed place."""
    _, sizes = plan.window_numbers()
    computed = dict(plan.arrays)
    dtype = plan.arrays[0][1].aval.dtype
    starts = [computed.get(d, Array(np.zeros((), dtype))) for d in range(len(sizes))]
    return dynamic_slice(x, *starts, slice_sizes=sizes)


def read_region(x: Any, plan: Plan) -> Any:
    """The static part of a plan: the region, with all of the array's dimensions."""
    shape = x.aval.shape
    if all(extent.is_whole(size) for extent, size in zip(plan.region, shape, strict=True)):
        return x
    starts, limits, steps = [], [], []
    for extent in plan.region:
        # A slice backwards is one forwards, reversed.
        last = extent.start + max(extent.count - 1, 0) * extent.step
        low, high = (last, extent.start) if extent.step < 0 else (extent.start, last)
        starts.append(low if extent.count else 0)
        limits.append(high + 1 if extent.count else 0)
        steps.append(abs(extent.step))
    backwards = tuple(
        d for d, extent in enumerate(plan.region) if extent.step < 0 and extent.count > 1
    )
    out = slice_(
        x,
        start_indices=tuple(starts),
        limit_indices=tuple(limits),
        strides=None if all(step == 1 for step in steps) else tuple(steps),
    )
    return rev(out, dimensions=backwards) if backwards else out


@by_parts
def take(
    a: ArrayLike,
    indices: ArrayLike,
    axis: int | None = None,
    out: None = None,
    mode: str | None = None,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    fill_value: Any = None,
) -> Any:
    """Elements or slices at `indices` along an axis (see `jax.numpy.take`).

    Args:
      a: the array.
      indices: integers, of any shape, which takes the axis's place in the result.
      axis: the dimension; None: all elements in row-major order.
      out: must be None.
      mode: what becomes of indices out of range. "fill" (the default): the result is `fill_value`
        there; "clip": they are moved to the nearest element; "wrap": they start over. Except for
        "clip", negative indices count from the end.
      unique_indices, indices_are_sorted: promises that can make it faster.
      fill_value: by default NaN, or the least (unsigned: the largest) integer.

    Raises:
      DtypeError: the indices are no integers.
      ArgumentError: an unknown mode, or no such axis.
      IndexingError: the axis has no elements to take.
    """
    refuse_out("take", out)
    a, places = array("take", a), _integers("take", indices)
    if axis is None:
        a, axis = reshape(a, new_sizes=(a.aval.size,)), 0
    axis = normalize_axis("take", axis, a.aval.ndim)
    shape = a.aval.shape
    size = shape[axis]
    places, gather_mode = _resolve(places, size, mode)
    if size == 0 and places.aval.size:
        raise IndexingError(f"take: axis {axis} of {a.aval} has no elements to take")
    rank = places.aval.ndim
    kept = [d for d in range(len(shape)) if d != axis]
    numbers = GatherDimensionNumbers(
        tuple(d if d < axis else d + rank - 1 for d in kept), (axis,), (axis,)
    )
    return gather(
        a,
        reshape(places, new_sizes=(*places.aval.shape, 1)),
        dimension_numbers=numbers,
        slice_sizes=tuple(1 if d == axis else n for d, n in enumerate(shape)),
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
        mode=gather_mode,
        fill_value=fill_value,
    )


def take_along_axis(
    arr: ArrayLike,
    indices: ArrayLike,
    axis: int | None = -1,
    mode: str | None = None,
    fill_value: Any = None,
    wrap_negative_indices: bool = True,
) -> Any:
    """Elements at `indices` along an axis, each row with its own (`jax.numpy.take_along_axis`).

    Args:
      arr: the array.
      indices: integers with as many dimensions; those other than `axis` broadcast.
      axis: the dimension; None: all elements in row-major order.
      mode, fill_value: as for `take`.
      wrap_negative_indices: whether negative indices count from the end, or are out of range.

    Raises:
      DtypeError: the indices are no integers.
      ShapeError: the dimensions do not fit.
    """
    arr, places = array("take_along_axis", arr), _integers("take_along_axis", indices)
    if axis is None:
        arr, axis = reshape(arr, new_sizes=(arr.aval.size,)), 0
    if places.aval.ndim != arr.aval.ndim:
        raise ShapeError(
            f"take_along_axis: indices must have as many dimensions as the array, got "
            f"{places.aval} for {arr.aval}; insert one with indices[..., None]"
        )
    axis = normalize_axis("take_along_axis", axis, arr.aval.ndim)
    own, chosen = list(arr.aval.shape), list(places.aval.shape)
    size, count = own[axis], chosen[axis]
    own[axis] = chosen[axis] = 1
    common = promotion.broadcast_shapes(tuple(own), tuple(chosen), name="take_along_axis")
    arr = broadcast_to(arr, (*common[:axis], size, *common[axis + 1 :]))
    places = broadcast_to(places, (*common[:axis], count, *common[axis + 1 :]))
    wrap_negative = flag("take_along_axis: wrap_negative_indices", wrap_negative_indices)
    places, gather_mode = _resolve(places, size, mode, wrap_negative)
    others = tuple(d for d in range(len(common)) if d != axis)
    return gather(
        arr,
        reshape(places, new_sizes=(*places.aval.shape, 1)),
        dimension_numbers=GatherDimensionNumbers((), (axis,), (axis,), others, others),
        slice_sizes=(1,) * len(common),
        indices_are_sorted=False,
        unique_indices=False,
        mode=gather_mode,
        fill_value=fill_value,
    )


def _integers(name: str, indices: ArrayLike) -> Any:
    indices = array(name, indices)
    if not dtypes.is_integer(indices.aval.dtype):
        raise DtypeError(
            f"{name}: indices must be integers, got {indices.aval}; convert them with .astype(int)"
        )
    return indices


def _resolve(
    places: Any, size: int, mode: str | None, wrap_negative: bool = True
) -> tuple[Any, GatherScatterMode]:
    """Indices counted from the front, and the gather's mode."""
    if isinstance(mode, str) and mode == "wrap":
        places = wrap(places, 0)
        divisor = full_like(places, max(size, 1))
        rest = rem(places, divisor)
        negative = lt(rest, full_like(rest, 0))
        return select_n(negative, rest, add(rest, divisor)), GatherScatterMode.PROMISE_IN_BOUNDS
    chosen = GatherScatterMode.from_any(mode)
    added = size if wrap_negative and chosen is not GatherScatterMode.CLIP else 0
    return wrap(places, added), chosen


@by_parts
def where(
    condition: ArrayLike,
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    /,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """Elements of `x` where the condition is true, else of `y` (see `jax.numpy.where`).

    The three broadcast; the dtypes of `x` and `y` are promoted. With the condition alone, as
    `nonzero`, which `size` and `fill_value` are for.

    Raises:
      ArgumentError: one of `x` and `y` is missing, or `size` or `fill_value` are given with both.
    """
    if x is None and y is None:
        return find_nonzero("where with one argument", condition, size, fill_value)
    if size is not None or fill_value is not None:
        raise ArgumentError("where: size and fill_value are for where with one argument")
    if x is None or y is None:
        raise ArgumentError("where: give both x and y, or neither")
    x, y = promote_dtypes("where", x, y)
    mask, x, y = promotion.broadcast("where", truth("where", condition), x, y)
    return select_n(mask, y, x)


def select(condlist: Any, choicelist: Any, default: ArrayLike = 0) -> Any:
    """For each element, the first choice whose condition is true (see `numpy.select`).

    Args:
      condlist: bool arrays.
      choicelist: as many arrays; all broadcast with the conditions, and their dtypes are promoted.
      default: the elements for which no condition is true.

    Raises:
      ArgumentError: there are no conditions, or not as many choices.
      ShapeError: the shapes do not broadcast.
    """
    if not all(isinstance(xs, Sequence) for xs in (condlist, choicelist)):
        raise ArgumentError(
            "select: condlist and choicelist must be lists of arrays, got "
            f"{type(condlist).__name__} and {type(choicelist).__name__}"
        )
    if len(condlist) != len(choicelist) or not condlist:
        raise ArgumentError(
            f"select: each condition needs a choice, got {len(condlist)} and {len(choicelist)}"
        )
    *choices, out = promote_dtypes("select", *choicelist, default)
    for condition, choice in zip(condlist[::-1], choices[::-1], strict=True):
        out = where(condition, choice, out)
    return out
