"""Values between the points of a grid, with the names of `jax.scipy.interpolate`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.core.array import shortened
from funcdl.core.options import is_option
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.promotion import promote_inexact

__all__ = ["RegularGridInterpolator"]

_METHODS = ("linear", "nearest")


class RegularGridInterpolator:
    """Interpolation between values on a rectangular grid, whose lines need no equal distances.

    As `jax.scipy.interpolate.RegularGridInterpolator`.

    Args:
      points: n vectors of two elements or more, which rise: where the lines are.
      values: ``[n_1, ..., n_n, ...]``, the values where lines meet.
      method: ``"linear"``, or ``"nearest"``: that of the nearest point, of two the lower one.
      bounds_error: must be false: errors cannot depend on values.
      fill_value: the result outside of the grid; None: that of the nearest cell, continued.

    Raises:
      ArgumentError: another `method`, or `bounds_error`.
      ShapeError: `points` and `values` do not fit.
    """

    def __init__(
        self,
        points: Sequence[Any],
        values: Any,
        method: str = "linear",
        bounds_error: bool = False,
        fill_value: Any = np.nan,
    ) -> None:
        self.method = _checked(method)
        if bounds_error:
            raise ArgumentError(
                "RegularGridInterpolator: bounds_error must be False, since errors cannot depend "
                "on values; fill_value=nan marks what is outside"
            )
        *lines, self.values = promote_inexact("RegularGridInterpolator", *points, values)
        sizes = tuple(line.size for line in lines)
        if any(line.ndim != 1 or line.size < 2 for line in lines) or (
            self.values.shape[: len(lines)] != sizes
        ):
            raise ShapeError(
                "RegularGridInterpolator: points must be vectors of at least two elements, and "
                f"values have their lengths as first dimensions, got {[p.aval for p in lines]} "
                f"and {self.values.aval}"
            )
        self.grid = tuple(lines)
        self.fill_value = fill_value

    def __call__(self, xi: Any, method: str | None = None) -> Any:
        """The values at some places.

        Args:
          xi: ``[..., n]``, or a tuple of n arrays that broadcast.
          method: instead of the one of the whole.

        Returns:
          ``[..., ...]``: the dimensions of the places, then those of a value.

        Raises:
          ShapeError: places have another number of coordinates.
          ArgumentError: another `method`.
        """
        method = self.method if method is None else _checked(method)
        xi = fnp.stack(fnp.broadcast_arrays(*xi), axis=-1) if isinstance(xi, tuple) else xi
        (places,) = promote_inexact("RegularGridInterpolator", xi)
        count = len(self.grid)
        if places.ndim == 0 or places.shape[-1] != count:
            raise ShapeError(
                f"RegularGridInterpolator: a place has {count} coordinates, along the last "
                f"dimension, got {places.aval}"
            )
        trailing = self.values.ndim - count
        choices, outside = [], fnp.zeros(places.shape[:-1], bool)
        for d, line in enumerate(self.grid):
            place = places[..., d]
            below = fnp.clip(fnp.searchsorted(line, place, side="right") - 1, 0, line.size - 2)
            share = (place - line[below]) / (line[below + 1] - line[below])
            outside = outside | (place < line[0]) | (place > line[-1])
            if method == "nearest":
                choices.append([(fnp.where(share <= 0.5, below, below + 1), 1)])
            else:
                wide = fnp.reshape(share, share.shape + (1,) * trailing)
                choices.append([(below, 1 - wide), (below + 1, wide)])
        total: Any = 0
        for corner in itertools.product(*choices):
            term = self.values[tuple(index for index, _ in corner)]
            for _, weight in corner:
                term = term * weight
            total = total + term
        if self.fill_value is None:
            return total
        return fnp.where(
            fnp.reshape(outside, outside.shape + (1,) * trailing), self.fill_value, total
        )


def _checked(method: str) -> str:
    if not is_option(method, _METHODS):
        raise ArgumentError(
            f"RegularGridInterpolator: method must be one of {_METHODS}, got {shortened(method)}"
        )
    return method
