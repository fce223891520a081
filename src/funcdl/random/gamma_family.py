"""Random numbers of the gamma distribution and of those made of it.

Gamma numbers are drawn by rejection: G. Marsaglia and W. Tsang, "A simple method for generating
gamma variables", ACM Transactions on Mathematical Software 26 (2000). For shapes below 1, a number
for the shape plus 1 is multiplied by a power of a uniform one. Keys are split as JAX does, so that
values are JAX's to rounding; where rounding decides about a rejection, which is rare, a number is
another one.

Derivatives by the parameters are implicit: those of the number at which the distribution function
has a fixed value (M. Figurnov, S. Mohamed, A. Mnih, "Implicit reparameterization gradients", 2018).
"""

from __future__ import annotations

import math
from typing import Any

import funcdl.numpy as fnp
from funcdl.control import while_loop
from funcdl.core.avals import Shape
from funcdl.errors import ShapeError
from funcdl.numpy.creation import DTypeLike, ShapeLike, shape_of
from funcdl.numpy.promotion import ArrayLike
from funcdl.ops.key_use import unwatched
from funcdl.ops.special.error_functions import digamma
from funcdl.ops.special.gamma import random_gamma_grad
from funcdl.random.keys import single_key, split
from funcdl.random.parameters import DType, float_dtype, real, spread, spread_all
from funcdl.random.samplers import exponential, normal, rademacher, uniform
from funcdl.transforms.custom.jvp import custom_jvp
from funcdl.transforms.vmap import vmap


