"""Functions that Triton lacks, in its language; those of real numbers in float64, as in C headers.

The renderer copies the text of a function, and of those that it calls, in front of the kernels that
use it; nothing here runs in Python. Every lane computes all regions that some lane of its block is
in, and takes what is its own. The sources of the formulas stand in fd_special.h, fd_gamma.h,
fd_bessel.h and fd_beta.h.
"""

# Triton reads these functions' text; annotations but `tl.constexpr` mean nothing to it.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-incomplete-defs=False

from __future__ import annotations

import inspect
import re
from functools import cache
from typing import Any

tl: Any = None
libdevice: Any = None


def sources(expression: str) -> dict[str, str]:
    """The functions of this module that a text calls, and theirs, each after those it calls."""
    found: dict[str, str] = {}
    for name in re.findall(r"\bfd_\w+(?=\()", expression):
        text = _source(name)
        found |= sources(text.split("\n", 1)[1])
        found[name] = text
    return found


@cache
def _source(name: str) -> str:
    text = inspect.getsource(globals()[name])
    return re.sub(r'\n    """.*?"""', "", text, count=1, flags=re.DOTALL)


def fd_any(condition):
    """Whether some lane's condition holds, of a scalar or a block."""
    return tl.max(tl.zeros([1], tl.int32) + condition.to(tl.int32), axis=None) > 0


def fd_integer_power(x, y, BITS: tl.constexpr, SIGNED: tl.constexpr):
    """By squaring; negative powers are 0, but for those of 1 and -1."""
    result = x * 0 + 1
    base = x
    n = tl.where(y > 0, y, y * 0)
    for _ in range(BITS):
        result = tl.where((n & 1) != 0, result * base, result)
        base = base * base
        n = n >> 1
    if SIGNED:
        odd = tl.where((y & 1) != 0, x * 0 - 1, x * 0 + 1)
        inverse = tl.where(x == 1, x, tl.where(x == -1, odd, x * 0))
        result = tl.where(y < 0, inverse, result)
    return result


def fd_digamma_near(x):
    """Below 10, from the root right of 0, where no terms cancel; see fd_special.h."""
    h = (x - 1.4616321449683622) - 9.549995429965697e-17
    y = x + 9.0
    z = 1.0 / (y * y)
    series = 0.007389990797533359 - z * (0.02033138383591509 - z * (1.0 / 12))
    series = 0.003930800299938365 - z * (0.0040991447118089094 - z * series)
    series = 0.08325752026579913 - z * (0.008297417819000638 - z * series)
    total = 0.5 / (y * 10.461632144968362) + (y + 10.461632144968362) * z * series * (
        1.0 / (10.461632144968362 * 10.461632144968362)
    )
    for i in tl.static_range(9):
        total = total + (1.0 / (1.4616321449683622 + (8 - i))) / (x + (8 - i))
    return h * total + libdevice.log1p(h * (1.0 / 10.461632144968362))


def fd_digamma(x):
    """Reflection left of 0, the asymptotic series from 10."""
    v = x.to(tl.float64)
    fraction = v - libdevice.rint(v)
    left = v < 0
    y = tl.where(left, 1.0 - v, v)
    # The tangent of a harmless number where it is not used.
    angle = 3.141592653589793 * tl.where(left & (fraction != 0), fraction, 0.25)
    total = tl.where(left, -3.141592653589793 / libdevice.tan(angle), 0.0)
    far = tl.maximum(y, 10.0)
    z = 1.0 / (far * far)
    series = 691.0 / 32760 - z * (1.0 / 12)
    series = 1.0 / 240 - z * (1.0 / 132 - z * series)
    series = z * (1.0 / 12 - z * (1.0 / 120 - z * (1.0 / 252 - z * series)))
    large = tl.log(far) - 0.5 / far - series
    total = total + tl.where(y < 10.0, fd_digamma_near(y), tl.where(y == y, large, y))
    pole = (v <= 0) & ((fraction == 0) | (v == float("-inf")))
    total = tl.where(v == float("inf"), v, tl.where(pole, float("nan"), total))
    return total.to(x.dtype)


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


def fd_lgamma_near_1(a):
    """lgamma(1 + a) for |a| <= 1/4 by its Taylor series, of zeta(k) / k from k = 2."""
    c: tl.constexpr = (
        0.8224670334241132,
        0.40068563438653143,
        0.27058080842778454,
        0.20738555102867398,
        0.1695571769974082,
        0.1440498967688461,
        0.12550966952474304,
        0.11133426586956469,
        0.1000994575127818,
        0.09095401714582904,
        0.083353840546109,
        0.0769325164113522,
        0.07143294629536133,
        0.06666870588242046,
        0.06250095514121304,
        0.058823978658684585,
        0.055555767627403614,
        0.05263167937961666,
        0.05000004769810169,
        0.047619070330142226,
        0.04545455629320467,
        0.04347826605304026,
        0.04166666915034121,
        0.04000000119214014,
    )
    total = a * 0.0
    for i in tl.static_range(24):
        total = c[23 - i] - a * total
    return a * (a * total - 0.5772156649015329)


