"""Calls of funcdl.random: the same key draws the same numbers."""

from __future__ import annotations

from tests.differential.calls import call, calls, each
from tests.random.draws import CONSTANTS, DRAWS

CALLS = [
    *calls(DRAWS, constants=CONSTANTS),
    *each("key PRNGKey", "m.{}(7)"),
    *calls(
        [
            "m.split(key)",
            "m.split(key, (2, 3))",
            "m.fold_in(key, 5)",
            "m.key_data(key)",
            "m.wrap_key_data(np.array([1, 2], 'u4'))",
            "m.clone(key)",
            "m.uniform(key, (2, 3), minval=f[3], maxval=f[2, 1])",
            "m.truncated_normal(key, f[3], between(2.1, 3)[2, 3])",
            "m.gamma(key, pos[4])",
            "m.loggamma(key, pos[4])",
            "m.beta(key, pos[4], pos[4])",
            "m.dirichlet(key, pos[2, 3])",
            "m.t(key, between(1.5, 3)[4])",
            "m.chisquare(key, pos[4])",
            "m.f(key, pos[4], pos[4])",
            "m.pareto(key, pos[4])",
            "m.rayleigh(key, pos[4])",
            "m.wald(key, pos[4])",
            "m.lognormal(key, pos[4])",
            "m.weibull_min(key, pos[4], pos[4])",
            "m.triangular(key, between(-2, -1)[3], unit[3], between(1, 2)[3])",
            "m.double_sided_maxwell(key, f[3], pos[3])",
            "m.multivariate_normal(key, f[3], spd[3, 3])",
            "m.generalized_normal(key, 1.5, (3,))",
        ]
    ),
    call("str(m.key_dtype())"),
    call("str(m.key_impl(key))", name="key_impl"),
]
