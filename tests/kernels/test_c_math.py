"""Elementary functions in C: within their error bounds everywhere, right at special values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from tests.kernels.c_harness import (
    BINARY,
    DTYPES,
    EXACT,
    LIBRARY,
    LIBRARY_F64,
    MARKS,
    OWN,
    OWN_F32,
    NDArray,
    apply,
    every_float,
    every_isa,
    samples,
)

pytestmark = MARKS


def by_math(function: Callable[[float], float]) -> Callable[[NDArray], NDArray]:
    """The double-precision function of the `math` module on arrays."""

    def one(x: float) -> float:
        try:
            return function(x)
        except ValueError:
            return math.nan
        except OverflowError:
            return math.inf

    return lambda x: np.array([one(float(v)) for v in x])


def round_away(x: NDArray) -> NDArray:
    whole = np.trunc(x)
    return np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(1, x), whole)


REFERENCE: dict[str, Callable[[NDArray], NDArray]] = {
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "erf": by_math(math.erf),
    "erfc": by_math(math.erfc),
    "lgamma": by_math(math.lgamma),
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "sign": lambda x: np.where(x == 0, x, np.sign(x)),
    "round_even": np.rint,
    "round_away": round_away,
}


def check_ulps(name: str, t: str, x: NDArray, y: NDArray, expected: NDArray, bound: float) -> None:
    """Compare with a result in higher precision; signs of zeros, Inf and NaN must be the same."""
    rounded = expected.astype(y.dtype)
    spacing = np.spacing(np.abs(rounded)).astype(np.longdouble)
    error = np.abs(y.astype(np.longdouble) - expected) / spacing
    special = ~np.isfinite(rounded) | ~np.isfinite(y)
    largest = np.abs(rounded) == np.finfo(y.dtype).max  # may be Inf when it is half a step off
    same = (np.isnan(rounded) & np.isnan(y)) | (rounded == y)
    good = np.where(special, same | (largest & np.isinf(y)), error <= bound)
    zero = (rounded == 0) & (y == 0)
    good &= ~zero | (np.signbit(rounded) == np.signbit(y))
    bad = np.flatnonzero(~good)
    worst = bad[np.argsort(-np.nan_to_num(error[bad], nan=np.inf))][:5]
    assert bad.size == 0, [(name, t, *map(float, (x[i], y[i], expected[i]))) for i in worst]


def bounds() -> list[tuple[str, str, float]]:
    rows = [
        (name, t, limit) for name, both in OWN.items() for t, limit in zip(F, both, strict=True)
    ]
    rows += [(name, "f32", limit) for name, limit in OWN_F32.items()]
    rows += [(name, t, 4.5) for name in LIBRARY for t in F]
    rows += [(name, "f64", 4.5) for name in LIBRARY_F64]
    return rows + [(name, t, 0.0) for name in EXACT for t in F]


F = ("f32", "f64")


@every_isa
@pytest.mark.parametrize(("name", "t", "bound"), bounds())
def test_error_of_elementary_functions(isa: str, name: str, t: str, bound: float) -> None:
    x = samples(t)
    y = apply(isa, t, f"fd_{name}_{t}", t, x)
    reference = REFERENCE.get(name) or getattr(np, name)
    expected = reference(x.astype(np.longdouble))
    # No erfc wider than the C library's, which errs by 5 ulp; test_accuracy.py has a closer look.
    wide = t == "f32" or name not in ("erf", "erfc")
    check_ulps(name, t, x, y, expected, bound if wide else bound + 5)


@every_isa
@every_float
def test_quotients_by_an_inverse(isa: str, t: str) -> None:
    rng, dtype = np.random.default_rng(1), DTYPES[t]
    x, d = rng.permutation(samples(t)), rng.permutation(samples(t))
    info = np.finfo(dtype)
    ends = np.array([0, 1, 3, 0.1, info.tiny, info.smallest_subnormal, info.max, np.inf, np.nan])
    ends = np.concatenate([ends, -ends, 2.0 ** np.arange(-110, 110, 7), np.arange(5, 50)])
    pairs = np.array(list(itertools.product(ends.astype(dtype), repeat=2)))
    x, d = np.concatenate([x, pairs[:, 0]]), np.concatenate([d, pairs[:, 1]])
    y = apply(isa, t, f"fd_quotient_{t}", t, x, d)
    check_ulps("quotient", t, x, y, x.astype(np.longdouble) / d, 1.0)
    # Where neither is near an end of the range, nothing but a tie could be rounded the other way.
    rounded, low, high = x / d, 1e-30 if t == "f32" else 1e-250, 1e30 if t == "f32" else 1e250
    inside = [(low < np.abs(v)) & (np.abs(v) < high) for v in (rounded, d)]
    assert (y == rounded)[inside[0] & inside[1]].mean() > 0.9999


@every_isa
@every_float
def test_is_finite(isa: str, t: str) -> None:
    x = samples(t)
    np.testing.assert_array_equal(apply(isa, t, f"fd_is_finite_{t}", "u8", x), np.isfinite(x))


@every_isa
@every_float
def test_erf_inv_inverts_erf(isa: str, t: str) -> None:
    dtype = DTYPES[t]
    tails = 1 - np.logspace(-1, math.log10(np.finfo(dtype).epsneg), 200)
    x = np.concatenate([np.linspace(-1, 1, 1001), np.logspace(-300, -1, 100), tails]).astype(dtype)
    y = apply(isa, t, f"fd_erf_inv_{t}", t, x)
    ends = np.abs(x) == 1
    np.testing.assert_array_equal(y[ends], np.copysign(np.inf, x[ends]))
    x, y = x[~ends], y[~ends]
    # One ulp of y is this many ulps of erf(y), relative to the nearer end of erf's range.
    wide = y.astype(np.float64)
    slope = 2 / math.sqrt(math.pi) * np.exp(-wide * wide)
    back = np.where(np.abs(x) < 0.5, by_math(math.erf)(wide) - x, 0)
    back = np.where(x >= 0.5, (1 - x.astype(np.longdouble)) - by_math(math.erfc)(wide), back)
    back = np.where(x <= -0.5, by_math(math.erfc)(-wide) - (1 + x.astype(np.longdouble)), back)
    ulps = np.abs(back / slope) / np.spacing(np.abs(y)).astype(np.longdouble)
    assert ulps.max() < (5 if t == "f32" else 12)
    outside = np.array([1.5, -2, np.inf, -np.inf, np.nan, -0.0], dtype)
    special = apply(isa, t, f"fd_erf_inv_{t}", t, outside)
    assert np.isnan(special[:5]).all()
    assert special[5] == 0
    assert np.signbit(special[5])


GAMMA, LN2 = 0.57721566490153286061, math.log(2)
DIGAMMA = [  # Abramowitz and Stegun, 6.3.2, 6.3.3, 6.3.8, and reflections
    *[(1, -GAMMA), (2, 1 - GAMMA), (0.5, -GAMMA - 2 * LN2), (0.25, -GAMMA - math.pi / 2 - 3 * LN2)],
    *[(1.5, 2 - GAMMA - 2 * LN2), (-0.5, 2 - GAMMA - 2 * LN2), (-1.5, 8 / 3 - GAMMA - 2 * LN2)],
    *[(math.inf, math.inf), (0, math.nan), (-1, math.nan), (-math.inf, math.nan)],
]


@every_isa
@every_float
def test_digamma(isa: str, t: str) -> None:
    x, expected = np.array(DIGAMMA).T
    tolerance = 1e-6 if t == "f32" else 4e-15
    y = apply(isa, t, f"fd_digamma_{t}", t, x.astype(DTYPES[t]))
    np.testing.assert_allclose(y, expected, tolerance, tolerance)  # absolute near its roots
    x = np.linspace(-20, 20, 997).astype(DTYPES[t])
    x = x[np.abs(x - np.rint(x)) > 0.02]
    at, above = (apply(isa, t, f"fd_digamma_{t}", t, v) for v in (x, x + 1))
    np.testing.assert_allclose(above - at, 1 / x, 1e-4 if t == "f32" else 1e-12, 10 * tolerance)


# Of the Taylor series of digamma about its root 1.4616321449683623 from the first power on: its
# derivatives there over factorials, to 17 digits. The root is far from any float32 or float64.
ROOT, ROOT_LOW = 1.4616321449683622, 9.549995429965697e-17
ABOUT_ROOT = [0.9676722454476212, -0.4427631689835921, 0.258499760955651, -0.16394270544240652]


@every_isa
@every_float
def test_digamma_keeps_its_digits_near_its_root(isa: str, t: str) -> None:
    steps = 10.0 ** -np.linspace(4, 16, 200)
    x = np.concatenate([[ROOT], ROOT + steps, ROOT - steps]).astype(DTYPES[t])
    h = (x.astype(np.float64) - ROOT) - ROOT_LOW
    expected = h * np.polyval(ABOUT_ROOT[::-1], h)
    y = apply(isa, t, f"fd_digamma_{t}", t, x)
    np.testing.assert_allclose(y, expected, 4 * np.finfo(DTYPES[t]).eps)


@every_isa
@every_float
def test_digamma_between_0_and_10(isa: str, t: str) -> None:
    if t == "f64" and np.finfo(np.longdouble).nmant <= 52:
        pytest.skip("long double is no wider than double")
    x = np.concatenate([np.geomspace(1e-300, 1, 300), np.linspace(1, 12, 500)])
    x = x[x > np.finfo(DTYPES[t]).tiny].astype(DTYPES[t])
    # The recurrence and the series in long double: exact but near the root.
    y, total = x.astype(np.longdouble), np.zeros(x.shape, np.longdouble)
    for _ in range(100):
        total, y = total - 1 / y, y + 1
    z = 1 / (y * y)
    total += (
        np.log(y) - 0.5 / y - z * (1 / np.longdouble(12) - z * (1 / np.longdouble(120) - z / 252))
    )
    found = apply(isa, t, f"fd_digamma_{t}", t, x)
    np.testing.assert_allclose(found, total.astype(np.float64), 4 * np.finfo(DTYPES[t]).eps, 1e-17)


@every_isa
@every_float
def test_lgamma(isa: str, t: str) -> None:
    x = np.concatenate([np.linspace(-30, 100, 4999), [0.0, -1, -2, np.inf, -np.inf, np.nan, 1e300]])
    x = x.astype(DTYPES[t])
    y = apply(isa, t, f"fd_lgamma_{t}", t, x)
    expected = by_math(lambda v: math.inf if v <= 0 and v == math.floor(v) else math.lgamma(v))(x)
    # Between its poles lgamma crosses 0, where only the absolute error is small.
    np.testing.assert_allclose(y, expected, *((1e-6, 1e-6) if t == "f32" else (1e-14, 1e-14)))


SPECIALS = [0.0, -0.0, 0.5, 1, -1, 1.5, 2, -2, 3, -3, 7, -8, 1e-40, 1e30, np.inf, -np.inf, np.nan]
SPECIALS += [2.0**24 + 2, 2.0**53 - 1, -(2.0**53) + 1, 0.1, -0.1, 1e300, 5e-324, np.pi]


@every_isa
@every_float
@pytest.mark.parametrize("name", BINARY)
def test_binary_functions(isa: str, t: str, name: str) -> None:
    pairs = np.array([*itertools.product(SPECIALS, repeat=2)])
    mixed = np.random.default_rng(1).choice(samples(t), (4000, 2))
    moderate = np.random.default_rng(2).uniform(0.01, 30, (2000, 2)) * [1, -1]
    x, y = np.concatenate([pairs, mixed, moderate]).astype(DTYPES[t]).T
    out = apply(isa, t, f"fd_{name}_{t}", t, x, y)
    wide = x.astype(np.longdouble), y.astype(np.longdouble)
    if name in ("max", "min"):
        np.testing.assert_array_equal(out, (np.maximum if name == "max" else np.minimum)(x, y))
    elif name == "nextafter":
        np.testing.assert_array_equal(out, np.nextafter(x, y))
    elif name == "rem":
        check_ulps(name, t, x, out, np.fmod(*wide), 0)
    else:
        expected = np.power(*wide) if name == "pow" else np.arctan2(*wide)
        own = {"pow": 0.6, "atan2": 1.5} if t == "f32" else {"atan2": 1.9}
        check_ulps(name, t, x, out, expected, own.get(name, 1.1))
