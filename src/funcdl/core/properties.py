"""Attributes that are computed when they are first read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

_Value = TypeVar("_Value")


class computed_once(Generic[_Value]):  # a decorator
    """As `functools.cached_property`, but without its lock.

    Until Python 3.12 that is one lock for all instances of a class, held while one of them is at
    it: threads wait for each other, and a child that is forked meanwhile waits forever. Here two
    threads may both compute, and both get what the first one to end has found.
    """

    def __init__(self, compute: Callable[[Any], _Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> computed_once[_Value]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> _Value: ...

    def __get__(self, instance: object | None, owner: type) -> computed_once[_Value] | _Value:
        if instance is None:
            return self
        # Found there from now on, before this descriptor, which has no `__set__`.
        found: _Value = vars(instance).setdefault(self._name, self._compute(instance))
        return found
