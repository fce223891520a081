"""Pooling: means and extremes of windows, by the names and with the arguments of `flax.linen`.

Inputs have any number of batch dimensions, then one for each entry of `window_shape`, then one for
features, which are pooled each for itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core.array import shortened
from funcdl.core.integers import integers
from funcdl.core.options import flag, sequence
from funcdl.errors import ArgumentError
from funcdl.lax.convolution import PaddingLike
from funcdl.nn.parameters import wide
from funcdl.numpy.promotion import promote_inexact
from funcdl.ops.reduction import extreme_identity


def pool(
    inputs: Any,
    init: Any,
    reduce_fn: Callable[..., Any],
    window_shape: Sequence[int],
    strides: Sequence[int] | None,
    padding: PaddingLike,
) -> Any:
    """The reduction of each window.

    Args:
      inputs: an array of shape ``batch + spatial + (features,)``.
      init: the value of padding: 0 for sums, an infinity for extremes.
      reduce_fn: `lax.add`, `lax.max` or `lax.min`.
      window_shape: the size of windows along each spatial dimension.
      strides: steps from one window to the next; None means 1.
      padding: ``"SAME"``, ``"VALID"`` or a pair for each spatial dimension.

    Raises:
      ArgumentError: `strides` or `padding` has not one entry for each of `window_shape`, or the
        input too few dimensions.
    """
    inputs = fnp.asarray(inputs)
    window = integers("window_shape", window_shape)
    steps = (1,) * len(window) if strides is None else integers("strides", strides)
    batch = inputs.ndim - len(window) - 1
    if batch < 0:
        raise ArgumentError(
            f"pooling with window_shape={window} requires {len(window)} spatial dimensions and one "
            f"for features, got {inputs.aval}"
        )
    if len(steps) != len(window):
        raise ArgumentError(
            f"strides must have one entry for each of window_shape={window}, got {steps}"
        )
    if not isinstance(padding, str):
        padding = tuple(sequence("padding", padding))
        if len(padding) != len(window):
            raise ArgumentError(
                "padding must be 'SAME', 'VALID' or one pair for each of "
                f"window_shape={window}, got {shortened(padding)}"
            )
        padding = (*((0, 0),) * batch, *padding, (0, 0))
    around = (1,) * batch
    return lax.reduce_window(
        inputs, init, reduce_fn, (*around, *window, 1), (*around, *steps, 1), padding
    )


def max_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: PaddingLike = "VALID",
) -> Any:
    """The largest element of each window; its derivative goes to the first one that is.

    The arguments are those of `pool`. Padding never counts.
    """
    inputs = fnp.asarray(inputs)
    return pool(
        inputs, extreme_identity(inputs.dtype, lowest=True), lax.max, window_shape, strides, padding
    )


def min_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: PaddingLike = "VALID",
) -> Any:
    """The smallest element of each window; the arguments are those of `max_pool`."""
    inputs = fnp.asarray(inputs)
    return pool(
        inputs,
        extreme_identity(inputs.dtype, lowest=False),
        lax.min,
        window_shape,
        strides,
        padding,
    )


def avg_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: PaddingLike = "VALID",
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window.

    The arguments are those of `pool`, and one more. Integers and bools become floats; half types
    are added up in float32, and the result has their dtype.

    Args:
      count_include_pad: whether zeros of the padding take part in the mean.
    """
    count_include_pad = flag("avg_pool: count_include_pad", count_include_pad)
    (inputs,) = promote_inexact("avg_pool", inputs)
    dtype = inputs.dtype
    inputs = inputs.astype(wide(dtype))  # sums of bytes wrap around, and those of halves overflow
    sums = pool(inputs, 0, lax.add, window_shape, strides, padding)
    if count_include_pad:
        return (sums / math.prod(window_shape)).astype(dtype)
    one = fnp.ones(inputs.shape, sums.dtype)
    return (sums / pool(one, 0, lax.add, window_shape, strides, padding)).astype(dtype)
