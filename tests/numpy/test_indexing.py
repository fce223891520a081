"""Indexing and updates against NumPy, by generated indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.errors import (
    ArgumentError,
    ConcretizationError,
    DtypeError,
    ImmutableArrayError,
    IndexingError,
    ShapeError,
)

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


@st.composite
def basic(draw: Any) -> tuple[tuple[int, ...], Any]:
    shape = draw(SHAPES)
    return shape, draw(hnp.basic_indices(shape, allow_newaxis=True, max_dims=6))


@st.composite
def mixed(draw: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """Index arrays that broadcast, among whole numbers, slices, new dimensions and masks."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    common = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=3))
    entries: list[Any] = []
    for size in shape[: draw(st.integers(1, len(shape)))]:
        kind = draw(st.sampled_from(["array", "array", "int", "slice", "mask", "new"]))
        if kind == "new":
            entries.append(None)
        if kind in ("array", "new"):
            own = tuple(draw(st.sampled_from([n, 1])) for n in common)
            own = own[draw(st.integers(0, len(own))) :]
            dtype = draw(st.sampled_from([np.int32, np.int8, np.int64]))
            entries.append(draw(hnp.arrays(dtype, own, elements=st.integers(-size, size - 1))))
        elif kind == "int":
            entries.append(draw(st.integers(-size, size - 1)))
        elif kind == "slice":
            entries.append(draw(st.slices(size)))
        else:
            mask = draw(hnp.arrays(bool, (size,)))
            if mask.sum() not in (1, *common[-1:]):
                mask = np.arange(size) == draw(st.integers(0, size - 1))
            entries.append(mask)
    if draw(st.booleans()):
        entries.insert(draw(st.integers(0, len(entries))), ...)
        # Entries behind the ellipsis are for the last dimensions, whose sizes are others.
        place = next(i for i, entry in enumerate(entries) if entry is ...)
        del entries[place + 1 :]
    return shape, tuple(entries)


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


def in_jit(f: Callable[..., Any], *args: Any) -> Any:
    with fd.config.override(backend="reference"):
        return fd.jit(f)(*args)


