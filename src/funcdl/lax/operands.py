"""Operands of `funcdl.lax` functions: arrays as they are, Python scalars to fit them.

Nothing else is promoted or broadcast; `funcdl.numpy` is for that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array, ArrayOperators
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.trace import context, eval_trace
from funcdl.errors import DtypeError
from funcdl.numpy.promotion import convert, operands, promote_dtypes
from funcdl.ops.shape import broadcast_to

ArrayLike = Any


def fit(name: str, *xs: ArrayLike) -> list[Any]:
    """Operands as arrays; Python scalars take dtype and shape of the first array among them.

    Raises:
      LeafTypeError: an operand is no array and no scalar.
      IntegerRangeError: a Python int does not fit the dtype.
      DtypeError: a Python float beside integers.
    """
    if all(type(x) is Array for x in xs):  # as they mostly are
        return list(xs)
    values = operands(name, xs)
    model = next((x for x in values if isinstance(x, ArrayOperators)), None)
    if model is None:
        return promote_dtypes(name, *values)
    aval = model.aval
    return [
        x if isinstance(x, ArrayOperators) else broadcast_to(like(name, i, x, aval), aval.shape)
        for i, x in enumerate(values)
    ]


def like(name: str, argument: str | int, value: Any, aval: ShapedArray) -> Any:
    """A value that goes with an array, in the array's dtype; `argument` is its name or number.

    Raises:
      DtypeError: that would lose fractions or imaginary parts, as of a float beside integers.
    """
    check_fit(name, argument, value, aval)
    return convert(value, aval.dtype, aval.weak_type)


def check_fit(name: str, argument: str | int, value: Any, aval: ShapedArray) -> None:
    """Raise `DtypeError` for a float beside an array of integers, or for a complex beside floats.

    Of a complex Python number it is the conversion that tells.
    """
    if isinstance(value, ArrayOperators):
        if _widens(value.aval.dtype, aval.dtype):
            return
        given = f"an array of type {value.aval}"
    elif isinstance(value, float) and not dtypes.is_inexact(aval.dtype):
        given = repr(value)
    else:
        return
    which = f"argument {argument}" if isinstance(argument, int) else argument
    raise DtypeError(
        f"{name}: {which} must fit the dtype of the array beside it, {aval.dtype.name}, got "
        f"{given}; convert one of them with .astype"
    )


def _widens(given: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    """Whether values of a dtype stay what they are in another, but for rounding and range."""
    rank = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}
    return rank[dtypes.kind(given)] <= rank[dtypes.kind(dtype)]


def bind_checked(primitive: Primitive, *xs: Any, **params: Any) -> Any:
    """Apply a primitive to parameters as a user wrote them.

    What is recorded is checked by the shape rule; NumPy, which computes eagerly, gives some
    parameters another meaning, and has other words for what is wrong with others.
    """
    if context.trace is eval_trace:
        primitive.output_avals([x.aval for x in xs], params)
    return primitive.bind(*xs, **params)
