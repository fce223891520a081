"""Samples beside the distributions that they are said to come from; derivatives; dtypes; errors.

Keys are fixed, so that the tests give the same answer each time. A sampler that is right fails a
test with probability 1e-4 for a new key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scipy import stats

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import random
from funcdl.errors import ArgumentError, DtypeError, ShapeError


@pytest.fixture(autouse=True)
def _reference() -> Iterator[None]:
    with fd.config.override(backend="reference"):  # compiling takes far longer than drawing
        yield


N = 4000
THRESHOLD = 1e-4
KEY = random.key(7)

CONTINUOUS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "beta": (lambda key: random.beta(key, 0.5, 2.0, (N,)), stats.beta(0.5, 2.0)),
    "cauchy": (lambda key: random.cauchy(key, (N,)), stats.cauchy()),
    "chisquare": (lambda key: random.chisquare(key, 3.0, (N,)), stats.chi2(3)),
    "double_sided_maxwell": (
        lambda key: abs(random.double_sided_maxwell(key, 1.0, 2.0, (N,)) - 1),
        stats.maxwell(scale=2),
    ),
    "f": (lambda key: random.f(key, 4.0, 7.0, (N,)), stats.f(4, 7)),
    "gamma_large": (lambda key: random.gamma(key, 30.0, (N,)), stats.gamma(30)),
    "gamma_one": (lambda key: random.gamma(key, 1.0, (N,)), stats.gamma(1)),
    "gamma_small": (lambda key: random.gamma(key, 0.2, (N,)), stats.gamma(0.2)),
    "loggamma": (lambda key: random.loggamma(key, 0.7, (N,)), stats.loggamma(0.7)),
    "generalized_normal": (
        lambda key: random.generalized_normal(key, 3.0, (N,)),
        stats.gennorm(3),
    ),
    "laplace": (lambda key: random.laplace(key, (N,)), stats.laplace()),
    "logistic": (lambda key: random.logistic(key, (N,)), stats.logistic()),
    "lognormal": (lambda key: random.lognormal(key, 0.5, (N,)), stats.lognorm(0.5)),
    "maxwell": (lambda key: random.maxwell(key, (N,)), stats.maxwell()),
    "pareto": (lambda key: random.pareto(key, 2.5, (N,)), stats.pareto(2.5)),
    "rayleigh": (lambda key: random.rayleigh(key, 2.0, (N,)), stats.rayleigh(scale=2)),
    "t": (lambda key: random.t(key, 3.0, (N,)), stats.t(3)),
    "triangular": (
        lambda key: random.triangular(key, 1.0, 2.0, 5.0, (N,)),
        stats.triang(0.25, 1, 4),
    ),
    "wald": (lambda key: random.wald(key, 2.0, (N,)), stats.invgauss(2.0)),
    "weibull_min": (
        lambda key: random.weibull_min(key, 2.0, 1.5, (N,)),
        stats.weibull_min(1.5, scale=2),
    ),
}

COUNTS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "binomial_few": (lambda key: random.binomial(key, 20, 0.2, (N,)), stats.binom(20, 0.2)),
    "binomial_many": (lambda key: random.binomial(key, 100, 0.7, (N,)), stats.binom(100, 0.7)),
    "geometric": (lambda key: random.geometric(key, 0.3, (N,)), stats.geom(0.3)),
    "poisson_few": (lambda key: random.poisson(key, 3.0, (N,)), stats.poisson(3)),
    "poisson_many": (lambda key: random.poisson(key, 40.0, (N,)), stats.poisson(40)),
    "multinomial": (
        lambda key: random.multinomial(key, 30, fnp.array([0.2, 0.3, 0.5]), shape=(N, 3))[:, 1],
        stats.binom(30, 0.3),
    ),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous(name: str) -> None:
    draw, distribution = CONTINUOUS[name]
    found = stats.kstest(np.asarray(draw(KEY), np.float64), distribution.cdf)
    assert found.pvalue > THRESHOLD


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str) -> None:
    draw, distribution = COUNTS[name]
    drawn = np.asarray(draw(KEY)).astype(int)
    low, high = int(distribution.ppf(0.01)), int(distribution.ppf(0.99))
    inner = np.arange(low + 1, high)
    found = [(drawn <= low).sum(), *((drawn == k).sum() for k in inner), (drawn >= high).sum()]
    wanted = [distribution.cdf(low), *distribution.pmf(inner), distribution.sf(high - 1)]
    assert stats.chisquare(found, N * np.array(wanted)).pvalue > THRESHOLD


def test_dirichlet_and_multinomial_sum_up() -> None:
    alpha = fnp.array([0.01, 1.0, 5.0])
    drawn = np.asarray(random.dirichlet(KEY, alpha, (N,)))
    np.testing.assert_allclose(drawn.sum(-1), 1, rtol=1e-6)
    assert stats.kstest(drawn[:, 2], stats.beta(5.0, 1.01).cdf).pvalue > THRESHOLD
    counts = random.multinomial(KEY, 30, fnp.array([0.0, 0.3, 0.7]), shape=(50, 3))
    np.testing.assert_array_equal(counts.sum(-1), 30)
    np.testing.assert_array_equal(counts[:, 0], 0)


def test_points_of_balls() -> None:
    for p in (1.0, 2.0):
        points = np.asarray(random.ball(KEY, 3, p, (N,)))
        radius = (np.abs(points) ** p).sum(-1) ** (1 / p)
        assert stats.kstest(radius, lambda r: np.clip(r, 0, 1) ** 3).pvalue > THRESHOLD


@pytest.mark.parametrize("method", ["cholesky", "eigh", "svd"])
def test_multivariate_normal(method: str) -> None:
    cov = np.array([[2.0, 0.8], [0.8, 0.5]], np.float32)
    mean = np.array([1.0, -2.0], np.float32)
    drawn = np.asarray(random.multivariate_normal(KEY, mean, cov, (N,), method=method))
    # Standardised by the wanted covariance, squared lengths are chi-square with two degrees.
    left = np.linalg.solve(np.linalg.cholesky(cov), (drawn - mean).T)
    assert stats.kstest((left**2).sum(0), stats.chi2(2).cdf).pvalue > THRESHOLD
    assert stats.kstest(left[1], stats.norm.cdf).pvalue > THRESHOLD


def test_singular_covariances() -> None:
    cov = np.ones((2, 2), np.float32)
    for method in ("eigh", "svd"):
        drawn = random.multivariate_normal(KEY, np.zeros(2, np.float32), cov, (5,), method=method)
        np.testing.assert_allclose(drawn[:, 0], drawn[:, 1], atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_orthogonal(dtype: str) -> None:
    q = np.asarray(random.orthogonal(KEY, 3, (400,), dtype))
    np.testing.assert_allclose(
        q @ np.conj(q.swapaxes(-1, -2)), np.broadcast_to(np.eye(3), q.shape), atol=1e-5
    )
    # A coordinate of a random unit vector in three dimensions is uniform.
    if dtype == "float32":
        assert stats.kstest(q[:, 0, 0], stats.uniform(-1, 2).cdf).pvalue > THRESHOLD
    tall = np.asarray(random.orthogonal(KEY, 4, m=2))
    np.testing.assert_allclose(tall.T @ tall, np.eye(2), atol=1e-6)
    wide = np.asarray(random.orthogonal(KEY, 2, m=4))
    np.testing.assert_allclose(wide @ wide.T, np.eye(2), atol=1e-6)


def test_orders_are_equally_likely() -> None:
    keys = random.split(KEY, N)
    for draw in (
        lambda key: random.permutation(key, 4),
        lambda key: random.choice(key, 4, (4,), replace=False),
    ):
        orders = np.asarray(fd.vmap(draw)(keys))
        _, counts = np.unique(orders @ [64, 16, 4, 1], return_counts=True)
        assert len(counts) == 24
        assert stats.chisquare(counts).pvalue > THRESHOLD


def test_choices_without_replacement_have_their_probabilities() -> None:
    p = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    keys = random.split(KEY, N)
    pairs = np.asarray(fd.vmap(lambda k: random.choice(k, 4, (2,), False, p))(keys))
    p = p.astype(np.float64)
    wanted = [p[i] * p[j] / (1 - p[i]) for i in range(4) for j in range(4) if i != j]
    codes = [4 * i + j for i in range(4) for j in range(4) if i != j]
    found = [(pairs @ [4, 1] == code).sum() for code in codes]
    assert stats.chisquare(found, N * np.array(wanted) / sum(wanted)).pvalue > THRESHOLD
    drawn = random.categorical(KEY, fnp.log(p), shape=(4,), replace=False)
    np.testing.assert_array_equal(np.sort(drawn), np.arange(4))


def test_edges_of_counts() -> None:
    means = fnp.array([0.0, np.nan, np.inf, -1.0, 1e6])
    drawn = random.poisson(KEY, means)
    np.testing.assert_array_equal(drawn[:4], [0, -1, -1, -1])
    assert 0.99e6 < int(drawn[4]) < 1.01e6
    nan = np.nan
    trials = fnp.array([-1.0, nan, 5, 5, 5, 5, 5, np.inf])
    found = random.binomial(KEY, trials, fnp.array([0.5, 0.5, nan, -1, 2, 0, 1, 0.5]))
    np.testing.assert_array_equal(found, [nan, nan, nan, nan, nan, 0, 5, np.inf])
    assert (np.asarray(random.geometric(KEY, 1.0, (5,))) == 1).all()


DIFFERENTIABLE: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any], Any], float]] = {
    # Samplers by a parameter, the distribution by it, and where.
    "gamma": (lambda key, a: random.gamma(key, a, dtype="float64"), stats.gamma, 2.5),
    "gamma_small": (lambda key, a: random.gamma(key, a, dtype="float64"), stats.gamma, 0.3),
    "loggamma": (lambda key, a: random.loggamma(key, a, dtype="float64"), stats.loggamma, 0.6),
    "chisquare": (lambda key, df: random.chisquare(key, df, dtype="float64"), stats.chi2, 3.0),
    "lognormal": (lambda key, s: random.lognormal(key, s, dtype="float64"), stats.lognorm, 0.7),
    "pareto": (lambda key, b: random.pareto(key, b, dtype="float64"), stats.pareto, 2.0),
    "wald": (lambda key, m: random.wald(key, m, dtype="float64"), stats.invgauss, 2.0),
    "wald_small": (lambda key, m: random.wald(key, m, dtype="float64"), stats.invgauss, 0.03),
    "wald_large": (lambda key, m: random.wald(key, m, dtype="float64"), stats.invgauss, 50.0),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_keep_the_quantile(name: str) -> None:
    """The derivative of a sample is that of the quantile function at the sample's own quantile."""
    draw, distribution, at = DIFFERENTIABLE[name]
    parameters = fnp.full(6, at, "float64")
    with fd.config.override(x64="on"):
        drawn, slopes = fd.jvp(lambda a: draw(KEY, a), (parameters,), (fnp.ones_like(parameters),))
        reverse = fd.grad(lambda a: draw(KEY, a).sum())(parameters)
    quantiles = distribution(at).cdf(np.asarray(drawn))
    step = 1e-5 * at
    wanted = (distribution(at + step).ppf(quantiles) - distribution(at - step).ppf(quantiles)) / (
        2 * step
    )
    np.testing.assert_allclose(slopes, wanted, rtol=1e-4)
    np.testing.assert_allclose(reverse, slopes, rtol=1e-12)


