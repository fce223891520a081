"""reduce_precision: values rounded as if they were stored in a smaller floating type.

Parameters and meaning are those of the `jax.lax` primitive: a sign, `exponent_bits` and
`mantissa_bits`. Ties go to even. What is too large becomes infinite, what is too small for a normal
number of that type becomes zero; NaN stays NaN. The dtype does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.errors import ArgumentError
from funcdl.ops import registry
from funcdl.ops.lowering import compute_dtype
from funcdl.ops.registry import Sample, random_array
from funcdl.ops.rows import Linear, NDArray, elementwise

if TYPE_CHECKING:
    from funcdl.kir.builder import KernelBuilder

# Per floating type: the unsigned integer of its width, and how many bits are mantissa.
_LAYOUTS: dict[str, tuple[Any, int]] = {
    "f16": (np.uint16, 10),
    "bf16": (np.uint16, 7),
    "f32": (np.uint32, 23),
    "f64": (np.uint64, 52),
}


def _check(x: ShapedArray, *, exponent_bits: int, mantissa_bits: int) -> None:
    if exponent_bits < 1 or mantissa_bits < 0:
        raise ArgumentError(
            "reduce_precision requires exponent_bits >= 1 and mantissa_bits >= 0, got "
            f"exponent_bits={exponent_bits}, mantissa_bits={mantissa_bits}"
        )


def _rounded(
    bits: Any,
    dtype: np.dtype[Any],
    exponent_bits: int,
    mantissa_bits: int,
    apply: Callable[[str, Any, Any], Any],
    constant: Callable[[int], Any],
    select: Callable[[Any, Any, Any], Any],
) -> Any:
    """The bits of the rounded values, on whatever `apply` computes with by kernel operations."""
    unsigned, mantissa = _LAYOUTS[dtypes.short_name(dtype)]
    width = 8 * np.dtype(unsigned).itemsize
    exponent = width - 1 - mantissa
    sign = apply("and", bits, constant(1 << (width - 1)))
    magnitude = apply("xor", bits, sign)
    infinity = ((1 << exponent) - 1) << mantissa
    is_nan = apply("gt", magnitude, constant(infinity))
    out = magnitude
    drop = mantissa - mantissa_bits
    if drop > 0:
        # Half of the last kept place less one, and one more where the last kept bit is odd.
        odd = apply("and", apply("shift_right_logical", out, constant(drop)), constant(1))
        out = apply("add", out, apply("add", odd, constant((1 << (drop - 1)) - 1)))
        out = apply("and", out, constant((1 << width) - (1 << drop)))
    if exponent_bits < exponent:
        bias, small_bias = (1 << (exponent - 1)) - 1, (1 << (exponent_bits - 1)) - 1
        largest = ((bias + small_bias + 1) << mantissa) - 1
        smallest = (bias - small_bias + 1) << mantissa
        out = select(apply("gt", out, constant(largest)), constant(infinity), out)
        out = select(apply("lt", out, constant(smallest)), constant(0), out)
    return select(is_nan, bits, apply("or", out, sign))


_UFUNCS: dict[str, Any] = {
    "add": np.add,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "gt": np.greater,
    "lt": np.less,
    "shift_right_logical": np.right_shift,
}


def _numpy(x: NDArray, *, exponent_bits: int, mantissa_bits: int) -> NDArray:
    unsigned = np.dtype(_LAYOUTS[dtypes.short_name(x.dtype)][0])
    bits = np.ascontiguousarray(x).view(unsigned).reshape(x.shape)
    out = _rounded(
        bits,
        x.dtype,
        exponent_bits,
        mantissa_bits,
        lambda name, a, b: _UFUNCS[name](a, b),
        unsigned.type,
        np.where,
    )
    return np.asarray(out, unsigned).view(x.dtype)


def _lower(
    builder: KernelBuilder, values: list[int], avals: list[ShapedArray], params: dict[str, Any]
) -> int:
    dtype = avals[0].dtype
    unsigned = np.dtype(_LAYOUTS[dtypes.short_name(dtype)][0])
    out = _rounded(
        builder.bitcast(builder.cast(values[0], dtype), unsigned),
        dtype,
        params["exponent_bits"],
        params["mantissa_bits"],
        builder.elementwise,
        lambda value: builder.const(value, unsigned),
        builder.select,
    )
    return builder.cast(builder.bitcast(out, dtype), compute_dtype(dtype))


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    special = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, 65000, 65504, -1e-5, 6.2e-5, 1 + 2**-8]
    ).astype(dtype)
    for exponent_bits, mantissa_bits in ((5, 10), (8, 7), (4, 3), (11, 52), (5, 2), (2, 0)):
        params = {"exponent_bits": exponent_bits, "mantissa_bits": mantissa_bits}
        yield Sample((special,), params)
        for shape in ((), (17,), (2, 0)):
            yield Sample((random_array(rng, shape, dtype),), params)


reduce_precision: Primitive = elementwise(
    "reduce_precision",
    _numpy,
    accepts=registry.FLOATS,
    # As in JAX: taken for linear, so that derivatives are rounded as values are.
    derivative=Linear(lambda ct, x, **params: [reduce_precision(ct, **params)]),
    lower=_lower,
    native_half=True,
    cost=6,
    samples=_samples,
    check=_check,
)
