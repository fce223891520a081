"""Arrays of numbers in ranges, and of the points of grids."""

from __future__ import annotations

import cmath
import math
import operator
from typing import Any

import numpy as np

from funcdl.core import dtypes, lattice
from funcdl.core.array import Array, as_array, shortened
from funcdl.core.integers import integer
from funcdl.core.options import flag, is_option
from funcdl.core.trace import context, eval_trace
from funcdl.errors import ArgumentError, ConcretizationError, ShapeError
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.promotion import ArrayLike, broadcast, convert, operand, promote_inexact, strong
from funcdl.ops.arithmetic import add, div, mul, pow_, sub
from funcdl.ops.exponential import exp, log
from funcdl.ops.rounding import floor
from funcdl.ops.shape import broadcast_in_dim, iota, reshape
from funcdl.ops.shape import full_like as fill_like

__all__ = ["arange", "geomspace", "linspace", "logspace", "meshgrid"]


def arange(start: Any, stop: Any = None, step: Any = None, dtype: DTypeLike = None) -> Any:
    """Numbers from `start` up to but without `stop`, `step` apart (see `numpy.arange`).

    With one argument, that is `stop`. Without `dtype`, the type to which the arguments promote.

    Raises:
      ConcretizationError: an argument is traced: the size of the result would not be known.
      ArgumentError: `step` is zero.
    """
    if stop is None:
        start, stop = 0, start
    bounds = (start, stop, 1 if step is None else step)
    first, last, width = (_number(x) for x in bounds)
    if not all(map(cmath.isfinite, (first, last, width))):
        raise ArgumentError(f"arange: start, stop and step must be finite, got {bounds}")
    target = lattice.result_type(*bounds) if dtype is None else canonical(dtype)
    if width == 0:
        raise ArgumentError("arange: step must not be zero")
    size = max(0, math.ceil((last - first) / width))
    if size >= _LIMIT or any(isinstance(x, int) and not -_LIMIT <= x < _LIMIT for x in bounds):
        raise ArgumentError(
            f"arange: numbers and how many they are must fit in 64 bits, got {bounds}"
        )
    if context.trace is eval_trace or not all(isinstance(x, int) for x in (first, width)):
        return Array(np.asarray(first + np.arange(size) * width).astype(target))
    out = iota(dtype=target, shape=(size,), dimension=0)
    if width != 1:
        out = mul(out, fill_like(out, width))
    return add(out, fill_like(out, first)) if first else out


_LIMIT = 2**63


def _number(x: Any) -> Any:
    """A Python number out of an argument that must be concrete."""
    if isinstance(x, int | float):
        return x
    try:
        known = x.item() if hasattr(x, "item") else operator.index(x)
    except ConcretizationError:
        raise
    except (TypeError, ValueError):
        known = None
    if not isinstance(known, int | float | complex):
        raise ArgumentError(f"arange: start, stop and step must be numbers, got {shortened(x)}")
    return known


def linspace(
    start: ArrayLike,
    stop: ArrayLike,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: DTypeLike = None,
    axis: int = 0,
) -> Any:
    """`num` evenly spaced numbers from `start` to `stop` (see `numpy.linspace`).

    Args:
      start, stop: the ends, arrays that broadcast.
      num: how many numbers.
      endpoint: whether `stop` is the last of them.
      retstep: whether to return ``(numbers, spacing)``.
      dtype: the element type; integers are rounded down.
      axis: where the new dimension goes.

    Raises:
      ArgumentError: `num` is negative.
    """
    retstep = flag("linspace: retstep", retstep)
    endpoint = flag("linspace: endpoint", endpoint)
    num = integer("num", num)
    if num < 0:
        raise ArgumentError(f"linspace: num must not be negative, got {num}")
    start, stop = broadcast("linspace", *map(strong, promote_inexact("linspace", start, stop)))
    gaps = num - 1 if endpoint else num
    shape = start.aval.shape
    axis = integer("axis", axis) % (len(shape) + 1)
    sizes = (*shape[:axis], num, *shape[axis:])
    kept = tuple(d for d in range(len(sizes)) if d != axis)
    low, high = (broadcast_in_dim(x, shape=sizes, broadcast_dimensions=kept) for x in (start, stop))
    # Both ends come out exact: each is multiplied by 1 there, and the other by 0.
    place = iota(dtype=dtypes.real_dtype(start.aval.dtype), shape=(num,), dimension=0)
    part = convert(div(place, fill_like(place, max(gaps, 1))), start.aval.dtype)
    part = broadcast_in_dim(part, shape=sizes, broadcast_dimensions=(axis,))
    out = add(mul(low, sub(fill_like(part, 1), part)), mul(high, part))
    if dtype is not None:
        target = canonical(dtype)
        out = convert(floor(out) if dtypes.is_integer(target) else out, target)
    if not retstep:
        return out
    spacing = div(sub(stop, start), fill_like(start, gaps if gaps > 0 else np.nan))
    return out, spacing


