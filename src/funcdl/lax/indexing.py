"""Read and update windows at computed places; parameters as in `jax.lax`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.control import fori_loop
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.integers import integers
from funcdl.core.options import flag, sequence
from funcdl.core.primitive import Primitive
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.lax.naming import publish
from funcdl.lax.operands import ArrayLike
from funcdl.lax.shaping import concatenate, reshape, squeeze
from funcdl.numpy import where
from funcdl.numpy.creation import full, full_like, shape_of
from funcdl.numpy.index_plan import wrap
from funcdl.numpy.promotion import array, convert, promote_dtypes
from funcdl.numpy.promotion import operand as to_operand
from funcdl.numpy.reductions import normalize_axis
from funcdl.ops import dynamic
from funcdl.ops import gather as gathering
from funcdl.ops import scatter as scattering
from funcdl.ops.indexed_windows import GatherDimensionNumbers, GatherScatterMode
from funcdl.ops.scatter import ScatterDimensionNumbers
from funcdl.transforms.arguments import check_function

Mode = str | GatherScatterMode | None


Negative = bool | Sequence[bool]


def _starts(
    name: str, x: Any, start_indices: Sequence[ArrayLike] | ArrayLike, negative: Negative
) -> list[Any]:
    """Starts of one dtype, negative ones counted from the end where `negative` says so."""
    try:
        starts = list(start_indices)
    except TypeError:
        raise ArgumentError(
            f"{name}: start_indices must be a sequence of one index for each of the {x.ndim} "
            f"dimensions of {x.aval}, got {shortened(start_indices)}"
        ) from None
    if len(starts) != x.ndim:
        raise ShapeError(
            f"{name}: a start is needed for each of the {x.ndim} dimensions of {x.aval}, got "
            f"{len(starts)}"
        )
    if not starts:
        return []
    flags: Any = negative
    flags = tuple(flags) if isinstance(flags, Sequence) else (flags,) * x.ndim
    if len(flags) != x.ndim or not all(isinstance(f, bool) for f in flags):
        raise ArgumentError(
            f"{name}: allow_negative_indices must be a bool, or one for each of the {x.ndim} "
            f"dimensions of {x.aval}, got {flags}"
        )
    promoted = promote_dtypes(name, *starts)
    if not dtypes.is_integer(promoted[0].aval.dtype):
        raise DtypeError(
            f"{name}: start indices must be integers, got {promoted[0].aval.dtype.name}; convert "
            "them with .astype(int)"
        )
    return [
        wrap(start, size) if flag else start
        for start, size, flag in zip(promoted, x.aval.shape, flags, strict=True)
    ]


def dynamic_slice(
    operand: ArrayLike,
    start_indices: Sequence[ArrayLike] | ArrayLike,
    slice_sizes: Sequence[int],
    *,
    allow_negative_indices: Negative = True,
) -> Any:
    """A slice of fixed size at computed starts (see `jax.lax.dynamic_slice`).

    Args:
      operand: the array.
      start_indices: one integer for each dimension; negative ones count from the end, and the
        slice is moved into the array where it would reach outside.
      slice_sizes: Python integers.
      allow_negative_indices: whether negative starts count from the end, for all dimensions or for
        each; else they are moved to 0.

    Raises:
      ShapeError: sizes or starts do not fit.
      DtypeError: a start is no integer.
      ArgumentError: `allow_negative_indices` has another number of entries than dimensions.
    """
    x = array("dynamic_slice", operand)
    starts = _starts("dynamic_slice", x, start_indices, allow_negative_indices)
    return dynamic.dynamic_slice(x, *starts, slice_sizes=shape_of(slice_sizes, "slice_sizes"))


def dynamic_slice_in_dim(
    operand: ArrayLike,
    start_index: ArrayLike,
    slice_size: int,
    axis: int = 0,
    *,
    allow_negative_indices: bool = True,
) -> Any:
    """As `dynamic_slice`, along one dimension; the others are kept whole.

    Args:
      operand: the array.
      start_index: an integer, which may be traced.
      slice_size: a Python integer.
      axis: the dimension.
      allow_negative_indices: as for `dynamic_slice`.

    Raises:
      ArgumentError: there is no such axis.
      ShapeError: the size does not fit, or the start is no scalar.
    """
    x = array("dynamic_slice_in_dim", operand)
    axis = normalize_axis("dynamic_slice_in_dim", axis, x.ndim)
    sizes = list(x.aval.shape)
    sizes[axis] = slice_size
    return dynamic_slice(
        x,
        _at(x, start_index, axis),
        sizes,
        allow_negative_indices=allow_negative_indices,
    )


def dynamic_index_in_dim(
    operand: ArrayLike,
    index: ArrayLike,
    axis: int = 0,
    keepdims: bool = True,
    *,
    allow_negative_indices: bool = True,
) -> Any:
    """The elements at a computed place along one dimension.

    Args:
      operand: the array.
      index: the place, an integer, which may be traced.
      axis: the dimension.
      keepdims: whether it stays, with size 1.
      allow_negative_indices: as for `dynamic_slice`.

    Raises:
      ArgumentError: there is no such axis.
    """
    keepdims = flag("dynamic_index_in_dim: keepdims", keepdims)
    out = dynamic_slice_in_dim(
        operand, index, 1, axis, allow_negative_indices=allow_negative_indices
    )
    return out if keepdims else squeeze(out, (axis,))


def dynamic_update_slice(
    operand: ArrayLike,
    update: ArrayLike,
    start_indices: Sequence[ArrayLike] | ArrayLike,
    *,
    allow_negative_indices: Negative = True,
) -> Any:
    """The array with a slice at computed starts replaced (see `jax.lax.dynamic_update_slice`).

    Args:
      operand: the array.
      update: what to write, of as many dimensions, each at most as large.
      start_indices, allow_negative_indices: as for `dynamic_slice`.

    Raises:
      ShapeError: update or starts do not fit.
      DtypeError: the dtypes differ.
      ArgumentError: `allow_negative_indices` has another number of entries than dimensions.
    """
    x = array("dynamic_update_slice", operand)
    value = convert_scalar("dynamic_update_slice", update, x)
    starts = _starts("dynamic_update_slice", x, start_indices, allow_negative_indices)
    return dynamic.dynamic_update_slice(x, value, *starts)


def dynamic_update_slice_in_dim(
    operand: ArrayLike,
    update: ArrayLike,
    start_index: ArrayLike,
    axis: int,
    *,
    allow_negative_indices: bool = True,
) -> Any:
    """As `dynamic_update_slice`, along one dimension.

    Args:
      operand: the array.
      update: what to write, of as many dimensions, each at most as large.
      start_index: an integer, which may be traced.
      axis: the dimension; along others the update begins at 0.
      allow_negative_indices: as for `dynamic_slice`.

    Raises:
      ArgumentError: there is no such axis.
      ShapeError, DtypeError: the update does not fit.
    """
    x = array("dynamic_update_slice_in_dim", operand)
    axis = normalize_axis("dynamic_update_slice_in_dim", axis, x.ndim)
    return dynamic_update_slice(
        x,
        update,
        _at(x, start_index, axis),
        allow_negative_indices=allow_negative_indices,
    )


def dynamic_update_index_in_dim(
    operand: ArrayLike,
    update: ArrayLike,
    index: ArrayLike,
    axis: int,
    *,
    allow_negative_indices: bool = True,
) -> Any:
    """The array with the elements at a computed place along one dimension replaced.

    Args:
      operand: the array.
      update: what to write; it may lack the dimension, or have it with size 1.
      index: the place, an integer, which may be traced.
      axis: the dimension.
      allow_negative_indices: as for `dynamic_slice`.

    Raises:
      ArgumentError: there is no such axis.
      ShapeError, DtypeError: the update does not fit.
    """
    x = array("dynamic_update_index_in_dim", operand)
    axis = normalize_axis("dynamic_update_index_in_dim", axis, x.ndim)
    value = convert_scalar("dynamic_update_index_in_dim", update, x)
    if value.ndim != x.ndim:
        shape = value.aval.shape
        value = reshape(value, (*shape[:axis], 1, *shape[axis:]))
    return dynamic_update_slice_in_dim(
        x, value, index, axis, allow_negative_indices=allow_negative_indices
    )


def convert_scalar(name: str, value: ArrayLike, like: Any) -> Any:
    """The value as an array; a Python scalar in the dtype of `like`."""
    value = to_operand(name, value)
    scalar = not hasattr(value, "aval")
    return convert(value, like.aval.dtype, like.aval.weak_type) if scalar else value


def _at(x: Any, index: ArrayLike, axis: int) -> list[ArrayLike]:
    return [index if d == axis else 0 for d in range(x.ndim)]


def index_take(src: ArrayLike, idxs: Sequence[ArrayLike], axes: Sequence[int]) -> Any:
    """The elements at places along some axes (see `jax.lax.index_take`).

    Args:
      src: the array.
      idxs: for each axis a vector of integers, all of one length n; they wrap around.
      axes: the axes.

    Returns:
      An array of shape ``(n, *rest)``, where `rest` are the sizes along the other axes.

    Raises:
      ArgumentError: there are no such axes, or not as many indices.
    """
    x = array("index_take", src)
    places = [array("index_take", index) for index in sequence("index_take: idxs", idxs)]
    wanted = integers("index_take: axes", axes)
    if not places or len(wanted) != len(places):
        raise ArgumentError(
            f"index_take: idxs must have one vector of places for each of axes={wanted}, got "
            f"{len(places)}"
        )
    found = tuple(normalize_axis("index_take", axis, x.ndim) for axis in wanted)
    wrapped = [place % x.shape[axis] for place, axis in zip(places, found, strict=True)]
    columns = [
        reshape(place, (*place.shape, 1)) for place in promote_dtypes("index_take", *wrapped)
    ]
    sizes = [1 if d in found else size for d, size in enumerate(x.shape)]
    kept = tuple(range(1, 1 + x.ndim - len(found)))
    numbers = GatherDimensionNumbers(kept, tuple(sorted(found)), found)
    return gather(x, concatenate(columns, 1), numbers, sizes, mode="promise_in_bounds")


def gather(
    operand: ArrayLike,
    start_indices: ArrayLike,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Sequence[int],
    *,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    mode: Mode = None,
    fill_value: Any = None,
) -> Any:
    """Windows of an array, one for each index vector (see `jax.lax.gather`).

    Args:
      operand: the array.
      start_indices: integers; the last dimension holds the components of an index vector.
      dimension_numbers: how the dimensions belong together.
      slice_sizes: the window's size along each dimension of the operand.
      unique_indices, indices_are_sorted: promises that can make it faster.
      mode: what becomes of windows that reach outside: "fill" (the default), "clip", or
        "promise_in_bounds".
      fill_value: for "fill"; by default NaN, or the least (unsigned: the largest) integer.

    Raises:
      ShapeError: the dimension numbers do not fit.
      DtypeError: the indices are no integers.
      ArgumentError: `dimension_numbers` are something else.
    """
    if not isinstance(dimension_numbers, GatherDimensionNumbers):
        raise ArgumentError(
            "gather: dimension_numbers must be a funcdl.lax.GatherDimensionNumbers, got "
            f"{shortened(dimension_numbers)}"
        )
    return gathering.gather(
        array("gather", operand),
        array("gather", start_indices),
        dimension_numbers=dimension_numbers,
        slice_sizes=shape_of(slice_sizes, "slice_sizes"),
        indices_are_sorted=flag("gather: indices_are_sorted", indices_are_sorted),
        unique_indices=flag("gather: unique_indices", unique_indices),
        mode=GatherScatterMode.from_any(mode),
        fill_value=fill_value,
    )


def _scatter(name: str, primitive: Primitive, text: str) -> Any:
    def function(
        operand: ArrayLike,
        scatter_indices: ArrayLike,
        updates: ArrayLike,
        dimension_numbers: ScatterDimensionNumbers,
        *,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        mode: Mode = None,
    ) -> Any:
        x = array(name, operand)
        updates = convert_scalar(name, updates, x)
        if not x.aval.size:  # no window has an element, whatever the indices
            return x
        return primitive(
            x,
            array(name, scatter_indices),
            updates,
            dimension_numbers=dimension_numbers,
            indices_are_sorted=flag("indices_are_sorted", indices_are_sorted),
            unique_indices=flag("unique_indices", unique_indices),
            mode=GatherScatterMode.from_any(mode),
        )

    return publish(
        function,
        name,
        f"The array with windows at index vectors {text} (see `jax.lax.{name}`).\n\n"
        "The arguments and errors are those of `gather`, with `scatter_indices` for its indices;\n"
        "`updates` holds a window for each index vector, in the array's dtype.",
    )


scatter = _scatter("scatter", scattering.scatter, "replaced")
scatter_add = _scatter("scatter_add", scattering.scatter_add, "added to")
scatter_mul = _scatter("scatter_mul", scattering.scatter_mul, "multiplied")
scatter_min = _scatter("scatter_min", scattering.scatter_min, "lowered to the updates")
scatter_max = _scatter("scatter_max", scattering.scatter_max, "raised to the updates")


def scatter_sub(
    operand: ArrayLike,
    scatter_indices: ArrayLike,
    updates: ArrayLike,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: Mode = None,
) -> Any:
    """The array with windows at index vectors subtracted from (see `jax.lax.scatter_sub`).

    The arguments are those of `scatter_add`.
    """
    x = array("scatter_sub", operand)
    return scatter_add(
        x,
        scatter_indices,
        -convert_scalar("scatter_sub", updates, x),
        dimension_numbers,
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
        mode=mode,
    )


def scatter_apply(
    operand: ArrayLike,
    scatter_indices: ArrayLike,
    func: Callable[[Any], Any],
    dimension_numbers: ScatterDimensionNumbers,
    *,
    update_shape: Sequence[int] = (),
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: Mode = None,
) -> Any:
    """The array with a function applied to windows at index vectors (`jax.lax.scatter_apply`).

    Args:
      operand, scatter_indices, dimension_numbers, indices_are_sorted, mode: as for `scatter_add`.
      func: an elementwise function that keeps shape and dtype. It is applied to an element as often
        as windows hold it, and evaluated on all elements.
      update_shape: the shape that updates of a `scatter_add` would have.
      unique_indices: the promise that no element is in two windows. Without it a loop is needed,
        as long as an element is held most often, and jitted programs have no reverse derivative.
    """
    unique_indices = flag("scatter_apply: unique_indices", unique_indices)
    x = array("scatter_apply", operand)
    check_function("scatter_apply", func)
    if not x.aval.size:
        return x
    count = scatter_add(
        full_like(x, 0, np.int32),
        scatter_indices,
        full(shape_of(update_shape, "update_shape"), 1, np.int32),
        dimension_numbers,
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
        mode=mode,
    )

    def applied(step: Any, value: Any) -> Any:
        return where(count > step, func(value), value)

    if unique_indices:
        return applied(0, x)
    return fori_loop(0, count.max(), applied, x)
