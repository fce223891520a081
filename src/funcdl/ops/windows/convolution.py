"""Convolution of any rank and layout, with parameters and meaning of `jax.lax`.

What deep learning calls a convolution: the kernel is not flipped. With batch dimension N, features
C and O, and windows sliding along the spatial dimensions::

    out[n, o, i] = sum over c, k of  lhs[n, c, i · stride + k · rhs_dilation − low] · rhs[o, c, k]

where ``lhs`` is spread out by ``lhs_dilation`` first, and zero outside. Feature groups split C and
O into as many parts, each convolved for itself; batch groups split N and O likewise, and the output
has the batch size of one part.

The host computes it as a product of matrices, windows by features. Kernels have an instruction for
it, see `kir.ir.Conv` and `ops.windows.lowering`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_linear
from funcdl.errors import DtypeError
from funcdl.ops import registry
from funcdl.ops.convert import cast
from funcdl.ops.dot import product_dtype
from funcdl.ops.jvp_rules import bilinear_jvp
from funcdl.ops.lowering import Correlation
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.shape import full, inverse_permutation, move_to_front, reshape, rev, transpose
from funcdl.ops.windows.convolution_dimensions import (
    ConvDimensionNumbers,
    Convolution,
    Dims,
    conv_dimension_numbers,
    find_convolution,
)
from funcdl.ops.windows.sliding import Padding, Sliding, dilated_size

NDArray = np.ndarray[Any, Any]

_BLOCK = 2**24
"""How many elements of windows the host writes out at a time."""


@lru_cache(maxsize=1024)
def _output_dtype(
    lhs: np.dtype[Any], rhs: np.dtype[Any], preferred: np.dtype[Any] | None
) -> np.dtype[Any]:
    kind = dtypes.kind(lhs)
    if lhs != rhs:
        raise DtypeError(
            "conv_general_dilated requires operands of equal dtype, got "
            f"{lhs.name} and {rhs.name}.\nConvert one of them with astype."
        )
    if dtypes.short_name(lhs) not in registry.NUMBERS:
        raise DtypeError(
            f"conv_general_dilated does not accept {lhs.name}; it takes "
            f"{', '.join(registry.NUMBERS)}.\nConvert the operands with astype first."
        )
    if preferred is None:
        return lhs
    same_kind = dtypes.kind(preferred) == kind
    from_integer = dtypes.is_integer(lhs) and dtypes.is_float(preferred)
    if not (same_kind or from_integer) or (kind != "f" and preferred.itemsize < lhs.itemsize):
        raise DtypeError(
            f"conv_general_dilated: preferred_element_type={preferred.name} does not fit operands "
            f"of {lhs.name}. It must be of the same kind, or a float where they are integers, and "
            "no narrower unless both are floats"
        )
    return preferred


conv_general_dilated = Primitive("conv_general_dilated")


def convolution_of(lhs: Any, rhs: Any, params: dict[str, Any]) -> Convolution:
    """The convolution of operands of these types, with the parameters of the primitive."""
    return find_convolution(
        lhs.shape,
        rhs.shape,
        params["dimension_numbers"],
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        params["feature_group_count"],
        params["batch_group_count"],
    )


def _conv_shape(lhs: ShapedArray, rhs: ShapedArray, **params: Any) -> ShapedArray:
    dtype = _output_dtype(lhs.dtype, rhs.dtype, params["preferred_element_type"])
    return ShapedArray(convolution_of(lhs, rhs, params).shape, dtype)


def _conv_impl(lhs: NDArray, rhs: NDArray, **params: Any) -> NDArray:
    out_dtype = _output_dtype(lhs.dtype, rhs.dtype, params["preferred_element_type"])
    conv = convolution_of(lhs, rhs, params)
    windows, groups = conv.windows, conv.groups
    dtype = product_dtype(lhs.dtype, out_dtype)
    lhs_spec, rhs_spec, out_spec = conv.numbers
    # Features come last, so that the elements of a window are copied many at a time.
    x = lhs.transpose(lhs_spec[0], *lhs_spec[2:], lhs_spec[1]).astype(dtype, copy=False)
    around = Sliding(
        x.shape,
        (1, *windows.window, 1),
        (1, *windows.strides, 1),
        ((0, 0), *windows.padding, (0, 0)),
        (1, *windows.base_dilation, 1),
        (1, *windows.window_dilation, 1),
        (),
    )
    x = around.padded(x, 0)
    if params["batch_group_count"] > 1:
        x = x.reshape(groups, conv.batch, *x.shape[1:])
    else:
        x = np.moveaxis(x.reshape(*x.shape[:-1], groups, conv.features), -2, 0)
    length = math.prod(windows.window) * conv.features
    kernel = rhs.transpose(*rhs_spec[2:], rhs_spec[1], rhs_spec[0]).astype(dtype, copy=False)
    kernel = kernel.reshape(length, groups, conv.outputs).transpose(1, 0, 2)
    places = math.prod(windows.counts)
    rows = max(_BLOCK // max(places * length * groups, 1), 1)
    blocks = [np.empty((groups, 0, conv.outputs), dtype)]
    with np.errstate(all="ignore"):
        for start in range(0, conv.batch, rows):
            block = _windows_last(x[:, start : start + rows], windows)
            count = block.shape[1] * places
            blocks.append(np.matmul(block.reshape(groups, count, length), kernel))
        out = np.concatenate(blocks, axis=1).astype(out_dtype, copy=False)
    out = out.reshape(groups, conv.batch, *windows.counts, conv.outputs)
    out = np.moveaxis(out, 0, -2).reshape(conv.batch, *windows.counts, groups * conv.outputs)
    ndim = out.ndim
    return out.transpose(0, ndim - 1, *range(1, ndim - 1)).transpose(inverse_permutation(out_spec))


def _windows_last(x: NDArray, windows: Sliding) -> NDArray:
    """All windows of an array of dimensions group, batch, spatial, feature, as a view.

    Its dimensions are group, batch, places of windows, places in a window, feature.
    """
    strides = x.strides[2:-1]
    return np.lib.stride_tricks.as_strided(
        x,
        (*x.shape[:2], *windows.counts, *windows.window, x.shape[-1]),
        (
            *x.strides[:2],
            *(step * stride for step, stride in zip(strides, windows.strides, strict=True)),
            *(step * spread for step, spread in zip(strides, windows.window_dilation, strict=True)),
            x.strides[-1],
        ),
        writeable=False,
    )


def _conv_transpose(ct: Any, lhs: Any, rhs: Any, **params: Any) -> list[Any]:
    """Either cotangent is a convolution with the cotangent of the output.

    Batch, input features and output features change roles as rows and columns do in a product of
    matrices, and with them the places where the groups are.
    """
    first = is_linear(lhs)
    found, other = (lhs, rhs) if first else (rhs, lhs)
    if not (ct.size and lhs.aval.size and rhs.aval.size):
        zero = Zero(found.aval.to_tangent())
        return [zero, None] if first else [None, zero]
    dtype = found.aval.dtype
    if ct.dtype != dtype:
        dtype = product_dtype(dtype, ct.dtype)
    conv = convolution_of(lhs.aval, rhs.aval, params)
    pull = _lhs_cotangent if first else _rhs_cotangent
    out = pull(conv, cast(ct, dtype), cast(other, dtype), params)
    out = cast(out, found.aval.dtype)
    return [out, None] if first else [None, out]


def _lhs_cotangent(conv: Convolution, ct: Any, rhs: Any, params: dict[str, Any]) -> Any:
    """The convolution of the output's cotangent with the kernel flipped in space."""
    lhs_spec, rhs_spec, out_spec = conv.numbers
    kernel = rev(rhs, dimensions=tuple(sorted(rhs_spec[2:])))
    if conv.groups > 1:
        kernel = _merge(_split(kernel, rhs_spec[0], conv.groups), rhs_spec[0], rhs_spec[1])
    back = conv.windows.transposed()
    out = conv_general_dilated(
        ct,
        kernel,
        window_strides=back.strides,
        padding=back.padding,
        lhs_dilation=back.base_dilation,
        rhs_dilation=back.window_dilation,
        dimension_numbers=ConvDimensionNumbers(out_spec, _swap(rhs_spec), lhs_spec),
        feature_group_count=conv.groups,
        batch_group_count=1,
        precision=params["precision"],
        preferred_element_type=None,
    )
    if params["batch_group_count"] > 1:
        out = _merge(_split(out, lhs_spec[1], conv.groups), lhs_spec[1], lhs_spec[0])
    return out


