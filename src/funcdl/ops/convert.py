"""Changes of element type: convert_element_type, bitcast_convert_type, and copy.

Parameters and meanings are those of the `jax.lax` primitives of the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive, never_weak
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import DtypeError
from funcdl.kir.conversion import convert, reinterpret
from funcdl.ops import registry
from funcdl.ops.jvp_rules import linear_jvp, zero_jvp
from funcdl.ops.lowering import Pointwise, compute_dtype
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.rows import elementwise_batch

if TYPE_CHECKING:
    from funcdl.kir.builder import KernelBuilder

NDArray = np.ndarray[Any, Any]
DType = np.dtype[Any]

convert_element_type = Primitive("convert_element_type")


def _convert_impl(x: NDArray, *, new_dtype: DType, weak_type: bool) -> NDArray:
    # A view, not the operand itself, tells the caller that the memory is shared.
    return x.view() if x.dtype == new_dtype else convert(x, new_dtype)


def _convert_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, new_dtype: DType, weak_type: bool
) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    out = convert_element_type(x, new_dtype=new_dtype, weak_type=weak_type)
    if is_zero(t) or not dtypes.is_inexact(new_dtype):
        return out, Zero(out.aval.to_tangent())
    return out, convert_element_type(t, new_dtype=new_dtype, weak_type=weak_type)


def _convert_transpose(ct: Any, x: Any, *, new_dtype: DType, weak_type: bool) -> list[Any]:
    aval = x.aval
    return [convert_element_type(ct, new_dtype=aval.dtype, weak_type=aval.weak_type)]


def _convert_lower(
    builder: KernelBuilder,
    values: list[int],
    avals: list[ShapedArray],
    output: int,
    params: dict[str, Any],
) -> int:
    (value,), dtype = values, params["new_dtype"]
    if dtype in dtypes.HALF and avals[0].dtype != dtype:
        # The rounding is what was asked for, so it must not get lost in a fused kernel.
        value = builder.cast(value, dtype)
    return builder.cast(value, compute_dtype(dtype))


_EXTREMES = (0.0, -0.0, 0.5, -1.5, 2.5, 127.9, -129.0, 300.0, 1e10, -1e10, 1e20, -1e20)
_SPECIAL = (*_EXTREMES, np.inf, -np.inf, np.nan)


def _convert_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    inexact = dtypes.is_inexact(dtype)
    for new in dtypes.SUPPORTED:
        params = {"new_dtype": new, "weak_type": False}
        yield Sample((random_array(rng, (7,), dtype, -300, 300),), params)
        if inexact and dtypes.is_inexact(new):
            yield Sample((random_array(rng, (2, 3), dtype, -1, 1),), params, (0,))
        if dtypes.is_float(dtype):
            with np.errstate(all="ignore"):
                yield Sample((np.array(_SPECIAL).astype(dtype),), params)
        elif dtypes.is_integer(dtype):
            info = np.iinfo(dtype)
            yield Sample((np.array([info.min, info.max, 0, 1], dtype),), params)
    same = {"new_dtype": dtype, "weak_type": True}
    yield Sample((random_array(rng, (2, 0), dtype),), same)


convert_element_type.impl = _convert_impl
convert_element_type.shape = lambda x, *, new_dtype, weak_type: ShapedArray(x.shape, new_dtype)
convert_element_type.weak = lambda weak, *, new_dtype, weak_type: weak_type
convert_element_type.jvp = _convert_jvp
convert_element_type.transpose = _convert_transpose
convert_element_type.batch = elementwise_batch(convert_element_type)
convert_element_type.lower = Pointwise(_convert_lower, lambda: 1)
registry.add(Op(convert_element_type, registry.ALL, _convert_samples))


def cast(x: Any, dtype: np.dtype[Any]) -> Any:
    """The array in another dtype."""
    if x.dtype == dtype:
        return x
    return convert_element_type(x, new_dtype=dtype, weak_type=False)


bitcast_convert_type = Primitive("bitcast_convert_type")


def _bitcast_shape(x: ShapedArray, *, new_dtype: DType) -> ShapedArray:
    for dtype in (x.dtype, new_dtype):
        if dtypes.is_bool(dtype) or dtypes.is_complex(dtype):
            raise DtypeError(
                f"bitcast_convert_type takes integers and floats, got {x} to "
                f"{dtypes.short_name(new_dtype)}"
            )
    if x.dtype.itemsize != new_dtype.itemsize:
        raise DtypeError(
            f"bitcast_convert_type requires dtypes of one width, got {x} to "
            f"{dtypes.short_name(new_dtype)}"
        )
    return ShapedArray(x.shape, new_dtype)


def _bitcast_impl(x: NDArray, *, new_dtype: DType) -> NDArray:
    _bitcast_shape(ShapedArray(x.shape, x.dtype), new_dtype=new_dtype)
    return reinterpret(x, new_dtype)


def _bitcast_lower(
    builder: KernelBuilder,
    values: list[int],
    avals: list[ShapedArray],
    output: int,
    params: dict[str, Any],
) -> int:
    bits = builder.bitcast(builder.cast(values[0], avals[0].dtype), params["new_dtype"])
    return builder.cast(bits, compute_dtype(params["new_dtype"]))


def _bitcast_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for name in registry.REAL:
        new = dtypes.from_short_name(name)
        if new.itemsize == dtype.itemsize:
            for shape in ((), (3, 2), (0,)):
                yield Sample((random_array(rng, shape, dtype),), {"new_dtype": new})


bitcast_convert_type.impl = _bitcast_impl
bitcast_convert_type.shape = _bitcast_shape
bitcast_convert_type.weak = never_weak
bitcast_convert_type.jvp = zero_jvp(bitcast_convert_type)
bitcast_convert_type.batch = elementwise_batch(bitcast_convert_type)
bitcast_convert_type.lower = Pointwise(_bitcast_lower, lambda: 1)
registry.add(Op(bitcast_convert_type, registry.REAL, _bitcast_samples))


copy = Primitive("copy")


def _copy_lower(
    builder: KernelBuilder,
    values: list[int],
    avals: list[ShapedArray],
    output: int,
    params: dict[str, Any],
) -> int:
    return values[0]


def _copy_samples(rng: np.random.Generator, dtype: DType) -> Iterator[Sample]:
    for shape in ((), (3, 2), (0,)):
        yield Sample((random_array(rng, shape, dtype),), {}, (0,))


copy.impl = lambda x: np.array(x, order="C")
copy.shape = lambda x: ShapedArray(x.shape, x.dtype)
copy.jvp = linear_jvp(copy)
copy.transpose = lambda ct, x: [copy(ct)]
copy.batch = elementwise_batch(copy)
copy.lower = Pointwise(_copy_lower, lambda: 0)
registry.add(Op(copy, registry.ALL, _copy_samples))
