"""Windows of signal processing: vectors that fall off towards both ends.

Their sizes are known, so all but `kaiser` are constants, computed by NumPy in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.integers import integer
from funcdl.errors import ArgumentError
from funcdl.numpy.creation import asarray, ones
from funcdl.numpy.functions import i0
from funcdl.numpy.promotion import ArrayLike, array, convert

__all__ = ["bartlett", "blackman", "hamming", "hanning", "kaiser"]


def _size(name: str, M: int) -> int:
    size = integer("M", M)
    if size < 0:
        raise ArgumentError(f"{name}: M must not be negative, got {M}")
    return size


def _window(name: str, M: int, function: Callable[[int], Any]) -> Any:
    return Array(function(_size(name, M)).astype(dtypes.default_dtype("f")))


def bartlett(M: int) -> Any:
    """A triangle of M points, 0 at both ends (see `numpy.bartlett`).

    A vector of the default float type.

    Raises:
      ArgumentError: M is negative.
    """
    return _window("bartlett", M, np.bartlett)


def blackman(M: int) -> Any:
    """A sum of three cosines, of M points (see `numpy.blackman`).

    A vector of the default float type.

    Raises:
      ArgumentError: M is negative.
    """
    return _window("blackman", M, np.blackman)


def hamming(M: int) -> Any:
    """A raised cosine of M points, 0.08 at both ends (see `numpy.hamming`).

    A vector of the default float type.

    Raises:
      ArgumentError: M is negative.
    """
    return _window("hamming", M, np.hamming)


def hanning(M: int) -> Any:
    """A raised cosine of M points, 0 at both ends (see `numpy.hanning`).

    A vector of the default float type.

    Raises:
      ArgumentError: M is negative.
    """
    return _window("hanning", M, np.hanning)


def kaiser(M: int, beta: ArrayLike) -> Any:
    """A window of M points by the Bessel function I0 (see `numpy.kaiser`).

    Args:
      M: the number of points.
      beta: the shape: 0 is a rectangle, larger numbers are narrower with lower side lobes.

    Returns:
      A vector of the default float type.

    Raises:
      ArgumentError: M is negative.
    """
    size = _size("kaiser", M)
    beta = convert(array("kaiser", beta), dtypes.default_dtype("f"))
    if size == 1:
        return ones(1)
    middle = (size - 1) / 2
    part = (np.arange(size) - middle) / middle
    height = np.sqrt(np.maximum(1 - part * part, 0))
    return i0(beta * asarray(height, beta.aval.dtype)) / i0(beta)
