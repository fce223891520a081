"""Into which pieces of one shape a concatenation is cut, to be stored by one kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence

from funcdl.core.avals import Shape

# One kernel takes so many pieces. Those that are cut from parts have so many elements in a row.
MAX_PIECES = 32
MIN_CUT = 16


def piece_shape(shapes: Sequence[Shape], dimension: int) -> Shape | None:
    """The shape of the pieces of a concatenation; None where these would be too small or many."""
    shapes = [shape for shape in shapes if math.prod(shape)]
    if not shapes:
        return None
    size = math.gcd(*(shape[dimension] for shape in shapes))
    total = sum(shape[dimension] for shape in shapes)
    after = math.prod(shapes[0][dimension + 1 :])
    equal = size == max(shape[dimension] for shape in shapes)
    if not 1 < total // size <= MAX_PIECES or not (equal or size * after >= MIN_CUT):
        return None
    return (*shapes[0][:dimension], size, *shapes[0][dimension + 1 :])
