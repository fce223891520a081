"""Arguments of samplers: shapes, dtypes, and parameters that broadcast to a shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import Shape
from funcdl.errors import DtypeError, ShapeError
from funcdl.numpy.creation import DTypeLike, ShapeLike, canonical, shape_of
from funcdl.numpy.promotion import ArrayLike, array, broadcast_shapes, convert, strong
from funcdl.numpy.shaping import broadcast_to

DType = np.dtype[Any]


def float_dtype(name: str, dtype: DTypeLike) -> DType:
    """The dtype argument of a sampler of floats, by default the default float.

    Raises:
      DtypeError: another kind of dtype.
    """
    target = dtypes.default_dtype("f") if dtype is None else canonical(dtype)
    if not dtypes.is_float(target):
        raise DtypeError(f"{name}: dtype must be a floating type, got {target.name}")
    return target


def int_dtype(name: str, dtype: DTypeLike) -> DType:
    """The dtype argument of a sampler of integers, by default the default integer type.

    Raises:
      DtypeError: another kind of dtype.
    """
    target = dtypes.default_dtype("i") if dtype is None else canonical(dtype)
    if not dtypes.is_integer(target):
        raise DtypeError(f"{name}: dtype must be an integer type, got {target.name}")
    return target


def spread(name: str, what: str, x: Any, shape: Shape) -> Any:
    """An array broadcast to the shape of the result.

    Raises:
      ShapeError: it does not broadcast.
    """
    try:
        return broadcast_to(x, shape)
    except ShapeError:
        raise ShapeError(f"{name}: {what} must broadcast to shape={shape}, got {x.aval}") from None


def bound(name: str, what: str, value: ArrayLike, dtype: DType, shape: Shape) -> Any:
    """`spread` of a parameter in the dtype of the result."""
    return spread(name, what, real(name, what, value, dtype), shape)


def real(name: str, what: str, value: ArrayLike, dtype: DType) -> Any:
    """A parameter in the dtype of the result.

    Raises:
      DtypeError: it is complex.
    """
    x = array(name, value)
    if dtypes.is_complex(x.aval.dtype):
        raise DtypeError(f"{name}: {what} must be real, got {x.aval}")
    return strong(convert(x, dtype))


def spread_all(
    name: str, shape: ShapeLike, dtype: DType, **values: ArrayLike
) -> tuple[Shape, list[Any]]:
    """The shape of the result, and each parameter broadcast to it.

    Where `shape` is None, it is the shape to which the parameters broadcast.

    Raises:
      ShapeError: a parameter does not broadcast.
      DtypeError: a parameter is complex.
    """
    arrays = {what: real(name, what, value, dtype) for what, value in values.items()}
    if shape is None:
        sizes = broadcast_shapes(*(x.aval.shape for x in arrays.values()), name=name)
    else:
        sizes = shape_of(shape)
    return sizes, [spread(name, what, x, sizes) for what, x in arrays.items()]
