"""Derivatives of indexing, at[...].apply, single bools, and negative places that do not wrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.numpy.test_indexing import in_jit, mixed, numbers

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.errors import DtypeError


@given(mixed())
@settings(max_examples=60)
def test_the_gradient_of_reading_adds_at_the_index(
    case: tuple[tuple[int, ...], tuple[Any, ...]],
) -> None:
    shape, index = case
    weights = np.cos(numbers(np.zeros(shape)[index].shape))
    wanted = np.zeros(shape, np.float32)
    np.add.at(wanted, index, weights)
    found = fd.grad(lambda x: (x[index] * weights).sum())(fnp.zeros(shape))
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@given(mixed())
@settings(max_examples=60)
def test_the_gradients_of_adding_read_at_the_index(
    case: tuple[tuple[int, ...], tuple[Any, ...]],
) -> None:
    shape, index = case
    weights = np.cos(numbers(shape))
    value = np.zeros(weights[index].shape, np.float32)

    def total(x: Any, value: Any) -> Any:
        return (x.at[index].add(value) * weights).sum()

    by_x, by_value = fd.grad(total, (0, 1))(fnp.zeros(shape), value)
    np.testing.assert_allclose(by_x, weights)
    np.testing.assert_allclose(by_value, weights[index])


@st.composite
def with_bools(draw: Any) -> tuple[Any, ...]:
    """Indices of an array of shape (2, 3, 4) that have one single bool among other entries."""
    entries = [
        draw(st.sampled_from([0, 1, slice(None), slice(1, None), None, np.array([1, 0, 1])]))
    ]
    entries.append(draw(st.sampled_from([1, slice(None, None, -1), slice(2)])))
    entries = entries[: draw(st.integers(0, 2))]
    if draw(st.booleans()):
        entries.insert(draw(st.integers(0, len(entries))), ...)
    kind = draw(st.sampled_from([bool, np.bool_, np.array]))
    entries.insert(draw(st.integers(0, len(entries))), kind(draw(st.booleans())))
    return tuple(entries)


@given(with_bools())
@settings(max_examples=150)
def test_single_bools_are_those_of_numpy(index: tuple[Any, ...]) -> None:
    x = numbers((2, 3, 4))
    try:
        wanted = x[index]
    except IndexError:  # False and an index array of several elements do not broadcast.
        return
    np.testing.assert_array_equal(fnp.array(x)[index], wanted, strict=True)
    updated = x.copy()
    updated[index] = -1
    np.testing.assert_array_equal(in_jit(lambda x: x.at[index].set(-1), x), updated, strict=True)


PLACES = np.array([1, 3, 1, -4, 9])


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("mode", ["drop", "promise_in_bounds", "fill"])
def test_apply_counts_how_often_an_element_is_named(traced: bool, mode: str) -> None:
    x = np.arange(5.0, dtype=np.float32) + 1
    wanted = [1, 2 * 2**3, 3, 4 * 2, 5]

    def double(x: Any, places: Any) -> Any:
        return x.at[places].apply(lambda v: 2 * v, mode=mode)

    run: Callable[..., Any] = fd.jit(double) if traced else double
    np.testing.assert_array_equal(run(fnp.array(x), fnp.array(PLACES)), wanted)


@pytest.mark.parametrize(
    "index",
    [2, slice(1, 4, 2), np.array([3, 0]), np.arange(5) > 2, (..., np.array([True] * 5)), True],
    ids=str,
)
def test_apply_and_its_gradient(index: Any) -> None:
    x = np.linspace(-1, 1, 5)
    chosen = np.zeros(5, bool)
    chosen[index] = True

    def applied(x: Any) -> Any:
        return x.at[index].apply(fnp.exp)

    np.testing.assert_allclose(applied(fnp.array(x)), np.where(chosen, np.exp(x), x))
    np.testing.assert_allclose(in_jit(applied, x), np.where(chosen, np.exp(x), x))
    slope = fd.grad(lambda x: applied(x).sum())(fnp.array(x))
    np.testing.assert_allclose(slope, np.where(chosen, np.exp(x), 1))


def test_apply_keeps_the_dtype() -> None:
    with pytest.raises(DtypeError) as caught:
        fnp.arange(3).at[1].apply(lambda v: v / 2)
    assert str(caught.value) == (
        "at[...].apply: values of dtype float32 cannot be stored in i32[3] without loss; convert "
        "them with .astype('int32'), or the array with .astype('float32')"
    )


def test_negative_places_that_do_not_wrap_are_out_of_range() -> None:
    x, places = fnp.arange(4.0), fnp.array([-1, 2])
    at = x.at[places]
    np.testing.assert_array_equal(at.get(mode="fill", wrap_negative_indices=False), [np.nan, 2])
    np.testing.assert_array_equal(at.get(wrap_negative_indices=False), [0, 2])
    np.testing.assert_array_equal(at.set(9, wrap_negative_indices=False), [0, 1, 9, 3])
    np.testing.assert_array_equal(
        at.apply(fnp.negative, wrap_negative_indices=False), [0, 1, -2, 3]
    )


@pytest.mark.parametrize("shape", [(0,), (0, 2), (2, 0), (0, 0), (0, 3, 2)])
@pytest.mark.parametrize("update", ["set", "add", "multiply", "max"])
def test_no_places_of_an_empty_array(update: str, shape: tuple[int, ...]) -> None:
    def f(x: Any) -> Any:
        return getattr(x.at[fnp.arange(0)], update)(1.0)

    x = fnp.ones(shape)
    assert f(x).shape == fd.jit(f)(x).shape == shape
    assert fd.grad(lambda x: f(x).sum())(x).shape == shape
    assert fd.vmap(f)(fnp.ones((3, *shape))).shape == (3, *shape)


@pytest.mark.parametrize("shift", [-9, -1, 0, 2, 7])
def test_rolling_by_a_traced_number(shift: int) -> None:
    x = numbers((3, 4))
    for axis in (None, 0, 1):
        found = fd.jit(lambda x, s, axis=axis: fnp.roll(x, s, axis))(x, shift)
        np.testing.assert_array_equal(found, np.roll(x, shift, axis), strict=True)
    pair = fd.jit(lambda x, s: fnp.roll(x, (s, 1), (0, 1)))(x, shift)
    np.testing.assert_array_equal(pair, np.roll(x, (shift, 1), (0, 1)))
