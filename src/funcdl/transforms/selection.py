"""Which arguments `static_argnums`, `donate_argnames` and their like choose."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Sequence
from inspect import Parameter
from typing import Any

from funcdl.core.records import record
from funcdl.errors import ArgumentError


@record
class Selection:
    """Chosen parameters, by position and by name: whichever way an argument is passed counts."""

    positions: frozenset[int]
    names: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.positions or self.names)


def select_arguments(
    fun: Callable[..., Any],
    name: str,
    kind: str,
    argnums: int | Sequence[int] | None,
    argnames: str | Iterable[str] | None,
) -> Selection:
    """The parameters that `argnums` and `argnames` choose; each one implies the other.

    Args:
      fun: the function; where it has no signature, nothing is implied.
      name, kind: of the function, and ``"static"`` or ``"donate"``, for messages.
      argnums, argnames: as the user gave them; negative positions count from the end.

    Raises:
      ArgumentError: an entry has the wrong type, or the function has no such parameter.
    """
    numbers = _entries(argnums, int, f"{kind}_argnums")
    names = _entries(argnames, str, f"{kind}_argnames")
    if not numbers and not names:
        return Selection(frozenset(), frozenset())
    try:
        parameters = inspect.signature(fun).parameters
    except (TypeError, ValueError):
        return Selection(frozenset(numbers), frozenset(names))
    kinds = {p.kind for p in parameters.values()}
    by_position = [
        p.name
        for p in parameters.values()
        if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
    count = len(by_position)
    open_ended = Parameter.VAR_POSITIONAL in kinds
    for i in numbers:
        if not -count <= i < count and not (open_ended and i >= 0):
            raise ArgumentError(
                f"{kind}_argnums={argnums!r} is out of range: {name} takes {count} positional "
                f"argument{'s' * (count != 1)} ({', '.join(by_position)})"
            )
    if Parameter.VAR_KEYWORD not in kinds:
        for n in names:
            if n not in parameters:
                close = difflib.get_close_matches(n, parameters, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(parameters)}"
                raise ArgumentError(f"{kind}_argnames: {name} has no parameter {n!r}; {hint}")
    positions = {i % count if i < 0 else i for i in numbers}
    implied = {by_position[i] for i in positions if i < count}
    positions |= {by_position.index(n) for n in names if n in by_position}
    return Selection(frozenset(positions), frozenset(implied | set(names)))


def _entries(value: Any, kind: type, what: str) -> tuple[Any, ...]:
    if value is None:
        return ()
    entries = (value,) if isinstance(value, int | str) else value
    try:
        found = tuple(entries)
    except TypeError:
        found = (value,)
    if any(not isinstance(x, kind) or isinstance(x, bool) for x in found):
        noun = {"int": "an int or a sequence of ints", "str": "a str or a sequence of strs"}
        raise ArgumentError(f"{what} must be {noun[kind.__name__]}, got {value!r}")
    return found
