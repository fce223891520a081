"""The elements that have the extremes of sliding windows: primitives for derivatives.

The derivative of a window's extreme flows to one element, the first that has it. NaN counts as the
extreme. `select_and_gather_add` reads that element of another array, `select_and_scatter_add` adds
to it; each is the transpose of the other.

Kernels find the number of the selected element by two reductions of the window: the extreme, then
the least number of an element that has it. A scatter becomes two kernels: one that stores these
numbers (`select_in_windows`), and one in which each element collects from the windows that it is in
and that have selected it (`add_selected`). So nothing is updated in an order that threads could
change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import ArgumentError, ShapeError
from funcdl.ops import registry
from funcdl.ops.lowering import Position, Reader, Rewritten, WindowReduction, compute_dtype
from funcdl.ops.reduction import extreme_identity
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.rows import broadcast_batch
from funcdl.ops.shape import flat_index, move_to_front
from funcdl.ops.windows.lowering import element_position, read_element
from funcdl.ops.windows.parameters import (
    CASES,
    Params,
    apart,
    case_params,
    check_dtype,
    windows_of,
    with_batch,
)
from funcdl.ops.windows.sliding import Sliding

if TYPE_CHECKING:
    from funcdl.kir.ir import ReduceOp

NDArray = np.ndarray[Any, Any]
Reduce = Callable[["ReduceOp", int], int]


def _selected(operand: NDArray, select_prim: str, windows: Sliding) -> NDArray:
    """For each window the row-major number of the element that it selects.

    Windows without elements have the number after the last.
    """
    better = {"ge": np.greater, "le": np.less}[select_prim]
    none = operand.size
    numbers = windows.padded(np.arange(none).reshape(operand.shape), none)
    padded = windows.padded(operand.astype(compute_dtype(operand.dtype), copy=False), 0)
    best = np.zeros(windows.counts, padded.dtype)
    found = np.full(windows.counts, none)
    if found.size:
        for place in windows.elements():
            value, number = padded[place], numbers[place]
            ahead = better(value, best) | (np.isnan(value) & ~np.isnan(best)) | (found == none)
            ahead &= number < none
            best, found = np.where(ahead, value, best), np.where(ahead, number, found)
    return found


def _find(operand: Any, params: Params) -> tuple[Sliding, str]:
    rest = dict(params)
    select_prim = rest.pop("select_prim")
    return windows_of("select_and_gather_add", operand.shape, **rest), select_prim


def _none(dtype: np.dtype[Any]) -> int:
    """The number that a window without elements selects."""
    return int(np.iinfo(dtype).max)


def _lower_selected(
    reader: Reader,
    operand: int,
    windows: Sliding,
    at: tuple[Position, Position],
    reduce: Reduce,
    select_prim: str,
) -> tuple[int, int, tuple[Position, int | None]]:
    """The number that a window selects; that at a place in it, and the place in the operand.

    `at` holds the window and the place.
    """
    builder = reader.builder
    position, mask = element_position(builder, windows, *at)
    dtype = dtypes.index_dtype(int(np.prod(windows.sizes)))
    lowest = select_prim == "ge"
    wide = compute_dtype(reader.aval(operand).dtype)
    empty = np.asarray(extreme_identity(wide, lowest)).item()
    value = read_element(reader, operand, position, mask, empty)
    extreme = reduce("max" if lowest else "min", value)
    has_it = builder.elementwise("eq", value, extreme)
    is_nan = builder.elementwise("ne", value, value)
    has_it = builder.elementwise("or", has_it, is_nan)
    number = builder.index_value(flat_index(position, windows.sizes), dtype)
    none = builder.const(_none(dtype), dtype)
    candidate = _where(reader, mask, builder.select(has_it, number, none), none)
    return reduce("min", candidate), number, (position, mask)


def _where(reader: Reader, mask: int | None, value: int, other: int) -> int:
    return value if mask is None else reader.builder.select(mask, value, other)


def _collect(source: NDArray, found: NDArray, shape: Shape) -> NDArray:
    """For each element the sum of what the windows have that selected it."""
    out = np.zeros(int(np.prod(shape)) + 1, compute_dtype(source.dtype))
    np.add.at(out, found, source.astype(out.dtype, copy=False))
    return out[:-1].reshape(shape).astype(source.dtype, copy=False)


def _check_select(
    name: str, operand: Any, other: Any, wanted: Shape, select_prim: str, accepts: tuple[str, ...]
) -> None:
    """Check the operand that is compared, and the other one, which must be of shape `wanted`."""
    if select_prim not in ("ge", "le"):
        raise ArgumentError(
            f"{name}: select_prim must be 'ge' or 'le', got {shortened(select_prim)}"
        )
    for x in (operand, other):
        check_dtype(name, x, accepts)
    if other.shape != wanted or other.dtype != operand.dtype:
        found = ShapedArray(other.shape, other.dtype)
        raise ShapeError(
            f"{name} requires its first operand to be {ShapedArray(wanted, operand.dtype)} beside "
            f"an operand {ShapedArray(operand.shape, operand.dtype)}, got {found}"
        )


def _select_batch(primitive: Primitive) -> Callable[..., tuple[Any, int]]:
    def batch(
        axis_size: int, args: Sequence[Any], dims: Sequence[int | None], **params: Any
    ) -> tuple[Any, int]:
        args = [
            broadcast_batch(x, axis_size) if dim is None else move_to_front(x, dim)
            for x, dim in zip(args, dims, strict=True)
        ]
        return primitive(*args, **with_batch(params)), 0

    return batch


def _select_jvp(primitive: Primitive) -> Callable[..., tuple[Any, Any]]:
    """Linear in the first operand; which elements are selected does not vary smoothly."""

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        out = primitive(*primals, **params)
        if is_zero(tangents[0]):
            return out, Zero(out.aval.to_tangent())
        return out, primitive(tangents[0], primals[1], **params)

    return jvp


select_and_gather_add = Primitive("select_and_gather_add")


def _gather_shape(
    tangents: ShapedArray, operand: ShapedArray, *, select_prim: str, **params: Any
) -> ShapedArray:
    name = "select_and_gather_add"
    _check_select(name, operand, tangents, operand.shape, select_prim, registry.FLOATS)
    return ShapedArray(windows_of(name, operand.shape, **params).counts, tangents.dtype)


def _gather_impl(
    tangents: NDArray, operand: NDArray, *, select_prim: str, **params: Any
) -> NDArray:
    name = "select_and_gather_add"
    _check_select(name, operand, tangents, operand.shape, select_prim, registry.FLOATS)
    found = _selected(operand, select_prim, windows_of(name, operand.shape, **params))
    return np.append(tangents.reshape(-1), tangents.dtype.type(0))[found]


def _gather_transpose(ct: Any, tangents: Any, operand: Any, **params: Any) -> list[Any]:
    return [select_and_scatter_add(ct, operand, **params), None]


def _gather_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for case, select_prim in zip(CASES, ("ge", "le") * len(CASES), strict=False):
        args = (random_array(rng, case[0], dtype), apart(rng, case[0], dtype))
        yield Sample(args, {"select_prim": select_prim, **case_params(case)}, (0,))


def _gather_window(avals: Sequence[ShapedArray], params: Params) -> Shape:
    return _find(avals[1], params)[0].window


def _lower_gather(
    reader: Reader, index: Position, place: Position, reduce: Reduce, params: Params
) -> int:
    windows, select_prim = _find(reader.aval(1), params)
    first, number, (position, mask) = _lower_selected(
        reader, 1, windows, (index, place), reduce, select_prim
    )
    return _sum_chosen(reader, reduce, number, first, (position, mask))


def _sum_chosen(
    reader: Reader, reduce: Reduce, number: int, chosen: int, at: tuple[Position, int | None]
) -> int:
    """The sum of operand 0 where a number is the chosen one."""
    (position, mask), builder = at, reader.builder
    value = reader.read(0, position, mask)
    zero = builder.const(0, builder.type_of(value).dtype)
    summed = builder.select(builder.elementwise("eq", number, chosen), value, zero)
    return reduce("sum", _where(reader, mask, summed, zero))


select_and_gather_add.shape = _gather_shape
select_and_gather_add.impl = _gather_impl
select_and_gather_add.jvp = _select_jvp(select_and_gather_add)
select_and_gather_add.transpose = _gather_transpose
select_and_gather_add.batch = _select_batch(select_and_gather_add)
select_and_gather_add.lower = WindowReduction(_gather_window, _lower_gather)
registry.add(Op(select_and_gather_add, registry.FLOATS, _gather_samples))


select_and_scatter_add = Primitive("select_and_scatter_add")


def _scatter_shape(
    source: ShapedArray, operand: ShapedArray, *, select_prim: str, **params: Any
) -> ShapedArray:
    name = "select_and_scatter_add"
    counts = windows_of(name, operand.shape, **params).counts
    _check_select(name, operand, source, counts, select_prim, registry.FLOATS)
    return ShapedArray(operand.shape, source.dtype)


def _scatter_impl(source: NDArray, operand: NDArray, *, select_prim: str, **params: Any) -> NDArray:
    name = "select_and_scatter_add"
    windows = windows_of(name, operand.shape, **params)
    _check_select(name, operand, source, windows.counts, select_prim, registry.FLOATS)
    found = _selected(operand, select_prim, windows)
    return _collect(source, found, operand.shape)


def _scatter_transpose(ct: Any, source: Any, operand: Any, **params: Any) -> list[Any]:
    return [select_and_gather_add(ct, operand, **params), None]


def _scatter_samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for case, select_prim in zip(CASES, ("le", "ge") * len(CASES), strict=False):
        params = case_params(case)
        counts = windows_of("select_and_scatter_add", case[0], **params).counts
        args = (random_array(rng, counts, dtype), apart(rng, case[0], dtype))
        yield Sample(args, {"select_prim": select_prim, **params}, (0,))


select_and_scatter_add.shape = _scatter_shape
select_and_scatter_add.impl = _scatter_impl
select_and_scatter_add.jvp = _select_jvp(select_and_scatter_add)
select_and_scatter_add.transpose = _scatter_transpose
select_and_scatter_add.batch = _select_batch(select_and_scatter_add)
select_and_scatter_add.lower = Rewritten()
registry.add(Op(select_and_scatter_add, registry.FLOATS, _scatter_samples))


# The two parts of a scatter that the compiler writes instead of it. No program is traced with them,
# so they have no rules and are not in the registry.

select_in_windows = Primitive("select_in_windows")


def _numbers_shape(operand: ShapedArray, **params: Any) -> ShapedArray:
    windows, _ = _find(operand, params)
    return ShapedArray(windows.counts, dtypes.index_dtype(operand.size))


def _numbers_impl(operand: NDArray, **params: Any) -> NDArray:
    windows, select_prim = _find(operand, params)
    found, dtype = _selected(operand, select_prim, windows), dtypes.index_dtype(operand.size)
    return np.where(found == operand.size, _none(dtype), found).astype(dtype, copy=False)


def _lower_numbers(
    reader: Reader, index: Position, place: Position, reduce: Reduce, params: Params
) -> int:
    windows, select_prim = _find(reader.aval(0), params)
    return _lower_selected(reader, 0, windows, (index, place), reduce, select_prim)[0]


select_in_windows.shape = _numbers_shape
select_in_windows.impl = _numbers_impl
select_in_windows.lower = WindowReduction(
    lambda avals, params: _find(avals[0], params)[0].window, _lower_numbers
)


add_selected = Primitive("add_selected")


def _added_shape(
    source: ShapedArray, numbers: ShapedArray, *, shape: Shape, **params: Any
) -> ShapedArray:
    return ShapedArray(shape, source.dtype)


def _added_impl(source: NDArray, numbers: NDArray, *, shape: Shape, **params: Any) -> NDArray:
    return _collect(source, np.minimum(numbers, np.prod(shape)), shape)


def _added_windows(params: Params) -> Sliding:
    """Windows over the windows: those that an element is in."""
    rest = {name: value for name, value in params.items() if name != "shape"}
    return windows_of("add_selected", params["shape"], **rest).transposed()


def _lower_added(
    reader: Reader, index: Position, place: Position, reduce: Reduce, params: Params
) -> int:
    builder, windows = reader.builder, _added_windows(params)
    position, mask = element_position(builder, windows, index, place)
    number = reader.read(1, position, mask)
    dtype = builder.type_of(number).dtype
    own = builder.index_value(flat_index(index, params["shape"]), dtype)
    return _sum_chosen(reader, reduce, number, own, (position, mask))


add_selected.shape = _added_shape
add_selected.impl = _added_impl
add_selected.lower = WindowReduction(
    lambda avals, params: _added_windows(params).window, _lower_added
)
