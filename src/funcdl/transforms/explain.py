"""What jit writes to the log: traces and compilations, and in plain words why it traced again."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from time import perf_counter
from types import CodeType
from typing import Any

from funcdl.config import config
from funcdl.core import profiler
from funcdl.core.avals import ShapedArray
from funcdl.core.axes import AxisKey
from funcdl.core.tree import TreeDef
from funcdl.transforms.arguments import show_tree

Key = tuple[tuple[ShapedArray, ...], TreeDef, tuple[Any, ...], str, AxisKey]
"""Types of the leaves, structure, static arguments as (place, type, value), the x64 flag, and the
named axes in scope."""


def _log(message: str, *arguments: Any) -> None:
    import logging  # here, since most programs never log, and the module takes 6 ms to load

    logging.getLogger("funcdl").warning(message, *arguments)


@contextmanager
def logged(what: str, names: Sequence[str], avals: Sequence[ShapedArray]) -> Iterator[None]:
    """Log how long something took for arguments of which types, if ``config.log_compiles``.

    A profile that is being taken gets to know it, too.
    """
    timed = profiler.span(profiler.Work("compile", what)) if profiler.active else nullcontext()
    if not config.log_compiles:
        with timed:
            yield
        return
    start = perf_counter()
    with timed:
        yield
    if len(names) != len(avals):
        names = [f"argument {i}" for i in range(len(avals))]
    types = ", ".join(f"{name}: {aval}" for name, aval in zip(names, avals, strict=True))
    milliseconds = (perf_counter() - start) * 1e3
    _log("%s in %.1f ms for (%s)", what, milliseconds, types)


def explain_miss(
    name: str,
    fun: Callable[..., Any],
    key: Key,
    cached: Iterable[Key],
    leaf_names: Callable[[], Sequence[str]],
    static_names: Callable[[], Sequence[str]],
) -> None:
    """Log why a call needs another trace, compared with the most similar call before."""
    code = getattr(fun, "__code__", None)
    known = list(cached)
    if not known:
        _log("%s", _first_time(name, fun, code))
    else:
        differences = [_differences(key, other, leaf_names, static_names) for other in known]
        nearest = min(differences, key=lambda found: len(found))
        reason = "; ".join(nearest) or "its program was not kept"
        _log("%s was traced again: %s", name, reason)
    if isinstance(code, CodeType):
        _seen.setdefault(code, weakref.WeakSet()).add(fun)
        _traced.add(code)


_seen: dict[CodeType, weakref.WeakSet[Callable[..., Any]]] = {}
_traced: set[CodeType] = set()


def _first_time(name: str, fun: Callable[..., Any], code: Any) -> str:
    if code not in _traced:
        return f"{name} was traced for the first time"
    if fun in _seen[code]:
        return f"{name} was traced again: nothing of it is cached for these options of jit"
    return (
        f"{name} was traced again: this is another function object, made by the same lines "
        f"({code.co_filename}:{code.co_firstlineno}), and programs are cached by function object. "
        "Define the function once, outside of the loop or function that calls it"
    )


def _differences(
    key: Key,
    cached: Key,
    leaf_names: Callable[[], Sequence[str]],
    static_names: Callable[[], Sequence[str]],
) -> list[str]:
    types, treedef, static, x64, axes = key
    other_types, other_treedef, other_static, other_x64, other_axes = cached
    found = []
    if treedef != other_treedef:
        found.append(
            f"arguments: called with the structure {show_tree(treedef)} where "
            f"{show_tree(other_treedef)} is cached"
        )
    else:
        found += [
            f"argument {name}: called with {new} where {old} is cached{_hint(new, old)}"
            for name, new, old in zip(leaf_names(), types, other_types, strict=True)
            if new != old
        ]
    if static != other_static:
        found += _static_differences(static, other_static, static_names())
    if x64 != other_x64:
        found.append(f"config.x64: now {x64!r} where {other_x64!r} is cached")
    if axes != other_axes:
        found.append(
            f"named axes in scope: now {_show_axes(axes)} where {_show_axes(other_axes)} is cached"
        )
    return found


def _show_axes(axes: AxisKey) -> str:
    return ", ".join(f"{name!r} of size {size}" for name, size in axes) or "none"


def _static_differences(
    static: tuple[Any, ...], cached: tuple[Any, ...], names: Sequence[str]
) -> list[str]:
    new = {place: (kind, value) for place, kind, value in static}
    old = {place: (kind, value) for place, kind, value in cached}
    labels = {place: name for (place, _, _), name in zip(static, names, strict=True)}
    found = []
    for place in {**new, **old}:
        if new.get(place) != old.get(place):
            a, b = (repr(x[place][1]) if place in x else "nothing" for x in (new, old))
            label = labels.get(place, place)
            found.append(f"static argument {label}: called with {a} where {b} is cached")
    return found


def _hint(new: ShapedArray, old: ShapedArray) -> str:
    if new.same_type(old):
        return " (a Python scalar, or a value made of those, against an array)"
    return ""
