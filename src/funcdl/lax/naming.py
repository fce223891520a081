"""Names of functions that are made of primitives by the dozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from funcdl.core.primitive import Primitive
from funcdl.core.source import name_frames
from funcdl.ops import registry

F = TypeVar("F", bound=Callable[..., Any])


def publish(function: F, name: str, doc: str) -> F:
    """The function as `funcdl.lax` shows it: under a name of that module, documented."""
    function.__name__ = function.__qualname__ = name
    name_frames(function, name)
    function.__module__ = "funcdl.lax"
    function.__doc__ = doc
    return function


def dtype_error(primitive: Primitive) -> str:
    """A line of a docstring: for which dtypes a function of a primitive raises `DtypeError`."""
    accepted = " ".join(registry.ops()[primitive.name].dtypes)
    return f"  DtypeError: the dtype is none of {accepted}."


def elementwise_facts(name: str, primitive: Primitive, *, several: bool = False) -> str:
    """The part of a docstring that all functions of elementwise primitives share."""
    if not several:
        return (
            f"As `jax.lax.{name}`. The shape stays; nothing is promoted.\n\nRaises:\n"
            f"{dtype_error(primitive)}"
        )
    return (
        f"As `jax.lax.{name}`. `x` and `y` have one shape and dtype; a Python scalar takes those\n"
        "of the other.\n\nRaises:\n  ShapeError, DtypeError: the shapes or dtypes differ.\n"
        f"{dtype_error(primitive)}"
    )
