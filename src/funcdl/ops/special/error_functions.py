"""Error functions and the logarithm of the gamma function, with its derivatives.

Python's `math` has no vectorised forms and NumPy none at all, so the numerics are here, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.core.primitive import Primitive
from funcdl.ops import registry
from funcdl.ops.arithmetic import add, div, mul, neg, one_minus, scaled, square, sub
from funcdl.ops.comparison import lt
from funcdl.ops.exponential import exp
from funcdl.ops.rows import Jvp, NDArray, elementwise
from funcdl.ops.select import select_n
from funcdl.ops.shape import full_like
from funcdl.ops.trigonometric import sin

_TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)


def _coefficients(*values: float) -> tuple[NDArray, ...]:
    """Constants as arrays without dimensions, which ufuncs take up sooner than numbers."""
    return tuple(map(np.array, values))


# Rational minimax approximations of erf and erfc on three ranges, highest power first: W. J. Cody,
# "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969).
_ERF_P = _coefficients(
    1.85777706184603153e-1,
    3.16112374387056560e00,
    1.13864154151050156e02,
    3.77485237685302021e02,
    3.20937758913846947e03,
)
_ERF_Q = _coefficients(
    1.0,
    2.36012909523441209e01,
    2.44024637934444173e02,
    1.28261652607737228e03,
    2.84423683343917062e03,
)
_ERFC_P = _coefficients(
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e00,
    6.61191906371416295e01,
    2.98635138197400131e02,
    8.81952221241769090e02,
    1.71204761263407058e03,
    2.05107837782607147e03,
    1.23033935479799725e03,
)
_ERFC_Q = _coefficients(
    1.0,
    1.57449261107098347e01,
    1.17693950891312499e02,
    5.37181101862009858e02,
    1.62138957456669019e03,
    3.29079923573345963e03,
    4.36261909014324716e03,
    3.43936767414372164e03,
    1.23033935480374942e03,
)
_TAIL_P = _coefficients(
    1.63153871373020978e-2,
    3.05326634961232344e-1,
    3.60344899949804439e-1,
    1.25781726111229246e-1,
    1.60837851487422766e-2,
    6.58749161529837803e-4,
)
_TAIL_Q = _coefficients(
    1.0,
    2.56852019228982242e00,
    1.87295284992346725e00,
    5.27905102951428412e-1,
    6.05183413124413191e-2,
    2.33520497626869185e-3,
)


def _polynomial(coefficients: Sequence[Any], x: NDArray) -> NDArray:
    total: NDArray = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        total *= x
        total += coefficient
    return total


def _ratio(p: Sequence[Any], q: Sequence[Any], x: NDArray) -> NDArray:
    return _polynomial(p, x) / _polynomial(q, x)


def _in_float64(f: Callable[[NDArray], NDArray]) -> Callable[[NDArray], NDArray]:
    """Run a function on float64 and give its result the operand's dtype."""

    def wrapped(x: NDArray) -> NDArray:
        return np.asarray(f(np.asarray(x, np.float64)), x.dtype)

    return wrapped


def _erf_small(x: NDArray) -> NDArray:
    """The error function of |x| < 0.5."""
    return x * _ratio(_ERF_P, _ERF_Q, x * x)


def _erfc_large(x: NDArray) -> NDArray:
    """The complementary error function of x >= 0.46875."""
    middle = _ratio(_ERFC_P, _ERFC_Q, x)
    z = 1 / (x * x)
    tail = (1 / math.sqrt(math.pi) - z * _ratio(_TAIL_P, _TAIL_Q, z)) / x
    # exp(-x^2) with x^2 split, as the rounding of x^2 alone would cost digits.
    head = np.trunc(x * 16) / 16
    factor = np.exp(-head * head) * np.exp(-(x - head) * (x + head))
    return np.where(x > 27, 0.0, factor * np.where(x <= 4, middle, tail))