def traced_parts(index: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The integer arrays of an index, and how to put others in their place."""
    entries = list(index)
    places = [i for i, e in enumerate(entries) if isinstance(e, np.ndarray) and e.dtype.kind == "i"]

    def rebuild(arrays: list[Any]) -> tuple[Any, ...]:
        for i, array in zip(places, arrays, strict=True):
            entries[i] = array
        return tuple(entries)

    return [entries[i] for i in places], rebuild


@given(basic())
def test_basic_indices_read_as_in_numpy(case: tuple[tuple[int, ...], Any]) -> None:
    shape, index = case
    x = numbers(shape)
    np.testing.assert_array_equal(fnp.array(x)[index], x[index], strict=True)
    np.testing.assert_array_equal(in_jit(lambda x: x[index], x), x[index], strict=True)


@given(mixed())
@settings(max_examples=300)
def test_index_arrays_read_as_in_numpy(case: tuple[tuple[int, ...], tuple[Any, ...]]) -> None:
    shape, index = case
    x = numbers(shape)
    np.testing.assert_array_equal(fnp.array(x)[index], x[index], strict=True)
    arrays, rebuild = traced_parts(index)
    found = in_jit(lambda x, *arrays: x[rebuild(list(arrays))], x, *arrays)
    np.testing.assert_array_equal(found, x[index], strict=True)


@pytest.mark.parametrize(
    "index",
    [
        (..., [0, 3]),
        ([0, 2], [1, -1]),
        ([[0], [1]], [2, 3]),
        ((0, 1), [1, 2]),
        (1, [3, 0, 0]),
        (None, [0, 1], slice(1, 3)),
        ([True, False, True],),
        ([[True, False, False, True]] * 3,),
        (True, [0, 1]),
        ([True, False, True], True),
        ([],),
        ([], slice(None)),
    ],
    ids=str,
)
def test_lists_in_tuples_are_index_arrays(index: tuple[Any, ...]) -> None:
    x = numbers((3, 4))
    np.testing.assert_array_equal(fnp.array(x)[index], x[index], strict=True)
    np.testing.assert_array_equal(in_jit(lambda x: x[index], x), x[index], strict=True)
    written = x.copy()
    written[index] = -1
    np.testing.assert_array_equal(fnp.array(x).at[index].set(-1), written, strict=True)


def test_lists_in_tuples_may_hold_traced_numbers() -> None:
    x = numbers((3, 4))
    found = in_jit(lambda x, i: x[[i, 0], 1:], x, np.int32(2))
    np.testing.assert_array_equal(found, x[[2, 0], 1:], strict=True)


UPDATES: dict[str, Callable[..., Any]] = {
    "add": np.add.at,
    "subtract": np.subtract.at,
    "multiply": np.multiply.at,
    "min": np.minimum.at,
    "max": np.maximum.at,
}


def updated(method: str, x: np.ndarray, index: Any, value: Any) -> np.ndarray:
    out = x.copy()
    if method == "set":
        out[index] = value
    else:
        UPDATES[method](out, index, value)
    return out


@given(basic(), st.sampled_from(["set", *UPDATES]), st.booleans())
@settings(max_examples=200)
def test_basic_updates_are_those_of_numpy(
    case: tuple[tuple[int, ...], Any], method: str, scalar: bool
) -> None:
    shape, index = case
    x = numbers(shape)
    value = 2.5 if scalar else numbers(x[index].shape) * 3 - 1
    wanted = updated(method, x, index, value)
    np.testing.assert_array_equal(getattr(fnp.array(x).at[index], method)(value), wanted)
    found = in_jit(lambda x: getattr(x.at[index], method)(value), x)
    np.testing.assert_array_equal(found, wanted, strict=True)


@given(mixed(), st.sampled_from(["set", *UPDATES]))
@settings(max_examples=300)
def test_updates_by_index_arrays_are_those_of_numpy(
    case: tuple[tuple[int, ...], tuple[Any, ...]], method: str
) -> None:
    shape, index = case
    x = numbers(shape)
    chosen = x[index]
    # Where `set` meets an element twice, the result is defined for equal values only.
    value = 2.5 if method == "set" else numbers(chosen.shape) % 5 - 1
    wanted = updated(method, x, index, value)
    np.testing.assert_array_equal(getattr(fnp.array(x).at[index], method)(value), wanted)
    arrays, rebuild = traced_parts(index)
    found = in_jit(
        lambda x, *arrays: getattr(x.at[rebuild(list(arrays))], method)(value), x, *arrays
    )
    np.testing.assert_array_equal(found, wanted, strict=True)


def test_set_writes_each_value_to_its_place() -> None:
    x = numbers((4, 3))
    rows, value = np.array([2, 0, 3]), np.arange(9.0, dtype=np.float32).reshape(3, 3)
    wanted = x.copy()
    wanted[rows] = value
    np.testing.assert_array_equal(fnp.array(x).at[rows].set(value), wanted)
    wanted = x.copy()
    wanted[1:4, ::2][np.array([0, 2])] = value[:2, :2]
    index = (slice(1, 4), slice(None, None, 2))
    found = fnp.array(x).at[index].set(fnp.array(x)[index].at[np.array([0, 2])].set(value[:2, :2]))
    np.testing.assert_array_equal(found, wanted)


def test_indices_out_of_range() -> None:
    x = fnp.arange(3.0)
    np.testing.assert_array_equal(x[fnp.array([5, -7, 1])], [2, 0, 1])
    np.testing.assert_array_equal(x[fnp.array(9)], 2)
    np.testing.assert_array_equal(x.at[fnp.array([5, 1])].set(9), [0, 9, 2])
    np.testing.assert_array_equal(x.at[fnp.array([5, 1])].set(9, mode="clip"), [0, 9, 9])
    np.testing.assert_array_equal(x.at[fnp.array([5, 1])].get(mode="fill", fill_value=7), [7, 1])
    np.testing.assert_array_equal(fnp.take(x, fnp.array([5, -1, -4])), [np.nan, 2, np.nan])
    np.testing.assert_array_equal(fnp.take(fnp.arange(3), fnp.array([5])), [-(2**31)])


def test_a_traced_mask_updates_all_elements_with_one_value() -> None:
    x = numbers((3, 4))

    def clear(x: Any, row: Any) -> Any:
        return x.at[x > 5].set(0).at[x[:, 0] == 4].add(row)

    wanted = np.where(x > 5, 0, x)
    wanted[1] += x[0]
    np.testing.assert_array_equal(in_jit(clear, x, x[0]), wanted)


def test_a_traced_integer_chooses_a_slice() -> None:
    x = numbers((3, 4))
    text = str(fd.make_jaxpr(lambda x, i: x[i, 1:])(x, 0))
    assert "dynamic_slice" in text
    assert "gather" not in text
    for i in (0, 2, -1, -3):
        np.testing.assert_array_equal(in_jit(lambda x, i: x[i, 1:], x, i), x[i, 1:])
    np.testing.assert_array_equal(fd.vmap(lambda i: fnp.array(x)[i])(np.array([2, 0])), x[[2, 0]])


def test_divide_and_power_updates() -> None:
    x = numbers((4,)) + 1
    index = np.array([1, 1, 3])
    np.testing.assert_allclose(fnp.array(x).at[index].divide(2), [1, 0.5, 3, 2])
    np.testing.assert_allclose(fnp.array(x).at[index].power(2), [1, 16, 3, 16])


X = fnp.ones((3, 4))

ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: X[3],
        IndexingError,
        "index 3 is out of range for dimension 0, of size 3, of an array of shape (3, 4)",
    ),
    (
        lambda: X[0, -5],
        IndexingError,
        "index -5 is out of range for dimension 1, of size 4, of an array of shape (3, 4)",
    ),
    (
        lambda: X[0, 0, 0],
        IndexingError,
        "too many indices: an array of shape (3, 4) has 2 dimensions, but 3 were indexed",
    ),
    (lambda: X[..., ...], IndexingError, "an index can only have a single ellipsis ('...')"),
    (
        lambda: X[[0, 1]],
        DtypeError,
        "a list cannot be an index, got [0, 1]; convert it: x[funcdl.numpy.array(index)], or use a "
        "tuple to index several dimensions",
    ),
    (
        lambda: X[fnp.ones(2)],
        DtypeError,
        "index arrays must hold integers or bools, got f32[2]; convert it with .astype(int)",
    ),
    (
        lambda: X["a"],
        DtypeError,
        "an index must be made of integers, slices, None, ..., and arrays of integers or bools; "
        "got str: 'a'",
    ),
    (
        lambda: X[1.0],
        DtypeError,
        "an index must be made of integers, slices, None, ..., and arrays of integers or bools; "
        "got float: 1.0",
    ),
    (
        lambda: X[fnp.ones(4, bool)],
        IndexingError,
        "a mask must have the shape of the dimensions that it indexes, (3,), got (4,)",
    ),
    (
        lambda: X[np.array([0, 1]), np.array([0, 1, 2])],
        ShapeError,
        "index: shapes (2,), (3,) do not broadcast: dimension -1 (from the end) has sizes 2 and 3."
        "\nSizes must be equal or 1. Insert dimensions with x[:, None], or change the layout with "
        "reshape or transpose.",
    ),
    (
        lambda: X.at[0].set(fnp.ones(3)),
        ShapeError,
        "the value, f32[3], does not broadcast to the indexed elements, which have shape (4,)",
    ),
    (
        lambda: fnp.arange(3).at[0].add(1.5),
        DtypeError,
        "at[...].add: values of dtype float32 cannot be stored in i32[3] without loss; convert "
        "them with .astype('int32'), or the array with .astype('float32')",
    ),
    (
        lambda: fd.make_jaxpr(lambda x: x[x > 0])(X),
        ConcretizationError,
        "a mask must not be traced when it is used as an index, since the number of elements that "
        "it chooses would be part of the result's type; got bool[3,4].\nUse where(mask, x, other) "
        "for a result of fixed shape, or x.at[mask].set(value) to update.",
    ),
    (
        lambda: fd.make_jaxpr(lambda x, n: x[:n])(X, 2),
        ConcretizationError,
        "the bounds of a slice must not be traced, since they decide the result's shape; got "
        "~i32[].\nUse funcdl.lax.dynamic_slice, whose size is fixed, or "
        "x[start + funcdl.numpy.arange(size)].",
    ),
    (
        lambda: fd.make_jaxpr(lambda m, v: X.at[m].set(v))(fnp.ones(3, bool), fnp.ones((2, 4))),
        ShapeError,
        "x.at[mask]: with a traced mask the value must broadcast to (4,), the shape of each masked "
        "element, got f32[2,4]; use where(mask, values, x) with values of shape (3, 4)",
    ),
    (
        lambda: fnp.take(X, 1.5),
        DtypeError,
        "take: indices must be integers, got ~f32[]; convert them with .astype(int)",
    ),
    (
        lambda: fnp.take(fnp.zeros((0, 2)), fnp.array([1]), axis=0),
        IndexingError,
        "take: axis 0 of f32[0,2] has no elements to take",
    ),
    (
        lambda: fnp.take_along_axis(X, fnp.array([1]), 0),
        ShapeError,
        "take_along_axis: indices must have as many dimensions as the array, got i32[1] for "
        "f32[3,4]; insert one with indices[..., None]",
    ),
    (lambda: fnp.where(X, 1), ArgumentError, "where: give both x and y, or neither"),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2][:40] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert str(caught.value) == message


def test_item_assignment_shows_the_functional_form() -> None:
    with pytest.raises(ImmutableArrayError, match=r"x = x\.at\[index\]\.set\(value\)"):
        X[0] = 1  # type: ignore[index]


def test_a_view_and_its_array_share_memory_so_neither_is_writeable() -> None:
    x = fnp.arange(4.0)
    assert x[1:].value.base is not None
    assert not x[1:].value.flags.writeable
    assert not x.value.flags.writeable