def fd_log_excess(ratio, m):
    """m - log(ratio), which is m^2/2 near 0, where m is ratio - 1."""
    outside = (m < -0.5) | (m > 1.0)
    safe = tl.where(outside, 0.0, m)
    r = safe / (2.0 + safe)
    z = r * r
    total = z * 0.0
    for i in tl.static_range(25):
        total = total * z + 1.0 / (51 - 2 * i)
    inner = r * (safe - 2.0 * z * total)
    return tl.where(outside, m - tl.log(ratio), inner)


def fd_stirling_rest(a):
    """log(gamma(a)) less Stirling's formula."""
    small = a < 10.0
    low = tl.where(small, a, 5.0)
    below = libdevice.lgamma(low) - (low - 0.5) * tl.log(low) + low - 0.9189385332046727
    z = 1.0 / (a * a)
    total = z * 0.0 + 1.0 / 156
    total = total * z - 691.0 / 360360
    total = total * z + 1.0 / 1188
    total = total * z - 1.0 / 1680
    total = total * z + 1.0 / 1260
    total = total * z - 1.0 / 360
    total = total * z + 1.0 / 12
    return tl.where(small, below, total / a)


def fd_igamma_uniform(a, m, half_square):
    """Temme's expansion for large a: P, Q, dP/da, and the derivative of x where P is constant."""
    d: tl.constexpr = (
        1.0,
        -0.3333333333333333,
        0.08333333333333333,
        -0.014814814814814815,
        0.0011574074074074073,
        0.0003527336860670194,
        -0.0001787551440329218,
        3.919263178522438e-05,
        -2.185448510679992e-06,
        -1.85406221071516e-06,
        8.296711340953087e-07,
        -1.7665952736826078e-07,
        6.707853543401498e-09,
        1.0261809784240309e-08,
        -4.382036018453353e-09,
        9.14769958223679e-10,
        -2.5514193994946248e-11,
        -5.830772132550426e-11,
        2.4361948020667415e-11,
        -5.0276692801141755e-12,
        1.1004392031956135e-13,
        3.371763262400985e-13,
        -1.392388722418162e-13,
        2.8534893807047445e-14,
        -5.139111834242572e-16,
        -1.9752288294349442e-15,
        8.099521156704561e-16,
        -1.6522531216398162e-16,
    )
    root = tl.sqrt(2.0 * half_square)
    eta = tl.where(m < 0, -root, root)
    above = a * 0.0
    b = above
    total = above
    above_by_a = above
    b_by_a = above
    total_by_a = above
    for i in tl.static_range(27):
        next = (28 - i) / a * above + d[27 - i]
        next_by_a = (28 - i) / a * (above_by_a - above / a)
        above = b
        b = next
        above_by_a = b_by_a
        b_by_a = next_by_a
        total = total * eta + b
        total_by_a = total_by_a * eta + b_by_a
    g = tl.exp(-a * half_square) * 0.3989422804014327 / tl.sqrt(a)
    big = 1.0 + above / a
    big_by_a = (above_by_a - above / a) / a
    s = total / big
    s_by_a = (total_by_a - s * big_by_a) / big
    z = tl.sqrt(a * half_square)
    tail = 0.5 * libdevice.erfc(z) + tl.where(m < 0, -g * s, g * s)
    slope = 1.0 + big * (s_by_a - 0.5 * eta - s * (0.5 / a + half_square))
    p = tl.where(m < 0, tail, 1.0 - tail)
    q = tl.where(m < 0, 1.0 - tail, tail)
    return p, q, -g / big * slope, (1.0 + m) * slope


def fd_igamma_series(a, x, density, log_ratio, DERIVATIVES: tl.constexpr):
    """The power series of P, and of Q where a < 1, for which 1 - P would lose digits."""
    term = a * 0.0 + 1.0
    total = term
    harmonic = a * 0.0
    by_a = harmonic
    n = 1
    more = True
    while (n < 200) & more:
        term = term * (x / (a + n))
        total = total + term
        if DERIVATIVES:
            harmonic = harmonic + 1.0 / (a + n)
            by_a = by_a - term * harmonic
        n += 1
        more = fd_any(term >= 1e-18 * total)
    p = density * total
    q = 1.0 - p
    if not DERIVATIVES:
        small = a < 1.0
        if fd_any(small):
            s = tl.where(small, a, 0.5)
            y = tl.where(small, x, 0.5)
            log_gamma = tl.where(s < 0.25, fd_lgamma_near_1(s), libdevice.lgamma(1.0 + s))
            power = s * tl.log(y) - log_gamma
            part = s * 0.0 + 1.0
            rest = s * 0.0
            for k in range(1, 40):
                part = part * (-y / k)
                rest = rest + part / (s + k)
            near = -libdevice.expm1(power) - tl.exp(power) * s * rest
            q = tl.where(small, near, q)
    slope = total * log_ratio + by_a
    return p, q, density * slope, -(x / a) * slope


