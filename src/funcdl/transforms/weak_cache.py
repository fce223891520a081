"""A cache for transforms of programs that lives as long as the program does."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

K = TypeVar("K")
P = ParamSpec("P")
R = TypeVar("R")


def cached_on_first(f: Callable[Concatenate[K, P], R]) -> Callable[Concatenate[K, P], R]:
    """Memoise `f`, weakly in its first argument (by identity) and by value in the others."""
    store: weakref.WeakKeyDictionary[Any, dict[Any, R]] = weakref.WeakKeyDictionary()

    @functools.wraps(f)
    def wrapper(first: K, /, *args: P.args, **kwargs: P.kwargs) -> R:
        results = store.get(first)
        if results is None:
            results = store[first] = {}
        key = (args, tuple(sorted(kwargs.items())))
        if key not in results:
            results[key] = f(first, *args, **kwargs)
        return results[key]

    return wrapper
