"""Primitives that reduce whole axes: sum, product, extremes, conjunction, disjunction.

Parameters and meanings are those of the `jax.lax` primitives of the same names. The operand's dtype
is kept: half precision accumulates in float32, integers wrap around. The reduction of nothing is
the operation's identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.quiet import quietly
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.arithmetic import add, div, mul
from funcdl.ops.comparison import eq
from funcdl.ops.convert import convert_element_type
from funcdl.ops.jvp_rules import linear_jvp, zero_jvp
from funcdl.ops.lowering import Reduction, compute_dtype
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.shape import broadcast_in_dim, full, reshape, transpose
from funcdl.ops.slicing import concatenate, slice_

if TYPE_CHECKING:
    from funcdl.kir.ir import ReduceOp

NDArray = np.ndarray[Any, Any]
Axes = tuple[int, ...]

_CASES: tuple[tuple[Shape, Axes], ...] = (
    ((5,), (0,)),
    ((3, 7), (1,)),
    ((3, 7), (0,)),
    ((2, 3, 5), (0, 2)),
    ((2, 1, 3), (1,)),
    ((2, 3), (0, 1)),
    ((2, 3), ()),
    ((), ()),
    ((0, 3), (1,)),
    ((3, 0), (1,)),
)


def kept_dims(ndim: int, axes: Sequence[int]) -> tuple[int, ...]:
    """The dimensions that a reduction over `axes` leaves."""
    return tuple(d for d in range(ndim) if d not in axes)


def batched_axes(axes: Axes, dim: int) -> tuple[Axes, int]:
    """The axes of a reduction whose operand has a new dimension `dim`, and where it ends up."""
    moved = tuple(axis + (axis >= dim) for axis in axes)
    return moved, dim - sum(axis < dim for axis in moved)


@lru_cache(maxsize=4096)
def reduced_shape(
    name: str, shape: Shape, dtype: np.dtype[Any], accepts: tuple[str, ...], axes: Axes
) -> Shape:
    """The shape that a reduction leaves.

    Raises:
      ShapeError: an axis is out of range or given twice.
      DtypeError: the dtype is not in `accepts`, a tuple of short names.
    """
    ndim = len(shape)
    if any(not 0 <= axis < ndim for axis in axes) or len(set(axes)) != len(axes):
        raise ShapeError(
            f"{name}: axes={axes} must be different numbers from 0 to {ndim - 1} for an operand "
            f"{ShapedArray(shape, dtype)}"
        )
    if dtypes.short_name(dtype) not in accepts:
        raise DtypeError(
            f"{name} does not accept {ShapedArray(shape, dtype)}; it takes {', '.join(accepts)}.\n"
            "Convert the operand with astype first."
        )
    return tuple(shape[d] for d in kept_dims(ndim, axes))


def _reduction(
    name: str, op: ReduceOp, accepts: tuple[str, ...], numpy: Callable[[NDArray, Axes], NDArray]
) -> Primitive:
    """A reduction with all of its rules but the derivative."""
    primitive = Primitive(name)

    def shape(x: ShapedArray, *, axes: Axes) -> ShapedArray:
        return ShapedArray(reduced_shape(name, x.shape, x.dtype, accepts, axes), x.dtype)

    def impl(x: NDArray, *, axes: Axes) -> NDArray:
        reduced_shape(name, x.shape, x.dtype, accepts, axes)
        wide = x.astype(compute_dtype(x.dtype), copy=False)
        out: NDArray = quietly(reduced, wide, axes, x.dtype)
        return out

    def reduced(wide: NDArray, axes: Axes, dtype: np.dtype[Any]) -> NDArray:
        return numpy(wide, axes).astype(dtype, copy=False)

    def batch(
        axis_size: int, args: Sequence[Any], dims: Sequence[int], *, axes: Axes
    ) -> tuple[Any, int]:
        axes, out_dim = batched_axes(axes, dims[0])
        return primitive(args[0], axes=axes), out_dim

    primitive.shape = shape
    primitive.impl = impl
    primitive.batch = batch
    primitive.lower = Reduction(op)
    return primitive


def _broadcast_back(x: Any, shape: Shape, axes: Axes) -> Any:
    """Repeat a reduction's output along the axes that it lost."""
    return broadcast_in_dim(x, shape=shape, broadcast_dimensions=kept_dims(len(shape), axes))


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    grad = (0,) if dtypes.is_inexact(dtype) else ()
    for shape, axes in _CASES:
        yield Sample((random_array(rng, shape, dtype),), {"axes": axes}, grad)


def _sum_transpose(ct: Any, x: Any, *, axes: Axes) -> list[Any]:
    return [_broadcast_back(ct, x.aval.shape, axes)]


reduce_sum = _reduction(
    "reduce_sum", "sum", registry.NUMBERS, lambda x, axes: np.add.reduce(x, axes, x.dtype)
)
reduce_sum.jvp = linear_jvp(reduce_sum)
reduce_sum.transpose = _sum_transpose
registry.add(Op(reduce_sum, registry.NUMBERS, _samples))


