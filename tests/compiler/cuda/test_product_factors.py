"""Factors of products that are rounded, or copied to longer rows, before the first product."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
from funcdl import lax

BF16, F16, F32 = ml_dtypes.bfloat16, np.float16, np.float32


def rounded(x: Any, w: Any) -> Any:
    """A product of rounded weights, and those of both gradients."""

    def run(x: Any, w: Any) -> Any:
        return (x @ w.astype(x.dtype)).astype(F32).sum()

    return fd.grad(run, argnums=(0, 1))(x, w), x @ w.astype(x.dtype)


def plain(x: Any, w: Any) -> Any:
    return x @ w


def looped(x: Any, w: Any) -> Any:
    return lax.fori_loop(0, 2, lambda _, y: (y @ w.astype(y.dtype)).astype(y.dtype), x)


def also_wide(x: Any, w: Any) -> Any:
    """Weights that the product's kernel needs as they are, too."""
    return (x @ w.astype(x.dtype)).astype(F32) + w[: x.shape[0]]


def computed(x: Any, w: Any) -> Any:
    """A factor that is a temporary: its own kernel may store it as it wants."""
    wide = fd.numpy.cumsum(w, 0)
    return x @ wide.astype(x.dtype), wide


# A function, rows of x, the shape of w, the types of both, and how many are stored beforehand.
CASES = {
    "weights of float32": (rounded, 512, (256, 272), BF16, F32, 1),
    "to half": (rounded, 512, (256, 272), F16, F32, 1),
    "in odd rows": (rounded, 512, (256, 301), BF16, F32, 1),
    "a half type in odd rows": (plain, 512, (256, 301), BF16, BF16, 1),
    "in a loop": (looped, 512, (256, 256), BF16, F32, 1),
    "a half type": (plain, 512, (256, 272), BF16, BF16, 0),
    "few rows": (plain, 100, (256, 301), BF16, BF16, 0),
    "few weights": (rounded, 512, (16, 40), BF16, F32, 0),
    "products of float32": (plain, 512, (256, 301), F32, F32, 0),
    "needed wide": (also_wide, 512, (512, 272), BF16, F32, 0),
    "a temporary": (computed, 512, (256, 272), BF16, F32, 0),
}


def arguments(name: str) -> list[Any]:
    _, rows, shape, left, right, _ = CASES[name]
    rng = np.random.default_rng(0)
    return [
        (0.1 * rng.normal(size=(rows, shape[0]))).astype(left),
        rng.normal(size=shape).astype(right),
    ]


@pytest.mark.parametrize("name", CASES)
def test_so_many_are_stored(name: str) -> None:
    function, *_, wanted = CASES[name]
    with fd.config.override(backend="gpu"):
        text = fd.jit(function).lower(*arguments(name)).as_text("kernels")
    assert len(re.findall(r"^kernel \w+\(source: ", text, re.MULTILINE)) == wanted


@pytest.mark.parametrize("name", CASES)
def test_results_are_those_of_factors_rounded_where_they_are_read(name: str) -> None:
    function, args = CASES[name][0], arguments(name)
    with installed(StubGpu()):
        found = fd.tree.leaves(fd.jit(function)(*(fd.device_put(x, "gpu") for x in args)))
    with fd.config.override(backend="reference"):
        wanted = fd.tree.leaves(function(*args))
    for a, b in zip(found, wanted, strict=True):
        a, b = (np.asarray(x).astype(np.float64) for x in (a, b))
        np.testing.assert_allclose(a, b, 0.02, 0.02 * np.abs(b).max())
