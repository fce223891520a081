"""Loops over bodies that change a table: from a step's number and the table to the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcdl import lax

NDArray = np.ndarray[Any, Any]
ROWS, COLUMNS, STEPS = 64, 40, 7


def table(seed: int = 0) -> NDArray:
    return np.random.default_rng(seed).normal(size=(ROWS, COLUMNS)).astype(np.float32)


def by_fori(body: Callable[[Any, Any], Any], x: Any) -> Any:
    return lax.fori_loop(0, STEPS, body, x)


def by_while(body: Callable[[Any, Any], Any], x: Any) -> Any:
    def step(state: Any) -> Any:
        return state[0] + 1, body(state[0], state[1])

    return lax.while_loop(lambda s: (s[0] < STEPS) & (s[1][0, 0] < 1e30), step, (0, x))[1]