def _prod_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, axes: Axes) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    out = reduce_prod(x, axes=axes)
    count = math.prod(x.shape[axis] for axis in axes)
    if is_zero(t) or count == 0:
        return out, Zero(out.aval.to_tangent())
    order = (*axes, *kept_dims(x.ndim, axes))
    rest = tuple(x.shape[d] for d in order[len(axes) :])
    x, t = (
        reshape(transpose(value, permutation=order), new_sizes=(count, *rest)) for value in (x, t)
    )
    return out, reshape(_product_tangent(x, t), new_sizes=rest)


def _product_tangent(x: Any, t: Any) -> Any:
    """The tangent of the product along axis 0, by the product rule on ever shorter halves.

    Dividing the product by each factor would be shorter, but is wrong where a factor is zero.
    """
    while x.shape[0] > 1:
        if x.shape[0] % 2:
            row = (1, *x.shape[1:])
            x = concatenate(x, full(row, 1, x.dtype), dimension=0)
            t = concatenate(t, full(row, 0, t.dtype), dimension=0)
        (x1, x2), (t1, t2) = _halves(x), _halves(t)
        x, t = mul(x1, x2), add(mul(t1, x2), mul(x1, t2))
    return t


def _halves(x: Any) -> tuple[Any, Any]:
    """The first and the second half of the rows."""
    half, rest = x.shape[0] // 2, x.shape[1:]
    zeros = (0,) * len(rest)

    def rows(start: int, limit: int) -> Any:
        return slice_(x, start_indices=(start, *zeros), limit_indices=(limit, *rest), strides=None)

    return rows(0, half), rows(half, 2 * half)


def _prod_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    yield from _samples(rng, dtype)
    grad = (0,) if dtypes.is_inexact(dtype) else ()
    for zeros in (1, 2):
        x = random_array(rng, (5,), dtype)
        x[1 : 1 + zeros] = 0
        yield Sample((x,), {"axes": (0,)}, grad)


reduce_prod = _reduction(
    "reduce_prod", "prod", registry.NUMBERS, lambda x, axes: np.multiply.reduce(x, axes, x.dtype)
)
reduce_prod.jvp = _prod_jvp
registry.add(Op(reduce_prod, registry.NUMBERS, _prod_samples))


def _extreme(name: str, op: ReduceOp, ufunc: np.ufunc, lowest: bool) -> Primitive:
    def numpy(x: NDArray, axes: Axes) -> NDArray:
        if x.size:
            out: NDArray = ufunc.reduce(x, axes)
        else:
            out = ufunc.reduce(x, axes, initial=extreme_identity(x.dtype, lowest))
        return out

    # Complex numbers are ordered by their real parts, then by the imaginary ones.
    primitive = _reduction(name, op, registry.ALL, numpy)
    primitive.jvp = _extreme_jvp(primitive)
    registry.add(Op(primitive, registry.ALL, _extreme_samples))
    return primitive


def extreme_identity(dtype: np.dtype[Any], lowest: bool) -> Any:
    """The value below all others of a dtype (`lowest`), or above all others."""
    if dtypes.is_bool(dtype):
        return np.bool_(not lowest)
    if dtypes.is_integer(dtype):
        info = np.iinfo(dtype)
        return dtype.type(info.min if lowest else info.max)
    return dtype.type(-math.inf if lowest else math.inf)


def _extreme_jvp(primitive: Primitive) -> Callable[..., tuple[Any, Any]]:
    """Elements that share the extreme share its derivative equally, as in JAX."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], *, axes: Axes) -> tuple[Any, Any]:
        (x,), (t,) = primals, tangents
        out = primitive(x, axes=axes)
        if is_zero(t):
            return out, Zero(out.aval.to_tangent())
        chosen = eq(x, _broadcast_back(out, x.shape, axes))
        chosen = convert_element_type(chosen, new_dtype=t.dtype, weak_type=False)
        count = reduce_sum(chosen, axes=axes)
        return out, div(reduce_sum(mul(t, chosen), axes=axes), count)

    return jvp


def _extreme_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    grad = (0,) if dtypes.is_inexact(dtype) else ()
    for shape, axes in _CASES:
        x = random_array(rng, shape, dtype)
        if grad:
            # Far apart, so that a finite difference changes no winner even in half precision.
            x = (rng.permutation(x.size).reshape(shape) / 4 - 2).astype(dtype)
        yield Sample((x,), {"axes": axes}, grad if all(shape[axis] for axis in axes) else ())


reduce_max = _extreme("reduce_max", "max", np.maximum, lowest=True)
reduce_min = _extreme("reduce_min", "min", np.minimum, lowest=False)


def _bitwise(name: str, op: ReduceOp, ufunc: np.ufunc) -> Primitive:
    accepts = registry.BOOL + registry.INTS
    primitive = _reduction(name, op, accepts, lambda x, axes: ufunc.reduce(x, axes))
    primitive.jvp = zero_jvp(primitive)
    registry.add(Op(primitive, accepts, _samples))
    return primitive


reduce_and = _bitwise("reduce_and", "and", np.bitwise_and)
reduce_or = _bitwise("reduce_or", "or", np.bitwise_or)
