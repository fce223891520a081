from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn

RNG = np.random.default_rng(0)
X = 3 * RNG.standard_normal((4, 5))
AXES = [-1, 0, (0, 1), None]

logits = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=st.floats(-50, 50)
)


def reference_softmax(x: Any, axis: Any = -1) -> Any:
    exp = np.exp(x)
    return exp / exp.sum(axis, keepdims=True)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("compile_", [lambda f: f, fd.jit], ids=["eager", "jit"])
def test_values(axis: Any, compile_: Any) -> None:
    @compile_
    def every(x: Any) -> Any:
        total = (nn.logsumexp(x, axis), nn.logsumexp(x, axis, keepdims=True))
        return nn.softmax(x, axis), nn.log_softmax(x, axis), *total

    p, log_p, total, kept = every(X)
    expected = reference_softmax(X, axis)
    np.testing.assert_allclose(p, expected, rtol=1e-12)
    np.testing.assert_allclose(log_p, np.log(expected), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(total, np.log(np.exp(X).sum(axis)), rtol=1e-12)
    np.testing.assert_allclose(kept, np.log(np.exp(X).sum(axis, keepdims=True)), rtol=1e-12)


@pytest.mark.parametrize("compile_", [lambda f: f, fd.jit], ids=["eager", "jit"])
def test_gradients_by_hand(compile_: Any) -> None:
    weights = RNG.standard_normal(X.shape)

    @compile_
    def gradients(x: Any) -> Any:
        return (
            fd.grad(lambda x: (nn.softmax(x) * weights).sum())(x),
            fd.grad(lambda x: (nn.log_softmax(x) * weights).sum())(x),
            fd.grad(lambda x: nn.logsumexp(x, axis=-1).sum())(x),
        )

    p = reference_softmax(X)
    of_softmax = p * (weights - (p * weights).sum(-1, keepdims=True))
    of_log_softmax = weights - p * weights.sum(-1, keepdims=True)
    for found, wanted in zip(gradients(X), (of_softmax, of_log_softmax, p), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-14)


def test_hessian_of_logsumexp_is_the_covariance_of_its_softmax() -> None:
    x = X[0]
    p = reference_softmax(x)
    hessian = fd.vmap(lambda v: fd.jvp(fd.grad(nn.logsumexp), (x,), (v,))[1])(np.eye(5))
    np.testing.assert_allclose(hessian, np.diag(p) - np.outer(p, p), rtol=1e-10, atol=1e-14)


@given(logits, st.floats(-1e3, 1e3))
def test_laws(x: Any, shift: float) -> None:
    p = np.asarray(nn.softmax(x))
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-12)
    np.testing.assert_allclose(nn.softmax(x + shift), p, rtol=1e-8)
    np.testing.assert_allclose(nn.log_softmax(x), np.log(p), rtol=1e-8, atol=1e-12)
    total = np.asarray(nn.logsumexp(x, axis=-1))
    np.testing.assert_allclose(nn.logsumexp(x + shift, axis=-1), total + shift, atol=1e-9)
    assert (total >= x.max(-1) - 1e-12).all()
    assert (total <= x.max(-1) + np.log(x.shape[-1]) + 1e-12).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_extremes(dtype: str) -> None:
    top = float(np.finfo(dtype).max)
    x = np.array([[top, -top, 0], [top, top, top], [-top, -top, -top]], dtype)
    expected = [[1, 0, 0], [1 / 3] * 3, [1 / 3] * 3]
    np.testing.assert_allclose(nn.softmax(x), expected, rtol=1e-3)
    for f in (nn.softmax, nn.log_softmax, nn.logsumexp):
        weights = np.arange(1, 4, dtype=dtype)
        gradient = fd.grad(lambda x, f=f, w=weights: (w * fnp.where(x < 0, 0, f(x))).sum())(x)
        assert np.isfinite(np.asarray(gradient)).all(), f


