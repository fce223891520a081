"""Add elements around arrays."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from funcdl.errors import ArgumentError
from funcdl.numpy import promotion
from funcdl.numpy.indexing import take
from funcdl.numpy.promotion import ArrayLike, array, convert
from funcdl.ops import slicing

__all__ = [
    "pad",
]


_NUMPY_MODES = ("edge", "reflect", "symmetric", "wrap")


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
    if mode == "constant":
        values = kwargs.pop("constant_values", 0)
        _no_more(kwargs)
        return _pad_constant(x, widths, values)
    _no_more(kwargs)
    if mode not in _NUMPY_MODES:
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
            x = take(x, np.pad(np.arange(size), (low, high), numpy_mode), axis)
    return x


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
            f"got {pad_width!r}"
        ) from None
    if any(width < 0 for pair in widths for width in pair):
        raise ArgumentError(f"pad: widths must not be negative, got {pad_width!r}")
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
            f"each of the {x.ndim} dimensions; got {values!r}"
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
