"""Integrals without a closed form: the exponential integrals and the dilogarithm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.scipy.special.elementwise import elementwise
from funcdl.transforms import custom_jvp

# Coefficients of Chebyshev series, computed in 40 digits from their definitions. First x exp(x)
# E1(x) for x = 1 + 4 (1 + t) / (1 - t), then x exp(-x) Ei(x) for x from 6 to 24, and for 1/x from
# 0 to 1/24.
_E1 = (
    0.8263723026492102,
    0.1958583132635064,
    -0.026894668628431005,
    0.005650920923667242,
    -0.0012248874409872107,
    0.0002963682050314543,
    -7.354170511954446e-05,
    1.9200442647910543e-05,
    -5.102466192955602e-06,
    1.3966866746650878e-06,
    -3.8714588045131933e-07,
    1.0943496387326321e-07,
    -3.1218246954452045e-08,
    9.031983574168742e-09,
    -2.630915567444214e-09,
    7.746657094425125e-10,
    -2.2926363114151812e-10,
    6.844134829636496e-11,
    -2.0509616992656905e-11,
    6.190871249339523e-12,
    -1.8739284479680637e-12,
    5.708361818102102e-13,
    -1.742168586963309e-13,
    5.347901647589477e-14,
    -1.6433673107223802e-14,
    5.077951175380879e-15,
    -1.5693806911996477e-15,
    4.877380472046749e-16,
    -1.5146433273776485e-16,
    4.7316605681231224e-17,
    -1.4752414752051948e-17,
    4.630626786355439e-18,
)
_EI_MIDDLE = (
    1.1136907755039973,
    -0.09727423627565743,
    0.041536476135826436,
    -0.01712833711347605,
    0.006538885456635689,
    -0.0021828157263006197,
    0.0005695316979201968,
    -6.97987732381639e-05,
    -3.761974972891094e-05,
    3.6676365822396836e-05,
    -1.9879278350407262e-05,
    8.462025436834638e-06,
    -3.058032856826224e-06,
    9.625105604297806e-07,
    -2.64431442098986e-07,
    6.201136449582442e-08,
    -1.1441183163879293e-08,
    1.0895559168591834e-09,
    3.2451406158955446e-10,
    -2.5439921854599444e-10,
    1.0883484173803564e-10,
    -3.810885794504467e-11,
    1.2007372308646213e-11,
    -3.549542677271168e-12,
    1.009224803676779e-12,
    -2.808477471390516e-13,
    7.750120121944607e-14,
    -2.141422702746607e-14,
    5.963399803872953e-15,
    -1.6799219034697589e-15,
    4.793890009246776e-16,
    -1.385458921959587e-16,
    4.050604297002463e-17,
    -1.1962802603717267e-17,
)
_EI_FAR = (
    1.0222957360954668,
    0.022812793514753286,
    0.0005360936928493524,
    2.0034094292122614e-05,
    1.0686092350144287e-06,
    7.746060698591084e-08,
    7.504513851387549e-09,
    9.65386432321799e-10,
    1.5701407029249868e-10,
    2.779058341161681e-11,
    3.828483997307224e-12,
    -1.9274603059481113e-13,
    -3.984438522784285e-13,
    -1.5561943489863476e-13,
    -2.6325433913268538e-14,
    5.119012243843834e-15,
    4.450825135967824e-15,
    8.977579029888121e-16,
    -2.2282754984589544e-16,
    -1.6452081405038015e-16,
    -1.5179371674871094e-17,
    1.6736756138129383e-17,
)


def _chebyshev(coefficients: Sequence[float], t: Any) -> Any:
    """The series at `t` in [-1, 1], by Clenshaw's recurrence."""
    b, above = fnp.zeros_like(t), fnp.zeros_like(t)
    for c in coefficients[:0:-1]:
        b, above = 2 * t * b - above + c, b
    return t * b - above + coefficients[0]


def _series(x: Any, terms: int) -> Any:
    """The sum of ``x**k / (k k!)`` over k = 1, 2, …, by Horner's rule."""
    total = fnp.zeros_like(x)
    for k in range(terms, 0, -1):
        total = x * ((k - 1 or 1) / k**2 + total * ((k - 1) / k**2 if k > 1 else 1))
    return total


