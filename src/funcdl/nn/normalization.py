"""Norms that look at one example only: layer, root-mean-square, group and instance norm.

Each subtracts a mean and divides by a standard deviation, and then learns its own: "scale" and
"shift". Half types are normalised in float32. Everything is written for one pass over a row, which
the compiler fuses with what comes before and after; `batch_norm` has a file of its own, since it
keeps a state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.core.options import flag
from funcdl.errors import ShapeError
from funcdl.nn.parameters import channel_axis_of, checked, epsilon_of, groups_of, wide
from funcdl.nn.standardize import standardize
from funcdl.numpy.creation import shape_of
from funcdl.numpy.promotion import array, promote_inexact

NormParams = dict[str, Any]
"""``{"scale": features, "shift": features}``, maybe without ``"shift"``."""


def layer_norm_init(
    key: Any, features: int | Sequence[int], *, shift: bool = True, dtype: Any = None
) -> NormParams:
    """Parameters of a layer norm: "scale", ones, and "shift", zeros, both of shape `features`.

    As `torch.nn.LayerNorm`; JAX itself has no layers.

    Args:
      key: not used, and may be None: every ``init`` takes one.
      features: the size of the last dimension, or of several.
      shift: whether there is a shift.
      dtype: of the parameters; None means the default float.

    Raises:
      ShapeError: a size is no integer, or negative.
      ArgumentError: `shift` is neither True nor False.
    """
    return _init("layer_norm", features, shift, dtype)


def layer_norm_apply(params: NormParams, x: Any, *, epsilon: Any = 1e-5) -> Any:
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift`` along the last dimensions.

    From J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization" (2016); as
    `torch.nn.LayerNorm`. The result has the shape of `x` and the dtype to which it and the
    parameters promote; half types are computed with in float32.

    Args:
      params: from `layer_norm_init`; their shape says which dimensions are meant.
      x: shape ``(..., *features)``.
      epsilon: what keeps the divisor away from 0.

    Raises:
      TreeError: `params` has no "scale".
      ShapeError: `x` does not end with the shape of the parameters.
      ArgumentError: `epsilon` is no number.
    """
    x, scale, shift, dtype = _operands("layer_norm", params, x)
    epsilon = epsilon_of("layer_norm_apply", epsilon)
    out = standardize(x, _last(scale), epsilon=epsilon) * scale
    return (out if shift is None else out + shift).astype(dtype)


def rms_norm_init(key: Any, features: int | Sequence[int], *, dtype: Any = None) -> NormParams:
    """Parameters of a root-mean-square norm: "scale", ones of shape `features`.

    As `flax.linen.RMSNorm`; JAX itself has no layers.

    Args:
      key: not used, and may be None: every ``init`` takes one.
      features: the size of the last dimension, or of several.
      dtype: of the parameters; None means the default float.

    Raises:
      ShapeError: a size is no integer, or negative.
    """
    return _init("rms_norm", features, False, dtype)


def rms_norm_apply(params: NormParams, x: Any, *, epsilon: Any = 1e-6) -> Any:
    """``x / sqrt(mean(x**2) + epsilon) * scale`` along the last dimensions.

    From B. Zhang and R. Sennrich, "Root mean square layer normalization" (2019); formula and
    default as `flax.linen.RMSNorm`. Shapes, dtypes, arguments and errors are those of
    `layer_norm_apply`.

    Args:
      params: from `rms_norm_init`.
      x: shape ``(..., *features)``.
      epsilon: what keeps the divisor away from 0.
    """
    x, scale, shift, dtype = _operands("rms_norm", params, x)
    epsilon = epsilon_of("rms_norm_apply", epsilon)
    mean = fnp.mean(fnp.square(x), axis=_last(scale), keepdims=True)
    out = x / fnp.sqrt(mean + epsilon) * scale
    return (out if shift is None else out + shift).astype(dtype)


def group_norm_init(
    key: Any, features: int, *, shift: bool = True, dtype: Any = None
) -> NormParams:
    """Parameters of a group norm: shapes, dtypes, arguments and errors as for `layer_norm_init`.

    Args:
      key: not used, and may be None.
      features: the number of channels.
      shift: whether there is a shift.
      dtype: of the parameters.
    """
    return _init("group_norm", (features,), shift, dtype)