def erf_float64(x: NDArray) -> NDArray:
    """The error function, within a few units in the last place."""
    a = np.abs(x)
    small = _erf_small(np.minimum(a, 0.5))
    large = 1 - _erfc_large(np.maximum(a, 0.46875))
    return np.copysign(np.where(np.isnan(x), x, np.where(a < 0.46875, small, large)), x)


def erfc_float64(x: NDArray) -> NDArray:
    """The complementary error function, within a few units in the last place."""
    a = np.abs(x)
    small = 1 - _erf_small(np.clip(x, -0.5, 0.5))
    large = _erfc_large(np.maximum(a, 0.46875))
    large = np.where(x < 0, 2 - large, large)
    return np.where(np.isnan(x), x, np.where(a < 0.46875, small, large))


def _erf_inv(x: NDArray) -> NDArray:
    """A coarse approximation (S. Winitzki, 2008), then Halley's method."""
    a = np.abs(x)
    logarithm = np.log1p(-a * a)
    middle = 2 / (math.pi * 0.147) + logarithm / 2
    y = np.sqrt(np.sqrt(middle * middle - logarithm / 0.147) - middle)
    y = np.where(a < 1e-3, a / _TWO_OVER_SQRT_PI, y)
    for _ in range(3):
        # The error function and its complement are one minus the other: either is computed where
        # it is the better known one. Near 1 that is the distance of `a` to 1, too.
        small, large = _erf_small(np.minimum(y, 0.5)), _erfc_large(np.maximum(y, 0.46875))
        near = y < 0.46875
        erf, erfc = np.where(near, small, 1 - large), np.where(near, 1 - small, large)
        excess = np.where(a < 0.5, erf - a, (1 - a) - erfc)
        newton = excess / _TWO_OVER_SQRT_PI * np.exp(y * y)
        y = y - newton / (1 + y * newton)
    y = np.where(a < 1e-150, a / _TWO_OVER_SQRT_PI, y)
    return np.copysign(np.where(a == 1, np.inf, y), x)


def _lgamma_scalar(x: float) -> float:
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):  # a pole, or too large
        return math.inf


_lgamma_ufunc = np.frompyfunc(_lgamma_scalar, 1, 1)


def _lgamma(x: NDArray) -> NDArray:
    return np.asarray(_lgamma_ufunc(x), np.float64)


# Coefficients of the asymptotic series in 1/x^2 (Abramowitz and Stegun 6.3.18), highest first.
_DIGAMMA = (1 / 12, -691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12, 0.0)
# The same for trigamma (6.4.12): Bernoulli numbers.
_TRIGAMMA = (7 / 6, -691 / 2730, 5 / 66, -1 / 30, 1 / 42, -1 / 30, 1 / 6)
_ASYMPTOTIC_FROM = 10
# The root of digamma right of 0, and what it lacks in float64.
_ROOT, _ROOT_LOW = 1.4616321449683622, 9.549995429965697e-17
# Coefficients of (S(z) - S(w)) / (z - w), where S is the series above in z and w = (root + 9)^-2.
_DIGAMMA_SLOPE = (
    1 / 12,
    -0.02033138383591509,
    0.007389990797533359,
    -0.0040991447118089094,
    0.003930800299938365,
    -0.008297417819000638,
    0.08325752026579913,
)


def _digamma(x: NDArray) -> NDArray:
    """By reflection left of 0, from its root below 10, then the asymptotic series."""
    y = np.where(x < 0, 1 - x, x)
    far = np.maximum(y, _ASYMPTOTIC_FROM)
    total = np.log(far) - 0.5 / far - _polynomial(_DIGAMMA, 1 / (far * far))
    total = np.where(y < _ASYMPTOTIC_FROM, _digamma_near(y), total)
    total = np.where(x < 0, total - math.pi / np.tan(math.pi * (x - np.rint(x))), total)
    pole = (x <= 0) & ((x == np.floor(x)) | np.isinf(x))
    return np.where(pole, np.nan, np.where(x == np.inf, x, total))


