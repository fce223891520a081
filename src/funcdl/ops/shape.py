"""Primitives that rearrange elements: reshape, transpose, broadcast_in_dim, rev, iota.

Parameters and meanings are those of the `jax.lax` functions of the same names.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array, shortened
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.primitive import Primitive, never_weak
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import LeafTypeError, ShapeError
from funcdl.kir import index as kindex
from funcdl.ops import registry
from funcdl.ops.jvp_rules import linear_jvp
from funcdl.ops.lowering import Position, Reader, View, compute_dtype
from funcdl.ops.registry import Op, Sample, random_array

NDArray = np.ndarray[Any, Any]


def move_to_front(x: Any, dim: int | None) -> Any:
    """Transpose so that dimension `dim` comes first."""
    if dim in (None, 0):
        return x
    order = (dim, *(i for i in range(x.ndim) if i != dim))
    return transpose(x, permutation=order)


def normalize_axis(axis: int, ndim: int, what: str = "axis") -> int:
    """A non-negative axis number; raises `ShapeError` when out of range."""
    if not -ndim <= axis < ndim:
        raise ShapeError(f"{what} {axis} is out of range for an array of {ndim} dimensions")
    return axis % ndim


reshape = Primitive("reshape")


def _reshape_shape(x: ShapedArray, *, new_sizes: Shape) -> ShapedArray:
    if math.prod(new_sizes) != x.size:
        raise ShapeError(
            f"reshape: cannot make shape {new_sizes} ({math.prod(new_sizes)} elements) of "
            f"{x} ({x.size} elements)"
        )
    return ShapedArray(tuple(new_sizes), x.dtype)


def _reshape_batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int | None], *, new_sizes: Shape
) -> tuple[Any, int]:
    x = move_to_front(args[0], dims[0])
    return reshape(x, new_sizes=(axis_size, *new_sizes)), 0


def flat_index(index: Position, shape: Shape) -> kindex.Index:
    """The row-major element number of a position in an array of this shape."""
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    return kindex.combine(list(zip(index, strides, strict=True)))


def position_in(flat: kindex.Index, shape: Shape) -> Position:
    """The position of a row-major element number in an array of this shape."""
    position = []
    for i, size in enumerate(shape):
        stride = math.prod(shape[i + 1 :])
        place = flat // stride if stride else flat
        position.append(place % size if i and size else place)
    return tuple(position)


def _reshape_lower(reader: Reader, index: Position, params: dict[str, Any]) -> int:
    flat = flat_index(index, params["new_sizes"])
    return reader.read(0, position_in(flat, reader.aval(0).shape))


reshape.impl = lambda x, *, new_sizes: x.reshape(new_sizes)
reshape.shape = _reshape_shape
reshape.jvp = linear_jvp(reshape)
reshape.transpose = lambda ct, x, *, new_sizes: [reshape(ct, new_sizes=x.aval.shape)]
reshape.batch = _reshape_batch
reshape.lower = View(_reshape_lower, alias=True)


def _reshape_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for old, new in [((6,), (2, 3)), ((2, 3, 4), (4, 6)), ((1,), ()), ((0, 3), (3, 0)), ((), (1,))]:
        yield Sample((random_array(rng, old, dtype),), {"new_sizes": new}, (0,))


registry.add(Op(reshape, registry.ALL, _reshape_samples))


transpose = Primitive("transpose")


def _transpose_shape(x: ShapedArray, *, permutation: tuple[int, ...]) -> ShapedArray:
    if sorted(permutation) != list(range(x.ndim)):
        raise ShapeError(f"transpose: permutation {permutation} does not fit {x}")
    return ShapedArray(tuple(x.shape[i] for i in permutation), x.dtype)


def inverse_permutation(permutation: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes another."""
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))


def _transpose_batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int], *, permutation: tuple[int, ...]
) -> tuple[Any, int]:
    ((x,), (dim,)) = args, dims
    order = (dim, *(i + (i >= dim) for i in permutation))
    return transpose(x, permutation=order), 0


def _transpose_lower(reader: Reader, index: Position, params: dict[str, Any]) -> int:
    inverse = inverse_permutation(params["permutation"])
    return reader.read(0, tuple(index[i] for i in inverse))


transpose.impl = lambda x, *, permutation: x.transpose(permutation)
transpose.shape = _transpose_shape
transpose.jvp = linear_jvp(transpose)
transpose.transpose = lambda ct, x, *, permutation: [
    transpose(ct, permutation=inverse_permutation(permutation))
]
transpose.batch = _transpose_batch
transpose.lower = View(_transpose_lower)


def _transpose_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape, order in [((2, 3), (1, 0)), ((2, 3, 5), (2, 0, 1)), ((), ()), ((3, 0), (1, 0))]:
        yield Sample((random_array(rng, shape, dtype),), {"permutation": order}, (0,))


