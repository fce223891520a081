"""Hurwitz's zeta function, and polygamma functions, for Triton (see `special.sources`)."""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-incomplete-defs=False

from __future__ import annotations

from typing import Any

from funcdl.kernels.triton.special.basic import fd_any
from funcdl.kernels.triton.special.gamma import fd_digamma

tl: Any = None
libdevice: Any = None


def fd_zeta_right(s, q):
    """The sum of (q + n)^-s for s > 1, q > 0: 12 terms, then Euler's and Maclaurin's formula."""
    c: tl.constexpr = (
        0.08333333333333333,
        -0.001388888888888889,
        3.306878306878307e-05,
        -8.267195767195768e-07,
        2.08767569878681e-08,
        -5.284190138687493e-10,
        1.3382536530684679e-11,
        -3.3896802963225827e-13,
        8.586062056277845e-15,
        -2.174868698558062e-16,
        5.5090028283602295e-18,
        -1.3954464685812522e-19,
    )
    total = s * 0.0
    at = q
    for _ in range(12):  # a loop at run time, since each power is long code
        total = total + libdevice.pow(at, -s)
        at = at + 1.0
    term = libdevice.pow(at, -s)
    rest = term * (at / (s - 1.0) + 0.5)
    factor = term * s / at
    for j in tl.static_range(12):
        rest = rest + c[j] * factor
        factor = factor * ((s + (2 * j + 1)) / at) * ((s + (2 * j + 2)) / at)
    # Where the next term is tiny beside the sum, factors may overflow that should have ended.
    done = (term == 0) | (term < 1e-18 * total) | (q == float("inf"))
    return total + tl.where(done, 0.0, rest)


def fd_zeta(x, q):
    """Hurwitz's zeta function; left of 0 only integer x have real values."""
    s = x.to(tl.float64)
    v = q.to(tl.float64)
    whole = v == libdevice.rint(v)
    plain = (s != s) | (v != v) | (s <= 1) | ((v <= 0) & whole) | (s > 1e100)
    power = tl.where(plain, 2.0, s)
    positive = v > 0
    out = fd_zeta_right(power, tl.where(positive & (plain == 0), v, 1.0))
    left = (positive == 0) & (plain == 0)
    if fd_any(left):
        at = tl.where(left, v, -0.5)
        even = power * 0.5 == libdevice.rint(power * 0.5)
        parity = tl.where(even, 1.0, -1.0)
        r = at - libdevice.rint(at)
        near = tl.abs(r)
        every = fd_zeta_right(power, near) + parity * fd_zeta_right(power, 1.0 - near)
        every = tl.where(r < 0, parity * every, every)
        found = every - parity * fd_zeta_right(power, 1.0 - at)
        found = tl.where(power == libdevice.rint(power), found, float("nan"))
        out = tl.where(left, found, out)
    infinite = float("inf")
    huge = tl.where(v > 1, 0.0, tl.where(v == 1, 1.0, infinite))
    out = tl.where(s > 1e100, huge, out)
    out = tl.where((v <= 0) & whole, infinite, out)
    out = tl.where(s == 1, infinite, out)
    return tl.where((s != s) | (s < 1) | (v != v), float("nan"), out).to(x.dtype)


def fd_polygamma(n, x):
    """(-1)^(n+1) n! zeta(n+1, x)."""
    order = n.to(tl.float64)
    v = x.to(tl.float64)
    bad = (order != order) | (order < 0) | (order != libdevice.rint(order))
    bad = bad | (order == float("inf"))
    k = tl.where(bad | (order == 0), 1.0, order)
    zeta = fd_zeta(k + 1.0, v)
    even = k * 0.5 == libdevice.rint(k * 0.5)
    few = k <= 170
    small = libdevice.tgamma(tl.where(few, k, 1.0) + 1.0) * zeta
    large = tl.exp(libdevice.lgamma(k + 1.0) + tl.log(tl.abs(zeta)))
    out = tl.where(few, small, tl.where(zeta < 0, -large, large))
    out = tl.where(even, -out, out)
    out = tl.where(order == 0, fd_digamma(v), out)
    return tl.where(bad, float("nan"), out).to(x.dtype)