def test_derivatives_of_tiny_gamma_numbers() -> None:
    drawn, slope = fd.jvp(lambda a: random.loggamma(KEY, a), (1e-3,), (1.0,))
    assert np.isfinite(float(slope))
    # There, log(x) is about (log(u) + a * gamma') / a.
    np.testing.assert_allclose(slope, -float(drawn) / 1e-3, rtol=1e-2)


def test_derivatives_of_means() -> None:
    """Means of many samples have the derivatives of the distribution's mean."""
    for draw, wanted in (
        (lambda a: random.beta(KEY, a, 3.0, (N,)).mean(), 3 / (2 + 3) ** 2),
        (lambda a: random.dirichlet(KEY, fnp.stack([a, 3.0 + 0 * a]), (N,))[:, 0].mean(), 3 / 25),
        (lambda a: random.f(KEY, 3.0, 10 * a, (N,)).mean(), -20 / (20 - 2) ** 2 * 1.0),
        (lambda a: (random.t(KEY, 10 * a, (N,)) ** 2).mean(), -20 / (20 - 2) ** 2),
        (lambda a: (random.generalized_normal(KEY, a, (N,)) ** 2).mean(), None),
        (lambda a: random.triangular(KEY, 0.0, a, 5.0, (N,)).mean(), 1 / 3),
        (lambda a: random.multivariate_normal(KEY, fnp.zeros(2), a * fnp.eye(2), (N,)).var(), 1.0),
    ):
        found = float(fd.jit(fd.grad(draw))(2.0))
        if wanted is None:
            step = 1e-2
            # By the formula gamma(3 / p) / gamma(1 / p) of the variance.
            wanted = (stats.gennorm(2 + step).var() - stats.gennorm(2 - step).var()) / (2 * step)
        assert found == pytest.approx(wanted, rel=0.12, abs=0.005)


