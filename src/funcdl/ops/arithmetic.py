"""Arithmetic: sums, products, quotients, remainders, powers, extremes, magnitude and sign.

Meanings are those of the `jax.lax` functions of the same names; integers wrap around.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_linear
from funcdl.errors import ArgumentError
from funcdl.ops import registry
from funcdl.ops.comparison import eq, ge
from funcdl.ops.registry import INTS, NUMBERS, SIGNED, Sample, random_array
from funcdl.ops.rounding import round_
from funcdl.ops.rows import Bilinear, Jvp, Linear, NDArray, by_kind, elementwise
from funcdl.ops.select import select_n
from funcdl.ops.shape import full_like

if TYPE_CHECKING:
    from funcdl.kir.builder import KernelBuilder

REAL_OR_COMPLEX = registry.FLOATS + registry.COMPLEX


def non_zero(x: Any) -> Any:
    """`x` with ones in place of zeros."""
    return select_n(eq(x, full_like(x, 0)), x, full_like(x, 1))


def one_minus(x: Any) -> Any:
    """``1 - x``."""
    return sub(full_like(x, 1), x)


def scaled(x: Any, factor: float) -> Any:
    """`x` times a Python scalar."""
    return mul(x, full_like(x, factor))


neg: Primitive = elementwise(
    "neg",
    np.negative,
    accepts=NUMBERS,
    derivative=Linear(lambda ct, x: [neg(ct)]),
    c=by_kind(iu="fd_neg_{t}({0})", f="-{0}"),
    triton="-{0}",
)

add = elementwise(
    "add",
    np.add,
    accepts=NUMBERS,
    derivative=Jvp(
        (lambda t, out, x, y: t, lambda t, out, x, y: t),
        lambda ct, x, y: [ct if is_linear(x) else None, ct if is_linear(y) else None],
    ),
    arity=2,
    c=by_kind(iu="fd_add_{t}({0}, {1})", f="{0} + {1}"),
    triton="{0} + {1}",
)

sub = elementwise(
    "sub",
    np.subtract,
    accepts=NUMBERS,
    derivative=Jvp(
        (lambda t, out, x, y: t, lambda t, out, x, y: neg(t)),
        lambda ct, x, y: [ct if is_linear(x) else None, neg(ct) if is_linear(y) else None],
    ),
    arity=2,
    c=by_kind(iu="fd_sub_{t}({0}, {1})", f="{0} - {1}"),
    triton="{0} - {1}",
)

mul: Primitive = elementwise(
    "mul",
    np.multiply,
    accepts=NUMBERS,
    derivative=Bilinear(lambda ct, y: mul(ct, y), lambda ct, x: mul(ct, x)),
    arity=2,
    c=by_kind(iu="fd_mul_{t}({0}, {1})", f="{0} * {1}"),
    triton="{0} * {1}",
)


def _split_zeros(y: NDArray) -> tuple[NDArray, NDArray]:
    """Where a divisor is zero, and the divisor with ones there."""
    is_zero = np.equal(y, 0)
    return is_zero, np.where(is_zero, y.dtype.type(1), y)


def _div(x: NDArray, y: NDArray) -> NDArray:
    if not dtypes.is_integer(x.dtype):
        return np.divide(x, y)
    is_zero, divisor = _split_zeros(y)
    quotient = np.floor_divide(x, divisor)
    if dtypes.is_signed(x.dtype):
        inexact = np.multiply(quotient, divisor) != x
        quotient = np.add(quotient, inexact & ((x < 0) != (divisor < 0)), dtype=x.dtype)
    return np.where(is_zero, np.invert(x.dtype.type(0)), quotient)


def _rem(x: NDArray, y: NDArray) -> NDArray:
    if not dtypes.is_integer(x.dtype):
        return np.fmod(x, y)
    is_zero, divisor = _split_zeros(y)
    return np.where(is_zero, x, np.fmod(x, divisor))


# Sample domains of divisors stay away from zero, where quotients explode.
_DIVISOR = (0.5, 3.0)

# Dividing by -1 is negation: hardware need not survive the quotient of the least integer.
_TRITON_SAFE = "tl.where(({1} == 0) | ({1} == -1), 1, {1})"

_triton_integer_div = by_kind(
    i=f"tl.where({{1}} == 0, -1, tl.where({{1}} == -1, -{{0}}, {{0}} // {_TRITON_SAFE}))",
    u="tl.where({1} == 0, ~({1} & 0), {0} // tl.where({1} == 0, 1, {1}))",
)


def _triton_div(dtype: np.dtype[Any]) -> str:
    if not dtypes.is_float(dtype):
        return _triton_integer_div(dtype)
    # In float32 the operator is an approximation.
    return "tl.div_rn({0}, {1})" if dtype.itemsize == 4 else "{0} / {1}"


div: Primitive = elementwise(
    "div",
    _div,
    accepts=NUMBERS,
    derivative=Jvp(
        (
            lambda t, out, x, y: div(t, y),
            # Divided last: transposed, it shares its quotient with that of the dividend.
            lambda t, out, x, y: div(mul(t, neg(out)), y),
        ),
        lambda ct, x, y: [div(ct, y), None],
    ),
    arity=2,
    c=by_kind(iu="fd_div_{t}({0}, {1})", f="{0} / {1}"),
    triton=_triton_div,
    cost=4,
    domain=((-3.0, 3.0), _DIVISOR),
    ufuncs=dict.fromkeys("fc", np.divide),
)

rem = elementwise(
    "rem",
    _rem,
    accepts=registry.REAL,
    derivative=Jvp(
        (
            lambda t, out, x, y: t,
            lambda t, out, x, y: mul(t, neg(round_(div(sub(x, out), y), rounding_method=1))),
        ),
    ),
    arity=2,
    c="fd_rem_{t}({0}, {1})",
    triton=by_kind(
        f="libdevice.fmod({0}, {1})",
        i=f"tl.where({{1}} == 0, {{0}}, tl.where({{1}} == -1, 0, {{0}} % {_TRITON_SAFE}))",
        u="tl.where({1} == 0, {0}, {0} % tl.where({1} == 0, 1, {1}))",
    ),
    cost=10,
    domain=((-3.0, 3.0), _DIVISOR),
    ufuncs={"f": np.fmod},
)


def _abs_tangent(t: Any, out: Any, x: Any) -> Any:
    if not dtypes.is_complex(x.dtype):
        return select_n(ge(x, full_like(x, 0)), neg(t), t)
    from funcdl.ops.complex_parts import complex_, conj, real

    magnitude = non_zero(out)
    return real(mul(t, div(conj(x), complex_(magnitude, full_like(magnitude, 0)))))


abs_ = elementwise(
    "abs",
    np.abs,
    accepts=SIGNED + REAL_OR_COMPLEX,
    derivative=Jvp((_abs_tangent,)),
    out="real",
    c="fd_abs_{t}({0})",
    triton="tl.abs({0})",
)


def _sign(x: NDArray) -> NDArray:
    if dtypes.is_complex(x.dtype):
        magnitude = np.abs(x)
        return np.where(magnitude == 0, x, x / np.where(magnitude == 0, 1, magnitude)).astype(
            x.dtype
        )
    # Zeros keep their signs.
    return np.copysign(np.sign(x), x) if dtypes.is_float(x.dtype) else np.sign(x)


def _sign_tangent(t: Any, out: Any, x: Any) -> Any:
    """Along a circle about 0 in the plane; zero for real numbers."""
    if not dtypes.is_complex(x.dtype):
        return Zero(out.aval.to_tangent())
    from funcdl.ops.complex_parts import complex_, conj, imag

    turn = div(imag(mul(t, conj(out))), non_zero(abs_(x)))
    return mul(complex_(full_like(turn, 0), turn), out)


sign = elementwise(
    "sign",
    _sign,
    accepts=NUMBERS,
    derivative=Jvp((_sign_tangent,)),
    c="fd_sign_{t}({0})",
    triton=by_kind(
        iu="tl.where({0} > 0, 1, tl.where({0} == 0, 0, -1)).to({0}.dtype)",
        f="tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, {0}))",
    ),
    ufuncs=dict.fromkeys("iu", np.sign),
)


def _extreme_weight(x: Any, y: Any, out: Any) -> Any:
    """The share of `x` in the derivative of an extreme of `x` and `y`: at ties, half."""
    shared = select_n(eq(y, out), full_like(x, 1), full_like(x, 0.5))
    return select_n(eq(x, out), full_like(x, 0), shared)


_EXTREME = Jvp(
    (
        lambda t, out, x, y: mul(t, _extreme_weight(x, y, out)),
        lambda t, out, x, y: mul(t, _extreme_weight(y, x, out)),
    )
)

max_ = elementwise(
    "max",
    np.maximum,
    accepts=registry.ALL,
    derivative=_EXTREME,
    arity=2,
    c=by_kind(b="{0} | {1}", iuf="fd_max_{t}({0}, {1})"),
    triton=by_kind(
        b="{0} | {1}",
        iu="tl.maximum({0}, {1})",
        f="tl.maximum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
    ),
)

min_ = elementwise(
    "min",
    np.minimum,
    accepts=registry.ALL,
    derivative=_EXTREME,
    arity=2,
    c=by_kind(b="{0} & {1}", iuf="fd_min_{t}({0}, {1})"),
    triton=by_kind(
        b="{0} & {1}",
        iu="tl.minimum({0}, {1})",
        f="tl.minimum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
    ),
)


def _integer_power(x: NDArray, y: NDArray) -> NDArray:
    """By repeated squaring, wrapping; a negative power is 0 unless the base is 1 or -1."""
    one = x.dtype.type(1)
    power = np.ones(np.broadcast_shapes(x.shape, y.shape), x.dtype)
    base, exponent = x, np.where(y < 0, y.dtype.type(0), y)
    for bit in range(int(exponent.max(initial=0)).bit_length()):
        odd = (exponent >> y.dtype.type(bit)) & one == 1
        power = np.where(odd, np.multiply(power, base), power)
        base = np.multiply(base, base)
    if not dtypes.is_signed(x.dtype):
        return power
    minus_one = np.where(y & one == 1, -one, one)
    inverse = np.where(x == 1, one, np.where(x == -1, minus_one, x.dtype.type(0)))
    return np.where(y < 0, inverse, power)


def _pow(x: NDArray, y: NDArray) -> NDArray:
    if dtypes.is_integer(x.dtype):
        return _integer_power(x, y)
    return np.power(x, y)


def _pow_base_tangent(t: Any, out: Any, x: Any, y: Any) -> Any:
    """``y x^(y-1)``, and 0 at ``y = 0`` even where the power is infinite."""
    zero = full_like(y, 0)
    slope = mul(y, pow_(x, sub(y, full_like(y, 1))))
    return mul(t, select_n(eq(y, zero), slope, zero))


def _pow_exponent_tangent(t: Any, out: Any, x: Any, y: Any) -> Any:
    from funcdl.ops.exponential import log

    return mul(t, mul(log(non_zero(x)), out))


pow_ = elementwise(
    "pow",
    _pow,
    accepts=INTS + REAL_OR_COMPLEX,
    derivative=Jvp((_pow_base_tangent, _pow_exponent_tangent)),
    arity=2,
    c="fd_pow_{t}({0}, {1})",
    triton=by_kind(
        f="libdevice.pow({0}, {1})",
        i="fd_integer_power({0}, {1}, {bits}, True)",
        u="fd_integer_power({0}, {1}, {bits}, False)",
    ),
    cost=30,
    domain=((0.3, 3.0), (-2.0, 2.0)),
    ufuncs=dict.fromkeys("fc", np.power),
)


def _check_exponent(x: ShapedArray, *, y: int) -> None:
    if not isinstance(y, int):
        raise ArgumentError(f"integer_pow: y must be a Python int, got {shortened(y)}; use pow")
    if y < 0 and dtypes.is_integer(x.dtype):
        raise ArgumentError(
            f"integer_pow: an integer operand needs y >= 0, got {x} and y={y}; convert it to float"
        )


def by_squaring(x: Any, y: int, one: Any, multiply: Any) -> Any:
    """``x**y`` for ``y >= 0``, by calls of `multiply`."""
    power = None
    while y:
        if y & 1:
            power = x if power is None else multiply(power, x)
        y >>= 1
        if y:
            x = multiply(x, x)
    return one if power is None else power


def _integer_pow(x: NDArray, *, y: int) -> NDArray:
    power = by_squaring(x, abs(y), np.ones_like(x), np.multiply)
    return np.reciprocal(power) if y < 0 else np.asarray(power)


def _integer_pow_tangent(t: Any, out: Any, x: Any, *, y: int) -> Any:
    if y == 0:
        return Zero(out.aval.to_tangent())
    return t if y == 1 else mul(t, scaled(integer_pow(x, y=y - 1), y))


def _integer_pow_lower(
    builder: KernelBuilder, values: list[int], avals: list[ShapedArray], params: dict[str, Any]
) -> int:
    (x,), y = values, params["y"]
    one = builder.const(1, builder.type_of(x).dtype)
    power = by_squaring(x, abs(y), one, lambda a, b: builder.elementwise("mul", a, b))
    return builder.elementwise("div", one, power) if y < 0 else power


def _integer_pow_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    exponents = (0, 1, 2, 3, 7) if dtypes.is_integer(dtype) else (-3, -1, 0, 1, 2, 3, 5)
    for y in exponents:
        x = random_array(rng, (2, 3), dtype, 0.5, 2) * rng.choice([1, -1])
        yield Sample((x.astype(dtype),), {"y": y}, (0,))
    yield Sample((random_array(rng, (0,), dtype),), {"y": 2}, (0,))


integer_pow = elementwise(
    "integer_pow",
    _integer_pow,
    accepts=NUMBERS,
    derivative=Jvp((_integer_pow_tangent,)),
    lower=_integer_pow_lower,
    cost=3,
    check=_check_exponent,
    samples=_integer_pow_samples,
)

square = elementwise(
    "square",
    np.square,
    accepts=NUMBERS,
    derivative=Jvp((lambda t, out, x: mul(t, scaled(x, 2)),)),
    lower=lambda builder, values, avals, params: builder.elementwise("mul", *values, *values),
)
