"""funcdl.scipy.special against SciPy, JAX and its own derivatives; limits, tails and errors."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.scipy import special as sp
from funcdl.test_util import check_grads

reference = pytest.importorskip("scipy.special")
NDArray = np.ndarray[Any, Any]
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

RNG = np.random.default_rng(0)
POSITIVE = np.concatenate([10 ** RNG.uniform(-10, 2.4, 1000), np.linspace(0.01, 30, 700)])
BOTH = np.concatenate([POSITIVE, -POSITIVE])
EDGES = np.array([0.0, np.inf, -np.inf, np.nan, 1, -1, 2, 0.5])
ANY = np.concatenate([BOTH, EDGES])
PROBABILITIES = np.concatenate([10 ** RNG.uniform(-300, 0, 900), RNG.random(900), [0, 1, -1, 2]])
FIRST, SECOND = RNG.permutation(POSITIVE), RNG.permutation(POSITIVE)
TWO = (FIRST, SECOND)
PAIRS = tuple(
    np.concatenate([x, g.reshape(-1)]) for x, g in zip(TWO, np.meshgrid(EDGES, EDGES), strict=True)
)
CHOICES = np.floor(RNG.random(500) * 40), np.floor(RNG.random(500) * 20)

# Name, operands, relative and absolute tolerance.
VALUES: list[tuple[str, tuple[NDArray, ...], float, float]] = [
    ("erf", (ANY,), 2e-15, 0),
    ("erfc", (ANY,), 2e-13, 1e-300),
    ("erfcx", (ANY,), 2e-13, 0),
    ("erfinv", (np.linspace(-1, 1, 999),), 4e-15, 1e-16),
    ("expit", (ANY,), 1e-15, 1e-300),
    ("logit", (np.concatenate([RNG.random(900), [0, 1]]),), 1e-15, 1e-15),
    ("ndtr", (ANY,), 5e-13, 1e-300),
    ("log_ndtr", (ANY,), 5e-13, 1e-300),
    ("ndtri", (PROBABILITIES,), 4e-15, 0),
    ("dawsn", (ANY,), 3e-14, 0),
    ("exp1", (POSITIVE,), 4e-15, 0),
    ("expi", (BOTH,), 1e-13, 1e-300),
    ("spence", (POSITIVE,), 1e-14, 1e-16),
    ("gamma", (ANY,), 1e-12, 1e-300),
    ("gammaln", (POSITIVE,), 1e-13, 1e-14),
    ("gammasgn", (ANY,), 0, 0),
    ("digamma", (POSITIVE,), 1e-13, 1e-14),
    ("i0", (ANY,), 4e-15, 0),
    ("i1", (ANY,), 4e-15, 0),
    ("i0e", (ANY,), 1e-15, 0),
    ("i1e", (ANY,), 1e-15, 0),
    ("entr", (ANY,), 1e-15, 0),
    ("factorial", (np.arange(-2.0, 160),), 1e-12, 0),
    ("xlogy", PAIRS, 1e-15, 0),
    ("xlog1py", PAIRS, 1e-15, 0),
    ("rel_entr", PAIRS, 1e-12, 1e-15),
    ("kl_div", TWO, 1e-12, 1e-13),
    ("boxcox", TWO, 1e-13, 1e-14),
    ("boxcox1p", TWO, 2e-13, 0),
    ("beta", TWO, 5e-12, 1e-300),
    ("betaln", TWO, 2e-12, 1e-13),
    ("poch", TWO, 1e-11, 0),
    ("comb", CHOICES, 1e-13, 0),
    ("gammainc", TWO, 1e-15, 0),
    ("gammaincc", TWO, 1e-15, 0),
    ("zeta", (1 + FIRST, SECOND), 1e-15, 0),
    ("polygamma", (np.floor(FIRST % 7).astype(int), SECOND), 1e-13, 1e-14),
    ("betainc", (FIRST, SECOND, RNG.random(FIRST.size)), 1e-15, 0),
]


@pytest.mark.parametrize(("name", "xs", "rtol", "atol"), VALUES, ids=lambda x: str(x)[:12])
def test_values_agree_with_scipy(
    name: str, xs: tuple[NDArray, ...], rtol: float, atol: float
) -> None:
    found = np.asarray(getattr(sp, name)(*xs))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, getattr(reference, name)(*xs), rtol, atol)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [name for name, *_ in VALUES])
def test_narrow_values(name: str, dtype: str) -> None:
    """Compiled, as the eager double-precision values but for rounding, in the operands' dtype."""
    xs = next(xs for other, xs, *_ in VALUES if other == name)
    wide = [np.clip(x[::16], -8, 8) for x in xs]
    narrow = [x.astype(dtype) for x in wide]
    found = fd.jit(getattr(sp, name))(*narrow)
    assert found.dtype == dtype
    wanted = np.asarray(getattr(sp, name)(*(x.astype(np.float64) for x in narrow)))
    eps = float(np.finfo(dtype).eps)
    with np.errstate(over="ignore"):
        rounded = wanted.astype(dtype)
    tight = 60 if dtype == "float32" else 1.5
    np.testing.assert_allclose(
        np.asarray(found, np.float64), rounded.astype(np.float64), tight * eps, 8 * eps
    )


