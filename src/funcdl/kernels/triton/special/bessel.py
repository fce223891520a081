"""Modified Bessel functions, for Triton (see `special.sources`)."""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-incomplete-defs=False

from __future__ import annotations

from typing import Any

tl: Any = None


def fd_bessel_series(z, ORDER: tl.constexpr):
    """The power series: all terms are positive."""
    total = z * 0.0 + 1.0
    for i in tl.static_range(48):
        total = 1.0 + z * total * (1.0 / ((48 - i) * (48 - i + ORDER)))
    return total


def fd_bessel_far(x, ORDER: tl.constexpr):
    """The asymptotic series for x >= 20, where terms fall below 2^-53."""
    r = 0.125 / x
    total = r * 0.0 + 1.0
    for i in tl.static_range(26):
        total = 1.0 + total * r * (((51 - 2 * i) * (51 - 2 * i) - 4 * ORDER) / (26 - i))
    return total


def fd_bessel_scaled(x, ORDER: tl.constexpr):
    """Of order 0 or 1, times exp(-|x|)."""
    v = x.to(tl.float64)
    a = tl.abs(v)
    near = tl.where(a < 20.0, a, 20.0)
    far = tl.where(a < 20.0, 20.0, a)
    low = fd_bessel_series(0.25 * near * near, ORDER) * tl.exp(-near)
    high = fd_bessel_far(far, ORDER) * 0.3989422804014327 / tl.sqrt(far)
    if ORDER == 1:
        low = 0.5 * near * low
    out = tl.where(a < 20.0, low, high)
    if ORDER == 1:
        out = tl.where(v < 0, -out, out)
    return tl.where(v != v, v, out).to(x.dtype)


def fd_bessel_i0e(x):
    """Order 0."""
    return fd_bessel_scaled(x, 0)


def fd_bessel_i1e(x):
    """Order 1."""
    return fd_bessel_scaled(x, 1)
