"""The parts of numbers: divisors of integers, bits, exponents, fractions, spacing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcdl.control import while_loop
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.options import is_option
from funcdl.errors import ArgumentError, DtypeError
from funcdl.numpy.arithmetic import abs, clip, trunc
from funcdl.numpy.functions import copysign, imag, nextafter, sin
from funcdl.numpy.indexing import where
from funcdl.numpy.logic import isfinite, isinf, truth
from funcdl.numpy.padding import pad
from funcdl.numpy.promotion import (
    ArrayLike,
    array,
    broadcast,
    convert,
    promote,
    promote_inexact,
    refuse_out,
)
from funcdl.numpy.ranges import arange
from funcdl.numpy.reductions import any, normalize_axis, sum
from funcdl.numpy.shaping import moveaxis, ravel, reshape
from funcdl.ops.bits import population_count
from funcdl.ops.convert import bitcast_convert_type
from funcdl.ops.shape import full, full_like

__all__ = [
    "bitwise_count",
    "frexp",
    "gcd",
    "iscomplex",
    "isreal",
    "lcm",
    "ldexp",
    "modf",
    "packbits",
    "sinc",
    "spacing",
    "unpackbits",
]


def _integers(name: str, *xs: ArrayLike) -> list[Any]:
    values = promote(name, *xs)
    if not dtypes.is_integer(values[0].aval.dtype):
        found = ", ".join(str(x.aval) for x in values)
        raise DtypeError(f"{name}: integers are needed, got {found}")
    return values


def gcd(x1: ArrayLike, x2: ArrayLike) -> Any:
    """Greatest common divisors of integers, never negative; of 0 and 0 it is 0 (see `numpy.gcd`).

    `x1` and `x2` are broadcast and promoted to one integer dtype, which the result has.

    Raises:
      DtypeError: the operands are no integers.
      ShapeError: the shapes do not broadcast.
    """
    x, y = (abs(z) for z in _integers("gcd", x1, x2))

    def step(pair: tuple[Any, Any]) -> tuple[Any, Any]:
        larger, smaller = pair
        left = smaller != 0
        return where(left, smaller, larger), where(left, larger % where(left, smaller, 1), 0)

    return while_loop(lambda pair: any(pair[1] != 0), step, (x, y))[0]


def lcm(x1: ArrayLike, x2: ArrayLike) -> Any:
    """Least common multiples of integers, never negative; with 0 it is 0 (see `numpy.lcm`).

    `x1` and `x2` are broadcast and promoted to one integer dtype, which the result has.

    Raises:
      DtypeError: the operands are no integers.
      ShapeError: the shapes do not broadcast.
    """
    x, y = (abs(z) for z in _integers("lcm", x1, x2))
    divisor = gcd(x, y)
    return where(divisor == 0, 0, x * (y // where(divisor == 0, 1, divisor)))


def bitwise_count(x: ArrayLike, /) -> Any:
    """How many bits are set in each integer's magnitude, as uint8 (see `numpy.bitwise_count`).

    The shape stays.

    Raises:
      DtypeError: the array holds no integers or bools.
    """
    x = array("bitwise_count", x)
    if dtypes.is_bool(x.aval.dtype):
        return x.astype("uint8")
    (x,) = _integers("bitwise_count", x)
    if dtypes.is_signed(x.aval.dtype):
        x = bitcast_convert_type(abs(x), new_dtype=np.dtype(f"uint{8 * x.aval.dtype.itemsize}"))
    return population_count(x).astype("uint8")


def packbits(a: ArrayLike, axis: int | None = None, bitorder: str = "big") -> Any:
    """Eight elements along an axis as the bits of one uint8, missing ones being 0.

    See `numpy.packbits`.

    Args:
      a: integers or bools; whether they differ from zero.
      axis: the axis; None: all elements in row-major order.
      bitorder: "big": the first is the highest bit; "little": the lowest.

    Returns:
      A uint8 array with an eighth of the axis's size, rounded up.

    Raises:
      DtypeError: the array holds other numbers.
      ArgumentError: an unknown bit order.
      ArgumentError: there is no such axis.
    """
    x = _bits_operand("packbits", a, bitorder, "biu")
    if axis is None:
        x, axis = ravel(x), 0
    axis = normalize_axis("packbits", axis, x.aval.ndim)
    bits = moveaxis(truth("packbits", x), axis, -1).astype("uint8")
    size = bits.aval.shape[-1]
    bits = pad(bits, [(0, 0)] * (bits.aval.ndim - 1) + [(0, -size % 8)])
    groups = reshape(bits, (*bits.aval.shape[:-1], -(-size // 8), 8))
    return moveaxis(sum(groups << _places(bitorder), -1, dtype="uint8"), -1, axis)


def unpackbits(
    a: ArrayLike, axis: int | None = None, count: int | None = None, bitorder: str = "big"
) -> Any:
    """The bits of each uint8 as eight elements along an axis (see `numpy.unpackbits`).

    Args:
      a: the array, of uint8.
      axis: the axis; None: all elements in row-major order.
      count: how many elements to return along the axis; negative: how many to leave out at the end;
        more than there are: zeros are added.
      bitorder: as for `packbits`.

    Returns:
      A uint8 array.

    Raises:
      DtypeError: the array is not of uint8.
      ArgumentError: an unknown bit order.
      ArgumentError: there is no such axis.
    """
    x = _bits_operand("unpackbits", a, bitorder, "u")
    if axis is None:
        x, axis = ravel(x), 0
    axis = normalize_axis("unpackbits", axis, x.aval.ndim)
    x = moveaxis(x, axis, -1)
    bits = (x[..., None] >> _places(bitorder)) & convert(1, x.aval.dtype)
    bits = reshape(bits, (*x.aval.shape[:-1], 8 * x.aval.shape[-1]))
    size = bits.aval.shape[-1]
    if count is not None and count > size:
        bits = pad(bits, [(0, 0)] * (bits.aval.ndim - 1) + [(0, count - size)])
    elif count is not None:
        bits = bits[..., :count]
    return moveaxis(bits, -1, axis)


def _places(bitorder: str) -> Any:
    places = arange(8, dtype="uint8")
    return places[::-1] if bitorder == "big" else places


def _bits_operand(name: str, a: ArrayLike, bitorder: str, kinds: str) -> Any:
    if not is_option(bitorder, ("big", "little")):
        raise ArgumentError(
            f"{name}: bitorder must be 'big' or 'little', got {shortened(bitorder)}"
        )
    x = array(name, a)
    fits = dtypes.kind(x.aval.dtype) in kinds
    if not fits or (kinds == "u" and x.aval.dtype.itemsize > 1):
        wanted = "uint8" if kinds == "u" else "integers or bools"
        raise DtypeError(f"{name}: the array must hold {wanted}, got {x.aval}")
    return x


def _float(name: str, x: ArrayLike) -> Any:
    (x,) = promote_inexact(name, x)
    if dtypes.is_complex(x.aval.dtype):
        raise DtypeError(f"{name}: real numbers are needed, got {x.aval}")
    return x


def _layout(dtype: Any) -> tuple[np.dtype[Any], int, int]:
    """The integer of a float's width, and how many bits its fraction and its exponent have."""
    found = dtypes.finfo(dtype)
    bits = 8 * np.dtype(dtype).itemsize
    return np.dtype(f"int{bits}"), found.nmant, bits - 1 - found.nmant


