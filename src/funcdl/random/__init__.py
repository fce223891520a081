"""Random numbers from explicit keys; names, meanings and bits follow `jax.random`.

There is one generator, Threefry. JAX's others (`rbg`, `unsafe_rbg`) are left out: what they draw
depends on the machine, and their keys do not split into independent ones under vmap.
"""

from __future__ import annotations

from funcdl.absent import getter
from funcdl.random.continuous import (
    cauchy,
    double_sided_maxwell,
    laplace,
    logistic,
    lognormal,
    maxwell,
    pareto,
    rayleigh,
    triangular,
    wald,
    weibull_min,
)
from funcdl.random.counts import binomial, geometric, multinomial, poisson
from funcdl.random.gamma_family import (
    ball,
    beta,
    chisquare,
    dirichlet,
    f,
    gamma,
    generalized_normal,
    loggamma,
    t,
)
from funcdl.random.key_array import KeyArray
from funcdl.random.keys import (
    PRNGKey,
    clone,
    fold_in,
    key,
    key_data,
    key_dtype,
    key_impl,
    split,
    wrap_key_data,
)
from funcdl.random.matrices import multivariate_normal, orthogonal
from funcdl.random.samplers import (
    bernoulli,
    bits,
    exponential,
    gumbel,
    normal,
    rademacher,
    randint,
    truncated_normal,
    uniform,
)
from funcdl.random.selections import categorical, choice, permutation

__getattr__ = getter(__name__)

__all__ = [
    "KeyArray",
    "PRNGKey",
    "ball",
    "bernoulli",
    "beta",
    "binomial",
    "bits",
    "categorical",
    "cauchy",
    "chisquare",
    "choice",
    "clone",
    "dirichlet",
    "double_sided_maxwell",
    "exponential",
    "f",
    "fold_in",
    "gamma",
    "generalized_normal",
    "geometric",
    "gumbel",
    "key",
    "key_data",
    "key_dtype",
    "key_impl",
    "laplace",
    "loggamma",
    "logistic",
    "lognormal",
    "maxwell",
    "multinomial",
    "multivariate_normal",
    "normal",
    "orthogonal",
    "pareto",
    "permutation",
    "poisson",
    "rademacher",
    "randint",
    "rayleigh",
    "split",
    "t",
    "triangular",
    "truncated_normal",
    "uniform",
    "wald",
    "weibull_min",
    "wrap_key_data",
]
