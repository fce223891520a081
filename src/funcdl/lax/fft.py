"""The discrete Fourier transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcdl.core.array import shortened
from funcdl.core.integers import integers
from funcdl.errors import ArgumentError
from funcdl.lax.operands import ArrayLike
from funcdl.numpy.promotion import array
from funcdl.ops import fft as transforms
from funcdl.ops.fft import FftType

__all__ = ["FftType", "fft"]


def fft(x: ArrayLike, fft_type: FftType | str | int, fft_lengths: Sequence[int]) -> Any:
    """The discrete Fourier transform over the last dimensions (see `jax.lax.fft`).

    Inverse transforms are divided by the number of points, forward ones are not scaled.

    Args:
      x: complex64 or complex128; for ``RFFT`` float32 or float64.
      fft_type: a `FftType` or its name. ``RFFT`` gives the first half of the transform of real
        numbers, ``length // 2 + 1`` elements of the last dimension; ``IRFFT`` is its inverse.
      fft_lengths: one to three positive sizes: those of the last dimensions of what is real, or of
        `x`.

    Raises:
      ArgumentError: there is no such type, or the lengths are not one to three positive integers.
      DtypeError: `x` has another dtype.
      ShapeError: the last dimensions of `x` do not fit the lengths.
    """
    if isinstance(fft_type, str) and fft_type.upper() in FftType.__members__:
        kind = FftType[fft_type.upper()]
    elif isinstance(fft_type, int) and fft_type in list(FftType):
        kind = FftType(fft_type)
    else:
        names = ", ".join(FftType.__members__)
        raise ArgumentError(f"fft: fft_type must be one of {names}, got {shortened(fft_type)}")
    lengths = integers("fft_lengths", fft_lengths)
    return transforms.fft(array("fft", x), fft_type=kind, fft_lengths=lengths)