def _power_of_two(exponent: Any, dtype: Any) -> Any:
    """Exact powers of two, for exponents of normal numbers."""
    integer, fraction, width = _layout(dtype)
    bias = 2 ** (width - 1) - 1
    field = convert(exponent, integer) + convert(bias, integer)
    return bitcast_convert_type(field << convert(fraction, integer), new_dtype=np.dtype(dtype))


def _scaled(x: Any, exponent: Any) -> Any:
    """``x * 2**exponent``, in three steps that neither overflow nor vanish before the result."""
    _, _, width = _layout(x.aval.dtype)
    largest = 3 * (2 ** (width - 1) - 2)
    exponent = clip(exponent, -largest, largest)
    third = exponent // 3
    for part in (third, third, exponent - 2 * third):
        x = x * _power_of_two(part, x.aval.dtype)
    return x


def ldexp(x1: ArrayLike, x2: ArrayLike, /) -> Any:
    """``x1 * 2**x2``, exactly where that is a number (see `numpy.ldexp`).

    Floats of the shape to which both broadcast.

    Raises:
      DtypeError: ``x2`` holds no integers, or ``x1`` is complex.
      ShapeError: the shapes do not broadcast.
    """
    x, exponent = _float("ldexp", x1), array("ldexp", x2)
    if dtypes.is_inexact(exponent.aval.dtype):
        raise DtypeError(f"ldexp: x2 must hold integers, got {exponent.aval}")
    x, exponent = broadcast("ldexp", x, exponent.astype("int32"))
    return _scaled(x, exponent)


