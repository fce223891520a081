"""Products that sum over one term become multiplications."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    x = np.random.default_rng(len(shape)).normal(size=shape)
    return (x * 4).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.complex64])
@pytest.mark.parametrize(
    ("lhs", "rhs", "numbers"),
    [
        ((3,), (4,), (((), ()), ((), ()))),
        ((3, 1), (1, 5), (((1,), (0,)), ((), ()))),
        ((1, 6, 2), (2, 1, 7), (((0,), (1,)), ((2,), (0,)))),
        ((2, 1, 3, 1), (1, 4, 2, 1), (((1, 3), (0, 3)), ((0,), (2,)))),
        ((1,), (1,), (((0,), (0,)), ((), ()))),
    ],
)
def test_jit_agrees_with_eager(lhs: Any, rhs: Any, numbers: Any, dtype: Any) -> None:
    def product(x: Any, y: Any) -> Any:
        return lax.dot_general(x, y, numbers)

    x, y = normal(*lhs, dtype=dtype), normal(*rhs, dtype=dtype)
    program = fd.jit(product)
    assert "dot_general" not in program.lower(x, y).as_text("simplified")
    out, expected = program(x, y), product(x, y)
    assert (out.shape, out.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(np.asarray(out), np.asarray(expected))


def test_wider_results_are_multiplied_in_their_type() -> None:
    x, y = normal(3, dtype=np.float16), normal(4, dtype=np.float16)

    def product(x: Any, y: Any) -> Any:
        return lax.dot_general(x, y, (((), ()), ((), ())), preferred_element_type=np.float32)

    expected = x.astype(np.float32)[:, None] * y.astype(np.float32)
    np.testing.assert_array_equal(np.asarray(fd.jit(product)(x, y)), expected)


def test_gradients_of_single_examples_are_written_as_they_are_returned() -> None:
    def loss(w: Any, x: Any) -> Any:
        return fnp.sum(fnp.tanh(x @ w) ** 2)

    per_example = fd.jit(fd.vmap(fd.grad(loss), (None, 0)))
    w, x = normal(5, 6), normal(8, 5)
    text = per_example.lower(w, x).as_text("groups")
    assert text.count("\n") and "transpose" not in text
    expected = np.stack([np.asarray(fd.grad(loss)(w, row)) for row in x])
    np.testing.assert_allclose(np.asarray(per_example(w, x)), expected, 1e-5, 1e-5)
