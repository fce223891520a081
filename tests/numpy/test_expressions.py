"""Many calls, once each: types of results as recorded, types and values as JAX's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from tests.differential.engine import quick_compiler
from tests.numpy.expressions import evaluate, lines, type_text

import funcdl.numpy as fnp

LINES = lines()


@pytest.mark.parametrize(("text", "types"), LINES, ids=[text for text, _ in LINES])
def test_types_are_the_recorded_ones(text: str, types: str) -> None:
    assert " ".join(map(type_text, evaluate(text, fnp))) == types


TEXTS = [text for text, _ in LINES]
# In one program of JAX, which takes longer to compile operations one by one.
TOGETHER = 30


def in_one_program(texts: Sequence[str]) -> list[list[Any]]:
    """What JAX gives for some expressions, jitted where they can be."""
    jax = pytest.importorskip("jax")
    kept: list[list[Any]] = []

    def program() -> list[list[Any]]:
        kept[:] = [evaluate(text, jax.numpy) for text in texts]
        return [[x for x in results if isinstance(x, jax.Array)] for results in kept]

    try:
        found = [iter(arrays) for arrays in jax.jit(program, compiler_options=quick_compiler())()]
    except Exception:
        # Not all can be traced: they are found by halves.
        if len(texts) == 1:
            return [evaluate(texts[0], jax.numpy)]
        half = len(texts) // 2
        return [*in_one_program(texts[:half]), *in_one_program(texts[half:])]
    return [
        [next(arrays) if isinstance(x, jax.Array) else x for x in results]
        for results, arrays in zip(kept, found, strict=True)
    ]


@cache
def wanted_from(start: int) -> list[list[Any]]:
    return in_one_program(TEXTS[start : start + TOGETHER])


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("at", "text"), list(enumerate(TEXTS)), ids=TEXTS)
def test_results_are_those_of_jax(at: int, text: str) -> None:
    wanted = wanted_from(at - at % TOGETHER)[at % TOGETHER]
    found = evaluate(text, fnp)
    assert list(map(type_text, found)) == list(map(type_text, wanted))
    for ours, theirs in zip(found, wanted, strict=True):
        assert_close(ours, theirs)


def assert_close(found: Any, wanted: Any) -> None:
    if not hasattr(found, "dtype"):
        assert found == wanted
        return
    found, wanted = (np.asarray(x).astype(complex) for x in (found, wanted))
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)
