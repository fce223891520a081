"""The regularized incomplete beta function, for Triton (see `special.sources`)."""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-incomplete-defs=False

from __future__ import annotations

from typing import Any

from funcdl.kernels.triton.special.basic import fd_any
from funcdl.kernels.triton.special.gamma import fd_log_excess, fd_stirling_rest

tl: Any = None
libdevice: Any = None


def fd_beta_fraction(a, b, x):
    """The continued fraction of the incomplete beta function by the method of Lentz."""
    d = 1.0 / (1.0 - (a + b) / (a + 1.0) * x)
    c = a * 0.0 + 1.0
    value = d
    going = x == x
    n = 1
    more = True
    while (n < 20000) & more:
        even = n / (a + 2 * n - 1) * ((b - n) / (a + 2 * n)) * x
        odd = -(a + n) / (a + 2 * n) * ((a + b + n) / (a + 2 * n + 1)) * x
        d = 1.0 / (1.0 + even * d)
        c = 1.0 + even / c
        first = c * d
        d = 1.0 / (1.0 + odd * d)
        c = 1.0 + odd / c
        last = c * d
        value = tl.where(going, value * first * last, value)
        going = going & (tl.abs(last - 1.0) >= 2e-16)
        n += 1
        more = fd_any(going)
    return value


def fd_regularized_incomplete_beta(p, q, z):
    """I_z(p, q), left of the mean by the fraction, right of it by that of the mirrored one."""
    a = p.to(tl.float64)
    b = q.to(tl.float64)
    x = z.to(tl.float64)
    infinite = float("inf")
    bad = (a != a) | (b != b) | (x != x) | (a < 0) | (b < 0) | (x < 0) | (x > 1)
    bad = bad | ((a == 0) & (b == 0)) | ((a == infinite) & (b == infinite))
    edge = (x == 0) | (x == 1)
    plain = bad | edge | (a == 0) | (b == 0) | (a == infinite) | (b == infinite)
    s = tl.where(plain, 1.0, a)
    t = tl.where(plain, 1.0, b)
    u = tl.where(plain, 0.5, x)
    v = 1.0 - u
    excess = u * t - v * s
    left = u / s * (s + t)
    right = v / t * (s + t)
    from_mean = s * fd_log_excess(left, excess / s) + t * fd_log_excess(right, -excess / t)
    exponent = fd_stirling_rest(s + t) - fd_stirling_rest(s) - fd_stirling_rest(t) - from_mean
    front = tl.exp(exponent) * 0.3989422804014327 * tl.sqrt(t / (s + t)) * tl.sqrt(s)
    huge = (s > 1e8) & (t > 1e8)
    direct = (u <= (s + 1.0) / (s + t + 2.0)) | ((t < 1.0) & (u < 0.999))
    idle = huge | (front == 0)
    first = tl.where(idle, 1.0, tl.where(direct, s, t))
    second = tl.where(idle, 1.0, tl.where(direct, t, s))
    place = tl.where(idle, 0.5, tl.where(direct, u, v))
    part = front * fd_beta_fraction(first, second, place) / first
    out = tl.where(direct, part, 1.0 - part)
    out = tl.where(front == 0, tl.where(excess > 0, 1.0, 0.0), out)
    root = tl.sqrt(tl.where(from_mean > 0, from_mean, 0.0))
    normal = 0.5 * libdevice.erfc(tl.where(excess < 0, root, -root))
    out = tl.where(huge, normal, out)
    out = tl.where((b == 0) | (a == infinite), 0.0, out)
    out = tl.where((a == 0) | (b == infinite), 1.0, out)
    return tl.where(bad, float("nan"), tl.where(edge, x, out)).to(p.dtype)
