"""Repeat arrays and their elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.core.array import shortened
from funcdl.core.compound import by_parts
from funcdl.core.integers import integer
from funcdl.core.options import host_values
from funcdl.errors import ArgumentError
from funcdl.numpy.indexing import take
from funcdl.numpy.promotion import ArrayLike, array
from funcdl.numpy.reductions import normalize_axis
from funcdl.numpy.shaping import ravel, reshape
from funcdl.ops.shape import broadcast_in_dim

__all__ = [
    "repeat",
    "tile",
]


@by_parts
def tile(A: ArrayLike, reps: int | Sequence[int]) -> Any:
    """The whole array repeated, `reps` times along each dimension (see `numpy.tile`).

    Raises:
      ArgumentError: `reps` are no integers, or negative.
    """
    A = array("tile", A)
    counts = reps if isinstance(reps, Sequence) else (reps,)
    times = [integer("tile: reps", n) for n in counts]
    if min(times, default=0) < 0:
        raise ArgumentError(f"tile: reps must have no negative numbers, got {reps}")
    ndim = max(len(times), A.ndim)
    times = [1] * (ndim - len(times)) + times
    shape = (1,) * (ndim - A.ndim) + A.aval.shape
    both = tuple(size for pair in zip(times, shape, strict=True) for size in pair)
    kept = tuple(2 * (ndim - A.ndim + d) + 1 for d in range(A.ndim))
    repeated = broadcast_in_dim(A, shape=both, broadcast_dimensions=kept)
    return reshape(repeated, tuple(n * size for n, size in zip(times, shape, strict=True)))


@by_parts
def repeat(
    a: ArrayLike,
    repeats: int | Sequence[int] | Any,
    axis: int | None = None,
    *,
    total_repeat_length: int | None = None,
) -> Any:
    """Each element repeated in place (see `numpy.repeat`).

    Args:
      a: the array.
      repeats: how many times: one number, or one for each element along `axis`. Concrete, since
        the size of the result depends on it.
      axis: the dimension; None: all elements in row-major order.
      total_repeat_length: the size of the result along `axis`, which must be what it would be.

    Raises:
      ArgumentError: `repeats` is negative or does not fit.
    """
    a = array("repeat", a)
    if axis is None:
        a, axis = ravel(a), 0
    axis = normalize_axis("repeat", axis, a.ndim)
    size = a.aval.shape[axis]
    times = host_values("repeat: repeats", repeats)
    if times.dtype.kind not in "iub":
        raise ArgumentError(f"repeat: repeats must be integers, got {shortened(repeats)}")
    if times.ndim > 1 or (times.ndim == 1 and times.size not in (1, size)) or (times < 0).any():
        raise ArgumentError(
            f"repeat: repeats must be a number >= 0, or one for each of the {size} elements along "
            f"axis {axis}, got {shortened(repeats)}"
        )
    length = int(times.sum()) if times.size == size else int(times.reshape(())) * size
    if (
        total_repeat_length is not None
        and integer("repeat: total_repeat_length", total_repeat_length) != length
    ):
        raise ArgumentError(
            f"repeat: total_repeat_length={total_repeat_length} differs from the {length} elements "
            "that repeats makes"
        )
    if times.size == 1:
        count = int(times.reshape(()))
        shape = a.aval.shape
        wide = (*shape[: axis + 1], count, *shape[axis + 1 :])
        kept = tuple(d + (d > axis) for d in range(a.ndim))
        repeated = broadcast_in_dim(a, shape=wide, broadcast_dimensions=kept)
        return reshape(repeated, (*shape[:axis], size * count, *shape[axis + 1 :]))
    return take(a, np.repeat(np.arange(size), times), axis)
