"""Operations on complex numbers as operations on their real and imaginary parts.

Each formula takes the parts of its operands, `Parts` for complex and arrays for real ones, and
returns those of its result. Where the plain formula overflows, or loses all digits, on numbers
whose result is harmless, another one is used: division is Smith's (Algorithm 116, CACM 1962), as
in NumPy; roots and inverse functions follow Kahan (Branch cuts for complex elementary functions,
1987) and the definitions of C99's Annex G for zeros of both signs along branch cuts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from funcdl.core import dtypes
from funcdl.core.primitive import Primitive
from funcdl.ops import arithmetic, comparison, exponential, trigonometric
from funcdl.ops.arithmetic import abs_, add, div, max_, min_, mul, neg, one_minus, scaled, sub
from funcdl.ops.bits import and_, not_, or_
from funcdl.ops.comparison import eq, ge, gt, lt, ne
from funcdl.ops.complex_parts import complex_, conj, imag, real
from funcdl.ops.convert import bitcast_convert_type, cast, convert_element_type
from funcdl.ops.dot import dot_general
from funcdl.ops.select import select_n
from funcdl.ops.shape import full, full_like
from funcdl.ops.windows.convolution import conv_general_dilated


class Parts(NamedTuple):
    """A complex array, as two real ones."""

    re: Any
    im: Any


Formula = Callable[..., Any]


def where(condition: Any, on_true: Any, on_false: Any) -> Any:
    """``on_true if condition else on_false``."""
    return select_n(condition, on_false, on_true)


def zeros_like(x: Any) -> Any:
    """Zeros of the array's type."""
    return full_like(x, 0)


def with_sign(x: Any, sign: Any) -> Any:
    """`x`, negated where `sign` is negative or the negative zero."""
    bits = np.dtype(np.int32 if sign.dtype == np.float32 else np.int64)
    negative = lt(bitcast_convert_type(sign, new_dtype=bits), full(sign.shape, 0, bits))
    return where(negative, neg(x), x)


def _is_nan(x: Any) -> Any:
    return ne(x, x)


def _is_infinite(z: Parts) -> Any:
    """Whether one of the parts is, though the other may be NaN."""
    return or_(*(eq(abs_(part), full_like(part, math.inf)) for part in z))


def _larger_and_ratio(z: Parts) -> tuple[Any, Any]:
    """The larger of the parts' magnitudes, and the other divided by it; 0 for 0 and infinity."""
    a, b = abs_(z.re), abs_(z.im)
    large, small = max_(a, b), min_(a, b)
    special = or_(eq(large, zeros_like(large)), eq(large, full_like(large, math.inf)))
    ratio = div(small, where(special, full_like(large, 1), large))
    return large, where(special, zeros_like(ratio), ratio)


def _abs(z: Parts) -> Any:
    large, ratio = _larger_and_ratio(z)
    size = mul(large, exponential.sqrt(add(full_like(ratio, 1), mul(ratio, ratio))))
    return where(_is_infinite(z), full_like(size, math.inf), size)


def _mul(x: Parts, y: Parts) -> Parts:
    return Parts(
        sub(mul(x.re, y.re), mul(x.im, y.im)),
        add(mul(x.re, y.im), mul(x.im, y.re)),
    )


def _div(x: Parts, y: Parts) -> Parts:
    turned = lt(abs_(y.re), abs_(y.im))
    large, small = where(turned, y.im, y.re), where(turned, y.re, y.im)
    first, second = where(turned, x.im, x.re), where(turned, x.re, x.im)
    is_zero = eq(large, zeros_like(large))
    ratio = div(small, where(is_zero, full_like(large, 1), large))
    whole = where(is_zero, abs_(large), add(large, mul(small, ratio)))
    re = div(add(first, mul(second, ratio)), whole)
    im = div(sub(second, mul(first, ratio)), whole)
    return Parts(re, where(turned, neg(im), im))


def _reciprocal(z: Parts) -> Parts:
    return _div(Parts(full_like(z.re, 1), zeros_like(z.im)), z)


def _sign(z: Parts) -> Parts:
    size = _abs(z)
    is_zero = eq(size, zeros_like(size))
    size = where(is_zero, full_like(size, 1), size)
    return Parts(div(z.re, size), div(z.im, size))


