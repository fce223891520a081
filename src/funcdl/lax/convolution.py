"""Convolutions (see `ops.windows.convolution` and `sliding`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcdl.core.array import shortened
from funcdl.core.integers import integer, integers
from funcdl.core.options import flag
from funcdl.errors import ArgumentError, ShapeError
from funcdl.lax.operands import ArrayLike
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.promotion import array
from funcdl.ops.dot_precision import check_precision, factor_precision
from funcdl.ops.shape import rev, transpose
from funcdl.ops.windows import convolution
from funcdl.ops.windows.convolution_dimensions import conv_dimension_numbers
from funcdl.ops.windows.sliding import dilated_size, padtype_to_pads

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
        and after. Negative numbers cut off. Pairs only where lhs is dilated. Beside padding alone,
        infinite and NaN weights give NaN, or nothing where it is skipped (docs/convolution.md).
      lhs_dilation: n steps from one element of lhs to the next, zeros between; None means 1.
      rhs_dilation: n steps from one element of the kernel to the next; None means 1.
      dimension_numbers: the layouts: three strings such as ``("NHWC", "HWIO", "NHWC")``; None
        means that the dimensions of each array are in the order given above.
      feature_group_count: how many parts to split input and output features into, each convolved
        for itself.
      batch_group_count: as `feature_group_count`, for batch and output features.
      precision: as for `dot_general`; besides, ``HIGHEST`` sums every window by itself, where a CPU
        may otherwise take Winograd's algorithm for kernels of 3×3 places (docs/convolution.md).
      preferred_element_type: the dtype to add up in and to return.

    Raises:
      ShapeError, DtypeError, ArgumentError: operands and parameters do not fit.
    """
    check_precision("conv_general_dilated", precision)
    x, kernel = array("conv_general_dilated", lhs), array("conv_general_dilated", rhs)
    if x.ndim != kernel.ndim:
        raise ShapeError(
            "conv_general_dilated: lhs and rhs must have equally many dimensions, got "
            f"{x.aval} and {kernel.aval}"
        )
    numbers = conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers)
    ones = (1,) * (x.ndim - 2)
    strides = integers("window_strides", window_strides)
    lhs_dilation = ones if lhs_dilation is None else integers("lhs_dilation", lhs_dilation)
    rhs_dilation = ones if rhs_dilation is None else integers("rhs_dilation", rhs_dilation)
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
        padding=pads_of(
            "conv_general_dilated", sizes, window, strides, padding, lhs_dilation, rhs_dilation
        ),
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=numbers,
        feature_group_count=integer(
            "conv_general_dilated: feature_group_count", feature_group_count
        ),
        batch_group_count=integer("conv_general_dilated: batch_group_count", batch_group_count),
        precision=factor_precision(precision),
        preferred_element_type=None if preferred is None else canonical(preferred),
    )


def pads_of(
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
    """`conv_general_dilated` without dilation, groups or another layout (see `jax.lax.conv`).

    Shapes, dtypes, precision and errors are as there.
    """
    check_precision("conv", precision)
    return conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        precision=precision,
        preferred_element_type=preferred_element_type,
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
    """`conv_general_dilated` without groups or another layout.

    Shapes, dtypes, precision and errors are as there. See `jax.lax.conv_with_general_padding`.
    """
    check_precision("conv_with_general_padding", precision)
    return conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        precision=precision,
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
      precision: as for `conv_general_dilated`.
      preferred_element_type: the dtype to add up in and to return.
      use_consistent_padding: whether pairs too are padding of the convolution turned around.

    Raises:
      ShapeError, DtypeError, ArgumentError: operands and parameters do not fit.
    """
    use_consistent_padding = flag("conv_transpose: use_consistent_padding", use_consistent_padding)
    transpose_kernel = flag("conv_transpose: transpose_kernel", transpose_kernel)
    check_precision("conv_transpose", precision)
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
    strides = integers("strides", strides)
    rhs_dilation = (
        (1,) * len(spatial) if rhs_dilation is None else integers("rhs_dilation", rhs_dilation)
    )
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
        precision=precision,
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
            f"conv_transpose: padding must be 'SAME', 'VALID' or pairs, got {shortened(padding)}"
        )
    total = window + stride - 2
    low = window - 1 if stride >= window else -(-total // 2)
    return low, total - low
