"""Primitives that put elements in order: sort, top_k.

Parameters and meanings are those of the `jax.lax` primitives of the same names. NaN comes after all
other values, zeros of both signs are equal, complex numbers are ordered by real, then imaginary
part. The tangent is permuted as the values are. The compiler writes both with positions in order
(`order`) and a gather.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.integers import integer
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.gather import gather
from funcdl.ops.indexed_windows import GatherDimensionNumbers, GatherScatterMode
from funcdl.ops.lowering import Ordering, Rewritten, compute_dtype
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.rows import broadcast_batch
from funcdl.ops.shape import full, iota, move_to_front, reshape

NDArray = np.ndarray[Any, Any]


def take_along(x: Any, index: Any, axis: int) -> Any:
    """The elements of `x` at the positions `index` along `axis`, one for each element of `index`.

    As `numpy.take_along_axis` without broadcasting; positions must be inside.
    """
    if 0 in index.shape:
        return full(index.shape, 0, x.dtype)
    return gather(x, reshape(index, new_sizes=(*index.shape, 1)), **take_params(x.ndim, axis))


def take_params(ndim: int, axis: int) -> dict[str, Any]:
    """The parameters of the gather in `take_along`."""
    others = tuple(d for d in range(ndim) if d != axis)
    return {
        "dimension_numbers": GatherDimensionNumbers((), (axis,), (axis,), others, others),
        "slice_sizes": (1,) * ndim,
        "indices_are_sorted": False,
        "unique_indices": False,
        "mode": GatherScatterMode.PROMISE_IN_BOUNDS,
        "fill_value": None,
    }


def _order(keys: Sequence[NDArray], axis: int) -> NDArray:
    """The permutation along `axis` that puts the first key, then the second, in stable order."""
    wide = [key.astype(compute_dtype(key.dtype), copy=False) for key in keys]
    if len(wide) == 1:
        return np.argsort(wide[0], axis=axis, kind="stable")
    return np.lexsort(wide[::-1], axis=axis)


def _reverse_order(keys: Sequence[NDArray], axis: int) -> NDArray:
    """The same with the largest element first; of equal ones the first still comes first."""
    found = _order([np.flip(key, axis) for key in keys], axis)
    return np.flip(keys[0].shape[axis] - 1 - found, axis)


sort = Primitive("sort", multiple_results=True)


def _check_sort(xs: Sequence[Any], dimension: int, num_keys: int) -> None:
    """Check operands, arrays or avals."""
    if not 1 <= integer("num_keys", num_keys) <= len(xs):
        raise ArgumentError(
            f"sort: num_keys must be from 1 to {len(xs)}, the number of operands, got {num_keys}"
        )
    shapes = [x.shape for x in xs]
    if any(shape != shapes[0] for shape in shapes):
        raise ShapeError(f"sort requires operands of equal shape, got {shapes}")
    ndim = len(shapes[0])
    if not 0 <= dimension < ndim:
        raise ShapeError(
            f"sort: dimension must be from 0 to {ndim - 1} for operands of shape {shapes[0]}, got "
            f"{dimension}"
        )


def _sort_shape(
    *xs: ShapedArray, dimension: int, is_stable: bool, num_keys: int
) -> list[ShapedArray]:
    _check_sort(xs, dimension, num_keys)
    return [ShapedArray(x.shape, x.dtype) for x in xs]


def _sort_impl(*xs: NDArray, dimension: int, is_stable: bool, num_keys: int) -> list[NDArray]:
    _check_sort(xs, dimension, num_keys)
    order = _order(xs[:num_keys], dimension)
    return [np.take_along_axis(x, order, dimension) for x in xs]


def _sort_jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    dimension: int,
    is_stable: bool,
    num_keys: int,
) -> tuple[list[Any], list[Any]]:
    params = {"dimension": dimension, "is_stable": is_stable, "num_keys": num_keys}
    if all(map(is_zero, tangents)):
        outs = sort(*primals, **params)
        return outs, [Zero(out.aval.to_tangent()) for out in outs]
    shape = primals[0].shape
    places = iota(dtype=dtypes.index_dtype(shape[dimension]), shape=shape, dimension=dimension)
    *outs, order = sort(*primals, places, **params)
    return outs, [
        Zero(out.aval.to_tangent()) if is_zero(t) else take_along(t, order, dimension)
        for out, t in zip(outs, tangents, strict=True)
    ]


def _sort_batch(
    axis_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    dimension: int,
    **params: Any,
) -> tuple[list[Any], list[int]]:
    args = [
        broadcast_batch(x, axis_size) if dim is None else move_to_front(x, dim)
        for x, dim in zip(args, dims, strict=True)
    ]
    return sort(*args, dimension=dimension + 1, **params), [0] * len(args)


# What the compiler writes both primitives with. No program is traced with it, so it has no rules,
# and is not in the registry. Where `first` is not 0, only the first so many positions are right.
order = Primitive("order")


def _order_impl(*keys: NDArray, dimension: int, descending: bool, first: int = 0) -> NDArray:
    found = _reverse_order(keys, dimension) if descending else _order(keys, dimension)
    return found.astype(np.int32)


order.shape = lambda *keys, **params: ShapedArray(keys[0].shape, np.dtype(np.int32))
order.impl = _order_impl
order.weak = lambda weak, **params: False
order.lower = Ordering()


# The same along the last dimension, for rows that are too long for one piece: a back end that has
# functions for these puts it in the place of `order`.
order_rows = Primitive("order_rows")


def _order_rows_impl(*keys: NDArray, descending: bool) -> NDArray:
    return _order_impl(*keys, dimension=-1, descending=descending)


order_rows.shape = lambda *keys, descending: ShapedArray(keys[0].shape, np.dtype(np.int32))
order_rows.impl = _order_rows_impl
order_rows.weak = lambda weak, **params: False


def argsort(x: Any, dimension: int) -> Any:
    """The stable permutation along `dimension` that sorts `x`, as 32-bit integers.

    64-bit ones where the dimension is too long for 32.
    """
    places = iota(dtype=dtypes.index_dtype(x.shape[dimension]), shape=x.shape, dimension=dimension)
    return sort(x, places, dimension=dimension, is_stable=True, num_keys=1)[1]


def _shuffled(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray:
    """Test data: where it can be differentiated, no two elements are close to each other."""
    size = int(np.prod(shape))
    if not dtypes.is_inexact(dtype):
        return random_array(rng, shape, dtype)
    values = rng.permutation(size) / 4 - 1
    if dtypes.is_complex(dtype):
        values = values + 1j * rng.uniform(-1, 1, size)
    return values.reshape(shape).astype(dtype)


def _sort_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    params = {"dimension": 0, "is_stable": True, "num_keys": 1}
    grad = (0,) if dtypes.is_inexact(dtype) else ()
    for shape, dimension in [((7,), 0), ((3, 4), 1), ((4, 1, 2), 0), ((0, 2), 1), ((2, 0), 1)]:
        yield Sample((_shuffled(rng, shape, dtype),), params | {"dimension": dimension}, grad)
    values = _shuffled(rng, (3, 5), dtype)
    keys = np.tile(np.array([1, 0, 1, 0, 2], np.int32), (3, 1))
    yield Sample((keys, values), params | {"dimension": 1})
    two = (_shuffled(rng, (6,), dtype), random_array(rng, (6,), dtype))
    yield Sample(two, params, (0, 1) if grad else ())
    ties = rng.integers(0, 2, (6,)).astype(dtype)
    yield Sample((ties, _shuffled(rng, (6,), dtype)), params | {"num_keys": 2})
    if dtypes.is_float(dtype):
        special = np.array([1, np.nan, -0.0, np.inf, 0.0, -np.inf, -np.nan]).astype(dtype)
        yield Sample((special,), params)


sort.shape = _sort_shape
sort.impl = _sort_impl
sort.jvp = _sort_jvp
sort.batch = _sort_batch
sort.lower = Rewritten()
registry.add(Op(sort, registry.ALL, _sort_samples))


top_k = Primitive("top_k", multiple_results=True)

_TOP_K_ACCEPTS = registry.BOOL + registry.REAL


def _check_top_k(x: Any, k: int, axis: int) -> None:
    """Check the operand, an array or aval."""
    aval = ShapedArray(x.shape, x.dtype)
    if dtypes.short_name(x.dtype) not in _TOP_K_ACCEPTS:
        raise DtypeError(f"top_k does not accept {aval}; it takes {', '.join(_TOP_K_ACCEPTS)}")
    if not 0 <= axis < aval.ndim:
        raise ShapeError(f"top_k: axis must be from 0 to {aval.ndim - 1} for {aval}, got {axis}")
    if not 0 <= k <= aval.shape[axis]:
        raise ArgumentError(
            f"top_k: k must be from 0 to {aval.shape[axis]}, the size of dimension {axis} of "
            f"{aval}, got {k}"
        )


def _top_k_shape(x: ShapedArray, *, k: int, axis: int) -> list[ShapedArray]:
    _check_top_k(x, k, axis)
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    return [ShapedArray(shape, x.dtype), ShapedArray(shape, dtypes.index_dtype(x.shape[axis]))]


def _top_k_impl(x: NDArray, *, k: int, axis: int) -> list[NDArray]:
    _check_top_k(x, k, axis)
    places = _reverse_order([x], axis)
    places = places[(slice(None),) * axis + (slice(0, k),)]
    return [np.take_along_axis(x, places, axis), places.astype(dtypes.index_dtype(x.shape[axis]))]


def _top_k_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, k: int, axis: int
) -> tuple[list[Any], list[Any]]:
    values, places = top_k(primals[0], k=k, axis=axis)
    nowhere = Zero(places.aval.to_tangent())
    if is_zero(tangents[0]):
        return [values, places], [Zero(values.aval.to_tangent()), nowhere]
    return [values, places], [take_along(tangents[0], places, axis), nowhere]


def _top_k_batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int], *, k: int, axis: int
) -> tuple[list[Any], list[int]]:
    return top_k(move_to_front(args[0], dims[0]), k=k, axis=axis + 1), [0, 0]


def _top_k_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for shape, k, axis in [
        ((7,), 3, 0),
        ((3, 4), 2, 0),
        ((3, 4), 4, 1),
        ((2, 3), 0, 1),
        ((0, 3), 2, 1),
    ]:
        yield Sample((_shuffled(rng, shape, dtype),), {"k": k, "axis": axis})
    if dtypes.is_float(dtype):
        special = np.array([1, np.nan, np.inf, 1, -np.inf, np.nan]).astype(dtype)
        yield Sample((special,), {"k": 6, "axis": 0})


top_k.shape = _top_k_shape
top_k.impl = _top_k_impl
top_k.weak = lambda weak, **params: False
top_k.jvp = _top_k_jvp
top_k.batch = _top_k_batch
top_k.lower = Rewritten()
registry.add(Op(top_k, _TOP_K_ACCEPTS, _top_k_samples))
