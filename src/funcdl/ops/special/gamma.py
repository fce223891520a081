"""Incomplete gamma functions with their derivatives, the zeta function of Hurwitz, and polygamma.

Values are SciPy's in float64, rounded to the operand's dtype; derivatives in the shape parameter,
which SciPy lacks, come from `gamma_shape`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from funcdl.core.forks import held_off
from funcdl.core.primitive import Primitive
from funcdl.errors import NotDifferentiableError
from funcdl.ops import registry
from funcdl.ops.arithmetic import add, mul, neg, sub
from funcdl.ops.bits import and_
from funcdl.ops.comparison import eq
from funcdl.ops.exponential import exp, log
from funcdl.ops.registry import Sample, SampleMaker, random_array
from funcdl.ops.rows import Jvp, NDArray, NotDifferentiable, elementwise
from funcdl.ops.select import select_n
from funcdl.ops.shape import full_like
from funcdl.ops.special.error_functions import digamma, lgamma
from funcdl.ops.special.gamma_shape import gamma_shape_derivatives


def in_float64(f: Callable[..., NDArray]) -> Callable[..., NDArray]:
    """Run a function of several arrays on float64 and give its result the operands' dtype."""

    def wrapped(*xs: NDArray) -> NDArray:
        return np.asarray(f(*(np.asarray(x, np.float64) for x in xs)), xs[0].dtype)

    return wrapped


def by_scipy(name: str) -> Callable[..., NDArray]:
    """The function of this name of `scipy.special`, computed in float64."""

    def function(*xs: NDArray) -> NDArray:
        with held_off():
            from scipy import special

        return np.asarray(getattr(special, name)(*xs))

    return in_float64(function)


def refused(name: str, operand: str, fix: str) -> Callable[..., NoReturn]:
    """The derivative rule of an operand for which there is none."""

    def rule(*args: Any) -> NoReturn:
        raise NotDifferentiableError(
            f"{name} cannot be differentiated by {operand}: no formula is known here.\n{fix}"
        )

    return rule


def _samples(
    first: tuple[float, float], second: tuple[float, float], whole: bool = False
) -> SampleMaker:
    """Operands in these ranges, with derivatives in the second; `whole`: the first has integers."""

    def samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
        for shape in ((), (5,), (3, 7), (2, 0)):
            a = rng.uniform(*first, shape)
            x = random_array(rng, shape, dtype, *second)
            yield Sample((np.asarray(np.rint(a) if whole else a).astype(dtype), x), {}, (1,))

    return samples


_STOP = "Wrap it in funcdl.lax.stop_gradient if no derivative should flow through it."


def gamma_density(a: Any, x: Any) -> Any:
    """``x^(a-1) exp(-x) / gamma(a)``, the derivative of P(a, x) in x; 1 at a = 1 and x = 0."""
    one = full_like(a, 1)
    corner = and_(eq(a, one), eq(x, full_like(x, 0)))
    logarithm = log(select_n(corner, x, one))
    return exp(sub(sub(mul(sub(a, one), logarithm), x), lgamma(a)))


igamma_grad_a = elementwise(
    "igamma_grad_a",
    in_float64(lambda a, x: gamma_shape_derivatives(a, x)[0]),
    accepts=registry.FLOATS,
    derivative=Jvp(
        (
            refused("igamma_grad_a", "a", _STOP),
            lambda t, out, a, x: mul(t, mul(gamma_density(a, x), sub(log(x), digamma(a)))),
        )
    ),
    arity=2,
    c="fd_igamma_grad_a_{t}({0}, {1})",
    triton="fd_igamma_grad_a({0}, {1})",
    cost=200,
    samples=_samples((0.3, 6.0), (0.1, 8.0)),
)

igamma = elementwise(
    "igamma",
    by_scipy("gammainc"),
    accepts=registry.FLOATS,
    derivative=Jvp(
        (
            lambda t, out, a, x: mul(t, igamma_grad_a(a, x)),
            lambda t, out, a, x: mul(t, gamma_density(a, x)),
        )
    ),
    arity=2,
    c="fd_igamma_{t}({0}, {1})",
    triton="fd_igamma({0}, {1})",
    cost=200,
    domain=((0.3, 6.0), (0.1, 8.0)),
    order=1,
)

