"""Random numbers of continuous distributions that are functions of uniform and normal ones.

Values are those of JAX's functions of the same names, to rounding. Most are inverses of
distribution functions (L. Devroye, "Non-uniform random variate generation", 1986, chapter II.2).
All of them can be differentiated by their parameters.
"""

from __future__ import annotations

import math
from typing import Any

import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.core.avals import Shape
from funcdl.numpy.creation import DTypeLike, ShapeLike, shape_of
from funcdl.numpy.promotion import ArrayLike, broadcast_shapes
from funcdl.ops.special.error_functions import erfc
from funcdl.random.keys import single_key, split
from funcdl.random.parameters import DType, float_dtype, real, spread, spread_all
from funcdl.random.samplers import exponential, normal, rademacher, uniform
from funcdl.transforms.custom.jvp import custom_jvp


def _between(data: Any, shape: Shape, dtype: DType, low: float) -> Any:
    return uniform(data, shape, dtype, low, 1.0)


def cauchy(key: Any, shape: ShapeLike = (), dtype: DTypeLike = None) -> Any:
    """Numbers of the Cauchy distribution around 0 with scale 1 (see `jax.random.cauchy`).

    Args:
      key: one key.
      shape: the result's shape.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
    """
    data, target = single_key("cauchy", key), float_dtype("cauchy", dtype)
    u = _between(data, shape_of(shape), target, float(dtypes.finfo(target).eps))
    return fnp.tan(math.pi * (u - 0.5))


def laplace(key: Any, shape: ShapeLike = (), dtype: DTypeLike = None) -> Any:
    """Numbers of the Laplace distribution around 0 with scale 1 (see `jax.random.laplace`).

    The arguments are those of `cauchy`.

    So are shape, dtype and errors.
    """
    data, target = single_key("laplace", key), float_dtype("laplace", dtype)
    u = _between(data, shape_of(shape), target, -1 + float(dtypes.finfo(target).epsneg))
    return fnp.sign(u) * fnp.log1p(-fnp.abs(u))


def logistic(key: Any, shape: ShapeLike = (), dtype: DTypeLike = None) -> Any:
    """Numbers of the logistic distribution around 0 with scale 1 (see `jax.random.logistic`).

    The arguments are those of `cauchy`.

    So are shape, dtype and errors.
    """
    data, target = single_key("logistic", key), float_dtype("logistic", dtype)
    u = _between(data, shape_of(shape), target, float(dtypes.finfo(target).tiny))
    return fnp.log(u) - fnp.log1p(-u)


def lognormal(
    key: Any, sigma: ArrayLike = 1.0, shape: ShapeLike = None, dtype: DTypeLike = None
) -> Any:
    """The exponential of normal numbers with mean 0 (see `jax.random.lognormal`).

    Args:
      key: one key.
      sigma: the standard deviation of the logarithm, which broadcasts to `shape`.
      shape: the result's shape; None: that of `sigma`.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: `sigma` does not broadcast to `shape`.
    """
    data, target = single_key("lognormal", key), float_dtype("lognormal", dtype)
    sizes, (sigma,) = spread_all("lognormal", shape, target, sigma=sigma)
    return fnp.exp(normal(data, sizes, target) * sigma)


def pareto(key: Any, b: ArrayLike, shape: ShapeLike = None, dtype: DTypeLike = None) -> Any:
    """Numbers from 1 up with density ``b / x**(b + 1)`` (see `jax.random.pareto`).

    Args:
      key: one key.
      b: the exponent, positive, which broadcasts to `shape`.
      shape: the result's shape; None: that of `b`.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: `b` does not broadcast to `shape`.
    """
    data, target = single_key("pareto", key), float_dtype("pareto", dtype)
    sizes, (b,) = spread_all("pareto", shape, target, b=b)
    return fnp.exp(exponential(data, sizes, target) / b)


def rayleigh(key: Any, scale: ArrayLike, shape: ShapeLike = None, dtype: DTypeLike = None) -> Any:
    """Lengths of pairs of normal numbers with deviation `scale` (see `jax.random.rayleigh`).

    Args:
      key: one key.
      scale: positive, broadcasts to `shape`.
      shape: the result's shape; None: that of `scale`.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: `scale` does not broadcast to `shape`.
    """
    data, target = single_key("rayleigh", key), float_dtype("rayleigh", dtype)
    sizes, (scale,) = spread_all("rayleigh", shape, target, scale=scale)
    # Where JAX draws infinity, once in 2**23 times for float32, this is its largest finite number.
    u = fnp.maximum(uniform(data, sizes, target), float(dtypes.finfo(target).tiny))
    return scale * fnp.sqrt(-2 * fnp.log(u))


def weibull_min(
    key: Any,
    scale: ArrayLike,
    concentration: ArrayLike,
    shape: ShapeLike = (),
    dtype: DTypeLike = None,
) -> Any:
    """Numbers of the Weibull distribution of minima (see `jax.random.weibull_min`).

    Args:
      key: one key.
      scale, concentration: positive parameters, which broadcast with `shape`.
      shape: the shape of the numbers that are drawn.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: a parameter does not broadcast with `shape`.
    """
    data, target = single_key("weibull_min", key), float_dtype("weibull_min", dtype)
    power = 1 / real("weibull_min", "concentration", concentration, target)
    drawn = -fnp.log1p(-uniform(data, shape_of(shape), target))
    return drawn**power * real("weibull_min", "scale", scale, target)


