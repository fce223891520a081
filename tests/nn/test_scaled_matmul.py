"""scaled_matmul against its definition."""

from __future__ import annotations

import numpy as np
import pytest

import funcdl as fd
from funcdl import nn
from funcdl.errors import ShapeError
from funcdl.test_util import check_grads

RNG = np.random.default_rng(0)


def operands(blocks: tuple[int, int], dtype: str = "float32") -> list[np.ndarray]:
    shapes = [(2, 3, 12), (2, 5, 12), (2, 3, blocks[0]), (2, 5, blocks[1])]
    return [RNG.normal(size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("blocks", [(1, 1), (3, 4), (12, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_definition(blocks: tuple[int, int], dtype: str) -> None:
    a, b, s, t = operands(blocks, dtype)
    x = a.astype(np.float64) * np.repeat(s.astype(np.float64), 12 // blocks[0], axis=-1)
    y = b.astype(np.float64) * np.repeat(t.astype(np.float64), 12 // blocks[1], axis=-1)
    for f in (nn.scaled_matmul, fd.jit(nn.scaled_matmul)):
        found = f(a, b, s, t)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.einsum("bmk,bnk->bmn", x, y), rtol=1e-5, atol=1e-5)


def test_result_dtype_and_sizes() -> None:
    a, b, s, t = operands((3, 4))
    assert nn.scaled_matmul(a, b, s, t, preferred_element_type="bfloat16").dtype.name == "bfloat16"
    assert nn.scaled_matmul(a[:, :0], b, s[:, :0], t).shape == (2, 0, 5)


def test_gradients() -> None:
    check_grads(nn.scaled_matmul, operands((3, 4)), order=2, rtol=2e-2, atol=2e-2)


def test_shapes_that_do_not_fit() -> None:
    a, b, s, t = operands((3, 4))
    with pytest.raises(ShapeError) as caught:
        nn.scaled_matmul(a, b[:, :, :6], s, t)
    assert str(caught.value).startswith(
        "scaled_matmul requires lhs of shape (B, M, K) and rhs of shape (B, N, K), "
        "got (2, 3, 12) and (2, 5, 6)"
    )
    with pytest.raises(ShapeError) as caught:
        nn.scaled_matmul(a, b, np.ones((2, 3, 5)), t)
    assert str(caught.value).startswith(
        "scaled_matmul requires lhs_scales of shape (2, 3) and a divisor of 12 as last dimension, "
        "for lhs of shape (2, 3, 12); got (2, 3, 5)"
    )