POINTS = np.array([0.2, 0.7, 1.5, 3.3, 8.0])
OTHERS = np.array([0.9, 0.4, 2.2, 1.1, 0.3])
UNARY = [
    *["erf", "erfc", "erfcx", "expit", "ndtr", "log_ndtr", "dawsn", "exp1", "expi", "spence"],
    *["gamma", "gammaln", "digamma", "i0", "i0e", "i1", "i1e", "entr", "factorial"],
]
BINARY = ["xlogy", "xlog1py", "rel_entr", "kl_div", "boxcox", "boxcox1p", "beta", "betaln", "poch"]


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_derivatives_agree_with_differences(name: str) -> None:
    count = 1 if name in UNARY else 2
    check_grads(getattr(sp, name), [fnp.asarray(x) for x in (POINTS, OTHERS)[:count]], order=2)


@pytest.mark.parametrize("name", ["ndtri", "erfinv", "logit"])
def test_derivatives_of_inverses(name: str) -> None:
    check_grads(getattr(sp, name), [fnp.asarray(np.array([0.03, 0.2, 0.6, 0.95]))], order=2)


@pytest.mark.parametrize("name", ["erfcx", "log_ndtr", "dawsn"])
def test_derivatives_on_the_left(name: str) -> None:
    check_grads(getattr(sp, name), [fnp.asarray(np.array([-0.1, -2.0, -4.5]))], order=2)


@pytest.mark.parametrize("name", [*UNARY, *BINARY, "ndtri"])
def test_vmap_of_grad_under_jit(name: str) -> None:
    count = 1 if name not in BINARY else 2
    xs = [x.astype(np.float32) for x in (POINTS / 10, OTHERS)[:count]]
    f = fd.grad(getattr(sp, name))
    found = fd.jit(fd.vmap(f))(*xs)
    wanted = [float(f(*map(float, point))) for point in zip(*xs, strict=True)]
    np.testing.assert_allclose(np.asarray(found), wanted, 2e-5)


def test_limits_of_derivatives() -> None:
    grad = fd.grad
    assert float(grad(sp.xlogy)(0.0, 2.0)) == pytest.approx(np.log(2))
    assert float(grad(sp.xlogy, 1)(0.0, 0.0)) == 0.0
    assert float(grad(sp.xlog1py)(0.0, 2.0)) == pytest.approx(np.log(3))
    assert float(grad(sp.xlog1py, 1)(0.0, -1.0)) == 0.0
    assert float(grad(sp.entr)(0.0)) == np.inf
    assert float(grad(sp.boxcox, 1)(2.0, 0.0)) == pytest.approx(np.log(2) ** 2 / 2)
    assert float(grad(sp.boxcox)(2.0, 0.0)) == 0.5
    assert float(grad(sp.boxcox1p, 1)(1.0, 1e-12)) == pytest.approx(np.log(2) ** 2 / 2)
    assert float(grad(sp.spence)(1.0)) == -1.0
    assert float(grad(sp.log_ndtr)(-30.0)) == pytest.approx(30.0332597, rel=1e-6)
    assert float(grad(sp.log_ndtr)(-1e10)) == pytest.approx(1e10)
    assert float(grad(sp.i1)(0.0)) == 0.5


@pytest.mark.parametrize(
    ("name", "x", "slopes"),
    [
        ("i0", 0.0, [1, 0, 1 / 2, 0, 3 / 8, 0, 5 / 16]),
        ("i1", 0.0, [0, 1 / 2, 0, 3 / 8, 0, 5 / 16]),
        ("spence", 1.0, [0, -1, 1 / 2, -2 / 3, 3 / 2, -24 / 5]),
    ],
)
def test_derivatives_of_high_order_where_quotients_have_limits(
    name: str, x: float, slopes: list[float]
) -> None:
    f = getattr(sp, name)
    for slope in slopes:
        assert float(f(np.float64(x))) == pytest.approx(slope, abs=1e-13)
        f = fd.grad(f)


def test_mixed_derivatives_at_zero() -> None:
    """By both operands of ``x log(y)`` the derivative is ``1 / y``, at ``x = 0`` too."""
    for f, slope in ((sp.xlogy, 1 / 3), (sp.xlog1py, 1 / 4)):
        assert float(fd.grad(fd.grad(f, 1), 0)(0.0, 3.0)) == pytest.approx(slope)
        assert float(fd.grad(fd.grad(f, 0), 1)(0.0, 3.0)) == pytest.approx(slope)


def test_values_in_far_tails() -> None:
    assert float(sp.log_ndtr(-1e3)) == pytest.approx(-500007.82669, rel=1e-6)
    assert float(sp.erfcx(1e6)) == pytest.approx(1e-6 / np.sqrt(np.pi), rel=1e-6)
    assert float(sp.expi(np.float64(705.0))) == pytest.approx(reference.expi(705.0), rel=1e-12)
    assert float(sp.betaln(np.float64(1e10), np.float64(0.5))) == pytest.approx(
        reference.betaln(1e10, 0.5), rel=1e-14
    )


