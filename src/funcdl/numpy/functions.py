"""Elementwise functions of numbers: exponentials, logarithms, trigonometry, complex parts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.options import flag
from funcdl.core.primitive import Primitive
from funcdl.numpy.logic import signbit
from funcdl.numpy.promotion import ArrayLike, array, convert, promote_inexact
from funcdl.numpy.ufunc import Rule, Unary, binary, inexact, kinds, unary
from funcdl.ops import arithmetic as ops
from funcdl.ops import comparison, complex_parts, exponential, rounding, trigonometric
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_to, full_like
from funcdl.ops.special.bessel import bessel_i0e

__all__ = [
    "acos",
    "acosh",
    "angle",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "conj",
    "conjugate",
    "copysign",
    "cos",
    "cosh",
    "deg2rad",
    "degrees",
    "exp",
    "exp2",
    "expm1",
    "heaviside",
    "hypot",
    "i0",
    "imag",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logaddexp2",
    "nan_to_num",
    "nextafter",
    "rad2deg",
    "radians",
    "real",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
]


def _real_rules(rule: Rule) -> dict[str, Rule]:
    return kinds("biu", inexact(rule)) | {"f": rule}


def _function(name: str, rule: Rule, text: str) -> Unary:
    return unary(name, {**_real_rules(rule), "c": rule}, text, "float")


exp = _function("exp", exponential.exp, "e to the power of each element.")
exp2 = _function("exp2", exponential.exp2, "2 to the power of each element.")
expm1 = _function("expm1", exponential.expm1, "``exp(x) - 1``, exact near zero.")
log = _function("log", exponential.log, "Natural logarithm; NaN for negative numbers.")
log1p = _function("log1p", exponential.log1p, "``log(1 + x)``, exact near zero.")
sqrt = _function("sqrt", exponential.sqrt, "Square root; NaN for negative numbers.")
cbrt = unary("cbrt", _real_rules(exponential.cbrt), "Cube root.", "float")

sin = _function("sin", trigonometric.sin, "Sine.")
cos = _function("cos", trigonometric.cos, "Cosine.")
tan = _function("tan", trigonometric.tan, "Tangent.")
arcsin = _function("arcsin", trigonometric.asin, "Inverse sine, in [-pi/2, pi/2].")
arccos = _function("arccos", trigonometric.acos, "Inverse cosine, in [0, pi].")
arctan = _function("arctan", trigonometric.atan, "Inverse tangent, in [-pi/2, pi/2].")
sinh = _function("sinh", trigonometric.sinh, "Hyperbolic sine.")
cosh = _function("cosh", trigonometric.cosh, "Hyperbolic cosine.")
tanh = _function("tanh", exponential.tanh, "Hyperbolic tangent.")
arcsinh = _function("arcsinh", trigonometric.asinh, "Inverse hyperbolic sine.")
arccosh = _function("arccosh", trigonometric.acosh, "Inverse hyperbolic cosine.")
arctanh = _function("arctanh", trigonometric.atanh, "Inverse hyperbolic tangent.")
asin, acos, atan = arcsin, arccos, arctan
asinh, acosh, atanh = arcsinh, arccosh, arctanh
arctan2 = binary(
    "arctan2",
    _real_rules(trigonometric.atan2),
    "Angle of the point ``(y, x)`` about the origin, in (-pi, pi]; `y` comes first.",
    "float",
)
atan2 = arctan2
nextafter = binary(
    "nextafter", _real_rules(rounding.nextafter), "The next number after `x` towards `y`.", "float"
)


# 1 / log(10) rounded down to float64, and what is left.
_PER_TEN, _PER_TEN_REST = 0.4342944819032518, 1.098319650216765e-17


def _scaled(factor: float) -> Any:
    return lambda x: ops.mul(x, full_like(x, factor))


log2 = _function(
    "log2", lambda x: ops.div(exponential.log(x), full_like(x, math.log(2))), "Logarithm to base 2."
)


def _log10(x: Any) -> Any:
    logarithm = exponential.log(x)
    out = _scaled(_PER_TEN)(logarithm)
    # In float64 the rounding of the factor would cost a unit of the last digit. The rest is not
    # negative, so that infinity stays what it is.
    return ops.add(out, _scaled(_PER_TEN_REST)(logarithm)) if x.aval.dtype == np.float64 else out


log10 = _function("log10", _log10, "Logarithm to base 10.")
deg2rad = _function("deg2rad", _scaled(math.pi / 180), "Degrees to radians.")
rad2deg = _function("rad2deg", _scaled(180 / math.pi), "Radians to degrees.")
radians, degrees = deg2rad, rad2deg


def _log_add(x: Any, y: Any, exp: Primitive, log1p: Any) -> Any:
    distance = ops.sub(x, y)
    first = comparison.gt(x, y)
    # By choices: either branch has every derivative, also where x is y; max and abs have not.
    below = select_n(first, distance, ops.neg(distance))
    out = ops.add(select_n(first, y, x), log1p(exp(below)))
    # inf - inf is NaN: there the sum is the result, infinite or NaN as it should be.
    return select_n(comparison.ne(distance, distance), out, ops.add(x, y))


def _log_add_2(x: Any, y: Any) -> Any:
    return _log_add(
        x, y, exponential.exp2, lambda t: _scaled(1 / math.log(2))(exponential.log1p(t))
    )


def _log_add_complex(x: Any, y: Any, base: float) -> Any:
    """The branch of the logarithm whose imaginary part is between -pi and pi over ``log(base)``."""
    scale, turn = math.log(base), 2 * math.pi / math.log(base)
    larger, smaller = ops.max_(x, y), ops.min_(x, y)
    ratio = exponential.exp(_scaled(scale)(ops.sub(smaller, larger)))
    out = ops.add(larger, _scaled(1 / scale)(exponential.log1p(ratio)))
    turns = rounding.round_(_scaled(1 / turn)(complex_parts.imag(out)), rounding_method=1)
    imaginary = ops.sub(complex_parts.imag(out), _scaled(turn)(turns))
    return complex_parts.complex_(complex_parts.real(out), imaginary)


logaddexp = binary(
    "logaddexp",
    _real_rules(lambda x, y: _log_add(x, y, exponential.exp, exponential.log1p))
    | {"c": lambda x, y: _log_add_complex(x, y, math.e)},
    "``log(exp(x) + exp(y))`` without overflow.",
    "float",
)
logaddexp2 = binary(
    "logaddexp2",
    _real_rules(_log_add_2) | {"c": lambda x, y: _log_add_complex(x, y, 2.0)},
    "``log2(2**x + 2**y)`` without overflow.",
    "float",
)


def _bessel_i0(x: Any) -> Any:
    # Not abs, whose derivative at 0 is 1: that of the product would be 1 there, too, in place of 0.
    size = ops.mul(x, ops.sign(x))
    return ops.mul(bessel_i0e(x), exponential.exp(size))


i0 = unary(
    "i0",
    _real_rules(_bessel_i0),
    "The modified Bessel function of the first kind, of order 0.",
    "float",
)


def hypot(x: ArrayLike, y: ArrayLike, /) -> Any:
    """Length of the hypotenuse, ``sqrt(x**2 + y**2)``, without overflow (see `jax.numpy.hypot`).

    Operands are broadcast and promoted; integers and bools become floats.

    Raises:
      ShapeError: the shapes do not broadcast.
      DtypeError: an operand is complex.
    """
    return _hypot(*promote_inexact("hypot", x, y))


def _length(x: Any, y: Any) -> Any:
    x, y = ops.abs_(x), ops.abs_(y)
    # Choices, since extremes have half of each derivative where both are the same.
    first = comparison.gt(x, y)
    larger, smaller = select_n(first, y, x), select_n(first, x, y)
    zero, one = full_like(larger, 0), full_like(larger, 1)
    usable = comparison.gt(larger, zero)
    ratio = ops.div(smaller, select_n(usable, one, larger))
    length = ops.mul(larger, exponential.sqrt(ops.add(one, ops.square(ratio))))
    infinite = full_like(larger, np.inf)
    # inf / inf is NaN; the hypotenuse is infinite even if the other side is NaN.
    either = comparison.eq(ops.max_(_no_nan(x), _no_nan(y)), infinite)
    return select_n(either, select_n(usable, ops.max_(x, y), length), infinite)


_hypot = binary("hypot", _real_rules(_length), "The length of the hypotenuse.", "float")


def _no_nan(x: Any) -> Any:
    return select_n(comparison.ne(x, x), x, full_like(x, 0))


def heaviside(x1: ArrayLike, x2: ArrayLike, /) -> Any:
    """0 where ``x1`` is negative, 1 where it is positive, ``x2`` where it is zero.

    Operands are broadcast and promoted; integers and bools become floats. See `numpy.heaviside`.

    Raises:
      ShapeError: the shapes do not broadcast.
      DtypeError: an operand is complex.
    """
    x, at_zero = promote_inexact("heaviside", x1, x2)
    return _heaviside(x, at_zero)


def _step(x: Any, at_zero: Any) -> Any:
    zero = full_like(x, 0)
    step = select_n(comparison.lt(x, zero), full_like(x, 1), zero)
    step = select_n(comparison.eq(x, zero), step, at_zero)
    return select_n(comparison.ne(x, x), step, x)


_heaviside = binary("heaviside", {"f": _step}, "The unit step.")


def copysign(x1: ArrayLike, x2: ArrayLike, /) -> Any:
    """The magnitude of ``x1`` with the sign of ``x2``, as a float (see `numpy.copysign`).

    Operands are broadcast and promoted; integers and bools become floats.

    Raises:
      ShapeError: the shapes do not broadcast.
      DtypeError: an operand is complex.
    """
    return _copysign(*promote_inexact("copysign", x1, x2))


def _with_sign(x: Any, y: Any) -> Any:
    magnitude = ops.abs_(x)
    return select_n(signbit(y), magnitude, ops.neg(magnitude))


_copysign = binary("copysign", {"f": _with_sign}, "Magnitude and sign.")

real = unary(
    "real",
    kinds("biuf", lambda x: x) | {"c": complex_parts.real},
    "Real part of each element.",
    "real",
)
imag = unary(
    "imag",
    kinds("biuf", lambda x: full_like(x, 0)) | {"c": complex_parts.imag},
    "Imaginary part of each element; zero for real numbers.",
    "real",
)
conjugate = unary(
    "conjugate", kinds("biuf", lambda x: x) | {"c": complex_parts.conj}, "Complex conjugate."
)
conj = conjugate


def _real_angle(x: Any) -> Any:
    return trigonometric.atan2(full_like(x, 0), x)


def _complex_angle(x: Any) -> Any:
    return trigonometric.atan2(complex_parts.imag(x), complex_parts.real(x))


_angle = unary(
    "angle",
    {**_real_rules(_real_angle), "c": _complex_angle},
    "Angle of a complex number, in (-pi, pi].",
)


def angle(z: ArrayLike, deg: bool = False) -> Any:
    """Angle of each complex number, in radians, or in degrees if `deg` (see `numpy.angle`).

    A float array of the shape of `z`.

    Raises:
      LeafTypeError: `z` is no array or scalar.
    """
    deg = flag("angle: deg", deg)
    return rad2deg(_angle(z)) if deg else _angle(z)


def nan_to_num(
    x: ArrayLike,
    copy: bool = True,
    nan: ArrayLike = 0.0,
    posinf: ArrayLike | None = None,
    neginf: ArrayLike | None = None,
) -> Any:
    """Replace NaN and infinities (see `numpy.nan_to_num`).

    Args:
      x: the array; integers pass unchanged.
      copy: has no effect, since arrays are immutable.
      nan, posinf, neginf: what takes their place; None: the largest, or least, finite number.
    """
    x = array("nan_to_num", x)
    dtype = x.aval.dtype
    if not dtypes.is_inexact(dtype):
        return x
    if dtypes.is_complex(dtype):
        parts = (
            nan_to_num(part(x), copy, nan, posinf, neginf)
            for part in (complex_parts.real, complex_parts.imag)
        )
        return complex_parts.complex_(*parts)
    limits = dtypes.finfo(dtype)
    high = limits.max if posinf is None else posinf
    low = limits.min if neginf is None else neginf
    out = x
    for wrong, value in (
        (comparison.ne(x, x), nan),
        (comparison.eq(x, full_like(x, np.inf)), high),
        (comparison.eq(x, full_like(x, -np.inf)), low),
    ):
        out = select_n(wrong, out, _spread(value, x))
    return out


def _spread(value: ArrayLike, x: Any) -> Any:
    return broadcast_to(convert(array("nan_to_num", value), x.aval.dtype), x.aval.shape)
