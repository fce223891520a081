"""Primitives that combine values over a named axis, as in `jax.lax`.

Nothing computes them as they are: the trace that maps the axis replaces them by operations on the
whole batch (the first half of each batching rule), so that compiled programs have none. Other
traces record, differentiate and transpose them, and other axes' batches pass through them.

Reductions take a tuple of names; the others one name, and the size of its axis as a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.axes import axes_in_scope, name_of, unknown_axis
from funcdl.core.primitive import Primitive, never_weak
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.arithmetic import div, mul, scaled
from funcdl.ops.comparison import eq
from funcdl.ops.convert import convert_element_type
from funcdl.ops.gather import gather
from funcdl.ops.indexed_windows import GatherDimensionNumbers, GatherScatterMode
from funcdl.ops.jvp_rules import linear_jvp
from funcdl.ops.reduction import reduce_max, reduce_min, reduce_sum
from funcdl.ops.rows import broadcast_batch
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_in_dim, full, iota, move_to_front, reshape, transpose

Names = tuple[Hashable, ...]
Pairs = tuple[tuple[int, int], ...]
Batched = tuple[Any, int | None]
Rule = Callable[..., Batched]


def _out_of_scope(name: str, names: Callable[[dict[str, Any]], Names]) -> Callable[..., Any]:
    """The meaning where no trace maps the axis: an error."""

    def impl(*args: Any, **params: Any) -> Any:
        axes = axes_in_scope()
        known = {axis for axis, _ in axes}
        missing = next(axis for axis in names(params) if axis not in known)
        raise unknown_axis(name, missing, axes)

    return impl


def _collective(name: str, parameter: str = "axis_name") -> Primitive:
    primitive = Primitive(name)

    def names(params: dict[str, Any]) -> Names:
        value = params[parameter]
        return value if parameter == "axes" else (value,)

    primitive.uses_axis = lambda params, axis: axis in names(params)
    primitive.impl = _out_of_scope(name, names)
    return primitive


def _check_size(name: str, axis_size: int, wanted: int) -> None:
    if axis_size != wanted:
        raise ShapeError(
            f"{name}: this program was traced for an axis {name_of(axis_size)!r} of size "
            f"{wanted}, and is mapped over one of size {axis_size}"
        )


def _moved(x: Any, source: int, target: int) -> Any:
    """The array with one dimension at another place."""
    order = [d for d in range(x.ndim) if d != source]
    order.insert(target, source)
    return x if source == target else transpose(x, permutation=tuple(order))


def _merged(x: Any, dim: int) -> Any:
    """The array with a dimension and the next one in one."""
    shape = x.shape
    return reshape(x, new_sizes=(*shape[:dim], shape[dim] * shape[dim + 1], *shape[dim + 2 :]))


def _cut(x: Any, dim: int, count: int) -> Any:
    """The array with a dimension as two, the first of size `count`."""
    shape = x.shape
    return reshape(x, new_sizes=(*shape[:dim], count, shape[dim] // count, *shape[dim + 1 :]))


# Reductions


def _reduction(
    name: str, accepts: tuple[str, ...], reduce: Primitive, repeat: Callable[[Any, int], Any]
) -> Primitive:
    primitive = _collective(name, "axes")

    def shape(x: ShapedArray, *, axes: Names) -> ShapedArray:
        if dtypes.short_name(x.dtype) not in accepts:
            raise DtypeError(f"{name} does not accept {x}; it takes {', '.join(accepts)}")
        return ShapedArray(x.shape, x.dtype)

    def batch(
        axis_size: int, args: Sequence[Any], dims: Sequence[int | None], *, axes: Names
    ) -> Batched:
        (x,), (dim,) = args, dims
        own = name_of(axis_size)
        if own not in axes:
            return primitive.bind(x, axes=axes), dim
        shape(x.aval, axes=axes)
        x = repeat(x, axis_size) if dim is None else reduce(x, axes=(dim,))
        rest = tuple(axis for axis in axes if axis != own)
        return primitive.bind(x, axes=rest) if rest else x, None

    primitive.shape = shape
    primitive.batch = batch
    return primitive


psum = _reduction("psum", registry.NUMBERS, reduce_sum, scaled)
psum.jvp = linear_jvp(psum)
# As in JAX, the cotangent of one member gets those of all: the sum that all of them have is one
# output for each, and what is differentiated is all of these outputs together.
psum.transpose = lambda ct, x, *, axes: [psum.bind(ct, axes=axes)]


def _extreme_jvp(primitive: Primitive) -> Callable[..., tuple[Any, Any]]:
    """Members that share the extreme share its derivative equally, as in `reduce_max`."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], *, axes: Names) -> tuple[Any, Any]:
        (x,), (t,) = primals, tangents
        out = primitive.bind(x, axes=axes)
        if is_zero(t):
            return out, Zero(out.aval.to_tangent())
        chosen = convert_element_type(eq(x, out), new_dtype=t.dtype, weak_type=False)
        count = psum.bind(chosen, axes=axes)
        return out, div(psum.bind(mul(t, chosen), axes=axes), count)

    return jvp


