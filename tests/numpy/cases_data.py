"""Calls of functions of data: statistics, sorting, sets, histograms, signals, polynomials."""

from __future__ import annotations

import numpy as np
from tests.numpy.cases import Case, M, case

HAS_TRAPEZOID = hasattr(np, "trapezoid")
HAS_CUMULATIVE = hasattr(np, "cumulative_sum")


def _with_nan(m: object, x: object) -> object:
    return m.where(np.array([[True, False, True, True]] * 3), x, np.nan)  # type: ignore[attr-defined]


def _nan_cases() -> list[Case]:
    names = ["nansum", "nanprod", "nanmax", "nanmin", "nanmean", "nanvar", "nanstd", "nanmedian"]
    return [
        *(
            case(f"{name}({axis})", lambda m, x, n=name, a=axis: getattr(m, n)(_with_nan(m, x), a))
            for name in names
            for axis in (None, 1)
        ),
        *(
            case(name, lambda m, x, n=name: getattr(m, n)(_with_nan(m, x), 1))
            for name in ("nancumsum", "nancumprod")
        ),
        *(
            case(name, lambda m, x, n=name: getattr(m, n)(_with_nan(m, x), 1), diff=False)
            for name in ("nanargmax", "nanargmin")
        ),
        case("nanquantile", lambda m, x: m.nanquantile(_with_nan(m, x), np.array([0.2, 0.5]), 1)),
        case("nanpercentile", lambda m, x: m.nanpercentile(_with_nan(m, x), 30.0)),
        case("nanvar(where)", lambda m, x: m.nanvar(_with_nan(m, x), 1, where=x > -1.5)),
    ]


QUANTILE_METHODS = (
    *("linear", "lower", "higher", "nearest", "midpoint"),
    *("inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf"),
    *("hazen", "weibull", "median_unbiased", "normal_unbiased"),
)

STATISTICS = [
    *_nan_cases(),
    *(
        case(f"median({axis})", lambda m, x, a=axis: m.median(x, a, keepdims=True), (2, 3, 4))
        for axis in (None, 1, (0, 2))
    ),
    *(
        case(
            f"quantile({method})",
            lambda m, x, w=method: m.quantile(x, np.array([[0, 0.3], [0.625, 1]]), 0, method=w),
            (7, 2),
        )
        for method in QUANTILE_METHODS
    ),
    case("percentile", lambda m, x: m.percentile(x, 42.0, axis=(0, 1))),
    case("cov", lambda m, x: m.cov(x)),
    case("cov(pair)", lambda m, x, y: m.cov(x, y, bias=True), (5,), (5,)),
    case("cov(weights)", lambda m, x: m.cov(x, fweights=np.array([1, 2, 1, 3]), ddof=0)),
    case("cov(aweights)", lambda m, x: m.cov(x, aweights=np.array([1.0, 2.5, 1, 3]))),
    case("cov(columns)", lambda m, x: m.cov(x, rowvar=False)),
    case("corrcoef", lambda m, x: m.corrcoef(x)),
    case("average(returned)", lambda m, x, w: m.average(x, 1, w * w, True), M, (4,)),
    case("var(mean)", lambda m, x: m.var(x, axis=1, mean=m.mean(x, 1, keepdims=True))),
    *(
        case(
            name,
            lambda m, x, n=name: getattr(m, n)(x, axis=1, include_initial=True),
            np_=HAS_CUMULATIVE,
        )
        for name in ("cumulative_sum", "cumulative_prod")
    ),
]

_EDGES = np.array([-1.5, -0.5, 0.5, 1.0])

