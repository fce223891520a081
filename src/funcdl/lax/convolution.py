"""Convolutions, and reductions of sliding windows (see `ops.convolution` and `ops.sliding`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.core.array import Array
from funcdl.errors import ArgumentError, ShapeError
from funcdl.lax import elementwise
from funcdl.lax.operands import ArrayLike
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.promotion import array, convert, operands
from funcdl.ops import convolution, window_reduction
from funcdl.ops.convolution_dimensions import conv_dimension_numbers
from funcdl.ops.reduction import extreme_identity
from funcdl.ops.shape import broadcast_to, rev, transpose
from funcdl.ops.sliding import dilated_size, padtype_to_pads

PaddingLike = str | Sequence[tuple[int, int]]

_TRANSPOSE_NUMBERS = {
    2: ("NC", "IO", "NC"),
    3: ("NHC", "HIO", "NHC"),
    4: ("NHWC", "HWIO", "NHWC"),
    5: ("NHWDC", "HWDIO", "NHWDC"),
}


def conv_general_dilated(
    lhs: ArrayLike,
    rhs: ArrayLike,
    window_strides: Sequence[int],
    padding: PaddingLike,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """Convolution of any rank, layout, stride and dilation, in groups or not (see `jax.lax`).

    Args:
      lhs: the array that windows slide over, with dimensions for batch, features and n more.
      rhs: the kernel, with dimensions for output features, input features and n more. It is not
        flipped.
      window_strides: n steps from one window to the next.
      padding: ``"SAME"``, ``"SAME_LOWER"``, ``"VALID"``, or n pairs: how many zeros to put before
        and after. Negative numbers cut off. Pairs only where lhs is dilated.
      lhs_dilation: n steps from one element of lhs to the next, zeros between; None means 1.
      rhs_dilation: n steps from one element of the kernel to the next; None means 1.
      dimension_numbers: the layouts: three strings such as ``("NHWC", "HWIO", "NHWC")``; None
        means that the dimensions of each array are in the order given above.
      feature_group_count: how many parts to split input and output features into, each convolved
        for itself.
      batch_group_count: as `feature_group_count`, for batch and output features.
      precision: has no effect.
      preferred_element_type: the dtype to add up in and to return.

    Raises:
      ShapeError, DtypeError, ArgumentError: operands and parameters do not fit.
    """
    x, kernel = array("conv_general_dilated", lhs), array("conv_general_dilated", rhs)
    if x.ndim != kernel.ndim:
        raise ShapeError(
            "conv_general_dilated: lhs and rhs must have equally many dimensions, got "
            f"{x.aval} and {kernel.aval}"
        )
    numbers = conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers)
    ones = (1,) * (x.ndim - 2)
    strides = _numbers(window_strides)
    lhs_dilation = ones if lhs_dilation is None else _numbers(lhs_dilation)
    rhs_dilation = ones if rhs_dilation is None else _numbers(rhs_dilation)
    sizes = [x.shape[d] for d in numbers.lhs_spec[2:]]
    window = [kernel.shape[d] for d in numbers.rhs_spec[2:]]
    if isinstance(padding, str) and lhs_dilation != ones:
        raise ArgumentError(
            f"conv_general_dilated: padding={padding!r} has no meaning with "
            f"lhs_dilation={lhs_dilation}.\nGive pairs (low, high), or use conv_transpose."
        )
    preferred = preferred_element_type
    return convolution.conv_general_dilated(
        x,
        kernel,
        window_strides=strides,
        padding=_pads(
            "conv_general_dilated", sizes, window, strides, padding, lhs_dilation, rhs_dilation
        ),
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=None,
        preferred_element_type=None if preferred is None else canonical(preferred),
    )


def _numbers(entries: Sequence[int]) -> tuple[int, ...]:
    return tuple(map(int, entries))


def _pads(
    name: str,
    sizes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    padding: PaddingLike,
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> tuple[tuple[int, int], ...]:
    """Explicit padding; named padding needs the other parameters to be right."""
    if isinstance(padding, str):
        for entries in (strides, base_dilation, window_dilation):
            if len(entries) != len(sizes) or min(entries, default=1) < 1:
                raise ArgumentError(
                    f"{name}: strides and dilations must have one positive entry for each of the "
                    f"{len(sizes)} dimensions that windows slide along, got {tuple(entries)}"
                )
        sizes = list(map(dilated_size, sizes, base_dilation))
        window = list(map(dilated_size, window, window_dilation))
    return padtype_to_pads(sizes, window, strides, padding)


def conv(
    lhs: ArrayLike,
    rhs: ArrayLike,
    window_strides: Sequence[int],
    padding: PaddingLike,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """`conv_general_dilated` without dilation, groups or another layout."""
    return conv_general_dilated(
        lhs, rhs, window_strides, padding, preferred_element_type=preferred_element_type
    )


def conv_with_general_padding(
    lhs: ArrayLike,
    rhs: ArrayLike,
    window_strides: Sequence[int],
    padding: PaddingLike,
    lhs_dilation: Sequence[int] | None,
    rhs_dilation: Sequence[int] | None,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """`conv_general_dilated` without groups or another layout."""
    return conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        preferred_element_type=preferred_element_type,
    )


def conv_transpose(
    lhs: ArrayLike,
    rhs: ArrayLike,
    strides: Sequence[int],
    padding: PaddingLike,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
    use_consistent_padding: bool = False,
) -> Any:
    """Convolution that enlarges by the strides (see `jax.lax.conv_transpose`).

    It is a convolution of lhs spread out by the strides, and with `transpose_kernel` the transpose
    of the convolution that has the same kernel, strides and named padding.

    Args:
      lhs: the array.
      rhs: the kernel.
      strides: how far to spread out each dimension of lhs.
      padding: ``"SAME"`` or ``"VALID"``, that of the convolution that this one turns around; or
        pairs, how many zeros to put around lhs after spreading it out.
      rhs_dilation: as for `conv_general_dilated`.
      dimension_numbers: as for `conv_general_dilated`, but None means features last:
        ``("NHWC", "HWIO", "NHWC")`` and alike for up to three dimensions.
      transpose_kernel: whether to flip the kernel and exchange its input and output features.
      precision: has no effect.
      preferred_element_type: the dtype to add up in and to return.
      use_consistent_padding: whether pairs too are padding of the convolution turned around.

    Raises:
      ShapeError, DtypeError, ArgumentError: operands and parameters do not fit.
    """
    x, kernel = array("conv_transpose", lhs), array("conv_transpose", rhs)
    if dimension_numbers is None:
        if x.ndim not in _TRANSPOSE_NUMBERS:
            raise ArgumentError(
                f"conv_transpose: give dimension_numbers for arrays such as {x.aval}; there are "
                "defaults for 2 to 5 dimensions"
            )
        dimension_numbers = _TRANSPOSE_NUMBERS[x.ndim]
    numbers = conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers)
    spatial = numbers.rhs_spec[2:]
    strides = _numbers(strides)
    rhs_dilation = (1,) * len(spatial) if rhs_dilation is None else _numbers(rhs_dilation)
    if len(strides) != len(spatial) or len(rhs_dilation) != len(spatial):
        raise ArgumentError(
            f"conv_transpose: strides and rhs_dilation must have {len(spatial)} entries, got "
            f"{strides} and {rhs_dilation}"
        )
    if isinstance(padding, str) or use_consistent_padding:
        window = [
            dilated_size(kernel.shape[d], s) for d, s in zip(spatial, rhs_dilation, strict=True)
        ]
        each = [padding] * len(spatial) if isinstance(padding, str) else padding
        padding = tuple(map(_transpose_padding, window, strides, each))
    if transpose_kernel:
        kernel = rev(kernel, dimensions=tuple(sorted(spatial)))
        order = list(range(kernel.ndim))
        out, inner = numbers.rhs_spec[:2]
        order[out], order[inner] = inner, out
        kernel = transpose(kernel, permutation=tuple(order))
    return conv_general_dilated(
        x,
        kernel,
        (1,) * len(spatial),
        padding,
        lhs_dilation=strides,
        rhs_dilation=rhs_dilation,
        dimension_numbers=numbers,
        preferred_element_type=preferred_element_type,
    )


def _transpose_padding(window: int, stride: int, padding: str | tuple[int, int]) -> tuple[int, int]:
    """How to pad so that the padded convolution of the same window and stride is turned around."""
    if not isinstance(padding, str):
        low, high = padding
        return window - 1 - low, window - 1 - high
    mode = padding.upper()
    if mode == "VALID":
        return window - 1, stride - 1 + max(window - stride, 0)
    if mode != "SAME":
        raise ArgumentError(
            f"conv_transpose: padding must be 'SAME', 'VALID' or pairs, got {padding!r}"
        )
    total = window + stride - 2
    low = window - 1 if stride >= window else -(-total // 2)
    return low, total - low


def reduce_window(
    operand: ArrayLike,
    init_value: ArrayLike,
    computation: Callable[..., Any],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int] | None = None,
    padding: PaddingLike = "VALID",
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Any:
    """Sums or extremes of windows that slide over all dimensions (see `jax.lax.reduce_window`).

    Args:
      operand: an array.
      init_value: the value of padding, with which each window starts: 0 for sums.
      computation: `lax.add`, `lax.max`, `lax.min` or the function of `funcdl.numpy` for it.
      window_dimensions: the size of windows along each dimension, 1 to leave it alone.
      window_strides: steps from one window to the next; None means 1.
      padding: ``"SAME"``, ``"SAME_LOWER"``, ``"VALID"``, or a pair for each dimension.
      base_dilation: steps from one element of the operand to the next; None means 1.
      window_dilation: steps from one element of a window to the next; None means 1.

    Raises:
      ArgumentError: another computation, a sum that does not start with 0, or parameters that do
        not fit the operand.
    """
    x = array("reduce_window", operand)
    ones = (1,) * x.ndim
    window = _numbers(window_dimensions)
    strides = ones if window_strides is None else _numbers(window_strides)
    base = ones if base_dilation is None else _numbers(base_dilation)
    spread = ones if window_dilation is None else _numbers(window_dilation)
    if len(window) != x.ndim:
        raise ArgumentError(
            f"reduce_window: window_dimensions must have an entry for each dimension of {x.aval}, "
            f"got {window}"
        )
    params = {
        "window_dimensions": window,
        "window_strides": strides,
        "padding": _pads("reduce_window", x.shape, window, strides, padding, base, spread),
        "base_dilation": base,
        "window_dilation": spread,
    }
    start = operands("reduce_window", [init_value])[0]
    if isinstance(start, Array):
        # At once, so that the value is known under jit as well.
        start = Array(start.value.astype(x.dtype))
    start = convert(start, x.dtype)
    if computation in (elementwise.add, fnp.add):
        if not isinstance(start, Array) or np.any(start.value != 0):
            raise ArgumentError(
                f"reduce_window: sums must start with init_value=0, got {init_value!r}.\n"
                "Add another value to the result."
            )
        return window_reduction.reduce_window_sum(x, **params)
    for functions, primitive, lowest in (
        ((elementwise.max, fnp.maximum), window_reduction.reduce_window_max, True),
        ((elementwise.min, fnp.minimum), window_reduction.reduce_window_min, False),
    ):
        if computation in functions:
            out = primitive(x, **params)
            identity = extreme_identity(x.dtype, lowest)
            if isinstance(start, Array) and np.all(start.value == identity):
                return out
            # Starting a window twice, or with padding, changes no extreme.
            return functions[0](out, broadcast_to(start, out.shape))
    raise ArgumentError(
        "reduce_window: computation must be funcdl.lax.add, max or min, got "
        f"{getattr(computation, '__name__', computation)!r}"
    )
