from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn
from funcdl.errors import ArgumentError, DtypeError, ShapeError

RNG = np.random.default_rng(0)
N, D, K = 7, 4, 5
LOGITS = 3 * RNG.standard_normal((N, K))
LABELS = RNG.integers(0, K, N).astype(np.int32)
ONE_HOT = np.eye(K)[LABELS]
P = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)

jitted = pytest.mark.parametrize("compile_", [lambda f: f, fd.jit], ids=["eager", "jit"])


@jitted
def test_cross_entropy_is_the_logarithm_of_the_labels_probability(compile_: Any) -> None:
    expected = -np.log(P[np.arange(N), LABELS])
    found = compile_(nn.softmax_cross_entropy_with_integer_labels)(LOGITS, LABELS)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    found = compile_(nn.softmax_cross_entropy)(LOGITS, ONE_HOT)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    soft = RNG.dirichlet(np.ones(K), N)
    found = compile_(nn.softmax_cross_entropy)(LOGITS, soft)
    np.testing.assert_allclose(found, -(soft * np.log(P)).sum(-1), rtol=1e-12)


@jitted
@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (nn.softmax_cross_entropy, ONE_HOT),
        (nn.softmax_cross_entropy_with_integer_labels, LABELS),
    ],
)
def test_gradient_of_softmax_regression_by_hand(compile_: Any, loss: Any, labels: Any) -> None:
    x = RNG.standard_normal((N, D))
    params = {"w": RNG.standard_normal((D, K)), "b": RNG.standard_normal(K)}

    def objective(params: Any) -> Any:
        return loss(nn.linear_apply(params, x), labels).mean()

    logits = x @ params["w"] + params["b"]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = compile_(fd.grad(objective))(params)
    np.testing.assert_allclose(found["w"], x.T @ (p - ONE_HOT) / N, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(found["b"], (p - ONE_HOT).mean(0), rtol=1e-10, atol=1e-13)


def test_other_axis_of_classes_and_batch_dimensions() -> None:
    expected = nn.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS)
    flipped = nn.softmax_cross_entropy_with_integer_labels(LOGITS.T, LABELS, axis=0)
    np.testing.assert_allclose(flipped, expected, rtol=1e-12)
    flipped = nn.softmax_cross_entropy(LOGITS.T, ONE_HOT.T, axis=0)
    np.testing.assert_allclose(flipped, expected, rtol=1e-12)
    middle = np.stack([LOGITS, 2 * LOGITS]).transpose(0, 2, 1)
    found = nn.softmax_cross_entropy_with_integer_labels(middle, np.stack([LABELS] * 2), axis=1)
    assert found.shape == (2, N)
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)
    single = nn.softmax_cross_entropy_with_integer_labels(LOGITS[0], LABELS[0])
    np.testing.assert_allclose(single, expected[0], rtol=1e-12)


def test_extreme_logits() -> None:
    logits = np.array([[1e4, -1e4, 0.0], [0.0, -np.inf, 1.0]], np.float32)
    labels = np.array([1, 0], np.int32)
    for loss, given in [
        (nn.softmax_cross_entropy_with_integer_labels, labels),
        (nn.softmax_cross_entropy, np.eye(3, dtype=np.float32)[labels]),
    ]:
        np.testing.assert_allclose(loss(logits, given), [2e4, np.log1p(np.e)], rtol=1e-6)
        gradient = fd.grad(lambda x, f=loss, y=given: f(x, y).sum())(logits)
        p = 1 / (1 + np.e)
        np.testing.assert_allclose(gradient, [[1, -1, 0], [p - 1, 0, 1 - p]], atol=1e-6)


def test_labels_count_from_the_end_and_nan_shows_those_out_of_range() -> None:
    labels = np.array([-1, K - 1, K, -K, -K - 1, 0, 1], np.int32)
    found = np.asarray(nn.softmax_cross_entropy_with_integer_labels(LOGITS, labels))
    np.testing.assert_array_equal(np.isnan(found), [0, 0, 1, 0, 1, 0, 0])
    logs = -np.log(P)
    np.testing.assert_allclose(found[[0, 1, 3]], [logs[0, -1], logs[1, -1], logs[3, 0]], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_any_integer_serves_as_a_label(dtype: Any) -> None:
    expected = nn.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS)
    found = nn.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS.astype(dtype))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("dtype", "classes"), [(np.int8, 128), (np.uint8, 256), (np.int8, 300)])
def test_labels_of_more_classes_than_their_dtype_can_count(dtype: Any, classes: int) -> None:
    logits = RNG.standard_normal((4, classes))
    labels = np.array([0, 127, 100, np.iinfo(dtype).min], dtype)
    expected = -(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[np.arange(4), labels]
    found = nn.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_cross_entropy_fuses_without_gather_or_scatter() -> None:
    def loss(logits: Any) -> Any:
        return nn.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()

    jaxpr = fd.make_jaxpr(fd.grad(loss))(LOGITS)
    names = {eqn.primitive.name for eqn in jaxpr.jaxpr.eqns}
    assert not names & {"gather", "scatter_add", "dynamic_slice"}


def test_mse() -> None:
    a, b = RNG.standard_normal((2, N, D))
    np.testing.assert_allclose(nn.mse(a, b), ((a - b) ** 2).mean(), rtol=1e-12)
    np.testing.assert_allclose(fd.grad(nn.mse)(a, b), 2 * (a - b) / a.size, rtol=1e-12)
    with pytest.raises(ShapeError, match=r"f64\[7\] and f64\[7,1\]"):
        nn.mse(a[:, 0], b[:, :1])


def test_errors() -> None:
    with pytest.raises(ShapeError, match=r"labels of shape \(7,\); got i32\[6\]"):
        nn.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS[:-1])
    with pytest.raises(DtypeError, match="for probabilities use softmax_cross_entropy"):
        nn.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS.astype(np.float32))
    with pytest.raises(ShapeError, match="integer_labels or one_hot"):
        nn.softmax_cross_entropy(LOGITS, LABELS)
    with pytest.raises(ShapeError, match="axis -1"):
        nn.softmax_cross_entropy(LOGITS, ONE_HOT[:, 1:])


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(axis: int) -> None:
    x = np.array([[0, 2], [-1, 3]], np.int8)
    expected = np.moveaxis((x[..., None] == np.arange(3)).astype(np.float32), -1, axis)
    found = nn.one_hot(x, 3, axis=axis)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert nn.one_hot(x, 300, dtype=bool).dtype == np.bool_
    # More classes than the dtype of x can count.
    assert np.asarray(nn.one_hot(np.array([100], np.int8), 300)).sum() == 1


def test_one_hot_of_nothing_and_errors() -> None:
    assert nn.one_hot(fnp.zeros((0, 2), np.int32), 3).shape == (0, 2, 3)
    assert nn.one_hot(fnp.zeros((2,), np.int32), 0).shape == (2, 0)
    with pytest.raises(ArgumentError, match="num_classes"):
        nn.one_hot(LABELS, 2.5)
    with pytest.raises(ArgumentError, match="-1"):
        nn.one_hot(LABELS, -1)