def frexp(x: ArrayLike, /) -> tuple[Any, Any]:
    """``(m, e)``, with ``x = m * 2**e``, and m from 0.5 up to 1, or 0 (see `numpy.frexp`).

    Infinities and NaN are their own m, with an e of 0.

    Raises:
      DtypeError: the array is complex.
    """
    x = _float("frexp", x)
    integer, fraction, width = _layout(x.aval.dtype)
    bias = 2 ** (width - 1) - 2
    # Subnormal numbers are made normal first.
    small = abs(x) < float(dtypes.finfo(x.aval.dtype).tiny)
    shift = fraction + 2
    scaled = where(small, _scaled(x, full(x.aval.shape, shift, np.dtype("int32"))), x)
    bits = bitcast_convert_type(scaled, new_dtype=integer)
    field = (bits >> convert(fraction, integer)) & convert(2**width - 1, integer)
    exponent = field.astype("int32") - bias - where(small, shift, 0)
    usable = isfinite(x) & (x != 0)
    exponent = where(usable, exponent, 0)
    return _scaled(x, -exponent), exponent


def modf(x: ArrayLike, /, out: None = None) -> tuple[Any, Any]:
    """The fraction and the whole part of each number, both with its sign (see `numpy.modf`).

    Two float arrays of the shape of `x`; `out` must be None.

    Raises:
      DtypeError: the array is complex.
    """
    refuse_out("modf", out)
    x = _float("modf", x)
    whole = trunc(x)
    return copysign(where(isinf(x), 0, x - whole), x), whole


def spacing(x: ArrayLike, /) -> Any:
    """The distance to the next number away from zero, with the number's sign (see `numpy.spacing`).

    Floats of the shape of `x`.

    Raises:
      DtypeError: the array is complex.
    """
    x = _float("spacing", x)
    size = abs(x)
    return copysign(nextafter(size, full_like(size, np.inf)) - size, x)


def sinc(x: ArrayLike, /) -> Any:
    """``sin(pi x) / (pi x)``, and 1 at 0; all derivatives are exact there (see `numpy.sinc`).

    The shape stays; integers and bools become floats.

    Raises:
      LeafTypeError: `x` is no array or scalar.
    """
    (x,) = promote_inexact("sinc", x)
    t = math.pi * x
    near = abs(t) < 0.3
    far = where(near, 1, t)
    square = where(near, t, 0) ** 2
    series: Any = 0
    for n in range(7, -1, -1):  # the rest is below the rounding of float64
        series = series * square + (-1) ** n / math.factorial(2 * n + 1)
    return where(near, series, sin(far) / far)


def isreal(x: ArrayLike) -> Any:
    """Whether each element has no imaginary part, or one of zero (see `numpy.isreal`).

    A bool array of the shape of `x`.

    Raises:
      LeafTypeError: `x` is no array or scalar.
    """
    return imag(x) == 0


def iscomplex(x: ArrayLike) -> Any:
    """Whether each element has an imaginary part other than zero (see `numpy.iscomplex`).

    A bool array of the shape of `x`.

    Raises:
      LeafTypeError: `x` is no array or scalar.
    """
    return imag(x) != 0
