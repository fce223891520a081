"""Random numbers of the basic distributions, with the bits of JAX's functions of the same names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.avals import Shape
from funcdl.core.options import is_option
from funcdl.errors import ArgumentError, DtypeError
from funcdl.numpy import arithmetic, logic
from funcdl.numpy.creation import DTypeLike, ShapeLike, canonical, shape_of
from funcdl.numpy.promotion import ArrayLike, array, broadcast_shapes, convert, strong
from funcdl.numpy.shaping import broadcast_to
from funcdl.ops.arithmetic import add, max_, mul, neg, rem, sub
from funcdl.ops.bits import or_, shift_left, shift_right_logical, xor
from funcdl.ops.comparison import gt, le, lt
from funcdl.ops.complex_parts import complex_
from funcdl.ops.convert import bitcast_convert_type
from funcdl.ops.exponential import log, log1p
from funcdl.ops.rounding import nextafter
from funcdl.ops.select import select_n
from funcdl.ops.shape import full, full_like
from funcdl.ops.special.error_functions import erf, erf_inv
from funcdl.ops.stop_gradient import stop_gradient
from funcdl.random.keys import hash_positions, single_key, split
from funcdl.random.parameters import bound, float_dtype, int_dtype, spread

_UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}


def _bits(data: Any, width: int, shape: Shape) -> Any:
    """Random bits as unsigned integers of some width."""
    first, second = hash_positions("bits", data, shape)
    dtype = np.dtype(_UNSIGNED[width])
    if width == 64:
        upper = convert(first, dtype)
        return or_(shift_left(upper, full_like(upper, 32)), convert(second, dtype))
    return convert(xor(first, second), dtype)


def bits(key: Any, shape: ShapeLike = (), dtype: DTypeLike = None) -> Any:
    """Random bits (see `jax.random.bits`).

    Args:
      key: one key.
      shape: the result's shape.
      dtype: an unsigned integer type; by default the default one.

    Raises:
      DtypeError: another dtype.
    """
    data = single_key("bits", key)
    target = dtypes.default_dtype("u") if dtype is None else canonical(dtype)
    if not dtypes.is_unsigned(target):
        raise DtypeError(f"bits: dtype must be an unsigned integer type, got {target.name}")
    return _bits(data, 8 * target.itemsize, shape_of(shape))


def uniform(
    key: Any,
    shape: ShapeLike = (),
    dtype: DTypeLike = None,
    minval: ArrayLike = 0.0,
    maxval: ArrayLike = 1.0,
) -> Any:
    """Numbers from `minval` up to, but without, `maxval`, all equally likely.

    The mantissa is made of random bits (see `jax.random.uniform`).

    Args:
      key: one key.
      shape: the result's shape.
      dtype: a floating type.
      minval, maxval: bounds that broadcast to `shape`.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: a bound does not broadcast to `shape`.
    """
    data = single_key("uniform", key)
    target, sizes = float_dtype("uniform", dtype), shape_of(shape)
    low = bound("uniform", "minval", minval, target, sizes)
    high = bound("uniform", "maxval", maxval, target, sizes)
    return _uniform(data, sizes, target, low, high)


def _uniform(data: Any, shape: Shape, dtype: np.dtype[Any], low: Any, high: Any) -> Any:
    width = 8 * dtype.itemsize
    mantissa = dtypes.finfo(dtype).nmant
    drawn = 8 if mantissa < 8 else width
    unsigned = np.dtype(_UNSIGNED[width])
    random = convert(_bits(data, drawn, shape), unsigned)
    random = shift_right_logical(random, full_like(random, drawn - mantissa))
    # With the exponent of 1 in front, the bits are a number in [1, 2).
    one = np.array(1, dtype)
    random = or_(random, full_like(random, one.view(unsigned)))
    unit = bitcast_convert_type(random, new_dtype=dtype)
    unit = sub(unit, full_like(unit, 1))
    # Rounding can make the sum smaller than the lower bound.
    return max_(low, add(mul(unit, sub(high, low)), low))


def randint(
    key: Any,
    shape: ShapeLike,
    minval: ArrayLike,
    maxval: ArrayLike,
    dtype: DTypeLike = None,
) -> Any:
    """Integers from `minval` up to, but without, `maxval`, all about equally likely.

    Twice as many bits as the dtype has are taken modulo the range (see `jax.random.randint`).

    Args:
      key: one key.
      shape: the result's shape.
      minval, maxval: integers that broadcast to `shape`; where the range is empty, the result is
        `minval`.
      dtype: an integer type, by default the default one. `maxval` may lie one above its largest.

    Raises:
      DtypeError: `dtype` is no integer type.
      ShapeError: a bound does not broadcast to `shape`.
    """
    single_key("randint", key)
    target = int_dtype("randint", dtype)
    sizes = shape_of(shape)
    low, high = array("randint", minval), array("randint", maxval)
    if target.itemsize >= 4:
        return _randint(key, sizes, low, high, target)
    # Small types are drawn in 32 bits, which makes the numbers more equally likely.
    info, wide = np.iinfo(target), np.dtype(np.int32)
    low = arithmetic.clip(_clipped(low, wide)[0], info.min, info.max)
    high = arithmetic.clip(_clipped(high, wide)[0], info.min, info.max + 1)
    return convert(_randint(key, sizes, low, high, wide), target)


def _randint(key: Any, sizes: Shape, low: Any, high: Any, target: np.dtype[Any]) -> Any:
    low, _ = _clipped(low, target)
    high, beyond = _clipped(high, target)
    low = spread("randint", "minval", low, sizes)
    high = spread("randint", "maxval", high, sizes)
    beyond = broadcast_to(beyond, sizes)

    width = 8 * target.itemsize
    unsigned = np.dtype(_UNSIGNED[width])
    span = convert(sub(high, low), unsigned)
    one = full_like(span, 1)
    empty = le(high, low)
    span = select_n(empty, span, one)
    # 2**width choices wrap to a span of 0, modulo which every number is itself.
    span = add(span, select_n(logic.logical_and(beyond, gt(high, low)), full_like(span, 0), one))
    half = rem(full_like(span, 2 ** (width // 2)), span)
    factor = rem(mul(half, half), span)
    keys = split(key)
    upper, lower = (_bits(single_key("randint", keys[i]), width, sizes) for i in (0, 1))
    offset = add(mul(rem(upper, span), factor), rem(lower, span))
    return add(low, convert(rem(offset, span), target))


def _clipped(bound: Any, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """A bound in the range of an integer dtype, and whether it was above that."""
    if not dtypes.is_integer(bound.aval.dtype):
        bound = convert(bound, dtypes.default_dtype("i"))
    own, new = np.iinfo(bound.aval.dtype), np.iinfo(dtype)
    least, most = max(own.min, new.min), min(own.max, new.max)
    above = gt(bound, full_like(bound, most))
    bound = arithmetic.clip(bound, full_like(bound, least), full_like(bound, most))
    return strong(convert(bound, dtype)), above


def bernoulli(key: Any, p: ArrayLike = 0.5, shape: ShapeLike = None, mode: str = "low") -> Any:
    """True with probability `p` (see `jax.random.bernoulli`).

    Args:
      key: one key.
      p: a probability, or an array of them, which broadcasts to `shape`.
      shape: the result's shape; None: that of `p`.
      mode: "low": one uniform number each, exact to the last bit of its mantissa; "high": two, for
        tiny probabilities.

    Raises:
      ArgumentError: another mode.
      DtypeError: `p` is no float.
      ShapeError: `p` does not broadcast to `shape`.
    """
    data = single_key("bernoulli", key)
    if not is_option(mode, ("low", "high")):
        raise ArgumentError(f"bernoulli: mode must be 'low' or 'high', got {shortened(mode)}")
    p = array("bernoulli", p)
    if not dtypes.is_float(p.aval.dtype):
        raise DtypeError(f"bernoulli: p must be floating, got {p.aval}")
    sizes = p.aval.shape if shape is None else shape_of(shape)
    p = spread("bernoulli", "p", p, sizes)
    if mode == "low":
        return lt(_unit(data, sizes, p.aval.dtype), p)
    upper, lower = _unit(data, (2, *sizes), p.aval.dtype)
    step = 2.0 ** -dtypes.finfo(p.aval.dtype).nmant
    return lt(mul(lower, full_like(lower, step)), sub(p, upper))


def _unit(data: Any, shape: Shape, dtype: np.dtype[Any], low: float = 0.0) -> Any:
    return _uniform(data, shape, dtype, full(shape, low, dtype), full(shape, 1, dtype))


def normal(key: Any, shape: ShapeLike = (), dtype: DTypeLike = None) -> Any:
    """Numbers of the normal distribution with mean 0 and variance 1 (see `jax.random.normal`).

    Args:
      key: one key.
      shape: the result's shape.
      dtype: a floating or complex type; real and imaginary part then have variance 1/2.

    Raises:
      DtypeError: another dtype.
    """
    data = single_key("normal", key)
    sizes = shape_of(shape)
    if dtype is not None and dtypes.is_complex(canonical(dtype)):
        part = dtypes.real_dtype(canonical(dtype))
        keys = split(data)
        real, imag = (_normal(keys[i], sizes, part) for i in (0, 1))
        value = complex_(real, imag)
        return arithmetic.divide(value, full_like(value, math.sqrt(2)))
    return _normal(data, sizes, float_dtype("normal", dtype))


def _normal(data: Any, shape: Shape, dtype: np.dtype[Any]) -> Any:
    low = np.nextafter(np.array(-1, dtype), np.array(0, dtype))
    u = _uniform(data, shape, dtype, full(shape, low, dtype), full(shape, 1, dtype))
    return mul(full_like(u, math.sqrt(2)), erf_inv(u))


def truncated_normal(
    key: Any,
    lower: ArrayLike,
    upper: ArrayLike,
    shape: ShapeLike = None,
    dtype: DTypeLike = None,
) -> Any:
    """Numbers of the normal distribution, given that they lie between `lower` and `upper`.

    See `jax.random.truncated_normal`.

    Args:
      key: one key.
      lower, upper: bounds that broadcast to `shape`.
      shape: the result's shape; None: that to which the bounds broadcast.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: the bounds do not broadcast.
    """
    data = single_key("truncated_normal", key)
    target = float_dtype("truncated_normal", dtype)
    bounds = [array("truncated_normal", x) for x in (lower, upper)]
    if shape is None:
        sizes = broadcast_shapes(*(x.aval.shape for x in bounds), name="truncated_normal")
    else:
        sizes = shape_of(shape)
    low, high = (
        bound("truncated_normal", what, x, target, sizes)
        for what, x in zip(("lower", "upper"), bounds, strict=True)
    )
    root = full_like(low, math.sqrt(2))
    ends = [erf(arithmetic.divide(x, root)) for x in (low, high)]
    out = mul(root, erf_inv(_uniform(data, sizes, target, *ends)))
    # Rounding must not push a number out of the open interval.
    inner = [
        nextafter(stop_gradient(x), full_like(x, towards))
        for x, towards in ((low, np.inf), (high, -np.inf))
    ]
    return arithmetic.clip(out, *inner)


def exponential(key: Any, shape: ShapeLike = (), dtype: DTypeLike = None) -> Any:
    """Numbers of the exponential distribution with mean 1 (see `jax.random.exponential`).

    Args:
      key: one key.
      shape: the result's shape.
      dtype: a floating type; None: the default one.

    Raises:
      DtypeError: `dtype` is no floating type.
    """
    data = single_key("exponential", key)
    u = _unit(data, shape_of(shape), float_dtype("exponential", dtype))
    return neg(log1p(neg(u)))


def gumbel(
    key: Any, shape: ShapeLike = (), dtype: DTypeLike = None, mode: str | None = None
) -> Any:
    """Numbers of the Gumbel distribution, ``-log(-log(u))`` (see `jax.random.gumbel`).

    Args:
      key: one key.
      shape: the result's shape.
      dtype: a floating type.
      mode: None or "low": one uniform number each, whose mantissa limits how large a number can be;
        "high": two of them, for more exact large numbers. "highest" is "high" here, where JAX
        draws float32 numbers in another way.

    Raises:
      DtypeError: `dtype` is no floating type.
      ArgumentError: another mode.
    """
    data = single_key("gumbel", key)
    sizes, target = shape_of(shape), float_dtype("gumbel", dtype)
    if not is_option(mode, (None, "low", "high", "highest")):
        raise ArgumentError(
            f"gumbel: mode must be 'low', 'high', 'highest' or None, got {shortened(mode)}"
        )
    info = dtypes.finfo(target)
    if mode in (None, "low"):
        u = _unit(data, sizes, target, float(info.tiny))
        return neg(log(neg(log(u))))
    upper, lower = _unit(data, (2, *sizes), target)
    step = arithmetic.add(arithmetic.multiply(lower, 2.0**-info.nmant), float(info.tiny))
    u = select_n(lt(upper, full_like(upper, 0.5)), upper, add(upper, step))
    return neg(log(neg(log1p(neg(u)))))


def rademacher(key: Any, shape: ShapeLike = (), dtype: DTypeLike = None) -> Any:
    """-1 or 1, equally likely (see `jax.random.rademacher`).

    Args:
      key: one key.
      shape: the result's shape.
      dtype: its dtype; None: the default integer type.
    """
    target = dtypes.default_dtype("i") if dtype is None else canonical(dtype)
    heads = convert(bernoulli(key, 0.5, shape_of(shape)), target)
    return sub(mul(heads, full_like(heads, 2)), full_like(heads, 1))