def logspace(
    start: ArrayLike,
    stop: ArrayLike,
    num: int = 50,
    endpoint: bool = True,
    base: ArrayLike = 10.0,
    dtype: DTypeLike = None,
    axis: int = 0,
) -> Any:
    """`base` to the power of `num` evenly spaced numbers (see `numpy.logspace`).

    Args:
      start, stop, num, endpoint, axis: as for `linspace`, of the exponents.
      base: the base.
      dtype: the element type.
    """
    exponents = linspace(start, stop, num, endpoint, axis=axis)
    base, exponents = broadcast("logspace", *promote_inexact("logspace", base, exponents))
    out = strong(pow_(base, exponents))
    return out if dtype is None else convert(out, canonical(dtype))


def geomspace(
    start: ArrayLike,
    stop: ArrayLike,
    num: int = 50,
    endpoint: bool = True,
    dtype: DTypeLike = None,
    axis: int = 0,
) -> Any:
    """`num` numbers from `start` to `stop`, each the same multiple of the one before it.

    Args:
      start, stop: the ends, of one sign (see `numpy.geomspace`).
      num, endpoint, axis: as for `linspace`.
      dtype: the element type.
    """
    start, stop = broadcast("geomspace", *map(strong, promote_inexact("geomspace", start, stop)))
    # Both ends come out exact for negative and complex numbers too: what varies is their ratio.
    ratio = log(div(stop, start))
    exponents = linspace(fill_like(ratio, 0), ratio, num, endpoint, axis=axis)
    place = axis % (start.aval.ndim + 1)
    kept = tuple(d for d in range(exponents.aval.ndim) if d != place)
    first = broadcast_in_dim(start, shape=exponents.aval.shape, broadcast_dimensions=kept)
    out = mul(first, exp(exponents))
    return out if dtype is None else convert(out, canonical(dtype))


def meshgrid(
    *xi: ArrayLike, copy: bool = True, sparse: bool = False, indexing: str = "xy"
) -> list[Any]:
    """Coordinates of the points of a grid (see `numpy.meshgrid`).

    Args:
      xi: one-dimensional arrays, the coordinates along each axis.
      copy: must be true, since arrays share no memory that anybody writes.
      sparse: whether to leave dimensions along which nothing changes at size 1.
      indexing: "xy": the first array runs along the second dimension; "ij": along the first.

    Raises:
      ArgumentError: `copy` is false, or `indexing` unknown.
      ShapeError: an array has two dimensions or more.
    """
    sparse = flag("meshgrid: sparse", sparse)
    if not flag("meshgrid: copy", copy):
        raise ArgumentError("meshgrid: copy must be true, since arrays are immutable")
    if not is_option(indexing, ("xy", "ij")):
        raise ArgumentError(f"meshgrid: indexing must be 'xy' or 'ij', got {shortened(indexing)}")
    axes = [as_array(operand("meshgrid", x)) for x in xi]
    axes = [reshape(x, new_sizes=(1,)) if x.aval.shape == () else x for x in axes]
    for x in axes:
        if x.ndim != 1:
            raise ShapeError(f"meshgrid: arguments must be one-dimensional, got {x.aval}")
    order = list(range(len(axes)))
    if indexing == "xy" and len(axes) >= 2:
        order[:2] = [1, 0]
    sizes = [0] * len(axes)
    for x, place in zip(axes, order, strict=True):
        sizes[place] = x.aval.shape[0]
    shapes = [
        tuple(n if d == place or not sparse else 1 for d, n in enumerate(sizes)) for place in order
    ]
    return [
        broadcast_in_dim(x, shape=shape, broadcast_dimensions=(place,))
        for x, shape, place in zip(axes, shapes, order, strict=True)
    ]
