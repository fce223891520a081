"""Results whose size depends on values: known values, and `size` where they are traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.numpy.test_indexing import in_jit

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.errors import ArgumentError, ConcretizationError, ShapeError

VECTORS = hnp.arrays(np.int32, st.integers(1, 8), elements=st.integers(-3, 3))
SIZES = st.integers(0, 10)


def resized(x: np.ndarray, size: int, fill: Any) -> np.ndarray:
    """Cut or filled up to a size, along the first axis."""
    return np.concatenate([x[:size], np.full((max(size - len(x), 0), *x.shape[1:]), fill, x.dtype)])


@given(hnp.arrays(bool, hnp.array_shapes(max_dims=3, max_side=4)), SIZES)
@settings(max_examples=20)
def test_nonzero(mask: np.ndarray, size: int) -> None:
    wanted = np.nonzero(mask)
    for ours, theirs in zip(fnp.nonzero(fnp.array(mask)), wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    found = in_jit(lambda x: fnp.nonzero(x, size=size, fill_value=-1), mask)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, resized(theirs, size, -1))


@given(VECTORS, SIZES)
@settings(max_examples=20)
def test_unique(x: np.ndarray, size: int) -> None:
    options = dict.fromkeys(("return_index", "return_inverse", "return_counts"), True)
    wanted = np.unique(x, **options)
    for ours, theirs in zip(fnp.unique(fnp.array(x), **options), wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    found = in_jit(lambda x: fnp.unique(x, size=size, fill_value=7, **options), x)
    values, index, inverse, counts = wanted
    filled = [resized(values, size, 7), resized(index, size, index[0]), inverse]
    for ours, theirs in zip(found, [*filled, resized(counts, size, 0)], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(
    hnp.arrays(
        np.int32, st.tuples(st.integers(1, 4), st.integers(1, 3)), elements=st.integers(0, 1)
    )
)
@settings(max_examples=12)
def test_unique_rows(x: np.ndarray) -> None:
    wanted, inverse = np.unique(x, axis=0, return_inverse=True)
    found, place = fnp.unique(fnp.array(x), axis=0, return_inverse=True)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(place, inverse.ravel())


SETS: dict[str, int | None] = {
    "union1d": None,
    "intersect1d": None,
    "setdiff1d": 0,
    "setxor1d": None,
}


@pytest.mark.parametrize("name", SETS)
@given(x=VECTORS, y=VECTORS, size=SIZES)
@settings(max_examples=12)
def test_sets(name: str, x: np.ndarray, y: np.ndarray, size: int) -> None:
    wanted = getattr(np, name)(x, y)
    np.testing.assert_array_equal(getattr(fnp, name)(fnp.array(x), fnp.array(y)), wanted)
    found = in_jit(lambda x, y: getattr(fnp, name)(x, y, size=size, fill_value=9), x, y)
    np.testing.assert_array_equal(found, resized(wanted, size, 9))


@given(VECTORS, VECTORS)
@settings(max_examples=30)
def test_indices_of_an_intersection(x: np.ndarray, y: np.ndarray) -> None:
    wanted = np.intersect1d(x, y, return_indices=True)
    found = fnp.intersect1d(fnp.array(x), fnp.array(y), return_indices=True)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(
    hnp.arrays(np.float64, st.integers(0, 9), elements=st.sampled_from([-1, 0, 0.5, 2, np.nan])),
    hnp.arrays(np.float64, (5,), elements=st.sampled_from([-2, 0, 0.5, 3, np.nan, np.inf])),
    st.sampled_from(["left", "right"]),
    st.sampled_from(["scan", "scan_unrolled", "sort", "compare_all"]),
)
@settings(max_examples=80)
def test_searchsorted(a: np.ndarray, v: np.ndarray, side: Any, method: str) -> None:
    a = np.sort(a)
    found = fnp.searchsorted(fnp.array(a), fnp.array(v), side, method=method)
    np.testing.assert_array_equal(found, np.searchsorted(a, v, side))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 64, 100, 127, 128, 300])
@pytest.mark.parametrize("side", ["left", "right"])
def test_compiled_search_of_many_values(size: int, side: Any) -> None:
    rng = np.random.default_rng(size)
    a = np.sort(rng.integers(-40, 40, size).astype(np.float32))
    a[size // 2 + 2 :] = np.nan
    v = np.concatenate([a, a + 0.5, a - 0.5, [-np.inf, np.inf, np.nan], rng.normal(size=40)])
    v = v.astype(np.float32)
    search = fd.jit(lambda a, v: fnp.searchsorted(a, v, side))
    np.testing.assert_array_equal(search(a, v), np.searchsorted(a, v, side))
    # All steps in one kernel: no bounds go through memory.
    assert search.lower(a, v).as_text("groups").count("group ") == 1


def test_search_of_each_row_in_its_own() -> None:
    rng = np.random.default_rng(0)
    a = np.sort(rng.normal(size=(5, 33)).astype(np.float32), axis=1)
    v = rng.normal(size=(5, 17)).astype(np.float32)
    found = in_jit(fd.vmap(fnp.searchsorted), a, v)
    wanted = [np.searchsorted(row, values) for row, values in zip(a, v, strict=True)]
    np.testing.assert_array_equal(found, wanted)


def test_known_values_are_known_under_a_trace() -> None:
    known = np.array([0, 3, 0, 5])
    np.testing.assert_array_equal(in_jit(lambda x: x[fnp.flatnonzero(known)], known), [3, 5])
    np.testing.assert_array_equal(in_jit(lambda x: fnp.compress(known > 3, x), known), [5])


KNOWN_UNDER_GRAD: list[tuple[str, Callable[[Any], Any], list[float]]] = [
    ("unique", lambda x: fnp.unique(x) ** 2, [0, 4, 6, 0, 0, 0]),
    ("unique_values", lambda x: fnp.unique_values(x) ** 2, [0, 4, 6, 0, 0, 0]),
    ("union1d", lambda x: fnp.union1d(x[:2], x[2:4]) ** 2, [0, 4, 6, 0, 0, 0]),
    ("trim_zeros", lambda x: fnp.trim_zeros(x) ** 2, [0, 4, 6, 4, 0, 0]),
    ("nonzero", lambda x: x[fnp.nonzero(x)] ** 2, [0, 4, 6, 4, 0, 0]),
    ("flatnonzero", lambda x: x[fnp.flatnonzero(x)] ** 2, [0, 4, 6, 4, 0, 0]),
    ("where", lambda x: x[fnp.where(x)] ** 2, [0, 4, 6, 4, 0, 0]),
    ("polymul", lambda x: fnp.polymul(x, x, trim_leading_zeros=True), [0, 14, 14, 14, 14, 14]),
    ("roots", lambda x: fnp.roots(x[1:4]).real, [0, 0.75, -0.5, 0, 0, 0]),
]


@pytest.mark.parametrize(("name", "f", "wanted"), KNOWN_UNDER_GRAD, ids=lambda x: str(x)[:12])
def test_values_are_known_under_grad_alone(
    name: str, f: Callable[[Any], Any], wanted: list[float]
) -> None:
    x = np.array([0, 2, 3, 2, 0, 0.0])
    np.testing.assert_allclose(fd.grad(lambda x: fnp.sum(f(x)))(x), wanted, 1e-12, 1e-12)
    tangent = fd.jvp(lambda x: fnp.sum(f(x)), (x,), (np.ones(6),))[1]
    assert float(tangent) == pytest.approx(sum(wanted))


TRACED: list[tuple[str, Callable[[Any], Any]]] = [
    ("nonzero", fnp.nonzero),
    ("flatnonzero", fnp.flatnonzero),
    ("argwhere", fnp.argwhere),
    ("where with one argument", fnp.where),
    ("unique", fnp.unique),
    ("unique_counts", fnp.unique_counts),
]


@pytest.mark.parametrize(("name", "f"), TRACED, ids=[name for name, _ in TRACED])
def test_without_size_values_must_be_known(name: str, f: Callable[[Any], Any]) -> None:
    with pytest.raises(ConcretizationError) as caught:
        fd.jit(f)(fnp.arange(3))
    assert str(caught.value) == (
        f"{name}: how many elements are found would be part of the result's type, so the array "
        "must not be traced, got i32[3].\nPass size=, the number of elements of the result (it is "
        "cut or filled up to that), or use a mask: where(condition, x, y)."
    )


X = fnp.ones((3, 4))

ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: fnp.searchsorted(X, 1.0),
        ShapeError,
        "searchsorted: a must be a vector, got f32[3,4]",
    ),
    (
        lambda: fnp.searchsorted(X[0], 1.0, side="middle"),
        ArgumentError,
        "searchsorted: side must be 'left' or 'right', got 'middle'",
    ),
    (
        lambda: fnp.searchsorted(X[0], 1.0, method="hash"),
        ArgumentError,
        "searchsorted: method must be one of 'scan', 'scan_unrolled', 'sort', 'compare_all', got "
        "'hash'",
    ),
    (
        lambda: fnp.nonzero(fnp.array(3)),
        ShapeError,
        "nonzero: a scalar has no places; use nonzero(atleast_1d(x)), got bool[]",
    ),
    (
        lambda: fnp.nonzero(X, size=2, fill_value=(1, 2, 3)),
        ArgumentError,
        "nonzero: fill_value must be one number, or one for each of 2 dimensions, got (1, 2, 3)",
    ),
    (
        lambda: fnp.histogram(X, bins="auto"),
        ArgumentError,
        "histogram: bins must be a number or an array of edges, got 'auto': rules choose a number "
        "by the values, and the result's size cannot depend on these",
    ),
    (
        lambda: fnp.median(fnp.zeros(0)),
        ArgumentError,
        "median: there is no median of no elements, of an array of f32[0]",
    ),
    (
        lambda: fnp.partition(X, 4),
        ArgumentError,
        "partition: kth=4 is no place along an axis of 4 elements",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[row[2][:40] for row in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert str(caught.value) == message
