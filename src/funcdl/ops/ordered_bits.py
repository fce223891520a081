"""Floating-point numbers as integers in the same order, for machines that compare only these.

No program is traced with these primitives, so they have no derivatives, and are not in the
registry: compilers write updates of extremes with them, which are atomic on integers alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive, never_weak
from funcdl.ops.lowering import Pointwise

if TYPE_CHECKING:
    from funcdl.kir.builder import KernelBuilder

NDArray = np.ndarray[Any, Any]

ordered_bits = Primitive("ordered_bits")
"""Integers of the width of floats ``x``, in the order of these. -0 is less than 0; NaN is greater
than all others, or with ``nan_is_least=True`` less."""

floats_of_ordered_bits = Primitive("floats_of_ordered_bits")
"""The floats of `dtype` that `ordered_bits` gives these integers for."""


def _integer(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"int{8 * dtype.itemsize}")


def _nan(dtype: np.dtype[Any], is_least: bool) -> int:
    """The bits of a NaN of the sign that puts it at this end."""
    nan = np.copysign(np.array(np.nan, dtype), -1 if is_least else 1)
    return int(nan.view(_integer(dtype))[()])


def _reflected(bits: NDArray) -> NDArray:
    """Those of negative numbers, which grow with the magnitude, in the opposite order."""
    return np.where(bits < 0, bits ^ np.iinfo(bits.dtype).max, bits)


def _ordered(x: NDArray, *, nan_is_least: bool) -> NDArray:
    integer = _integer(x.dtype)
    nan = np.array(_nan(x.dtype, nan_is_least), integer)
    return _reflected(np.where(np.isnan(x), nan, x.view(integer)))


def _lower_reflected(builder: KernelBuilder, bits: int) -> int:
    dtype = builder.type_of(bits).dtype
    negative = builder.elementwise("lt", bits, builder.const(0, dtype))
    other = builder.elementwise("xor", bits, builder.const(int(np.iinfo(dtype).max), dtype))
    return builder.select(negative, other, bits)


def _lower_ordered(
    builder: KernelBuilder,
    values: list[int],
    avals: list[ShapedArray],
    output: int,
    params: dict[str, Any],
) -> int:
    (x,), dtype = values, avals[0].dtype
    integer = _integer(dtype)
    nan = builder.const(_nan(dtype, params["nan_is_least"]), integer)
    bits = builder.select(builder.elementwise("ne", x, x), nan, builder.bitcast(x, integer))
    return _lower_reflected(builder, bits)


def _lower_floats(
    builder: KernelBuilder,
    values: list[int],
    avals: list[ShapedArray],
    output: int,
    params: dict[str, Any],
) -> int:
    return builder.bitcast(_lower_reflected(builder, values[0]), params["dtype"])


ordered_bits.shape = lambda x, *, nan_is_least: ShapedArray(x.shape, _integer(x.dtype))
ordered_bits.impl = _ordered
ordered_bits.weak = never_weak
ordered_bits.lower = Pointwise(_lower_ordered, lambda: 6)

floats_of_ordered_bits.shape = lambda x, *, dtype: ShapedArray(x.shape, dtype)
floats_of_ordered_bits.impl = lambda x, *, dtype: _reflected(x).view(dtype)
floats_of_ordered_bits.weak = never_weak
floats_of_ordered_bits.lower = Pointwise(_lower_floats, lambda: 4)
