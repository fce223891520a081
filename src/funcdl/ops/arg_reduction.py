"""Primitives that find where an extreme is: argmax, argmin, as in `jax.lax`.

The first of equal elements wins, and NaN wins over all numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.primitive import Primitive, never_weak
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.jvp_rules import zero_jvp
from funcdl.ops.lowering import Reduction, compute_dtype
from funcdl.ops.reduction import Axes, batched_axes, reduced_shape
from funcdl.ops.registry import Op, Sample, random_array

if TYPE_CHECKING:
    from funcdl.kir.ir import ReduceOp

NDArray = np.ndarray[Any, Any]

_ACCEPTS = registry.BOOL + registry.REAL


def _check(
    name: str, shape: Shape, dtype: np.dtype[Any], axes: Axes, index_dtype: np.dtype[Any]
) -> Shape:
    out = reduced_shape(name, shape, dtype, _ACCEPTS, axes)
    if len(axes) != 1:
        raise ArgumentError(f"{name}: axes must hold one axis, got {axes}; reshape to join several")
    if shape[axes[0]] == 0:
        raise ShapeError(
            f"{name}: axis {axes[0]} of shape {shape} is empty, so nothing can be found"
        )
    if not dtypes.is_integer(index_dtype):
        raise DtypeError(f"{name}: index_dtype must be an integer type, got {index_dtype.name}")
    return out


def _arg_reduction(name: ReduceOp, find: Callable[..., NDArray]) -> Primitive:
    primitive = Primitive(name)

    def shape(x: ShapedArray, *, axes: Axes, index_dtype: np.dtype[Any]) -> ShapedArray:
        return ShapedArray(_check(name, x.shape, x.dtype, axes, index_dtype), index_dtype)

    def impl(x: NDArray, *, axes: Axes, index_dtype: np.dtype[Any]) -> NDArray:
        _check(name, x.shape, x.dtype, axes, index_dtype)
        wide = x.astype(compute_dtype(x.dtype), copy=False)
        return find(wide, axis=axes[0]).astype(index_dtype)

    def batch(
        axis_size: int,
        args: Sequence[Any],
        dims: Sequence[int],
        *,
        axes: Axes,
        index_dtype: np.dtype[Any],
    ) -> tuple[Any, int]:
        axes, out_dim = batched_axes(axes, dims[0])
        return primitive(args[0], axes=axes, index_dtype=index_dtype), out_dim

    primitive.shape = shape
    primitive.impl = impl
    primitive.weak = never_weak
    primitive.jvp = zero_jvp(primitive)
    primitive.batch = batch
    primitive.lower = Reduction(name)
    registry.add(Op(primitive, _ACCEPTS, _samples))
    return primitive


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape, axis, index_dtype in [
        ((5,), 0, np.int32),
        ((3, 7), 1, np.int64),
        ((3, 7), 0, np.int32),
        ((2, 3, 5), 1, np.uint8),
        ((1, 3), 0, np.int32),
        ((0, 3), 1, np.int32),
    ]:
        params = {"axes": (axis,), "index_dtype": np.dtype(index_dtype)}
        yield Sample((random_array(rng, shape, dtype),), params)
        if dtypes.is_float(dtype) and shape[0] > 1:
            x = random_array(rng, shape, dtype)
            x[rng.random(shape) < 0.3] = np.nan
            yield Sample((x,), params)


argmax = _arg_reduction("argmax", np.argmax)
argmin = _arg_reduction("argmin", np.argmin)