def group_norm_apply(
    params: NormParams, x: Any, groups: int, *, channel_axis: int = -1, epsilon: Any = 1e-5
) -> Any:
    """Each example with mean 0 and variance 1 within each group of channels; scale and shift.

    From Y. Wu and K. He, "Group normalization" (2018); as `torch.nn.GroupNorm`. One group is layer
    norm over a whole image. The result has the shape of `x` and the dtype to which it and the
    parameters promote; half types are computed with in float32.

    Args:
      params: from `group_norm_init`.
      x: shape ``(batch, *spatial, features)``, or as `channel_axis` says.
      groups: how many groups of neighbouring channels, a divisor of their number.
      channel_axis: the dimension of channels, -1 or, for NCHW, 1.
      epsilon: what keeps the divisor away from 0.

    Raises:
      TreeError: `params` has no "scale".
      ShapeError: `x` has other channels, or `groups` does not divide them.
      ArgumentError: no such dimension, no groups, or `epsilon` is no number.
    """
    function = "group_norm_apply"
    x, scale, shift, dtype = _operands("group_norm", params, x, channel_axis)
    axis = channel_axis_of(function, channel_axis, x.ndim)
    channels = x.shape[axis]
    groups = groups_of(function, groups, channels)
    parted = (*x.shape[:axis], groups, channels // groups, *x.shape[axis + 1 :])
    together = tuple(d for d in range(1, x.ndim + 1) if d != axis)
    out = standardize(x.reshape(parted), together, epsilon=epsilon_of(function, epsilon))
    out = out.reshape(x.shape) * scale
    return (out if shift is None else out + shift).astype(dtype)


def instance_norm_init(
    key: Any, features: int, *, shift: bool = True, dtype: Any = None
) -> NormParams:
    """Parameters of an instance norm: shapes, dtypes and errors as for `layer_norm_init`.

    Args:
      key: not used, and may be None.
      features: the number of channels.
      shift: whether there is a shift.
      dtype: of the parameters.
    """
    return _init("instance_norm", (features,), shift, dtype)


def instance_norm_apply(
    params: NormParams, x: Any, *, channel_axis: int = -1, epsilon: Any = 1e-5
) -> Any:
    """Each channel of each example with mean 0 and variance 1; scale and shift.

    From D. Ulyanov, A. Vedaldi and V. Lempitsky, "Instance normalization: the missing ingredient
    for fast stylization" (2016); as `torch.nn.InstanceNorm2d` with parameters. It is
    `group_norm_apply` with as many groups as channels, whose shapes, dtypes and errors it has.

    Args:
      params: from `instance_norm_init`.
      x: shape ``(batch, *spatial, features)``, or as `channel_axis` says.
      channel_axis: the dimension of channels, -1 or, for NCHW, 1.
      epsilon: what keeps the divisor away from 0.
    """
    function = "instance_norm_apply"
    x, scale, shift, dtype = _operands("instance_norm", params, x, channel_axis)
    axis = channel_axis_of(function, channel_axis, x.ndim)
    spatial = tuple(d for d in range(1, x.ndim) if d != axis)
    out = standardize(x, spatial, epsilon=epsilon_of(function, epsilon)) * scale
    return (out if shift is None else out + shift).astype(dtype)


def affine_init(features: Sequence[int], shift: bool, dtype: Any) -> NormParams:
    """Ones and zeros: what leaves a normalised value as it is."""
    params = {"scale": fnp.ones(features, dtype)}
    return params | {"shift": fnp.zeros(features, dtype)} if shift else params


def affine_of(
    layer: str, params: Any, x: Any, channel_axis: int | None
) -> tuple[Any, Any, Any, np.dtype[Any]]:
    """Inputs, scale and shift (or None), to broadcast, and the dtype of the result.

    All three are of the dtype to compute in.
    """
    function = f"{layer}_apply"
    given: Mapping[str, Any] = checked(layer, params, "scale", optional="shift")
    parts = [given["scale"], *([given["shift"]] if "shift" in given else [])]
    x, scale, *shifts = promote_inexact(function, x, *parts)
    if channel_axis is None:
        fits = 0 < scale.ndim <= x.ndim and x.shape[x.ndim - scale.ndim :] == scale.shape
        where = "the last dimensions of x must be those of params['scale']"
    else:
        axis = channel_axis_of(function, channel_axis, x.ndim)
        fits = scale.shape == (x.shape[axis],)
        where = f"x must have as many channels along channel_axis={channel_axis} as params['scale']"
    if not fits or any(s.shape != scale.shape for s in shifts):
        also = f", params['shift'] {shifts[0].aval}" if shifts else ""
        raise ShapeError(
            f"{function}: {where}, got x {x.aval} and params['scale'] {scale.aval}{also}"
        )
    dtype = x.dtype
    x, scale, *shifts = (part.astype(wide(dtype)) for part in (x, scale, *shifts))
    if channel_axis is not None:
        ones = (1,) * (x.ndim - 1 - axis)
        scale, *shifts = (part.reshape((*part.shape, *ones)) for part in (scale, *shifts))
    return x, scale, shifts[0] if shifts else None, dtype


def _init(layer: str, features: Any, shift: bool, dtype: Any) -> NormParams:
    sizes = shape_of(features, f"{layer}_init: features")
    return affine_init(sizes, flag(f"{layer}_init: shift", shift), dtype)


def _operands(
    layer: str, params: Any, x: Any, channel_axis: int | None = None
) -> tuple[Any, Any, Any, np.dtype[Any]]:
    return affine_of(layer, params, array(f"{layer}_apply", x), channel_axis)


def _last(scale: Any) -> tuple[int, ...]:
    """The last dimensions, as many as the scale has."""
    return tuple(range(-scale.ndim, 0))