def fd_igamma_fraction(a, x, density, log_ratio):
    """Legendre's continued fraction for Q, even part, from its end."""
    count = 12 + (130.0 / x).to(tl.int32)
    tail = a * 0.0
    tail_by_a = tail
    for i in range(98):
        n = 98 - i
        inside = n <= count
        below = x + (2 * n + 1) - a - tail
        new = n * (n - a) / below
        tail_by_a = tl.where(inside, (new * (1.0 + tail_by_a) - n) / below, tail_by_a)
        tail = tl.where(inside, new, tail)
    fraction = 1.0 / (x + 1.0 - a - tail)
    by_a = fraction * (log_ratio + 1.0 / a + fraction * (1.0 + tail_by_a))
    q = density * a * fraction
    return 1.0 - q, q, -density * a * by_a, x * by_a


def fd_igamma_parts(a, x, DERIVATIVES: tl.constexpr):
    """P, Q, dP/da and the derivative of x in a where P is constant, each where it is best known."""
    infinite = float("inf")
    bad = (a != a) | (x != x) | (a < 0) | (x < 0) | ((a == 0) & (x == 0))
    bad = bad | ((a == infinite) & (x == infinite))
    plain = bad | (a == 0) | (x == 0) | (a == infinite) | (x == infinite)
    # What lanes of limits and errors compute is not used: any valid numbers do.
    s = tl.where(plain, 1.0, a)
    y = tl.where(plain, 1.0, x)
    m = (y - s) / s
    large = s >= 12.0
    half_square = tl.where(large, fd_log_excess(y / s, m), 0.0)
    uniform = large & (half_square < 0.5)
    far = tl.where(large, s, 12.0)
    stirling = tl.exp(-far * half_square - fd_stirling_rest(far)) * 0.3989422804014327
    few = tl.where(large, 1.0, s)
    direct = libdevice.pow(y, few) * tl.exp(-y) / libdevice.tgamma(1.0 + few)
    direct = tl.where(y > 1000.0, 0.0, direct)
    density = tl.where(large, stirling / tl.sqrt(far), direct)
    log_ratio = y * 0.0
    if DERIVATIVES:
        log_ratio = tl.log(y) - fd_digamma(1.0 + s)
    series = (y <= s) | (y < 1.5)
    p, q, by_a, x_by_a = fd_igamma_fraction(s, tl.where(series, s + 2.0, y), density, log_ratio)
    if fd_any(series):
        inner = tl.where(series, y, 0.5 * s)
        p2, q2, by_a2, x_by_a2 = fd_igamma_series(s, inner, density, log_ratio, DERIVATIVES)
        p = tl.where(series, p2, p)
        q = tl.where(series, q2, q)
        by_a = tl.where(series, by_a2, by_a)
        x_by_a = tl.where(series, x_by_a2, x_by_a)
    if fd_any(uniform):
        middle = tl.where(uniform, m, 0.0)
        p2, q2, by_a2, x_by_a2 = fd_igamma_uniform(
            tl.where(uniform, s, 12.0), middle, tl.where(uniform, half_square, 0.0)
        )
        p = tl.where(uniform, p2, p)
        q = tl.where(uniform, q2, q)
        by_a = tl.where(uniform, by_a2, by_a)
        x_by_a = tl.where(uniform, x_by_a2, x_by_a)
    nan = float("nan")
    none = (x == 0) | (a == infinite)
    p = tl.where(x == infinite, 1.0, tl.where(none, 0.0, tl.where(a == 0, 1.0, p)))
    q = tl.where(x == infinite, 0.0, tl.where(none, 1.0, tl.where(a == 0, 0.0, q)))
    by_a = tl.where(a == 0, nan, tl.where(plain, 0.0, by_a))
    x_by_a = tl.where(plain, tl.where((x == 0) & (a != 0), 0.0, nan), x_by_a)
    return (
        tl.where(bad, nan, p),
        tl.where(bad, nan, q),
        tl.where(bad, nan, by_a),
        tl.where(bad, nan, x_by_a),
    )


def fd_igamma(a, x):
    """The regularized lower incomplete gamma function."""
    p, _q, _by_a, _x_by_a = fd_igamma_parts(a.to(tl.float64), x.to(tl.float64), False)
    return p.to(a.dtype)


def fd_igammac(a, x):
    """The regularized upper incomplete gamma function."""
    _p, q, _by_a, _x_by_a = fd_igamma_parts(a.to(tl.float64), x.to(tl.float64), False)
    return q.to(a.dtype)


def fd_igamma_grad_a(a, x):
    """The derivative of the lower one in a."""
    _p, _q, by_a, _x_by_a = fd_igamma_parts(a.to(tl.float64), x.to(tl.float64), True)
    return by_a.to(a.dtype)


def fd_random_gamma_grad(a, x):
    """The derivative of a sample of the gamma distribution in its shape."""
    _p, _q, _by_a, x_by_a = fd_igamma_parts(a.to(tl.float64), x.to(tl.float64), True)
    return x_by_a.to(a.dtype)


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
