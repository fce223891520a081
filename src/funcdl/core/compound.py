"""Arrays whose elements are several numbers each, such as random keys, under functions that only
rearrange elements."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from funcdl.core import tree
from funcdl.core.source import name_frames
from funcdl.errors import FuncdlError

F = TypeVar("F", bound=Callable[..., Any])


class CompoundArray:
    """An array with the `width` numbers of each element along a hidden last dimension."""

    __slots__ = ()

    width: int

    def part(self, i: int) -> Any:
        """The i-th number of every element, as an array of this one's shape."""
        raise AssertionError(type(self).__name__)

    def joined(self, parts: list[Any]) -> Any:
        """The compound array with these parts."""
        raise AssertionError(type(self).__name__)


def by_parts(function: F) -> F:
    """Let a function that only rearranges elements take compound arrays: part by part.

    Other arguments pay nothing: the function is tried first.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except FuncdlError:
            found = _compounds((args, kwargs))
            if not found:
                raise
        return apply_by_parts(function, found[0], args, kwargs)

    name_frames(wrapper, function.__name__)
    return cast(F, wrapper)


def apply_by_parts(
    function: Callable[..., Any], model: CompoundArray, args: Any, kwargs: Any
) -> Any:
    """Call a function once for each part of the compound arrays among its arguments."""
    outs = [function(*_part(args, i), **_part(kwargs, i)) for i in range(model.width)]
    if isinstance(outs[0], list | tuple):
        return type(outs[0])(model.joined(list(parts)) for parts in zip(*outs, strict=True))
    return model.joined(outs)


def hidden_dimensions(value: Any) -> list[int]:
    """For each leaf of a pytree, how many last dimensions a compound array hides."""
    nodes = tree.leaves(value, is_leaf=lambda x: isinstance(x, CompoundArray))
    return [int(isinstance(x, CompoundArray)) for x in nodes]


def _compounds(x: Any) -> list[CompoundArray]:
    if isinstance(x, CompoundArray):
        return [x]
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, list | tuple):
        return [found for entry in x for found in _compounds(entry)]
    return []


def _part(x: Any, i: int) -> Any:
    if isinstance(x, CompoundArray):
        return x.part(i)
    if isinstance(x, dict):
        return {key: _part(value, i) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return type(x)(_part(entry, i) for entry in x)
    return x
