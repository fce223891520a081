"""Calls of samplers to compare with JAX's, as text: `m` is the module, `key` one of its keys."""

from __future__ import annotations

from typing import Any

import numpy as np

P4 = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
SHAPES = np.array([0.05, 0.5, 1.0, 3.0, 20.0], np.float32)
MEANS = np.array([0.0, 0.5, 5.0, 9.0, 30.0, 4000.0], np.float32)
TABLE = np.arange(12, dtype=np.int32).reshape(4, 3)
COV = np.array([[2.0, 0.5], [0.5, 1.0]], np.float32)
LOGITS = np.log(np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]], np.float32))

# Drawn bit by bit, or by exact arithmetic on the bits.
EXACT = [
    "m.bits(key, (5,))",
    "m.bits(key, (2, 3), 'uint8')",
    "m.bits(key, (3,), 'uint16')",
    "m.bits(key)",
    "m.uniform(key, (6,))",
    "m.uniform(key, (2, 3))",
    "m.uniform(key)",
    "m.uniform(key, (5,), 'bfloat16')",
    "m.uniform(key, (5,), 'float16')",
    "m.randint(key, (6,), 0, 10)",
    "m.randint(key, (6,), -5, 6, 'int8')",
    "m.randint(key, (6,), 0, 256, 'uint8')",
    "m.randint(key, (4,), -(2**31), 2**31 - 1)",
    "m.randint(key, (4,), 3, 9, 'uint32')",
    "m.randint(key, (4,), 5, 2)",
    "m.randint(key, (2, 3), np.array([0, 5, 9]), np.array([2, 7, 99]))",
    "m.bernoulli(key, 0.3, (20,))",
    "m.bernoulli(key, np.array([0.1, 0.5, 0.9], np.float32))",
    "m.rademacher(key, (8,))",
    "m.categorical(key, LOGITS)",
    "m.categorical(key, LOGITS, axis=0)",
    "m.categorical(key, LOGITS, shape=(3, 2))",
    "m.categorical(key, LOGITS, shape=(3, 2), replace=False)",
    "m.categorical(key, LOGITS, axis=0, shape=(2, 4), replace=False)",
    "m.categorical(key, LOGITS, mode='high')",
    "m.bernoulli(key, 0.3, (20,), mode='high')",
    "m.permutation(key, 10)",
    "m.permutation(key, TABLE)",
    "m.permutation(key, TABLE, axis=1)",
    "m.permutation(key, TABLE, axis=1, independent=True)",
    "m.permutation(key, np.arange(5) > 2)",
    "m.permutation(key, 0)",
    "m.permutation(key, 2000)[:10]",
    "m.choice(key, 7, (5,))",
    "m.choice(key, 7, (3, 2), replace=False)",
    "m.choice(key, 4, (3, 2), p=P4)",
    "m.choice(key, 4, (3,), replace=False, p=P4)",
    "m.choice(key, TABLE, (2, 2), axis=1)",
    "m.choice(key, TABLE, (2,), replace=False)",
    "m.choice(key, np.arange(12.0, dtype=np.float32).reshape(4, 3), (2, 3), p=P4)",
    "m.choice(key, 5)",
    "m.choice(key, 5, (0,))",
    "m.geometric(key, 0.2, (8,))",
    "m.geometric(key, P4)",
    "m.poisson(key, MEANS)",
    "m.poisson(key, 3.0, (8,))",
    "m.poisson(key, 50.0, (2, 4))",
    "m.poisson(key, 2, (3,), 'int16')",
    "m.binomial(key, 10, 0.3, (8,))",
    "m.binomial(key, 1000, np.array([0.0, 0.001, 0.3, 0.9, 1.0], np.float32))",
    "m.binomial(key, np.array([0.0, 5.0, 300.0], np.float32), 0.5)",
    "m.multinomial(key, 100, P4)",
    "m.multinomial(key, np.array([10.0, 500.0], np.float32), P4, shape=(3, 2, 4))",
]

