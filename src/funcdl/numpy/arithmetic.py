"""Elementwise arithmetic: sums to powers, division, extremes, magnitude, rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.integers import integer
from funcdl.errors import ArgumentError
from funcdl.numpy.promotion import ArrayLike, array, convert
from funcdl.numpy.ufunc import Rule, binary, inexact, kinds, numeric, refuse, unary
from funcdl.ops import arithmetic as ops
from funcdl.ops import bits, comparison, rounding
from funcdl.ops.complex_parts import complex_, imag, real
from funcdl.ops.select import clamp, select_n
from funcdl.ops.shape import full_like

__all__ = [
    "abs",
    "absolute",
    "add",
    "around",
    "ceil",
    "clip",
    "divide",
    "divmod",
    "fabs",
    "float_power",
    "floor",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "maximum",
    "minimum",
    "mod",
    "multiply",
    "negative",
    "positive",
    "pow",
    "power",
    "reciprocal",
    "remainder",
    "rint",
    "round",
    "sign",
    "square",
    "subtract",
    "true_divide",
    "trunc",
]

add = binary(
    "add",
    {"b": bits.or_} | kinds("iufc", ops.add),
    "Sum of two arrays, element by element; of bools, their disjunction.",
)
subtract = binary("subtract", kinds("iufc", ops.sub), "Difference of two arrays.")
multiply = binary(
    "multiply",
    {"b": bits.and_} | kinds("iufc", ops.mul),
    "Product of two arrays, element by element; of bools, their conjunction.",
)
true_divide = binary(
    "divide",
    kinds("biu", inexact(ops.div)) | kinds("fc", ops.div),
    "Quotient of two arrays; of integers and bools, a float.",
    "float",
)
divide = true_divide

maximum = binary("maximum", kinds("biufc", ops.max_), "The larger element; NaN if one is NaN.")
minimum = binary("minimum", kinds("biufc", ops.min_), "The smaller element; NaN if one is NaN.")

negative = unary("negative", kinds("iufc", ops.neg), "Each element with its sign changed.")
positive = unary("positive", kinds("biufc", lambda x: x), "The array itself.")
sign = unary("sign", kinds("iufc", ops.sign), "-1, 0 or 1; of a complex number, ``x / |x|``.")
abs = unary(
    "abs",
    kinds("bu", lambda x: x) | kinds("ifc", ops.abs_),
    "Magnitude of each element; real for complex numbers.",
    "real",
)
absolute = abs
fabs = unary(
    "fabs",
    kinds("biu", inexact(ops.abs_)) | {"f": ops.abs_},
    "Magnitude of each element, as a float.",
    "float",
)
square = unary(
    "square",
    {"b": numeric(ops.square)} | kinds("iufc", ops.square),
    "Each element times itself.",
    "integer",
)


def _reciprocal(x: Any) -> Any:
    return ops.div(full_like(x, 1), x)


reciprocal = unary(
    "reciprocal",
    kinds("biu", inexact(_reciprocal)) | kinds("fc", _reciprocal),
    "One over each element.",
    "float",
    {"f": np.reciprocal},
)


def _signs_differ(x: Any, y: Any) -> Any:
    zero = full_like(x, 0)
    return comparison.ne(comparison.lt(x, zero), comparison.lt(y, zero))


def _needs_floor(rest: Any, y: Any) -> Any:
    """Where truncation towards zero has rounded up, given what `rem` left."""
    return bits.and_(comparison.ne(rest, full_like(rest, 0)), _signs_differ(rest, y))


def _floor_divide_signed(x: Any, y: Any) -> Any:
    quotient = ops.div(x, y)
    lower = ops.sub(quotient, full_like(quotient, 1))
    return select_n(_needs_floor(ops.rem(x, y), y), quotient, lower)


def _floor_divide_float(x: Any, y: Any) -> Any:
    # The exact quotient of x - rem(x, y) is a whole number, so rounding finds it, where the floor
    # of x / y could be one off.
    rest = ops.rem(x, y)
    quotient = rounding.round_(ops.div(ops.sub(x, rest), y), rounding_method=1)
    lower = ops.sub(quotient, full_like(quotient, 1))
    quotient = select_n(_needs_floor(rest, y), quotient, lower)
    return select_n(comparison.eq(y, full_like(y, 0)), quotient, ops.div(x, y))


def _remainder(x: Any, y: Any) -> Any:
    rest = ops.rem(x, y)
    return select_n(_needs_floor(rest, y), rest, ops.add(rest, y))


def _zero_for_zero(rule: Rule) -> Rule:
    """The rule for integers, with 0 as the remainder of a division by 0."""
    return lambda x, y: rule(x, ops.non_zero(y))


floor_divide = binary(
    "floor_divide",
    {
        "b": numeric(_floor_divide_signed),
        "i": _floor_divide_signed,
        "u": ops.div,
        "f": _floor_divide_float,
    },
    "Quotient rounded down, as Python's ``//``.",
    "integer",
)
_remainders: dict[str, Rule] = {
    "b": numeric(_zero_for_zero(_remainder)),
    "i": _zero_for_zero(_remainder),
    "u": _zero_for_zero(ops.rem),
    "f": _remainder,
}
remainder = binary(
    "remainder",
    _remainders,
    "What `floor_divide` leaves, as Python's ``%``: it has the sign of the divisor.",
    "integer",
)
mod = remainder
fmod = binary(
    "fmod",
    {"b": numeric(_zero_for_zero(ops.rem))}
    | kinds("iu", _zero_for_zero(ops.rem))
    | kinds("f", ops.rem),
    "What division truncated towards zero leaves: it has the sign of the dividend.",
    "integer",
)


def divmod(x: ArrayLike, y: ArrayLike, /) -> tuple[Any, Any]:
    """``(floor_divide(x, y), remainder(x, y))`` (see `jax.numpy.divmod`).

    Two arrays; shapes, dtypes and errors are those of `floor_divide`.
    """
    return floor_divide(x, y), remainder(x, y)


_power = binary(
    "power",
    {"b": numeric(ops.pow_)} | kinds("iufc", ops.pow_),
    "Elements of the first array to the powers in the second.",
    "integer",
)


def power(x: ArrayLike, y: ArrayLike, /) -> Any:
    """``x`` to the power ``y`` (see `jax.numpy.power`).

    A Python integer as exponent is part of the program: the power is computed by squaring, exactly
    for integers, and its derivative is exact at zero. Negative powers in an array of integers give
    what is left of the fraction: 0, or 1 and -1 for these bases.

    Raises:
      ArgumentError: an integer array to a negative Python integer.
    """
    if type(y) is int or isinstance(y, np.integer):
        x = array("power", x)
        if dtypes.is_bool(x.aval.dtype):
            x = convert(x, dtypes.default_dtype("i"))
        exponent = int(y)
        if exponent == 2:
            return ops.square(x)
        if exponent < 0 and dtypes.is_integer(x.aval.dtype):
            raise ArgumentError(
                f"power: integers cannot be raised to a negative power, got {x.aval} and "
                f"{exponent}; convert the base to float"
            )
        return ops.integer_pow(x, y=exponent)
    return _power(x, y)


pow = power
float_power = binary(
    "float_power",
    kinds("biu", inexact(ops.pow_)) | kinds("fc", ops.pow_),
    "As `power`, in floating point.",
    "float",
)


def _fmax(x: Any, y: Any) -> Any:
    larger = select_n(comparison.ne(x, x), ops.max_(x, y), y)
    return select_n(comparison.ne(y, y), larger, x)


def _fmin(x: Any, y: Any) -> Any:
    smaller = select_n(comparison.ne(x, x), ops.min_(x, y), y)
    return select_n(comparison.ne(y, y), smaller, x)


fmax = binary(
    "fmax",
    kinds("biu", ops.max_) | kinds("fc", _fmax),
    "The larger element; NaN only if both are NaN.",
)
fmin = binary(
    "fmin",
    kinds("biu", ops.min_) | kinds("fc", _fmin),
    "The smaller element; NaN only if both are NaN.",
)


def _keep(x: Any) -> Any:
    return x


def _truncate(x: Any) -> Any:
    negative_side = comparison.lt(x, full_like(x, 0))
    return select_n(negative_side, rounding.floor(x), rounding.ceil(x))


def _to_even(x: Any) -> Any:
    return rounding.round_(x, rounding_method=1)


def _to_even_complex(x: Any) -> Any:
    return complex_(_to_even(real(x)), _to_even(imag(x)))


floor = unary("floor", kinds("biu", _keep) | {"f": rounding.floor}, "Rounded down.")
ceil = unary("ceil", kinds("biu", _keep) | {"f": rounding.ceil}, "Rounded up.")
trunc = unary(
    "trunc",
    kinds("biu", _keep) | {"f": _truncate},
    "Rounded towards zero.",
    ufuncs={"f": np.trunc},
)
rint = unary(
    "rint",
    kinds("biu", lambda x: convert(x, dtypes.default_dtype("f")))
    | {"f": _to_even, "c": _to_even_complex},
    "Rounded to the nearest integer, halves to the even one; integers become floats.",
    "float",
    {"f": np.rint},
)


def round(a: ArrayLike, decimals: int = 0) -> Any:
    """Round to a number of decimals, halves to even (see `jax.numpy.round`).

    Raises:
      ArgumentError: `decimals` is negative and the array holds integers.
    """
    a, decimals = array("round", a), integer("round: decimals", decimals)
    if dtypes.is_integer(a.aval.dtype) or dtypes.is_bool(a.aval.dtype):
        if decimals < 0:
            raise ArgumentError(
                f"round: decimals must not be negative for {a.aval}, got {decimals}; convert it to "
                "float"
            )
        return a
    if decimals == 0:
        return rint(a)
    if not -400 <= decimals <= 400:  # more than any float has, and than Python's power takes
        return a if decimals > 0 else ops.mul(a, full_like(a, 0))
    factor = full_like(a, 10.0**decimals)
    return ops.div(rint(ops.mul(a, factor)), factor)


around = round


def clip(arr: ArrayLike, /, min: ArrayLike | None = None, max: ArrayLike | None = None) -> Any:
    """Elements moved into the interval from `min` to `max` (see `jax.numpy.clip`).

    Args:
      arr: the array.
      min, max: bounds that broadcast with it; None: no bound.

    Raises:
      DtypeError: an operand is complex.
    """
    out = array("clip", arr)
    if min is not None:
        out = maximum(min, out)
    if max is not None:
        out = minimum(max, out)
    if dtypes.is_complex(out.aval.dtype):
        refuse("clip", out.aval.dtype, kinds("biuf", clamp))
    return out