pmax = _reduction("pmax", registry.ALL, reduce_max, lambda x, count: x)
pmax.jvp = _extreme_jvp(pmax)
pmin = _reduction("pmin", registry.ALL, reduce_min, lambda x, count: x)
pmin.jvp = _extreme_jvp(pmin)


# Gathering and scattering

all_gather = _collective("all_gather")


def _gather_shape(
    x: ShapedArray, *, axis_name: Hashable, axis_size: int, all_gather_dimension: int, tiled: bool
) -> ShapedArray:
    at, shape = all_gather_dimension, x.shape
    if tiled:
        return ShapedArray((*shape[:at], shape[at] * axis_size, *shape[at + 1 :]), x.dtype)
    return ShapedArray((*shape[:at], axis_size, *shape[at:]), x.dtype)


def _gather_batch(
    batch_size: int, args: Sequence[Any], dims: Sequence[int | None], **params: Any
) -> Batched:
    (x,), (dim,) = args, dims
    at = params["all_gather_dimension"]
    if name_of(batch_size) != params["axis_name"]:
        params["all_gather_dimension"] = at + 1
        return all_gather.bind(move_to_front(x, dim), **params), 0
    _check_size("all_gather", batch_size, params["axis_size"])
    whole = broadcast_batch(x, batch_size) if dim is None else x
    out = _moved(whole, dim or 0, at)
    return _merged(out, at) if params["tiled"] else out, None


def _gather_transpose(ct: Any, x: Any, *, all_gather_dimension: int, **params: Any) -> list[Any]:
    return [reduce_scatter.bind(ct, scatter_dimension=all_gather_dimension, **params)]


all_gather.shape = _gather_shape
all_gather.batch = _gather_batch
all_gather.jvp = linear_jvp(all_gather)
all_gather.transpose = _gather_transpose


reduce_scatter = _collective("reduce_scatter")