SHAPED: dict[str, Callable[..., Any]] = {
    "beta": lambda key, x, **kw: random.beta(key, x, 2.0, **kw),
    "chisquare": random.chisquare,
    "f": lambda key, x, **kw: random.f(key, 2.0, x, **kw),
    "gamma": random.gamma,
    "loggamma": random.loggamma,
    "lognormal": random.lognormal,
    "pareto": random.pareto,
    "rayleigh": random.rayleigh,
    "t": random.t,
    "triangular": lambda key, x, **kw: random.triangular(key, 0.0, x, 9.0, **kw),
    "wald": random.wald,
    "binomial": lambda key, x, **kw: random.binomial(key, 10.0, x / 9, **kw),
}


@pytest.mark.parametrize("name", SHAPED)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_shapes_and_dtypes(name: str, dtype: str) -> None:
    sampler = SHAPED[name]
    x = fnp.array([[1.0], [2.0]])
    for shape in (None, (2, 3), (4, 2, 1), (0, 2, 1)):
        wanted = shape or (2, 1)
        drawn = sampler(KEY, x, shape=shape, dtype=dtype)
        assert (drawn.shape, drawn.dtype.name, drawn.weak_type) == (wanted, dtype, False)
        assert np.isfinite(np.asarray(drawn).astype(float)).all()
    with pytest.raises(ShapeError, match=rf"{name}: \w+ must broadcast to shape=\(3, 3\), got f"):
        sampler(KEY, x, shape=(3, 3))
    with pytest.raises(DtypeError, match=f"{name}: dtype must be a floating type, got int32"):
        sampler(KEY, x, dtype="int32")
    keys = random.split(KEY, 3)
    mapped = fd.vmap(lambda key: sampler(key, x, dtype=dtype))(keys)
    for key, row in zip(keys, mapped, strict=True):
        np.testing.assert_array_equal(row, sampler(key, x, dtype=dtype))


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: random.choice(KEY, 3, (5,), replace=False),
        ArgumentError,
        "choice: shape (5,) asks for 5 elements without replacement, and a has 3 along axis 0; "
        "draw fewer, or pass replace=True",
    ),
    (
        lambda: random.choice(KEY, 3, (2,), p=fnp.ones(4)),
        ShapeError,
        "choice: p must have shape (3,), got f32[4]",
    ),
    (
        lambda: random.choice(KEY, 0, (2,)),
        ArgumentError,
        "choice: a must have elements to choose 2 of, got 0",
    ),
    (
        lambda: random.choice(KEY, 3, 2),
        ShapeError,
        "choice: shape must be a sequence of integers, got 2",
    ),
    (
        lambda: random.permutation(KEY, 2.5),
        DtypeError,
        "permutation: x must be an integer or an array, got ~f32[]",
    ),
    (
        lambda: random.categorical(KEY, fnp.ones(3), shape=(4,), replace=False),
        ArgumentError,
        "categorical: shape (4,) asks for 4 categories without replacement, and there are 3; draw "
        "fewer, or pass replace=True",
    ),
    (
        lambda: random.gumbel(KEY, mode="exact"),
        ArgumentError,
        "gumbel: mode must be 'low', 'high', 'highest' or None, got 'exact'",
    ),
    (
        lambda: random.bernoulli(KEY, mode="exact"),
        ArgumentError,
        "bernoulli: mode must be 'low' or 'high', got 'exact'",
    ),
    (
        lambda: random.dirichlet(KEY, 1.0),
        ShapeError,
        "dirichlet: alpha must have a dimension at least, got f32[]",
    ),
    (
        lambda: random.multivariate_normal(KEY, fnp.zeros(3), fnp.eye(2)),
        ShapeError,
        "multivariate_normal: mean must have shape [..., n] and cov [..., n, n], got f32[3] and "
        "f32[2,2]",
    ),
    (
        lambda: random.multivariate_normal(KEY, fnp.zeros(2), fnp.eye(2), method="lu"),
        ArgumentError,
        "multivariate_normal: method must be one of cholesky, eigh, svd; got 'lu'",
    ),
    (
        lambda: random.orthogonal(KEY, 3, dtype="int32"),
        DtypeError,
        "orthogonal: dtype must be a floating or complex type, got int32",
    ),
    (
        lambda: random.poisson(KEY, 2.0, dtype="float32"),
        DtypeError,
        "poisson: dtype must be an integer type, got float32",
    ),
    (
        lambda: random.gamma(KEY, fnp.ones(2, "complex64")),
        DtypeError,
        "gamma: a must be real, got c64[2]",
    ),
    (
        lambda: random.ball(KEY, 3, fnp.ones(2)),
        ShapeError,
        "ball: p must be a scalar, got f32[2]",
    ),
    (
        lambda: random.multinomial(KEY, 3, 0.5),
        ShapeError,
        "multinomial: p must have a dimension at least, got f32[]",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2][:50] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