def _try_one(c: Any, key: Any) -> tuple[Any, Any]:
    """A normal number x for which ``1 + c x`` is positive, and that sum."""

    def again(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        keys = split(state[0])
        x = normal(keys[1], (), c.dtype)
        return keys[0], x, 1 + x * c

    zero = fnp.zeros_like(c)
    _, x, v = while_loop(lambda state: state[2] <= 0, again, (key, zero, zero - 1))
    return x, v


def _draw_one(key: Any, shape: Any, in_logs: bool) -> Any:
    """One gamma number, or its logarithm, of a key's data and a shape parameter."""
    third = fnp.asarray(1 / 3, shape.dtype)
    one = fnp.ones_like(shape)
    boosted = shape < 1
    d = fnp.where(boosted, shape + 1, shape) - third
    c = third / fnp.sqrt(d)

    def rejected(state: tuple[Any, Any, Any, Any]) -> Any:
        _, square, cube, u = state
        surely = u >= 1 - 0.0331 * (square * square)
        return surely & (fnp.log(u) >= square * 0.5 + d * ((1 - cube) + fnp.log(cube)))

    def again(state: tuple[Any, Any, Any, Any]) -> tuple[Any, Any, Any, Any]:
        keys = split(state[0], 3)
        x, v = _try_one(c, keys[1])
        return keys[0], x * x, v * v * v, uniform(keys[2], (), shape.dtype)

    keys = split(key)
    start = (keys[0], fnp.zeros_like(one), one, one + 1)
    cube = while_loop(rejected, again, start)[2]
    if in_logs:
        log_u = -exponential(keys[1], (), shape.dtype)
        boost = fnp.where(boosted & (log_u != 0), log_u * (1 / shape), 0)
        return fnp.log(d) + fnp.log(cube) + boost
    u = 1 - uniform(keys[1], (), shape.dtype)
    return d * cube * fnp.where(boosted, u ** (1 / shape), 1)


def _draw(data: Any, shapes: Any, in_logs: bool) -> Any:
    keys = split(data, shapes.size)
    # Under vmap, loops go on with the keys of those that are done, whose numbers are dropped.
    with unwatched():
        flat = vmap(lambda key, shape: _draw_one(key, shape, in_logs))(keys, shapes.reshape(-1))
    return flat.reshape(shapes.shape)


@custom_jvp
def _gamma(data: Any, shapes: Any) -> Any:
    return _draw(data, shapes, in_logs=False)


@_gamma.defjvp
def _gamma_jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    out = _gamma(*primals)
    return out, tangents[1] * random_gamma_grad(primals[1], out)


@custom_jvp
def _loggamma(data: Any, shapes: Any) -> Any:
    return _draw(data, shapes, in_logs=True)


@_loggamma.defjvp
def _loggamma_jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    out, shapes = _loggamma(*primals), primals[1]
    # Near 0, P(a, x) is x**a / gamma(a + 1), which serves where x itself would underflow.
    near = out < math.log(float(fnp.finfo(out.dtype).eps)) - 2
    x = fnp.exp(fnp.where(near, 0, out))
    slope = fnp.where(near, (digamma(shapes + 1) - out) / shapes, random_gamma_grad(shapes, x) / x)
    return out, tangents[1] * slope


def gamma(key: Any, a: ArrayLike, shape: ShapeLike = None, dtype: DTypeLike = None) -> Any:
    """Numbers with density ``x**(a - 1) * exp(-x) / gamma(a)`` (see `jax.random.gamma`).

    Args:
      key: one key.
      a: the shape parameter, positive, which broadcasts to `shape`.
      shape: the result's shape; None: that of `a`.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: `a` does not broadcast to `shape`.
    """
    data, target = single_key("gamma", key), float_dtype("gamma", dtype)
    _, (a,) = spread_all("gamma", shape, target, a=a)
    return _gamma(data, a)


def loggamma(key: Any, a: ArrayLike, shape: ShapeLike = None, dtype: DTypeLike = None) -> Any:
    """Logarithms of gamma numbers, exact where those would be 0 (see `jax.random.loggamma`).

    Args, errors: see `gamma`.
    """
    data, target = single_key("loggamma", key), float_dtype("loggamma", dtype)
    _, (a,) = spread_all("loggamma", shape, target, a=a)
    return _loggamma(data, a)


def beta(
    key: Any, a: ArrayLike, b: ArrayLike, shape: ShapeLike = None, dtype: DTypeLike = None
) -> Any:
    """Numbers with a density like ``x**(a - 1) * (1 - x)**(b - 1)`` (see `jax.random.beta`).

    Args:
      key: one key.
      a, b: positive parameters, which broadcast to `shape`.
      shape: the result's shape; None: that to which the parameters broadcast.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: a parameter does not broadcast to `shape`.
    """
    data, target = single_key("beta", key), float_dtype("beta", dtype)
    _, parameters = spread_all("beta", shape, target, a=a, b=b)
    keys = split(data)
    logs = [_loggamma(keys[i], x) for i, x in enumerate(parameters)]
    top = fnp.maximum(*logs)
    first, second = (fnp.exp(x - top) for x in logs)
    return first / (first + second)


def dirichlet(key: Any, alpha: ArrayLike, shape: ShapeLike = None, dtype: DTypeLike = None) -> Any:
    """Vectors of gamma numbers, divided by their sums (see `jax.random.dirichlet`).

    Args:
      key: one key.
      alpha: positive parameters, along the last dimension.
      shape: the result's shape without the last dimension; None: that of `alpha`.
      dtype: a floating type.

    Returns:
      An array of shape ``shape + alpha.shape[-1:]``, whose sums along the last dimension are 1.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: `alpha` is a scalar, or does not broadcast.
    """
    data, target = single_key("dirichlet", key), float_dtype("dirichlet", dtype)
    alpha = real("dirichlet", "alpha", alpha, target)
    own = alpha.aval.shape
    if not own:
        raise ShapeError(f"dirichlet: alpha must have a dimension at least, got {alpha.aval}")
    sizes = own if shape is None else (*shape_of(shape), own[-1])
    logs = _loggamma(data, spread("dirichlet", "alpha", alpha, sizes))
    if not logs.size:
        return logs
    parts = fnp.exp(logs - fnp.max(logs, axis=-1, keepdims=True))
    return parts / fnp.sum(parts, axis=-1, keepdims=True)


def chisquare(key: Any, df: ArrayLike, shape: ShapeLike = None, dtype: DTypeLike = None) -> Any:
    """Numbers of the chi-square distribution (see `jax.random.chisquare`).

    Args:
      key: one key.
      df: degrees of freedom, positive, which broadcast to `shape`.
      shape: the result's shape; None: that of `df`.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: `df` does not broadcast to `shape`.
    """
    data, target = single_key("chisquare", key), float_dtype("chisquare", dtype)
    _, (df,) = spread_all("chisquare", shape, target, df=df)
    return _chisquare(data, df)


def _chisquare(data: Any, df: Any) -> Any:
    return 2 * fnp.exp(_loggamma(data, df / 2))


def f(
    key: Any,
    dfnum: ArrayLike,
    dfden: ArrayLike,
    shape: ShapeLike = None,
    dtype: DTypeLike = None,
) -> Any:
    """Numbers of the F distribution, quotients of mean squares (see `jax.random.f`).

    Args:
      key: one key.
      dfnum, dfden: degrees of freedom, positive, which broadcast to `shape`.
      shape: the result's shape; None: that to which the parameters broadcast.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: a parameter does not broadcast to `shape`.
    """
    data, target = single_key("f", key), float_dtype("f", dtype)
    _, (dfnum, dfden) = spread_all("f", shape, target, dfnum=dfnum, dfden=dfden)
    keys = split(data)
    above, below = _chisquare(keys[1], dfnum), _chisquare(keys[0], dfden)
    return (above / dfnum) / (below / dfden)


def t(key: Any, df: ArrayLike, shape: ShapeLike = None, dtype: DTypeLike = None) -> Any:
    """Numbers of Student's t distribution (see `jax.random.t`).

    Args:
      key: one key.
      df: degrees of freedom, positive, which broadcast to `shape`.
      shape: the result's shape; None: that of `df`.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: `df` does not broadcast to `shape`.
    """
    data, target = single_key("t", key), float_dtype("t", dtype)
    sizes, (df,) = spread_all("t", shape, target, df=df)
    keys = split(data)
    half = df / 2
    return normal(keys[0], sizes, target) * fnp.sqrt(half / _gamma(keys[1], half))


def generalized_normal(
    key: Any, p: ArrayLike, shape: ShapeLike = (), dtype: DTypeLike = None
) -> Any:
    """Numbers with a density like ``exp(-abs(x)**p)`` (see `jax.random.generalized_normal`).

    Args:
      key: one key.
      p: positive, broadcasts to `shape`.
      shape: the result's shape.
      dtype: a floating type.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: `p` does not broadcast to `shape`.
    """
    name = "generalized_normal"
    data, target = single_key(name, key), float_dtype(name, dtype)
    sizes, (p,) = spread_all(name, shape_of(shape), target, p=p)
    return _generalized_normal(data, 1 / p, sizes, target)


def _generalized_normal(data: Any, power: Any, sizes: Shape, dtype: DType) -> Any:
    keys = split(data)
    return rademacher(keys[1], sizes, dtype) * _gamma(keys[0], power) ** power


def ball(key: Any, d: int, p: ArrayLike = 2, shape: ShapeLike = (), dtype: DTypeLike = None) -> Any:
    """Points that are equally likely everywhere in the unit ball of the p-norm.

    See `jax.random.ball`. From F. Barthe and others, "A probabilistic approach to the geometry of
    the l_p^n-ball", Annals of Probability 33 (2005).

    Args:
      key: one key.
      d: the number of coordinates.
      p: the norm's exponent, a positive scalar.
      shape: how many points.
      dtype: a floating type.

    Returns:
      An array of shape ``shape + (d,)``.

    Raises:
      DtypeError: `dtype` is no floating type.
      ShapeError: `p` is no scalar.
    """
    data, target = single_key("ball", key), float_dtype("ball", dtype)
    sizes = shape_of(shape)
    p = real("ball", "p", p, target)
    if p.aval.shape:
        raise ShapeError(f"ball: p must be a scalar, got {p.aval}")
    keys = split(data)
    points = (*sizes, *shape_of(d, "d"))
    g = _generalized_normal(keys[0], fnp.broadcast_to(1 / p, points), points, target)
    total = fnp.sum(fnp.abs(g) ** p, axis=-1) + exponential(keys[1], sizes, target)
    return g / (total ** (1 / p))[..., None]
