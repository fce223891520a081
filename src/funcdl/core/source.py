"""Where the user's code was: the source line kept on every equation and shown in errors."""

from __future__ import annotations

import linecache
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

_internal: dict[str, bool] = {}


class SourceLine(NamedTuple):
    """One line of the user's program, and the named scopes that it ran in."""

    file: str
    line: int
    function: str
    scope: str = ""

    def __str__(self) -> str:
        scope = f" in scope {self.scope}" if self.scope else ""
        return f"{self.file}:{self.line} ({self.function}){scope}"

    @property
    def text(self) -> str:
        """The line itself, stripped; empty where the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    def describe(self) -> str:
        """The place and, when known, the line's text, for error messages."""
        return f"{self}: {self.text}" if self.text else str(self)


def is_internal(filename: str) -> bool:
    """Whether a file belongs to this library (and so is not the user's)."""
    known = _internal.get(filename)
    if known is None:
        # "<stdin>" is no path: it must not count as a file of the working directory.
        is_path = not filename.startswith("<")
        known = is_path and os.path.abspath(filename).startswith(PACKAGE_FOLDER)
        _internal[filename] = known
    return known


class _Place(threading.local):
    scope: str = ""
    line: SourceLine | None = None


place = _Place()
"""`place.scope` is the path of the named scopes entered; `place.line`, where set, the line of an
equation that is being run again, by which the equations that come from it are known too."""


def name_frames(function: Any, name: str) -> None:
    """Let the frames of a generated function have its public name, by which errors know it."""
    function.__code__ = function.__code__.replace(co_name=name, co_qualname=name)


def stacklevel() -> int:
    """The `stacklevel` with which the caller's `warnings.warn` shows the user's line."""
    level, frame = 1, sys._getframe(1)
    while is_internal(frame.f_code.co_filename) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level


@contextmanager
def no_line() -> Iterator[None]:
    """Run the user's code meanwhile, whose equations are known by their own lines."""
    line, place.line = place.line, None
    try:
        yield
    finally:
        place.line = line


def current() -> SourceLine | None:
    """The innermost line outside this library in the present call stack."""
    if place.line is not None:
        return place.line
    frame: FrameType | None = sys._getframe(1)
    known = _internal.get  # written out: every equation asks this of some eight frames
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if not (known(file) or is_internal(file)):
            return SourceLine(file, frame.f_lineno, code.co_qualname, place.scope)
        frame = frame.f_back
    return None
