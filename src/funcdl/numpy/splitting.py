"""Take arrays apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from funcdl.core.integers import integer, integers
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.promotion import ArrayLike, array
from funcdl.numpy.reductions import normalize_axis
from funcdl.numpy.shaping import reshape
from funcdl.ops.slicing import slice_along

__all__ = [
    "array_split",
    "dsplit",
    "hsplit",
    "split",
    "unstack",
    "vsplit",
]


def unstack(x: ArrayLike, /, *, axis: int = 0) -> tuple[Any, ...]:
    """The parts of an array along a dimension, without that dimension (see `jax.numpy.unstack`).

    Returns:
      A tuple of arrays of the same dtype.

    Raises:
      ArgumentError: there is no such axis.
    """
    x = array("unstack", x)
    axis = normalize_axis("unstack", axis, x.ndim)
    shape = x.aval.shape[:axis] + x.aval.shape[axis + 1 :]
    return tuple(reshape(slice_along(x, axis, i, i + 1), shape) for i in range(x.aval.shape[axis]))


Places = int | Sequence[int] | ArrayLike
"""A number of parts, or a sequence or vector of the places to cut at."""


def split(ary: ArrayLike, indices_or_sections: Places, axis: int = 0) -> list[Any]:
    """An array cut along an axis (see `numpy.split`).

    Args:
      ary: the array.
      indices_or_sections: the number of equal parts, or the places to cut at.
      axis: the dimension.

    Returns:
      A list of arrays of the same dtype.

    Raises:
      ArgumentError: the array cannot be cut in that many equal parts.
      ArgumentError: there is no such axis.
    """
    ary = array("split", ary)
    axis = normalize_axis("split", axis, ary.ndim)
    size = ary.aval.shape[axis]
    parts = _parts_or_places(indices_or_sections)
    if isinstance(parts, int) and (parts <= 0 or size % parts):
        raise ArgumentError(
            f"split: axis {axis} of {ary.aval} cannot be cut in {parts} equal parts; use "
            "array_split, or give the places to cut at"
        )
    return array_split(ary, indices_or_sections, axis)


def array_split(ary: ArrayLike, indices_or_sections: Places, axis: int = 0) -> list[Any]:
    """As `split`; parts may differ in size by one, the larger ones first.

    Raises:
      ArgumentError: fewer than one part is asked for, or there is no such axis.
    """
    ary = array("array_split", ary)
    axis = normalize_axis("array_split", axis, ary.ndim)
    size = ary.aval.shape[axis]
    parts = _parts_or_places(indices_or_sections)
    if isinstance(parts, list):
        # Places are those of a Python slice: negative ones count from the end.
        bounds = list(zip([0, *parts], [*parts, size], strict=True))
    else:
        if parts <= 0:
            raise ArgumentError(f"array_split: at least one part is needed, got {parts}")
        small, larger = divmod(size, parts)
        ends = [i * small + min(i, larger) for i in range(parts + 1)]
        bounds = list(itertools.pairwise(ends))
    results = []
    for start, limit in bounds:
        first, last, _ = slice(start, limit).indices(size)
        results.append(slice_along(ary, axis, first, max(first, last)))
    return results


def _parts_or_places(x: Any) -> int | list[int]:
    """The number of parts, or the places to cut at."""
    if isinstance(x, Sequence) or getattr(x, "ndim", 0) == 1:
        return list(integers("indices_or_sections", x))
    return integer("indices_or_sections", x)


def vsplit(ary: ArrayLike, indices_or_sections: Places) -> list[Any]:
    """`split` along the first dimension (see `numpy.vsplit`).

    Raises:
      ShapeError: there is no such dimension.
    """
    return split(_at_least("vsplit", ary, 2), indices_or_sections, 0)


def hsplit(ary: ArrayLike, indices_or_sections: Places) -> list[Any]:
    """`split` along the second dimension, of vectors along their only one (see `numpy.hsplit`).

    Raises:
      ShapeError: there is no such dimension.
    """
    x = _at_least("hsplit", ary, 1)
    return split(x, indices_or_sections, 0 if x.ndim == 1 else 1)


def dsplit(ary: ArrayLike, indices_or_sections: Places) -> list[Any]:
    """`split` along the third dimension (see `numpy.dsplit`).

    Raises:
      ShapeError: there is no such dimension.
    """
    return split(_at_least("dsplit", ary, 3), indices_or_sections, 2)


def _at_least(name: str, ary: ArrayLike, ndim: int) -> Any:
    x = array(name, ary)
    if x.ndim < ndim:
        raise ShapeError(
            f"{name}: {ndim} dimension{'s' * (ndim > 1)} at least are needed, got {x.aval}"
        )
    return x
