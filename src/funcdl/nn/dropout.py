"""Dropout: zeros at random while a network learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import funcdl.numpy as fnp
from funcdl import random
from funcdl.core.options import flag
from funcdl.errors import ArgumentError
from funcdl.nn.parameters import rate_of
from funcdl.numpy.promotion import promote_inexact
from funcdl.numpy.reductions import normalize_axes


def dropout(
    key: Any,
    x: Any,
    rate: float,
    *,
    train: bool = True,
    shared_axes: int | Sequence[int] = (),
) -> Any:
    """`x` with a share `rate` of its elements set to 0, the others divided by ``1 - rate``.

    From N. Srivastava and others, "Dropout: a simple way to prevent neural networks from
    overfitting" (2014), scaled while it learns, as in `flax.linen.Dropout`. The mean of the result
    is `x`, whose shape and dtype it has; integers become floats.

    Args:
      key: a random key, another one for each call; None will do where nothing is dropped.
      x: the inputs.
      rate: a Python number in [0, 1], static under `jit`. 1 drops everything.
      train: whether anything is dropped; else `x` is returned.
      shared_axes: dimensions along which all or none is dropped: ``(1, 2)`` drops whole channels
        of NHWC images (J. Tompson and others, "Efficient object localization using convolutional
        networks", 2015).

    Raises:
      ArgumentError: another rate, no such dimension, no truth value, or no key.
    """
    rate = rate_of("dropout: rate", rate)
    (x,) = promote_inexact("dropout", x)
    shared = normalize_axes("dropout", shared_axes, x.ndim)
    if not flag("dropout: train", train) or rate == 0:
        return x
    if rate == 1:
        return fnp.zeros_like(x)
    if key is None:
        raise ArgumentError(
            f"dropout: rate={rate} needs a random key, such as funcdl.random.key(0), another one "
            "at each step; or pass train=False outside of training"
        )
    shape = tuple(1 if d in shared else size for d, size in enumerate(x.shape))
    kept = random.bernoulli(key, 1 - rate, shape)
    return fnp.where(kept, x * (1 / (1 - rate)), 0)
