"""Rules of matrix products and convolutions."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.jaxpr import Eqn
from funcdl.onnx.carriers import FLOATS, Kinds
from funcdl.onnx.graph import Graph, Value
from funcdl.onnx.reductions import of_nothing
from funcdl.onnx.rules import aval, rule
from funcdl.ops.dot import dot_dimensions, product_dtype
from funcdl.ops.shape import inverse_permutation
from funcdl.ops.windows.convolution_dimensions import Convolution, find_convolution
from funcdl.ops.windows.sliding import Sliding, dilated_size

_MULTIPLIED: Kinds = FLOATS | {"i32", "i64", "u32", "u64"}
_INT32 = np.dtype(np.int32)


def _product_dtype(operand: np.dtype[Any], out: np.dtype[Any]) -> np.dtype[Any]:
    """What is multiplied: float16 as such, since runtimes add in float32 where that helps."""
    return out if operand == out else product_dtype(operand, out)


def matmul(g: Graph, lhs: Value, rhs: Value, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Value:
    """A product of matrices, batched as NumPy's, with sums of `dtype`."""
    if dtype == _INT32 and lhs.dtype == rhs.dtype and lhs.dtype.itemsize == 1:
        # Made for quantised networks: bytes in, exact sums out.
        return g.node("MatMulInteger", lhs, rhs, shape=shape, dtype=dtype)
    wide = _product_dtype(lhs.dtype, dtype)
    lhs, rhs = (g.carried(g.cast(x, wide), _MULTIPLIED, exact=False) for x in (lhs, rhs))
    return g.cast(g.node("MatMul", lhs, rhs, shape=shape), dtype)


@rule("dot_general")
def _dot_general(g: Graph, eqn: Eqn, lhs: Value, rhs: Value) -> Value:
    out = aval(eqn)
    dims = dot_dimensions(lhs.shape, rhs.shape, eqn.params["dimension_numbers"])
    if not lhs.size:  # what is not empty itself is a sum of nothing
        return g.constant(np.zeros(out.shape, out.dtype))
    batch, k = dims.batch_sizes, math.prod(dims.k_sizes)
    lhs = g.transpose(lhs, [*dims.lhs_batch, *dims.m, *dims.lhs_k])
    rhs = g.transpose(rhs, [*dims.rhs_batch, *dims.rhs_k, *dims.n])
    # Rows of several dimensions stay as they are, where the same matrix is for all of them.
    rows = (math.prod(dims.m_sizes),) if batch or not dims.m_sizes else dims.m_sizes
    columns = math.prod(dims.n_sizes)
    lhs = g.reshape(lhs, (*batch, *rows, k))
    rhs = g.reshape(rhs, (*batch, k, columns))
    return g.reshape(matmul(g, lhs, rhs, (*batch, *rows, columns), out.dtype), out.shape)