# Through functions whose last bits differ between libraries.
ROUNDED = [
    "m.uniform(key, (6,), minval=-3.0, maxval=5.0)",
    "m.normal(key, (6,))",
    "m.normal(key, (2, 3))",
    "m.normal(key)",
    "m.normal(key, (5,), 'bfloat16')",
    "m.normal(key, (5,), 'float16')",
    "m.truncated_normal(key, -1.0, 2.0, (6,))",
    "m.truncated_normal(key, np.array([-1.0, 0.0], np.float32), 2.0)",
    "m.exponential(key, (6,))",
    "m.gumbel(key, (6,))",
    "m.gumbel(key, (6,), mode='high')",
    "m.cauchy(key, (6,))",
    "m.cauchy(key, (2,), 'float16')",
    "m.laplace(key, (6,))",
    "m.laplace(key, (3,), 'bfloat16')",
    "m.logistic(key, (6,))",
    "m.lognormal(key, shape=(4,))",
    "m.lognormal(key, P4)",
    "m.lognormal(key, 0.5, (2, 4), 'float16')",
    "m.pareto(key, SHAPES[1:])",
    "m.pareto(key, 3, (2, 2))",
    "m.rayleigh(key, SHAPES)",
    "m.rayleigh(key, 2.0, (4,), 'bfloat16')",
    "m.weibull_min(key, 2.0, 1.5, (6,))",
    "m.weibull_min(key, P4, 3.0, (2, 4))",
    "m.triangular(key, -1.0, 0.5, 2.0, (6,))",
    "m.triangular(key, np.array([0.0, 1.0], np.float32), 1.5, 2)",
    "m.wald(key, SHAPES)",
    "m.wald(key, 1.0, (4,))",
    "m.maxwell(key, (4,))",
    "m.double_sided_maxwell(key, 1.0, 2.0, (4,))",
    "m.double_sided_maxwell(key, P4, 2.0)",
    "m.double_sided_maxwell(key, P4, 2.0, (2,))",
    "m.gamma(key, SHAPES)",
    "m.gamma(key, 2.5)",
    "m.gamma(key, SHAPES, (2, 5))",
    "m.gamma(key, 3, (4,))",
    "m.loggamma(key, SHAPES)",
    "m.loggamma(key, 0.001, (4,))",
    "m.beta(key, SHAPES, 2.0)",
    "m.beta(key, 0.5, 0.5, (4,))",
    "m.dirichlet(key, SHAPES)",
    "m.dirichlet(key, P4, (3,))",
    "m.chisquare(key, SHAPES)",
    "m.chisquare(key, 4, (3,))",
    "m.f(key, 4.0, 6.0, (4,))",
    "m.t(key, SHAPES[1:])",
    "m.t(key, 5, (4,))",
    "m.generalized_normal(key, 1.5, (4,))",
    "m.ball(key, 3, shape=(2,))",
    "m.ball(key, 2, 1.0, (3,))",
    "m.multivariate_normal(key, np.ones(2, np.float32), COV)",
    "m.multivariate_normal(key, np.zeros((3, 2), np.float32), COV, (4, 3))",
    "m.orthogonal(key, 3)",
    "m.orthogonal(key, 2, (2,), m=4)",
    "m.orthogonal(key, 4, m=2)",
]

DRAWS = EXACT + ROUNDED


CONSTANTS = {
    "np": np,
    "LOGITS": LOGITS,
    "P4": P4,
    "TABLE": TABLE,
    "SHAPES": SHAPES,
    "MEANS": MEANS,
    "COV": COV,
}


def call(module: Any, text: str, seed: int = 42) -> Any:
    return draw(module, text, module.key(seed))


def draw(module: Any, text: str, key: Any) -> Any:
    return eval(text, CONSTANTS | {"m": module, "key": key})
