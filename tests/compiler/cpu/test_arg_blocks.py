"""Positions of maxima and minima in rows that are longer than the blocks they are looked for in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.compiler.cpu.schedule import ARG_BLOCK
from funcdl.runtime.toolchain import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

RNG = np.random.default_rng(0)
LENGTHS = (ARG_BLOCK + 1, 3 * ARG_BLOCK, 3 * ARG_BLOCK + 40)


@fd.jit
def positions(x: Any) -> Any:
    """Alone, of what is computed, and beside a store in the pass that searches."""
    scaled = x / fnp.max(x, axis=1, keepdims=True)
    return fnp.argmax(x, axis=1), fnp.argmin(x, axis=1), fnp.argmax(x * 2, axis=1), scaled


def rows(length: int, kind: str) -> Any:
    # Few different values: most are found several times, in several blocks.
    x = RNG.integers(-5, 5, (9, length)).astype(np.float32)
    if kind == "nan":
        x[::2, RNG.integers(0, length)] = np.nan
        x[1::3, [length // 2, length - 1]] = np.nan
    if kind == "infinite":
        x[:] = np.where(x > 0, np.inf, -np.inf)
        x[0], x[1] = np.inf, -np.inf
    if kind == "at the ends":
        x[:, -1], x[:, 0] = 100, -100
    return x.astype(np.int32) if kind == "integers" else x


@pytest.mark.parametrize("kind", ["ties", "nan", "infinite", "at the ends", "integers"])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_first_position_is_found(length: int, kind: str) -> None:
    x = rows(length, kind)
    largest, least, of_double, _ = positions(x)
    np.testing.assert_array_equal(largest, x.argmax(1))
    np.testing.assert_array_equal(least, x.argmin(1))
    np.testing.assert_array_equal(of_double, x.argmax(1))
