"""Orthogonal initialisers: what they promise, and the numbers of JAX."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
from funcdl import nn, random
from funcdl.errors import ArgumentError

KEY = random.key(3)


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6), (2, 3, 4), (4, 2, 3)])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_orthonormal(shape: tuple[int, ...], axis: int) -> None:
    drawn = np.asarray(nn.initializers.orthogonal(2.0, axis)(KEY, shape))
    assert drawn.shape == shape
    matrix = np.moveaxis(drawn, axis, -1).reshape(-1, shape[axis]) / 2
    fewer = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    np.testing.assert_allclose(fewer.T @ fewer, np.eye(fewer.shape[1]), atol=1e-6)


@pytest.mark.parametrize("spatial", [(3,), (3, 4), (2, 3, 5)])
def test_convolutions_keep_norms(spatial: tuple[int, ...]) -> None:
    kernel = np.array(nn.initializers.delta_orthogonal()(KEY, (*spatial, 2, 5)))
    middle = tuple((size - 1) // 2 for size in spatial)
    np.testing.assert_allclose(kernel[middle] @ kernel[middle].T, np.eye(2), atol=1e-6)
    kernel[middle] = 0
    assert not kernel.any()


GOLDEN: list[tuple[Any, tuple[int, ...], Any]] = [
    (
        nn.initializers.orthogonal(2.0),
        (3, 2),
        [[-1.79964185, 0.56067276], [0.47596955, 1.91517329], [-0.73126066, -0.13325748]],
    ),
    (
        nn.initializers.orthogonal(1.0, 0),
        (2, 1, 3),
        [[[-0.89982092, 0.23798478, -0.36563033]], [[0.28033638, 0.95758665, -0.06662874]]],
    ),
]


@pytest.mark.parametrize(("init", "shape", "wanted"), GOLDEN)
def test_golden(init: Any, shape: tuple[int, ...], wanted: Any) -> None:
    """Golden data: `jax.nn.initializers` 0.10."""
    np.testing.assert_allclose(init(KEY, shape), wanted, rtol=1e-5)


def test_dtypes_jit_and_empty_arrays() -> None:
    init = nn.initializers.orthogonal(dtype="bfloat16")
    assert init(KEY, (3, 2)).dtype.name == "bfloat16"
    assert init(KEY, (3, 2), "float64").dtype.name == "float64"
    assert init(KEY, (3, 0)).shape == (3, 0)
    init = nn.initializers.delta_orthogonal()
    np.testing.assert_allclose(
        fd.jit(lambda key: init(key, (3, 2, 3)))(KEY), init(KEY, (3, 2, 3)), rtol=1e-6
    )


def test_errors() -> None:
    with pytest.raises(ArgumentError, match=r"two axes at least, among them column_axis=-1; got"):
        nn.initializers.orthogonal()(KEY, (3,))
    with pytest.raises(ArgumentError, match=r"column_axis=5; got shape \(3, 4\)"):
        nn.initializers.orthogonal(column_axis=5)(KEY, (3, 4))
    for shape in ((3, 4), (3, 4, 2)):
        with pytest.raises(ArgumentError, match="one to three spatial axes"):
            nn.initializers.delta_orthogonal()(KEY, shape)