def test_distributions_of_several_gammas() -> None:
    a = np.array([2.1, 3.0, 7.5])
    for d in (1, 2, 4):
        found = sp.multigammaln(a + 1, d)
        np.testing.assert_allclose(found, reference.multigammaln(a + 1, d), 1e-14)
    check_grads(lambda x: sp.multigammaln(x, 3), [fnp.asarray(a)], order=2)


def test_bernoulli_and_combinations() -> None:
    for n in (0, 1, 2, 7):
        np.testing.assert_allclose(sp.bernoulli(n), reference.bernoulli(max(n, 2))[: n + 1])
    for n, k in [(5, 2), (0, 0), (3, 5), (4, -1), (6, 6)]:
        assert float(sp.comb(n, k)) == pytest.approx(reference.comb(n, k), rel=1e-6)
        again = reference.comb(n, k, repetition=True)
        assert float(sp.comb(n, k, repetition=True)) == pytest.approx(again, rel=1e-6)


def test_riemann_zeta_and_keywords() -> None:
    assert float(sp.zeta(2.0)) == pytest.approx(np.pi**2 / 6)
    assert float(sp.gammainc(x=1.0, a=1.0)) == pytest.approx(1 - np.exp(-1))
    assert np.isnan(float(sp.loggamma(-0.5)))
    assert float(sp.loggamma(5)) == pytest.approx(np.log(24))


def test_normalized_functions() -> None:
    x = RNG.normal(size=(3, 4)).astype(np.float32)
    for axis in (None, 0, (0, 1)):
        np.testing.assert_allclose(sp.softmax(x, axis=axis), reference.softmax(x, axis), 1e-6)
        wanted = reference.log_softmax(x, axis)
        np.testing.assert_allclose(sp.log_softmax(x, axis=axis), wanted, 1e-5)
        np.testing.assert_allclose(sp.logsumexp(x, axis=axis), reference.logsumexp(x, axis), 1e-6)


@pytest.mark.peers
def test_names_and_parameters_are_those_of_jax() -> None:
    theirs = pytest.importorskip("jax.scipy.special")
    left_out = {"bessel_jn", "expn", "fresnel", "hyp1f1", "hyp2f1", "owens_t", "sici"}
    left_out |= {"sph_harm_y", "wofz"}
    names = {name for name in dir(theirs) if name[0] != "_"}
    assert names - set(sp.__all__) <= left_out
    for name in sp.__all__:
        ours = list(inspect.signature(getattr(sp, name)).parameters)
        ours += ["series_order"] * (name == "log_ndtr")  # an accuracy; here it is always full
        assert ours == list(inspect.signature(getattr(theirs, name)).parameters), name


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_gradients_agree_with_jax(name: str) -> None:
    jax = pytest.importorskip("jax")
    theirs = getattr(jax.scipy.special, name)
    args = [x.astype(np.float32) for x in (POINTS, OTHERS)[: 1 if name in UNARY else 2]]
    for i in range(len(args)):
        found = fd.grad(lambda *xs: getattr(sp, name)(*xs).sum(), i)(*args)
        wanted = jax.grad(lambda *xs: theirs(*xs).sum(), i)(*args)
        # JAX gives NaN for one harmless argument of spence.
        usual = ~np.isnan(np.asarray(wanted)) | (name != "spence")
        np.testing.assert_allclose(found[usual], wanted[usual], 3e-4, 1e-5)


def test_complex_numbers() -> None:
    """Functions with a closed form are defined for them, too."""
    z = np.array([0.3 + 0.2j, -1 + 2j, 0, 2 - 1j], np.complex64)
    w = np.array([1 - 1j, 0.5j, 2, 3 + 1j], np.complex64)
    np.testing.assert_allclose(sp.expit(z), 1 / (1 + np.exp(-z)), rtol=1e-6)
    np.testing.assert_allclose(sp.logit(w), np.log(w / (1 - w)), rtol=1e-6)
    np.testing.assert_allclose(sp.xlogy(z, w), reference.xlogy(z, w), rtol=1e-6)
    np.testing.assert_allclose(sp.xlog1py(z, w), reference.xlog1py(z, w), rtol=1e-6)
    slope = fd.grad(sp.logit, holomorphic=True)(w[1])
    np.testing.assert_allclose(slope, 1 / (w[1] * (1 - w[1])), rtol=1e-6)


def test_errors() -> None:
    with pytest.raises(DtypeError, match="erf takes real numbers, got c64"):
        sp.erf(np.complex64(1j))
    with pytest.raises(ShapeError, match="beta: shapes"):
        sp.beta(np.ones(2), np.ones(3))
    with pytest.raises(TypeError, match="too many positional"):
        sp.erf(1.0, 2.0)
    with pytest.raises(ArgumentError, match="exact"):
        sp.factorial(3, exact=True)
    with pytest.raises(ArgumentError, match="must not be negative"):
        sp.bernoulli(-1)
    with pytest.raises(ValueError, match=r"multigammaln: d must be an integer, got 1\.5"):
        sp.multigammaln(3.0, 1.5)
