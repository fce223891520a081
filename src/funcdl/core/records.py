"""Immutable records, made as quickly as a package wants that has a hundred of them.

``dataclass(frozen=True, slots=True)`` compiles six methods one by one (0.35 ms for each class, a
third of the time of ``import funcdl``), and its instances set their fields through
``object.__setattr__``. `record` compiles three methods once for all classes of so many fields, puts
each class's names into their code, and shares the other methods. What `dataclasses` wants to know
of a class is made when it asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, FrozenInstanceError, field, make_dataclass, replace
from functools import cache
from reprlib import recursive_repr
from types import CodeType, FunctionType
from typing import Any, TypeVar, cast, dataclass_transform

_Class = TypeVar("_Class", bound=type[Any])


@dataclass_transform(frozen_default=True)
def record(cls: _Class) -> _Class:
    """Make a class what ``dataclass(frozen=True, slots=True)`` makes of it, but sooner.

    `dataclasses.fields`, ``replace`` and ``asdict``, ``match`` statements, copies and pickles work
    alike. Defaults are plain values: ``field()`` and ``__post_init__`` need a dataclass, and so do
    fields of base classes.

    Raises:
      TypeError: a default is a ``field()``, a field without default follows one with a default, the
        class has a ``__post_init__``, or it inherits from another.
    """
    if cls.__bases__ != (object,):
        raise TypeError(f"record: {cls.__name__} cannot inherit; make it a dataclass instead")
    if hasattr(cls, "__post_init__"):
        raise TypeError(f"record: {cls.__name__} has a __post_init__; make it a dataclass instead")
    scope = dict(cls.__dict__)
    annotations = cls.__annotations__
    names = tuple(annotations)
    defaults = {name: scope.pop(name) for name in names if name in scope}
    for name, default in defaults.items():
        if isinstance(default, Field):
            raise TypeError(
                f"record: the default of {cls.__name__}.{name} is a field(); make the class a "
                "dataclass instead, or the default a plain value"
            )
    if tuple(defaults) != names[len(names) - len(defaults) :]:
        raise TypeError(f"record: {cls.__name__} has a field with a default before one without")
    for name in ("__dict__", "__weakref__"):
        del scope[name]  # which come from `object`'s lack of slots
    if scope["__doc__"] is None:
        scope["__doc__"] = cls.__name__
    asked = {name: _Asked(annotations, defaults) for name in _OF_DATACLASSES}
    shared = {**_SHARED, **asked, "__match_args__": names, "__slots__": names}
    made: Any = type(cls.__name__, (), {**shared, **scope})  # anew, with slots
    made.__qualname__ = cls.__qualname__
    for name, method in _written(made, names).items():
        if name not in scope:
            method.__qualname__ = f"{made.__qualname__}.{name}"
            setattr(made, name, method)
    made.__init__.__defaults__ = tuple(defaults.values())
    made.__init__.__annotations__ = {**annotations, "return": None}
    return cast("_Class", made)


class _Asked:
    """An attribute that `dataclasses` reads off classes; at first, a dataclass is made for it."""

    def __init__(self, annotations: dict[str, Any], defaults: dict[str, Any]) -> None:
        self._annotations = annotations
        self._defaults = defaults

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner = owner
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        defaults = {name: field(default=value) for name, value in self._defaults.items()}
        fields = [(n, kind, defaults.get(n, field())) for n, kind in self._annotations.items()]
        twin = make_dataclass(self._owner.__name__, fields, frozen=True)
        for name in _OF_DATACLASSES:
            setattr(self._owner, name, getattr(twin, name))
        return getattr(self._owner, self._name)


_OF_DATACLASSES = ("__dataclass_fields__", "__dataclass_params__")


def _written(cls: Any, names: tuple[str, ...]) -> dict[str, FunctionType]:
    """The methods that run often, written out for these fields."""
    own = {_place(i): name for i, name in enumerate(names)}
    scope = {_setter(i): getattr(cls, name).__set__ for i, name in enumerate(names)}
    methods: dict[str, FunctionType] = {}
    for code in _templates(len(names)):
        code = code.replace(
            co_varnames=tuple(own.get(name, name) for name in code.co_varnames),
            co_names=tuple(own.get(name, name) for name in code.co_names),
        )
        methods[code.co_name] = FunctionType(code, scope)
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


def _replace(self: Any, /, **changes: Any) -> Any:
    return replace(self, **changes)


_SHARED: dict[str, Callable[..., Any]] = {
    "__replace__": _replace,
    "__repr__": _repr,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__reduce__": _reduce,
}
