"""Where the user's code was: the source line kept on every equation and shown in errors."""

from __future__ import annotations

import linecache
import os
import sys
from typing import NamedTuple

PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

_internal: dict[str, bool] = {}


class SourceLine(NamedTuple):
    """One line of the user's program."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.function})"

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


def current() -> SourceLine | None:
    """The innermost line outside this library in the present call stack."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not is_internal(code.co_filename):
            return SourceLine(code.co_filename, frame.f_lineno, code.co_qualname)
        frame = frame.f_back  # type: ignore[assignment]  # the outermost frame's is None
    return None
