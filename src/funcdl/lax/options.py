"""Options and their types that `jax.lax` functions take, but for the precision of products.

Elementwise functions have one implementation, the accurate one, and there is one generator of
random numbers: what would choose others is accepted for the sake of programs that give it.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from funcdl.ops.windows.convolution_dimensions import ConvDimensionNumbers


class AccuracyMode(enum.Enum):
    """How exactly to compute an elementwise function; both mean the same here.

    See `jax.lax.AccuracyMode`.
    """

    HIGHEST = 1
    DEFAULT = 2


class Tolerance(NamedTuple):
    """The error allowed to an elementwise function (see `jax.lax.Tolerance`)."""

    atol: float = 0.0
    rtol: float = 0.0
    ulps: int = 0


class RandomAlgorithm(enum.IntEnum):
    """Generators of `rng_bit_generator`."""

    RNG_DEFAULT = 0
    RNG_THREE_FRY = 1
    RNG_PHILOX = 2


DotDimensionNumbers = tuple[
    tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]
]
ConvGeneralDilatedDimensionNumbers = tuple[str, str, str] | ConvDimensionNumbers | None
