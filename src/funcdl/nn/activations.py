"""Elementwise activation functions, as in `jax.nn`.

Integers and bools become floats where the function needs it: weakly typed ones where its formula
mixes them with a number of Python's, as in JAX. Values and derivatives are finite for
every finite argument for which the true ones are, however large it is; at infinity they are the
limits, never NaN. At kinks the derivative is JAX's. Piecewise linear functions are in
`funcdl.nn.piecewise`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core.options import flag
from funcdl.errors import ShapeError
from funcdl.nn.piecewise import relu
from funcdl.numpy import tanh
from funcdl.numpy.promotion import operand, promote_inexact
from funcdl.numpy.reductions import normalize_axis
from funcdl.scipy.special import logarithms

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "log1mexp",
    "log_sigmoid",
    "mish",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softplus",
    "squareplus",
    "swish",
    "tanh",
]

# From here on sigmoid(-x), and what the tanh in gelu leaves of 1, are 0, in float64 and in shorter
# types, while the square of gelu's argument still fits.
_SIGMOID_SATURATED = (750.0, 110.0)
_GELU_SATURATED = (22.0, 11.0)


# For the inputs of SELU networks mean 0 and variance 1 are a fixed point with these constants.
_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


def _with_limits(f: Callable[[Any], Any], x: Any) -> Any:
    """`f`, which goes to 0 on the left and to ``x`` on the right, with these limits at infinity.

    A product such as ``x * sigmoid(x)`` is NaN there, and so is its derivative.
    """
    finite = fnp.isfinite(x)
    return fnp.where(finite, f(fnp.where(finite, x, 0)), relu(x))


def _saturated(x: Any, bounds: tuple[float, float]) -> tuple[Any, Any]:
    """`x` bounded below, and on both sides: ``x`` and ``y`` of ``x * f(y)``, if ``f(-bound)`` is 0.

    So no infinity is multiplied by 0. Choices rather than `clip`, since their derivatives are
    choices too, and right at infinity.
    """
    bound = bounds[x.dtype.itemsize < 8]
    value = fnp.where(x < -bound, -bound, x)
    return value, fnp.where(x > bound, bound, value)


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))`` (see `jax.nn.sigmoid`).

    The shape stays; integers and bools become floats.
    """
    (x,) = promote_inexact("sigmoid", x)
    return lax.logistic(x)


def silu(x: Any) -> Any:
    """``x * sigmoid(x)``, also called swish (see `jax.nn.silu`).

    From Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning" (2018).

    The shape stays; integers and bools become floats.
    """
    (x,) = promote_inexact("silu", x)
    value, inner = _saturated(x, _SIGMOID_SATURATED)
    return value * lax.logistic(inner)


swish = silu


def gelu(x: Any, approximate: bool = True) -> Any:
    """``x`` times the probability that a standard normal variable is below it.

    From Hendrycks and Gimpel, "Gaussian error linear units" (2016).

    Args:
      x: an array.
      approximate: use ``0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))`` in place of
        the error function.
    """
    approximate = flag("gelu: approximate", approximate)
    (x,) = promote_inexact("gelu", x)
    return _tanh_gelu(x) if approximate else _with_limits(_exact_gelu, x)


def _exact_gelu(x: Any) -> Any:
    # erfc rather than 1 + erf, which cancels for negative arguments.
    return 0.5 * x * lax.erfc(-x * math.sqrt(0.5))


def _tanh_gelu(x: Any) -> Any:
    # (1 + tanh(u)) / 2 is sigmoid(2 u), which does not cancel.
    value, inner = _saturated(x, _GELU_SATURATED)
    scale = 2 * math.sqrt(2 / math.pi)
    return value * lax.logistic(inner * (scale + (scale * 0.044715) * fnp.square(inner)))


def softplus(x: Any) -> Any:
    """``log(1 + exp(x))``, a smooth `relu` (see `jax.nn.softplus`).

    The shape stays; integers and bools become floats.
    """
    x, _ = promote_inexact("softplus", x, 0)
    positive = x > 0
    # The exponent is never positive, so nothing overflows; both branches have slope 1/2 at 0.
    return fnp.where(positive, x, 0) + fnp.log1p(fnp.exp(fnp.where(positive, -x, x)))


