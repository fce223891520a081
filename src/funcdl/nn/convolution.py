"""Convolution layers: windows that slide over images, sequences and volumes, and their transposes.

Weights have the layout of Flax, ``(*kernel_size, in_features // groups, out_features)``, whatever
the layout of the images: with channels last the compiler multiplies matrices without moving
anything, and the same parameters serve both layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core.array import shortened
from funcdl.core.integers import integers
from funcdl.core.options import is_option
from funcdl.errors import ArgumentError, ShapeError
from funcdl.nn import initializers
from funcdl.nn.initializers import Initializer
from funcdl.nn.parameters import channel_axis_of, check_initializers, checked, groups_of
from funcdl.numpy.creation import shape_of
from funcdl.numpy.promotion import array, promote_inexact

ConvParams = dict[str, Any]
"""``{"w": (*kernel_size, in_features // groups, out_features), "b": (out_features,)}``, maybe
without ``"b"``."""

Sizes = int | Sequence[int]
Padding = str | int | Sequence[int | tuple[int, int]]
Pads = tuple[tuple[int, int], ...]

_NAMES = ("SAME", "VALID", "CAUSAL", "CIRCULAR")


def conv_init(
    key: Any,
    in_features: int,
    out_features: int,
    kernel_size: Sequence[int],
    *,
    groups: int = 1,
    w_init: Initializer | None = None,
    b_init: Initializer | None = initializers.zeros,
    dtype: Any = None,
) -> ConvParams:
    """Parameters of a convolution (as `flax.linen.Conv`; JAX itself has no layers).

    A dict: "w" of shape ``(*kernel_size, in_features // groups, out_features)``, and "b" of shape
    ``(out_features,)``.

    Args:
      key: a random key; all of it goes to the weights.
      in_features, out_features: numbers of channels.
      kernel_size: the window, one size for each spatial dimension, such as ``(3, 3)``.
      groups: how many parts the channels are split into, each convolved for itself;
        ``in_features`` groups are a depthwise convolution.
      w_init: an initialiser; None means `initializers.lecun_normal`.
      b_init: an initialiser; None means no bias.
      dtype: of the parameters; None means the default float.

    Raises:
      ShapeError: a size is no integer, or negative, or no multiple of `groups`.
      ArgumentError: a window without elements, no groups, or an initialiser that is no function.
    """
    return _init("conv", key, in_features, out_features, kernel_size, groups, w_init, b_init, dtype)


def conv_apply(
    params: ConvParams,
    x: Any,
    *,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
    channel_axis: int = -1,
    precision: Any = None,
) -> Any:
    """The convolution of `x` with the kernel, which is not flipped, plus the bias.

    `x` has shape ``(batch, *spatial, in_features)``, or with ``channel_axis=1``
    ``(batch, in_features, *spatial)``, or the same without the batch; the result alike, of the
    dtype to which both promote. Formulas and defaults are those of `flax.linen.Conv` (JAX itself
    has no layers), numbers for `padding` as in `torch.nn.Conv2d`.

    Args:
      params: from `conv_init`.
      x: the inputs.
      strides: steps from one window to the next, one number or one for each spatial dimension.
      padding: ``"SAME"``: results are as large as inputs, divided by the strides; ``"VALID"``:
        none; ``"CIRCULAR"``: as SAME, with what is at the other end; ``"CAUSAL"``: for one spatial
        dimension, all in front; or how many zeros to put on both sides, one number, or for each
        spatial dimension a number or a pair.
      dilation: steps from one element of the window to the next, like `strides`.
      groups: that of `conv_init`.
      channel_axis: the dimension of channels: -1, or 1 for NCHW. Counted with the batch.
      precision: as for `lax.conv_general_dilated`.

    Raises:
      TreeError: `params` has no "w".
      ShapeError: `x` has other dimensions or channels than the kernel asks for.
      ArgumentError: another padding, strides or dilations below 1, or too many of them.
    """
    function = "conv_apply"
    x, w, axis, batched = _operands("conv", params, x, groups, channel_axis)
    spatial = w.ndim - 2
    steps = _each(function, "strides", strides, spatial)
    spread = _each(function, "dilation", dilation, spatial)
    window = [(n - 1) * d + 1 for n, d in zip(w.shape[:spatial], spread, strict=True)]
    pads: Any = _pads(function, padding, spatial)
    if pads == "CAUSAL":
        if spatial != 1:
            raise ArgumentError(
                f"{function}: padding='CAUSAL' is for one spatial dimension, got {spatial}"
            )
        pads = ((window[0] - 1, 0),)
    elif pads == "CIRCULAR":
        x, pads = _wrapped(x, window, steps, axis), "VALID"
    out = lax.conv_general_dilated(
        x,
        w,
        steps,
        pads,
        rhs_dilation=spread,
        dimension_numbers=_layout(x.ndim, axis),
        feature_group_count=groups,
        precision=precision,
    )
    return _finish(params, out, axis, batched)


def conv_transpose_init(
    key: Any,
    in_features: int,
    out_features: int,
    kernel_size: Sequence[int],
    *,
    groups: int = 1,
    w_init: Initializer | None = None,
    b_init: Initializer | None = initializers.zeros,
    dtype: Any = None,
) -> ConvParams:
    """Parameters of a transposed convolution: shapes, dtypes and errors are as for `conv_init`.

    See `flax.linen.ConvTranspose`; JAX itself has no layers.

    Args:
      key: a random key.
      in_features, out_features, kernel_size, groups: as for `conv_init`.
      w_init, b_init, dtype: as for `conv_init`.
    """
    return _init(
        "conv_transpose", key, in_features, out_features, kernel_size, groups, w_init, b_init, dtype
    )


def conv_transpose_apply(
    params: ConvParams,
    x: Any,
    *,
    strides: Sizes = 1,
    padding: Padding = "SAME",
    dilation: Sizes = 1,
    groups: int = 1,
    channel_axis: int = -1,
    precision: Any = None,
) -> Any:
    """The convolution of `x` spread out by the strides: it enlarges what `conv_apply` shrinks.

    Shapes and dtypes are as for `conv_apply`. As in `flax.linen.ConvTranspose` (JAX itself has no
    layers), the kernel is not flipped; `torch.nn.ConvTranspose2d` flips it. Padding is always that
    of the convolution that this one turns around, as in PyTorch: its ``output_padding=o`` is the
    pair ``(p, p - o)``.

    Args:
      params: from `conv_transpose_init`.
      x: the inputs.
      strides: how far to spread out, one number or one for each spatial dimension.
      padding: ``"SAME"``: results are as large as inputs times strides; ``"VALID"``: as large as
        all windows together; or numbers or pairs as for `conv_apply`, which are cut off.
      dilation: steps from one element of the window to the next.
      groups: that of `conv_transpose_init`.
      channel_axis: as for `conv_apply`.
      precision: as for `lax.conv_general_dilated`.

    Raises:
      TreeError, ShapeError, ArgumentError: as for `conv_apply`.
    """
    function = "conv_transpose_apply"
    x, w, axis, batched = _operands("conv_transpose", params, x, groups, channel_axis)
    spatial = w.ndim - 2
    steps = _each(function, "strides", strides, spatial)
    spread = _each(function, "dilation", dilation, spatial)
    window = [(n - 1) * d + 1 for n, d in zip(w.shape[:spatial], spread, strict=True)]
    pads = _pads(function, padding, spatial)
    if pads in ("CAUSAL", "CIRCULAR"):
        raise ArgumentError(
            f"{function}: padding must be 'SAME', 'VALID', numbers or pairs, "
            f"got {shortened(padding)}"
        )
    if isinstance(pads, str):
        pads = tuple(_turned(pads, n, s) for n, s in zip(window, steps, strict=True))
    # Spread out, n elements are (n - 1) * stride + 1, but `lax` makes 0 of none.
    sizes = (x.shape[d] for d in range(1, x.ndim) if d != axis)
    missing = [0 if size else step - 1 for size, step in zip(sizes, steps, strict=True)]
    out = lax.conv_general_dilated(
        x,
        w,
        (1,) * spatial,
        tuple(
            (n - 1 - low, n - 1 - high - less)
            for n, (low, high), less in zip(window, pads, missing, strict=True)
        ),
        lhs_dilation=steps,
        rhs_dilation=spread,
        dimension_numbers=_layout(x.ndim, axis),
        feature_group_count=groups,
        precision=precision,
    )
    return _finish(params, out, axis, batched)


def _init(
    layer: str,
    key: Any,
    in_features: int,
    out_features: int,
    kernel_size: Sequence[int],
    groups: int,
    w_init: Initializer | None,
    b_init: Initializer | None,
    dtype: Any,
) -> ConvParams:
    function = f"{layer}_init"
    in_features, out_features = shape_of(
        (in_features, out_features), f"{function}: (in_features, out_features)"
    )
    window = integers(f"{function}: kernel_size", kernel_size)
    if not window or min(window) < 1:
        raise ArgumentError(
            f"{function}: kernel_size must have a positive entry for each spatial dimension, such "
            f"as (3, 3), got {window}"
        )
    groups = groups_of(function, groups, in_features, out_features)
    check_initializers(layer, w_init=w_init, b_init=b_init)
    if w_init is None:
        w_init = initializers.lecun_normal()
    params = {"w": w_init(key, (*window, in_features // groups, out_features), dtype)}
    if b_init is not None:
        params["b"] = b_init(key, (out_features,), dtype)
    return params


def _operands(
    layer: str, params: Any, x: Any, groups: Any, channel_axis: Any
) -> tuple[Any, Any, int, bool]:
    """Inputs with a batch, weights of their dtype, the dimension of channels, and whether the
    batch was given."""
    function = f"{layer}_apply"
    w = array(function, checked(layer, params, "w", optional="b")["w"])
    x, w = promote_inexact(function, x, w)
    if w.ndim < 3 or x.ndim not in (w.ndim, w.ndim - 1):
        raise ShapeError(
            f"{function}: x must have a batch, channels and one dimension for each of the kernel's "
            f"{max(w.ndim - 2, 0)}, or the same without the batch; got x {x.aval} and w {w.aval}"
        )
    given = x.aval
    batched = x.ndim == w.ndim
    x = x if batched else x[None]
    axis = channel_axis_of(function, channel_axis, x.ndim)
    groups = groups_of(function, groups, w.shape[-1])
    if x.shape[axis] != w.shape[-2] * groups:
        times = f" times groups={groups}" if groups > 1 else ""
        fix = "; for NCHW give channel_axis=1" if x.shape[1] == w.shape[-2] * groups else ""
        raise ShapeError(
            f"{function}: x must have {w.shape[-2]}{times} channels along channel_axis="
            f"{channel_axis}, as w {w.aval} has, got x {given}{fix}"
        )
    return x, w, axis, batched


def _finish(params: Any, out: Any, axis: int, batched: bool) -> Any:
    if "b" in params:
        b = array("conv_apply: params['b']", params["b"])
        out = fnp.add(out, b.reshape((*b.shape, *(1,) * (out.ndim - 1 - axis))))
    return out if batched else out[0]


def _layout(ndim: int, axis: int) -> tuple[str, str, str]:
    """Dimension numbers: a letter for each dimension."""
    spatial = "HWDUV"[: ndim - 2] if ndim <= 7 else "".join(map(chr, range(97, 95 + ndim)))
    image = f"N{spatial[: axis - 1]}C{spatial[axis - 1 :]}"
    return image, f"{spatial}IO", image


def _each(function: str, name: str, entries: Sizes, spatial: int) -> tuple[int, ...]:
    """One positive number for each spatial dimension."""
    given: Any = entries
    is_one = not hasattr(given, "__iter__")
    sizes = integers(f"{function}: {name}", [given] if is_one else given)
    sizes = sizes * spatial if is_one else sizes
    if len(sizes) != spatial or min(sizes) < 1:
        raise ArgumentError(
            f"{function}: {name} must be a positive integer or one for each of {spatial} spatial "
            f"dimensions, got {given}"
        )
    return sizes


def _pads(function: str, padding: Any, spatial: int) -> str | Pads:
    """A name, or a pair for each spatial dimension."""
    if isinstance(padding, str):
        if is_option(padding.upper(), _NAMES):
            return padding.upper()
    elif not hasattr(padding, "__iter__"):
        (size,) = integers(f"{function}: padding", [padding])
        return ((size, size),) * spatial
    elif len(entries := list(padding)) == spatial:
        pairs = [e if hasattr(e, "__iter__") else (e, e) for e in entries]
        found = [integers(f"{function}: padding", pair) for pair in pairs]
        if all(len(pair) == 2 for pair in found):
            return tuple((pair[0], pair[1]) for pair in found)
    raise ArgumentError(
        f"{function}: padding must be one of {', '.join(_NAMES)}, a number, or one number or pair "
        f"for each of {spatial} spatial dimensions, got {shortened(padding)}"
    )


def _wrapped(x: Any, window: Sequence[int], steps: Sequence[int], axis: int) -> Any:
    """`x` with what is at the other end on both sides, as much as SAME would pad."""
    dims = [d for d in range(1, x.ndim) if d != axis]
    widths = [(0, 0)] * x.ndim
    for d, n, step in zip(dims, window, steps, strict=True):
        size = x.shape[d]
        total = max((-(-size // step) - 1) * step + n - size, 0) if size else 0
        widths[d] = (total // 2, total - total // 2)
    return fnp.pad(x, widths, mode="wrap")


def _turned(name: str, window: int, stride: int) -> tuple[int, int]:
    """The padding with which a convolution shrinks to 1 / stride, or windows side by side.

    For windows smaller than a stride it is negative at the end: what no window saw is there, too.
    """
    total = window - stride if name == "SAME" else min(window - stride, 0)
    low = max(total, 0) // 2
    return low, total - low
