"""Distributions of vectors against SciPy, their derivatives and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

import funcdl as fd
from funcdl.errors import ArgumentError, ShapeError
from funcdl.scipy.stats import dirichlet, multinomial, multivariate_normal
from funcdl.test_util import check_grads

NDArray = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def covariance(n: int, *batch: int) -> NDArray:
    factor = RNG.normal(size=(*batch, n, n))
    return np.asarray(factor @ np.swapaxes(factor, -1, -2) + np.eye(n))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_multivariate_normal(n: int) -> None:
    x, mean, cov = RNG.normal(size=(4, 3, n)), RNG.normal(size=n), covariance(n)
    theirs = scipy.stats.multivariate_normal
    found = multivariate_normal.logpdf(x, mean, cov)
    wanted = np.reshape(theirs.logpdf(x, mean, cov), (4, 3))
    np.testing.assert_allclose(found, wanted, 1e-12)
    np.testing.assert_allclose(multivariate_normal.pdf(x, mean, cov), np.exp(wanted), 1e-12)
    scaled = np.reshape(theirs.logpdf(x, mean, 0.7 * np.eye(n)), (4, 3))
    np.testing.assert_allclose(multivariate_normal.logpdf(x, mean, 0.7), scaled, 1e-12)


def test_multivariate_normal_of_scalars_and_batches() -> None:
    found = multivariate_normal.logpdf(np.float64(1.3), 0.2, 2.5)
    assert float(found) == pytest.approx(scipy.stats.norm.logpdf(1.3, 0.2, np.sqrt(2.5)))
    x, mean, cov = RNG.normal(size=(4, 1, 2)), RNG.normal(size=(3, 2)), covariance(2, 4, 3)
    found = multivariate_normal.logpdf(x, mean, cov)
    assert found.shape == (4, 3)
    wanted = [
        [scipy.stats.multivariate_normal.logpdf(x[i, 0], mean[j], cov[i, j]) for j in range(3)]
        for i in range(4)
    ]
    np.testing.assert_allclose(found, wanted, 1e-12)
    mapped = fd.vmap(fd.vmap(multivariate_normal.logpdf, (None, 0, 0)), (0, None, 0))
    np.testing.assert_allclose(fd.jit(mapped)(x[:, 0], mean, cov), wanted, 1e-5)
    assert np.isnan(float(multivariate_normal.logpdf(np.zeros(2), np.zeros(2), -np.eye(2))))


def test_dirichlet() -> None:
    alpha = np.array([0.5, 1.0, 3.2, 20.0])
    x = RNG.dirichlet(np.ones(4), 6).T
    wanted = [scipy.stats.dirichlet.logpdf(column, alpha) for column in x.T]
    np.testing.assert_allclose(dirichlet.logpdf(x, alpha), wanted, 1e-12)
    np.testing.assert_allclose(dirichlet.logpdf(x[:-1], alpha), wanted, 1e-11)
    np.testing.assert_allclose(dirichlet.pdf(x[:, 0], alpha), np.exp(wanted[0]), 1e-12)
    for outside in (x[:, 0] * 1.1, np.array([0.0, 0.2, 0.3, 0.5]), np.array([-0.1, 0.3, 0.3, 0.5])):
        assert float(dirichlet.logpdf(outside, alpha)) == -np.inf
        assert float(dirichlet.pdf(outside, alpha)) == 0
        assert np.isfinite(np.asarray(fd.grad(dirichlet.logpdf)(outside, alpha))).all()


def test_multinomial() -> None:
    p = RNG.dirichlet(np.ones(3), 2)
    x = np.array([[[1, 2, 3]], [[0, 6, 0]], [[1, 1, 1]], [[7, -1, 0]]])
    wanted = scipy.stats.multinomial.logpmf(x, 6, p)
    np.testing.assert_allclose(multinomial.logpmf(x, 6, p), wanted, 1e-12)
    np.testing.assert_allclose(multinomial.pmf(x, 6, p), np.exp(wanted), 1e-12)


def test_derivatives() -> None:
    x, mean, cov = RNG.normal(size=(2, 3)), RNG.normal(size=3), covariance(3)
    check_grads(multivariate_normal.logpdf, (x, mean, cov), order=2)
    check_grads(multivariate_normal.logpdf, (x, mean, np.float64(0.4)), order=2)
    alpha, y = np.array([0.5, 1.0, 3.2]), np.array([0.3, 0.2, 0.5])
    check_grads(dirichlet.logpdf, (y[:-1], alpha), order=2)
    check_grads(lambda p: multinomial.logpmf(np.array([1, 2, 0]), 3, p), (y,), order=2)


def test_errors() -> None:
    with pytest.raises(ShapeError, match="x must end in a dimension of 2"):
        multivariate_normal.logpdf(np.zeros(3), np.zeros(2), np.eye(2))
    with pytest.raises(ShapeError, match="cov in two"):
        multivariate_normal.logpdf(np.zeros(2), np.zeros(2), np.eye(3))
    with pytest.raises(ArgumentError, match="allow_singular must be None"):
        multivariate_normal.logpdf(np.zeros(2), np.zeros(2), np.eye(2), allow_singular=True)
    with pytest.raises(ShapeError, match="alpha must be a vector"):
        dirichlet.logpdf(np.ones(5), np.ones(3))
