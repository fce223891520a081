"""Operands of factorizations, and the range of their values that is asked for."""

from __future__ import annotations

from typing import Any

from funcdl.core.integers import integers
from funcdl.errors import ArgumentError
from funcdl.ops.arithmetic import add, scaled
from funcdl.ops.linalg.common import adjoint


def symmetrized(x: Any) -> Any:
    """The mean of matrices and their conjugate transposes."""
    return scaled(add(x, adjoint(x)), 0.5)


def range_of_subset(name: str, subset: tuple[int, int], size: int) -> tuple[int, int]:
    """Check `subset_by_index`, a start and an end within so many values."""
    places = integers(f"{name}: subset_by_index", subset)
    if len(places) != 2 or not 0 <= places[0] < places[1] <= size:
        raise ArgumentError(
            f"{name}: subset_by_index must be (start, end) with 0 <= start < end <= {size}, got "
            f"{places}"
        )
    start, end = places
    return start, end
