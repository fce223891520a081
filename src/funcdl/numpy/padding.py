"""Add elements around arrays."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from funcdl.core.array import shortened
from funcdl.core.options import is_option
from funcdl.errors import ArgumentError
from funcdl.numpy import promotion
from funcdl.numpy.indexing import take
from funcdl.numpy.promotion import ArrayLike, array, convert
from funcdl.ops import slicing
from funcdl.ops.shape import broadcast_to, rev

__all__ = [
    "pad",
]


_NUMPY_MODES = ("edge", "reflect", "symmetric", "wrap")

# What is wider than its array repeats it several times; beyond this many pieces a table is shorter.
_MOST_RUNS = 8


def pad(
    array: ArrayLike,
    pad_width: Any,
    mode: str = "constant",
    **kwargs: Any,
) -> Any:
    """Elements added around an array, whose dtype stays (see `numpy.pad`).

    Args:
      array: the array.
      pad_width: how many: one number, ``(before, after)``, or such a pair for each dimension.
      mode: "constant", "edge", "reflect", "symmetric" or "wrap".
      kwargs: `constant_values`, for "constant" alone: one scalar, by default 0, or in the form of
        `pad_width`.

    Raises:
      ArgumentError: an unknown mode, or a width that is negative or too large for the mode.
    """
    x = promotion.array("pad", array)
    widths = _widths(pad_width, x.ndim)
    if is_option(mode, ("constant",)):
        values = kwargs.pop("constant_values", 0)
        _no_more(kwargs)
        return _pad_constant(x, widths, values)
    _no_more(kwargs)
    if not is_option(mode, _NUMPY_MODES):
        raise ArgumentError(
            f"pad: mode must be 'constant' or one of {', '.join(map(repr, _NUMPY_MODES))}, got "
            f"{mode!r}"
        )
    for axis, (low, high) in enumerate(widths):
        if low or high:
            size = x.aval.shape[axis]
            if size == 0:
                raise ArgumentError(f"pad: axis {axis} of {x.aval} has no elements to repeat")
            numpy_mode: Any = mode
            x = _extended(x, np.pad(np.arange(size), (low, high), numpy_mode), low, axis)
    return x


def _extended(x: Any, positions: np.ndarray, low: int, axis: int) -> Any:
    """The elements of `x` at `positions`, in which all of `x` stands once, behind `low` others.

    Slices are joined where there are few of them: loops over them are vectorised and in reverse
    mode they are sums of slices, where positions from a table are gathered and scattered.
    """
    high = low + x.aval.shape[axis]
    runs = [_runs(positions[:low]), _runs(positions[high:])]
    if sum(map(len, runs)) > _MOST_RUNS:
        return take(x, positions, axis)
    before, after = ([_run(x, run, axis) for run in part] for part in runs)
    return slicing.concatenate(*before, x, *after, dimension=axis)


def _runs(positions: np.ndarray) -> list[np.ndarray]:
    """Positions cut into pieces that go up by one, go down by one, or stay."""
    runs = []
    while positions.size:
        steps = np.diff(positions)
        same = (steps == steps[:1]) & (np.abs(steps) <= 1)
        count = 1 + (same.size if same.all() else int(np.argmin(same)))
        runs.append(positions[:count])
        positions = positions[count:]
    return runs


def _run(x: Any, positions: np.ndarray, axis: int) -> Any:
    first, last = int(positions[0]), int(positions[-1])
    if first == last:
        one = slicing.slice_along(x, axis, first, first + 1)
        shape = (*x.aval.shape[:axis], len(positions), *x.aval.shape[axis + 1 :])
        return broadcast_to(one, shape)
    if first < last:
        return slicing.slice_along(x, axis, first, last + 1)
    return rev(slicing.slice_along(x, axis, last, first + 1), dimensions=(axis,))


def _no_more(kwargs: Mapping[str, Any]) -> None:
    if kwargs:
        raise ArgumentError(f"pad: unexpected arguments for this mode: {', '.join(kwargs)}")


def _widths(pad_width: Any, ndim: int) -> list[tuple[int, int]]:
    if isinstance(pad_width, dict):
        pad_width = [pad_width.get(d, pad_width.get(d - ndim, 0)) for d in range(ndim)]
        pad_width = [(w, w) if isinstance(w, int) else w for w in pad_width]
    try:
        pairs = np.broadcast_to(np.asarray(pad_width, dtype=object), (ndim, 2)).tolist()
        widths = [(operator.index(low), operator.index(high)) for low, high in pairs]
    except (TypeError, ValueError):
        raise ArgumentError(
            f"pad: pad_width must be an integer, a pair, or a pair for each of {ndim} dimensions, "
            f"got {shortened(pad_width)}"
        ) from None
    if any(width < 0 for pair in widths for width in pair):
        raise ArgumentError(f"pad: widths must not be negative, got {shortened(pad_width)}")
    return widths


def _pad_constant(x: Any, widths: list[tuple[int, int]], values: Any) -> Any:
    dtype = x.aval.dtype
    if not isinstance(values, Sequence | np.ndarray):
        fill = convert(array("pad", values), dtype, x.aval.weak_type)
        config = tuple((low, high, 0) for low, high in widths)
        return slicing.pad(x, fill, padding_config=config)
    try:
        each = np.broadcast_to(np.asarray(values), (x.ndim, 2))
    except ValueError:
        raise ArgumentError(
            "pad: constant_values must be a number, a pair (before, after), or such a pair for "
            f"each of the {x.ndim} dimensions; got {shortened(values)}"
        ) from None
    for axis, (low, high) in enumerate(widths):
        for width, side in ((low, 0), (high, 1)):
            config = tuple(
                ((width, 0, 0), (0, width, 0))[side] if d == axis else (0, 0, 0)
                for d in range(x.ndim)
            )
            fill = convert(each[axis, side].item(), dtype, x.aval.weak_type)
            x = slicing.pad(x, fill, padding_config=config)
    return x
