"""Patches that convolution windows see, convolutions with other weights at each place, and shapes.

Patches are strided slices of the padded array, one for each element of the window, and not a
convolution with an identity kernel: so any dtype is copied exactly, infinities and NaN included.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from funcdl.core.array import shortened
from funcdl.core.avals import Shape
from funcdl.core.integers import integer, integers
from funcdl.core.options import sequence
from funcdl.errors import ArgumentError, ShapeError
from funcdl.lax.convolution import PaddingLike, pads_of
from funcdl.lax.operands import ArrayLike
from funcdl.lax.reductions import dot_general
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.promotion import array
from funcdl.ops.dot_precision import check_precision
from funcdl.ops.shape import full, inverse_permutation, reshape, transpose
from funcdl.ops.slicing import concatenate, pad, slice_
from funcdl.ops.windows.convolution_dimensions import conv_dimension_numbers
from funcdl.ops.windows.sliding import dilated_size, find_windows, padtype_to_pads


def conv_general_dilated_patches(
    lhs: ArrayLike,
    filter_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: PaddingLike,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """What each window sees, as features (see `jax.lax.conv_general_dilated_patches`).

    Args:
      lhs: the array that windows slide over, with dimensions for batch, features and n more.
      filter_shape: n sizes of the window.
      window_strides, padding, lhs_dilation, rhs_dilation: as for `conv_general_dilated`.
      dimension_numbers: the layouts; of the second one the order of the spatial letters matters.
      precision: has no effect.
      preferred_element_type: the dtype of the result; None means that of `lhs`.

    Returns:
      An array as `conv_general_dilated` returns it, with ``features * prod(filter_shape)``
      features: for each feature of `lhs`, its window in row-major order.

    Raises:
      ShapeError, ArgumentError: the parameters do not fit the operand.
    """
    name = "conv_general_dilated_patches"
    check_precision(name, precision)
    x, window = array(name, lhs), integers("filter_shape", filter_shape)
    if x.ndim != len(window) + 2:
        raise ShapeError(
            f"{name}: filter_shape={window} requires an operand with {len(window) + 2} dimensions, "
            f"got {x.aval}"
        )
    if any(size < 1 for size in window):
        raise ArgumentError(f"{name}: filter_shape must be positive, got {window}")
    numbers = conv_dimension_numbers(x.shape, x.shape, dimension_numbers)
    x = transpose(x, permutation=numbers.lhs_spec)
    batch, features, *sizes = x.shape
    ones = (1,) * len(window)
    strides = integers("window_strides", window_strides)
    base = ones if lhs_dilation is None else integers("lhs_dilation", lhs_dilation)
    spread = ones if rhs_dilation is None else integers("rhs_dilation", rhs_dilation)
    pads = pads_of(name, sizes, window, strides, padding, base, spread)
    windows = find_windows(name, tuple(sizes), window, strides, pads, base, spread)
    config = tuple((low, high, step - 1) for (low, high), step in zip(pads, base, strict=True))
    x = pad(x, full((), 0, x.dtype), padding_config=((0, 0, 0), (0, 0, 0), *config))
    shape = (batch, features, 1, *windows.counts)
    if math.prod(windows.counts):
        parts = [
            reshape(_element(x, offset, windows.counts, strides, spread), new_sizes=shape)
            for offset in itertools.product(*map(range, window))
        ]
        out = concatenate(*parts, dimension=2) if len(parts) > 1 else parts[0]
    else:
        out = full((batch, features, math.prod(window), *windows.counts), 0, x.dtype)
    out = reshape(out, new_sizes=(batch, features * math.prod(window), *windows.counts))
    out = transpose(out, permutation=inverse_permutation(numbers.out_spec))
    return out if preferred_element_type is None else out.astype(canonical(preferred_element_type))


def _element(
    x: Any, offset: Sequence[int], counts: Shape, strides: Sequence[int], spread: Sequence[int]
) -> Any:
    """The element at one place of every window."""
    starts = tuple(k * step for k, step in zip(offset, spread, strict=True))
    reach = (
        start + dilated_size(count, stride)
        for start, count, stride in zip(starts, counts, strides, strict=True)
    )
    return slice_(
        x,
        start_indices=(0, 0, *starts),
        limit_indices=(*x.shape[:2], *reach),
        strides=(1, 1, *strides),
    )


def conv_general_dilated_local(
    lhs: ArrayLike,
    rhs: ArrayLike,
    window_strides: Sequence[int],
    padding: PaddingLike,
    filter_shape: Sequence[int],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    precision: Any = None,
) -> Any:
    """Convolution whose kernel differs from place to place (see `jax.lax`).

    Args:
      lhs: the array that windows slide over.
      rhs: the kernels: output features, then ``features * prod(filter_shape)`` input features in
        the order of `conv_general_dilated_patches`, then the places of the output.
      window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers: as for
        `conv_general_dilated`.
      filter_shape: sizes of the window.
      precision: has no effect.

    Raises:
      ShapeError, DtypeError, ArgumentError: operands and parameters do not fit.
    """
    name = "conv_general_dilated_local"
    x, kernels = array(name, lhs), array(name, rhs)
    numbers = conv_dimension_numbers(x.shape, kernels.shape, dimension_numbers)
    patches = conv_general_dilated_patches(
        x,
        filter_shape,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        numbers,
        precision,
    )
    places, inner = numbers.out_spec[2:], numbers.rhs_spec[1]
    found = tuple(patches.shape[d] for d in (numbers.out_spec[1], *places))
    wanted = tuple(kernels.shape[d] for d in numbers.rhs_spec[1:])
    if found != wanted:
        raise ShapeError(
            f"{name}: rhs must have {found[0]} input features and the output's spatial shape "
            f"{found[1:]}, got {kernels.aval}"
        )
    out = dot_general(
        kernels,
        patches,
        (((inner,), (numbers.out_spec[1],)), (numbers.rhs_spec[2:], places)),
    )
    # Now the places come first, then output features, then the batch.
    order = (out.ndim - 1, out.ndim - 2, *range(out.ndim - 2))
    roles = transpose(out, permutation=order)
    return transpose(roles, permutation=inverse_permutation(numbers.out_spec))


def conv_shape_tuple(
    lhs_shape: Sequence[int],
    rhs_shape: Sequence[int],
    strides: Sequence[int],
    pads: PaddingLike,
    batch_group_count: int = 1,
) -> Shape:
    """The shape of a convolution in the layouts ``("NCHW", "OIHW", "NCHW")`` and alike.

    See `jax.lax.conv_shape_tuple`.

    Args:
      lhs_shape, rhs_shape: shapes of the operands.
      strides: steps from one window to the next.
      pads: named padding, or pairs.
      batch_group_count: into how many parts the batch is split.

    Raises:
      ArgumentError: there are not as many strides or pairs as spatial dimensions.
      ShapeError: the batch cannot be split, or padding removes more than there is.
    """
    lhs_shape = integers("conv_shape_tuple: lhs_shape", lhs_shape)
    rhs_shape = integers("conv_shape_tuple: rhs_shape", rhs_shape)
    strides = integers("conv_shape_tuple: strides", strides)
    batch_group_count = integer("conv_shape_tuple: batch_group_count", batch_group_count)
    sizes, window = lhs_shape[2:], rhs_shape[2:]
    if len(strides) != len(sizes) or len(window) != len(sizes):
        raise ArgumentError(
            f"conv_shape_tuple: {len(sizes)} spatial dimensions of lhs {tuple(lhs_shape)} require "
            f"as many of rhs and as many strides, got {tuple(rhs_shape)} and {tuple(strides)}"
        )
    if batch_group_count < 1 or lhs_shape[0] % batch_group_count:
        raise ShapeError(
            f"conv_shape_tuple: the batch size {lhs_shape[0]} must be a multiple of "
            f"batch_group_count={batch_group_count}"
        )
    ones = (1,) * len(sizes)
    explicit = padtype_to_pads(sizes, window, strides, pads)
    windows = find_windows(
        "conv_shape_tuple", sizes, window, integers("strides", strides), explicit, ones, ones
    )
    return (lhs_shape[0] // batch_group_count, rhs_shape[0], *windows.counts)


def conv_general_shape_tuple(
    lhs_shape: Sequence[int],
    rhs_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: PaddingLike,
    dimension_numbers: Any,
) -> Shape:
    """The shape of a convolution in any layouts; arguments as for `conv_general_dilated`.

    `lhs_shape` and `rhs_shape` are in the layouts of `dimension_numbers`. The errors are those of
    `conv_shape_tuple`. See `jax.lax.conv_general_shape_tuple`.
    """
    numbers = conv_dimension_numbers(lhs_shape, rhs_shape, dimension_numbers)
    lhs = [lhs_shape[d] for d in numbers.lhs_spec]
    rhs = [rhs_shape[d] for d in numbers.rhs_spec]
    out = conv_shape_tuple(lhs, rhs, window_strides, padding)
    return tuple(out[d] for d in inverse_permutation(numbers.out_spec))


def conv_transpose_shape_tuple(
    lhs_shape: Sequence[int],
    rhs_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: PaddingLike,
    dimension_numbers: Any,
) -> Shape:
    """The shape of the array whose convolution would have shape `lhs_shape`.

    The smallest one, where strides leave a choice; arguments as for `conv_general_shape_tuple`.

    Raises:
      ArgumentError: `window_strides` or `padding` has not one entry for each spatial dimension.

    See `jax.lax.conv_transpose_shape_tuple`.
    """
    name = "conv_transpose_shape_tuple"
    numbers = conv_dimension_numbers(lhs_shape, rhs_shape, dimension_numbers)
    lhs = [lhs_shape[d] for d in numbers.lhs_spec]
    rhs = [rhs_shape[d] for d in numbers.rhs_spec]
    sizes, window = lhs[2:], rhs[2:]
    strides = integers("window_strides", window_strides)
    if len(strides) != len(sizes):
        raise ArgumentError(
            f"{name}: window_strides must have one entry for each of {len(sizes)} spatial "
            f"dimensions, got {strides}"
        )
    if isinstance(padding, str):
        mode = padding.upper()
        if mode not in ("SAME", "VALID"):
            raise ArgumentError(
                f"{name}: padding must be 'SAME', 'VALID' or pairs, got {shortened(padding)}"
            )
        spatial = [
            size * stride + (max(width - stride, 0) if mode == "VALID" else 0)
            for size, width, stride in zip(sizes, window, strides, strict=True)
        ]
    else:
        pairs = [integers("each entry of padding", pair) for pair in sequence("padding", padding)]
        if len(pairs) != len(sizes) or any(len(pair) != 2 for pair in pairs):
            raise ArgumentError(
                f"{name}: padding must be 'SAME', 'VALID' or one pair for each of {len(sizes)} "
                f"spatial dimensions, got {shortened(padding)}"
            )
        spatial = [
            (size - 1) * stride + width - low - high
            for size, width, stride, (low, high) in zip(sizes, window, strides, pairs, strict=True)
        ]
    out = (lhs[0], rhs[0], *spatial)
    return tuple(out[d] for d in inverse_permutation(numbers.out_spec))


def reduce_window_shape_tuple(
    operand_shape: Sequence[int],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: PaddingLike,
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Shape:
    """How many windows there are along each dimension; arguments as for `reduce_window`."""
    name = "reduce_window_shape_tuple"
    sizes, window = (
        integers("operand_shape", operand_shape),
        integers("window_dimensions", window_dimensions),
    )
    strides, ones = integers("window_strides", window_strides), (1,) * len(sizes)
    base = ones if base_dilation is None else integers("base_dilation", base_dilation)
    spread = ones if window_dilation is None else integers("window_dilation", window_dilation)
    pads = pads_of(name, sizes, window, strides, padding, base, spread)
    return find_windows(name, sizes, window, strides, pads, base, spread).counts
