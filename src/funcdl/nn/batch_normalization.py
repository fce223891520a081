"""Batch norm: it learns by the batch's statistics, and works by averages of those that it has seen.

The averages are an argument and a result: no gradient moves them, and a training step hands them
on (`value_and_grad(..., has_aux=True)`). In inference, batch norm is an affine map of each channel,
which `batch_norm_fold` moves into the linear layer or convolution before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core.options import flag, number
from funcdl.errors import ShapeError, TreeError
from funcdl.nn.normalization import NormParams, affine_init, affine_of
from funcdl.nn.parameters import channel_axis_of, checked, epsilon_of, wide
from funcdl.numpy.creation import shape_of
from funcdl.numpy.promotion import array
from funcdl.transforms.arguments import describe

BatchNormState = dict[str, Any]
"""``{"mean": (features,), "variance": (features,)}``: averages over batches."""


def batch_norm_init(
    key: Any, features: int, *, shift: bool = True, dtype: Any = None
) -> tuple[NormParams, BatchNormState]:
    """Parameters and state of a batch norm (as `torch.nn.BatchNorm2d`; JAX itself has no layers).

    A pair of dicts of arrays of shape ``(features,)``: parameters "scale", ones, and "shift",
    zeros; and averages "mean", zeros, and "variance", ones, at least float32.

    Args:
      key: not used, and may be None: every ``init`` takes one.
      features: the number of channels.
      shift: whether there is a shift.
      dtype: of the parameters; None means the default float.

    Raises:
      ShapeError: `features` is no integer, or negative.
      ArgumentError: `shift` is neither True nor False.
    """
    sizes = shape_of((features,), "batch_norm_init: features")
    params = affine_init(sizes, flag("batch_norm_init: shift", shift), dtype)
    kept = wide(params["scale"].dtype)
    return params, {"mean": fnp.zeros(sizes, kept), "variance": fnp.ones(sizes, kept)}


def batch_norm_apply(
    params: NormParams,
    state: BatchNormState,
    x: Any,
    *,
    train: bool,
    momentum: Any = 0.9,
    channel_axis: int = -1,
    epsilon: Any = 1e-5,
    axis_name: Any = None,
) -> tuple[Any, BatchNormState]:
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift`` for each channel, and the state.

    From S. Ioffe and C. Szegedy, "Batch normalization: accelerating deep network training by
    reducing internal covariate shift" (2015); defaults are those of `torch.nn.BatchNorm2d`, whose
    momentum is one minus this one. The result has the shape of `x` and the dtype to which it and
    the parameters promote; half types are computed with in float32.

    Args:
      params, state: from `batch_norm_init`.
      x: shape ``(batch, *spatial, features)``, or as `channel_axis` says.
      train: whether to use mean and variance of the batch, and to return averages that have moved
        towards them; else those in `state` are used, and returned. No derivative flows into the
        state. Averages take the variance with divisor n - 1, as the paper does; an empty batch
        leaves them as they are.
      momentum: the share of the averages that stays.
      channel_axis: the dimension of channels, -1 or, for NCHW, 1.
      epsilon: what keeps the divisor away from 0.
      axis_name: a named axis of `vmap`, or several, over which statistics are taken too.

    Raises:
      TreeError: `params` has no "scale", or `state` no "mean" and "variance".
      ShapeError: `x` or `state` has other channels.
      ArgumentError: no such dimension, a flag or a number that is none.
      AxisNameError: there is no axis of that name.
    """
    function = "batch_norm_apply"
    train = flag(f"{function}: train", train)
    momentum = number(f"{function}: momentum", momentum)
    epsilon = epsilon_of(function, epsilon)
    x, scale, shift, dtype = affine_of("batch_norm", params, array(function, x), channel_axis)
    averages = _state(function, state, scale.size)
    axis = channel_axis_of(function, channel_axis, x.ndim)
    others = tuple(d for d in range(x.ndim) if d != axis)
    ones = (1,) * (x.ndim - 1 - axis)
    count = math.prod(x.shape[d] for d in others) if train else 0
    if train and axis_name is not None:
        count *= lax.axis_size(axis_name)
    if count:  # statistics of nothing would be NaN, and the gradient of the scale with them
        mean, variance = _statistics(x, others, axis_name)
        seen = (mean, variance * (count / max(count - 1, 1)))
        state = {
            name: _moved(averages[name], new, momentum)
            for name, new in zip(("mean", "variance"), seen, strict=True)
        }
    else:
        mean, variance = averages["mean"], averages["variance"]
    mean, variance = (part.reshape((-1, *ones)) for part in (mean, variance))
    factor = scale / fnp.sqrt(variance + epsilon)
    out = (x - mean) * factor
    return (out if shift is None else out + shift).astype(dtype), state