def triangular(
    key: Any,
    left: ArrayLike,
    mode: ArrayLike,
    right: ArrayLike,
    shape: ShapeLike = None,
    dtype: DTypeLike = None,
) -> Any:
    """Numbers whose density is a triangle over [left, right] with its tip at `mode`.

    See `jax.random.triangular`.

    Args:
      key: one key.
      left, mode, right: in this order, broadcast to `shape`.
      shape: the result's shape; None: that to which the parameters broadcast.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: a parameter does not broadcast to `shape`.
    """
    data, target = single_key("triangular", key), float_dtype("triangular", dtype)
    sizes, (left, mode, right) = spread_all(
        "triangular", shape, target, left=left, mode=mode, right=right
    )
    u = uniform(data, sizes, target)
    width = right - left
    rises = u < (mode - left) / width
    # The derivative of the square root that is not selected may be infinite.
    rising = fnp.sqrt(fnp.where(rises, u * width * (mode - left), 1))
    falling = fnp.sqrt(fnp.where(rises, 1, (1 - u) * width * (right - mode)))
    return fnp.where(rises, left + rising, right - falling)


def wald(key: Any, mean: ArrayLike, shape: ShapeLike = None, dtype: DTypeLike = None) -> Any:
    """Numbers of the inverse Gaussian distribution with scale 1 (see `jax.random.wald`).

    From J. Michael, W. Schucany and R. Haas, "Generating random variates using transformations with
    multiple roots", The American Statistician 30 (1976). The derivative by the mean is implicit,
    since the choice between the two roots depends on the mean too; JAX leaves that out.

    Args:
      key: one key.
      mean: positive, broadcasts to `shape`.
      shape: the result's shape; None: that of `mean`.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: `mean` does not broadcast to `shape`.
    """
    data, target = single_key("wald", key), float_dtype("wald", dtype)
    _, (mean,) = spread_all("wald", shape, target, mean=mean)
    return _wald(data, mean)


@custom_jvp
def _wald(data: Any, mean: Any) -> Any:
    keys = split(data)
    squares = normal(keys[0], mean.shape, mean.dtype) ** 2
    u = uniform(keys[1], mean.shape, mean.dtype)
    part = mean * mean * squares / 2
    root = fnp.sqrt(4 * mean * squares + mean * mean * squares * squares)
    smaller = mean + part - mean / 2 * root
    return fnp.where(u <= mean / (mean + smaller), smaller, mean * mean / smaller)


@_wald.defjvp
def _wald_jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    out, mean = _wald(*primals), primals[1]
    # The derivative by the mean of the distribution function, over that by the number.
    root = fnp.sqrt(out)
    slope = 2 * out * root / (mean * mean) * _mills_ratio(root / mean + 1 / root)
    return out, tangents[1] * slope


def _mills_ratio(x: Any) -> Any:
    """The normal distribution's tail beyond `x` over its density at `x`, for positive `x`."""
    far = x > 4
    near = fnp.where(far, 4, x)
    quotient = math.sqrt(math.pi / 2) * fnp.exp(near * near / 2) * erfc(near / math.sqrt(2))
    fraction = x  # Laplace's
    for k in range(30, 0, -1):
        fraction = x + k / fraction
    return fnp.where(far, 1 / fraction, quotient)


def maxwell(key: Any, shape: ShapeLike = (), dtype: DTypeLike = None) -> Any:
    """Lengths of vectors of three normal numbers (see `jax.random.maxwell`).

    The arguments are those of `cauchy`.

    So are shape, dtype and errors.
    """
    data, target = single_key("maxwell", key), float_dtype("maxwell", dtype)
    vectors = normal(data, (*shape_of(shape), 3), target)
    return fnp.sqrt(fnp.sum(vectors * vectors, axis=-1))


def double_sided_maxwell(
    key: Any,
    loc: ArrayLike,
    scale: ArrayLike,
    shape: ShapeLike = (),
    dtype: DTypeLike = None,
) -> Any:
    """`maxwell` with a random sign, times `scale`, plus `loc` (`jax.random.double_sided_maxwell`).

    Args:
      key: one key.
      loc, scale: parameters that broadcast to one shape.
      shape: how many to draw for each of these parameters. As in JAX, the result has the shape
        ``shape + parameters``, and ``parameters + parameters`` where `shape` is empty.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: the parameters do not broadcast.
    """
    name = "double_sided_maxwell"
    data, target = single_key(name, key), float_dtype(name, dtype)
    loc, scale = real(name, "loc", loc, target), real(name, "scale", scale, target)
    own = broadcast_shapes(loc.aval.shape, scale.aval.shape, name=name)
    sizes = (shape_of(shape) or own) + own
    keys = split(data)
    sign = rademacher(keys[1], sizes, target)
    return sign * maxwell(keys[0], sizes, target) * spread(name, "scale", scale, sizes) + loc
