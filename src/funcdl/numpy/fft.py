"""Discrete Fourier transforms, with the names and meanings of `jax.numpy.fft`.

All share four arguments. `n`, or `s` with one entry for each axis, is the size to which an axis is
first cut or padded with zeros; for transforms to real numbers it is the size of the result. `axis`
or `axes` says where to transform. `norm` says which direction is divided by the number of points:
``"backward"`` (the default, as None), ``"forward"``, or ``"ortho"``: both, by its square root.

Results have the precision of the operand; integers and half precision become complex64. Functions
of real numbers refuse complex ones and half precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.integers import integer, integers
from funcdl.core.options import is_option
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.numpy.creation import DTypeLike, asarray, canonical
from funcdl.numpy.promotion import ArrayLike, array, convert
from funcdl.numpy.reductions import normalize_axis
from funcdl.numpy.shaping import moveaxis, roll
from funcdl.ops.arithmetic import mul
from funcdl.ops.complex_parts import conj
from funcdl.ops.fft import FftType
from funcdl.ops.fft import fft as transform
from funcdl.ops.shape import full, full_like
from funcdl.ops.slicing import pad, slice_along

__all__ = [
    "fft",
    "fft2",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfft2",
    "irfftn",
    "rfft",
    "rfft2",
    "rfftfreq",
    "rfftn",
]

Axes = Sequence[int] | None

_INVERSE = (FftType.IFFT, FftType.IRFFT)


def _operand(name: str, kind: FftType, a: ArrayLike) -> Any:
    """The operand in a dtype that the transform takes."""
    x = array(name, a)
    dtype = dtypes.to_inexact(x.aval.dtype)
    if kind is not FftType.RFFT:
        return convert(x, dtypes.complex_dtype(dtype))
    if dtypes.is_complex(dtype):
        instead = f"use {name.replace('rfft', 'fft')}, or " if name.startswith("rfft") else ""
        raise DtypeError(f"{name} takes real numbers, got {x.aval}; {instead}pass its real part")
    return convert(x, dtype)


def _sizes(name: str, kind: FftType, x: Any, s: Axes, axes: tuple[int, ...]) -> list[int]:
    """The number of points along each axis."""
    if s is None:
        sizes = [x.shape[axis] for axis in axes]
        if kind is FftType.IRFFT and axes:
            sizes[-1] = 2 * (sizes[-1] - 1)
    else:
        sizes = list(integers("s", s))
    if any(not 1 <= size < 2**63 for size in sizes):
        raise ArgumentError(
            f"{name}: transforms need at least one point, and sizes of 64 bits, got sizes {sizes}"
        )
    return sizes


def _resized(x: Any, axis: int, size: int) -> Any:
    """Cut an axis, or pad it with zeros at the end."""
    old = x.shape[axis]
    if size < old:
        return slice_along(x, axis, 0, size)
    if size == old:
        return x
    padding = [(0, 0, 0)] * x.ndim
    padding[axis] = (0, size - old, 0)
    return pad(x, full((), 0, x.aval.dtype), padding_config=tuple(padding))


def _scale(name: str, norm: str | None, inverse: bool, points: int) -> float:
    """What to multiply the primitive's result with."""
    if not is_option(norm, (None, "backward", "ortho", "forward")):
        raise ArgumentError(
            f"{name}: norm must be 'backward', 'ortho' or 'forward', got {shortened(norm)}"
        )
    if norm == "ortho":
        return math.sqrt(points) if inverse else 1 / math.sqrt(points)
    if norm == "forward":
        return float(points) if inverse else 1 / points
    return 1.0


def _apply(x: Any, kind: FftType, axes: Sequence[int], sizes: Sequence[int]) -> Any:
    """The transform along any number of axes, three at a time."""
    if not axes:
        return x
    if len(axes) > 3:
        # What makes numbers complex comes first, what makes them real last.
        rest = FftType.IFFT if kind in _INVERSE else FftType.FFT
        if kind is FftType.RFFT:
            x = _apply(x, kind, axes[-3:], sizes[-3:])
            return _apply(x, rest, axes[:-3], sizes[:-3])
        x = _apply(x, rest, axes[:-3], sizes[:-3])
        return _apply(x, kind, axes[-3:], sizes[-3:])
    last = tuple(range(-len(axes), 0))
    out = transform(moveaxis(x, axes, last), fft_type=kind, fft_lengths=tuple(sizes))
    return moveaxis(out, last, axes)


