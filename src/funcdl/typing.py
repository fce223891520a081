"""Types for annotations of programs, by the names of `jax.typing`."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from funcdl.core.array import Array, ArrayOperators

__all__ = ["Array", "ArrayLike", "DTypeLike"]


class SupportsDType(Protocol):
    """What has a dtype, such as an array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type."""
        ...


ArrayLike = (
    ArrayOperators | np.ndarray[Any, Any] | np.bool_ | np.number[Any] | bool | int | float | complex
)
"""Arrays, traced values, NumPy arrays and scalars, Python scalars: the operands of functions."""

DTypeLike = str | type[Any] | np.dtype[Any] | SupportsDType
"""What a `dtype` argument can be."""
