"""Distributions against SciPy; their derivatives, dtypes, and what jit and vmap make of them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.stats
from tests.stats.distributions import TABLE, UNIT, Distribution

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.errors import DtypeError, ShapeError
from funcdl.scipy import stats
from funcdl.test_util import check_grads

NDArray = np.ndarray[Any, Any]
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

INVERSES = ("ppf", "isf")
PROBABILITIES = np.array([1e-12, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0, np.nan, -0.1, 1.1])
EACH = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)


def points(row: Distribution, name: str) -> NDArray:
    return PROBABILITIES if name in INVERSES else row.x


@EACH
def test_values_agree_with_scipy(row: Distribution) -> None:
    theirs = getattr(scipy.stats, row.name)
    for name, function in row.functions():
        if name == "entropy":
            continue
        located = row.located if "loc" in inspect.signature(function).parameters else 0
        for place in ((), (0.7, 1.9))[: 2 if located else 1]:
            args = (points(row, name), *row.shapes, *place[:located])
            found = np.asarray(function(*args))
            wanted = getattr(theirs, name)(*args)
            assert found.dtype == np.float64
            if row.name == "laplace":  # whose logarithms SciPy takes of densities that underflow
                wanted = np.where(wanted < -700, found, wanted)
            with np.errstate(all="ignore"):
                np.testing.assert_allclose(
                    found, wanted, row.rtol, 1e-15, err_msg=f"{name}{place}", equal_nan=True
                )


def finite_shapes(row: Distribution) -> list[NDArray]:
    return [np.where(np.isinf(s), 3 * np.sign(s), s)[:2] + 0.01 for s in row.shapes]


def check_narrow(row: Distribution, names: Sequence[str]) -> None:
    """Compiled in float32, in one program, as eager double-precision values but for rounding."""
    shapes = [s.astype(np.float32) for s in finite_shapes(row)]
    x = row.smooth.astype(np.float32)
    args = {name: (UNIT.astype(np.float32) if name in INVERSES else x, *shapes) for name in names}
    functions = dict(row.functions())
    found = fd.jit(lambda args: {name: functions[name](*xs) for name, xs in args.items()})(args)
    for name, value in found.items():
        assert value.dtype == np.float32
        wanted = functions[name](*(a.astype(np.float64) for a in args[name]))
        np.testing.assert_allclose(value, wanted, 1e-4, 1e-6, err_msg=name)


@EACH
def test_narrow_densities(row: Distribution) -> None:
    check_narrow(row, [name for name, _ in row.functions() if name in ("logpdf", "logpmf")])


@pytest.mark.slow
@EACH
def test_narrow_values(row: Distribution) -> None:
    check_narrow(row, [name for name, _ in row.functions() if name != "entropy"])


@EACH
def test_derivatives(row: Distribution) -> None:
    shapes = [fnp.asarray(s) for s in finite_shapes(row)]
    for name, function in row.functions():
        if name == "entropy" or (row.name == "bernoulli" and name in ("cdf", "ppf")):
            continue
        x = UNIT if name in INVERSES else row.smooth
        if row.located == 1:  # of a count there is no derivative
            check_grads(lambda *s, f=function, x=x: f(x, *s), shapes, order=2)
            continue
        located = "loc" in inspect.signature(function).parameters
        place = [fnp.asarray(0.01), fnp.asarray(1.07)] if located else []
        smooth = 2 if name in ("logpdf", "pdf") else row.by_shapes
        loose = {"rtol": 1e-4, "atol": 1e-4}
        if smooth:
            check_grads(function, [fnp.asarray(x), *shapes, *place], order=smooth, **loose)
        if smooth < 2:

            def fixed(x: Any, *p: Any, f: Any = function) -> Any:
                return f(x, *shapes, *p)

            check_grads(fixed, [fnp.asarray(x), *place], order=2, **loose)


@EACH
def test_derivatives_outside_of_the_support_are_zero(row: Distribution) -> None:
    """Or at least they are numbers, where everything is inside."""
    shapes = finite_shapes(row)
    for name, function in row.functions():
        if name not in ("logpdf", "pdf", "logpmf", "pmf"):
            continue
        slopes = fd.grad(
            lambda args, f=function: fnp.sum(fnp.where(fnp.isfinite(f(*args)), f(*args), 0))
        )([fnp.asarray(np.array([-7.5, 0.4, 9.5])), *map(fnp.asarray, shapes)])
        for slope in slopes:
            assert np.isfinite(np.asarray(slope)).all(), (name, slope)


@pytest.mark.parametrize("name", ["norm", "gamma", "t", "truncnorm", "poisson"])
def test_vmap_of_grad_under_jit(name: str) -> None:
    row = next(row for row in TABLE if row.name == name)
    density = row.module.logpmf if row.located == 1 else row.module.logpdf
    shape = tuple(s.ravel()[:3].astype(np.float32) for s in row.shapes)
    x = np.array([1.0, 2.0, 1.0], np.float32) * (0.5 if name == "truncnorm" else 1)
    f = fd.grad(density, len(shape))
    found = fd.jit(fd.vmap(f))(x[: len(shape[0]) if shape else 3], *shape)
    each = zip(x, *shape, strict=False)
    np.testing.assert_allclose(found, [float(f(*map(float, p))) for p in each], 1e-4)


def test_tails() -> None:
    one = np.float64
    assert float(stats.norm.logsf(one(40.0))) == pytest.approx(
        scipy.stats.norm.logsf(40), rel=1e-12
    )
    assert float(stats.norm.sf(one(30.0))) == pytest.approx(scipy.stats.norm.sf(30), rel=1e-9)
    assert float(stats.expon.logcdf(one(1e-30))) == pytest.approx(np.log(1e-30))
    assert float(stats.cauchy.cdf(one(-1e20))) == pytest.approx(1e-20 / np.pi)
    assert float(stats.cauchy.ppf(one(1e-20))) == pytest.approx(-1e20 / np.pi)
    found = stats.truncnorm.logpdf(one(20.5), one(20.0), one(21.0))
    assert float(found) == pytest.approx(scipy.stats.truncnorm.logpdf(20.5, 20, 21), rel=1e-10)
    assert float(stats.gumbel_r.logsf(one(50.0))) == pytest.approx(-50)


def test_entropy_of_poisson() -> None:
    mu = np.array([0.0, 1e-3, 0.5, 7.0, 60.0, 99.9, 100.1, 200.0])
    wanted = scipy.stats.poisson.entropy(mu)
    np.testing.assert_allclose(stats.poisson.entropy(mu), wanted, 2e-10, 1e-14)
    np.testing.assert_allclose(fd.grad(stats.poisson.entropy)(np.float64(1e4)), 0.5e-4, 1e-3)
    assert np.isnan(float(stats.poisson.entropy(-1.0)))
    check_grads(stats.poisson.entropy, [fnp.asarray(mu[2:5])], order=2)


def test_dtypes_and_keywords() -> None:
    assert stats.norm.logpdf(np.arange(3, dtype=np.int32)).dtype == np.float32
    assert stats.norm.cdf(np.float16(0.5)).dtype == np.float16
    assert float(stats.norm.pdf(1.0, scale=2.0)) == pytest.approx(scipy.stats.norm.pdf(0.5) / 2)
    assert float(stats.binom.pmf(2, n=5, p=0.5)) == pytest.approx(10 / 32)
    with pytest.raises(DtypeError, match=r"norm\.logpdf takes real numbers"):
        stats.norm.logpdf(1j)
    with pytest.raises(ShapeError, match=r"gamma\.cdf"):
        stats.gamma.cdf(np.ones(2), np.ones(3))
    with pytest.raises(AttributeError, match="no attribute 'normal'"):
        stats.normal  # noqa: B018  # the access raises


@pytest.mark.peers
def test_names_and_parameters_are_those_of_jax() -> None:
    theirs = pytest.importorskip("jax.scipy.stats")
    modules = {name for name in dir(theirs) if inspect.ismodule(getattr(theirs, name))}
    assert {name for name in modules if not name.startswith("_")} <= set(dir(stats))
    for name in sorted(modules):
        if name.startswith("_"):
            continue
        for function, value in vars(getattr(theirs, name)).items():
            if inspect.isfunction(value) and not function.startswith("_"):
                ours = inspect.signature(getattr(getattr(stats, name), function))
                assert list(ours.parameters) == list(inspect.signature(value).parameters)


def test_certain_events() -> None:
    k = np.array([0.0, 1.0])
    for p in (0.0, 1.0):
        np.testing.assert_array_equal(stats.bernoulli.pmf(k, p), [1 - p, p])
        np.testing.assert_array_equal(stats.bernoulli.ppf(np.array([0.5, 1.0]), p), [p, p])
        np.testing.assert_allclose(stats.binom.pmf(k, 1, p), [1 - p, p], 1e-15)
    np.testing.assert_array_equal(stats.geom.pmf(k + 1, 1.0), [1, 0])
    np.testing.assert_array_equal(stats.poisson.pmf(k, 0.0), [1, 0])
