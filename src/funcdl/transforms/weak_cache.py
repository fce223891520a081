"""A cache for transforms of programs that lives as long as the program does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from funcdl.core.jaxpr import ClosedJaxpr

P = ParamSpec("P")
R = TypeVar("R")


def cached_on_first(
    f: Callable[Concatenate[ClosedJaxpr, P], R],
) -> Callable[Concatenate[ClosedJaxpr, P], R]:
    """Memoise `f`, by identity of the program and by value of the other arguments.

    Results are kept on the program itself: many refer back to it, which in a table of weak
    references would keep both alive for ever.
    """

    @functools.wraps(f)
    def wrapper(first: ClosedJaxpr, /, *args: P.args, **kwargs: P.kwargs) -> R:
        results = first.memo.get(wrapper)
        if results is None:
            results = first.memo[wrapper] = {}
        key = (args, tuple(sorted(kwargs.items())))
        if key not in results:
            results[key] = f(first, *args, **kwargs)
        found: R = results[key]
        return found

    return wrapper