registry.add(Op(transpose, registry.ALL, _transpose_samples))


broadcast_in_dim = Primitive("broadcast_in_dim")


def _broadcast_shape(
    x: ShapedArray, *, shape: Shape, broadcast_dimensions: tuple[int, ...]
) -> ShapedArray:
    # A loop, since programs have more broadcasts than anything else.
    ndim, last = len(shape), -1
    fits = len(broadcast_dimensions) == len(x.shape)
    for size, d in zip(x.shape, broadcast_dimensions, strict=False):
        fits = fits and last < d < ndim and size in (1, shape[d])
        last = d
    if not fits:
        raise ShapeError(
            f"broadcast_in_dim: cannot broadcast {x} to shape {shape} with "
            f"broadcast_dimensions={broadcast_dimensions}"
        )
    return ShapedArray(tuple(shape), x.dtype)


def _broadcast_impl(x: NDArray, *, shape: Shape, broadcast_dimensions: tuple[int, ...]) -> NDArray:
    """A view with strides of 0, far cheaper than `np.broadcast_to` for small arrays."""
    if x.size == 0 or 0 in shape:
        return np.empty(shape, x.dtype)
    if not x.flags.c_contiguous:
        x = np.ascontiguousarray(x)
    strides = [0] * len(shape)
    for i, d in enumerate(broadcast_dimensions):
        if x.shape[i] == shape[d]:
            strides[d] = x.strides[i]
    return np.ndarray(shape, x.dtype, x, 0, strides)


def _broadcast_transpose(
    ct: Any, x: Any, *, shape: Shape, broadcast_dimensions: tuple[int, ...]
) -> list[Any]:
    from funcdl.ops.reduction import reduce_sum

    added = [d for d in range(len(shape)) if d not in broadcast_dimensions]
    stretched = [
        d for i, d in enumerate(broadcast_dimensions) if x.aval.shape[i] == 1 and shape[d] != 1
    ]
    axes = tuple(sorted(added + stretched))
    if axes:
        ct = reduce_sum(ct, axes=axes)
    return [ct if ct.shape == x.aval.shape else reshape(ct, new_sizes=x.aval.shape)]


def _broadcast_batch(
    axis_size: int,
    args: Sequence[Any],
    dims: Sequence[int],
    *,
    shape: Shape,
    broadcast_dimensions: tuple[int, ...],
) -> tuple[Any, int]:
    x = move_to_front(args[0], dims[0])
    dimensions = (0, *(d + 1 for d in broadcast_dimensions))
    return broadcast_in_dim(x, shape=(axis_size, *shape), broadcast_dimensions=dimensions), 0


def _broadcast_lower(reader: Reader, index: Position, params: dict[str, Any]) -> int:
    sizes = reader.aval(0).shape
    dimensions = params["broadcast_dimensions"]
    return reader.read(
        0,
        tuple(
            kindex.constant(0) if size == 1 else index[d]
            for size, d in zip(sizes, dimensions, strict=True)
        ),
    )


broadcast_in_dim.shape = _broadcast_shape
broadcast_in_dim.impl = _broadcast_impl
broadcast_in_dim.jvp = linear_jvp(broadcast_in_dim)
broadcast_in_dim.transpose = _broadcast_transpose
broadcast_in_dim.batch = _broadcast_batch
broadcast_in_dim.lower = View(_broadcast_lower)


def _broadcast_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for old, new, dimensions in [
        ((), (2, 3), ()),
        ((3,), (2, 3), (1,)),
        ((2,), (2, 3), (0,)),
        ((2, 1), (2, 3), (0, 1)),
        ((1, 3), (4, 2, 3), (1, 2)),
        ((3,), (0, 3), (1,)),
    ]:
        params = {"shape": new, "broadcast_dimensions": dimensions}
        yield Sample((random_array(rng, old, dtype),), params, (0,))


registry.add(Op(broadcast_in_dim, registry.ALL, _broadcast_samples))


def broadcast_to(x: Any, shape: Shape) -> Any:
    """Broadcast by NumPy's rule: trailing dimensions align, size 1 stretches."""
    if x.shape == shape:
        return x
    offset = len(shape) - len(x.shape)
    if offset < 0:
        raise ShapeError(f"cannot broadcast {x.aval} to shape {shape}")
    dimensions = tuple(range(offset, len(shape)))
    return broadcast_in_dim(x, shape=tuple(shape), broadcast_dimensions=dimensions)


def reshape_to(x: Any, shape: Shape) -> Any:
    """The array in another shape of as many elements."""
    return x if x.shape == shape else reshape(x, new_sizes=shape)


def full(shape: Shape, value: Any, dtype: np.dtype[Any]) -> Any:
    """An array filled with one scalar."""
    return broadcast_to(Array(np.array(value, dtype)), tuple(shape))


