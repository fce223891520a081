"""How the incomplete gamma function P(a, x) varies with its shape `a`, on NumPy arrays in float64.

Three expansions cover the quadrant, each differentiated by terms: a series left of the mean, a
continued fraction right of it, and around large means the uniform asymptotic expansion of N. M.
Temme, "The asymptotic expansion of the incomplete gamma functions", SIAM J. Math. Anal. 10 (1979).
The C form (`fd_gamma.h`) is the same algorithm.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from funcdl.core.forks import held_off

NDArray = np.ndarray[Any, Any]
Pair = tuple[NDArray, NDArray]

# Of Temme's series; from a = 12 on, where it is used, the rest is below the rounding of float64.
_TERMS = 28


def gamma_shape_derivatives(a: NDArray, x: NDArray) -> Pair:
    """dP/da, and dx/da where P(a, x) is constant: the derivative of a sample of the distribution.

    NaN where `a` is not positive or `x` is negative; at x = 0 both are 0.
    """
    a, x = np.broadcast_arrays(a, x)
    flat = gamma_shape_flat(a.reshape(-1), x.reshape(-1))
    return flat[0].reshape(a.shape), flat[1].reshape(a.shape)


def gamma_shape_flat(a: NDArray, x: NDArray) -> Pair:
    """`gamma_shape_derivatives` of arrays of one dimension."""
    by_a, sample_by_a = np.full(a.shape, np.nan), np.full(a.shape, np.nan)
    plain = (a > 0) & (x > 0) & np.isfinite(a) & np.isfinite(x)
    # P is constant along the edges.
    by_a[(a > 0) & (x >= 0) & ((x == 0) | np.isinf(x) | np.isinf(a)) & (a != x)] = 0.0
    sample_by_a[(x == 0) & (a > 0)] = 0.0
    ratio = np.where(plain, x, 1.0) / np.where(plain, a, 1.0)
    half_square = _log_excess(ratio, np.where(plain, (x - a) / np.where(plain, a, 1.0), 0.0))
    large = plain & (a >= 12) & (half_square < 0.5)
    left = plain & ~large & ((x <= a) | (x < 1.5))
    for mask, method in (
        (large, _uniform),
        (left, _series),
        (plain & ~large & ~left, _fraction),
    ):
        if mask.any():
            by_a[mask], sample_by_a[mask] = method(a[mask], x[mask], half_square[mask])
    return by_a, sample_by_a


def _log_excess(ratio: NDArray, m: NDArray) -> NDArray:
    """``m - log(ratio)`` where `m` is ``ratio - 1``, exact near 0."""
    r = m / (2 + m)
    z = r * r
    total = np.zeros_like(m)
    for k in range(25, 0, -1):
        total = total * z + 1 / (2 * k + 1)
    near = (m >= -0.5) & (m <= 1)
    return np.where(near, r * (m - 2 * z * total), m - np.log(ratio))


def _density(a: NDArray, x: NDArray, half_square: NDArray) -> NDArray:
    """``x^a exp(-x) / gamma(1 + a)``."""
    with held_off():
        from scipy import special

    large = a >= 12
    small = np.where(large, 1.0, a)
    near = np.minimum(x, 1000.0)  # where the density is 0
    direct = near**small * np.exp(-near) / special.gamma(1 + small)
    a = np.where(large, a, 12.0)
    z = 1 / (a * a)
    rest = np.zeros_like(a)
    for term in (1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12):
        rest = rest * z + term  # of Stirling's formula (DLMF 5.11.1)
    stirling = np.exp(-a * half_square - rest / a) / np.sqrt(2 * math.pi * a)
    return np.where(large, stirling, direct)


def _log_ratio(a: NDArray, x: NDArray) -> NDArray:
    with held_off():
        from scipy import special

    return np.asarray(np.log(x) - special.digamma(1 + a))


def _series(a: NDArray, x: NDArray, half_square: NDArray) -> Pair:
    """DLMF 8.7.1."""
    term, total = np.ones_like(a), np.ones_like(a)
    harmonic, total_by_a = np.zeros_like(a), np.zeros_like(a)
    for n in range(1, 200):
        term = term * x / (a + n)
        harmonic = harmonic + 1 / (a + n)
        total = total + term
        total_by_a = total_by_a - term * harmonic
        if (term < 1e-18 * total).all():
            break
    slope = total * _log_ratio(a, x) + total_by_a
    return _density(a, x, half_square) * slope, -(x / a) * slope


def _fraction(a: NDArray, x: NDArray, half_square: NDArray) -> Pair:
    """Legendre's continued fraction, even part (DLMF 8.9.2), from its end."""
    tail, tail_by_a = np.zeros_like(a), np.zeros_like(a)
    for n in range(12 + int(130 / x.min()), 0, -1):
        below = x + (2 * n + 1) - a - tail
        tail = n * (n - a) / below
        tail_by_a = (tail * (1 + tail_by_a) - n) / below
    fraction = 1 / (x + 1 - a - tail)
    by_a = fraction * (_log_ratio(a, x) + 1 / a + fraction * (1 + tail_by_a))
    return -_density(a, x, half_square) * a * by_a, x * by_a


@cache
def _temme_coefficients() -> tuple[float, ...]:
    """Coefficients of eta / m in powers of eta, where eta^2 / 2 = m - log(1 + m)."""
    from fractions import Fraction

    m = [Fraction(0), Fraction(1)]
    for n in range(2, _TERMS + 1):
        # m (dm/deta) = eta (1 + m), at eta^n.
        known = sum(m[i] * (n + 1 - i) * m[n + 1 - i] for i in range(2, n))
        m.append((m[n - 1] - known) / (n + 1))
    d: list[Fraction] = [Fraction(1)]
    for n in range(1, _TERMS):
        d.append(-sum((m[k + 1] * d[n - k] for k in range(1, n + 1)), Fraction(0)))
    return tuple(map(float, d))


def _uniform(a: NDArray, x: NDArray, half_square: NDArray) -> Pair:
    """Temme's expansion, its coefficients b found by ``b[n-1] = (n+1)/a b[n+1] + d[n]``."""
    m = (x - a) / a
    eta = np.copysign(np.sqrt(2 * half_square), m)
    zero = np.zeros_like(a)
    above, b, total = zero, zero, zero
    above_by_a, b_by_a, total_by_a = zero, zero, zero
    d = _temme_coefficients()
    for n in range(_TERMS - 1, 0, -1):
        step = (n + 1) / a
        above, b, above_by_a, b_by_a = (
            b,
            step * above + d[n],
            b_by_a,
            step * (above_by_a - above / a),
        )
        total, total_by_a = total * eta + b, total_by_a * eta + b_by_a
    scale = 1 + above / a  # gamma(a) over its Stirling formula
    scale_by_a = (above_by_a - above / a) / a
    s = total / scale
    s_by_a = (total_by_a - s * scale_by_a) / scale
    g = np.exp(-a * half_square) / np.sqrt(2 * math.pi * a)
    slope = 1 + scale * (s_by_a - eta / 2 - s * (0.5 / a + half_square))
    return -g / scale * slope, (1 + m) * slope
