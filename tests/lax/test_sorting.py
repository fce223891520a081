"""lax.sort, top_k and running extremes; numpy.sort, argsort and lexsort."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.lax as lax
import funcdl.numpy as fnp
from funcdl.errors import ArgumentError

X = np.array([[3.0, np.nan, 1.0, 3.0], [0.0, -1.0, 0.0, -np.inf]])


def test_sort_of_one_and_of_several() -> None:
    np.testing.assert_array_equal(lax.sort(X), np.sort(X))
    np.testing.assert_array_equal(lax.sort(X, dimension=0), np.sort(X, 0))
    keys, values = lax.sort((np.array([2, 1, 2]), np.array([5, 6, 4])), num_keys=2)
    assert (keys.tolist(), values.tolist()) == ([1, 2, 2], [6, 4, 5])
    keys, values = lax.sort_key_val(np.array([2, 1, 2]), np.array([5, 6, 4]))
    assert (keys.tolist(), values.tolist()) == ([1, 2, 2], [6, 5, 4])
    with pytest.raises(ArgumentError, match="at least one operand"):
        lax.sort(())


def test_top_k() -> None:
    values, places = lax.top_k(X, 2)
    np.testing.assert_array_equal(values, [[np.nan, 3.0], [0.0, 0.0]])
    assert places.tolist() == [[1, 0], [0, 2]]
    values, places = lax.top_k(X[:, [0, 2]], 1, axis=0)
    assert (values.tolist(), places.tolist()) == ([[3.0, 1.0]], [[0, 0]])
    ct = fd.grad(lambda x: lax.top_k(x, 2)[0].sum())(fnp.array([1.0, 5.0, 3.0]))
    assert ct.tolist() == [0.0, 1.0, 1.0]


def test_running_extremes() -> None:
    x = fnp.array([[1.0, 3.0, 2.0], [4.0, 0.0, 5.0]])
    assert lax.cummax(x).tolist() == [[1, 3, 2], [4, 3, 5]]
    assert lax.cummin(x, axis=-1).tolist() == [[1, 1, 1], [4, 0, 0]]
    assert lax.cummax(x, axis=1, reverse=True).tolist() == [[3, 3, 2], [5, 5, 5]]
    wanted = np.log(np.cumsum(np.exp(np.asarray(x)), 1))
    np.testing.assert_allclose(lax.cumlogsumexp(x, 1), wanted, rtol=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize("axis", [0, 1, -1, None])
@pytest.mark.parametrize("descending", [False, True])
def test_numpy_functions_agree_with_jax(axis: int | None, descending: bool) -> None:
    jnp = pytest.importorskip("jax.numpy")
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 4, (3, 4), np.int32)
    for x in (X.astype(np.float32), numbers, numbers > 2, np.zeros((2, 0), np.float32)):
        for name in ("sort", "argsort"):
            found = getattr(fnp, name)(fnp.array(x), axis, descending=descending)
            wanted = getattr(jnp, name)(jnp.array(x), axis, descending=descending)
            assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
            np.testing.assert_array_equal(found, wanted)


def test_lexsort() -> None:
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 3, (3, 2, 7))
    for axis in (-1, 0):
        np.testing.assert_array_equal(
            fnp.lexsort([fnp.array(k) for k in keys], axis), np.lexsort(keys, axis)
        )
    with pytest.raises(ArgumentError, match="at least one key"):
        fnp.lexsort([])


def test_sorting_runs_under_jit_grad_and_vmap() -> None:
    weights = fnp.arange(4.0)

    def f(x: Any) -> Any:
        return fnp.sum(fnp.sort(x) * weights)

    x = fnp.array([[3.0, 1.0, 4.0, 2.0], [0.0, 5.0, -1.0, 9.0]])
    wanted = [[2.0, 0.0, 3.0, 1.0], [1.0, 2.0, 0.0, 3.0]]
    assert fd.jit(fd.vmap(fd.grad(f)))(x).tolist() == wanted
    assert fd.jit(fnp.argsort)(x).tolist() == np.argsort(np.asarray(x)).tolist()


def test_what_numpy_takes_and_this_does_not() -> None:
    with pytest.raises(ArgumentError, match="kind and order must be None"):
        fnp.sort(fnp.ones(3), kind="stable")
    with pytest.raises(ArgumentError, match="axis 1 is out of range"):
        fnp.argsort(fnp.ones(3), 1)
