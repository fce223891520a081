"""Classes as unit vectors."""

from __future__ import annotations

from typing import Any

import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.integers import integer
from funcdl.errors import ArgumentError


def one_hot(x: Any, num_classes: int, *, dtype: Any = None, axis: int = -1) -> Any:
    """Unit vectors of class numbers (see `jax.nn.one_hot`).

    Args:
      x: an array of integers. A number outside ``[0, num_classes)`` gives a vector of zeros.
      num_classes: the size of the new axis.
      dtype: the result's dtype; None means the default float.
      axis: where the new axis stands in the result.

    Returns:
      An array with one more dimension than `x`.

    Raises:
      ArgumentError: `num_classes` is no integer, or negative.
    """
    if isinstance(num_classes, bool) or not hasattr(num_classes, "__index__"):
        raise ArgumentError(
            f"one_hot requires num_classes to be an int, got {shortened(num_classes)}"
        )
    num_classes = integer("one_hot: num_classes", num_classes)
    if num_classes < 0:
        raise ArgumentError(f"one_hot requires num_classes >= 0, got {num_classes}")
    dtype = dtypes.default_dtype("f") if dtype is None else dtypes.as_dtype(dtype)
    return is_class(x, num_classes, axis).astype(dtype)


def is_class(x: Any, num_classes: int, axis: int) -> Any:
    """Whether each entry of `x` is each class: bools, with the classes along a new axis."""
    axis = integer("axis", axis)
    x = fnp.expand_dims(x, axis)
    shape = [1] * x.ndim
    shape[axis] = num_classes
    return fnp.equal(x, fnp.arange(num_classes).reshape(shape))
