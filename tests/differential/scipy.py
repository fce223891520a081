"""Calls of funcdl.scipy.special and of funcdl.numpy.fft."""

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

FFT = [
    *each("fft ifft hfft irfft", "m.{}(c[P, Q])"),
    *each("rfft ihfft", "m.{}(f[P, Q])"),
    *each("fft2 ifft2 fftn ifftn irfft2 irfftn", "m.{}(c[P, Q, 3])"),
    *each("rfft2 rfftn", "m.{}(f[P, Q, 4])"),
    *each("fft ifft", "m.{}(f[P, 4], n=3, norm='ortho')"),
    *each("fftshift ifftshift", "m.{}(f[N, K])"),
    *each("fftfreq rfftfreq", "m.{}(5, 0.5)"),
]
