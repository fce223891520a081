"""Rounding to integers that stay floats, and neighbours in the set of floats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.errors import ArgumentError
from funcdl.kir import elementwise as kernel_table
from funcdl.ops import registry
from funcdl.ops.registry import Sample, random_array
from funcdl.ops.rows import NDArray, NoDerivative, NotDifferentiable, elementwise

if TYPE_CHECKING:
    from funcdl.kir.builder import KernelBuilder

floor = elementwise(
    "floor",
    np.floor,
    accepts=registry.FLOATS,
    derivative=NoDerivative(),
    c="fd_floor_{t}({0})",
    triton="tl.floor({0})",
)

ceil = elementwise(
    "ceil",
    np.ceil,
    accepts=registry.FLOATS,
    derivative=NoDerivative(),
    c="fd_ceil_{t}({0})",
    triton="tl.ceil({0})",
)


def _round_away(x: NDArray) -> NDArray:
    whole = np.trunc(x)
    step = (np.abs(x - whole) >= 0.5).astype(x.dtype)
    return np.where(np.isfinite(x), whole + np.copysign(step, x), x)


for _name, _meaning, _libdevice in (
    ("round_away", _round_away, "round"),
    ("round_even", np.rint, "rint"),
):
    kernel_table.define(
        kernel_table.ElementwiseOp(
            _name, 1, _meaning, f"fd_{_name}_{{t}}({{0}})", f"libdevice.{_libdevice}({{0}})"
        )
    )

_KERNEL_NAMES = ("round_away", "round_even")


def _check_method(x: ShapedArray, *, rounding_method: int) -> None:
    if rounding_method not in (0, 1):
        raise ArgumentError(
            f"round: rounding_method must be 0 (halves away from zero) or 1 (halves to even), got "
            f"{rounding_method!r}"
        )


def _round(x: NDArray, *, rounding_method: int) -> NDArray:
    return np.rint(x) if rounding_method else _round_away(x)


def _round_lower(
    builder: KernelBuilder, values: list[int], avals: list[ShapedArray], params: dict[str, Any]
) -> int:
    return builder.elementwise(_KERNEL_NAMES[params["rounding_method"]], *values)


def _round_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    halves = np.arange(-3, 3.5, 0.5).astype(dtype)
    for method in (0, 1):
        for x in (halves, random_array(rng, (), dtype), random_array(rng, (2, 0), dtype)):
            yield Sample((x,), {"rounding_method": method})


round_ = elementwise(
    "round",
    _round,
    accepts=registry.FLOATS,
    derivative=NoDerivative(),
    lower=_round_lower,
    check=_check_method,
    samples=_round_samples,
)

is_finite = elementwise(
    "is_finite",
    np.isfinite,
    accepts=registry.FLOATS,
    derivative=NoDerivative(),
    out="bool",
    c="fd_is_finite_{t}({0})",
    triton='tl.abs({0}) < float("inf")',
)


def _nextafter(x: NDArray, y: NDArray) -> NDArray:
    # Of equal operands C returns the second, which may be the other zero; NumPy not in float16.
    return np.where(x == y, y, np.nextafter(x, y))


def _nextafter_lower(
    builder: KernelBuilder, values: list[int], avals: list[ShapedArray], params: dict[str, Any]
) -> int:
    dtype = avals[0].dtype
    if dtype not in dtypes.HALF:
        return builder.elementwise("nextafter", *values)
    wide, whole, unsigned = (np.dtype(t) for t in (np.float32, np.int32, np.uint16))

    def const(value: float, dtype: np.dtype[Any]) -> int:
        return builder.const(value, dtype)

    # A fused kernel may not have rounded them yet.
    x, y = (builder.cast(builder.cast(value, dtype), wide) for value in values)
    zero = const(0.0, wide)
    bits = builder.cast(builder.bitcast(builder.cast(x, dtype), unsigned), whole)
    less, positive = builder.elementwise("lt", x, y), builder.elementwise("gt", x, zero)
    away = builder.elementwise("eq", less, positive)
    step = builder.select(away, const(1, whole), const(-1, whole))
    smallest = builder.select(
        builder.elementwise("lt", y, zero), const(0x8001, whole), const(1, whole)
    )
    stepped = builder.elementwise("add", bits, step)
    stepped = builder.select(builder.elementwise("eq", x, zero), smallest, stepped)
    near = builder.cast(builder.bitcast(builder.cast(stepped, unsigned), dtype), wide)
    near = builder.select(builder.elementwise("eq", x, y), y, near)
    for value in (x, y):
        near = builder.select(builder.elementwise("ne", value, value), value, near)
    return near


nextafter = elementwise(
    "nextafter",
    _nextafter,
    accepts=registry.FLOATS,
    derivative=NotDifferentiable("it steps between neighbouring floats"),
    arity=2,
    c="fd_nextafter_{t}({0}, {1})",
    triton="libdevice.nextafter({0}, {1})",
    lower=_nextafter_lower,
    native_half=True,
    cost=5,
)
