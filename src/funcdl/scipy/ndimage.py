"""Images between their pixels, with the names of `jax.scipy.ndimage`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.options import is_option, number, sequence
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.promotion import array, promote_inexact

__all__ = ["map_coordinates"]

_MODES = ("constant", "nearest", "wrap", "mirror", "reflect")


def map_coordinates(
    input: Any, coordinates: Sequence[Any], order: int, mode: str = "constant", cval: Any = 0.0
) -> Any:
    """The values of an array between its elements (see `jax.scipy.ndimage.map_coordinates`).

    Args:
      input: an array of n dimensions.
      coordinates: n arrays of one shape, the places along each dimension in elements.
      order: 0: the nearest element, halves away from zero; 1: linear between neighbours.
      mode: what lies beyond the ends: ``"constant"``: `cval`; ``"nearest"``: the last element;
        ``"wrap"``: the array again; ``"mirror"``: the array backwards about its last element;
        ``"reflect"``: backwards, with the last element twice. (SciPy calls the first and third
        ``"grid-constant"`` and ``"grid-wrap"``.)
      cval: see `mode`; it is converted to the dtype of `input` first.

    Returns:
      An array of the coordinates' shape and the dtype of `input`; integers are rounded.

    Raises:
      ShapeError: there are not n coordinates, or their shapes do not broadcast.
      ArgumentError: another `order` or `mode`.
    """
    x = array("map_coordinates", input)
    if not is_option(mode, _MODES):
        raise ArgumentError(f"map_coordinates: mode must be one of {_MODES}, got {shortened(mode)}")
    if number("map_coordinates: order", order) not in (0, 1):
        raise ArgumentError(f"map_coordinates: order must be 0 or 1, got {order}")
    given = sequence("map_coordinates: coordinates", coordinates)
    places = promote_inexact("map_coordinates", *given) if given else []
    if len(places) != x.ndim:
        raise ShapeError(
            f"map_coordinates: one array of coordinates is needed for each dimension of "
            f"{x.aval}, got {len(places)}"
        )
    # Along each dimension, elements with their weights.
    choices = [_neighbours(place, order) for place in fnp.broadcast_arrays(*places)]
    total: Any = 0
    for corner in itertools.product(*choices):
        value, weight = _read(x, [index for index, _ in corner], mode, cval), 1
        for _, share in corner:
            weight = weight * share
        total = total + value * weight
    if dtypes.is_integer(x.dtype):
        total = _rounded(total)
    return fnp.asarray(total).astype(x.dtype)


def _neighbours(place: Any, order: int) -> list[tuple[Any, Any]]:
    """Elements near a place along a dimension, and their weights."""
    if order == 0:
        return [(_rounded(place).astype(fnp.int32), fnp.ones_like(place))]
    below = fnp.floor(place)
    share = place - below
    index = below.astype(fnp.int32)
    return [(index, 1 - share), (index + 1, share)]


def _rounded(x: Any) -> Any:
    """The nearest integer, halves away from zero; it has no derivative."""
    return fnp.sign(x) * fnp.floor(abs(x) + 0.5)


def _read(x: Any, index: Sequence[Any], mode: str, cval: Any) -> Any:
    found = x[tuple(_inside(i, size, mode) for i, size in zip(index, x.shape, strict=True))]
    if mode != "constant":
        return found
    inside = fnp.ones(found.shape, bool)
    for i, size in zip(index, x.shape, strict=True):
        inside = inside & (i >= 0) & (i < size)
    return fnp.where(inside, found, fnp.asarray(cval).astype(x.dtype))


def _inside(index: Any, size: int, mode: str) -> Any:
    """The element that stands for one that may lie outside."""
    if mode == "wrap":
        return index % size
    if mode == "mirror":
        last = max(size - 1, 1)
        turned = abs((index + last) % (2 * last) - last)
        return fnp.minimum(turned, size - 1)
    if mode == "reflect":
        around = index % (2 * size)
        return fnp.minimum(around, 2 * size - 1 - around)
    return fnp.clip(index, 0, size - 1)
