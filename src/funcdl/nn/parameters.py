"""What layers ask of their parameters, before they compute with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.core.integers import integer
from funcdl.core.options import number
from funcdl.errors import ArgumentError, ShapeError, TreeError
from funcdl.nn.initializers import Initializer
from funcdl.transforms.arguments import check_function, describe


def checked(layer: str, params: Any, *names: str, optional: str = "") -> Mapping[str, Any]:
    """Parameters that must be a dict with entries of these names.

    Raises:
      TreeError: they are not.
    """
    if isinstance(params, Mapping) and all(name in params for name in names):
        return params
    *most, last = (repr(name) for name in names)
    wanted = f"{', '.join(most)} and {last}" if most else last
    maybe = f" and maybe {optional!r}" if optional else ""
    if isinstance(params, Mapping):
        found = f"a dict with {', '.join(map(repr, params)) or 'nothing'}"
    else:
        found = describe(params)
    raise TreeError(
        f"{layer}_apply: params must be a dict with {wanted}{maybe}, as {layer}_init makes it, "
        f"got {found}"
    )


def check_initializers(layer: str, **initializers: Initializer | None) -> None:
    """Each must be a function, or None.

    Raises:
      ArgumentError: one is not.
    """
    for name, initializer in initializers.items():
        if initializer is not None:
            check_function(f"{layer}_init", initializer, name)


def channel_axis_of(function: str, channel_axis: Any, ndim: int) -> int:
    """The dimension of channels, counted from the front; dimension 0 is the batch's.

    Raises:
      ArgumentError: there is no such dimension, or it is the batch's.
    """
    axis = integer(f"{function}: channel_axis", channel_axis)
    if not -ndim < axis < ndim or axis == 0:
        raise ArgumentError(
            f"{function}: channel_axis must be a dimension of x after the first, which is the "
            f"batch's: 1 for NCHW, -1 for NHWC; got {axis} for {ndim} dimensions"
        )
    return axis % ndim


def groups_of(function: str, groups: Any, *sizes: int) -> int:
    """A number of groups, which must divide these numbers of features.

    Raises:
      ArgumentError: it is no positive integer.
      ShapeError: it does not divide them.
    """
    count = integer(f"{function}: groups", groups)
    if count < 1:
        raise ArgumentError(f"{function}: groups must be at least 1, got {count}")
    if any(size % count for size in sizes):
        found = " and ".join(map(str, sizes))
        raise ShapeError(f"{function}: groups={count} must divide the numbers of features, {found}")
    return count


def rate_of(argument: str, rate: Any) -> float:
    """The share of what is dropped, a Python number in [0, 1].

    Raises:
      ArgumentError: it is none.
    """
    known = isinstance(rate, int | float | np.number) and not isinstance(rate, bool)
    if not known or not 0 <= rate <= 1:
        raise ArgumentError(
            f"{argument} must be a Python number in [0, 1], got {describe(rate)}"
            + (f", {rate}" if known else "; make it a static argument of jit")
        )
    return float(rate)


def epsilon_of(function: str, epsilon: Any) -> Any:
    """What keeps a divisor away from 0."""
    return number(f"{function}: epsilon", epsilon)


def wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype to compute statistics in: squares of half types overflow, and sums lose digits."""
    return fnp.promote_types(dtype, np.float32)
