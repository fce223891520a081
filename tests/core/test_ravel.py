"""Pytrees as vectors and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.errors import DtypeError, ShapeError
from funcdl.flatten_util import ravel_pytree

SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
DTYPES = st.sampled_from(["float32", "float16", "bfloat16", "int32", "bool", "complex64"])


@given(st.dictionaries(st.text(max_size=2), st.tuples(SHAPES, DTYPES), max_size=4))
def test_there_and_back(leaves: dict[str, Any]) -> None:
    tree = {
        key: [fnp.ones(shape, dtype), fnp.arange(np.prod(shape, dtype=int)).astype(dtype)]
        for key, (shape, dtype) in leaves.items()
    }
    flat, unravel = ravel_pytree(tree)
    wanted = fd.tree.leaves(tree)
    assert flat.shape == (sum(x.size for x in wanted),)
    assert flat.dtype == (fnp.result_type(*wanted) if wanted else np.float32)
    back = unravel(flat)
    assert fd.tree.structure(back) == fd.tree.structure(tree)
    for x, y in zip(wanted, fd.tree.leaves(back), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        np.testing.assert_array_equal(x, y)


@pytest.mark.peers
def test_order_is_that_of_jax() -> None:
    jax = pytest.importorskip("jax.flatten_util")
    tree = {"b": np.arange(6.0, dtype=np.float32).reshape(2, 3), "a": (np.int32(7), [2.5])}
    ours, theirs = ravel_pytree(tree)[0], jax.ravel_pytree(tree)[0]
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype


def test_transforms() -> None:
    params = {"w": fnp.arange(6.0).reshape(2, 3), "b": fnp.ones(2)}

    def loss(p: Any) -> Any:
        return ((p["w"] @ fnp.arange(3.0) + p["b"]) ** 2).sum()

    flat, unravel = ravel_pytree(params)
    slope = fd.jit(fd.grad(lambda v: loss(unravel(v))))(flat)
    np.testing.assert_allclose(slope, ravel_pytree(fd.grad(loss)(params))[0], 1e-6)
    assert fd.hessian(lambda v: loss(unravel(v)))(flat).shape == (8, 8)
    rows = fd.vmap(lambda w: ravel_pytree({"w": w, "b": fnp.ones(2)})[0])(fnp.ones((5, 2, 3)))
    assert rows.shape == (5, 8)


def test_errors() -> None:
    _, unravel = ravel_pytree({"a": fnp.ones(3), "b": fnp.ones((2, 2))})
    with pytest.raises(ShapeError, match=r"unravel: the vector must have shape \(7,\), got \(6,\)"):
        unravel(fnp.ones(6))
    with pytest.raises(DtypeError, match="unravel: the vector must be float32, got int32"):
        unravel(fnp.ones(7, fnp.int32))