def batch_norm_fold(
    params: NormParams, state: BatchNormState, layer: Any, *, epsilon: Any = 1e-5
) -> dict[str, Any]:
    """Parameters of the layer that does what `layer` and the batch norm after it do, in inference.

    The layer and the norm are both affine (B. Jacob and others, "Quantization and training of
    neural networks for efficient integer-arithmetic-only inference" (2018), section 3.2). The
    result is a dict with "w" and "b", of the shapes and the dtype of the layer's "w".

    Args:
      params, state: from `batch_norm_init`, trained.
      layer: parameters of a linear layer or a convolution: "w" with outputs last, and maybe "b".
      epsilon: that of `batch_norm_apply`.

    Raises:
      TreeError: an entry is missing.
      ShapeError: the layer has another number of outputs.
      ArgumentError: `epsilon` is no number.
    """
    function = "batch_norm_fold"
    epsilon = epsilon_of(function, epsilon)
    given: Any = layer
    if not isinstance(given, Mapping) or "w" not in given:
        raise TreeError(
            f"{function}: layer must be a dict with 'w' and maybe 'b', such as linear_init and "
            f"conv_init make, got {describe(given)}"
        )
    norm = checked("batch_norm", params, "scale", optional="shift")
    w = array(function, given["w"])
    scale = array(function, norm["scale"])
    averages = _state(function, state, scale.size)
    if w.shape[-1:] != scale.shape:
        raise ShapeError(
            f"{function}: the last dimension of layer['w'] must be that of params['scale'], got "
            f"{w.aval} and {scale.aval}"
        )
    factor = scale / fnp.sqrt(averages["variance"] + epsilon)
    b = (given["b"] - averages["mean"] if "b" in given else -averages["mean"]) * factor
    b = b + norm["shift"] if "shift" in norm else b
    return {"w": (w * factor).astype(w.dtype), "b": b.astype(w.dtype)}


def _statistics(x: Any, axes: tuple[int, ...], axis_name: Any) -> tuple[Any, Any]:
    """Mean and variance of each channel."""
    if axis_name is None:
        return fnp.mean(x, axis=axes), fnp.var(x, axis=axes)
    mean = lax.pmean(fnp.mean(x, axis=axes), axis_name)
    about = x - fnp.expand_dims(mean, axes)
    return mean, lax.pmean(fnp.mean(fnp.square(about), axis=axes), axis_name)


def _moved(average: Any, new: Any, momentum: Any) -> Any:
    """The average after one more batch, of the dtype that it has."""
    new = lax.stop_gradient(new)
    return (momentum * average + (1 - momentum) * new).astype(average.dtype)


def _state(function: str, state: Any, features: int) -> dict[str, Any]:
    if not isinstance(state, Mapping) or not {"mean", "variance"} <= {*state}:
        raise TreeError(
            f"{function}: state must be a dict with 'mean' and 'variance', as batch_norm_init "
            f"returns it beside the parameters, got {describe(state)}"
        )
    arrays = {name: lax.stop_gradient(array(function, state[name])) for name in state}
    for name, average in arrays.items():
        if average.shape != (features,):
            raise ShapeError(
                f"{function}: state[{name!r}] must have shape ({features},), one number for each "
                f"channel, got {average.aval}"
            )
    return arrays
