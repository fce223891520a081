"""Encodings of positions, by which attention tells apart what stands where."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.core.options import flag
from funcdl.errors import ArgumentError, ShapeError
from funcdl.nn.parameters import wide
from funcdl.numpy.creation import shape_of
from funcdl.numpy.promotion import array, promote_inexact
from funcdl.transforms.arguments import describe


def sinusoidal_positions(
    length: int, features: int, *, base: float = 10_000.0, dtype: Any = None
) -> Any:
    """Sines and cosines of many wavelengths, an array of shape ``(length, features)``.

    Feature 2 i of position p is ``sin(p / base ** (2 * i / features))``, and feature 2 i + 1 its
    cosine. From A. Vaswani and others, "Attention is all you need" (2017), section 3.5. To be added
    to embeddings; it is computed in float64 and is a constant of a compiled program.

    Args:
      length: how many positions.
      features: how many numbers for each.
      base: a positive number; wavelengths go from ``2 * pi`` to ``base * 2 * pi``.
      dtype: of the result; None means the default float.

    Raises:
      ShapeError: a size is no integer, or negative.
      ArgumentError: `base` is no positive number.
    """
    shape = shape_of((length, features), "sinusoidal_positions: (length, features)")
    angles = np.arange(shape[0])[:, None] * _rates("sinusoidal_positions", shape[1], base)
    table = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(shape[0], -1)
    return fnp.asarray(
        table[:, : shape[1]],
        dtypes.default_dtype("f") if dtype is None else dtype,
    )


def rotary_embedding(
    x: Any, positions: Any = None, *, base: float = 10_000.0, interleaved: bool = False
) -> Any:
    """Pairs of features turned by angles that grow with the position.

    Products of two vectors turned so depend on the difference of their positions only. From J. Su
    and others, "RoFormer: enhanced transformer with rotary position embedding" (2021). To be used
    on queries and keys. Half types are computed with in float32; the result is like `x`.

    Args:
      x: shape ``(..., length, heads, size)``; `size` is even.
      positions: integers or floats that broadcast to ``(..., length)``; None means 0, 1, 2 and so
        on.
      base: a positive number; pair i turns by ``base ** (-2 * i / size)`` from one position to the
        next.
      interleaved: whether neighbours are pairs, as in the paper; else the first and the second half
        are, which needs no shuffling of memory. Networks must keep to what they were trained with.

    Raises:
      ShapeError: `x` has fewer than three dimensions or an odd last one, or positions do not fit.
      ArgumentError: `base` is no positive number.
    """
    function = "rotary_embedding"
    interleaved = flag(f"{function}: interleaved", interleaved)
    (x,) = promote_inexact(function, x)
    if x.ndim < 3 or x.shape[-1] % 2:
        raise ShapeError(
            f"{function}: x must have shape (..., length, heads, size) with an even size, got "
            f"{x.aval}"
        )
    length, size = x.shape[-3], x.shape[-1]
    computed = wide(x.dtype)
    positions = array(function, fnp.arange(length) if positions is None else positions)
    fits = positions.ndim <= x.ndim - 2 and all(
        own in (1, wanted)
        for own, wanted in zip(reversed(positions.aval.shape), reversed(x.shape[:-2]), strict=False)
    )
    if not fits:
        raise ShapeError(
            f"{function}: positions must broadcast to {x.shape[:-2]}, one for each vector of x, "
            f"got {positions.aval}"
        )
    rates = fnp.asarray(_rates(function, size, base), computed)
    angles = positions.astype(computed)[..., None, None] * rates
    cos, sin = fnp.cos(angles), fnp.sin(angles)
    dtype = x.dtype
    x = x.astype(computed)
    if interleaved:
        pairs = x.reshape((*x.shape[:-1], size // 2, 2))
        a, b = pairs[..., 0], pairs[..., 1]
        out = fnp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape)
    else:
        a, b = x[..., : size // 2], x[..., size // 2 :]
        out = fnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
    return out.astype(dtype)


def _rates(function: str, features: int, base: Any) -> np.ndarray[Any, Any]:
    """By how much each pair of features turns from one position to the next."""
    known = isinstance(base, int | float | np.number) and not isinstance(base, bool)
    if not known or not base > 0:
        found = base if known else describe(base)
        raise ArgumentError(f"{function}: base must be a positive Python number, got {found}")
    return np.asarray(float(base) ** (-np.arange(0, features, 2) / max(features, 1)))