def _scatter_shape(
    x: ShapedArray, *, axis_name: Hashable, axis_size: int, scatter_dimension: int, tiled: bool
) -> ShapedArray:
    at, shape = scatter_dimension, x.shape
    if dtypes.short_name(x.dtype) not in registry.NUMBERS:
        raise DtypeError(f"psum_scatter does not accept {x}; convert it with astype first")
    if tiled and shape[at] % axis_size:
        raise ShapeError(
            f"psum_scatter with tiled=True requires the size of dimension {at} to be a multiple of "
            f"the size of axis {axis_name!r}, {axis_size}; got {x}"
        )
    if not tiled and shape[at] != axis_size:
        raise ShapeError(
            f"psum_scatter requires the size of dimension {at} to be that of axis {axis_name!r}, "
            f"{axis_size}; got {x}. Pass tiled=True for several elements each"
        )
    middle = (shape[at] // axis_size,) if tiled else ()
    return ShapedArray((*shape[:at], *middle, *shape[at + 1 :]), x.dtype)


def _scatter_batch(
    batch_size: int, args: Sequence[Any], dims: Sequence[int | None], **params: Any
) -> Batched:
    (x,), (dim,) = args, dims
    at = params["scatter_dimension"]
    if name_of(batch_size) != params["axis_name"]:
        params["scatter_dimension"] = at + 1
        return reduce_scatter.bind(move_to_front(x, dim), **params), 0
    _check_size("psum_scatter", batch_size, params["axis_size"])
    total = scaled(x, batch_size) if dim is None else reduce_sum(x, axes=(dim,))
    return _cut(total, at, batch_size) if params["tiled"] else total, at


def _scatter_transpose(ct: Any, x: Any, *, scatter_dimension: int, **params: Any) -> list[Any]:
    return [all_gather.bind(ct, all_gather_dimension=scatter_dimension, **params)]


reduce_scatter.shape = _scatter_shape
reduce_scatter.batch = _scatter_batch
reduce_scatter.jvp = linear_jvp(reduce_scatter)
reduce_scatter.transpose = _scatter_transpose


# Permutations

ppermute = _collective("ppermute")


def _permute_batch(
    batch_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    axis_name: Hashable,
    axis_size: int,
    perm: Pairs,
) -> Batched:
    (x,), (dim,) = args, dims
    if name_of(batch_size) != axis_name:
        return ppermute.bind(x, axis_name=axis_name, axis_size=axis_size, perm=perm), dim
    _check_size("ppermute", batch_size, axis_size)
    if dim is None:
        if len(perm) == axis_size:
            return x, None
        x = broadcast_batch(x, axis_size)
    return _permuted(move_to_front(x, dim), perm), 0


def _permuted(x: Any, perm: Pairs) -> Any:
    """Rows sent from first to second of each pair; zeros where nothing is sent to."""
    size, rest = x.shape[0], x.shape[1:]
    if not size:
        return x
    sources = np.full(size, -1, np.int32)
    for source, target in perm:
        sources[target] = source
    rows = gather.bind(
        x,
        Array(np.maximum(sources, 0)[:, None]),
        dimension_numbers=GatherDimensionNumbers(tuple(range(1, x.ndim)), (0,), (0,)),
        slice_sizes=(1, *rest),
        indices_are_sorted=False,
        unique_indices=len(perm) == size,
        mode=GatherScatterMode.PROMISE_IN_BOUNDS,
        fill_value=None,
    )
    if len(perm) == size:
        return rows
    sent = broadcast_in_dim(Array(sources >= 0), shape=x.shape, broadcast_dimensions=(0,))
    return select_n(sent, full(x.shape, 0, x.dtype), rows)


def _permute_transpose(ct: Any, x: Any, *, perm: Pairs, **params: Any) -> list[Any]:
    return [ppermute.bind(ct, perm=tuple((b, a) for a, b in perm), **params)]


ppermute.shape = lambda x, **params: ShapedArray(x.shape, x.dtype)
ppermute.batch = _permute_batch
ppermute.jvp = linear_jvp(ppermute)
ppermute.transpose = _permute_transpose


all_to_all = _collective("all_to_all")
"""Cuts `split_axis` into equal parts, one for each member, which sets those that it receives, in
the order of the members, one after the other along `concat_axis`."""


def _all_to_all_shape(
    x: ShapedArray, *, axis_name: Hashable, axis_size: int, split_axis: int, concat_axis: int
) -> ShapedArray:
    shape = list(x.shape)
    if axis_size and shape[split_axis] % axis_size:
        raise ShapeError(
            f"all_to_all requires the size of dimension {split_axis}, which is split, to be a "
            f"multiple of the size of axis {axis_name!r}, {axis_size}; got {x}"
        )
    shape[split_axis] //= max(axis_size, 1)
    shape[concat_axis] *= axis_size
    return ShapedArray(tuple(shape), x.dtype)


def _all_to_all_batch(
    batch_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    axis_name: Hashable,
    axis_size: int,
    split_axis: int,
    concat_axis: int,
) -> Batched:
    (x,), (dim,) = args, dims
    if name_of(batch_size) != axis_name:
        out = all_to_all.bind(
            move_to_front(x, dim),
            axis_name=axis_name,
            axis_size=axis_size,
            split_axis=split_axis + 1,
            concat_axis=concat_axis + 1,
        )
        return out, 0
    _check_size("all_to_all", batch_size, axis_size)
    x = broadcast_batch(x, axis_size) if dim is None else move_to_front(x, dim)
    if not axis_size:
        params = {"split_axis": split_axis, "concat_axis": concat_axis}
        one = x.aval.update(shape=x.shape[1:])
        out = _all_to_all_shape(one, axis_name=axis_name, axis_size=0, **params)
        return full((0, *out.shape), 0, x.dtype), 0
    # Senders lie along dimension 0, receivers along `parts`.
    parts = split_axis + 1
    cut = _cut(x, parts, axis_size)
    order = [parts]
    for d in range(x.ndim - 1):
        order += [0] if d == concat_axis else []
        order.append(d + 1 if d < split_axis else d + 2)
    return _merged(transpose(cut, permutation=tuple(order)), concat_axis + 1), 0


def _all_to_all_transpose(
    ct: Any, x: Any, *, split_axis: int, concat_axis: int, **params: Any
) -> list[Any]:
    return [all_to_all.bind(ct, split_axis=concat_axis, concat_axis=split_axis, **params)]


all_to_all.shape = _all_to_all_shape
all_to_all.batch = _all_to_all_batch
all_to_all.jvp = linear_jvp(all_to_all)
all_to_all.transpose = _all_to_all_transpose


axis_index = _collective("axis_index")


def _index_batch(
    batch_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    axis_name: Hashable,
    axis_size: int,
) -> Batched:
    _check_size("axis_index", batch_size, axis_size)
    return iota(dtype=np.dtype(np.int32), shape=(axis_size,), dimension=0), 0


axis_index.shape = lambda **params: ShapedArray((), np.dtype(np.int32))
axis_index.weak = never_weak
axis_index.batch = _index_batch


PRIMITIVES = {
    p.name: p
    for p in (
        all_gather,
        all_to_all,
        axis_index,
        pmax,
        pmin,
        ppermute,
        psum,
        reduce_scatter,
    )
}
"""By name. They are in no row of the registry, whose tests call every primitive by itself."""
