"""Markers that derivative rules receive in place of arrays."""

from __future__ import annotations

from typing import Any

from funcdl.core.avals import ShapedArray


class Zero:
    """A tangent or cotangent known to be zero, which costs nothing to carry along."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"Zero({self.aval})"


class LinearInput:
    """An argument of a transpose rule that the operation is linear in; it has no value."""

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"LinearInput({self.aval})"


def is_zero(x: Any) -> bool:
    """Whether a tangent or cotangent is a symbolic zero."""
    return type(x) is Zero


def is_linear(x: Any) -> bool:
    """Whether an argument of a transpose rule is one to find a cotangent for."""
    return type(x) is LinearInput
