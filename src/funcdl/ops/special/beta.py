"""The regularized incomplete beta function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from funcdl.ops import registry
from funcdl.ops.arithmetic import add, mul, neg, sub
from funcdl.ops.bits import and_
from funcdl.ops.comparison import eq
from funcdl.ops.exponential import exp, log, log1p
from funcdl.ops.registry import Sample, random_array
from funcdl.ops.rows import Jvp, elementwise
from funcdl.ops.select import select_n
from funcdl.ops.shape import full_like
from funcdl.ops.special.error_functions import lgamma
from funcdl.ops.special.gamma import by_scipy, refused

_STOP = "Wrap a and b in funcdl.lax.stop_gradient if no derivative should flow through them."


def beta_log(a: Any, b: Any) -> Any:
    """The logarithm of the beta function's magnitude."""
    return sub(add(lgamma(a), lgamma(b)), lgamma(add(a, b)))


def _power_log(exponent: Any, logarithm: Any, at_zero: Any) -> Any:
    """The exponent times a logarithm, or 0 where both are that of ``0^0``."""
    zero = full_like(exponent, 0)
    corner = and_(eq(exponent, zero), at_zero)
    return mul(exponent, select_n(corner, logarithm, zero))


def _density(a: Any, b: Any, x: Any) -> Any:
    zero, one = full_like(x, 0), full_like(x, 1)
    left = _power_log(sub(a, one), log(x), eq(x, zero))
    right = _power_log(sub(b, one), log1p(neg(x)), eq(x, one))
    return exp(sub(add(left, right), beta_log(a, b)))


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape in ((), (5,), (3, 7), (2, 0)):
        shapes = (random_array(rng, shape, dtype, 0.5, 6.0) for _ in range(2))
        yield Sample((*shapes, random_array(rng, shape, dtype, 0.05, 0.95)), {}, (2,))


regularized_incomplete_beta = elementwise(
    "regularized_incomplete_beta",
    by_scipy("betainc"),
    accepts=registry.FLOATS,
    derivative=Jvp(
        (
            refused("betainc", "a", _STOP),
            refused("betainc", "b", _STOP),
            lambda t, out, a, b, x: mul(t, _density(a, b, x)),
        )
    ),
    arity=3,
    c="fd_regularized_incomplete_beta_{t}({0}, {1}, {2})",
    triton="fd_regularized_incomplete_beta({0}, {1}, {2})",
    cost=300,
    samples=_samples,
)
