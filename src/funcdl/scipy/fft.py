"""Cosine transforms by Fourier transforms, with the names and meanings of `jax.scipy.fft`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.integers import integer, integers
from funcdl.core.options import is_option
from funcdl.errors import ArgumentError
from funcdl.numpy.promotion import promote_inexact
from funcdl.numpy.reductions import normalize_axis

__all__ = ["dct", "dctn", "idct", "idctn"]


def dct(
    x: Any, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None
) -> Any:
    """The discrete cosine transform of type 2 along an axis (see `jax.scipy.fft.dct`).

    ``y[k] = 2 sum(x[j] cos(pi k (2 j + 1) / (2 n)))``, by one complex transform of n points
    (J. Makhoul, "A fast cosine transform in one and two dimensions", 1980).

    Args:
      x: an array; integers become floats.
      type: must be 2.
      n: the number of points: the axis is cut, or padded with zeros at the end.
      axis: the axis.
      norm: None or ``"backward"``; or ``"ortho"``: an orthogonal matrix.

    Returns:
      A float of the dtype of `x`, float32 at least (a complex number for such).

    Raises:
      ArgumentError: another `type` or `norm`, or no points.
    """
    return _along("dct", _forward, x, type, n, axis, norm)


def idct(
    x: Any, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None
) -> Any:
    """The inverse of `dct`, with the same arguments."""
    return _along("idct", _inverse, x, type, n, axis, norm)


def dctn(
    x: Any,
    type: int = 2,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str | None = None,
) -> Any:
    """`dct` along several axes (see `jax.scipy.fft.dctn`).

    Args:
      x, type, norm: as for `dct`.
      s: the numbers of points along them.
      axes: the axes; by default the last ones of `s`, or all.

    Raises:
      ArgumentError: `s` and `axes` have different lengths, or as for `dct`.
    """
    return _along_many("dctn", dct, x, type, s, axes, norm)


def idctn(
    x: Any,
    type: int = 2,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str | None = None,
) -> Any:
    """The inverse of `dctn`, with the same arguments."""
    return _along_many("idctn", idct, x, type, s, axes, norm)


def _along(
    name: str,
    transform: Callable[[Any, bool], Any],
    x: Any,
    type: int,
    n: int | None,
    axis: int,
    norm: str | None,
) -> Any:
    if integer(f"{name}: type", type) != 2:
        raise ArgumentError(f"{name}: type must be 2, got {type}")
    if not is_option(norm, (None, "backward", "ortho")):
        raise ArgumentError(
            f"{name}: norm must be None, 'backward' or 'ortho', got {shortened(norm)}"
        )
    (x,) = promote_inexact(name, x)
    rows = fnp.moveaxis(x, normalize_axis(name, axis, x.ndim), -1)
    size = rows.shape[-1] if n is None else integer("n", n)
    if size < 1:
        raise ArgumentError(f"{name}: at least one point is needed, got {size} of {x.aval}")
    rows = rows[..., :size]
    missing = size - rows.shape[-1]
    if missing:
        rows = fnp.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, missing)])
    ortho = norm == "ortho"
    if dtypes.is_complex(x.dtype):
        out = transform(rows.real, ortho) + 1j * transform(rows.imag, ortho)
    else:
        out = transform(rows, ortho)
    return fnp.moveaxis(out, -1, axis)


def _turns(size: int, dtype: Any) -> tuple[Any, Any]:
    """The cosines and sines of ``pi k / (2 n)``."""
    angles = np.arange(size) * (math.pi / (2 * size))
    return fnp.asarray(np.cos(angles), dtype), fnp.asarray(np.sin(angles), dtype)


def _weights(size: int, ortho: bool, dtype: Any) -> Any:
    """What makes the sums' doubles of those of an orthogonal matrix."""
    weights = np.full(size, 1 / math.sqrt(2 * size) if ortho else 1.0)
    weights[0] *= math.sqrt(0.5) if ortho else 1
    return fnp.asarray(weights, dtype)


def _forward(x: Any, ortho: bool) -> Any:
    size = x.shape[-1]
    wide = fnp.float64 if x.dtype == np.float64 else fnp.float32
    x = x.astype(wide)
    # Every second point, then the others backwards.
    shuffled = fnp.concatenate([x[..., ::2], x[..., 1::2][..., ::-1]], axis=-1)
    found = fnp.fft.fft(shuffled)
    cos, sin = _turns(size, wide)
    return 2 * (found.real * cos + found.imag * sin) * _weights(size, ortho, wide)


def _inverse(y: Any, ortho: bool) -> Any:
    size = y.shape[-1]
    wide = fnp.float64 if y.dtype == np.float64 else fnp.float32
    y = y.astype(wide) / _weights(size, ortho, wide)
    cos, sin = _turns(size, wide)
    mirrored = fnp.concatenate([fnp.zeros_like(y[..., :1]), y[..., :0:-1]], axis=-1)
    real, imaginary = y * cos + mirrored * sin, y * sin - mirrored * cos
    shuffled = fnp.fft.ifft((real + 1j * imaginary) / 2).real
    half = (size + 1) // 2
    order = np.empty(size, int)
    order[::2], order[1::2] = np.arange(half), np.arange(size - 1, half - 1, -1)
    return shuffled[..., order]


def _along_many(
    name: str,
    transform: Callable[..., Any],
    x: Any,
    type: int,
    s: Sequence[int] | None,
    axes: Sequence[int] | None,
    norm: str | None,
) -> Any:
    (x,) = promote_inexact(name, x)
    s = None if s is None else integers(f"{name}: s", s)
    if axes is None:
        axes = range(x.ndim - (x.ndim if s is None else len(s)), x.ndim)
    axes = integers(f"{name}: axes", axes)
    sizes: Sequence[int | None] = [None] * len(axes) if s is None else s
    if len(sizes) != len(axes):
        raise ArgumentError(f"{name}: s and axes must have equal lengths, got {s} and {axes}")
    for axis, size in zip(axes, sizes, strict=True):
        x = transform(x, type, size, axis, norm)
    return x
