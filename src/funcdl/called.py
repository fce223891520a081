"""Which function of the library the user called, found on the call stack when an error is made.

Many functions are made of others, and the one that finds a mistake knows its own name alone. So
errors look at the frames above them: nothing is wrapped or noted in calls that go well. This module
is imported by the first error.
"""

from __future__ import annotations

import dis
import inspect
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

_PACKAGE = __name__.partition(".")[0]
# Where functions are that call others of the same kind, which then name themselves.
_NAMESPACES = ("control", "data", "image", "lax", "nn", "numpy", "ops", "optim", "random", "scipy")
# Packages that the library calls, and that call it back.
_HELPERS = frozenset({"contextlib", "functools", "ml_dtypes", "numpy", "opt_einsum", "optree"})
# Namespaces that show functions of lower layers or of each other.
_SHOWING = ("lax", "nn", "numpy", "numpy.linalg", "lax.linalg", "random", "scipy.linalg")
# Modules of lower layers, functions of which namespaces show.
_LOWER = frozenset({"core.compound", "core.dtypes", "core.lattice"})

_SUBJECT = re.compile(r"(\w+)(: | requires | does not accept | takes )")


@dataclass(frozen=True)
class Call:
    """The user's call of a public function.

    Args:
      name: as the user wrote it, where the function has several.
      function: what has that name.
      frame: of the function.
      inner: names of the functions that it called, down to the error.
    """

    name: str
    function: Any
    frame: types.FrameType
    inner: frozenset[str]

    @property
    def arguments(self) -> dict[str, Any]:
        """What the function was given, by names; of ``*xs`` they are ``xs[0]`` and so on."""
        code, values = self.frame.f_code, self.frame.f_locals
        count = code.co_argcount + code.co_kwonlyargcount
        names = code.co_varnames
        found = {name: values.get(name) for name in names[:count]}
        several = values.get(names[count], ()) if code.co_flags & inspect.CO_VARARGS else ()
        if hasattr(self.function, "__wrapped__") and not count:
            # A wrapper's frame has no names for what it passes on.
            signature = inspect.signature(self.function)
            passed: dict[str, Any] = values.get("kwargs", {})
            return dict(zip(signature.parameters, several, strict=False)) | passed
        return found | {f"{names[count]}[{i}]": x for i, x in enumerate(several)}


def find_call(frame: types.FrameType | None) -> Call | None:
    """The outermost public function below the user's code, where the call stack has one.

    A function that the library itself calls for the user, as for an operator, is none.
    """
    found: Call | None = None
    passed: set[str] = set()
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        package, _, path = module.partition(".")
        if package == _PACKAGE:
            name = frame.f_code.co_name
            if path.partition(".")[0] in _NAMESPACES or path in _LOWER:
                if name.startswith("__"):
                    found = None
                elif found is None or found.frame.f_back is not frame or found.name != name:
                    function = _public(module, frame)
                    if function is not None:
                        found = Call(name, function, frame, frozenset(passed))
            passed.add(name)
        elif package not in _HELPERS:
            break
        frame = frame.f_back
    if found is None or frame is None:
        return found
    return replace(found, name=_written(found, frame))


def is_public(module: str, frame: types.FrameType) -> bool:
    """Whether a call is one of a function that users can name, not of a helper's namesake."""
    return _public(module, frame) is not None


def _public(module: str, frame: types.FrameType) -> Any:
    """The function that users can name of which a call is, if any."""
    code = frame.f_code
    return next((f for f in _shown(module, code.co_name) if _runs(f, code)), None)


def _shown(module: str, name: str) -> Iterator[Any]:
    """What namespaces show to users under a name: those of a module, and those above it."""
    higher = (f"{_PACKAGE}.{path}" for path in _SHOWING)
    for place in map(sys.modules.get, (module, module.rpartition(".")[0], *higher)):
        if name in getattr(place, "__all__", ()) and name in vars(place):
            yield vars(place)[name]


def _runs(function: Any, code: types.CodeType) -> bool:
    """Whether a code object is a function's, or that of one it wraps.

    Objects without code are known by their names.
    """
    codes = []
    while function is not None:
        codes.append(getattr(function, "__code__", None))
        function = getattr(function, "__wrapped__", None)
    return code in codes or not any(codes)


def _written(called: Call, user: types.FrameType) -> str:
    """The name by which the user's code called a function: ``amax`` is another one of `max`."""
    module, own = str(called.frame.f_globals.get("__name__")), called.name
    names = {own}.union(
        name
        for name in user.f_code.co_names
        if any(f is called.function for f in _shown(module, name))
    )
    if len(names) == 1:
        return own
    # The function of a call is loaded before what it is given.
    instructions = list(dis.get_instructions(user.f_code))
    call = next((i.positions for i in instructions if i.offset == user.f_lasti), None)
    for i in instructions:
        if i.argval in names and (call is None or _within(i.positions, call)):
            return str(i.argval)
    return own


def _within(part: Any, whole: Any) -> bool:
    """Whether one place in a source text is part of another."""
    if None in (*part, *whole):
        return True
    start, end = (whole.lineno, whole.col_offset), (whole.end_lineno, whole.end_col_offset)
    return bool(
        start <= (part.lineno, part.col_offset) and (part.end_lineno, part.end_col_offset) <= end
    )


def named(message: str, frame: types.FrameType | None) -> str:
    """A message about what a function was given, with the name of the one that the user called.

    The name of an inner function, which the user may not know of, is replaced by it.
    """
    call = find_call(frame)
    if call is None or _names(message, call.name):
        return message
    subject = _SUBJECT.match(message)
    is_argument = subject is not None and f" as argument {subject[1]}" in message
    if subject is None or not (is_argument or _is_function(subject[1], call)):
        return f"{call.name}: {message}"
    return f"{call.name}{message[subject.end(1) :]}"


def _names(message: str, name: str) -> bool:
    """Whether a message says that it is about a function."""
    return re.search(rf"(^|\bof )(funcdl[\w.]*\.)?{re.escape(name)}\b", message) is not None


def _is_function(word: str, call: Call) -> bool:
    """Whether the first word of a message is a function's name: on the stack, or of a primitive."""
    if word in call.inner or word in call.arguments:
        return word in call.inner
    registry = sys.modules.get(f"{_PACKAGE}.ops.registry")
    if registry is not None and word in registry.ops():
        return True
    namespaces = (sys.modules.get(f"{_PACKAGE}.{path}") for path in _SHOWING)
    return any(word in getattr(place, "__all__", ()) for place in namespaces)


def given_as(
    value: Any, frame: types.FrameType | None, name: str = "", position: int | None = None
) -> str:
    """As which argument the user gave a value, for a message: `` as argument arrays[1]``.

    Args:
      name: the function that looks at it.
      position: where that function has it, for where the user called none with such an argument.
    """
    call = find_call(frame)
    if call is not None:
        for known, given in call.arguments.items():
            if given is value:
                return f" as argument {known}"
            if isinstance(given, list | tuple):
                for i, x in enumerate(given):
                    if x is value:
                        return f" as argument {known}[{i}]"
    if position is None or (call is not None and call.frame.f_code.co_name != name):
        return ""
    return f" as argument {position}"
