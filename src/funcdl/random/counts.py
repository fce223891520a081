"""Random numbers of distributions of counts.

Small means are drawn by simulating waiting times, large ones by rejection; the keys are split as
JAX does, so that values are JAX's, except where rounding decides about a rejection.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.control import scan, while_loop
from funcdl.core.avals import Shape
from funcdl.errors import ShapeError
from funcdl.numpy.creation import DTypeLike, ShapeLike, canonical, shape_of
from funcdl.numpy.promotion import ArrayLike, array, convert, promote_inexact, strong
from funcdl.ops.cumulative import cumsum
from funcdl.ops.key_use import unwatched, use_key
from funcdl.ops.special.error_functions import lgamma
from funcdl.random.keys import single_key, split
from funcdl.random.parameters import float_dtype, int_dtype, spread, spread_all
from funcdl.random.samplers import uniform

FLOAT32 = np.dtype(np.float32)


def geometric(key: Any, p: ArrayLike, shape: ShapeLike = None, dtype: DTypeLike = None) -> Any:
    """How many trials the first success takes, at least 1 (see `jax.random.geometric`).

    Args:
      key: one key.
      p: the probability of success, in (0, 1], which broadcasts to `shape`.
      shape: the result's shape; None: that of `p`.
      dtype: an integer type.

    Raises:
      DtypeError: `dtype` is no integer type.
      ShapeError: `p` does not broadcast to `shape`.
    """
    data, target = single_key("geometric", key), int_dtype("geometric", dtype)
    p = strong(array("geometric", promote_inexact("geometric", p)[0]))
    sizes, (p,) = spread_all("geometric", shape, p.aval.dtype, p=p)
    u = uniform(data, sizes, p.dtype)
    u = fnp.where(u == 0, 1, u)
    return convert(fnp.floor(fnp.log(u) / fnp.log1p(-p)) + 1, target)


def poisson(key: Any, lam: ArrayLike, shape: ShapeLike = None, dtype: DTypeLike = None) -> Any:
    """Numbers of events with mean `lam` (see `jax.random.poisson`).

    Means below 10: products of uniform numbers (D. Knuth, "The art of computer programming", volume
    2, 3.4.1). Others: the transformed rejection PTRS of W. Hörmann, "The transformed rejection
    method for generating Poisson random variables", Insurance: Mathematics and Economics 12 (1993).

    Args:
      key: one key.
      lam: the mean, not negative, which broadcasts to `shape`; computed with in float32. The result
        is -1 where it is NaN or infinite.
      shape: the result's shape; None: that of `lam`.
      dtype: an integer type.

    Raises:
      DtypeError: `dtype` is no integer type.
      ShapeError: `lam` does not broadcast to `shape`.
    """
    data, target = single_key("poisson", key), int_dtype("poisson", dtype)
    sizes, (lam,) = spread_all("poisson", shape, FLOAT32, lam=lam)
    valid = fnp.isfinite(lam) & (lam >= 0)
    few = lam < 10
    data = use_key(data)
    with unwatched():  # Both use the key, and each number comes from one of them.
        small = _poisson_by_products(data, fnp.where(few & valid, lam, 0), sizes, target)
        large = _poisson_by_rejection(data, fnp.where(few | ~valid, 1e5, lam), sizes, target)
    drawn = fnp.where(few, small, large)
    return fnp.where(lam == 0, 0, fnp.where(valid, drawn, convert(fnp.full((), -1), target)))


def _poisson_by_products(data: Any, lam: Any, sizes: Shape, dtype: np.dtype[Any]) -> Any:
    def again(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        count, key, log_product = state
        keys = split(key)
        count = fnp.where(log_product > -lam, count + 1, count)
        return count, keys[0], log_product + fnp.log(uniform(keys[1], sizes, FLOAT32))

    start = (fnp.zeros(sizes, dtype), data, fnp.zeros(sizes, FLOAT32))
    return while_loop(lambda state: (state[2] > -lam).any(), again, start)[0] - 1


def _poisson_by_rejection(data: Any, lam: Any, sizes: Shape, dtype: np.dtype[Any]) -> Any:
    log_lam = fnp.log(lam)
    b = 0.931 + 2.53 * fnp.sqrt(lam)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    limit = 0.9277 - 3.6224 / (b - 2)

    def again(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        found, accepted, key = state
        keys = split(key, 3)
        u = uniform(keys[1], sizes, FLOAT32) - 0.5
        v = uniform(keys[2], sizes, FLOAT32)
        distance = 0.5 - fnp.abs(u)
        k = fnp.floor((2 * a / distance + b) * u + lam + 0.43)
        at_once = (distance >= 0.07) & (v <= limit)
        out = (k < 0) | ((distance < 0.013) & (v > distance))
        proposed = fnp.log(v * inverse_alpha / (a / (distance * distance) + b))
        wanted = -lam + k * log_lam - lgamma(k + 1)
        accept = at_once | (~out & (proposed <= wanted))
        return fnp.where(accept, k, found), accepted | accept, keys[0]

    start = (fnp.full(sizes, -1, FLOAT32), fnp.zeros(sizes, bool), data)
    return convert(while_loop(lambda state: (~state[1]).any(), again, start)[0], dtype)


def binomial(
    key: Any, n: ArrayLike, p: ArrayLike, shape: ShapeLike = None, dtype: DTypeLike = None
) -> Any:
    """How many of `n` trials succeed (see `jax.random.binomial`).

    At most 10 successes expected: sums of geometric waiting times (L. Devroye, "Non-uniform random
    variate generation", 1986, X.4). More: the transformed rejection BTRS of W. Hörmann, "The
    generation of binomial random variates", J. Statistical Computation and Simulation 46 (1993).

    Args:
      key: one key.
      n: the number of trials; broadcasts to `shape`.
      p: the probability of success; broadcasts to `shape`.
      shape: the result's shape; None: that to which the parameters broadcast.
      dtype: a floating type.

    Returns:
      Whole numbers as floats; NaN where `n` is negative or a parameter NaN, or `p` out of range.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: a parameter does not broadcast to `shape`.
    """
    data, target = single_key("binomial", key), float_dtype("binomial", dtype)
    own = strong(array("binomial", promote_inexact("binomial", p)[0])).aval.dtype
    sizes, (count, p) = spread_all("binomial", shape, own, n=n, p=p)
    usual = p < 0.5
    q = fnp.where(usual, p, 1 - p)
    invalid = fnp.isnan(count) | (count < 0) | fnp.isnan(q) | (q < 0)
    infinite = fnp.isinf(count) & ~invalid
    skipped = invalid | infinite
    q = fnp.where(skipped, 0.01, q)
    few = skipped | (count * q <= 10)
    count = fnp.floor(count)
    usual_count, usual_q = fnp.where(few, 10000, count), fnp.where(few, 0.5, q)
    data = use_key(data)
    with unwatched():  # Both use the key, and each number comes from one of them.
        small = _binomial_by_waiting(data, fnp.where(skipped | ~few, 0, count), q, sizes)
        large = _binomial_by_rejection(data, usual_count, usual_q, sizes)
    drawn = fnp.where(few, small, large)
    drawn = convert(fnp.where(usual, drawn, count - drawn), target)
    return fnp.where(invalid, np.nan, fnp.where(infinite, np.inf, drawn))


def _binomial_by_waiting(data: Any, count: Any, q: Any, sizes: Shape) -> Any:
    log_failure = fnp.log1p(-q)

    def again(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        successes, trials, key = state
        keys = split(key)
        waited = fnp.ceil(fnp.log(uniform(keys[0], sizes, q.dtype)) / log_failure)
        return fnp.where(trials <= count, successes + 1, successes), trials + waited, keys[1]

    zero = fnp.zeros(sizes, q.dtype)
    return while_loop(lambda state: (state[1] <= count).any(), again, (zero, zero, data))[0] - 1


def _binomial_by_rejection(data: Any, count: Any, q: Any, sizes: Shape) -> Any:
    deviation = fnp.sqrt(count * q * (1 - q))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * q
    c = count * q + 0.5
    limit = 0.92 - 4.2 / b
    odds = q / (1 - q)
    alpha = (2.83 + 5.1 / b) * deviation
    mode = fnp.floor((count + 1) * q)

    def log_quotient(k: Any) -> Any:
        """The logarithm of the probability of `k`, less that of the mode."""
        left, left_mode = count - k + 1, count - mode + 1
        return (
            (mode + 0.5) * fnp.log((mode + 1) / (odds * left_mode))
            + (count + 1) * fnp.log(left_mode / left)
            + (k + 0.5) * fnp.log(odds * left / (k + 1))
            + _stirling_rest(mode)
            + _stirling_rest(count - mode)
            - _stirling_rest(k)
            - _stirling_rest(count - k)
        )

    def again(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        found, accepted, key = state
        keys = split(key, 3)
        u = uniform(keys[1], sizes, q.dtype) - 0.5
        v = uniform(keys[2], sizes, q.dtype)
        distance = 0.5 - fnp.abs(u)
        k = fnp.floor((2 * a / distance + b) * u + c)
        out = (k < 0) | (k > count)
        at_once = (distance >= 0.07) & (v <= limit)
        proposed = fnp.log(v * alpha / (a / (distance * distance) + b))
        accept = at_once | (~out & (proposed <= log_quotient(fnp.where(out, mode, k))))
        return fnp.where(accept, k, found), accepted | accept, keys[0]

    start = (fnp.full(sizes, -1, q.dtype), fnp.zeros(sizes, bool), data)
    return while_loop(lambda state: (~state[1]).any(), again, start)[0]


def _exact_rest(k: int) -> float:
    stirling = 0.5 * math.log(2 * math.pi) + (k + 0.5) * math.log(k + 1) - (k + 1)
    return math.lgamma(k + 1) - stirling


_RESTS = np.array([_exact_rest(k) for k in range(10)])


def _stirling_rest(k: Any) -> Any:
    """What Stirling's formula lacks of ``log(k!)``: exactly to 9, by three terms beyond."""
    square = (k + 1) * (k + 1)
    series = (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (k + 1)
    table = fnp.asarray(_RESTS, k.dtype)
    return fnp.where(k <= 9, table[convert(fnp.clip(k, 0, 9), np.dtype(np.int32))], series)


def multinomial(
    key: Any,
    n: ArrayLike,
    p: ArrayLike,
    *,
    shape: ShapeLike = None,
    dtype: DTypeLike = None,
    unroll: int | bool = 1,
) -> Any:
    """How many of `n` trials end in each category (see `jax.random.multinomial`).

    One category after the other gets its binomial share of the trials that are left.

    Args:
      key: one key.
      n: the number of trials; broadcasts to the result's shape without the last dimension.
      p: probabilities, along the last dimension; what they sum to does not matter.
      shape: the result's shape, to which `p` broadcasts; None: that of `p`.
      dtype: the result's type; by default that to which `n` and `p` promote.
      unroll: accepted as in JAX, for the scan over categories.

    Returns:
      Whole numbers, which sum to `n` along the last dimension.

    Raises:
      ShapeError: `p` is a scalar, or a parameter does not broadcast.
    """
    data = single_key("multinomial", key)
    n, p = (strong(array("multinomial", x)) for x in promote_inexact("multinomial", n, p))
    sizes = p.aval.shape if shape is None else shape_of(shape)
    if not p.aval.shape:
        raise ShapeError(f"multinomial: p must have a dimension at least, got {p.aval}")
    left = spread("multinomial", "n", n, sizes[:-1])
    p = fnp.moveaxis(spread("multinomial", "p", p, sizes), -1, 0)
    remaining = cumsum(p, axis=0, reverse=True)
    shares = fnp.clip(p / fnp.where(remaining == 0, 1, remaining), 0, 1)

    def draw(left: Any, share_and_key: tuple[Any, Any]) -> tuple[Any, Any]:
        share, key = share_and_key
        count = binomial(key, left, share, dtype=left.dtype)
        return left - count, count

    keys = split(data, shares.shape[0])
    counts = fnp.moveaxis(scan(draw, left, (shares, keys), unroll=unroll)[1], 0, -1)
    target = counts.dtype if dtype is None else canonical(dtype)
    return convert(counts, target)
