"""Operands of `funcdl.lax` functions: arrays as they are, Python scalars to fit them.

Nothing else is promoted or broadcast; `funcdl.numpy` is for that.
"""

from __future__ import annotations

from typing import Any

from funcdl.core.array import ArrayOperators
from funcdl.core.primitive import Primitive
from funcdl.core.trace import context, eval_trace
from funcdl.numpy.promotion import convert, operands, promote_dtypes
from funcdl.ops.shape import broadcast_to

ArrayLike = Any


def fit(name: str, *xs: ArrayLike) -> list[Any]:
    """Operands as arrays; Python scalars take dtype and shape of the first array among them.

    Raises:
      LeafTypeError: an operand is no array and no scalar.
      IntegerRangeError: a Python int does not fit the dtype.
    """
    values = operands(name, xs)
    model = next((x for x in values if isinstance(x, ArrayOperators)), None)
    if model is None:
        return promote_dtypes(name, *values)
    aval = model.aval
    return [
        x
        if isinstance(x, ArrayOperators)
        else broadcast_to(convert(x, aval.dtype, aval.weak_type), aval.shape)
        for x in values
    ]


def bind_checked(primitive: Primitive, *xs: Any, **params: Any) -> Any:
    """Apply a primitive to parameters as a user wrote them.

    What is recorded is checked by the shape rule; NumPy, which computes eagerly, gives some
    parameters another meaning, and has other words for what is wrong with others.
    """
    if context.trace is eval_trace:
        primitive.output_avals([x.aval for x in xs], params)
    return primitive.bind(*xs, **params)