def _sqrt(z: Parts) -> Parts:
    large, ratio = _larger_and_ratio(z)
    is_zero = eq(large, zeros_like(large))
    infinite = eq(abs_(z.im), full_like(large, math.inf))
    safe = where(is_zero, full_like(large, 1), large)
    # |re| + |z|, over twice the larger part.
    along = div(abs_(z.re), safe)
    along = where(eq(safe, full_like(safe, math.inf)), full_like(along, 1), along)
    length = exponential.sqrt(add(full_like(ratio, 1), mul(ratio, ratio)))
    half_sum = scaled(add(along, length), 0.5)
    long = mul(exponential.sqrt(safe), exponential.sqrt(half_sum))
    short = scaled(div(abs_(z.im), long), 0.5)
    short = where(infinite, full_like(short, math.inf), short)
    left = lt(z.re, zeros_like(z.re))
    zero = zeros_like(large)
    re = where(is_zero, zero, where(left, short, long))
    im = where(is_zero, zero, where(left, long, short))
    re = where(infinite, full_like(re, math.inf), re)
    return Parts(re, with_sign(im, z.im))


def _rsqrt(z: Parts) -> Parts:
    return _reciprocal(_sqrt(z))


def _turned(size: Any, angle: Any) -> Parts:
    """The number of this absolute value and angle: real at angle 0, and 0 if its size is."""
    zero = zeros_like(angle)
    angle = where(eq(size, zero), zero, angle)
    across = where(eq(angle, zero), angle, mul(size, trigonometric.sin(angle)))
    return Parts(mul(size, trigonometric.cos(angle)), across)


def _exp(z: Parts) -> Parts:
    # Beyond the largest exponential the parts may still be finite: it is applied in two steps.
    most = 80.0 if z.re.dtype == np.float32 else 700.0
    beyond = gt(z.re, full_like(z.re, most))
    size = exponential.exp(where(beyond, sub(z.re, full_like(z.re, most)), z.re))
    power = full_like(z.re, math.exp(most))
    near = _turned(size, z.im)
    return Parts(*(where(beyond, mul(part, power), part) for part in near))


def _exp2(z: Parts) -> Parts:
    return _turned(exponential.exp2(z.re), scaled(z.im, math.log(2)))


def _expm1(z: Parts) -> Parts:
    half = trigonometric.sin(scaled(z.im, 0.5))
    along = mul(exponential.expm1(z.re), trigonometric.cos(z.im))
    re = sub(along, scaled(mul(half, half), 2))
    return Parts(re, _exp(z).im)


def _log_abs(z: Parts) -> Any:
    large, ratio = _larger_and_ratio(z)
    return add(exponential.log(large), scaled(exponential.log1p(mul(ratio, ratio)), 0.5))


def _log(z: Parts) -> Parts:
    return Parts(_log_abs(z), trigonometric.atan2(z.im, z.re))


def _log1p(z: Parts) -> Parts:
    moved = Parts(add(z.re, full_like(z.re, 1)), z.im)
    # |1 + z|² - 1
    beyond = add(mul(z.re, add(z.re, full_like(z.re, 2))), mul(z.im, z.im))
    near = lt(abs_(beyond), full_like(beyond, 0.5))
    close = scaled(exponential.log1p(where(near, beyond, zeros_like(beyond))), 0.5)
    return Parts(where(near, close, _log_abs(moved)), trigonometric.atan2(z.im, moved.re))


def _pow(x: Parts, y: Parts) -> Parts:
    power = _exp(_mul(y, _log(x)))
    zero, one = zeros_like(x.re), full_like(x.re, 1)
    base_is_zero = and_(eq(x.re, zero), eq(x.im, zero))
    exponent_is_zero = and_(eq(y.re, zero), eq(y.im, zero))
    vanishes = and_(base_is_zero, gt(y.re, zero))
    re = where(exponent_is_zero, one, where(vanishes, zero, power.re))
    im = where(or_(exponent_is_zero, vanishes), zero, power.im)
    return Parts(re, im)


def _integer_pow(z: Parts, *, y: int) -> Parts:
    power = arithmetic.by_squaring(z, abs(y), Parts(full_like(z.re, 1), zeros_like(z.im)), _mul)
    return _reciprocal(power) if y < 0 else power