def _rhs_cotangent(conv: Convolution, ct: Any, lhs: Any, params: dict[str, Any]) -> Any:
    """The convolution of lhs, its features as batch, with the output's cotangent as kernel."""
    lhs_spec, rhs_spec, out_spec = conv.numbers
    windows = conv.windows
    # The window is as large as the output, and moves on by one element of the kernel. What no
    # window reached at the end of lhs is cut off.
    padding = tuple(
        (
            low,
            dilated_size(count, stride)
            + dilated_size(window, spread)
            - 1
            - low
            - dilated_size(size, base),
        )
        for size, window, stride, (low, _), base, spread, count in zip(
            windows.sizes,
            windows.window,
            windows.strides,
            windows.padding,
            windows.base_dilation,
            windows.window_dilation,
            windows.counts,
            strict=True,
        )
    )
    return conv_general_dilated(
        lhs,
        ct,
        window_strides=windows.window_dilation,
        padding=padding,
        lhs_dilation=windows.base_dilation,
        rhs_dilation=windows.strides,
        dimension_numbers=ConvDimensionNumbers(_swap(lhs_spec), _swap(out_spec), _swap(rhs_spec)),
        feature_group_count=params["batch_group_count"],
        batch_group_count=params["feature_group_count"],
        precision=params["precision"],
        preferred_element_type=None,
    )


def _swap(spec: Dims) -> Dims:
    return (spec[1], spec[0], *spec[2:])


