"""Calls of funcdl.numpy with the types of their results, read from expressions.txt.

A line is an expression, ``=>``, and the types. `m` stands for the module, so that JAX can evaluate
it too; arrays that many lines share have names.
"""

from __future__ import annotations

from array import array
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

# What shows its memory by its interface alone, as images of Pillow do.
PIXELS = np.arange(6, dtype=np.uint8).reshape(2, 3)
IMAGE = SimpleNamespace(__array_interface__=PIXELS.__array_interface__)
FILE = Path(__file__).with_suffix(".txt")


def scope(m: Any) -> dict[str, Any]:
    """What an expression can name, with the arrays of a module."""
    return {
        "np": np,
        "m": m,
        "X": m.array([[3.0, np.nan, 1, 7], [2, 5, -1, 0.5], [np.nan] * 4]),
        "Y": m.array([[3.0, 4, 1, 7], [2, 5, -1, 0.5], [9, -2, 3, 6]]),
        "V": m.array([1.0, 2, 0.5, -1]),
        "W": m.array([2.0, -1, 3]),
        "deque": deque,
        "machine_array": array,
        "image": IMAGE,
    }


def evaluate(text: str, m: Any) -> list[Any]:
    """The results of an expression, without the containers that they are in."""
    return list(_flat(eval(text, scope(m))))


def _flat(x: Any) -> list[Any]:
    return [leaf for part in x for leaf in _flat(part)] if isinstance(x, list | tuple) else [x]


def type_text(x: Any) -> str:
    """The type of a result as a jaxpr shows it; the Python type of others than arrays."""
    if not hasattr(x, "weak_type"):
        return type(x).__name__
    weak = "~" if x.weak_type else ""
    return f"{weak}{np.dtype(x.dtype).name}{list(x.shape)}".replace(" ", "")


def lines() -> list[tuple[str, str]]:
    """The expressions, and the types of their results."""
    rows = [line for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
    pairs = [line.split(" => ") for line in rows]
    return [(expression, types) for expression, types in pairs]
