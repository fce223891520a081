"""Special primitives: accuracy of both forms over wide ranges, values at the edges, derivatives."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.config import config
from funcdl.errors import DtypeError, NotDifferentiableError
from funcdl.runtime.toolchain import find_compiler
from funcdl.test_util import check_grads

special = pytest.importorskip("scipy.special")
NDArray = np.ndarray[Any, Any]

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

EDGES = np.array([0.0, -0.0, 0.5, 1, 2, 3, 20, -1, -1.5, -20.5, 1e300, np.inf, -np.inf, np.nan])


def spread(seed: int, low: float, high: float, count: int = 3000) -> NDArray:
    """Numbers of all magnitudes between two powers of ten."""
    return 10 ** np.random.default_rng(seed).uniform(low, high, count)


def gamma_operands() -> tuple[NDArray, NDArray]:
    """Shapes of all magnitudes, with samples of theirs and other numbers."""
    rng = np.random.default_rng(0)
    a = spread(1, -8, 4)
    likely = np.abs(a * (1 + rng.normal(size=a.size) * np.minimum(3, 3 / np.sqrt(a))))
    return np.tile(a, 2), np.concatenate([likely, spread(2, -8, 2.5)])


def beta_operands() -> tuple[NDArray, NDArray, NDArray]:
    a, b = spread(3, -4, 4), spread(4, -4, 4)
    likely = np.random.default_rng(1).beta(np.maximum(a, 0.05), np.maximum(b, 0.05))
    x = np.concatenate([likely, np.random.default_rng(2).uniform(0, 1, a.size)])
    return np.tile(a, 2), np.tile(b, 2), x


def both_signs(x: NDArray) -> NDArray:
    return np.concatenate([x, -x])


# Name, operands in double precision, SciPy's function, relative tolerance.
CASES: dict[str, tuple[tuple[NDArray, ...], Any, float]] = {
    "igamma": (gamma_operands(), special.gammainc, 5e-12),
    "igammac": (gamma_operands(), special.gammaincc, 2e-12),
    "betainc": (beta_operands(), special.betainc, 5e-12),
    "bessel_i0e": ((both_signs(spread(5, -20, 20)),), special.i0e, 4e-15),
    "bessel_i1e": ((both_signs(spread(6, -20, 20)),), special.i1e, 4e-15),
    "zeta": ((1 + spread(7, -5, 2.3), spread(8, -3, 4)), special.zeta, 1e-14),
    "polygamma": (
        (np.random.default_rng(3).integers(1, 30, 3000) * 1.0, spread(9, -3, 3)),
        lambda n, x: special.polygamma(n.astype(int), x),
        4e-14,
    ),
}


@cache
def compiled(dtype: str) -> dict[str, NDArray]:
    """All functions on their operands and at the edges, in one program."""
    arguments = {name: operands(name, dtype) for name in CASES}

    def program(xs: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
        return {name: getattr(lax, name)(*args) for name, args in xs.items()}

    with config.override(backend="cpu"):
        return {name: np.asarray(x) for name, x in fd.jit(program)(arguments).items()}


def operands(name: str, dtype: str) -> tuple[NDArray, ...]:
    args = CASES[name][0]
    grid = np.meshgrid(*[EDGES] * len(args))
    joined = (np.concatenate([x, g.reshape(-1)]) for x, g in zip(args, grid, strict=True))
    return tuple(x.astype(dtype) for x in joined)


def check_values(name: str, found: NDArray, dtype: str) -> None:
    """The eager value, SciPy's but at a few edges, is what the C form is compared with."""
    _, reference, tolerance = CASES[name]
    count = CASES[name][0][0].size
    wide = [x.astype(np.float64) for x in operands(name, dtype)]
    wanted = reference(*(x[:count] for x in wide)).astype(dtype)
    # Numbers below the normal ones have fewer digits.
    tiny = float(np.finfo(dtype).tiny) / np.finfo(dtype).eps
    limit = max(tolerance, 2 * float(np.finfo(dtype).eps))
    # For a small second shape the beta function is what an almost equal number lacks to 1.
    least = max(tiny, 1e-14 if name == "betainc" else 0)
    np.testing.assert_allclose(found[:count], wanted, limit, least)
    eager = getattr(lax, name)(*operands(name, dtype))
    np.testing.assert_allclose(found[count:], np.asarray(eager)[count:], limit * 20, tiny)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_compiled_values_agree_with_scipy(name: str, dtype: str) -> None:
    check_values(name, compiled(dtype)[name], dtype)


@pytest.mark.parametrize("name", CASES)
def test_eager_values_agree_with_scipy(name: str) -> None:
    check_values(name, np.asarray(getattr(lax, name)(*operands(name, "float64"))), "float64")


def shape_slope(a: float, x: float) -> tuple[float, float]:
    """dP/da and dx/da, in many digits."""
    mp = pytest.importorskip("mpmath")
    with mp.workdps(50):
        a, x, step = mp.mpf(a), mp.mpf(x), mp.mpf(10) ** -15
        high, low = (mp.gammainc(a * (1 + s), 0, x, regularized=True) for s in (step, -step))
        slope = (high - low) / (2 * a * step)
        density = mp.exp(-x + (a - 1) * mp.log(x) - mp.loggamma(a))
        return float(slope), float(-slope / density)


SHAPES = [(1e-6, 1e-3), (0.01, 1.2), (0.3, 1e-10), (0.3, 2.5), (1.0, 1.0), (1.2, 1.4), (5.0, 3.0)]
SHAPES += [(5.0, 12.0), (11.9, 11.0), (12.0, 12.0), (12.1, 14.0), (30.0, 5.0), (30.0, 80.0)]
SHAPES += [(60.0, 59.5), (200.0, 230.0), (200.0, 150.0)]


