"""Initialisers of parameters, with the names and meanings of `jax.nn.initializers`.

An initialiser is a function ``init(key, shape, dtype=None)`` that returns an array. `zeros` and
`ones` are initialisers; every other name here makes one.

Those named after a person keep the variance of what flows through a layer. All of them are
`variance_scaling`; their sources:

* `lecun_*`, variance 1 / fan_in: LeCun, Bottou, Orr and Müller, "Efficient backprop" (1998).
* `glorot_*` or `xavier_*`, 2 / (fan_in + fan_out): Glorot and Bengio, "Understanding the difficulty
  of training deep feedforward neural networks" (2010).
* `he_*` or `kaiming_*`, 2 / fan_in: He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import funcdl.numpy as fnp
from funcdl import random
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.options import is_option
from funcdl.errors import ArgumentError, DtypeError
from funcdl.numpy.creation import shape_of

__all__ = [
    "Initializer",
    "constant",
    "delta_orthogonal",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Axes = int | Sequence[int]

# The standard deviation of a standard normal variable that is cut off at -2 and 2.
_TRUNCATED_STDDEV = 0.87962566103423978

_MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
_DISTRIBUTIONS = ("truncated_normal", "normal", "uniform")


class Initializer(Protocol):
    """Makes an array of a shape and dtype (None means the initialiser's own) from a random key.

    See `jax.nn.initializers.Initializer`.
    """

    def __call__(self, key: Any, shape: Sequence[int], dtype: Any = None) -> Any: ...


def zeros(key: Any, shape: Sequence[int], dtype: Any = None) -> Any:
    """An initialiser: an array of zeros (see `jax.nn.initializers.zeros`).

    Of shape `shape` and dtype `dtype`, by default the default float; `key` is not used.

    Raises:
      ShapeError: a size is negative.
    """
    return fnp.zeros(shape, _dtype(dtype))


def ones(key: Any, shape: Sequence[int], dtype: Any = None) -> Any:
    """An initialiser: an array of ones (see `jax.nn.initializers.ones`).

    Of shape `shape` and dtype `dtype`, by default the default float; `key` is not used.

    Raises:
      ShapeError: a size is negative.
    """
    return fnp.ones(shape, _dtype(dtype))


def constant(value: Any, dtype: Any = None) -> Initializer:
    """An initialiser: an array full of `value`, a scalar or an array that broadcasts.

    The initialiser makes arrays of `dtype` unless it is asked for another one. See
    `jax.nn.initializers.constant`.
    """
    own_dtype = dtype

    def init(key: Any, shape: Sequence[int], dtype: Any = None) -> Any:
        return fnp.full(tuple(shape), value, _dtype(dtype, own_dtype))

    return init


def normal(stddev: Any = 1e-2, dtype: Any = None) -> Initializer:
    """An initialiser: normal numbers with mean 0 (see `jax.nn.initializers.normal`).

    `stddev` is their deviation. The initialiser makes arrays of `dtype`, a float, unless it is
    asked for another one.

    Raises (when called):
      DtypeError: it is asked for another dtype than a float.
    """
    own_dtype = dtype

    def init(key: Any, shape: Sequence[int], dtype: Any = None) -> Any:
        return stddev * random.normal(key, tuple(shape), _float("normal", dtype, own_dtype))

    return init


def truncated_normal(
    stddev: Any = 1e-2, dtype: Any = None, lower: float = -2.0, upper: float = 2.0
) -> Initializer:
    """An initialiser: normal numbers, those outside ``(lower, upper) * stddev`` drawn again.

    `stddev` is the deviation before the cut, as in JAX.

    See `jax.nn.initializers.truncated_normal`.

    Args:
      stddev: the deviation of the normal distribution.
      dtype: the default dtype of the result, a float.
      lower, upper: the bounds, in deviations.

    Raises (when called):
      DtypeError: it is asked for another dtype than a float.
    """
    own_dtype = dtype

    def init(key: Any, shape: Sequence[int], dtype: Any = None) -> Any:
        dtype = _float("truncated_normal", dtype, own_dtype)
        return stddev * random.truncated_normal(key, lower, upper, tuple(shape), dtype)

    return init


def uniform(scale: Any = 1e-2, dtype: Any = None) -> Initializer:
    """An initialiser: uniform numbers in ``[0, scale)`` (see `jax.nn.initializers.uniform`).

    The initialiser makes arrays of `dtype`, a float, unless it is asked for another one.

    Raises (when called):
      DtypeError: it is asked for another dtype than a float.
    """
    own_dtype = dtype

    def init(key: Any, shape: Sequence[int], dtype: Any = None) -> Any:
        return scale * random.uniform(key, tuple(shape), _float("uniform", dtype, own_dtype))

    return init


def variance_scaling(
    scale: float,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = None,
) -> Initializer:
    """An initialiser with mean 0 and variance ``scale / fan``.

    Axes in none of the three groups below are a receptive field, such as the spatial axes of a
    convolution, and count towards both fans.

    See `jax.nn.initializers.variance_scaling`.

    Args:
      scale: positive.
      mode: the fan: ``"fan_in"``, ``"fan_out"``, or their ``"fan_avg"`` or ``"fan_geo_avg"``.
      distribution: ``"truncated_normal"`` (cut at two standard deviations and widened to have the
        variance all the same), ``"normal"`` or ``"uniform"``.
      in_axis, out_axis: the axes of inputs and outputs in the array.
      batch_axis: axes that count towards neither fan.
      dtype: the default dtype of the result.

    Raises:
      ArgumentError: an unknown mode or distribution; when called, an array without these axes.
      DtypeError: when called, another dtype than a float.
    """
    if not is_option(mode, _MODES):
        raise ArgumentError(f"mode must be one of {', '.join(_MODES)}; got {shortened(mode)}")
    if not is_option(distribution, _DISTRIBUTIONS):
        allowed = ", ".join(_DISTRIBUTIONS)
        raise ArgumentError(f"distribution must be one of {allowed}; got {shortened(distribution)}")
    own_dtype = dtype

    def init(key: Any, shape: Sequence[int], dtype: Any = None) -> Any:
        shape = shape_of(shape, "variance_scaling: shape")
        dtype = _float("variance_scaling", dtype, own_dtype)
        fan_in, fan_out = _fans(shape, in_axis, out_axis, batch_axis)
        fan = {
            "fan_in": fan_in,
            "fan_out": fan_out,
            "fan_avg": (fan_in + fan_out) / 2,
            "fan_geo_avg": math.sqrt(fan_in * fan_out),
        }[mode]
        # The fan is 0 only of an array without elements.
        stddev = math.sqrt(scale / max(fan, 1))
        if distribution == "normal":
            return stddev * random.normal(key, shape, dtype)
        if distribution == "uniform":
            return math.sqrt(3) * stddev * random.uniform(key, shape, dtype, -1)
        return stddev / _TRUNCATED_STDDEV * random.truncated_normal(key, -2, 2, shape, dtype)

    return init


def _fans(
    shape: tuple[int, ...], in_axis: Axes, out_axis: Axes, batch_axis: Axes
) -> tuple[int, int]:
    groups = [(axes,) if isinstance(axes, int) else axes for axes in (in_axis, out_axis)]
    groups.append((batch_axis,) if isinstance(batch_axis, int) else batch_axis)
    ndim = len(shape)
    if any(not -ndim <= axis < ndim for group in groups for axis in group):
        raise ArgumentError(
            f"variance_scaling requires an array with axes in_axis={in_axis}, "
            f"out_axis={out_axis} and batch_axis={batch_axis}; got shape {shape}. For vectors, "
            "such as biases, use zeros, constant or normal"
        )
    in_axes, out_axes, batch_axes = ({axis % ndim for axis in group} for group in groups)

    def fan(other: set[int]) -> int:
        return math.prod(n for i, n in enumerate(shape) if i not in other | batch_axes)

    return fan(out_axes), fan(in_axes)


def orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """An initialiser: orthonormal columns, or rows where those are fewer, times `scale`.

    From Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks" (2014). The array is a matrix here, whose columns are counted by
    `column_axis` and whose rows by all other axes together.

    Raises (when called):
      ArgumentError: the array has fewer than two axes, or not that one.

    See `jax.nn.initializers.orthogonal`.

    Args:
      scale: a scalar.
      column_axis: see above.
      dtype: the default dtype of the result.
    """
    own_dtype = dtype

    def init(key: Any, shape: Sequence[int], dtype: Any = None) -> Any:
        shape = tuple(shape)
        dtype = _dtype(dtype, own_dtype)
        if len(shape) < 2 or not -len(shape) <= column_axis < len(shape):
            raise ArgumentError(
                "orthogonal requires an array with two axes at least, among them "
                f"column_axis={column_axis}; got shape {shape}"
            )
        axis = column_axis % len(shape)
        columns = shape[axis]
        rest = shape[:axis] + shape[axis + 1 :]
        if 0 in shape:
            return fnp.zeros(shape, dtype)
        matrix = random.orthogonal(key, math.prod(rest), dtype=dtype, m=columns)
        return scale * fnp.moveaxis(matrix.reshape((*rest, columns)), -1, axis)

    return init


def delta_orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """An initialiser for convolutions that keep norms: orthonormal in the middle, else zeros.

    From Xiao and others, "Dynamical isometry and a mean field theory of CNNs" (2018). The last two
    axes are the numbers of inputs and of outputs; the one to three axes before are spatial.

    Raises (when called):
      ArgumentError: the array has another number of axes, or more inputs than outputs.

    See `jax.nn.initializers.delta_orthogonal`.

    Args:
      scale: what to multiply by.
      column_axis: the axis of columns, as for `orthogonal`.
      dtype: the default dtype of the result.
    """
    own_dtype = dtype

    def init(key: Any, shape: Sequence[int], dtype: Any = None) -> Any:
        shape = tuple(shape)
        dtype = _dtype(dtype, own_dtype)
        if len(shape) not in (3, 4, 5) or shape[-2] > shape[-1]:
            raise ArgumentError(
                "delta_orthogonal requires an array with one to three spatial axes, and at most "
                f"as many inputs (axis -2) as outputs (axis -1); got shape {shape}"
            )
        matrix = orthogonal(scale, column_axis, dtype)(key, shape[-2:])
        middle = tuple((size - 1) // 2 for size in shape[:-2])
        return fnp.zeros(shape, dtype).at[middle].set(matrix)

    return init


def _dtype(*choices: Any) -> Any:
    """The first dtype that was given, or the default float."""
    given = [choice for choice in choices if choice is not None]
    return dtypes.as_dtype(given[0]) if given else dtypes.default_dtype("f")


def _float(name: str, *choices: Any) -> Any:
    dtype = _dtype(*choices)
    if not dtypes.is_float(dtype):
        raise DtypeError(f"{name} makes floating-point numbers, got dtype {dtype.name}")
    return dtype


def _person(name: str, scale: float, mode: str, distribution: str) -> Any:
    def make(
        in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
    ) -> Initializer:
        return variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, dtype)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = (
        f"An initialiser: `variance_scaling` with scale {scale}, {mode} and {distribution} numbers."
        f"\n\nThe other arguments and the errors are its, too. See `jax.nn.initializers.{name}`."
    )
    return make


lecun_normal = _person("lecun_normal", 1.0, "fan_in", "truncated_normal")
lecun_uniform = _person("lecun_uniform", 1.0, "fan_in", "uniform")
glorot_normal = _person("glorot_normal", 1.0, "fan_avg", "truncated_normal")
glorot_uniform = _person("glorot_uniform", 1.0, "fan_avg", "uniform")
he_normal = _person("he_normal", 2.0, "fan_in", "truncated_normal")
he_uniform = _person("he_uniform", 2.0, "fan_in", "uniform")
xavier_normal, xavier_uniform = glorot_normal, glorot_uniform
kaiming_normal, kaiming_uniform = he_normal, he_uniform
