"""Arguments that are no operands: names of ways to do something, flags, numbers."""

from __future__ import annotations

import numbers
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from funcdl.core.array import shortened
from funcdl.errors import ArgumentError, FuncdlError, OperandError


def is_option(value: Any, options: Collection[Any]) -> bool:
    """Whether an argument is one of some names and numbers, or None where that is among them.

    Anything else may be given, an array or a list, for which ``in`` fails or asks for a hash.
    """
    return (value is None or isinstance(value, str | int | np.integer)) and value in options


def flag(argument: str, value: Any) -> bool:
    """An argument that must be true or false.

    Raises:
      ArgumentError: it has no truth value, such as an array of several elements.
      ConcretizationError: it is traced.
    """
    if value is True or value is False:
        return value
    unclear = isinstance(value, Sequence | np.ndarray | set | dict) or callable(value)
    try:
        if not unclear:
            return bool(value)
    except OperandError:  # an array of several elements
        pass
    except FuncdlError:
        raise
    except Exception:  # one of another library
        pass
    raise ArgumentError(f"{argument} must be True or False, got {shortened(value)}")


def number(argument: str, value: Any) -> Any:
    """An argument that must be a real number: of Python, or a scalar array, also a traced one.

    Raises:
      ArgumentError: it is something else.
    """
    aval = getattr(value, "aval", value)
    is_scalar = isinstance(value, numbers.Real) or (
        getattr(aval, "shape", None) == () and getattr(aval.dtype, "kind", "") not in "cOUSM"
    )
    if not is_scalar:
        shown = shortened(value) if aval is value else f"an array of type {aval}"
        raise ArgumentError(f"{argument} must be a number, got {shown}")
    return value


def host_values(argument: str, values: Any) -> np.ndarray[Any, Any]:
    """An argument that must be a number or a regular array of them, known and on the host.

    Raises:
      ArgumentError: nested sequences of unequal lengths.
      ConcretizationError: it is traced.
    """
    try:
        return np.asarray(values)
    except FuncdlError:
        raise
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{argument} must be a number or a regular array of numbers, got {shortened(values)}"
        ) from None


def sequence(argument: str, values: Any) -> list[Any]:
    """An argument that must be a sequence of operands, such as arrays to join.

    Raises:
      ArgumentError: it is none.
    """
    if isinstance(values, str | bytes | dict | set) or not hasattr(values, "__iter__"):
        raise ArgumentError(
            f"{argument} must be a sequence, such as a list, got {shortened(values)}"
        )
    return list(values)
