"""Many short rows, which become lanes: results, for numbers of rows that tiles do not divide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn
from funcdl.runtime.toolchain import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

Array = np.ndarray[Any, np.dtype[Any]]


def normalized(x: Any) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / fnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda x: nn.softmax(x, axis=-1),
    "log of a sum": lambda x: nn.logsumexp(x, axis=-1),
    "gradient": fd.grad(lambda x: (nn.log_softmax(x, axis=-1)[..., 0] * x[..., 1]).sum()),
    "norm": normalized,
    "no reduction": lambda x: fnp.exp(x * x[..., :1] + x[0]),
    "product": lambda x: fnp.exp(x @ fnp.arange(1.0, 1 + x.shape[-1])),
    "two axes": lambda x: x.reshape(*x.shape[:-1], 2, -1).max(axis=(-2, -1)),
    "position": lambda x: x.argmax(axis=-1) - x.argmin(axis=-1),
    "row and column": lambda x: (x - x.max(axis=-1, keepdims=True)).sum(axis=0),
}


@pytest.mark.parametrize(
    "shape", [(33, 10), (300, 2), (9_001, 4), (3, 65, 16), (5, 70, 6), (130, 24), (77, 64)]
)
@pytest.mark.parametrize("name", PROGRAMS)
def test_results(name: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    x.reshape(-1)[5] = -np.inf
    x.reshape(-1)[9] = np.nan
    f = PROGRAMS[name]
    run = fd.jit(f)
    results = []
    for threads in (1, 2, 4):
        with fd.config.override(backend="cpu", num_threads=threads):
            results.append(np.asarray(run(x)))
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    np.testing.assert_allclose(results[0], np.asarray(f(fnp.asarray(x))), 1e-4, 1e-4)


def test_a_tile_of_two_axes_is_not_lanes() -> None:
    """What is read across its rows, but not to be transposed, is tiled along both axes."""
    x = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    table = np.arange(4, dtype=np.int32)[:, None] * 3
    f = fd.jit(lambda x, t: fnp.exp(x.T / 4096) + t.sum() + x.T[:, ::-1])
    np.testing.assert_allclose(f(x, table), np.exp(x.T / 4096) + 18 + x.T[:, ::-1], 1e-5)


def test_rows_of_nothing_that_varies() -> None:
    f = fd.jit(lambda x: fnp.zeros((40, 5)).sum(axis=1) + fnp.ones((40, 5)).max(axis=1) * x)
    np.testing.assert_array_equal(f(np.float32(3)), np.full(40, 3, np.float32))


OF_NOTHING: dict[str, Callable[[Any], Any]] = {
    "sum": lambda x: x.sum(axis=-1),
    "product": lambda x: x.prod(axis=-1),
    "truth": lambda x: (x > 0).all(axis=-1) ^ (x > 0).any(axis=-1),
    "log of a sum": lambda x: nn.logsumexp(x, axis=-1),
    "norm": lambda x: fnp.linalg.norm(x, axis=-1),
    "products": lambda x: x @ fnp.ones((x.shape[-1], 3)),
    "columns": lambda x: fnp.exp(x.T).sum(axis=0),
}


@pytest.mark.parametrize("shape", [(40, 0), (3, 0), (3, 40, 0), (0, 40, 0), (40, 0, 0), (0, 0)])
@pytest.mark.parametrize("name", OF_NOTHING)
def test_rows_of_no_elements(name: str, shape: tuple[int, ...]) -> None:
    f, x = OF_NOTHING[name], np.zeros(shape, np.float32)
    np.testing.assert_array_equal(fd.jit(f)(x), f(fnp.asarray(x)))
