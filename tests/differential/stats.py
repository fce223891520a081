"""Calls of funcdl.scipy.stats."""

from __future__ import annotations

from tests.differential.calls import Call, call, calls


def functions(distribution: str, names: str, form: str) -> list[Call]:
    """One call for each function of a distribution; each counts as a name of its own."""
    return [
        call(f"m.{distribution}.{name}{form}", name=f"{distribution}.{name}")
        for name in names.split()
    ]


DENSITIES = "logpdf pdf"
SHARES = "cdf logcdf sf logsf"
COUNTS = "logpmf pmf"
PLACED = "f[K], between(0.5, 2)[K])"

STATS = [
    *functions("norm", f"{DENSITIES} {SHARES}", f"(f[N, K], {PLACED}"),
    *functions("norm", "ppf isf", f"(between(0.1, 0.9)[N, K], {PLACED}"),
    *functions("uniform", f"{DENSITIES} cdf", f"(f[N, K], {PLACED}"),
    *functions("uniform", "ppf", f"(between(0.1, 0.9)[N, K], {PLACED}"),
    *functions("expon", f"{DENSITIES} {SHARES}", "(pos[N, K], scale=pos[K])"),
    *functions("expon", "ppf", f"(between(0.1, 0.9)[N, K], {PLACED}"),
    *functions("laplace", f"{DENSITIES} cdf", f"(f[N, K], {PLACED}"),
    *functions("logistic", f"{DENSITIES} cdf sf", f"(f[N, K], {PLACED}"),
    *functions("logistic", "ppf isf", f"(between(0.1, 0.9)[N, K], {PLACED}"),
    *functions("cauchy", f"{DENSITIES} {SHARES}", f"(f[N, K], {PLACED}"),
    *functions("cauchy", "ppf isf", f"(between(0.1, 0.9)[N, K], {PLACED}"),
    *functions("gumbel_l", f"{DENSITIES} {SHARES}", f"(f[N, K], {PLACED}"),
    *functions("gumbel_r", f"{DENSITIES} {SHARES}", f"(f[N, K], {PLACED}"),
    *functions("gumbel_l", "ppf", f"(between(0.1, 0.9)[N, K], {PLACED}"),
    *functions("gumbel_r", "ppf", f"(between(0.1, 0.9)[N, K], {PLACED}"),
    *functions("gamma", f"{DENSITIES} {SHARES}", "(pos[N, K], pos[K], -0.5, pos[K])"),
    *functions("chi2", f"{DENSITIES} {SHARES}", "(pos[N, K], pos[K], -0.5, pos[K])"),
    *functions("beta", DENSITIES, "(between(0.1, 0.9)[N, K], pos[K], pos[K])"),
    *functions("beta", SHARES, "(between(0.1, 0.9)[N, K], 1.5, 0.7)"),
    *functions("t", DENSITIES, f"(f[N, K], pos[K], {PLACED}"),
    *functions("pareto", f"{DENSITIES} {SHARES}", "(between(1.1, 5)[N, K], pos[K])"),
    *functions("pareto", "ppf", "(between(0.1, 0.9)[N, K], pos[K])"),
    *functions(
        "truncnorm", f"{DENSITIES} {SHARES}", "(unit[N, K], between(-2, -1)[K], pos[K] + 1)"
    ),
    *functions("vonmises", DENSITIES, "(f[N, K], pos[K])"),
    *functions("wrapcauchy", DENSITIES, "(pos[N, K], between(0.1, 0.9)[K])"),
    *functions("gennorm", f"{DENSITIES} cdf", "(f[N, K], pos[K])"),
    *functions("bernoulli", f"{COUNTS} cdf", "(nat[N, K], between(0.1, 0.9)[K])"),
    *functions("bernoulli", "ppf", "(between(0.1, 0.9)[N, K], between(0.1, 0.9)[K])"),
    *functions("binom", COUNTS, "(nat[N, K], 5, between(0.1, 0.9)[K])"),
    *functions("betabinom", COUNTS, "(nat[N, K], 5, pos[K], pos[K])"),
    *functions("geom", COUNTS, "(nat[N, K], between(0.1, 0.9)[K])"),
    *functions("nbinom", COUNTS, "(nat[N, K], pos[K], between(0.1, 0.9)[K])"),
    *functions("poisson", f"{COUNTS} cdf", "(nat[N, K], pos[K])"),
    *functions("poisson", "entropy", "(pos[N, K])"),
    *functions("multinomial", COUNTS, "(np.array([1, 2, 0]), 3, pos[3])"),
    *functions("dirichlet", DENSITIES, "(pos[3, N] / 9, pos[4])"),
    *functions("multivariate_normal", DENSITIES, "(f[N, P], f[P], spd[P, P])"),
    *calls(
        [
            "m.mode(nat[P, K], axis=0)",
            "m.mode(nat[P, Q], axis=None, keepdims=True)",
            "m.rankdata(nat[N, K], axis=0)",
            "m.rankdata(nat[P, Q], 'dense')",
        ],
        grad=False,
    ),
    *calls(["m.sem(f[4, K])", "m.sem(f[4, P], axis=None, ddof=0)"]),
]