def _split(x: Any, dim: int, count: int) -> Any:
    """Split a dimension into two, the first of size `count`."""
    shape = (*x.shape[:dim], count, x.shape[dim] // count, *x.shape[dim + 1 :])
    return reshape(x, new_sizes=shape)


def _merge(x: Any, source: int, target: int) -> Any:
    """Make dimension `source` the outer part of dimension `target` of what is left without it."""
    order = [d for d in range(x.ndim) if d != source]
    order.insert(target, source)
    if order != list(range(x.ndim)):
        x = transpose(x, permutation=tuple(order))
    shape = (*x.shape[:target], x.shape[target] * x.shape[target + 1], *x.shape[target + 2 :])
    return reshape(x, new_sizes=shape)


def _merge_in_groups(x: Any, source: int, target: int, groups: int) -> Any:
    """As `_merge`, but the groups remain the outermost part of the dimension."""
    if groups == 1:
        return _merge(x, source, target)
    x = _split(move_to_front(x, source), target + 1, groups)
    return _merge(_merge(x, 0, target + 1), target, target)


def _conv_batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int | None], **params: Any
) -> tuple[Any, int]:
    """The batch becomes part of a dimension: of the features and groups where both have it."""
    (lhs, rhs), (left, right) = args, dims
    lhs_spec, rhs_spec, out_spec = params["dimension_numbers"]
    if axis_size == 0:
        avals = [
            x.aval if d is None else x.aval.update(shape=x.shape[:d] + x.shape[d + 1 :])
            for x, d in zip(args, dims, strict=True)
        ]
        aval = _conv_shape(*avals, **params)
        return full((0, *aval.shape), 0, aval.dtype), 0
    groups = params["feature_group_count"] * params["batch_group_count"]
    if left is not None and right is not None:
        which = "batch_group_count" if params["batch_group_count"] > 1 else "feature_group_count"
        place = lhs_spec[0] if which == "batch_group_count" else lhs_spec[1]
        lhs, rhs = _merge(lhs, left, place), _merge(rhs, right, rhs_spec[0])
        out = conv_general_dilated(lhs, rhs, **params | {which: groups * axis_size})
        return _split(out, out_spec[1], axis_size), out_spec[1]
    if left is not None:
        lhs = _merge_in_groups(lhs, left, lhs_spec[0], params["batch_group_count"])
        out = conv_general_dilated(lhs, rhs, **params)
        return _split(out, out_spec[0], axis_size), out_spec[0]
    assert right is not None
    rhs = _merge_in_groups(rhs, right, rhs_spec[0], groups)
    out = conv_general_dilated(lhs, rhs, **params)
    place = out_spec[1]
    if groups == 1:
        return _split(out, place, axis_size), place
    out = _split(_split(out, place, groups), place + 1, axis_size)
    return _merge(out, place, place + 1), place


conv_general_dilated.shape = _conv_shape
conv_general_dilated.impl = _conv_impl
conv_general_dilated.jvp = bilinear_jvp(conv_general_dilated)
conv_general_dilated.transpose = _conv_transpose
conv_general_dilated.batch = _conv_batch
conv_general_dilated.lower = Correlation()


def _conv_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    nhwc = ("NHWC", "HWIO", "NHWC")
    cases: list[tuple[Shape, Shape, dict[str, Any]]] = [
        ((2, 3, 5), (4, 3, 2), {}),
        ((1, 4, 5, 2), (3, 2, 2, 3), {"numbers": nhwc, "padding": ((1, 1), (0, 1))}),
        ((2, 1, 6), (2, 1, 3), {"strides": (2,), "padding": ((2, -1),)}),
        ((1, 2, 3), (1, 2, 2), {"padding": ((1, 2),), "lhs_dilation": (2,), "rhs_dilation": (3,)}),
        ((2, 4, 3), (6, 2, 2), {"features": 2}),
        ((4, 2, 3), (6, 2, 2), {"batches": 2, "strides": (2,), "padding": ((1, 1),)}),
        ((3, 2), (4, 2), {}),
        ((0, 2, 4), (3, 2, 2), {}),
        ((2, 0, 4), (3, 0, 2), {}),
        ((1, 2, 2), (3, 2, 4), {}),
    ]
    grad = (0, 1) if dtypes.is_inexact(dtype) else ()
    for lhs, rhs, options in cases:
        args = (random_array(rng, lhs, dtype), random_array(rng, rhs, dtype))
        yield Sample(args, _params(lhs, rhs, **options), grad)


def _params(
    lhs: Shape,
    rhs: Shape,
    numbers: Any = None,
    strides: Shape = (),
    padding: Padding = (),
    lhs_dilation: Shape = (),
    rhs_dilation: Shape = (),
    features: int = 1,
    batches: int = 1,
) -> dict[str, Any]:
    ones = (1,) * (len(lhs) - 2)
    return {
        "window_strides": strides or ones,
        "padding": padding or ((0, 0),) * len(ones),
        "lhs_dilation": lhs_dilation or ones,
        "rhs_dilation": rhs_dilation or ones,
        "dimension_numbers": conv_dimension_numbers(lhs, rhs, numbers),
        "feature_group_count": features,
        "batch_group_count": batches,
        "precision": None,
        "preferred_element_type": None,
    }


registry.add(Op(conv_general_dilated, registry.NUMBERS, _conv_samples))
