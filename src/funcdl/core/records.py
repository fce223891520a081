"""Immutable records, made as quickly as a package wants that has a hundred of them.

``dataclass(frozen=True, slots=True)`` compiles six methods one by one (0.35 ms for each class, a
third of the time of ``import funcdl``), and its instances set their fields through
``object.__setattr__``. `record` compiles three methods once for all classes of so many fields, puts
each class's names into their code, and shares the other methods.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, fields
from functools import cache
from inspect import get_annotations
from reprlib import recursive_repr
from types import CodeType, FunctionType
from typing import Any, TypeVar, cast, dataclass_transform

_Class = TypeVar("_Class", bound=type[Any])


@dataclass_transform(frozen_default=True)
def record(cls: _Class) -> _Class:
    """Make a class what ``dataclass(frozen=True, slots=True)`` makes of it, but sooner.

    `dataclasses.fields`, ``replace`` and ``asdict``, ``match`` statements, copies and pickles work
    alike. Defaults are plain values: ``field()`` and ``__post_init__`` need a dataclass.

    Raises:
      TypeError: a default is a ``field()``, a field without default follows one with a default, the
        class has a ``__post_init__``, or it inherits from a frozen dataclass.
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
    for name, method in _written(made, found).items():
        if name not in cls.__dict__:
            method.__qualname__ = f"{made.__qualname__}.{name}"
            setattr(made, name, method)
    for name, shared in _SHARED.items():
        if name not in cls.__dict__:
            setattr(made, name, shared)
    made.__init__.__annotations__ = {field.name: field.type for field in found} | {"return": None}
    return cast("_Class", made)  # the class anew, with slots


def _written(cls: Any, found: tuple[Field[Any], ...]) -> dict[str, FunctionType]:
    """The methods that run often, written out for these fields."""
    names = tuple(field.name for field in found)
    own = {_place(i): name for i, name in enumerate(names)}
    scope = {_setter(i): getattr(cls, name).__set__ for i, name in enumerate(names)}
    defaults = tuple(field.default for field in found if field.default is not MISSING)
    if any(field.default is MISSING for field in found[len(found) - len(defaults) :]):
        raise TypeError(f"record: {cls.__name__} has a field with a default before one without")
    methods: dict[str, FunctionType] = {}
    for code in _templates(len(names)):
        code = code.replace(
            co_varnames=tuple(own.get(name, name) for name in code.co_varnames),
            co_names=tuple(own.get(name, name) for name in code.co_names),
        )
        methods[code.co_name] = FunctionType(code, scope)
    methods["__init__"].__defaults__ = defaults
    return methods


@cache
def _templates(count: int) -> list[CodeType]:
    """The code of these methods for so many fields, which are called `_place`."""
    places = [_place(i) for i in range(count)]
    own = "".join(f"self.{name}," for name in places)
    theirs = "".join(f"other.{name}," for name in places)
    text = f"""
def __init__({", ".join(["self", *places])}):
    {"; ".join(f"{_setter(i)}(self, {name})" for i, name in enumerate(places)) or "pass"}
def __eq__(self, other):
    return ({own}) == ({theirs}) if other.__class__ is self.__class__ else NotImplemented
def __hash__(self):
    return hash(({own}))
"""
    # This file's name, so that these methods count as the library's in tracebacks.
    module = compile(text, __file__, "exec")
    return [part for part in module.co_consts if isinstance(part, CodeType)]


def _place(number: int) -> str:
    return f"_field_{number}"


def _setter(number: int) -> str:
    return f"set_field_{number}"


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
