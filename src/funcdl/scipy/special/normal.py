"""Error functions and the normal distribution, exact in the tails."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.scipy.special.elementwise import elementwise
from funcdl.transforms import custom_jvp

_ROOT_2 = math.sqrt(2)
_ROOT_PI = math.sqrt(math.pi)


@elementwise
def erf(x: Any) -> Any:
    """The error function."""
    return lax.erf(x)


@elementwise
def erfc(x: Any) -> Any:
    """``1 - erf(x)``, exact where tiny."""
    return lax.erfc(x)


@elementwise
def erfinv(x: Any) -> Any:
    """The inverse of `erf`."""
    return lax.erf_inv(x)


@elementwise
def erfcx(x: Any) -> Any:
    """``exp(x**2) erfc(x)``."""
    return _erfcx(x)


@custom_jvp
def _erfcx(x: Any) -> Any:
    far = x > 4
    inside = fnp.where(far, 4, x)
    # x^2 is split, as its rounding alone would cost digits.
    head = fnp.rint(inside * 16) / 16
    square = fnp.exp(head * head) * fnp.exp((inside - head) * (inside + head))
    outside = fnp.where(far, x, 4)
    tail = outside
    for n in range(24, 0, -1):  # DLMF 7.9.2
        tail = outside + n / 2 / tail
    near = fnp.where(inside == -np.inf, np.inf, square * lax.erfc(inside))
    return fnp.where(far, 1 / (_ROOT_PI * tail), near)


_erfcx.defjvps(lambda t, out, x: t * (2 * x * out - 2 / _ROOT_PI))


@elementwise
def ndtr(x: Any) -> Any:
    """The distribution function of the standard normal distribution."""
    return lax.erfc(-x / _ROOT_2) / 2


@elementwise
def log_ndtr(x: Any) -> Any:
    """The logarithm of `ndtr`, exact in both tails."""
    return _log_ndtr(x)


@custom_jvp
def _log_ndtr(x: Any) -> Any:
    left = fnp.minimum(x, 0)
    below = fnp.log(_erfcx(-left / _ROOT_2) / 2) - left * left / 2
    right = fnp.maximum(x, 0)
    return fnp.where(x < 0, below, fnp.log1p(-lax.erfc(right / _ROOT_2) / 2))


def _hazard(x: Any) -> Any:
    """The density over the distribution function."""
    # Choices, since extremes have half a derivative at 0 and so would both branches.
    left, right = fnp.where(x < 0, x, 0), fnp.where(x < 0, 0, x)
    below = math.sqrt(2 / math.pi) / _erfcx(-left / _ROOT_2)
    above = fnp.exp(-right * right / 2) / (math.sqrt(2 * math.pi) * ndtr(right))
    return fnp.where(x < 0, below, above)


_log_ndtr.defjvps(lambda t, out, x: t * _hazard(x))


@elementwise
def ndtri(p: Any) -> Any:
    """The inverse of `ndtr`; NaN outside of [0, 1]."""
    return _ndtri(p)


@custom_jvp
def _ndtri(p: Any) -> Any:
    q = fnp.minimum(p, 1 - p)
    middle = _ROOT_2 * lax.erf_inv(2 * p - 1)
    # In the tails by Newton's method on the logarithm, from the leading terms for small q.
    tail = (q > 0) & (q < 0.1)
    logarithm = fnp.log(fnp.where(tail, q, 0.05))
    square = -2 * logarithm
    x = -fnp.sqrt(square - fnp.log(2 * math.pi * square))
    for _ in range(4):
        x = x - (_log_ndtr(x) - logarithm) / _hazard(x)
    return fnp.where(tail, fnp.where(p < 0.5, x, -x), middle)


_ndtri.defjvps(lambda t, out, p: t * math.sqrt(2 * math.pi) * fnp.exp(out * out / 2))


# Half the distance of the points of the trapezoidal rule: its error, exp(-(pi / 2h)^2), is below
# double precision. As many points as exp(-(n h)^2) needs.
_STEP = 0.25
_POINTS = 13


@elementwise
def dawsn(x: Any) -> Any:
    """Dawson's integral, ``exp(-x**2)`` times the integral of ``exp(t**2)`` from 0 to `x`.

    By the trapezoidal rule on odd points about the nearest even one (G. B. Rybicki, "Dawson's
    integral and the sampling theorem", 1989).
    """
    return _dawsn(x)


@custom_jvp
def _dawsn(x: Any) -> Any:
    a = abs(x)
    small, far = a < 0.25, a > 1e4
    inside = fnp.where(small | far, 1, a)
    even = 2 * fnp.rint(inside / (2 * _STEP))
    rest = inside - even * _STEP
    total = fnp.zeros_like(x)
    for n in range(1, 2 * _POINTS, 2):
        for k in (n, -n):
            total = total + fnp.exp(-((rest - k * _STEP) ** 2)) / (even + k)
    z = fnp.where(small, a * a, 0)
    series = fnp.ones_like(x)
    for n in range(12, 0, -1):  # DLMF 7.6.2
        series = 1 - z * series * (2 / (2 * n + 1))
    out = fnp.where(small, a * series, fnp.where(far, 0.5 / a, total / _ROOT_PI))
    return fnp.copysign(fnp.where(fnp.isnan(x), x, out), x)


_dawsn.defjvps(lambda t, out, x: t * (1 - 2 * x * out))
