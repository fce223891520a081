"""Named axes: the mapped axes that collectives such as `psum` refer to by name.

A trace that maps an axis with a name has it as `axis`. The names in scope are those of the current
trace and its ancestors, the nearest first, so no second environment is to be kept beside the chain
of traces. Batching rules get the axis as their `axis_size`: most need no more than the number,
those of collectives and of programs pass it on or ask for its name.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from funcdl.core.jaxpr import ClosedJaxpr, sub_jaxprs
from funcdl.core.trace import context
from funcdl.errors import ArgumentError, AxisNameError

if TYPE_CHECKING:
    from funcdl.core.primitive import Primitive
    from funcdl.core.trace import Trace


class Axis(int):
    """The size of a mapped axis, together with its name."""

    name: Hashable

    def __new__(cls, size: int, name: Hashable) -> Axis:
        """An axis; `name` must not be None, which means no name."""
        self = super().__new__(cls, size)
        self.name = name
        return self


AxisKey = tuple[tuple[Hashable, int], ...]


def name_of(axis_size: int) -> Hashable:
    """The name of the axis that a batching rule is given, None where it has none."""
    return axis_size.name if isinstance(axis_size, Axis) else None


def axes_in_scope() -> AxisKey:
    """Names and sizes of the axes that collectives may refer to, the innermost first.

    Programs depend on it, so it is part of the keys under which they are kept.
    """
    trace: Trace | None = context.trace
    found: dict[Hashable, int] = {}
    while trace is not None:
        if trace.axis is not None:
            found.setdefault(trace.axis.name, int(trace.axis))
        trace = trace.parent
    return tuple(found.items())


def size_in_scope(what: str, name: Hashable) -> int:
    """The size of a named axis.

    Raises:
      AxisNameError: there is none of this name; `what` needed it.
    """
    axes = axes_in_scope()
    for known, size in axes:
        if known == name:
            return size
    raise unknown_axis(what, name, axes)


def unknown_axis(what: str, name: Hashable, axes: AxisKey) -> AxisNameError:
    """The error for an axis name that is not in scope."""
    listed = ", ".join(f"{known!r} (size {size})" for known, size in axes)
    found = f"in scope: {listed}" if axes else "no axis has a name here"
    return AxisNameError(
        f"{what}: there is no axis named {name!r} ({found}). Call it within a function that is "
        f"mapped with vmap(..., axis_name={name!r})"
    )


def check_axis_name(what: str, name: Any) -> Hashable:
    """One axis name, as users give it.

    Raises:
      ArgumentError: it cannot be a name.
    """
    if isinstance(name, int) or name is None:
        raise ArgumentError(
            f"{what} requires axis_name to be a name, such as 'batch', got {name!r}; axes of the "
            "array itself are reduced by sum, max or min of funcdl.numpy"
        )
    try:
        hash(name)
    except TypeError:
        raise ArgumentError(
            f"{what} requires axis_name to be hashable, got a {type(name).__name__}: {name!r}"
        ) from None
    checked: Hashable = name
    return checked


def axis_names(what: str, axis_name: Any) -> tuple[Hashable, ...]:
    """The names that a collective was given: one, or a tuple or list of different ones.

    Raises:
      ArgumentError: one cannot be a name, or is there twice.
      AxisNameError: one is not in scope.
    """
    given: Sequence[Any] = axis_name if isinstance(axis_name, tuple | list) else (axis_name,)
    names = tuple(check_axis_name(what, name) for name in given)
    for name in names:
        size_in_scope(what, name)
        if names.count(name) > 1:
            raise ArgumentError(f"{what} requires different axis names, got {name!r} twice")
    return names


def uses_axis(primitive: Primitive, params: dict[str, Any], name: Hashable) -> bool:
    """Whether an equation, or a program among its parameters, may refer to a named axis."""
    if primitive.uses_axis is not None:
        return primitive.uses_axis(params, name)
    return any(program_uses_axis(program, name) for program in sub_jaxprs(params))


def program_uses_axis(program: ClosedJaxpr, name: Hashable) -> bool:
    """Whether a program may refer to a named axis; None is the name of none."""
    if name is None:
        return False
    known = _known.setdefault(program, {})
    if name not in known:
        known[name] = any(uses_axis(eqn.primitive, eqn.params, name) for eqn in program.eqns)
    return known[name]


_known: weakref.WeakKeyDictionary[ClosedJaxpr, dict[Hashable, bool]] = weakref.WeakKeyDictionary()
