"""Names of programs, as files, C functions and messages have them."""

from __future__ import annotations

import re


def program_name(name: str) -> str:
    """A function's name without what is no letter, digit or underscore (``<lambda>``)."""
    return re.sub(r"\W+", "_", name).strip("_") or "program"
