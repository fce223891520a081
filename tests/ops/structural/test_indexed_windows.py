"""Gather and scatter on generated dimension numbers, and their errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.structural.peer import bind_in_jax
from tests.ops.structural.reader import run_kernel
from tests.ops.structural.windows_oracle import Case, cases, positions

from funcdl.core.array import Array, as_array
from funcdl.core.avals import ShapedArray
from funcdl.core.primitive import Primitive
from funcdl.errors import ArgumentError, DtypeError, FuncdlError, ShapeError
from funcdl.ops.gather import gather
from funcdl.ops.indexed_windows import GatherDimensionNumbers, GatherScatterMode
from funcdl.ops.scatter import (
    ScatterDimensionNumbers,
    scatter,
    scatter_add,
    scatter_max,
    scatter_min,
    scatter_mul,
)
from funcdl.transforms.derivatives import jvp, vjp
from funcdl.transforms.vmap import vmap

NDArray = np.ndarray[Any, Any]
FILL, CLIP = GatherScatterMode.FILL_OR_DROP, GatherScatterMode.CLIP
SCATTERS = {
    scatter: lambda old, new: new,
    scatter_add: lambda old, new: old + new,
    scatter_mul: lambda old, new: old * new,
    scatter_min: min,
    scatter_max: max,
}


def gather_params(case: Case, fill_value: Any = -7) -> dict[str, Any]:
    return {
        "dimension_numbers": case.numbers,
        "slice_sizes": case.sizes,
        "indices_are_sorted": False,
        "unique_indices": False,
        "mode": case.mode,
        "fill_value": fill_value,
    }


def scatter_params(case: Case) -> dict[str, Any]:
    return {
        "dimension_numbers": ScatterDimensionNumbers(*case.numbers),
        "indices_are_sorted": False,
        "unique_indices": False,
        "mode": case.mode,
    }


def counted(shape: tuple[int, ...], first: int = 1) -> NDArray:
    """Different whole numbers."""
    return np.arange(first, first + math.prod(shape), dtype=np.float32).reshape(shape)


def slow_gather(case: Case, operand: NDArray, fill_value: Any = -7) -> NDArray:
    out = np.zeros(case.shape, operand.dtype)
    for index, source, inside in positions(case):
        filled = not inside and case.mode is FILL
        out[index] = fill_value if filled else operand[source]
    return out


def slow_scatter(case: Case, primitive: Primitive, operand: NDArray, updates: NDArray) -> NDArray:
    out = np.array(operand)
    for index, target, inside in positions(case):
        if inside or case.mode is CLIP:
            out[target] = SCATTERS[primitive](out[target], updates[index])
    return out


@given(cases())
def test_gather_reads_what_its_definition_says(case: Case) -> None:
    operand = counted(case.operand)
    params = gather_params(case)
    wanted = slow_gather(case, operand)
    np.testing.assert_array_equal(gather.impl(operand, case.indices, **params), wanted)
    np.testing.assert_array_equal(run_kernel(gather, (operand, case.indices), params), wanted)
    avals = [ShapedArray(x.shape, x.dtype) for x in (operand, case.indices)]
    assert gather.shape(*avals, **params).shape == case.shape


@pytest.mark.parametrize("mode", list(GatherScatterMode))
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint32, np.uint64])
def test_whole_slices_along_one_dimension(dtype: Any, mode: GatherScatterMode) -> None:
    """Which NumPy has a function for, where the dimensions of the indices take their place."""
    most = np.iinfo(dtype).max
    outside = [[0, 1], [most, 0]] if np.iinfo(dtype).min == 0 else [[-1, 1], [most, -3]]
    for shape in [(4,), (3, 4), (2, 3, 4), (0, 3), (3, 0)]:
        for axis in range(len(shape)):
            for places in [1, [], [0, 1, 1], [[2, 0]], outside]:
                indices = np.array(places, dtype)[..., None]
                batch = indices.ndim - 1
                offsets = (d + batch * (d >= axis) for d in range(len(shape) - 1))
                numbers = GatherDimensionNumbers(tuple(offsets), (axis,), (axis,))
                sizes = tuple(1 if d == axis else size for d, size in enumerate(shape))
                if shape[axis] == 0:
                    continue  # of which there is no slice
                case = Case(shape, indices, numbers, sizes, mode)
                x = counted(shape)
                for operand in (x, np.asfortranarray(x), counted((*shape, 2))[..., 0]):
                    found = gather.impl(operand, indices, **gather_params(case))
                    np.testing.assert_array_equal(found, slow_gather(case, operand))
                    assert found.dtype == operand.dtype


@given(cases(), st.sampled_from(list(SCATTERS)))
def test_scatter_writes_what_its_definition_says(case: Case, primitive: Primitive) -> None:
    rng = np.random.default_rng(0)
    # Powers of two, so that products and sums are exact in every order.
    operand, updates = (
        np.asarray(2.0 ** rng.integers(-1, 2, shape)) for shape in (case.operand, case.shape)
    )
    params = scatter_params(case)
    wanted = slow_scatter(case, primitive, operand, updates)
    args = (operand, case.indices, updates)
    np.testing.assert_array_equal(primitive.impl(*args, **params), wanted)
    np.testing.assert_array_equal(run_kernel(primitive, args, params), wanted)


@given(cases())
def test_gather_and_scatter_add_are_transposes(case: Case) -> None:
    rng = np.random.default_rng(0)
    t, ct = (Array(rng.normal(size=shape)) for shape in (case.operand, case.shape))
    indices = as_array(case.indices)

    def f(x: Any) -> Any:
        return gather(x, indices, **gather_params(case))

    _, tangent = jvp(f, (t,), (t,))
    (found,) = vjp(f, t)[1](ct)
    blank = np.zeros(case.operand)
    wanted = slow_scatter(case, scatter_add, blank, np.asarray(ct.value))
    dropping = case.mode is not GatherScatterMode.PROMISE_IN_BOUNDS
    if dropping:
        np.testing.assert_allclose(found.value, wanted, atol=1e-12)
        np.testing.assert_allclose(
            np.sum(tangent.value * ct.value), np.sum(found.value * t.value), atol=1e-12
        )
    np.testing.assert_array_equal(tangent.value, slow_gather(case, t.value, 0))


@given(cases())
def test_derivatives_of_a_scatter_follow_the_winner(case: Case) -> None:
    rng = np.random.default_rng(0)
    x, tx, ct = (Array(rng.normal(size=case.operand)) for _ in range(3))
    u, tu = (Array(rng.normal(size=case.shape)) for _ in range(2))
    indices = as_array(case.indices)

    def f(x: Any, u: Any) -> Any:
        return scatter(x, indices, u, **scatter_params(case))

    _, tangent = jvp(f, (x, u), (tx, tu))
    np.testing.assert_array_equal(tangent.value, slow_scatter(case, scatter, tx.value, tu.value))
    x_ct, u_ct = vjp(f, x, u)[1](ct)
    pulled = np.sum(x_ct.value * tx.value) + np.sum(u_ct.value * tu.value)
    np.testing.assert_allclose(pulled, np.sum(ct.value * tangent.value), atol=1e-12)


def batched(data: st.DataObject, shape: tuple[int, ...], size: int) -> tuple[int | None, Any]:
    """A batch axis for an operand of this shape, or None, and the shape of the whole batch."""
    axis = data.draw(st.none() | st.integers(0, len(shape)))
    return axis, shape if axis is None else (*shape[:axis], size, *shape[axis:])


@given(cases(), st.data())
@settings(max_examples=60)
def test_vmap_of_gather_and_scatter(case: Case, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 3))
    primitive = data.draw(st.sampled_from([gather, scatter, scatter_add, scatter_max]))
    is_gather = primitive is gather
    params = gather_params(case) if is_gather else scatter_params(case)
    shapes = [case.operand, case.indices.shape] + ([] if is_gather else [case.shape])
    axes, args = [], []
    rng = np.random.default_rng(0)
    for at, shape in enumerate(shapes):
        axis, whole = batched(data, shape, size)
        axes.append(axis)
        if at != 1:
            args.append(rng.normal(size=whole).astype(np.float32))
        elif axis is None:
            args.append(case.indices)
        else:
            args.append(rng.integers(0, 4, whole).astype(case.indices.dtype))
    if all(axis is None for axis in axes):
        return
    found = vmap(lambda *xs: primitive(*xs, **params), in_axes=tuple(axes))(*map(as_array, args))
    for i in range(size):
        single = [x if a is None else np.take(x, i, a) for x, a in zip(args, axes, strict=True)]
        wanted = primitive.impl(*single, **params)
        np.testing.assert_allclose(found.value[i], wanted, rtol=1e-6)


@pytest.mark.peers
@given(st.lists(cases(), min_size=12, max_size=12))
@settings(max_examples=3)
def test_gather_and_scatter_add_agree_with_jax(several: list[Case]) -> None:
    # XLA does not compile gathers without any indexed dimension.
    several = [c for c in several if 0 not in c.operand and c.numbers.start_index_map]
    calls = [((counted(c.operand), c.indices), gather_params(c)) for c in several]
    for (args, params), wanted in zip(calls, bind_in_jax("gather", calls), strict=True):
        np.testing.assert_array_equal(gather.impl(*args, **params), wanted)
    calls = [
        ((counted(c.operand), c.indices, counted(c.shape, 100)), scatter_params(c)) for c in several
    ]
    for (args, params), wanted in zip(calls, bind_in_jax("scatter_add", calls), strict=True):
        np.testing.assert_array_equal(scatter_add.impl(*args, **params), wanted)


@pytest.mark.parametrize(
    ("dtype", "wanted"), [("f4", np.nan), ("i4", -(2**31)), ("u1", 255), ("?", True)]
)
def test_default_fill(dtype: str, wanted: Any) -> None:
    numbers = GatherDimensionNumbers((), (0,), (0,))
    case = Case((2,), np.array([[2]], np.int32), numbers, (1,), FILL)
    out = gather.impl(np.zeros(2, dtype), case.indices, **gather_params(case, None))
    np.testing.assert_array_equal(out, [wanted])
    out = run_kernel(gather, (np.zeros(2, dtype), case.indices), gather_params(case, None))
    np.testing.assert_array_equal(out, [wanted])


def test_indices_that_no_small_integer_holds() -> None:
    numbers = GatherDimensionNumbers((), (0,), (0,))
    indices = np.array([[2**64 - 1], [2**63], [1], [300]], np.uint64)
    case = Case((300,), indices, numbers, (1,), FILL)
    operand = np.arange(300, dtype=np.int32)
    for run in (gather.impl, lambda *args, **params: run_kernel(gather, args, params)):
        out = run(operand, case.indices, **gather_params(case))
        np.testing.assert_array_equal(out, [-7, -7, 1, -7])
    small = Case((300,), np.array([[127], [-128]], np.int8), numbers, (1,), CLIP)
    out = run_kernel(gather, (operand, small.indices), gather_params(small))
    np.testing.assert_array_equal(out, [127, 0])


def test_extremes_share_the_derivative_among_equals() -> None:
    numbers = GatherDimensionNumbers((), (0,), (0,))
    case = Case((3,), np.array([[0], [0], [1]], np.int32), numbers, (1,), CLIP)
    x, u = as_array(np.array([4.0, 1.0, 5.0])), as_array(np.array([4.0, 2.0, 3.0]))

    def f(x: Any, u: Any) -> Any:
        return scatter_max(x, as_array(case.indices), u, **scatter_params(case))

    x_ct, u_ct = vjp(f, x, u)[1](as_array(np.ones(3)))
    np.testing.assert_array_equal(x_ct.value, [0.5, 0.0, 1.0])
    np.testing.assert_array_equal(u_ct.value, [0.5, 0.0, 1.0])


def test_products_of_updates_that_meet_vary_by_the_others() -> None:
    numbers = GatherDimensionNumbers((), (0,), (0,))
    case = Case((3,), np.array([[0], [0], [2]], np.int32), numbers, (1,), CLIP)
    x, u, t = (as_array(np.array(v, np.float64)) for v in ([2, 3, 5], [0, 7, 4], [1, 10, 100]))
    _, tangent = jvp(
        lambda u: scatter_mul(x, as_array(case.indices), u, **scatter_params(case)), (u,), (t,)
    )
    np.testing.assert_array_equal(tangent.value, [2 * (1 * 7 + 0 * 10), 0, 5 * 100])


ROWS = GatherDimensionNumbers((1,), (0,), (0,))


@pytest.mark.parametrize(
    ("indices", "numbers", "sizes", "error", "message"),
    [
        ((), ROWS, (1, 3), ShapeError, "indices must have a last dimension"),
        ((2, 2), ROWS, (1, 3), ShapeError, "component for each dimension that is indexed, got 2"),
        ((2, 1), ROWS, (2, 3), ShapeError, "size along dimension 0 must be from 0 to 1, got 2"),
        ((2, 1), ROWS, (1, 4), ShapeError, "size along dimension 1 must be from 0 to 3, got 4"),
        ((2, 1), ROWS, (1,), ShapeError, "one size for each dimension"),
        ((2, 1), ROWS._replace(offset_dims=(2,)), (1, 3), ShapeError, "offset dimensions must be"),
        ((2, 1), ROWS._replace(offset_dims=(0, 1)), (1, 3), ShapeError, "got 1 others"),
        ((2, 1), ROWS._replace(start_index_map=(2,)), (1, 3), ShapeError, "from 0 to 1, got (2,)"),
        ((2, 1), ROWS._replace(collapsed_slice_dims=(1, 0)), (1, 3), ShapeError, "be sorted"),
        ((2, 1), GatherDimensionNumbers((), (1,), (0,), (0,), (0,)), (1, 1), ShapeError, "both"),
        ((2, 1), GatherDimensionNumbers((), (1,), (1,), (0,), (0,)), (1, 1), ShapeError, "pair up"),
    ],
)
def test_gather_errors(
    indices: tuple[int, ...],
    numbers: GatherDimensionNumbers,
    sizes: tuple[int, ...],
    error: type[FuncdlError],
    message: str,
) -> None:
    case = Case((5, 3), np.zeros(indices, np.int32), numbers, sizes, CLIP)
    with pytest.raises(error) as raised:
        gather.impl(np.zeros((5, 3)), case.indices, **gather_params(case))
    assert message in str(raised.value)


def test_scatter_errors() -> None:
    case = Case((5, 3), np.zeros((2, 1), np.int32), ROWS, (1, 3), CLIP)
    params = scatter_params(case)
    x = np.zeros((5, 3))
    with pytest.raises(ShapeError, match="must have 2 dimensions"):
        scatter.impl(x, case.indices, np.zeros(2), **params)
    with pytest.raises(ShapeError, match=r"must have shape \(2, 3\)"):
        scatter.impl(x, case.indices, np.zeros((3, 3)), **params)
    with pytest.raises(DtypeError, match="equal dtype"):
        scatter.impl(x, case.indices, np.zeros((2, 3), np.float32), **params)
    with pytest.raises(DtypeError, match="must be integers"):
        scatter.impl(x, np.zeros((2, 1)), np.zeros((2, 3)), **params)
    avals = [ShapedArray(s, np.dtype(d)) for s, d in [((5, 3), "?"), ((2, 1), "i4"), ((2, 3), "?")]]
    with pytest.raises(DtypeError, match="scatter_add does not accept"):
        scatter_add.shape(*avals, **params)


def test_modes_by_name() -> None:
    assert GatherScatterMode.from_any("drop") is GatherScatterMode.from_any(None) is FILL
    assert GatherScatterMode.from_any("clip") is GatherScatterMode.from_any(CLIP) is CLIP
    with pytest.raises(ArgumentError, match="'promise_in_bounds'"):
        GatherScatterMode.from_any("wrap")
