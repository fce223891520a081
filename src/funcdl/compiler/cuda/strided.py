"""Parts of an array in memory that strides describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcdl.core.avals import Shape

NDArray = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Strided:
    """Elements of an array: the first one's place, and how far they are apart, in elements."""

    shape: Shape
    offset: int
    strides: tuple[int, ...]

    def of(self, x: NDArray) -> NDArray:
        """These elements of a contiguous array, as a view."""
        steps = zip(self.strides, self.shape, strict=True)
        assert self.offset + sum(step * (n - 1) for step, n in steps) < x.size, "beyond the array"
        flat = x.reshape(-1)[self.offset :]
        strides = [step * x.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(flat, self.shape, strides)

    def cut(self, dimension: int, start: int, size: int) -> Strided:
        """`size` positions along a dimension."""
        shape = (*self.shape[:dimension], size, *self.shape[dimension + 1 :])
        strides = [0 if n == 1 else s for n, s in zip(shape, self.strides, strict=True)]
        return Strided(shape, self.offset + start * self.strides[dimension], tuple(strides))

    def permuted(self, permutation: Sequence[int]) -> Strided:
        """With dimensions in another order, given by their former numbers."""
        shape = tuple(self.shape[d] for d in permutation)
        return Strided(shape, self.offset, tuple(self.strides[d] for d in permutation))

    def reshaped(self, shape: Shape) -> Strided | None:
        """In another shape of the same size; None where no strides describe that."""
        # Dimensions that are as one, from the last: extents, and the stride of the last of them.
        runs: list[list[int]] = []
        for extent, step in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if extent == 1:
                continue
            if runs and step == runs[-1][0] * runs[-1][1]:
                runs[-1][0] *= extent
            else:
                runs.append([extent, step])
        strides: list[int] = []
        inner = 1  # elements of the first run that have been given to new dimensions
        for extent in reversed(shape):
            if extent == 1:
                strides.append(0)
                continue
            if not runs or runs[0][0] % (inner * extent):
                return None
            strides.append(runs[0][1] * inner)
            inner *= extent
            if inner == runs[0][0]:
                runs.pop(0)
                inner = 1
        return Strided(tuple(shape), self.offset, tuple(reversed(strides)))


def contiguous(shape: Shape) -> Strided:
    """A whole array in the order of memory, 0 being the stride of dimensions of size 1."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step if extent > 1 else 0)
        step *= extent
    return Strided(tuple(shape), 0, tuple(reversed(strides)))
