"""Eager products that go to NumPy at once, beside those that the primitive computes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.core.array import Array
from funcdl.errors import ArgumentError, ShapeError

SHAPES = [(3,), (4,), (1,), (0,), (2, 3), (3, 4), (4, 1), (1, 3), (0, 3), (3, 0), (2, 3, 4), (4, 2)]
DTYPES = ["float32", "float64", "complex64", "complex128", "int32", "bool", "bfloat16", "float16"]


def operand(shape: tuple[int, ...], dtype: str, seed: int, weak: bool = False) -> Array:
    """Small whole numbers, of which every product is exact."""
    values = np.random.default_rng(seed).integers(0, 4, shape)
    return Array(values.astype(fnp.zeros((), dtype).dtype), weak)


def outcome(call: Callable[[], Any]) -> Any:
    try:
        found = call()
    except ShapeError as error:
        return str(error)
    return str(found.aval), found.weak_type, found.tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["matmul", "dot"])
def test_eager_products_agree_with_the_primitive(name: str, dtype: str) -> None:
    function = getattr(fnp, name)
    for first, second in product(SHAPES, SHAPES):
        for weak in ((False, False), (True, False), (True, True)):
            x, y = operand(first, dtype, 1, weak[0]), operand(second, dtype, 2, weak[1])
            # Precision has no effect here, but leads to the primitive.
            wanted = outcome(lambda x=x, y=y: function(x, y, precision="highest"))
            assert outcome(lambda x=x, y=y: function(x, y)) == wanted, (first, second, weak)
            if len(first) == 2:
                turned = fnp.asarray(np.asarray(x).T)
                wanted = outcome(lambda x=turned, y=y: function(x, y, precision="highest"))
                if not weak[0]:
                    assert outcome(lambda x=x.T, y=y: function(x, y)) == wanted


@pytest.mark.parametrize("name", ["matmul", "dot"])
def test_every_product_refuses_an_unknown_precision(name: str) -> None:
    function, x = getattr(fnp, name), fnp.ones((2, 2))
    for call in (function, fd.jit(function, static_argnames="precision")):
        with pytest.raises(ArgumentError, match="precision must be"):
            call(x, x, precision="nonsense")


def test_eager_products_heed_transforms() -> None:
    x, y = fnp.arange(3.0), fnp.asarray([1.0, 4.0, 2.0])
    assert fd.grad(lambda x: x @ y)(x).tolist() == y.tolist()
    assert fd.vmap(lambda row: row @ y)(fnp.stack([x, y])).tolist() == [8.0, 21.0]
    with fd.config.override(debug_nans=True), pytest.raises(fd.errors.NonFiniteError):
        fnp.dot(fnp.zeros(3), fnp.full((3,), np.inf))
