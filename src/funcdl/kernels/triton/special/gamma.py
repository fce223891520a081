"""Digamma, and incomplete gamma functions with derivatives, for Triton (see `special.sources`)."""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-incomplete-defs=False

from __future__ import annotations

from typing import Any

from funcdl.kernels.triton.special.basic import fd_any

tl: Any = None
libdevice: Any = None


def fd_digamma_near(x):
    """Below 10, from the root r: sums over h = x - r of one sign, h / ((x + k) (r + k))."""
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