def _logistic(z: Parts) -> Parts:
    power = _exp(Parts(neg(z.re), neg(z.im)))
    infinite = _is_infinite(power)
    out = _reciprocal(Parts(add(power.re, full_like(power.re, 1)), power.im))
    return Parts(*(where(infinite, zeros_like(part), part) for part in out))


def _sinh(z: Parts) -> Parts:
    across = mul(trigonometric.cosh(z.re), trigonometric.sin(z.im))
    return Parts(
        mul(trigonometric.sinh(z.re), trigonometric.cos(z.im)),
        where(eq(z.im, zeros_like(z.im)), z.im, across),
    )


def _cosh(z: Parts) -> Parts:
    across = mul(trigonometric.sinh(z.re), trigonometric.sin(z.im))
    return Parts(
        mul(trigonometric.cosh(z.re), trigonometric.cos(z.im)),
        where(eq(z.im, zeros_like(z.im)), with_sign(z.im, z.re), across),
    )


def _tanh(z: Parts) -> Parts:
    most = 40.0 if z.re.dtype == np.float32 else 300.0
    limit = full_like(z.re, most)
    near = max_(min_(z.re, limit), neg(limit))
    sine, cosine = trigonometric.sin(z.im), trigonometric.cos(z.im)
    hyperbolic = trigonometric.sinh(near)
    below = add(mul(hyperbolic, hyperbolic), mul(cosine, cosine))
    re = div(mul(hyperbolic, trigonometric.cosh(near)), below)
    re = where(ge(abs_(z.re), limit), with_sign(full_like(re, 1), z.re), re)
    return Parts(re, div(mul(sine, cosine), below))


def _atanh(z: Parts) -> Parts:
    # Beyond, the squares overflow, and the result is pi i / 2 to the last bit.
    limit = full_like(z.re, 1e18 if z.re.dtype == np.float32 else 1e150)
    a = min_(abs_(z.re), limit)
    b = max_(min_(z.im, limit), neg(limit))
    down, square = one_minus(a), mul(b, b)
    distance = add(mul(down, down), square)
    # Where the squares vanish a is 1, and the pole is as far away as b is large.
    at_pole = lt(distance, full_like(a, 1e-30 if a.dtype == np.float32 else 1e-290))
    apart = where(at_pole, abs_(b), distance)
    ratio = div(where(at_pole, full_like(a, 2), scaled(a, 4)), apart)
    re = where(at_pole, scaled(exponential.log(ratio), 2), exponential.log1p(ratio))
    across = sub(mul(down, add(a, full_like(a, 1))), square)
    im = trigonometric.atan2(scaled(b, 2), across)
    return Parts(with_sign(scaled(re, 0.25), z.re), scaled(im, 0.5))


def _roots_beside_one(z: Parts) -> tuple[Parts, Parts]:
    """The roots of ``1 - z`` and ``1 + z``."""
    return (
        _sqrt(Parts(one_minus(z.re), neg(z.im))),
        _sqrt(Parts(add(z.re, full_like(z.re, 1)), z.im)),
    )


def _asin(z: Parts) -> Parts:
    low, high = _roots_beside_one(z)
    re = trigonometric.atan2(z.re, sub(mul(low.re, high.re), mul(low.im, high.im)))
    im = trigonometric.asinh(sub(mul(low.re, high.im), mul(low.im, high.re)))
    return Parts(re, im)


def _acos(z: Parts) -> Parts:
    low, high = _roots_beside_one(z)
    re = scaled(trigonometric.atan2(low.re, high.re), 2)
    im = trigonometric.asinh(sub(mul(high.re, low.im), mul(high.im, low.re)))
    return Parts(re, im)


def _acosh(z: Parts) -> Parts:
    low = _sqrt(Parts(sub(z.re, full_like(z.re, 1)), z.im))
    high = _sqrt(Parts(add(z.re, full_like(z.re, 1)), z.im))
    re = trigonometric.asinh(add(mul(low.re, high.re), mul(low.im, high.im)))
    return Parts(re, scaled(trigonometric.atan2(low.im, high.re), 2))


