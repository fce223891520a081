"""Many calls, once each: types of results as recorded, types and values as JAX's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.numpy.expressions import evaluate, lines, type_text

import funcdl.numpy as fnp

LINES = lines()


@pytest.mark.parametrize(("text", "types"), LINES, ids=[text for text, _ in LINES])
def test_types_are_the_recorded_ones(text: str, types: str) -> None:
    assert " ".join(map(type_text, evaluate(text, fnp))) == types


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("text", [text for text, _ in LINES])
def test_results_are_those_of_jax(text: str) -> None:
    jnp = pytest.importorskip("jax.numpy")
    found, wanted = evaluate(text, fnp), evaluate(text, jnp)
    assert list(map(type_text, found)) == list(map(type_text, wanted))
    for ours, theirs in zip(found, wanted, strict=True):
        assert_close(ours, theirs)


def assert_close(found: Any, wanted: Any) -> None:
    if not hasattr(found, "dtype"):
        assert found == wanted
        return
    found, wanted = (np.asarray(x).astype(complex) for x in (found, wanted))
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)
