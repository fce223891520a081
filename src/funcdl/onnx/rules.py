"""The table of primitives that have an ONNX form, and what a rule is.

A rule gets the graph, the equation and the values of its operands, adds nodes, and returns the
value of the result, or a list of them where the primitive has several.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcdl.core.jaxpr import Eqn
from funcdl.core.records import record

Rule = Callable[..., Any]


class Unsupported(Exception):
    """A rule cannot write this application of its primitive; the message says why."""


@record
class Entry:
    """A rule. With `broadcasts` it takes values that broadcast, and all others dense ones."""

    write: Rule
    broadcasts: bool


_table: dict[str, Entry] = {}


def rule(*names: str, broadcasts: bool = False) -> Callable[[Rule], Rule]:
    """Enter a function as the rule of primitives."""

    def enter(write: Rule) -> Rule:
        for name in names:
            assert name not in _table, name
            _table[name] = Entry(write, broadcasts)
        return write

    return enter


def find(name: str) -> Entry | None:
    """The rule of a primitive."""
    return _table.get(name)


def aval(eqn: Eqn, output: int = 0) -> Any:
    """The type of a result."""
    return eqn.outvars[output].aval
