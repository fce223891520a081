"""Distributions and samples, with the names and meanings of `jax.scipy.stats`.

A distribution is a module of functions, as in ``stats.norm.logpdf(x)``: densities (`pdf`; `pmf` of
counts), distribution functions (`cdf`), what is above (`sf`), their logarithms and inverses (`ppf`,
`isf`). Operands broadcast; half precision is computed in float32. Outside of its support a density
is 0. All are differentiable, but for incomplete beta functions by their shapes.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from funcdl.absent import absent_name
from funcdl.scipy.stats.samples import ModeResult, mode, rankdata, sem

__all__ = ["ModeResult", "mode", "rankdata", "sem"]

_DISTRIBUTIONS = frozenset(
    {
        *("bernoulli", "beta", "betabinom", "binom", "cauchy", "chi2", "dirichlet", "expon"),
        *("gamma", "gennorm", "geom", "gumbel_l", "gumbel_r", "laplace", "logistic"),
        *("multinomial", "multivariate_normal", "nbinom", "norm", "pareto", "poisson", "t"),
        *("truncnorm", "uniform", "vonmises", "wrapcauchy"),
    }
)


def __getattr__(name: str) -> ModuleType:
    # Each comes when it is first named.
    if name in _DISTRIBUTIONS:
        return importlib.import_module(f"funcdl.scipy.stats.{name}")
    raise absent_name(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_DISTRIBUTIONS})