@elementwise
def exp1(x: Any) -> Any:
    """The exponential integral E1, of ``exp(-t) / t`` from `x` to infinity; NaN below 0."""
    return _exp1(x)


@custom_jvp
def _exp1(x: Any) -> Any:
    small = fnp.where(x <= 1, x, 1)
    near = -np.euler_gamma - fnp.log(small) - _series(-small, 20)
    large = fnp.where(x > 1, x, 1)
    finite = fnp.where(x == np.inf, 1, large)
    # (x - 5) / (x + 3)
    far = fnp.exp(-large) / large * _chebyshev(_E1, 1 - 8 / (finite + 3))
    return fnp.where(fnp.isnan(x) | (x < 0), np.nan, fnp.where(x <= 1, near, far))


_exp1.defjvps(lambda t, out, x: -t * fnp.exp(-x) / x)


@elementwise
def expi(x: Any) -> Any:
    """The exponential integral Ei, of ``exp(t) / t`` up to `x`: a principal value right of 0."""
    return _expi(x)


@custom_jvp
def _expi(x: Any) -> Any:
    small = fnp.where((x > 0) & (x <= 6), x, 1)
    near = np.euler_gamma + fnp.log(small) + _series(small, 40)
    middle = fnp.clip(x, 6, 24)
    middle = _chebyshev(_EI_MIDDLE, (middle - 15) / 9)
    far = _chebyshev(_EI_FAR, 48 / fnp.maximum(x, 24) - 1)
    large = fnp.maximum(x, 6)
    # exp(x) may overflow where the quotient does not.
    half = fnp.exp(fnp.minimum(large, 1e4) / 2)
    right = half / large * fnp.where(x <= 24, middle, far) * half
    right = fnp.where(x <= 6, near, fnp.where(x == np.inf, x, right))
    left = -_exp1(fnp.where(x < 0, -x, 1))
    out = fnp.where(x < 0, left, fnp.where(x == 0, -np.inf, right))
    return fnp.where(fnp.isnan(x), x, out)


_expi.defjvps(lambda t, out, x: t * fnp.exp(x) / x)

# B_2k / (2k + 1)! from k = 1.
_BERNOULLI = tuple(
    b / math.factorial(2 * k + 3)
    for k, b in enumerate(
        [1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798]
    )
)


@elementwise
def spence(x: Any) -> Any:
    """Spence's function, the integral of ``log(t) / (1 - t)`` from 1 to `x`; NaN below 0.

    It is the dilogarithm of ``1 - x``.
    """
    return _spence(x)


@custom_jvp
def _spence(x: Any) -> Any:
    low, high = x < 0.5, x > 2
    # Reflection and inversion (DLMF 25.12.4, 25.12.6) leave arguments from 1/2 to 2.
    inner = fnp.where(high, 1 / fnp.where(high, x, 1), fnp.where(low, fnp.maximum(x, 0), 0))
    logarithm = fnp.log1p(-inner)
    u = -fnp.where(low | high, logarithm, fnp.log(fnp.where(low | high, 1, x)))
    z = u * u
    series = fnp.zeros_like(x)
    for b in reversed(_BERNOULLI):
        series = series * z + b
    core = u - z / 4 + u * z * series
    log_inner = fnp.log(fnp.where(inner > 0, inner, 1))
    reflected = math.pi**2 / 6 - log_inner * logarithm - core
    inverted = -(fnp.log(fnp.where(high, x, 1)) ** 2) / 2 - reflected
    out = fnp.where(low, reflected, fnp.where(high, inverted, core))
    return fnp.where(fnp.isnan(x) | (x < 0), np.nan, out)


def _spence_slope(x: Any) -> Any:
    """``log(x) / (1 - x)``: as a series near 1, so that its derivatives are right there."""
    near = abs(x - 1) < 0.1
    distance = fnp.where(near, x - 1, 0)
    series = fnp.zeros_like(x)
    for k in range(20, 0, -1):
        series = 1 / k - distance * series
    far = fnp.where(near, 2, x)
    return -fnp.where(near, series, fnp.log(far) / (far - 1))


_spence.defjvps(lambda t, out, x: t * _spence_slope(x))
