"""Bring operands to one dtype and one shape: what primitives ask for and users do not write.

Dtypes are joined on JAX's promotion lattice, shapes by NumPy's broadcasting rule.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes, lattice
from funcdl.core.array import Array, ArrayOperators, as_array, shortened
from funcdl.core.avals import Shape
from funcdl.errors import ArgumentError, DtypeError, LeafTypeError, ShapeError
from funcdl.ops.convert import convert_element_type
from funcdl.ops.shape import broadcast_to, scalar_of

ArrayLike = Any
"""An array, a tracer, a NumPy array, or a scalar of Python or NumPy."""

_PYTHON_SCALARS = frozenset([bool, int, float, complex])


def refuse_out(name: str, out: Any) -> None:
    """Raise `ArgumentError` for an array to write to, which NumPy's functions take."""
    if out is not None:
        raise ArgumentError(f"{name}: out must be None, since arrays are immutable")


def operand(name: str, x: ArrayLike, position: int = 0) -> Any:
    """`x` as an array or tracer, or unchanged if it is a Python scalar.

    Python scalars stay as they are until the dtype of the whole operation is known, so that none
    is rounded or refused on the way.

    Raises:
      LeafTypeError: `x` is neither; sequences are not converted, as in `jax.numpy`.
    """
    if isinstance(x, ArrayOperators) or type(x) in _PYTHON_SCALARS:
        return x
    try:
        return as_array(x)
    except LeafTypeError:
        from funcdl.called import given_as

        given = f"{type(x).__name__}{given_as(x, sys._getframe(), name, position)}"
        fix = "; convert it with funcdl.numpy.array" if isinstance(x, list | tuple) else ""
        raise LeafTypeError(
            f"{name} requires arrays or scalars, got {given}: {shortened(x)}{fix}"
        ) from None


def operands(name: str, xs: Sequence[ArrayLike]) -> list[Any]:
    """`operand` for each of several."""
    return [operand(name, x, i) for i, x in enumerate(xs)]


def array(name: str, x: ArrayLike) -> Any:
    """`x` as an array or tracer; Python scalars become weakly typed.

    Raises:
      LeafTypeError: `x` is no array and no scalar.
    """
    return as_array(operand(name, x))


def convert(x: ArrayLike, dtype: np.dtype[Any], weak: bool = False) -> Any:
    """An array of this dtype from the result of `operand`; one that has it passes unchanged.

    Raises:
      IntegerRangeError: a Python int that does not fit.
    """
    if isinstance(x, ArrayOperators):
        if x.aval.dtype == dtype:
            return x
        return convert_element_type(x, new_dtype=dtype, weak_type=weak)
    if type(x) is int:
        dtypes.check_python_int(x, dtype)
    elif type(x) is complex and not dtypes.is_complex(dtype):
        raise DtypeError(f"{x!r} is complex, and cannot be converted to {dtype.name}")
    return Array(scalar_of(x, dtype), weak)


def strong(x: Any) -> Any:
    """The array without its weak-type flag."""
    if not x.aval.weak_type:
        return x
    return convert_element_type(x, new_dtype=x.aval.dtype, weak_type=False)


def promote_dtypes(name: str, *xs: ArrayLike) -> list[Any]:
    """The operands as arrays of one dtype, their join on the promotion lattice."""
    if _agree(xs):
        return list(xs)
    values = operands(name, xs)
    if _share_dtype(values):
        return values
    dtype, weak = lattice.lattice_join(*map(lattice.lattice_type, values))
    return [convert(x, dtype, weak) for x in values]


def _share_dtype(values: Sequence[Any]) -> bool:
    """Whether all are arrays of one dtype, which needs no look at the lattice."""
    first = values[0] if values else None
    if not isinstance(first, ArrayOperators):
        return False
    dtype = first.aval.dtype
    return all(isinstance(x, ArrayOperators) and x.aval.dtype == dtype for x in values)


def promote_inexact(name: str, *xs: ArrayLike) -> list[Any]:
    """As `promote_dtypes`; integers and bools go on to floats."""
    if _agree(xs) and dtypes.is_inexact(xs[0].aval.dtype):
        return list(xs)
    values = operands(name, xs)
    dtype, weak = lattice.lattice_join(*map(lattice.lattice_type, values))
    inexact = dtypes.to_inexact(dtype)
    # What was a strong integer makes a strong float; bool is never weak.
    return [convert(x, inexact, weak) for x in values]


def _agree(xs: Sequence[ArrayLike]) -> bool:
    """Whether these are arrays of one dtype, none of them weak: the usual case, found cheaply."""
    dtype = None
    for x in xs:
        if not isinstance(x, ArrayOperators):
            return False
        aval = x.aval
        if aval.weak_type or (dtype is not None and aval.dtype != dtype):
            return False
        dtype = aval.dtype
    return dtype is not None


def promote(name: str, *xs: ArrayLike) -> list[Any]:
    """The operands as arrays of one dtype and one shape.

    Raises:
      LeafTypeError: an operand is no array.
      ShapeError: the shapes do not broadcast.
    """
    return broadcast(name, *promote_dtypes(name, *xs))


def broadcast(name: str, *xs: Any) -> list[Any]:
    """Arrays broadcast to one shape.

    Raises:
      ShapeError: the shapes do not broadcast.
    """
    shapes = [x.aval.shape for x in xs]
    if all(shape == shapes[0] for shape in shapes):
        return list(xs)
    shape = broadcast_shapes(*shapes, name=name)
    return [broadcast_to(x, shape) for x in xs]


def broadcast_shapes(*shapes: Shape, name: str = "broadcast_shapes") -> Shape:
    """The shape that arrays of these shapes broadcast to (see `numpy.broadcast_shapes`).

    Raises:
      ShapeError: there is none.
    """
    first = shapes[0] if shapes else ()
    if all(shape == first for shape in shapes):
        return first
    ndim = max(map(len, shapes))
    result = []
    for d in range(-ndim, 0):
        sizes = {shape[d] for shape in shapes if len(shape) >= -d} - {1}
        if len(sizes) > 1:
            raise ShapeError(
                f"{name}: shapes {', '.join(map(str, shapes))} do not broadcast: dimension {d} "
                f"(from the end) has sizes {' and '.join(map(str, sorted(sizes)))}.\n"
                "Sizes must be equal or 1. Insert dimensions with x[:, None], or change the "
                "layout with reshape or transpose."
            )
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)