igammac = elementwise(
    "igammac",
    by_scipy("gammaincc"),
    accepts=registry.FLOATS,
    derivative=Jvp(
        (
            lambda t, out, a, x: neg(mul(t, igamma_grad_a(a, x))),
            lambda t, out, a, x: neg(mul(t, gamma_density(a, x))),
        )
    ),
    arity=2,
    c="fd_igammac_{t}({0}, {1})",
    triton="fd_igammac({0}, {1})",
    cost=200,
    domain=((0.3, 6.0), (0.1, 8.0)),
    order=1,
)

random_gamma_grad = elementwise(
    "random_gamma_grad",
    in_float64(lambda a, x: gamma_shape_derivatives(a, x)[1]),
    accepts=registry.FLOATS,
    derivative=NotDifferentiable("second derivatives of gamma samples are not implemented"),
    arity=2,
    c="fd_random_gamma_grad_{t}({0}, {1})",
    triton="fd_random_gamma_grad({0}, {1})",
    cost=200,
    domain=((0.3, 6.0), (0.1, 8.0)),
)


def _zeta(s: NDArray, q: NDArray) -> NDArray:
    """Left of 0: the sum over all integers, less the part left of `q`; real for integer `s`."""
    with held_off():
        from scipy import special

    s, q = np.broadcast_arrays(s, q)
    pole = (q <= 0) & (q == np.floor(q))
    left = (q < 0) & ~pole
    out = np.asarray(special.zeta(s, np.where(q > 0, q, 1.0)))
    parity = np.where(np.fmod(s, 2) == 0, 1.0, -1.0)
    r = np.where(left, q - np.rint(q), 0.5)
    near = np.abs(r)
    whole = special.zeta(s, near) + parity * special.zeta(s, 1 - near)
    whole = np.where(r < 0, parity * whole, whole)
    reflected = whole - parity * special.zeta(s, 1 - np.where(left, q, 0.0))
    out = np.where(left, np.where(s == np.floor(s), reflected, np.nan), out)
    endless = np.where(q > 1, 0.0, np.where(q == 1, 1.0, np.inf))
    out = np.where(s > 1e100, endless, out)  # the largest term, such s being even
    out = np.where(pole | (s == 1), np.inf, out)
    return np.where((s < 1) | np.isnan(s) | np.isnan(q), np.nan, out)


zeta: Primitive = elementwise(
    "zeta",
    in_float64(_zeta),
    accepts=registry.FLOATS,
    derivative=Jvp(
        (
            refused("zeta", "its first argument", _STOP),
            lambda t, out, s, q: neg(mul(t, mul(s, zeta(add(s, full_like(s, 1)), q)))),
        )
    ),
    arity=2,
    c="fd_zeta_{t}({0}, {1})",
    triton="fd_zeta({0}, {1})",
    cost=300,
    samples=_samples((1.5, 6.0), (0.4, 6.0)),
)


def _polygamma(n: NDArray, x: NDArray) -> NDArray:
    """(-1)^(n+1) n! zeta(n+1, x) (DLMF 25.11.12)."""
    with held_off():
        from scipy import special

    n, x = np.broadcast_arrays(n, x)
    sign = np.where(np.fmod(n, 2) == 0, -1.0, 1.0)
    values = _zeta(n + 1, x)
    out = special.gamma(n + 1) * values
    logarithm = special.gammaln(n + 1) + np.log(np.abs(values))
    out = np.where(n > 170, np.copysign(np.exp(logarithm), values), out)
    good = (n > 0) & (n == np.floor(n)) & np.isfinite(n)
    assert digamma.impl is not None
    return np.where(n == 0, np.asarray(digamma.impl(x)), np.where(good, sign * out, np.nan))


polygamma: Primitive = elementwise(
    "polygamma",
    in_float64(_polygamma),
    accepts=registry.FLOATS,
    derivative=Jvp(
        (
            refused("polygamma", "its first argument", _STOP),
            lambda t, out, n, x: mul(t, polygamma(add(n, full_like(n, 1)), x)),
        )
    ),
    arity=2,
    c="fd_polygamma_{t}({0}, {1})",
    triton="fd_polygamma({0}, {1})",
    cost=300,
    samples=_samples((0.0, 4.0), (0.4, 6.0), whole=True),
)
