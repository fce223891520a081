"""Random numbers: those of JAX, and of the right distribution."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.random.draws import DRAWS, EXACT, call, draw

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import random

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden.json").read_text())["drawn"]


def assert_drawn(text: str, found: Any, wanted: Any) -> None:
    found = np.asarray(found)
    if text in EXACT:
        np.testing.assert_array_equal(found.astype(float), wanted)
    else:
        tolerance = 2e-2 if found.dtype.itemsize == 2 else 2e-6
        np.testing.assert_allclose(found.astype(float), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("text", DRAWS)
def test_golden(text: str) -> None:
    assert_drawn(text, call(random, text), GOLDEN[text])


@pytest.mark.parametrize("text", DRAWS)
def test_traced_as_eager(text: str) -> None:
    key = random.key(42)
    with fd.config.override(backend="reference"):
        traced = fd.jit(lambda key: draw(random, text, key))(key)
        np.testing.assert_array_equal(traced, draw(random, text, key))


GOLDEN_64 = {
    "uniform": 0.6462599858701685,
    "bits": 11921392564426150491,
    "randint": 458347025987,
}


def test_64_bits() -> None:
    """Golden data: `jax.random` 0.10 with 64-bit types."""
    with fd.config.override(x64="on"):
        key = random.key(2**40 + 7)
        assert random.bits(key, (2,)).dtype == np.uint64
        drawn = random.uniform(key, (1000,))
        assert drawn.dtype == np.float64
        assert float(drawn[0]) == GOLDEN_64["uniform"]
        assert int(random.bits(key)) == GOLDEN_64["bits"]
        assert int(random.randint(key, (), -5, 10**12)) == GOLDEN_64["randint"]


N = 20000
MOMENTS = [
    ("uniform", lambda key: random.uniform(key, (N,), minval=-1.0, maxval=3.0), 1.0, 16 / 12),
    ("normal", lambda key: random.normal(key, (N,)), 0.0, 1.0),
    ("exponential", lambda key: random.exponential(key, (N,)), 1.0, 1.0),
    ("gumbel", lambda key: random.gumbel(key, (N,)), np.euler_gamma, np.pi**2 / 6),
    ("bernoulli", lambda key: random.bernoulli(key, 0.3, (N,)), 0.3, 0.21),
    ("randint", lambda key: random.randint(key, (N,), 2, 8), 4.5, 35 / 12),
    ("rademacher", lambda key: random.rademacher(key, (N,)), 0.0, 1.0),
    ("complex", lambda key: random.normal(key, (N,), "complex64"), 0.0, 1.0),
]


@pytest.mark.parametrize(
    ("draw", "mean", "variance"), [m[1:] for m in MOMENTS], ids=[m[0] for m in MOMENTS]
)
def test_moments(draw: Any, mean: float, variance: float) -> None:
    drawn = np.asarray(draw(random.key(1)))
    # Five standard errors of the mean; the variance's depend on the fourth moment.
    assert abs(drawn.mean() - mean) < 5 * np.sqrt(variance / N)
    assert drawn.var() == pytest.approx(variance, rel=0.08)


def test_bounds_hold() -> None:
    key = random.key(0)
    drawn = random.truncated_normal(key, -0.5, 0.25, (N,))
    assert -0.5 < float(drawn.min()) < -0.499
    assert 0.249 < float(drawn.max()) < 0.25
    unit = random.uniform(key, (N,), "bfloat16")
    assert float(unit.min()) == 0.0
    assert float(unit.max()) < 1.0
    assert np.isfinite(np.asarray(random.normal(key, (N,), "bfloat16")).astype(float)).all()
    faces = np.unique(np.asarray(random.randint(key, (N,), -3, 4)))
    np.testing.assert_array_equal(faces, np.arange(-3, 4))


def test_categories_have_their_probabilities() -> None:
    wanted = np.array([0.1, 0.2, 0.0, 0.7], np.float32)
    with np.errstate(divide="ignore"):
        logits = fnp.array(np.log(wanted))
    drawn = random.categorical(random.key(2), logits, shape=(N,))
    found = np.bincount(np.asarray(drawn), minlength=4) / N
    np.testing.assert_allclose(found, wanted, atol=0.015)


def test_different_keys_draw_different_numbers() -> None:
    keys = random.split(random.key(0), 50)
    drawn = fd.vmap(lambda key: random.bits(key, (20,)))(keys)
    assert len(np.unique(np.asarray(drawn))) == 1000
