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


# Numerators and denominators of -ndtri(q) by sqrt(-log(q)) for small q, below and above _TAILS_MEET
# (Wichura, "Algorithm AS 241", Applied Statistics 37, 1988). Terms have one sign: 4 ulp in float
# and 5 in double, for q up to 0.075.
_TAILS_MEET = 5
_TAIL = (
    (
        *(7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1),
        *(1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0),
        *(4.63033784615654529590e0, 1.42343711074968357734e0),
    ),
    (
        *(1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2),
        *(1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0),
        *(2.05319162663775882187e0, 1.0),
    ),
)
_FAR_TAIL = (
    (
        *(2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3),
        *(2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0),
        *(5.46378491116411436990e0, 6.65790464350110377720e0),
    ),
    (
        *(2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5),
        *(7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1),
        *(5.99832206555887937690e-1, 1.0),
    ),
)


@custom_jvp
def _ndtri(p: Any) -> Any:
    q = fnp.minimum(p, 1 - p)
    middle = _ROOT_2 * lax.erf_inv(2 * p - 1)
    tail = (q > 0) & (q < 0.075)
    root = fnp.sqrt(-fnp.log(fnp.where(tail, q, 0.05)))
    near = root < _TAILS_MEET
    above, below = (
        fnp.where(near, _polynomial(inner, root - 1.6), _polynomial(outer, root - _TAILS_MEET))
        for inner, outer in zip(_TAIL, _FAR_TAIL, strict=True)
    )
    x = above / below
    return fnp.where(tail, fnp.where(p < 0.5, -x, x), middle)


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    """By Horner's rule, from the highest power down."""
    value = coefficients[0]
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


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
