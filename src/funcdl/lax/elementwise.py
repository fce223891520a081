"""Elementwise functions: the primitives, which take arrays of one shape and dtype."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from funcdl.core import dtypes, tree
from funcdl.core.array import as_array
from funcdl.core.dtypes import is_inexact, is_integer
from funcdl.core.integers import integer
from funcdl.core.primitive import Primitive
from funcdl.errors import DtypeError, ShapeError
from funcdl.lax.naming import elementwise_facts, publish
from funcdl.lax.operands import ArrayLike, fit
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.promotion import array
from funcdl.ops import (
    arithmetic,
    bits,
    comparison,
    complex_parts,
    convert,
    exponential,
    precision,
    rounding,
    trigonometric,
)
from funcdl.ops import select as selection
from funcdl.ops.shape import full_like
from funcdl.ops.special import error_functions as special
from funcdl.ops.stop_gradient import stop_gradient as _stop_gradient


def _unary(name: str, primitive: Primitive, text: str) -> Callable[[ArrayLike], Any]:
    def function(x: ArrayLike) -> Any:
        return primitive.bind(array(name, x))

    return publish(function, name, f"{text}\n\n{elementwise_facts(name, primitive)}")


def _tunable(name: str, primitive: Primitive, text: str) -> Callable[..., Any]:
    def function(x: ArrayLike, *, accuracy: Any = None) -> Any:
        return primitive.bind(array(name, x))

    facts = elementwise_facts(name, primitive)
    return publish(function, name, f"{text}\n\n`accuracy` has no effect. {facts}")


def _binary(name: str, primitive: Primitive, text: str) -> Callable[[ArrayLike, ArrayLike], Any]:
    def function(x: ArrayLike, y: ArrayLike) -> Any:
        return primitive.bind(*fit(name, x, y))

    facts = elementwise_facts(name, primitive, several=True)
    return publish(function, name, f"{text}\n\n{facts}")


add = _binary("add", arithmetic.add, "Sum.")
sub = _binary("sub", arithmetic.sub, "Difference.")
div = _binary("div", arithmetic.div, "Quotient; of integers, truncated towards zero.")
rem = _binary("rem", arithmetic.rem, "Remainder, with the sign of the dividend.")
pow = _binary("pow", arithmetic.pow_, "Power.")
max = _binary("max", arithmetic.max_, "The larger; NaN if one is NaN.")
min = _binary("min", arithmetic.min_, "The smaller; NaN if one is NaN.")
atan2 = _binary("atan2", trigonometric.atan2, "Angle of the point ``(y, x)``; `y` comes first.")
nextafter = _binary("nextafter", rounding.nextafter, "The next number after `x` towards `y`.")
complex = _binary("complex", complex_parts.complex_, "Complex number of its parts.")

eq = _binary("eq", comparison.eq, "Whether equal.")
ne = _binary("ne", comparison.ne, "Whether not equal.")
lt = _binary("lt", comparison.lt, "Whether ``x < y``.")
le = _binary("le", comparison.le, "Whether ``x <= y``.")
gt = _binary("gt", comparison.gt, "Whether ``x > y``.")
ge = _binary("ge", comparison.ge, "Whether ``x >= y``.")

bitwise_and = _binary("bitwise_and", bits.and_, "Bits that both have.")
bitwise_or = _binary("bitwise_or", bits.or_, "Bits that any has.")
bitwise_xor = _binary("bitwise_xor", bits.xor, "Bits that one alone has.")
bitwise_not = _unary("bitwise_not", bits.not_, "Every bit flipped.")
shift_left = _binary("shift_left", bits.shift_left, "Bits moved up by `y` places.")
shift_right_arithmetic = _binary(
    "shift_right_arithmetic", bits.shift_right_arithmetic, "Bits moved down, the sign kept."
)
shift_right_logical = _binary(
    "shift_right_logical", bits.shift_right_logical, "Bits moved down, zeros moved in."
)
population_count = _unary("population_count", bits.population_count, "How many bits are set.")
clz = _unary("clz", bits.clz, "How many leading bits are not set.")

neg = _unary("neg", arithmetic.neg, "The sign changed.")
abs = _unary("abs", arithmetic.abs_, "Magnitude.")
sign = _unary("sign", arithmetic.sign, "-1, 0 or 1; of a complex number, ``x / |x|``.")
square = _unary("square", arithmetic.square, "``x * x``.")
sqrt = _tunable("sqrt", exponential.sqrt, "Square root.")
rsqrt = _tunable("rsqrt", exponential.rsqrt, "One over the square root.")
cbrt = _tunable("cbrt", exponential.cbrt, "Cube root.")
exp = _tunable("exp", exponential.exp, "e to the power `x`.")
exp2 = _tunable("exp2", exponential.exp2, "2 to the power `x`.")
expm1 = _tunable("expm1", exponential.expm1, "``exp(x) - 1``, exact near zero.")
log = _tunable("log", exponential.log, "Natural logarithm.")
log1p = _tunable("log1p", exponential.log1p, "``log(1 + x)``, exact near zero.")
logistic = _tunable("logistic", exponential.logistic, "``1 / (1 + exp(-x))``.")
sin = _tunable("sin", trigonometric.sin, "Sine.")
cos = _tunable("cos", trigonometric.cos, "Cosine.")
tan = _tunable("tan", trigonometric.tan, "Tangent.")
asin = _unary("asin", trigonometric.asin, "Inverse sine.")
acos = _unary("acos", trigonometric.acos, "Inverse cosine.")
atan = _unary("atan", trigonometric.atan, "Inverse tangent.")
sinh = _unary("sinh", trigonometric.sinh, "Hyperbolic sine.")
cosh = _unary("cosh", trigonometric.cosh, "Hyperbolic cosine.")
tanh = _tunable("tanh", exponential.tanh, "Hyperbolic tangent.")
asinh = _unary("asinh", trigonometric.asinh, "Inverse hyperbolic sine.")
acosh = _unary("acosh", trigonometric.acosh, "Inverse hyperbolic cosine.")
atanh = _unary("atanh", trigonometric.atanh, "Inverse hyperbolic tangent.")
erf = _unary("erf", special.erf, "Error function.")
erfc = _unary("erfc", special.erfc, "``1 - erf(x)``, exact for large `x`.")
erf_inv = _unary("erf_inv", special.erf_inv, "Inverse of the error function.")
lgamma = _unary("lgamma", special.lgamma, "Logarithm of the gamma function's magnitude.")
digamma = _unary("digamma", special.digamma, "Derivative of `lgamma`.")
floor = _unary("floor", rounding.floor, "Rounded down.")
ceil = _unary("ceil", rounding.ceil, "Rounded up.")
is_finite = _unary("is_finite", rounding.is_finite, "Whether neither infinite nor NaN.")
real = _unary("real", complex_parts.real, "Real part of a complex number.")
imag = _unary("imag", complex_parts.imag, "Imaginary part of a complex number.")


def mul(x: ArrayLike, y: ArrayLike, *, out_dtype: DTypeLike = None) -> Any:
    """Product (see `jax.lax.mul`).

    `x` and `y` have one shape and dtype; a Python scalar takes those of the other. With `out_dtype`
    both are converted first, and that is the dtype of the result.

    Raises:
      ShapeError, DtypeError: shapes or dtypes differ.
    """
    operands = fit("mul", x, y)
    if out_dtype is not None:
        operands = [convert_element_type(operand, out_dtype) for operand in operands]
    return arithmetic.mul.bind(*operands)


def mulhi(x: ArrayLike, y: ArrayLike, /) -> Any:
    """The upper half of the product of integers, which has twice their width (see `jax.lax.mulhi`).

    Shape and dtype stay.

    Raises:
      DtypeError: the operands are no integers.
      ShapeError: the shapes differ.
    """
    x, y = fit("mulhi", x, y)
    dtype = x.dtype
    if not is_integer(dtype) or y.dtype != dtype:
        raise DtypeError(f"mulhi requires integers of one dtype, got {x.aval} and {y.aval}")
    half_width = 4 * dtype.itemsize
    mask, half = dtype.type(2**half_width - 1), dtype.type(half_width)
    # Four products of halves; the signed upper halves carry the sign.
    (x_low, x_high), (y_low, y_high) = (x & mask, x >> half), (y & mask, y >> half)
    # The product of the lower halves is one of unsigned numbers.
    low = shift_right_logical(x_low * y_low, full_like(x, half_width))
    cross = x_high * y_low + low
    other = x_low * y_high + (cross & mask)
    return x_high * y_high + (cross >> half) + (other >> half)


def reduce_precision(operand: ArrayLike, exponent_bits: int, mantissa_bits: int) -> Any:
    """Values rounded as if stored in fewer bits; the dtype stays (see `jax.lax.reduce_precision`).

    Args:
      operand: floats.
      exponent_bits: at least 1; what this many cannot hold becomes infinite or 0.
      mantissa_bits: at least 0; ties go to even.

    Raises:
      ArgumentError: too few bits.
      DtypeError: the operand holds no floats.
    """
    return precision.reduce_precision(
        array("reduce_precision", operand),
        exponent_bits=integer("exponent_bits", exponent_bits),
        mantissa_bits=integer("mantissa_bits", mantissa_bits),
    )


def conj(x: ArrayLike) -> Any:
    """Complex conjugate (see `jax.lax.conj`).

    The shape stays; the dtype must be complex.

    Raises:
      DtypeError: it is not.
    """
    return complex_parts.conj.bind(array("conj", x))


def reciprocal(x: ArrayLike) -> Any:
    """``1 / x``, of the same shape and dtype (see `jax.lax.reciprocal`).

    Raises:
      DtypeError: `x` holds integers or bools, whose reciprocals are none.
    """
    x = array("reciprocal", x)
    if not dtypes.is_inexact(x.aval.dtype):
        raise DtypeError(
            f"reciprocal requires floats or complex numbers, got {x.aval}; convert it with .astype"
        )
    return arithmetic.div(full_like(x, 1), x)


def integer_pow(x: ArrayLike, y: int) -> Any:
    """`x` to the power of a Python integer (see `jax.lax.integer_pow`).

    Shape and dtype stay; 0 to the power 0 is 1.

    Raises:
      ArgumentError: `y` is no integer, or negative while `x` holds integers.
      DtypeError: `x` holds bools.
    """
    return arithmetic.integer_pow(array("integer_pow", x), y=y)


class RoundingMethod(enum.IntEnum):
    """Where halves are rounded to (see `jax.lax.RoundingMethod`)."""

    AWAY_FROM_ZERO = 0
    TO_NEAREST_EVEN = 1


def round(x: ArrayLike, rounding_method: int = RoundingMethod.AWAY_FROM_ZERO) -> Any:
    """Rounded to the nearest integer, of the same floating dtype (see `jax.lax.round`).

    Shape and dtype stay.

    Args:
      x: floats.
      rounding_method: a `RoundingMethod`.

    Raises:
      ArgumentError: `rounding_method` is another number.
      DtypeError: `x` holds no floats.
    """
    method = integer("round: rounding_method", rounding_method)
    return rounding.round_(array("round", x), rounding_method=method)


def clamp(min: ArrayLike, x: ArrayLike, max: ArrayLike) -> Any:
    """`x` moved into the interval from `min` to `max`, which are scalars or of its shape.

    The dtype is that of `x`; Python scalars take it. See `jax.lax.clamp`.

    Raises:
      DtypeError: `x` holds neither integers nor floats.
      ShapeError: a bound has another shape.
    """
    values = fit("clamp", x, min, max)
    return selection.clamp(values[1], values[0], values[2])


def select(pred: ArrayLike, on_true: ArrayLike, on_false: ArrayLike) -> Any:
    """`on_true` where `pred` is true, else `on_false` (see `jax.lax.select`).

    Args:
      pred: bools, of the others' shape or a scalar.
      on_true, on_false: arrays of one shape and dtype.

    Raises:
      DtypeError: `pred` holds neither bools nor int32 numbers.
      ShapeError: shapes differ, or the cases' dtypes.
    """
    on_true, on_false = fit("select", on_true, on_false)
    return selection.select_n(array("select", pred), on_false, on_true)


def select_n(which: ArrayLike, *cases: ArrayLike) -> Any:
    """For each element, that of the case whose number `which` holds (see `jax.lax.select_n`).

    Args:
      which: int32 numbers from 0, or bools for two cases; of the cases' shape or a scalar.
      cases: arrays of one shape and dtype.

    Raises:
      ShapeError: there are no cases, or they differ in shape or dtype.
      DtypeError: `which` is of another type.
    """
    if not cases:
        raise ShapeError("select_n: at least one case is needed")
    return selection.select_n(array("select_n", which), *fit("select_n", *cases))


def convert_element_type(operand: ArrayLike, new_dtype: DTypeLike) -> Any:
    """The array in another dtype, as C converts; never weakly typed.

    The shape stays. Floats are truncated towards zero; complex numbers lose their imaginary part.
    See `jax.lax.convert_element_type`.

    Args:
      operand: the array.
      new_dtype: the dtype; 64 bits become 32 as ``config.x64`` says.

    Raises:
      TypeError: there is no such dtype.
    """
    x = array("convert_element_type", operand)
    return convert.convert_element_type(x, new_dtype=canonical(new_dtype), weak_type=False)


def bitcast_convert_type(operand: ArrayLike, new_dtype: DTypeLike) -> Any:
    """The same bits read as another dtype of the same width (see `jax.lax.bitcast_convert_type`).

    Args:
      operand: integers or floats, whose shape stays.
      new_dtype: another such dtype.

    Raises:
      DtypeError: the widths differ, or a dtype is bool or complex.
    """
    x = array("bitcast_convert_type", operand)
    return convert.bitcast_convert_type(x, new_dtype=canonical(new_dtype))


def stop_gradient(x: Any) -> Any:
    """The same values, which derivatives take for constants; of a pytree, every leaf.

    Shapes and dtypes stay. Integers and bools pass: they have no derivative. See
    `jax.lax.stop_gradient`.

    Raises:
      LeafTypeError: a leaf is no array or scalar.
    """

    def stop(leaf: Any) -> Any:
        value = as_array(leaf)
        return _stop_gradient(value) if is_inexact(value.aval.dtype) else value

    return tree.map(stop, x)
