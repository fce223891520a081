"""Values of outer traces that a custom function or its rules close over.

Traces hand such functions on and run them when it suits them: batched, staged, or long after the
trace has ended whose values they close over. So these values are found when the custom function is
called, go with its arguments as operands, and wherever the functions run, each stands for what has
become of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

from funcdl.core.primitive import Primitive
from funcdl.core.trace import Trace, Tracer, context, current_trace, is_usable
from funcdl.errors import NotDifferentiableError

R = TypeVar("R")


class Differentiated:
    """Stands for a closed-over value with a tangent, which rules say nothing about."""

    __slots__ = ("aval", "name")

    def __init__(self, name: str, aval: Any) -> None:
        self.name = name
        self.aval = aval


class SubstitutionTrace(Trace):
    """Hands everything to its parent, with the values of some tracers in their places."""

    __slots__ = ("_values",)

    def __init__(self, parent: Trace, tracers: Sequence[Tracer], values: Sequence[Any]) -> None:
        super().__init__(parent.name, parent)
        # The tracers are kept, so that their ids stay their own.
        self._values = {id(x): (x, value) for x, value in zip(tracers, values, strict=True)}

    def stands_for(self, x: Any) -> bool:
        return id(x) in self._values

    def value(self, x: Any) -> Any:
        """What a value stands for here."""
        found = self._values.get(id(x))
        if found is None:
            return x
        if type(found[1]) is Differentiated:
            raise NotDifferentiableError(
                f"{found[1].name} closes over a value of type {x.aval} that is being "
                "differentiated, and its custom rule only says how to differentiate by its "
                "arguments. Pass the value as an argument, and let the rule use it."
                + (f"\nIt was created at {x.source.describe()}" if x.source else "")
            )
        return found[1]

    def forget(self) -> None:
        """Drop the values, which programs traced under this trace would keep alive."""
        self._values.clear()

    def process(self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        values = [self.value(x) for x in args]
        assert self.parent is not None
        with current_trace(self.parent):
            return primitive.bind(*values, **params)


def run_substituted(
    f: Callable[[], list[R]], tracers: Sequence[Tracer], values: Sequence[Any]
) -> list[R]:
    """What a function returns where the given values stand for these tracers."""
    if not tracers:
        return f()
    trace = SubstitutionTrace(context.trace, tracers, values)
    try:
        with current_trace(trace):
            outs = f()
        return [trace.value(x) for x in outs]
    finally:
        trace.forget()


def closed_over(*functions: Any) -> list[Tracer]:
    """The tracers that functions refer to by closures, default values, or bound arguments.

    Those that cannot be used under the current trace are left out.
    """
    found: dict[int, Tracer] = {}
    seen: set[int] = set()
    pending = list(functions)
    while pending:
        x = pending.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, Tracer):
            if is_usable(x):
                found[id(x)] = x
        else:
            pending += _parts(x)
    return list(found.values())


def _parts(x: Any) -> Iterable[Any]:
    """What an object refers to, as far as functions commonly carry arrays with them."""
    if isinstance(x, FunctionType):
        cells = x.__closure__ or ()
        held = [cell.cell_contents for cell in cells if _is_full(cell)]
        return [*held, *(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values()]
    if isinstance(x, functools.partial):
        return [x.func, *x.args, *x.keywords.values()]
    if isinstance(x, MethodType):
        return [x.__func__, x.__self__]
    if isinstance(x, dict):
        return list(x.values())
    if isinstance(x, list | tuple | set | frozenset):
        return list(x)
    if isinstance(x, type | ModuleType) or not hasattr(x, "__dict__"):
        return ()
    # Decorated functions hold caches, so only the functions in them are looked at.
    followed = _FUNCTIONS if "__wrapped__" in vars(x) else (*_FUNCTIONS, Tracer, dict, list, tuple)
    return [y for y in vars(x).values() if isinstance(y, followed)]


_FUNCTIONS = (FunctionType, MethodType, functools.partial)


def _is_full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # raises where the variable has no value yet
    except ValueError:
        return False
    return True
