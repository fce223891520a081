"""Dynamic slices: clipping of starts, transposition, vmap over starts, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ops.structural.reader import run_kernel

from funcdl.core.array import Array, as_array
from funcdl.errors import DtypeError, ShapeError
from funcdl.ops.dynamic import dynamic_slice, dynamic_update_slice
from funcdl.transforms.derivatives import vjp
from funcdl.transforms.jit import make_jaxpr
from funcdl.transforms.vmap import vmap

NDArray = np.ndarray[Any, Any]
Case = tuple[tuple[int, ...], tuple[int, ...], list[int], str]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Shape, sizes, starts in and outside, and a dtype for these."""
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    sizes = tuple(draw(st.integers(0, n)) for n in shape)
    starts = [draw(st.integers(-3, 7) | st.just(100)) for _ in shape]
    return shape, sizes, starts, draw(st.sampled_from(["i1", "u1", "i4", "u4", "i8", "u8"]))


def place(case: Case) -> tuple[slice, ...]:
    """Where the slice is, from XLA's definition of clipping."""
    shape, sizes, starts, dtype = case
    converted = [int(np.array(start).astype(dtype)) for start in starts]
    firsts = [max(0, min(s, n - m)) for s, n, m in zip(converted, shape, sizes, strict=True)]
    return tuple(slice(first, first + m) for first, m in zip(firsts, sizes, strict=True))


def arguments(case: Case) -> tuple[NDArray, NDArray, list[NDArray]]:
    shape, sizes, starts, dtype = case
    operand = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    update = -1 - np.arange(math.prod(sizes), dtype=np.float32).reshape(sizes)
    return operand, update, [np.array(start).astype(dtype) for start in starts]


@given(cases())
def test_values(case: Case) -> None:
    operand, update, starts = arguments(case)
    params = {"slice_sizes": case[1]}
    wanted = operand[place(case)]
    np.testing.assert_array_equal(dynamic_slice.impl(operand, *starts, **params), wanted)
    np.testing.assert_array_equal(run_kernel(dynamic_slice, (operand, *starts), params), wanted)
    wanted = operand.copy()
    wanted[place(case)] = update
    args = (operand, update, *starts)
    np.testing.assert_array_equal(dynamic_update_slice.impl(*args), wanted)
    np.testing.assert_array_equal(run_kernel(dynamic_update_slice, args, {}), wanted)


@given(cases())
def test_cotangents(case: Case) -> None:
    operand, update, starts = arguments(case)
    ct = np.random.default_rng(0).normal(size=operand.shape).astype(np.float32)
    indices = [as_array(start) for start in starts]
    sizes = case[1]

    _, pull = vjp(
        lambda x, u: dynamic_update_slice(x, u, *indices), as_array(operand), as_array(update)
    )
    x_ct, u_ct = pull(as_array(ct))
    outside = ct.copy()
    outside[place(case)] = 0
    np.testing.assert_array_equal(x_ct.value, outside)
    np.testing.assert_array_equal(u_ct.value, ct[place(case)])
    _, pull = vjp(lambda x: dynamic_slice(x, *indices, slice_sizes=sizes), as_array(operand))
    (x_ct,) = pull(Array(ct[place(case)]))
    np.testing.assert_array_equal(x_ct.value, ct - outside)


@given(cases(), st.data())
def test_vmap_with_a_start_for_each(case: Case, data: st.DataObject) -> None:
    shape, sizes, starts, dtype = case
    size = data.draw(st.integers(1, 3))
    rng = np.random.default_rng(0)
    axes: list[int | None] = []
    args: list[NDArray] = []
    for own in (shape, sizes, *(() for _ in starts)):
        axis = data.draw(st.none() | st.integers(0, len(own)))
        whole = own if axis is None else (*own[:axis], size, *own[axis:])
        axes.append(axis)
        if len(args) < 2:
            args.append(np.asarray(rng.normal(size=whole)))
        else:
            args.append(np.asarray(rng.integers(-3, 8, whole)).astype(dtype))

    def check(primitive: Any, chosen: list[int], params: dict[str, Any]) -> None:
        own_axes, own_args = [axes[i] for i in chosen], [args[i] for i in chosen]
        if all(axis is None for axis in own_axes):
            return
        f = vmap(lambda *xs: primitive(*xs, **params), in_axes=tuple(own_axes))
        found = f(*map(as_array, own_args))
        for i in range(size):
            single = [
                x if axis is None else np.take(x, i, axis)
                for x, axis in zip(own_args, own_axes, strict=True)
            ]
            np.testing.assert_array_equal(found.value[i], primitive.impl(*single, **params))

    everything = list(range(len(args)))
    check(dynamic_slice, [0, *everything[2:]], {"slice_sizes": sizes})
    check(dynamic_update_slice, everything, {})


def test_a_batch_with_one_start_stays_a_dynamic_slice() -> None:
    x, start = as_array(np.zeros((4, 5))), as_array(np.int32(2))
    f = vmap(lambda x, i: dynamic_slice(x, i, slice_sizes=(2,)), in_axes=(0, None))
    assert [eqn.primitive for eqn in make_jaxpr(f)(x, start).eqns] == [dynamic_slice]


def test_errors() -> None:
    x, one = np.zeros((4, 5)), np.array(1, np.int32)
    with pytest.raises(ShapeError, match=r"must fit into the operand's shape \(4, 5\)"):
        dynamic_slice.impl(x, one, one, slice_sizes=(4, 6))
    with pytest.raises(ShapeError, match="a start is needed for each"):
        dynamic_slice.impl(x, one, slice_sizes=(1, 1))
    with pytest.raises(ShapeError, match="all scalars"):
        dynamic_slice.impl(x, one, np.zeros(2, np.int32), slice_sizes=(1, 1))
    with pytest.raises(DtypeError, match="integers of one dtype"):
        dynamic_slice.impl(x, one, np.array(1, np.int64), slice_sizes=(1, 1))
    with pytest.raises(DtypeError, match="integers of one dtype"):
        dynamic_slice.impl(x, np.array(1.0), np.array(1.0), slice_sizes=(1, 1))
    with pytest.raises(DtypeError, match="equal dtype"):
        dynamic_update_slice.impl(x, np.zeros((1, 1), np.float32), one, one)
    with pytest.raises(ShapeError, match="dynamic_update_slice: the slice's sizes"):
        dynamic_update_slice.impl(x, np.zeros((5, 5)), one, one)
