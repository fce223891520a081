"""Arrays that are extended by elements of their own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp

MODES = ("edge", "reflect", "symmetric", "wrap")
WIDTHS = list(itertools.product((0, 1, 2, 4, 11), (0, 1, 3, 7)))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("mode", MODES)
def test_elements_are_those_of_numpy(mode: str, size: int) -> None:
    x = np.arange(2 * size).reshape(size, 2)
    for low, high in WIDTHS:
        for values in (x.astype(np.float32), x.astype(np.int8), x % 3 == 0):
            widths = ((low, high), (1, 2))
            expected = np.pad(values, widths, mode)  # type: ignore[call-overload]
            np.testing.assert_array_equal(fnp.pad(values, widths, mode), expected, strict=True)


@pytest.mark.parametrize("widths", [(2, 2), (0, 3), (13, 14)])
@pytest.mark.parametrize("mode", MODES)
def test_cotangents_return_to_where_elements_came_from(mode: str, widths: tuple[int, int]) -> None:
    size = 6
    places = np.pad(np.arange(size), widths, mode)  # type: ignore[call-overload]
    cotangent = np.random.default_rng(0).normal(size=(3, places.size)).astype(np.float32)
    expected = np.zeros((3, size), np.float32)
    np.add.at(expected.T, places, cotangent.T)

    def pulled(x: object) -> object:
        return fnp.sum(fnp.pad(x, ((0, 0), widths), mode) * cotangent)

    for gradient in (fd.grad(pulled), fd.jit(fd.grad(pulled))):
        found = gradient(np.ones((3, size), np.float32))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_borders_are_slices(mode: str) -> None:
    x = np.ones((9, 8), np.float32)
    assert "gather" not in str(fd.make_jaxpr(lambda x: fnp.pad(x, 3, mode))(x))


def test_borders_that_repeat_an_array_many_times_are_taken_by_a_table() -> None:
    x = np.ones(3, np.float32)
    assert "gather" in str(fd.make_jaxpr(lambda x: fnp.pad(x, 40, "reflect"))(x))


def test_weak_types_stay() -> None:
    weak = fnp.asarray(2.0)[None]
    assert weak.aval.weak_type
    assert fnp.pad(weak, 1, "edge").aval.weak_type
