"""Immutable records, made as quickly as a package wants that has a hundred of them.

``dataclass(frozen=True, slots=True)`` compiles six methods one by one (0.35 ms for each class, a
third of the time of ``import funcdl``), and its instances set their fields through
``object.__setattr__``. `record` compiles three methods at once and shares the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, fields
from inspect import get_annotations
from reprlib import recursive_repr
from typing import Any, TypeVar, cast, dataclass_transform

_Class = TypeVar("_Class", bound=type[Any])


@dataclass_transform(frozen_default=True)
def record(cls: _Class) -> _Class:
    """Make a class what ``dataclass(frozen=True, slots=True)`` makes of it, but sooner.

    `dataclasses.fields`, ``replace`` and ``asdict``, ``match`` statements, copies and pickles work
    alike. Defaults are plain values: ``field()`` and ``__post_init__`` need a dataclass.

    Raises:
      TypeError: a default is a ``field()``, the class has a ``__post_init__``, or it inherits from
        a frozen dataclass.
    """
    if hasattr(cls, "__post_init__"):
        raise TypeError(f"record: {cls.__name__} has a __post_init__; make it a dataclass instead")
    for name in get_annotations(cls):
        if isinstance(cls.__dict__.get(name), Field):
            raise TypeError(
                f"record: the default of {cls.__name__}.{name} is a field(); make the class a "
                "dataclass instead, or the default a plain value"
            )
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # else dataclass looks for its signature, which takes as long
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    found = fields(made)
    for name, method in _compiled(made, found).items():
        if name not in cls.__dict__:
            method.__qualname__ = f"{made.__qualname__}.{name}"
            setattr(made, name, method)
    for name, method in _SHARED.items():
        if name not in cls.__dict__:
            setattr(made, name, method)
    made.__init__.__annotations__ = {field.name: field.type for field in found} | {"return": None}
    return cast("_Class", made)  # the class anew, with slots


def _compiled(cls: Any, found: tuple[Field[Any], ...]) -> dict[str, Callable[..., Any]]:
    """The methods that run often, written out for these fields."""
    names = [field.name for field in found]
    scope: dict[str, Any] = {f"set_{name}": getattr(cls, name).__set__ for name in names}
    arguments = ["self"]
    for field in found:
        if field.default is MISSING:
            arguments.append(field.name)
        else:
            scope[f"default_{field.name}"] = field.default
            arguments.append(f"{field.name}=default_{field.name}")
    own = "".join(f"self.{name}," for name in names)
    theirs = "".join(f"other.{name}," for name in names)
    text = f"""
def __init__({", ".join(arguments)}):
    {"; ".join(f"set_{name}(self, {name})" for name in names) or "pass"}
def __eq__(self, other):
    return ({own}) == ({theirs}) if other.__class__ is self.__class__ else NotImplemented
def __hash__(self):
    return hash(({own}))
"""
    methods: dict[str, Callable[..., Any]] = {}
    # This file's name, so that these methods count as the library's in tracebacks.
    exec(compile(text, __file__, "exec"), scope, methods)
    return methods


@recursive_repr()
def _repr(self: Any) -> str:
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
    return f"{type(self).__qualname__}({values})"


def _setattr(self: Any, name: str, value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _reduce(self: Any) -> tuple[type[Any], tuple[Any, ...]]:
    return type(self), tuple(getattr(self, name) for name in self.__match_args__)


_SHARED: dict[str, Callable[..., Any]] = {
    "__repr__": _repr,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__reduce__": _reduce,
}