def elu(x: Any, alpha: Any = 1.0) -> Any:
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)`` (see `jax.nn.elu`).

    From Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by
    exponential linear units" (2016).

    Args:
      x: an array, whose shape stays; integers and bools become floats.
      alpha: minus the limit for small `x`, a scalar or an array that broadcasts.
    """
    x, _ = promote_inexact("elu", x, 0.0)
    alpha = operand("elu", alpha, 1)
    positive = x > 0
    # The inner choice keeps the branch that is not taken, and so its derivative, finite.
    return fnp.where(positive, x, alpha * fnp.expm1(fnp.where(positive, 0, x)))


def celu(x: Any, alpha: Any = 1.0) -> Any:
    """``x`` where it is positive, else ``alpha * (exp(x / alpha) - 1)`` (see `jax.nn.celu`).

    From Barron, "Continuously differentiable exponential linear units" (2017).

    Args:
      x: an array, whose shape stays; integers and bools become floats.
      alpha: minus the limit for small `x`, a scalar or an array that broadcasts.
    """
    x, _ = promote_inexact("celu", x, 0.0)
    alpha = operand("celu", alpha, 1)
    positive = x > 0
    return fnp.where(positive, x, alpha * fnp.expm1(fnp.where(positive, 0, x) / alpha))


def selu(x: Any) -> Any:
    """`elu` with constants that keep the variance of a deep network's activations at 1.

    From Klambauer et al., "Self-normalizing neural networks" (2017).

    The shape stays; integers and bools become floats. See `jax.nn.selu`.
    """
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


def log_sigmoid(x: Any) -> Any:
    """``log(sigmoid(x))``, exact where that is close to 0 or very negative.

    The shape stays; integers and bools become floats. See `jax.nn.log_sigmoid`.
    """
    (x,) = promote_inexact("log_sigmoid", x)
    return -softplus(-x)


def mish(x: Any) -> Any:
    """``x * tanh(softplus(x))``; from Misra, "Mish: a self regularized activation" (2019).

    The shape stays; integers and bools become floats. See `jax.nn.mish`.
    """
    x, _ = promote_inexact("mish", x, 0)
    return _with_limits(lambda x: x * fnp.tanh(softplus(x)), x)


def soft_sign(x: Any) -> Any:
    """``x / (1 + |x|)`` (see `jax.nn.soft_sign`).

    The shape stays; integers and bools become floats.
    """
    x, _ = promote_inexact("soft_sign", x, 0)
    finite = fnp.isfinite(x)
    inner = fnp.where(finite, x, 0)
    return fnp.where(finite, inner / (fnp.abs(inner) + 1), fnp.sign(x))


def squareplus(x: Any, b: Any = 4) -> Any:
    """``(x + sqrt(x**2 + b)) / 2``, a smooth `relu` that is algebraic (see `jax.nn.squareplus`).

    From Barron, "Squareplus: a softplus-like algebraic rectifier" (2021). Neither large arguments
    overflow nor negative ones cancel.

    Args:
      x: an array.
      b: how round the bend is; 0 gives `relu`.

    Returns:
      An array of the shape to which both broadcast; integers and bools become floats.
    """
    x, b = promote_inexact("squareplus", x, b)

    def apply(x: Any) -> Any:
        # The scale cancels, and so needs no derivative. It keeps the squares in range.
        scale = fnp.maximum(fnp.abs(x), fnp.sqrt(b))
        scale = lax.stop_gradient(fnp.where(scale == 0, 1, scale))
        root = scale * fnp.sqrt(fnp.square(x / scale) + b / scale / scale)
        positive = x > 0
        # Multiplied by the sum of both terms over itself, the difference becomes a quotient.
        below = fnp.where(positive, 1, root - x)
        return fnp.where(positive, x / 2 + root / 2, b / (2 * fnp.where(below == 0, 1, below)))

    return _with_limits(apply, x)


def log1mexp(x: Any) -> Any:
    """``log(1 - exp(-x))`` for positive `x`; minus infinity at 0, NaN below.

    From Maechler, "Accurately computing log(1 - exp(-|a|))" (2012): two forms, which meet where
    ``exp(-x)`` is one half.

    The shape stays; integers and bools become floats. See `jax.nn.log1mexp`.
    """
    (x,) = promote_inexact("log1mexp", x)
    return logarithms.log1mexp(x)


def glu(x: Any, axis: int = -1) -> Any:
    """The first half along an axis, times the `sigmoid` of the second half.

    From Dauphin et al., "Language modeling with gated convolutional networks" (2017).

    Raises:
      ArgumentError: there is no such axis.
      ShapeError: the axis has an odd size.
    """
    (x,) = promote_inexact("glu", x)
    normalize_axis("glu", axis, x.ndim)
    size = x.shape[axis]
    if size % 2:
        raise ShapeError(f"glu requires an even size along axis {axis}, to be halved; got {x.aval}")
    half = size // 2
    value = lax.slice_in_dim(x, 0, half, axis=axis)
    return value * lax.logistic(lax.slice_in_dim(x, half, size, axis=axis))
