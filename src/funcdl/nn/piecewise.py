"""Activations that are linear, or quadratic, between kinks; as in `jax.nn`.

At a kink the derivative is the one that JAX takes, which each function states. NaN passes through.
Where a formula mixes integers with a float of Python's, the result is weakly typed, as in JAX.
"""

from __future__ import annotations

from typing import Any

import funcdl.numpy as fnp
from funcdl.numpy.promotion import operand, promote_inexact


def identity(x: Any) -> Any:
    """`x` as an array (see `jax.nn.identity`).

    Shape and dtype stay.

    Raises:
      LeafTypeError: `x` is no array or scalar.
    """
    return fnp.asarray(x)


def relu(x: Any) -> Any:
    """The positive part, ``max(x, 0)``; its derivative at 0 is 0 (see `jax.nn.relu`).

    The shape stays, and so does the dtype, but bools become integers.
    """
    # Not maximum, whose derivative at a tie is shared. The test is false for NaN, which so passes.
    return fnp.where(fnp.less_equal(x, 0), 0, x)


def relu6(x: Any) -> Any:
    """``min(max(x, 0), 6)``; its derivative at 0 and at 6 is 0 (see `jax.nn.relu6`).

    The shape stays; integers and bools become floats.
    """
    return fnp.where(fnp.less_equal(x, 0), 0, fnp.where(fnp.greater_equal(x, 6), 6.0, x))


def leaky_relu(x: Any, negative_slope: Any = 0.01) -> Any:
    """``x`` where it is at least 0, else ``negative_slope * x``; its derivative at 0 is 1.

    The shape stays; integers and bools become floats. See `jax.nn.leaky_relu`.
    """
    x, _ = promote_inexact("leaky_relu", x, 0.0)
    return fnp.where(x >= 0, x, operand("leaky_relu", negative_slope, 1) * x)


def hard_tanh(x: Any) -> Any:
    """`x` moved into the interval from -1 to 1, at whose ends the derivative is 1.

    The shape stays, and so does the dtype, but bools become integers. See `jax.nn.hard_tanh`.
    """
    return fnp.where(fnp.greater(x, 1), 1, fnp.where(fnp.less(x, -1), -1, x))


def hard_sigmoid(x: Any) -> Any:
    """``relu6(x + 3) / 6``, a piecewise linear `sigmoid`; the derivative at -3 and 3 is 0.

    The shape stays; integers and bools become floats. See `jax.nn.hard_sigmoid`.
    """
    x, _ = promote_inexact("hard_sigmoid", x, 0.0)
    return relu6(x + 3) / 6


def hard_silu(x: Any) -> Any:
    """``x * hard_sigmoid(x)``, also called hard_swish; the derivative is 0 at -3 and 1 at 3.

    From Howard et al., "Searching for MobileNetV3" (2019).

    The shape stays; integers and bools become floats. See `jax.nn.hard_silu`.
    """
    x, _ = promote_inexact("hard_silu", x, 0.0)
    # Bounded before the product, which would be NaN at minus infinity.
    return fnp.where(x <= -3, 0, x) * hard_sigmoid(x)


hard_swish = hard_silu


def sparse_plus(x: Any) -> Any:
    """0 up to -1, ``(x + 1)**2 / 4`` up to 1, then `x` (see `jax.nn.sparse_plus`).

    `sparse_sigmoid` is its derivative: it is to that what `softplus` is to `sigmoid`. The binary
    case of Martins and Astudillo, "From softmax to sparsemax" (2016).

    The shape stays; integers and bools become floats.
    """
    x, _ = promote_inexact("sparse_plus", x, 0.0)
    between = fnp.where((x <= -1) | (x >= 1), 0, x)
    return fnp.where(x <= -1, 0, fnp.where(x >= 1, x, fnp.square(between + 1) / 4))


def sparse_sigmoid(x: Any) -> Any:
    """``(x + 1) / 2`` moved into the interval from 0 to 1 (see `jax.nn.sparse_sigmoid`).

    Its derivative at -1 and at 1 is 1/4, halfway between those on both sides.

    The shape stays; integers and bools become floats.
    """
    x, _ = promote_inexact("sparse_sigmoid", x, 0.0)
    return fnp.clip(x + 1, 0, 2) / 2
