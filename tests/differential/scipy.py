"""Calls of funcdl.scipy, but for linalg and stats, and of funcdl.numpy.fft."""

from __future__ import annotations

from tests.differential.calls import calls, each

SPECIAL = [
    *each("erf erfc expit i0 i0e i1 i1e ndtr log_ndtr dawsn expi erfcx gammasgn", "m.{}(f[N, K])"),
    *each("digamma gamma gammaln entr exp1 spence factorial loggamma", "m.{}(pos[N, K])"),
    *each("erfinv", "m.{}(unit[N, K])"),
    *each("logit ndtri", "m.{}(between(0.1, 0.9)[N, K])"),
    *each("beta betaln kl_div rel_entr xlogy xlog1py poch comb", "m.{}(pos[N, K], pos[K])"),
    *each("gammainc gammaincc", "m.{}(pos[N, K], pos[K])"),
    *each("boxcox boxcox1p", "m.{}(pos[N, K], f[K])"),
    *each("softmax log_softmax logsumexp", "m.{}(f[N, P], axis=1)"),
    *calls(
        [
            "m.bernoulli(6)",
            "m.betainc(pos[N, K], pos[K], between(0.1, 0.9)[N, K])",
            "m.comb(4, 2)",
            "m.logsumexp(f[N, P], b=f[N, P], return_sign=True)",
            "m.multigammaln(between(2, 3)[N, K], 3)",
            "m.polygamma(2, pos[N, K])",
            "m.zeta(between(1.5, 3)[N, K], pos[K])",
            "m.zeta(between(1.5, 3)[N, K])",
        ]
    ),
]

_BOWL = "lambda x, a: ((x - a) ** 2).sum() + (x ** 4).sum()"

OPTIMIZE = calls(
    [
        f"m.minimize({_BOWL}, f[P], (f[P],), method='BFGS').x",
        f"m.minimize({_BOWL}, f[P], (2.0,), method='BFGS', options={{'maxiter': 0}}).fun",
    ],
    grad=False,
)

COSINES = [
    *each("dct idct", "m.{}(f[P, Q])"),
    *each("dct idct", "m.{}(f[P, 4], n=3, axis=1, norm='ortho')"),
    *each("dctn idctn", "m.{}(f[P, Q])"),
]

SIGNAL = [
    *each("convolve correlate fftconvolve", "m.{}(f[5, 4], f[2, 3])"),
    *each("convolve correlate fftconvolve", "m.{}(f[7], f[3], 'same')"),
    *each("convolve correlate", "m.{}(f[7], f[3], 'valid', method='fft')"),
    *each("convolve2d correlate2d", "m.{}(f[5, 4], f[2, 3], 'same')"),
    *calls(["m.detrend(f[P, 6])", "m.detrend(f[6, P], 0, 'constant')"]),
]

IMAGES = calls(
    [
        f"m.map_coordinates(f[5, 4], [f[N], f[N]], {order}, {mode!r}, 0.5)"
        for order in (1, 0)
        for mode in ("constant", "nearest", "wrap", "mirror", "reflect")
    ]
)

INTEGRATE = calls(["m.trapezoid(f[P, 4], dx=0.5)", "m.trapezoid(f[P, 4], pos[4])"])

CODES = calls(["m.vq(f[6, P], f[3, P])", "m.vq(f[6], f[3])"])

_GRID = "m.RegularGridInterpolator((np.arange(3.0), np.array([0, 1, 3, 4.0])), f[3, 4], {})"

GRIDS = calls(
    [
        _GRID.format("'linear'") + "(pos[N, 2])",
        _GRID.format("'linear', fill_value=None") + "(f[N, 2])",
        _GRID.format("'nearest'") + "(between(0.1, 0.4)[N, 2])",
    ]
)

SPARSE = [
    *each("cg bicgstab", "m.{}(spd[P, P], f[P])[0]"),
    *each("cg bicgstab", "m.{}(lambda x: 2 * x, f[P], f[P])[0]"),
]

FFT = [
    *each("fft ifft hfft irfft", "m.{}(c[P, Q])"),
    *each("rfft ihfft", "m.{}(f[P, Q])"),
    *each("fft2 ifft2 fftn ifftn irfft2 irfftn", "m.{}(c[P, Q, 3])"),
    *each("rfft2 rfftn", "m.{}(f[P, Q, 4])"),
    *each("fft ifft", "m.{}(f[P, 4], n=3, norm='ortho')"),
    *each("fftshift ifftshift", "m.{}(f[N, K])"),
    *each("fftfreq rfftfreq", "m.{}(5, 0.5)"),
]