def test_infinities() -> None:
    x = np.array([0.0, -np.inf, 1.0], np.float32)
    np.testing.assert_allclose(nn.softmax(x), reference_softmax(x), rtol=1e-6)
    assert np.isfinite(np.asarray(fd.grad(lambda x: nn.softmax(x)[0])(x))).all()
    assert np.isfinite(np.asarray(fd.grad(lambda x: nn.log_softmax(x)[0])(x))).all()
    assert np.isfinite(np.asarray(fd.grad(nn.logsumexp)(x))).all()
    infinite = np.array([np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal([nn.logsumexp(infinite[:1]), nn.logsumexp(infinite)], np.inf)
    assert float(nn.logsumexp(infinite[1:])) == -np.inf
    assert np.isnan(np.asarray(nn.softmax(np.full(2, np.nan)))).all()


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
def test_where_leaves_entries_out(jitted: bool) -> None:
    compile_ = fd.jit if jitted else lambda f: f
    mask = np.array([[True, True, False, True, False], [False] * 5, [True] * 5])
    x = X[:3].copy()
    x[0, 2] = np.nan  # hidden
    p = np.asarray(compile_(nn.softmax)(x, where=mask))
    np.testing.assert_allclose(p[0, mask[0]], reference_softmax(x[0, mask[0]]), rtol=1e-12)
    np.testing.assert_array_equal(p[~mask], 0)
    np.testing.assert_allclose(p[2], reference_softmax(x[2]), rtol=1e-12)
    log_p = np.asarray(nn.log_softmax(x, where=mask))
    np.testing.assert_array_equal(log_p[~mask], -np.inf)
    np.testing.assert_allclose(log_p[mask], np.log(p[mask]), rtol=1e-12)
    total = nn.logsumexp(x[::2], axis=-1, where=mask[::2])
    expected = [np.log(np.exp(row[m]).sum()) for row, m in zip(x[::2], mask[::2], strict=True)]
    np.testing.assert_allclose(total, expected, rtol=1e-12)

    def loss(x: Any) -> Any:
        masked = fnp.where(mask, nn.log_softmax(x, where=mask), 0)
        return (nn.softmax(x, where=mask) * np.arange(5.0) + masked).sum()

    gradient = np.asarray(compile_(fd.grad(loss))(x))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[~mask], 0)


def test_weights_of_logsumexp() -> None:
    b = np.array([1.0, 0.0, 2.0, 0.5, 3.0])
    x = X.copy()
    x[:, 1] = np.inf  # weighs nothing
    exp = b * np.exp(np.where(b == 0, 0, x))
    np.testing.assert_allclose(nn.logsumexp(x, axis=-1, b=b), np.log(exp.sum(-1)), rtol=1e-12)
    for_x, for_b = fd.grad(lambda x, b: nn.logsumexp(x, b=b), argnums=(0, 1))(x[0], b)
    np.testing.assert_allclose(for_x, exp[0] / exp[0].sum(), rtol=1e-10)
    seen = b != 0
    np.testing.assert_allclose(for_b[seen], np.exp(x[0, seen]) / exp[0].sum(), rtol=1e-10)


def test_integers() -> None:
    x = np.arange(-3, 3, dtype=np.int32)
    for f in (nn.softmax, nn.log_softmax, nn.logsumexp):
        assert f(x).dtype == np.float32
        np.testing.assert_allclose(f(x), f(x.astype(np.float64)), rtol=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_like_jax(dtype: str) -> None:
    jax = pytest.importorskip("jax")

    def every(module: Any) -> Any:
        functions = [module.softmax, module.log_softmax, module.logsumexp]
        return lambda x: [f(x, axis) for f in functions for axis in AXES]

    x = np.asarray(jax.numpy.asarray(X, dtype))
    tolerance = 4 * float(jax.numpy.finfo(dtype).eps)
    for found, wanted in zip(every(nn)(x), jax.jit(every(jax.nn))(x), strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        found, wanted = np.asarray(found, np.float32), np.asarray(wanted, np.float32)
        np.testing.assert_allclose(found, wanted, rtol=2 * tolerance, atol=tolerance)


def test_no_elements() -> None:
    none = np.zeros((0, 3), np.float32)
    assert float(nn.logsumexp(none)) == -np.inf
    assert nn.logsumexp(none, axis=0).tolist() == [-np.inf] * 3
    assert np.isnan(nn.logmeanexp(none))
    assert nn.softmax(none, axis=0).shape == nn.log_softmax(none, axis=0).shape == (0, 3)


def test_masked_entries_of_log_softmax_pass_no_cotangent_on() -> None:
    x, where = np.array([0.5, -1.0, 2.0]), np.array([True, True, False])
    _, pull = fd.vjp(lambda x: nn.log_softmax(x, where=where), x)
    assert pull(np.array([0.0, 0.0, 1.0]))[0].tolist() == [0, 0, 0]