@rule("conv_general_dilated")
def _conv(g: Graph, eqn: Eqn, lhs: Value, rhs: Value) -> Value:
    params, out = eqn.params, aval(eqn)
    conv = find_convolution(
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
    if not lhs.size or not rhs.size:
        return of_nothing(g, eqn, (lhs.shape, lhs.dtype), (rhs.shape, rhs.dtype))
    lhs = g.transpose(lhs, conv.numbers.lhs_spec)
    rhs = g.transpose(rhs, conv.numbers.rhs_spec)
    if params["batch_group_count"] > 1:
        lhs = _batch_groups_as_features(g, lhs, conv.groups)
    if dtypes.is_float(out.dtype) and out.dtype != np.float64:
        found = _float_conv(g, lhs, rhs, conv, out.dtype)
    else:
        found = _conv_as_matmul(g, lhs, rhs, conv, out.dtype)
    return g.transpose(found, inverse_permutation(conv.numbers.out_spec))


def _batch_groups_as_features(g: Graph, lhs: Value, groups: int) -> Value:
    """[groups * batch, features, ...] as [batch, groups * features, ...]."""
    size, features, *spatial = lhs.shape
    lhs = g.reshape(lhs, (groups, size // groups, features, *spatial))
    lhs = g.transpose(lhs, [1, 0, *range(2, len(lhs.shape))])
    return g.reshape(lhs, (size // groups, groups * features, *spatial))


def _float_conv(g: Graph, lhs: Value, rhs: Value, conv: Convolution, dtype: np.dtype[Any]) -> Value:
    shape = (conv.batch, conv.groups * conv.outputs, *conv.windows.counts)
    wide = _product_dtype(lhs.dtype, dtype)
    lhs, rhs = (g.carried(g.cast(x, wide), FLOATS) for x in (lhs, rhs))
    windows = conv.windows
    out = _transposed(g, lhs, rhs, conv, shape)
    if out is None:
        padding = windows.padding
        if max(windows.base_dilation, default=1) > 1 or any(min(pair) < 0 for pair in padding):
            lhs = _spread(g, lhs, windows)
            padding = ((0, 0),) * len(padding)
        if not windows.counts:  # no spatial dimension: one position
            lhs, rhs = (g.reshape(x, (*x.shape, 1)) for x in (lhs, rhs))
        out = g.node(
            "Conv",
            lhs,
            rhs,
            shape=shape if windows.counts else (*shape, 1),
            strides=list(windows.strides) or [1],
            dilations=list(windows.window_dilation) or [1],
            pads=[low for low, _ in padding] + [high for _, high in padding] or [0, 0],
            group=conv.groups,
        )
    return g.cast(g.reshape(out, shape), dtype)


def _transposed(
    g: Graph, lhs: Value, rhs: Value, conv: Convolution, shape: tuple[int, ...]
) -> Value | None:
    """A convolution whose input is spread out, as the transpose of one that strides; or None."""
    windows = conv.windows
    if max(windows.base_dilation, default=1) == 1 or max(windows.strides) > 1:
        return None
    pads: tuple[list[int], list[int]] = ([], [])
    extra = []
    for window, spread, dilation, (low, high) in zip(
        windows.window, windows.window_dilation, windows.base_dilation, windows.padding, strict=True
    ):
        reach = dilated_size(window, spread) - 1
        before, after = reach - low, reach - high
        # What is added at the end must be less than the stride, which the input is spread by.
        if before < 0 or after <= -dilation:
            return None
        pads[0].append(before)
        pads[1].append(max(after, 0))
        extra.append(max(-after, 0))
    groups, count, features = conv.groups, conv.outputs, conv.features
    axes = list(range(2, len(rhs.shape)))
    # [groups * outputs, features, ...] as [groups * features, outputs, ...], flipped.
    kernel = g.reshape(rhs, (groups, count, features, *rhs.shape[2:]))
    kernel = g.transpose(kernel, [0, 2, 1, *(d + 1 for d in axes)])
    kernel = g.reverse(g.reshape(kernel, (groups * features, count, *rhs.shape[2:])), axes)
    return g.node(
        "ConvTranspose",
        lhs,
        kernel,
        shape=shape,
        strides=list(windows.base_dilation),
        dilations=list(windows.window_dilation),
        pads=pads[0] + pads[1],
        output_padding=extra,
        group=groups,
    )


def _spread(g: Graph, lhs: Value, windows: Sliding) -> Value:
    """The input [N, C, ...] with what dilation and padding put between and around."""
    config = [
        (low, high, base - 1)
        for (low, high), base in zip(windows.padding, windows.base_dilation, strict=True)
    ]
    return g.pad(lhs, g.constant(0, lhs.dtype), [(0, 0, 0), (0, 0, 0), *config])


def _conv_as_matmul(
    g: Graph, lhs: Value, rhs: Value, conv: Convolution, dtype: np.dtype[Any]
) -> Value:
    """A product of windows and kernels: no runtime convolves float64, or integers but bytes."""
    windows, groups = conv.windows, conv.groups
    lhs = _spread(g, lhs, windows)
    positions = math.prod(windows.counts)
    columns = []
    for offset in product(*map(range, windows.window)):
        starts = [k * spread for k, spread in zip(offset, windows.window_dilation, strict=True)]
        limits = [
            start + dilated_size(count, stride)
            for start, count, stride in zip(starts, windows.counts, windows.strides, strict=True)
        ]
        part = g.slice(lhs, [0, 0, *starts], [*lhs.shape[:2], *limits], [1, 1, *windows.strides])
        columns.append(g.reshape(part, (conv.batch, groups, conv.features, 1, positions)))
    depth = conv.features * len(columns)
    gathered = g.reshape(g.concatenate(columns, 3), (conv.batch, groups, depth, positions))
    kernels = g.reshape(rhs, (1, groups, conv.outputs, depth))
    out = matmul(g, kernels, gathered, (conv.batch, groups, conv.outputs, positions), dtype)
    return g.reshape(out, (conv.batch, groups * conv.outputs, *windows.counts))
