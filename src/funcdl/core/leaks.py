"""The search for tracers that outlive their trace, on behalf of ``config.check_tracer_leaks``."""

from __future__ import annotations

import gc
from types import CellType, FrameType, ModuleType
from typing import Any

from funcdl.core.trace import Trace, Tracer
from funcdl.errors import LeakedTracerError


class Kept(tuple[Tracer, ...]):
    """Tracers that are kept on purpose: something refers to them, and stands for their values."""

    __slots__ = ()


def check_leaks(trace: Trace) -> None:
    """Raise where a tracer of a trace that has ended is still referred to.

    Raises:
      LeakedTracerError: says where the tracer was created, and what holds it.
    """
    found = _survivors(trace)
    if found:
        # Cycles, such as those of exceptions and their frames, are no leaks.
        del found
        gc.collect()
        found = _survivors(trace)
    if not found:
        return
    lines = []
    for number in range(min(3, len(found))):  # a slice would be one more holder
        tracer = found[number]
        where = f" created at {tracer.source.describe()}" if tracer.source is not None else ""
        lines.append(f"  {tracer.aval}{where}\n    held by {_holder(tracer, found)}")
    more = f"\n  and {len(found) - 3} more" if len(found) > 3 else ""
    raise LeakedTracerError(
        f"{trace.name} has ended, and traced values of it are still there:\n"
        + "\n".join(lines)
        + more
        + "\nThey leaked through a side effect of the traced function. Return them instead."
    )


def _survivors(trace: Trace) -> list[Tracer]:
    tracers = [x for x in gc.get_referrers(trace) if isinstance(x, Tracer)]
    if not tracers:
        return []
    kept = {id(x) for holder in gc.get_referrers(*tracers) if type(holder) is Kept for x in holder}
    return [x for x in tracers if id(x) not in kept]


def _holder(x: Any, *ignored: Any, depth: int = 0) -> str:
    """What refers to an object, as the user would name it; empty where it cannot be named."""
    skipped = set(map(id, ignored))
    holders = gc.get_referrers(x)
    for holder in holders:
        if isinstance(holder, FrameType | Tracer) or id(holder) in skipped:
            continue
        text = _name_in(holder, x)
        if not text and isinstance(holder, dict | list | tuple | set):
            text = f"an element of a {type(holder).__name__} of {len(holder)}"
            outer = _holder(holder, holders, depth=depth + 1) if depth < 2 else ""
            text += f", which is {outer}" if outer else ""
        if text:
            return text
    return "" if depth else "an object that cannot be named"


def _name_in(holder: Any, x: Any) -> str:
    if isinstance(holder, CellType):
        return _closure_variable(holder)
    if isinstance(holder, dict):
        name = next((key for key, value in holder.items() if value is x), None)
        for owner in gc.get_referrers(holder):
            if isinstance(owner, ModuleType) and vars(owner) is holder:
                return f"the global variable {name} of {owner.__name__}"
            if getattr(owner, "__dict__", None) is holder:
                return f"the attribute {name} of an object of class {type(owner).__name__}"
        return ""
    # Attributes need no dict until somebody asks for it.
    for name, value in getattr(holder, "__dict__", {}).items():
        if value is x:
            return f"the attribute {name} of an object of class {type(holder).__name__}"
    return ""


def _closure_variable(cell: CellType) -> str:
    for closure in gc.get_referrers(cell):
        for function in gc.get_referrers(closure) if isinstance(closure, tuple) else ():
            if getattr(function, "__closure__", None) is closure:
                assert isinstance(closure, tuple)
                name = function.__code__.co_freevars[closure.index(cell)]
                return f"the variable {name} that {function.__qualname__} closes over"
    return "a variable of an enclosing function"