SEARCHING = [
    *(
        case(
            f"searchsorted({side}, {method})",
            lambda m, x, s=side, w=method: m.searchsorted(
                np.array([-1.0, 0.0, 0.0, 1.0]), x, s, **({} if m is np else {"method": w})
            ),
            diff=False,
        )
        for side in ("left", "right")
        for method in ("scan", "scan_unrolled", "sort", "compare_all")
    ),
    case("digitize", lambda m, x: m.digitize(x, _EDGES), diff=False),
    case("digitize(falling)", lambda m, x: m.digitize(x, _EDGES[::-1], True), diff=False),
    case("isin", lambda m, x: m.isin(m.round(x), np.array([-1.0, 1.0])), diff=False),
    case("isin(many)", lambda m, x: m.isin(m.round(x), np.arange(0, 20.0)), diff=False),
    case("compress", lambda m, x: m.compress(np.array([False, True, True]), x, axis=1)),
    case("extract", lambda m, x: m.extract(np.eye(3, 4), x)),
    case("partition", lambda m, x: m.partition(x, 2)[..., 2]),
    case("sort_complex", lambda m, x: m.real(m.sort_complex(x))),
    case("bincount(weights)", lambda m, x: m.bincount(np.array([0, 2, 0]), x, 4), (3,)),
    case("histogram", lambda m, x: m.histogram(x, _EDGES)[0] * 1.0, diff=False),
    case("histogram(weights)", lambda m, x, w: m.histogram(x * 0, _EDGES, weights=w), M, M),
    case("histogram(bins)", lambda m, x: m.histogram(x, 3, (-1.0, 1.5), density=True), diff=False),
    case("histogram_bin_edges", lambda m, x: m.histogram_bin_edges(x, 4)),
    case(
        "histogram2d", lambda m, x, y: m.histogram2d(x, y, (3, 2))[0] * 1.0, (9,), (9,), diff=False
    ),
    case("histogramdd", lambda m, x: m.histogramdd(x, 3, density=True)[0], (9, 2), diff=False),
]

_VECTORS = ((5,), (3,))

SIGNALS = [
    *(
        case(
            f"{name}({mode})",
            lambda m, x, y, n=name, w=mode: getattr(m, n)(x, y, w),
            *(_VECTORS if order else _VECTORS[::-1]),
        )
        for name in ("convolve", "correlate")
        for mode in ("full", "same", "valid")
        for order in (True, False)
    ),
    case("diff", lambda m, x: m.diff(x, 2, 0)),
    case("diff(ends)", lambda m, x, y: m.diff(x, prepend=y, append=np.array(0.0)), M, (3, 1)),
    case("ediff1d", lambda m, x, y: m.ediff1d(x, to_end=y), M, (2,)),
    case("trapezoid", lambda m, x: m.trapezoid(x, dx=0.5), np_=HAS_TRAPEZOID),
    case(
        "trapezoid(x)",
        lambda m, y, x: m.trapezoid(y, x, axis=0),
        M,
        M,
        np_=HAS_TRAPEZOID,
    ),
    case("gradient", lambda m, x: m.gradient(x, 0.5)),
    case("gradient(places)", lambda m, x: m.gradient(x, np.array([0.0, 1, 3]), axis=0)),
    case("interp", lambda m, x, y: m.interp(x, np.array([-1.0, 0, 0.5, 1.5]), y), M, (4,)),
    case("interp(ends)", lambda m, x, y: m.interp(x, np.arange(4.0), y, -7.0, 9.0), M, (4,)),
    case("interp(period)", lambda m, x, y: m.interp(x, np.arange(4.0), y, period=3.5), M, (4,)),
    case("unwrap", lambda m, x: m.unwrap(3 * x, axis=0), diff=False),
]

POLYNOMIALS = [
    case("polyval", lambda m, p, x: m.polyval(p, x), (4,), M),
    case("polyval(loop)", lambda m, p, x: m.polyval(p, x / 4), (20,), M),
    case("polyadd", lambda m, p, q: m.polyadd(p, q), (4,), (2,)),
    case("polysub", lambda m, p, q: m.polysub(q, p), (4,), (2,)),
    case("polymul", lambda m, p, q: m.polymul(p, q), (4,), (2,)),
    case("polydiv", lambda m, p, q: m.polydiv(p, q)[0], (4,), (2,)),
    case("polyder", lambda m, p: m.polyder(p, 2), (5,)),
    case("polyint", lambda m, p, k: m.polyint(p, 2, k), (3,), (2,)),
    case("poly", lambda m, z: m.poly(z), (3,)),
    case("polyfit", lambda m, y: m.polyfit(np.arange(6.0), y, 2), (6,)),
    case("vander", lambda m, x: m.vander(x, 3, True), (4,)),
]

CASES = [*STATISTICS, *SEARCHING, *SIGNALS, *POLYNOMIALS]
