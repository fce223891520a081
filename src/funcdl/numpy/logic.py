"""Comparisons, truth values and bits, element by element; and whole arrays compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.dispatch import Eager
from funcdl.core.options import flag
from funcdl.core.primitive import Primitive
from funcdl.errors import LeafTypeError, ShapeError
from funcdl.numpy.promotion import ArrayLike, array, broadcast, convert, operands, promote
from funcdl.numpy.ufunc import Binary, binary, kinds, numeric, publish, serve, unary
from funcdl.ops import bits, comparison
from funcdl.ops.arithmetic import abs_, add, mul, sub
from funcdl.ops.complex_parts import imag, real
from funcdl.ops.convert import bitcast_convert_type
from funcdl.ops.reduction import reduce_and
from funcdl.ops.rounding import is_finite
from funcdl.ops.select import select_n
from funcdl.ops.shape import full_like

__all__ = [
    "allclose",
    "array_equal",
    "array_equiv",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "equal",
    "greater",
    "greater_equal",
    "invert",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "left_shift",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "not_equal",
    "right_shift",
    "signbit",
]

_BOOL = np.dtype(bool)

equal = binary("equal", kinds("biufc", comparison.eq), "Whether elements are equal.", "bool")
not_equal = binary("not_equal", kinds("biufc", comparison.ne), "Whether elements differ.", "bool")


def _ordered(name: str, rule: Primitive, text: str) -> Binary:
    """A comparison; complex numbers are ordered by real parts, then by imaginary ones."""

    def by_parts(x: Any, y: Any) -> Any:
        tied = comparison.eq(real(x), real(y))
        return select_n(tied, rule(real(x), real(y)), rule(imag(x), imag(y)))

    return binary(name, {**kinds("biuf", rule), "c": by_parts}, text, "bool")


less = _ordered("less", comparison.lt, "Whether ``x < y``, element by element.")
less_equal = _ordered("less_equal", comparison.le, "Whether ``x <= y``.")
greater = _ordered("greater", comparison.gt, "Whether ``x > y``.")
greater_equal = _ordered("greater_equal", comparison.ge, "Whether ``x >= y``.")

bitwise_and = binary("bitwise_and", kinds("biu", bits.and_), "Bits that both operands have.")
bitwise_or = binary("bitwise_or", kinds("biu", bits.or_), "Bits that any operand has.")
bitwise_xor = binary("bitwise_xor", kinds("biu", bits.xor), "Bits that one operand alone has.")
invert = unary("invert", kinds("biu", bits.not_), "Every bit flipped; of bools, their negation.")
bitwise_not = bitwise_invert = invert
left_shift = binary(
    "left_shift",
    {"b": numeric(bits.shift_left)} | kinds("iu", bits.shift_left),
    "Bits moved up by `y` places.",
    "integer",
)
right_shift = binary(
    "right_shift",
    {
        "b": numeric(bits.shift_right_arithmetic),
        "i": bits.shift_right_arithmetic,
        "u": bits.shift_right_logical,
    },
    "Bits moved down by `y` places; signed integers keep their sign.",
    "integer",
)
bitwise_left_shift, bitwise_right_shift = left_shift, right_shift


def truth(name: str, x: ArrayLike) -> Any:
    """Whether each element differs from zero, as an array of bools."""
    return convert(array(name, x), _BOOL)


logical_not = unary(
    "logical_not",
    {"b": bits.not_} | kinds("iufc", lambda x: bits.not_(convert(x, _BOOL))),
    "Whether each element is zero.",
    "bool",
    dict.fromkeys("biufc", np.logical_not),
)


def _logical(name: str, rule: Primitive, ufunc: np.ufunc, text: str) -> Binary:
    """A function of truth values, whose operands need not have one dtype."""

    def compute(x: Any, y: Any, /) -> Any:
        x, y = (truth(name, operand) for operand in operands(name, (x, y)))
        return rule(*broadcast(name, x, y))

    function = serve(name, Eager(ufunc, "biufc", True), compute)
    facts = "A bool array of the shape to which both operands broadcast."
    return publish(function, name, text, facts, "\n  ShapeError: the shapes do not broadcast.")


logical_and = _logical(
    "logical_and", bits.and_, np.logical_and, "Whether both elements differ from zero."
)
logical_or = _logical(
    "logical_or", bits.or_, np.logical_or, "Whether any of two elements differs from zero."
)
logical_xor = _logical(
    "logical_xor", bits.xor, np.logical_xor, "Whether one of two elements alone differs from zero."
)


def _never(x: Any) -> Any:
    return full_like(convert(x, _BOOL), False)


def _always(x: Any) -> Any:
    return full_like(convert(x, _BOOL), True)


def _is_infinite(x: Any) -> Any:
    return comparison.eq(abs_(x), full_like(x, np.inf))


def _sign_bit(x: Any) -> Any:
    signed = np.dtype(f"int{8 * x.aval.dtype.itemsize}")
    return _below_zero(bitcast_convert_type(x, new_dtype=signed))


def _below_zero(x: Any) -> Any:
    return comparison.lt(x, full_like(x, 0))


isnan = unary(
    "isnan",
    kinds("biu", _never) | kinds("fc", lambda x: comparison.ne(x, x)),
    "Whether each element is NaN.",
    "bool",
    dict.fromkeys("fc", np.isnan),
)
isinf = unary(
    "isinf",
    kinds("biu", _never)
    | {
        "f": _is_infinite,
        "c": lambda x: bits.or_(_is_infinite(real(x)), _is_infinite(imag(x))),
    },
    "Whether each element is infinite.",
    "bool",
)
isfinite = unary(
    "isfinite",
    kinds("biu", _always)
    | {"f": is_finite, "c": lambda x: bits.and_(is_finite(real(x)), is_finite(imag(x)))},
    "Whether each element is neither infinite nor NaN.",
    "bool",
)
isposinf = unary(
    "isposinf",
    kinds("biu", _never) | {"f": lambda x: comparison.eq(x, full_like(x, np.inf))},
    "Whether each element is positive infinity.",
    "bool",
)
isneginf = unary(
    "isneginf",
    kinds("biu", _never) | {"f": lambda x: comparison.eq(x, full_like(x, -np.inf))},
    "Whether each element is negative infinity.",
    "bool",
)
signbit = unary(
    "signbit",
    {"b": _never, "u": _never, "i": _below_zero, "f": _sign_bit},
    "Whether the sign bit is set; it is for -0.0.",
    "bool",
)


def isclose(
    a: ArrayLike,
    b: ArrayLike,
    rtol: ArrayLike = 1e-5,
    atol: ArrayLike = 1e-8,
    equal_nan: bool = False,
) -> Any:
    """Whether ``|a - b| <= atol + rtol |b|``, element by element (see `numpy.isclose`).

    Infinities are close to themselves alone; NaN is close to NaN if `equal_nan`.

    A bool array of the shape to which all broadcast.

    Raises:
      LeafTypeError: an operand is no array or scalar.
      ShapeError: the shapes do not broadcast.
    """
    equal_nan = flag("isclose: equal_nan", equal_nan)
    a, b = promote("isclose", a, b)
    same = comparison.eq(a, b)
    dtype = a.aval.dtype
    if not dtypes.is_inexact(dtype):
        dtype = dtypes.to_inexact(dtype)
        a, b = convert(a, dtype), convert(b, dtype)
    distance, size = abs_(sub(a, b)), abs_(b)
    atol, rtol = (
        broadcast("isclose", convert(array("isclose", tol), size.aval.dtype), size)[0]
        for tol in (atol, rtol)
    )
    near = comparison.le(distance, add(atol, mul(rtol, size)))
    close = bits.or_(same, bits.and_(near, bits.and_(isfinite(a), isfinite(b))))
    if equal_nan:
        close = bits.or_(close, bits.and_(isnan(a), isnan(b)))
    return close


def _all(x: Any) -> Any:
    return reduce_and(x, axes=tuple(range(x.aval.ndim)))


def allclose(
    a: ArrayLike,
    b: ArrayLike,
    rtol: ArrayLike = 1e-5,
    atol: ArrayLike = 1e-8,
    equal_nan: bool = False,
) -> Any:
    """Whether all elements are close, as a bool array of shape () (see `isclose`)."""
    return _all(isclose(a, b, rtol, atol, equal_nan))


def array_equal(a1: ArrayLike, a2: ArrayLike, equal_nan: bool = False) -> Any:
    """Whether two arrays have one shape and equal elements, as a bool array of shape ().

    False if `a1` or `a2` is no array or scalar. With `equal_nan`, NaN equals NaN. See
    `numpy.array_equal`.
    """
    equal_nan = flag("array_equal: equal_nan", equal_nan)
    try:
        a1, a2 = array("array_equal", a1), array("array_equal", a2)
    except LeafTypeError:
        return Array(np.array(False))
    if a1.aval.shape != a2.aval.shape:
        return Array(np.array(False))
    same = equal(a1, a2)
    if equal_nan:
        same = bits.or_(same, bits.and_(isnan(a1), isnan(a2)))
    return _all(same)


def array_equiv(a1: ArrayLike, a2: ArrayLike) -> Any:
    """Whether two arrays broadcast to one shape and have equal elements (see `numpy.array_equiv`).

    A bool array of shape (); false as well where `a1` and `a2` do not broadcast.
    """
    try:
        return _all(equal(a1, a2))
    except ShapeError:
        return Array(np.array(False))
