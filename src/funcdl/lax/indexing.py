"""Read and update windows at computed places; parameters as in `jax.lax`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcdl.core.primitive import Primitive
from funcdl.errors import ShapeError
from funcdl.lax.operands import ArrayLike
from funcdl.lax.shaping import reshape, squeeze
from funcdl.numpy.creation import shape_of
from funcdl.numpy.index_plan import wrap
from funcdl.numpy.promotion import array, convert, promote_dtypes
from funcdl.numpy.promotion import operand as to_operand
from funcdl.numpy.reductions import normalize_axis
from funcdl.ops import dynamic
from funcdl.ops import gather as gathering
from funcdl.ops import scatter as scattering
from funcdl.ops.scatter import ScatterDimensionNumbers
from funcdl.ops.windows import GatherDimensionNumbers, GatherScatterMode

Mode = str | GatherScatterMode | None


def _starts(name: str, x: Any, start_indices: Sequence[ArrayLike] | ArrayLike) -> list[Any]:
    """Starts of one dtype, negative ones counted from the end."""
    starts = list(start_indices)
    if len(starts) != x.ndim:
        raise ShapeError(
            f"{name}: a start is needed for each of the {x.ndim} dimensions of {x.aval}, got "
            f"{len(starts)}"
        )
    if not starts:
        return []
    wrapped = (
        wrap(start, size)
        for start, size in zip(promote_dtypes(name, *starts), x.aval.shape, strict=True)
    )
    return list(wrapped)


def dynamic_slice(
    operand: ArrayLike,
    start_indices: Sequence[ArrayLike] | ArrayLike,
    slice_sizes: Sequence[int],
) -> Any:
    """A slice of fixed size at computed starts (see `jax.lax.dynamic_slice`).

    Args:
      operand: the array.
      start_indices: one integer for each dimension; negative ones count from the end, and the
        slice is moved into the array where it would reach outside.
      slice_sizes: Python integers.

    Raises:
      ShapeError: sizes or starts do not fit.
    """
    x = array("dynamic_slice", operand)
    starts = _starts("dynamic_slice", x, start_indices)
    return dynamic.dynamic_slice(x, *starts, slice_sizes=shape_of(slice_sizes, "slice_sizes"))


def dynamic_slice_in_dim(
    operand: ArrayLike, start_index: ArrayLike, slice_size: int, axis: int = 0
) -> Any:
    """As `dynamic_slice`, along one dimension; the others are kept whole."""
    x = array("dynamic_slice_in_dim", operand)
    axis = normalize_axis("dynamic_slice_in_dim", axis, x.ndim)
    sizes = list(x.aval.shape)
    sizes[axis] = slice_size
    return dynamic_slice(x, _at(x, start_index, axis), sizes)


def dynamic_index_in_dim(
    operand: ArrayLike, index: ArrayLike, axis: int = 0, keepdims: bool = True
) -> Any:
    """The elements at a computed place along one dimension."""
    out = dynamic_slice_in_dim(operand, index, 1, axis)
    return out if keepdims else squeeze(out, (axis,))


def dynamic_update_slice(
    operand: ArrayLike, update: ArrayLike, start_indices: Sequence[ArrayLike] | ArrayLike
) -> Any:
    """The array with a slice at computed starts replaced (see `dynamic_slice`)."""
    x = array("dynamic_update_slice", operand)
    value = convert_scalar("dynamic_update_slice", update, x)
    return dynamic.dynamic_update_slice(
        x, value, *_starts("dynamic_update_slice", x, start_indices)
    )


def dynamic_update_slice_in_dim(
    operand: ArrayLike, update: ArrayLike, start_index: ArrayLike, axis: int
) -> Any:
    """As `dynamic_update_slice`, along one dimension."""
    x = array("dynamic_update_slice_in_dim", operand)
    axis = normalize_axis("dynamic_update_slice_in_dim", axis, x.ndim)
    return dynamic_update_slice(x, update, _at(x, start_index, axis))


def dynamic_update_index_in_dim(
    operand: ArrayLike, update: ArrayLike, index: ArrayLike, axis: int
) -> Any:
    """The array with the elements at a computed place along one dimension replaced."""
    x = array("dynamic_update_index_in_dim", operand)
    axis = normalize_axis("dynamic_update_index_in_dim", axis, x.ndim)
    value = convert_scalar("dynamic_update_index_in_dim", update, x)
    if value.ndim != x.ndim:
        shape = value.aval.shape
        value = reshape(value, (*shape[:axis], 1, *shape[axis:]))
    return dynamic_update_slice_in_dim(x, value, index, axis)


def convert_scalar(name: str, value: ArrayLike, like: Any) -> Any:
    """The value as an array; a Python scalar in the dtype of `like`."""
    value = to_operand(name, value)
    scalar = not hasattr(value, "aval")
    return convert(value, like.aval.dtype, like.aval.weak_type) if scalar else value


def _at(x: Any, index: ArrayLike, axis: int) -> list[ArrayLike]:
    return [index if d == axis else 0 for d in range(x.ndim)]


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
    """
    return gathering.gather(
        array("gather", operand),
        array("gather", start_indices),
        dimension_numbers=dimension_numbers,
        slice_sizes=shape_of(slice_sizes, "slice_sizes"),
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
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
        return primitive(
            x,
            array(name, scatter_indices),
            convert_scalar(name, updates, x),
            dimension_numbers=dimension_numbers,
            indices_are_sorted=indices_are_sorted,
            unique_indices=unique_indices,
            mode=GatherScatterMode.from_any(mode),
        )

    function.__name__ = function.__qualname__ = name
    function.__module__ = "funcdl.lax"
    function.__doc__ = (
        f"The array with windows at index vectors {text} (see `jax.lax.{name}`).\n\n"
        "The arguments are those of `gather`; `updates` holds a window for each index vector."
    )
    return function


scatter = _scatter("scatter", scattering.scatter, "replaced")
scatter_add = _scatter("scatter_add", scattering.scatter_add, "added to")
scatter_mul = _scatter("scatter_mul", scattering.scatter_mul, "multiplied")
scatter_min = _scatter("scatter_min", scattering.scatter_min, "lowered to the updates")
scatter_max = _scatter("scatter_max", scattering.scatter_max, "raised to the updates")
