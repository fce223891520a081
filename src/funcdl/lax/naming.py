"""Names of functions that are made of primitives by the dozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def publish(function: F, name: str, doc: str) -> F:
    """The function as `funcdl.lax` shows it: under a name of that module, documented."""
    function.__name__ = function.__qualname__ = name
    function.__module__ = "funcdl.lax"
    function.__doc__ = doc
    return function
