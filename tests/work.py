"""A measure of work that is the same on every machine and at every load: calls of functions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def count_calls(f: Callable[[], Any]) -> int:
    """How many functions, Python's and C's, are called while `f` runs."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    previous = sys.getprofile()
    sys.setprofile(profile)
    try:
        f()
    finally:
        sys.setprofile(previous)
    return count