def _digamma_near(x: NDArray) -> NDArray:
    """In (0, 10): h sum(1 / ((x + k) (root + k))), h = x - root, is what 9 steps of the recurrence
    leave; the rest is the series at x + 9 less that at root + 9, so that no terms cancel."""
    steps = _ASYMPTOTIC_FROM - 1
    h = (x - _ROOT) - _ROOT_LOW
    y, top = x + steps, _ROOT + steps
    z = 1 / (y * y)
    total = 0.5 / (y * top) + (y + top) * z / (top * top) * _polynomial(_DIGAMMA_SLOPE, z)
    for k in reversed(range(steps)):
        total = total + 1 / (_ROOT + k) / (x + k)
    return np.asarray(h * total + np.log1p(h / top))


def trigamma(x: Any) -> Any:
    """The derivative of `digamma`, composed of primitives, so that all derivatives follow."""
    zero, one = full_like(x, 0), full_like(x, 1)
    left = lt(x, full_like(x, 0.5))
    y = select_n(left, x, one_minus(x))
    total = zero
    for _ in range(_ASYMPTOTIC_FROM):
        small = lt(y, full_like(x, _ASYMPTOTIC_FROM))
        total = add(total, select_n(small, zero, div(one, square(y))))
        y = select_n(small, y, add(y, one))
    inverse = div(one, y)
    z = square(inverse)
    series = full_like(x, _TRIGAMMA[0])
    for coefficient in _TRIGAMMA[1:]:
        series = add(mul(series, z), full_like(x, coefficient))
    rest = add(scaled(z, 0.5), mul(mul(series, z), inverse))
    total = add(total, add(inverse, rest))
    # The sine of a harmless number where it is not used, as its zeros would spread NaN.
    inside = select_n(left, full_like(x, 0.5), x)
    reflected = div(full_like(x, math.pi**2), square(sin(scaled(inside, math.pi))))
    return select_n(left, total, sub(reflected, total))


def _gaussian(x: Any, factor: float) -> Any:
    return scaled(exp(neg(square(x))), factor)


erf = elementwise(
    "erf",
    _in_float64(erf_float64),
    accepts=registry.FLOATS,
    derivative=Jvp((lambda t, out, x: mul(t, _gaussian(x, _TWO_OVER_SQRT_PI)),)),
    c="fd_erf_{t}({0})",
    triton="tl.erf({0})",
    cost=20,
)

erfc = elementwise(
    "erfc",
    _in_float64(erfc_float64),
    accepts=registry.FLOATS,
    derivative=Jvp((lambda t, out, x: mul(t, _gaussian(x, -_TWO_OVER_SQRT_PI)),)),
    c="fd_erfc_{t}({0})",
    triton="libdevice.erfc({0})",
    cost=30,
)

erf_inv = elementwise(
    "erf_inv",
    _in_float64(_erf_inv),
    accepts=registry.FLOATS,
    derivative=Jvp((lambda t, out, x: mul(t, scaled(exp(square(out)), 1 / _TWO_OVER_SQRT_PI)),)),
    c="fd_erf_inv_{t}({0})",
    triton="libdevice.erfinv({0})",
    cost=30,
    domain=(-0.9, 0.9),
)

lgamma = elementwise(
    "lgamma",
    _in_float64(_lgamma),
    accepts=registry.FLOATS,
    derivative=Jvp((lambda t, out, x: mul(t, digamma(x)),)),
    c="fd_lgamma_{t}({0})",
    triton="libdevice.lgamma({0})",
    cost=60,
    domain=(0.3, 6.0),
)

digamma: Primitive = elementwise(
    "digamma",
    _in_float64(_digamma),
    accepts=registry.FLOATS,
    derivative=Jvp((lambda t, out, x: mul(t, trigamma(x)),)),
    c="fd_digamma_{t}({0})",
    triton="fd_digamma({0})",
    cost=60,
    domain=(-0.9, 6.0),
)
