"""Elementwise activation functions, as in `jax.nn`.

Integers and bools become floats where the function needs it. Values and derivatives are finite for
every finite argument for which the true ones are, however large it is.
"""

from __future__ import annotations

import math
from typing import Any

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.numpy import tanh
from funcdl.numpy.promotion import promote_inexact

__all__ = ["elu", "gelu", "leaky_relu", "relu", "sigmoid", "silu", "softplus", "swish", "tanh"]

# From here on the tanh in gelu is 1 even in float64, while the square of the argument still fits in
# float16.
_GELU_SATURATED = 10.0


def relu(x: Any) -> Any:
    """The positive part, ``max(x, 0)``; its derivative at 0 is 0."""
    # Not maximum, whose derivative at a tie is shared. The test is false for NaN, which so passes.
    return fnp.where(fnp.less_equal(x, 0), 0, x)


def leaky_relu(x: Any, negative_slope: Any = 0.01) -> Any:
    """``x`` where it is at least 0, else ``negative_slope * x``."""
    (x,) = promote_inexact("leaky_relu", x)
    return fnp.where(x >= 0, x, negative_slope * x)


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))``."""
    (x,) = promote_inexact("sigmoid", x)
    return lax.logistic(x)


def silu(x: Any) -> Any:
    """``x * sigmoid(x)``, also called swish.

    From Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning" (2018).
    """
    (x,) = promote_inexact("silu", x)
    return x * lax.logistic(x)


swish = silu


def gelu(x: Any, approximate: bool = True) -> Any:
    """``x`` times the probability that a standard normal variable is below it.

    From Hendrycks and Gimpel, "Gaussian error linear units" (2016).

    Args:
      x: an array.
      approximate: use ``0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))`` in place of
        the error function.
    """
    (x,) = promote_inexact("gelu", x)
    if not approximate:
        # erfc rather than 1 + erf, which cancels for negative arguments.
        return 0.5 * x * lax.erfc(-x * math.sqrt(0.5))
    # (1 + tanh(u)) / 2 is sigmoid(2 u), which does not cancel. The bounds keep the cube finite.
    bound = fnp.asarray(_GELU_SATURATED, dtype=x.dtype)
    inner = lax.clamp(-bound, x, bound)
    scale = 2 * math.sqrt(2 / math.pi)
    return x * lax.logistic(inner * (scale + (scale * 0.044715) * fnp.square(inner)))


def softplus(x: Any) -> Any:
    """``log(1 + exp(x))``, a smooth `relu`."""
    (x,) = promote_inexact("softplus", x)
    positive = x > 0
    # The exponent is never positive, so nothing overflows; both branches have slope 1/2 at 0.
    return fnp.where(positive, x, 0) + fnp.log1p(fnp.exp(fnp.where(positive, -x, x)))


def elu(x: Any, alpha: Any = 1.0) -> Any:
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``.

    From Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by
    exponential linear units" (2016).
    """
    (x,) = promote_inexact("elu", x)
    positive = x > 0
    # The inner choice keeps the branch that is not taken, and so its derivative, finite.
    return fnp.where(positive, x, alpha * fnp.expm1(fnp.where(positive, 0, x)))
