"""Programs that were once compiled wrongly, mostly found by the random ones, cut to the bone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.compiler.bounds import assert_within, evaluate
from tests.compiler.programs import P
from tests.compiler.run import interpret, pipeline_of

from funcdl.compiler.cpu.target import CpuBackend
from funcdl.compiler.pipeline import native_segments
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.staging import trace_to_jaxpr
from funcdl.ops.indexed_windows import GatherScatterMode
from funcdl.ops.scatter import ScatterDimensionNumbers
from funcdl.runtime.toolchain import find_compiler

NDArray = np.ndarray[Any, Any]
ROWS = {
    "indices_are_sorted": False,
    "unique_indices": False,
    "mode": GatherScatterMode.CLIP,
}


def array(*shape: int, dtype: Any = np.float32) -> NDArray:
    return (np.arange(np.prod(shape)) % 7 - 2).reshape(shape).astype(dtype)


def scatter_rows(name: str, x: Any, rows: Any, updates: Any) -> Any:
    window = tuple(range(1, x.ndim))
    numbers = ScatterDimensionNumbers(window, (0,), (0,))
    return P[name](x, rows, updates, dimension_numbers=numbers, **ROWS)


def full(value: Any, shape: tuple[int, ...]) -> Any:
    return P["broadcast_in_dim"](np.float32(value), shape=shape, broadcast_dimensions=())


def dot(x: Any, y: Any) -> Any:
    numbers = (((x.ndim - 1,), (0,)), ((), ()))
    return P["dot_general"](
        x, y, dimension_numbers=numbers, preferred_element_type=None, precision=None
    )


def scalar_beside_an_array(flag: Any, x: Any, y: Any) -> Any:
    return P["neg"](P["select_n"](P["not"](flag), P["add"](x, y), y))


def scalar_view_beside_an_array(x: Any, part: Any, start: Any) -> Any:
    place = P["dynamic_update_slice"](start, start)
    return P["dynamic_slice"](x, place, slice_sizes=(2,)), P["add"](part, part)


def sums_of_nothing(x: Any) -> Any:
    total = P["reduce_sum"](x, axes=(0, 1))
    back = P["broadcast_in_dim"](total, shape=(0, 0), broadcast_dimensions=())
    rows = P["reduce_max"](back, axes=(0,))
    return P["add"](x, back), rows, P["sin"](rows), total


def products_of_nothing(x: Any) -> Any:
    flat = P["reshape"](x, new_sizes=(0, 3))
    return dot(P["reshape"](flat, new_sizes=(3, 0)), flat)


def same_row_again_and_again(x: Any) -> Any:
    rows = P["broadcast_in_dim"](np.int32(0), shape=(5, 1), broadcast_dimensions=())
    return scatter_rows("scatter_add", x, rows, full(1, (5, 3)))


def one_point_many_times(x: Any) -> Any:
    rows = P["iota"](dtype=np.dtype(np.int32), shape=(4, 1), dimension=0)
    return scatter_rows("scatter_add", x, rows, full(2, (4,)))


def one_update(x: Any, rows: Any) -> Any:
    return scatter_rows("scatter", x, rows, full(2, (1,)))


def sum_of_nothing_not_chosen(x: Any) -> Any:
    total = P["neg"](P["reduce_sum"](x, axes=(0,)))
    return P["select_n"](np.array(True), total, full(1, (3,)))


def mirrored_then_repeated(x: Any) -> Any:
    mirrored = P["rev"](x, dimensions=(0,))
    return P["broadcast_in_dim"](mirrored, shape=(2, 5), broadcast_dimensions=(1,))


def turned_then_repeated(x: Any) -> Any:
    turned = P["transpose"](x, permutation=(1, 0))
    return P["broadcast_in_dim"](turned, shape=(3, 2, 2), broadcast_dimensions=(0, 2))


def product_and_its_transpose(x: Any, y: Any) -> Any:
    product = dot(x, y)
    return P["transpose"](product, permutation=(1, 0)), product


def returned_and_overwritten(x: Any) -> Any:
    return x, P["add"](x, x)


FOUND: dict[Callable[..., Any], list[NDArray]] = {
    scalar_beside_an_array: [np.array(True), array(2, 3), array(2, 3)],
    scalar_view_beside_an_array: [array(5), array(4), np.array(2, np.int32)],
    sums_of_nothing: [array(0, 0)],
    products_of_nothing: [array(3, 0)],
    sum_of_nothing_not_chosen: [array(0, 3)],
    dot: [array(2, 0, dtype=np.int32), array(0, 3, dtype=np.int32)],
    same_row_again_and_again: [array(1, 3)],
    one_point_many_times: [array(1)],
    mirrored_then_repeated: [array(5)],
    turned_then_repeated: [array(2, 3)],
    product_and_its_transpose: [array(2, 3), array(3, 4)],
    returned_and_overwritten: [array(4)],
}


def traced(f: Callable[..., Any], args: list[NDArray]) -> ClosedJaxpr:
    def flat(*xs: Any) -> list[Any]:
        outs = f(*xs)
        return list(outs) if isinstance(outs, tuple) else [outs]

    return ClosedJaxpr(*trace_to_jaxpr(flat, [ShapedArray(x.shape, x.dtype) for x in args]))


def check(f: Callable[..., Any], args: list[NDArray]) -> None:
    closed = traced(f, args)
    donated = [True] * len(args)
    wanted = evaluate(closed, args)
    results = {"interpreted": interpret(pipeline_of(closed, donated), args)}
    if find_compiler() is not None:
        lowered = CpuBackend().lower(closed, name="found", donated=donated)
        results["compiled"] = list(lowered.compile()([np.array(x) for x in args]))
    for what, found in results.items():
        for number, want in enumerate(wanted):
            assert_within(found[number], want, f"{what}, output {number}")


@pytest.mark.parametrize("f", FOUND, ids=lambda f: f.__name__)
def test_found(f: Callable[..., Any]) -> None:
    check(f, FOUND[f])


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_one_update_at_a_computed_place() -> None:
    check(one_update, [array(3), np.array([[2]], np.int32)])


@pytest.mark.parametrize("name", ["scatter_add", "scatter_mul", "scatter_max", "scatter"])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_scatters_in_half_precision_run_in_kernels(name: str, dtype: Any) -> None:
    rows = np.array([[1], [0], [1]], np.int32)
    args = [array(3, 2, dtype=dtype), rows, array(3, 2, dtype=dtype)]

    def f(x: Any, rows: Any, updates: Any) -> Any:
        return scatter_rows(name, x, rows, updates)

    pipeline = pipeline_of(traced(f, args))
    assert len(native_segments(pipeline.program)) == len(pipeline.program.segments) == 1
    (found,) = interpret(pipeline, args)
    assert P[name].impl is not None
    wanted = P[name].impl(
        *args, dimension_numbers=ScatterDimensionNumbers((1,), (0,), (0,)), **ROWS
    )
    np.testing.assert_array_equal(found, wanted)