@needs_compiler
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_derivatives_in_the_shape(backend: str) -> None:
    a, x = (np.array(column) for column in zip(*SHAPES, strict=True))
    wanted = np.array([shape_slope(*pair) for pair in SHAPES]).T
    f = fd.jit(lambda a, x: (lax.igamma_grad_a(a, x), lax.random_gamma_grad(a, x)))
    with config.override(backend=backend):
        found = f(a, x)
        np.testing.assert_allclose(np.asarray(found[0]), wanted[0], 5e-14)
        np.testing.assert_allclose(np.asarray(found[1]), wanted[1], 5e-14)
        narrow = f(a.astype(np.float32), x.astype(np.float32))
    np.testing.assert_allclose(np.asarray(narrow[1]), wanted[1], 2e-6)


@needs_compiler
@pytest.mark.parametrize("name", ["igamma_grad_a", "random_gamma_grad"])
def test_derivatives_in_the_shape_at_the_edges(name: str) -> None:
    a, x = (grid.reshape(-1) for grid in np.meshgrid(EDGES, EDGES))
    a, x = (np.concatenate([edge, y]) for edge, y in zip((a, x), gamma_operands(), strict=True))
    eager = np.asarray(getattr(lax, name)(a, x))
    with config.override(backend="cpu"):
        found = np.asarray(fd.jit(getattr(lax, name))(a, x))
    np.testing.assert_allclose(found, eager, 1e-10, 1e-290)
    edge = getattr(lax, name)
    assert float(edge(2.0, 0.0)) == 0.0
    assert np.isnan(float(edge(0.0, 1.0)))
    assert np.isnan(float(edge(2.0, -1.0)))


def test_samples_move_with_their_shape() -> None:
    """The derivative of a quantile, by differences of SciPy's inverse."""
    p, a, step = np.array([0.01, 0.3, 0.7, 0.999])[:, None], np.array([0.5, 3.0, 40.0]), 1e-5
    x = special.gammaincinv(a, p)
    wanted = special.gammaincinv(a + step, p) - special.gammaincinv(a - step, p)
    found = lax.random_gamma_grad(np.broadcast_to(a, x.shape).copy(), x)
    np.testing.assert_allclose(np.asarray(found), wanted / (2 * step), 1e-7)


def test_second_derivatives() -> None:
    a, x = fnp.asarray(np.array([0.7, 2.5, 20.0])), fnp.asarray(np.array([0.4, 3.0, 17.0]))
    check_grads(lambda v: lax.igamma(a, v), [x], order=3)
    check_grads(lambda v: lax.igammac(a, v), [x], order=2)
    mixed = fd.grad(lambda s: fd.grad(lambda v: lax.igamma(s, v))(3.0))(2.5)
    other = fd.grad(lambda v: fd.grad(lambda s: lax.igamma(s, v))(2.5))(3.0)
    assert float(mixed) == pytest.approx(float(other), rel=1e-5)


def test_derivatives_at_zero() -> None:
    assert float(fd.grad(lax.bessel_i1e)(0.0)) == 0.5
    assert float(fd.grad(lax.bessel_i0e)(0.0)) == 0.0
    assert float(fd.grad(lax.igamma, 1)(1.0, 0.0)) == 1.0
    assert float(fd.grad(lax.igamma, 1)(2.0, 0.0)) == 0.0
    assert float(fd.grad(lax.betainc, 2)(1.0, 3.0, 0.0)) == pytest.approx(3.0)
    assert float(fd.grad(lax.betainc, 2)(3.0, 1.0, 1.0)) == pytest.approx(3.0)


REFUSED = [
    (lax.igamma_grad_a, 0, (1.0, 2.0)),
    (lax.betainc, 0, (1.0, 2.0, 0.5)),
    (lax.betainc, 1, (1.0, 2.0, 0.5)),
    (lax.zeta, 0, (2.0, 2.0)),
    (lax.polygamma, 0, (2.0, 2.0)),
    (lax.random_gamma_grad, 0, (2.0, 2.0)),
]


@pytest.mark.parametrize(("function", "position", "args"), REFUSED)
def test_unknown_derivatives_are_refused(function: Any, position: int, args: Any) -> None:
    with pytest.raises(NotDifferentiableError, match="cannot be differentiated"):
        fd.grad(function, position)(*args)


@pytest.mark.peers
def test_derivatives_agree_with_jax() -> None:
    jax = pytest.importorskip("jax")
    a, x = np.float32([0.4, 2.0, 9.0]), np.float32([0.5, 1.5, 12.0])
    for name, argument, args in [
        *(("igamma", i, (a, x)) for i in (0, 1)),
        *(("igammac", i, (a, x)) for i in (0, 1)),
        ("zeta", 1, (a + 1, x)),
        ("polygamma", 1, (np.float32([0, 1, 2]), x)),
        ("betainc", 2, (a, x, np.float32([0.1, 0.5, 0.9]))),
        *((name, 0, (x - 2,)) for name in ("bessel_i0e", "bessel_i1e")),
    ]:
        ours = fd.grad(lambda *v: getattr(lax, name)(*v).sum(), argument)(*args)  # noqa: B023
        if name == "zeta":
            np.testing.assert_allclose(ours, -args[0] * special.zeta(args[0] + 1, x), 1e-5)
            continue
        wanted = jax.grad(lambda *v: getattr(jax.lax, name)(*v).sum(), argument)(*args)  # noqa: B023
        np.testing.assert_allclose(np.asarray(ours), np.asarray(wanted), 2e-4, err_msg=name)


def test_integers_are_refused() -> None:
    with pytest.raises(DtypeError, match="igamma does not accept"):
        lax.igamma(np.array([1]), np.array([2]))
