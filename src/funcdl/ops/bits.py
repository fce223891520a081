"""Logic and bit manipulation of bools and integers.

Meanings are those of the `jax.lax` functions: shifting by the width or more, or by a negative
amount, gives 0, or copies of the sign bit for the arithmetic shift.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.ops import registry
from funcdl.ops.rows import NDArray, NoDerivative, Template, by_kind, elementwise

if TYPE_CHECKING:
    from funcdl.kir.builder import KernelBuilder

_BOOL_OR_INT = registry.BOOL + registry.INTS


def _bitwise(name: str, ufunc: Any, symbol: str) -> Primitive:
    expression = f"{{0}} {symbol} {{1}}"
    return elementwise(
        name,
        ufunc,
        accepts=_BOOL_OR_INT,
        derivative=NoDerivative(),
        arity=2,
        c=expression,
        triton=expression,
    )


and_ = _bitwise("and", np.bitwise_and, "&")
or_ = _bitwise("or", np.bitwise_or, "|")
xor = _bitwise("xor", np.bitwise_xor, "^")

not_ = elementwise(
    "not",
    np.invert,
    accepts=_BOOL_OR_INT,
    derivative=NoDerivative(),
    c=by_kind(b="!{0}", iu="~{0}"),
    triton="~{0}",
)


def _unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{dtype.itemsize}")


def _signed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"i{dtype.itemsize}")


def _shift_right_logical(x: NDArray, y: NDArray) -> NDArray:
    unsigned = _unsigned(x.dtype)
    return np.asarray(x.view(unsigned) >> y.view(unsigned)).view(x.dtype)


def _shift_right_arithmetic(x: NDArray, y: NDArray) -> NDArray:
    signed = _signed(x.dtype)
    return np.asarray(x.view(signed) >> y.view(signed)).view(x.dtype)


_SHIFT_DOMAIN = ((-100.0, 100.0), (0.0, 9.0))


def _shift(name: str, meaning: Any, triton: Template) -> Primitive:
    return elementwise(
        name,
        meaning,
        accepts=registry.INTS,
        derivative=NoDerivative(),
        arity=2,
        c=f"fd_{name}_{{t}}({{0}}, {{1}})",
        triton=triton,
        domain=_SHIFT_DOMAIN,
    )


# Triton's shifts are undefined outside of this range.
_INSIDE = "({1} >= 0) & ({1} < {bits})"

shift_left = _shift(
    "shift_left",
    np.left_shift,
    by_kind(iu=f"tl.where({_INSIDE}, {{0}} << {{1}}, 0)"),
)

shift_right_logical = _shift(
    "shift_right_logical",
    _shift_right_logical,
    by_kind(
        i=f"tl.where({_INSIDE}, ({{0}}.to(tl.uint{{bits}}, bitcast=True) >> "
        "{1}.to(tl.uint{bits}, bitcast=True)).to(tl.int{bits}, bitcast=True), 0)",
        u="tl.where({1} < {bits}, {0} >> {1}, 0)",
    ),
)


def _lower_arithmetic_shift(
    builder: KernelBuilder, values: list[int], avals: list[ShapedArray], params: dict[str, Any]
) -> int:
    dtype = avals[0].dtype
    x, y = (builder.bitcast(value, _signed(dtype)) for value in values)
    return builder.bitcast(builder.elementwise("shift_right_arithmetic", x, y), dtype)


# The sign bit is the highest one for unsigned integers, too.
shift_right_arithmetic = elementwise(
    "shift_right_arithmetic",
    _shift_right_arithmetic,
    accepts=registry.INTS,
    derivative=NoDerivative(),
    arity=2,
    c="fd_shift_right_arithmetic_{t}({0}, {1})",
    triton=by_kind(i=f"{{0}} >> tl.where({_INSIDE}, {{1}}, {{bits}} - 1)"),
    lower=_lower_arithmetic_shift,
    domain=_SHIFT_DOMAIN,
)


def _wide(x: NDArray) -> NDArray:
    """The bits as uint64, zeros in front."""
    return x.view(_unsigned(x.dtype)).astype(np.uint64)


def _count_bits(x: NDArray) -> NDArray:
    """Sums of ever wider neighbouring fields (H. S. Warren, "Hacker's Delight", 5-1)."""
    bits = _wide(x)
    for shift, mask in ((1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F)):
        field = np.uint64(mask)
        bits = (bits & field) + ((bits >> np.uint64(shift)) & field)
    return ((bits * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(x.dtype)


def _leading_zeros(x: NDArray) -> NDArray:
    bits = _wide(x)
    for shift in (1, 2, 4, 8, 16, 32):
        bits = bits | (bits >> np.uint64(shift))
    used = _count_bits(bits).astype(np.int64)
    return np.asarray(8 * x.dtype.itemsize - used, x.dtype)


def _count(name: str, meaning: Any, triton: str) -> Primitive:
    return elementwise(
        name,
        meaning,
        accepts=registry.INTS,
        derivative=NoDerivative(),
        c=f"fd_{name}_{{t}}({{0}})",
        triton=by_kind(iu=triton),
        domain=(-100.0, 100.0),
    )


_TRITON_WIDE = "{0}.to(tl.uint{bits}, bitcast=True).to(tl.int64)"

population_count = _count(
    "population_count", _count_bits, f"libdevice.popc({_TRITON_WIDE}).to({{0}}.dtype)"
)
clz = _count(
    "clz", _leading_zeros, f"(libdevice.clz({_TRITON_WIDE}) - (64 - {{bits}})).to({{0}}.dtype)"
)