def full_like(x: Any, value: Any) -> Any:
    """An array of `x`'s shape and dtype filled with one scalar; weakly typed if `x` is."""
    aval = x.aval
    scalar = Array(scalar_of(value, aval.dtype), aval.weak_type)
    if not aval.shape:
        return scalar
    return broadcast_in_dim.bind(scalar, shape=aval.shape, broadcast_dimensions=())


def scalar_of(value: Any, dtype: np.dtype[Any]) -> NDArray:
    """A number as a NumPy array of this dtype.

    Raises:
      LeafTypeError: it is no number, or a complex one for a real dtype.
      IntegerRangeError: a Python int does not fit.
    """
    try:
        return np.array(value, dtype)
    except OverflowError:
        if isinstance(value, int):
            dtypes.check_python_int(value, dtype)
        raise
    except (TypeError, ValueError):
        from funcdl.called import given_as

        raise LeafTypeError(
            f"expected a number that can be of dtype {dtype.name}, got "
            f"{type(value).__name__}{given_as(value, sys._getframe())}: {shortened(value)}"
        ) from None


def zeros(aval: ShapedArray) -> Any:
    """The array of zeros of this type (an empty one for float0)."""
    if aval.dtype == dtypes.float0:
        return Array(np.zeros(aval.shape, dtypes.float0))
    zero = Array(np.zeros((), aval.dtype), aval.weak_type)
    return broadcast_to(zero, aval.shape)


def instantiate(x: Any) -> Any:
    """Turn a symbolic zero into an array; other values pass."""
    return zeros(x.aval) if is_zero(x) else x


rev = Primitive("rev")


def _rev_shape(x: ShapedArray, *, dimensions: tuple[int, ...]) -> ShapedArray:
    if any(not 0 <= d < x.ndim for d in dimensions) or len(set(dimensions)) != len(dimensions):
        raise ShapeError(f"rev: dimensions {dimensions} do not fit {x}")
    return ShapedArray(x.shape, x.dtype)


def _rev_batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int], *, dimensions: tuple[int, ...]
) -> tuple[Any, int]:
    x = move_to_front(args[0], dims[0])
    return rev(x, dimensions=tuple(d + 1 for d in dimensions)), 0


def _rev_lower(reader: Reader, index: Position, params: dict[str, Any]) -> int:
    sizes = reader.aval(0).shape
    return reader.read(
        0,
        tuple(
            kindex.constant(size - 1) - i if d in params["dimensions"] else i
            for d, (i, size) in enumerate(zip(index, sizes, strict=True))
        ),
    )


rev.shape = _rev_shape
rev.impl = lambda x, *, dimensions: np.flip(x, dimensions)
rev.jvp = linear_jvp(rev)
rev.transpose = lambda ct, x, *, dimensions: [rev(ct, dimensions=dimensions)]
rev.batch = _rev_batch
rev.lower = View(_rev_lower)


def _rev_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape, dimensions in [((4,), (0,)), ((2, 3), (1,)), ((2, 3), (0, 1)), ((0, 2), (0,))]:
        yield Sample((random_array(rng, shape, dtype),), {"dimensions": dimensions}, (0,))


registry.add(Op(rev, registry.ALL, _rev_samples))


iota = Primitive("iota")


def _iota_shape(*, dtype: np.dtype[Any], shape: Shape, dimension: int) -> ShapedArray:
    if not 0 <= dimension < len(shape):
        raise ShapeError(f"iota: dimension {dimension} does not fit shape {shape}")
    return ShapedArray(tuple(shape), dtype)


def _iota_impl(*, dtype: np.dtype[Any], shape: Shape, dimension: int) -> NDArray:
    sizes = [1] * len(shape)
    sizes[dimension] = shape[dimension]
    places = np.arange(shape[dimension]).astype(dtype)
    return places if len(shape) == 1 else np.broadcast_to(places.reshape(sizes), shape)


def _iota_lower(reader: Reader, index: Position, params: dict[str, Any]) -> int:
    builder = reader.builder
    place = builder.index_value(index[params["dimension"]])
    return builder.cast(place, compute_dtype(params["dtype"]))


iota.shape = _iota_shape
iota.impl = _iota_impl
iota.weak = never_weak
iota.jvp = lambda primals, tangents, **params: (
    iota(**params),
    Zero(_iota_shape(**params).to_tangent()),
)
iota.lower = View(_iota_lower)


def _iota_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape, dimension in [((5,), 0), ((2, 3), 1), ((2, 3), 0), ((0,), 0)]:
        yield Sample((), {"dtype": dtype, "shape": shape, "dimension": dimension})


registry.add(
    Op(iota, registry.REAL, _iota_samples, {"vmap": "has no operands", "jvp": "has no operands"})
)
