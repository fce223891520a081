"""Where a reduction or a running result begins."""

from __future__ import annotations

import math

import numpy as np

from funcdl.core import dtypes
from funcdl.kir.ir import Scalar


def identity(op: str, dtype: np.dtype) -> Scalar:
    """The value that changes no other under `op`, of `Reduce` or `Running`.

    That of argmax is the least one, which loses to all others; of argmin, the largest.
    """
    if dtypes.is_bool(dtype):
        return op in ("prod", "and", "min", "argmin")
    if op in ("sum", "or"):
        return 0
    if op == "prod":
        return 1
    if op == "and":  # every bit set
        return int(np.iinfo(dtype).max) if dtypes.is_unsigned(dtype) else -1
    lowest = op in ("max", "argmax", "logsumexp")
    if dtypes.is_integer(dtype):
        return int(np.iinfo(dtype).min if lowest else np.iinfo(dtype).max)
    return -math.inf if lowest else math.inf
