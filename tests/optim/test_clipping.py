from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import optim

GRADIENTS = {"w": fnp.asarray([[3.0, 0.0], [0.0, 4.0]]), "b": (fnp.asarray([12.0]),)}


def clipped(transformation: optim.GradientTransformation, gradients: Any) -> Any:
    found, state = transformation.update(gradients, transformation.init(gradients))
    assert state == optim.EmptyState()
    return found


def test_global_norm_is_that_of_all_leaves() -> None:
    assert optim.global_norm(GRADIENTS) == 13
    assert optim.global_norm({}) == 0
    assert optim.global_norm([fnp.asarray([3 + 4j]), fnp.asarray([12.0])]) == 13
    # 300 squared is no float16.
    assert optim.global_norm(fnp.full(4, 300.0, np.float16)) == 600


def test_short_gradients_keep_their_bits_and_long_ones_their_direction() -> None:
    short = clipped(optim.clip_by_global_norm(13.5), GRADIENTS)
    fd.tree.map(np.testing.assert_array_equal, short, GRADIENTS)
    long = clipped(optim.clip_by_global_norm(6.5), GRADIENTS)
    fd.tree.map(lambda a, b: np.testing.assert_allclose(a, b / 2, rtol=1e-6), long, GRADIENTS)
    nothing = clipped(optim.clip_by_global_norm(1.0), fnp.zeros(3))
    np.testing.assert_array_equal(nothing, np.zeros(3))


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1), st.floats(0.5, 100))
def test_no_norm_is_longer_than_the_limit(values: list[float], limit: float) -> None:
    found = clipped(optim.clip_by_global_norm(limit), np.asarray(values, np.float32))
    assert optim.global_norm(found) <= limit * (1 + 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes_stay(dtype: str) -> None:
    gradients = fnp.full(3, 100.0, dtype)
    for transformation in (optim.clip_by_global_norm(1.0), optim.clip(1.0)):
        found = clipped(transformation, gradients)
        assert found.dtype == gradients.dtype
        assert float(fnp.abs(found).max()) <= 1


def test_clip_bounds_each_element() -> None:
    found = clipped(optim.clip(3.5), GRADIENTS)
    np.testing.assert_array_equal(found["w"], [[3, 0], [0, 3.5]])
    np.testing.assert_array_equal(found["b"][0], [3.5])


def test_first_link_of_a_jitted_chain() -> None:
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.sgd(0.5))

    @fd.jit
    def step(params: Any, state: Any) -> Any:
        gradients = fd.grad(lambda p: 50 * fnp.sum(p**2))(params)
        updates, state = optimizer.update(gradients, state, params)
        return optim.apply_updates(params, updates), state

    params = fnp.asarray([3.0, 4.0])
    params, _ = step(params, optimizer.init(params))
    np.testing.assert_allclose(params, [2.7, 3.6], rtol=1e-6)