def _rotated(function: Formula) -> Formula:
    """``-i f(i z)``: of a hyperbolic function the circular one, and the other way round."""

    def formula(z: Parts) -> Parts:
        out = function(Parts(neg(z.im), z.re))
        return Parts(out.im, neg(out.re))

    return formula


def _is_before(x: Parts, y: Parts) -> Any:
    """Whether x comes before y, by real parts first."""
    return or_(lt(x.re, y.re), and_(eq(x.re, y.re), lt(x.im, y.im)))


def _extreme(least: bool) -> Formula:
    def formula(x: Parts, y: Parts) -> Parts:
        second = _is_before(y, x) if least else _is_before(x, y)
        x_is_nan = or_(_is_nan(x.re), _is_nan(x.im))
        y_is_nan = or_(_is_nan(y.re), _is_nan(y.im))
        second = and_(or_(second, y_is_nan), not_(x_is_nan))
        return Parts(where(second, y.re, x.re), where(second, y.im, x.im))

    return formula


def _convert(x: Any, *, new_dtype: np.dtype[Any], weak_type: bool) -> Any:
    if dtypes.is_complex(new_dtype):
        real_dtype = dtypes.real_dtype(new_dtype)
        if isinstance(x, Parts):
            return Parts(cast(x.re, real_dtype), cast(x.im, real_dtype))
        re = cast(x, real_dtype)
        return Parts(re, zeros_like(re))
    if dtypes.is_bool(new_dtype):
        return or_(cast(x.re, new_dtype), cast(x.im, new_dtype))
    return convert_element_type(x.re, new_dtype=new_dtype, weak_type=weak_type)


def _products(primitive: Primitive) -> Formula:
    """Four real products; of three the parts would lose the digits in which they differ."""

    def formula(x: Parts, y: Parts, *, preferred_element_type: Any, **params: Any) -> Parts:
        if preferred_element_type is not None:
            preferred_element_type = dtypes.real_dtype(preferred_element_type)

        def product(a: Any, b: Any) -> Any:
            return primitive(a, b, preferred_element_type=preferred_element_type, **params)

        return Parts(
            sub(product(x.re, y.re), product(x.im, y.im)),
            add(product(x.re, y.im), product(x.im, y.re)),
        )

    return formula


FORMULAS: dict[str, Formula] = {
    abs_.name: _abs,
    trigonometric.acos.name: _acos,
    trigonometric.acosh.name: _acosh,
    trigonometric.asin.name: _asin,
    trigonometric.asinh.name: lambda z: Parts(*_rotated(_asin)(z)),
    trigonometric.atan.name: _rotated(_atanh),
    trigonometric.atanh.name: _atanh,
    complex_.name: lambda x, y: Parts(x, y),
    conj.name: lambda z: Parts(z.re, neg(z.im)),
    conv_general_dilated.name: _products(conv_general_dilated),
    convert_element_type.name: _convert,
    trigonometric.cos.name: lambda z: _cosh(Parts(neg(z.im), z.re)),
    trigonometric.cosh.name: _cosh,
    div.name: _div,
    dot_general.name: _products(dot_general),
    eq.name: lambda x, y: and_(eq(x.re, y.re), eq(x.im, y.im)),
    exponential.exp.name: _exp,
    exponential.exp2.name: _exp2,
    exponential.expm1.name: _expm1,
    imag.name: lambda z: z.im,
    arithmetic.integer_pow.name: _integer_pow,
    exponential.log.name: _log,
    exponential.log1p.name: _log1p,
    exponential.logistic.name: _logistic,
    max_.name: _extreme(least=False),
    min_.name: _extreme(least=True),
    mul.name: _mul,
    comparison.ne.name: lambda x, y: or_(ne(x.re, y.re), ne(x.im, y.im)),
    arithmetic.pow_.name: _pow,
    real.name: lambda z: z.re,
    exponential.rsqrt.name: _rsqrt,
    arithmetic.sign.name: _sign,
    trigonometric.sin.name: _rotated(_sinh),
    trigonometric.sinh.name: _sinh,
    exponential.sqrt.name: _sqrt,
    arithmetic.square.name: lambda z: _mul(z, z),
    trigonometric.tan.name: _rotated(_tanh),
    exponential.tanh.name: _tanh,
}
"""By the names of the primitives."""