def _transform(
    name: str, kind: FftType, a: ArrayLike, s: Axes, axes: Axes, norm: str | None
) -> Any:
    x = _operand(name, kind, a)
    s = None if s is None else integers(f"{name}: s", s)
    axes = None if axes is None else integers(f"{name}: axes", axes)
    if s is not None and axes is not None and len(s) != len(axes):
        raise ArgumentError(f"{name}: s and axes must have equal lengths, got {s} and {axes}")
    if axes is None:
        if s is not None and len(s) > x.ndim:
            raise ShapeError(f"{name}: s has {len(s)} entries for {x.ndim} dimensions")
        axes = range(x.ndim) if s is None else range(x.ndim - len(s), x.ndim)
    places = _places(name, axes, x.ndim)
    if not places and kind in (FftType.RFFT, FftType.IRFFT):
        raise ArgumentError(f"{name}: at least one axis is needed, for {x.aval}")
    sizes = _sizes(name, kind, x, s, places)
    scale = _scale(name, norm, kind in _INVERSE, math.prod(sizes))
    for axis, size in zip(places, sizes, strict=True):
        half = kind is FftType.IRFFT and axis == places[-1]
        x = _resized(x, axis, size // 2 + 1 if half else size)
    out = _apply(x, kind, places, sizes)
    return out if scale == 1 else mul(out, full_like(out, scale))


def _places(name: str, axes: int | Axes, ndim: int) -> tuple[int, ...]:
    """Axes counted from the front, in the order given; None means all."""
    if axes is None:
        return tuple(range(ndim))
    found = axes if isinstance(axes, Sequence) else (axes,)
    places = tuple(normalize_axis(name, axis, ndim) for axis in found)
    if len(set(places)) != len(places):
        raise ArgumentError(f"{name}: axes names a dimension twice: {axes}")
    return places


def _one(name: str, n: int | None, axis: int) -> tuple[Axes, Axes]:
    """The sizes and the axes of a transform along one axis."""
    sizes = None if n is None else (integer(f"{name}: n", n),)
    return sizes, (integer(f"{name}: axis", axis),)


def fft(a: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The discrete Fourier transform along an axis: `fftn` along one (see `numpy.fft.fft`).

    Args:
      a: an array of numbers.
      n: the size to which the axis is cut or padded with zeros first; None: its own.
      axis: the axis.
      norm: which direction is divided by n: "backward" (None means that), "forward" or "ortho".

    Returns:
      A complex array of the shape of `a`, but for n along the axis.

    Raises:
      ArgumentError: another norm, no such axis, or n is less than 1.
    """
    return _transform("fft", FftType.FFT, a, *_one("fft", n, axis), norm)


def ifft(a: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The inverse of `fft` (see `numpy.fft.ifft`).

    Arguments, result and errors are those of `fft`.
    """
    return _transform("ifft", FftType.IFFT, a, *_one("ifft", n, axis), norm)


def rfft(a: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The first half, ``n // 2 + 1`` elements, of the transform of real numbers.

    The result is complex, of the shape of `a` but for the axis. Arguments and errors are those of
    `fft`. See `numpy.fft.rfft`.

    Raises:
      DtypeError: `a` is complex, or in half precision.
    """
    return _transform("rfft", FftType.RFFT, a, *_one("rfft", n, axis), norm)


def irfft(a: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The inverse of `rfft`; `n` is by default even: twice the size of the axis, minus 2.

    The result is real and has n elements along the axis. Arguments and errors are those of `fft`.
    See `numpy.fft.irfft`.
    """
    return _transform("irfft", FftType.IRFFT, a, *_one("irfft", n, axis), norm)


def _swapped(name: str, norm: str | None) -> str:
    _scale(name, norm, False, 1)
    return {"backward": "forward", "forward": "backward", "ortho": "ortho"}[norm or "backward"]


def hfft(a: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The real transform of numbers that are symmetric with conjugates, given the first half.

    Its inverse is `ihfft`. The result is real and has `n` elements along the axis, by default
    twice its size, minus 2. Arguments and errors are those of `fft`. See `numpy.fft.hfft`.
    """
    x = _operand("hfft", FftType.FFT, a)
    norm = _swapped("hfft", norm)
    return _transform("hfft", FftType.IRFFT, conj(x), *_one("hfft", n, axis), norm)


def ihfft(a: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The inverse of `hfft`: the first half of the result (see `numpy.fft.ihfft`).

    The result is complex, with ``n // 2 + 1`` elements along the axis. Arguments and errors are
    those of `rfft`.
    """
    norm = _swapped("ihfft", norm)
    return conj(_transform("ihfft", FftType.RFFT, a, *_one("ihfft", n, axis), norm))


def fft2(
    a: ArrayLike, s: Axes = None, axes: Sequence[int] = (-2, -1), norm: str | None = None
) -> Any:
    """The transform along two axes (see `numpy.fft.fft2`).

    Arguments, result and errors are those of `fftn`.
    """
    return _transform("fft2", FftType.FFT, a, s, axes, norm)


def ifft2(
    a: ArrayLike, s: Axes = None, axes: Sequence[int] = (-2, -1), norm: str | None = None
) -> Any:
    """The inverse of `fft2` (see `numpy.fft.ifft2`).

    Arguments, result and errors are those of `fftn`.
    """
    return _transform("ifft2", FftType.IFFT, a, s, axes, norm)


def rfft2(
    a: ArrayLike, s: Axes = None, axes: Sequence[int] = (-2, -1), norm: str | None = None
) -> Any:
    """The transform of real numbers along two axes; the last one keeps its first half.

    The result is complex. Arguments and errors are those of `fftn`. See `numpy.fft.rfft2`.

    Raises:
      DtypeError: `a` is complex, or in half precision.
    """
    return _transform("rfft2", FftType.RFFT, a, s, axes, norm)


def irfft2(
    a: ArrayLike, s: Axes = None, axes: Sequence[int] = (-2, -1), norm: str | None = None
) -> Any:
    """The inverse of `rfft2` (see `numpy.fft.irfft2`).

    The result is real. Arguments and errors are those of `fftn`.
    """
    return _transform("irfft2", FftType.IRFFT, a, s, axes, norm)


def fftn(a: ArrayLike, s: Axes = None, axes: Axes = None, norm: str | None = None) -> Any:
    """The transform along several axes; by default all, or the last ones if `s` is given.

    See `numpy.fft.fftn`.

    Args:
      a: an array of numbers.
      s: the size of each axis, to which it is cut or padded with zeros first.
      axes: the axes, each one once.
      norm: see `fft`.

    Returns:
      A complex array of the shape of `a`, but for `s` along the axes.

    Raises:
      ArgumentError: `s` and `axes` differ in length, or see `fft`.
      ShapeError: `s` has more entries than `a` has dimensions.
    """
    return _transform("fftn", FftType.FFT, a, s, axes, norm)


def ifftn(a: ArrayLike, s: Axes = None, axes: Axes = None, norm: str | None = None) -> Any:
    """The inverse of `fftn` (see `numpy.fft.ifftn`).

    Arguments, result and errors are those of `fftn`.
    """
    return _transform("ifftn", FftType.IFFT, a, s, axes, norm)


def rfftn(a: ArrayLike, s: Axes = None, axes: Axes = None, norm: str | None = None) -> Any:
    """The transform of real numbers along several axes; the last one keeps its first half.

    The result is complex. Arguments and errors are those of `fftn`. See `numpy.fft.rfftn`.

    Raises:
      DtypeError: `a` is complex, or in half precision.
    """
    return _transform("rfftn", FftType.RFFT, a, s, axes, norm)


def irfftn(a: ArrayLike, s: Axes = None, axes: Axes = None, norm: str | None = None) -> Any:
    """The inverse of `rfftn` (see `numpy.fft.irfftn`).

    The result is real. Arguments and errors are those of `fftn`.
    """
    return _transform("irfftn", FftType.IRFFT, a, s, axes, norm)


def _frequencies(
    name: str, n: int, d: ArrayLike, dtype: DTypeLike, counts: np.ndarray[Any, Any]
) -> Any:
    if n < 1:
        raise ArgumentError(f"{name}: n must be positive, got {n}")
    wanted = dtypes.default_dtype("f") if dtype is None else canonical(dtype)
    return asarray(counts, dtype=wanted) / (n * array(name, d))


def fftfreq(n: int, d: ArrayLike = 1.0, *, dtype: DTypeLike = None) -> Any:
    """The frequency of each element of `fft`, in cycles per unit of the spacing `d`.

    A vector of floats, of dtype `dtype`. See `jax.numpy.fft.fftfreq`.

    Raises:
      ArgumentError: `n` is less than 1.
    """
    n = integer("n", n)
    counts = (np.arange(n) + n // 2) % max(n, 1) - n // 2
    return _frequencies("fftfreq", n, d, dtype, counts)


def rfftfreq(n: int, d: ArrayLike = 1.0, *, dtype: DTypeLike = None) -> Any:
    """The frequency of each element of `rfft`, in cycles per unit of the spacing `d`.

    A vector of floats, of dtype `dtype`. See `jax.numpy.fft.rfftfreq`.

    Raises:
      ArgumentError: `n` is less than 1.
    """
    n = integer("n", n)
    return _frequencies("rfftfreq", n, d, dtype, np.arange(n // 2 + 1))


def _shifted(name: str, x: ArrayLike, axes: int | Axes, sign: int) -> Any:
    x = array(name, x)
    places = _places(name, axes, x.ndim)
    # Half of an odd size is rounded down one way and up the other.
    return roll(x, [sign * (x.shape[p] // 2) for p in places], places) if places else x


def fftshift(x: ArrayLike, axes: int | Axes = None) -> Any:
    """Move the zero frequency to the middle, along one, several or all axes.

    Shape and dtype stay. Half of an odd size is rounded down. See `numpy.fft.fftshift`.

    Raises:
      ArgumentError: there is no such axis.
    """
    return _shifted("fftshift", x, axes, 1)


def ifftshift(x: ArrayLike, axes: int | Axes = None) -> Any:
    """The inverse of `fftshift` (see `numpy.fft.ifftshift`).

    Shape, dtype and errors are those of `fftshift`.
    """
    return _shifted("ifftshift", x, axes, -1)
