"""Integers: arguments that must be some, and sizes, rounded up."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from funcdl.errors import ArgumentError, ConcretizationError


def round_up(size: int, unit: int) -> int:
    """The smallest multiple of `unit` that is at least `size`."""
    return -(-size // unit) * unit


def power_of_two(size: int) -> int:
    """The smallest power of two that is at least `size`."""
    return 1 << max(size - 1, 0).bit_length()


def integer(argument: str, value: Any) -> int:
    """An argument that must be an integer.

    Raises:
      ArgumentError: it is none, or one that no size or place can be.
      ConcretizationError: it is traced.
    """
    try:
        number = operator.index(value)
    except ConcretizationError:
        raise
    except TypeError:
        raise ArgumentError(f"{argument} must be an integer, got {_shown(value)}") from None
    if not -_LIMIT <= number < _LIMIT:
        raise ArgumentError(f"{argument} must be an integer of 64 bits, got {number}")
    return number


_LIMIT = 2**63


def integers(argument: str, values: Iterable[Any]) -> tuple[int, ...]:
    """An argument that must be a sequence of integers.

    Raises:
      ArgumentError: it is none.
      ConcretizationError: one is traced.
    """
    try:
        return tuple(map(operator.index, values))
    except ConcretizationError:
        raise
    except TypeError:
        raise ArgumentError(
            f"{argument} must be a sequence of integers, got {_shown(values)}"
        ) from None


def _shown(value: Any) -> str:
    from funcdl.core.array import shortened

    aval = getattr(value, "aval", None)
    return shortened(value) if aval is None else f"an array of type {aval}"
