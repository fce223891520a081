"""Parameters of primitives that slide windows over all dimensions of an operand, and test cases.

Meanings are those of the `jax.lax` primitives: windows of `window_dimensions` slide over the
operand after base dilation and padding (see `ops.windows.sliding`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import Shape, ShapedArray
from funcdl.errors import ArgumentError, DtypeError
from funcdl.ops.registry import random_array
from funcdl.ops.windows.sliding import Padding, Sliding, find_windows

NDArray = np.ndarray[Any, Any]
Params = dict[str, Any]


def windows_of(
    name: str,
    shape: Shape,
    *,
    window_dimensions: Shape,
    window_strides: Shape,
    padding: Padding,
    base_dilation: Shape,
    window_dilation: Shape,
) -> Sliding:
    """The windows over an operand of this shape.

    Raises:
      ArgumentError: a parameter has the wrong number of entries, or one that is not allowed.
      ShapeError: negative padding removes more than there is.
    """
    if len(window_dimensions) != len(shape) or any(size < 1 for size in window_dimensions):
        raise ArgumentError(
            f"{name}: window_dimensions must have one positive entry for each of the operand's "
            f"{len(shape)} dimensions, got {window_dimensions} for shape {shape}.\n"
            "Use 1 for dimensions that are not reduced."
        )
    return find_windows(
        name, shape, window_dimensions, window_strides, padding, base_dilation, window_dilation
    )


def params_of(windows: Sliding) -> Params:
    """The parameters that describe these windows."""
    return {
        "window_dimensions": windows.window,
        "window_strides": windows.strides,
        "padding": windows.padding,
        "base_dilation": windows.base_dilation,
        "window_dilation": windows.window_dilation,
    }


def with_batch(params: Params) -> Params:
    """The parameters with windows of size 1 along a new first dimension."""
    return params | {
        "window_dimensions": (1, *params["window_dimensions"]),
        "window_strides": (1, *params["window_strides"]),
        "padding": ((0, 0), *params["padding"]),
        "base_dilation": (1, *params["base_dilation"]),
        "window_dilation": (1, *params["window_dilation"]),
    }


def check_dtype(name: str, x: Any, accepts: tuple[str, ...]) -> None:
    """Raise `DtypeError` unless `x` has one of the dtypes `accepts`."""
    if dtypes.short_name(x.dtype) not in accepts:
        raise DtypeError(
            f"{name} does not accept {ShapedArray(x.shape, x.dtype)}; it takes "
            f"{', '.join(accepts)}.\nConvert the operand with astype first."
        )


Case = tuple[Shape, Shape, Shape, Padding, Shape, Shape]
CASES: tuple[Case, ...] = (
    ((5,), (3,), (1,), ((0, 0),), (1,), (1,)),
    ((7,), (2,), (3,), ((1, 2),), (1,), (2,)),
    ((2, 4, 5), (1, 2, 2), (1, 2, 1), ((0, 0), (1, 1), (0, 1)), (1, 1, 1), (1, 1, 1)),
    ((2, 3), (2, 2), (1, 1), ((1, 0), (2, -1)), (2, 3), (1, 2)),
    ((), (), (), (), (), ()),
    ((3,), (4,), (1,), ((0, 0),), (1,), (1,)),
    ((0, 3), (1, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1)),
)


def case_params(case: Case) -> Params:
    """The parameters of a test case."""
    _, window, strides, padding, base_dilation, window_dilation = case
    return {
        "window_dimensions": window,
        "window_strides": strides,
        "padding": padding,
        "base_dilation": base_dilation,
        "window_dilation": window_dilation,
    }


def apart(rng: np.random.Generator, shape: Shape, dtype: np.dtype[Any]) -> NDArray:
    """Test data in which a finite difference changes no extreme, even in half precision."""
    size = int(np.prod(shape))
    if not dtypes.is_inexact(dtype):
        return random_array(rng, shape, dtype)
    return (rng.permutation(size).reshape(shape) / 4 - 2).astype(dtype)
