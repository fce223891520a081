"""Convolutions, cosine transforms, trends and interpolation against SciPy; derivatives, errors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.cluster.vq
import scipy.fft
import scipy.interpolate
import scipy.ndimage
import scipy.signal
from scipy.integrate import trapezoid

import funcdl as fd
import funcdl.numpy as fnp
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.scipy import cluster, fft, integrate, interpolate, ndimage, signal
from funcdl.test_util import check_grads

NDArray = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def normal(*shape: int) -> NDArray:
    return np.asarray(RNG.normal(size=shape))


SHAPES = [
    *[((6,), (3,)), ((3,), (6,)), ((5,), (5,)), ((1,), (4,)), ((), ())],
    *[((4, 5), (2, 3)), ((2, 3), (4, 5)), ((2, 5), (4, 3)), ((3, 2, 4), (2, 2, 3))],
]


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", ["convolve", "correlate", "fftconvolve"])
def test_convolutions(name: str, mode: str) -> None:
    for first, second in SHAPES:
        if mode == "valid" and first == (2, 5):
            continue
        x, y = normal(*first), normal(*second)
        found = getattr(signal, name)(x, y, mode)
        wanted = getattr(scipy.signal, name)(x, y, mode)
        np.testing.assert_allclose(found, wanted, 1e-12, 1e-13, err_msg=f"{first} {second}")
        if name != "fftconvolve":
            by_fft = getattr(signal, name)(x, y, mode, method="fft")
            np.testing.assert_allclose(by_fft, wanted, 1e-12, 1e-13)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", ["convolve2d", "correlate2d"])
def test_convolutions_of_matrices(name: str, mode: str) -> None:
    for first, second in [((4, 5), (2, 3)), ((3, 3), (3, 3)), ((2, 3), (4, 5))]:
        x, y = normal(*first), normal(*second)
        found = getattr(signal, name)(x, y, mode)
        np.testing.assert_allclose(found, getattr(scipy.signal, name)(x, y, mode), 1e-12, 1e-13)


def test_convolutions_of_other_numbers() -> None:
    x, y = normal(5) + 1j * normal(5), normal(3) + 1j * normal(3)
    for name in ("convolve", "correlate", "fftconvolve"):
        np.testing.assert_allclose(
            getattr(signal, name)(x, y), getattr(scipy.signal, name)(x, y), 1e-12
        )
    whole = signal.convolve(np.arange(4, dtype=np.int32), np.arange(3, dtype=np.int32))
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, np.convolve(np.arange(4), np.arange(3)))
    half = signal.fftconvolve(np.ones(3, np.float16), np.ones(2, np.float16))
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, [1, 2, 2, 1], 1e-3)
    rows, row = normal(4, 6), normal(4, 2)
    found = signal.fftconvolve(rows, row, axes=1)
    np.testing.assert_allclose(found, scipy.signal.fftconvolve(rows, row, axes=1), 1e-12)


@pytest.mark.parametrize("norm", [None, "backward", "ortho"])
@pytest.mark.parametrize("name", ["dct", "idct"])
def test_cosine_transforms(name: str, norm: str | None) -> None:
    for shape, n, axis in itertools.product([(6,), (1,), (5, 4), (2, 7)], [None, 3, 8], [0, -1]):
        x = normal(*shape)
        found = getattr(fft, name)(x, n=n, axis=axis, norm=norm)
        wanted = getattr(scipy.fft, name)(x, n=n, axis=axis, norm=norm)
        np.testing.assert_allclose(found, wanted, 1e-12, 1e-13)
    many = getattr(fft, name + "n")(normal(2, 3, 4) * 0 + x.sum(), norm=norm)
    assert many.shape == (2, 3, 4)


def test_cosine_transforms_along_several_axes() -> None:
    x = normal(3, 4, 5)
    for s, axes in [(None, None), ((2, 6), None), (None, (0,)), ((4, 2), (0, 2))]:
        found = fft.dctn(x, s=s, axes=axes)
        np.testing.assert_allclose(found, scipy.fft.dctn(x, s=s, axes=axes), 1e-12, 1e-12)
    np.testing.assert_allclose(fft.idctn(fft.dctn(x)), x, 1e-12, 1e-13)
    assert fft.dct(np.arange(3, dtype=np.int32)).dtype == np.float32


MODES = {"constant": "grid-constant", "wrap": "grid-wrap"}


@pytest.mark.parametrize("mode", ["constant", "nearest", "wrap", "mirror", "reflect"])
@pytest.mark.parametrize("order", [0, 1])
def test_map_coordinates(order: int, mode: str) -> None:
    for shape in [(5,), (1,), (4, 6), (2, 3, 4)]:
        x = normal(*shape)
        places = [RNG.uniform(-3 * n, 4 * n, (2, 9)) for n in shape]
        found = ndimage.map_coordinates(x, places, order, mode, 0.5)
        wanted = scipy.ndimage.map_coordinates(
            x, places, order=order, mode=MODES.get(mode, mode), cval=0.5
        )
        if shape == (1,) and mode == "mirror":
            wanted = np.full((2, 9), x[0])
        np.testing.assert_allclose(found, wanted, 1e-9, 1e-10, err_msg=str(shape))


def test_map_coordinates_of_integers() -> None:
    found = ndimage.map_coordinates(np.arange(-2, 3), [np.array([0.5, 1.6, 3.5])], 1)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, [-2, 0, 2])
    outside = ndimage.map_coordinates(np.arange(3), [np.array([-9.0, 1.0])], 0, "constant", 0.9)
    np.testing.assert_array_equal(outside, [0, 1])


@pytest.mark.parametrize("method", ["linear", "nearest"])
@pytest.mark.parametrize("fill_value", [np.nan, 7.0, None])
def test_interpolation_on_grids(method: str, fill_value: float | None) -> None:
    points = (np.array([0.0, 1, 3, 4.5]), np.array([-2.0, 0, 5]))
    for trailing in ((), (2,)):
        values = normal(4, 3, *trailing)
        places = np.stack([RNG.uniform(-1, 6, (5, 7)), RNG.uniform(-3, 6, (5, 7))], axis=-1)
        ours = interpolate.RegularGridInterpolator(points, values, method, fill_value=fill_value)
        theirs = scipy.interpolate.RegularGridInterpolator(
            points, values, method, bounds_error=False, fill_value=fill_value
        )
        np.testing.assert_allclose(ours(places), theirs(places), 1e-12, 1e-13)
        apart = ours((places[..., 0], places[..., 1]))
        np.testing.assert_array_equal(apart, ours(places))
    np.testing.assert_allclose(ours(places, "nearest"), theirs(places, "nearest"), 1e-12)


@pytest.mark.parametrize("bp", [0, [2, 4]])
def test_detrend(bp: Any) -> None:
    x = normal(3, 7)
    np.testing.assert_allclose(
        signal.detrend(x, bp=bp), scipy.signal.detrend(x, bp=bp), 1e-11, 1e-12
    )
    for axis in (0, 1):
        found = signal.detrend(x, axis, "constant")
        np.testing.assert_allclose(found, scipy.signal.detrend(x, axis, "constant"), 1e-12, 1e-13)


def test_codes_and_integrals() -> None:
    for shape in ((9, 3), (9,)):
        x = normal(*shape)
        codes, distances = cluster.vq.vq(x, x[:4] + 0.1)
        wanted = scipy.cluster.vq.vq(x, x[:4] + 0.1)
        np.testing.assert_array_equal(codes, wanted[0])
        np.testing.assert_allclose(distances, wanted[1], 1e-12)
    y, x = normal(3, 5), np.sort(normal(5))
    np.testing.assert_allclose(integrate.trapezoid(y, x), trapezoid(y, x), 1e-12)


SMOOTH: list[tuple[str, Callable[..., Any], tuple[NDArray, ...]]] = [
    ("convolve", signal.convolve, (normal(4, 3), normal(2, 2))),
    ("correlate", lambda x, y: signal.correlate(x, y, "same"), (normal(5), normal(3))),
    ("fftconvolve", lambda x, y: signal.fftconvolve(x, y, "valid"), (normal(5), normal(3))),
    ("dct", lambda x: fft.dct(x, norm="ortho"), (normal(5),)),
    ("idctn", fft.idctn, (normal(3, 4),)),
    ("detrend", signal.detrend, (normal(5),)),
    (
        "map_coordinates",
        lambda x, a, b: ndimage.map_coordinates(x, [a, b], 1, "reflect"),
        (normal(4, 5), np.array([0.3, -1.2, 5.7]), np.array([2.2, 0.6, -0.7])),
    ),
    (
        "interpolator",
        lambda line, values, x: interpolate.RegularGridInterpolator(
            (fnp.cumsum(fnp.exp(line)),), values, fill_value=None
        )(x[:, None]),
        (normal(4) / 9, normal(4, 2), np.array([1.3, 2.2, 9.0])),
    ),
    ("vq", lambda x, c: cluster.vq.vq(x, c)[1], (normal(4, 2), normal(3, 2))),
    ("trapezoid", integrate.trapezoid, (normal(2, 4), np.array([0.0, 1, 1.5, 3]))),
]


@pytest.mark.parametrize(("name", "f", "args"), SMOOTH, ids=[name for name, *_ in SMOOTH])
def test_derivatives_and_transforms(
    name: str, f: Callable[..., Any], args: tuple[NDArray, ...]
) -> None:
    check_grads(f, args, order=2)
    stacked = [np.stack([x, x * 1.01]) for x in args]
    found = fd.jit(fd.vmap(f))(*stacked)
    for i in range(2):
        wanted = f(*(x[i] for x in stacked))
        np.testing.assert_allclose(found[i], wanted, 1e-5, 1e-6)


def test_the_distance_to_a_code_itself_has_a_derivative() -> None:
    x = np.array([[1.0, 2.0]])
    np.testing.assert_array_equal(fd.grad(lambda c: cluster.vq.vq(x, c)[1].sum())(x), [[0, 0]])


X, LINE = np.ones((2, 5)), np.arange(3.0)
Grid = interpolate.RegularGridInterpolator
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: signal.convolve(X, X[0]), ShapeError, "convolve: arrays with elements and as many"),
    (lambda: signal.convolve(X, X[:0]), ShapeError, "convolve: arrays with elements"),
    (lambda: signal.correlate(X, np.ones((4, 3)), "valid"), ShapeError, "for mode 'valid' one"),
    (lambda: signal.convolve(X, X, "half"), ArgumentError, "mode must be one of"),
    (lambda: signal.convolve(X, X, method="slow"), ArgumentError, "method must be 'auto'"),
    (lambda: signal.convolve2d(X, X, boundary="wrap"), ArgumentError, "boundary must be 'fill'"),
    (lambda: signal.correlate2d(X[0], X[0]), ShapeError, "correlate2d: matrices are needed"),
    (lambda: signal.detrend(X, type="cubic"), ArgumentError, "type must be 'linear'"),
    (lambda: signal.detrend(X, bp=9), ArgumentError, "bp must be from 0 to 5"),
    (lambda: signal.detrend(X, overwrite_data=True), ArgumentError, "arrays are immutable"),
    (lambda: fft.dct(X, 4), ArgumentError, "dct: type must be 2, got 4"),
    (lambda: fft.idct(X, norm="forward"), ArgumentError, "norm must be None"),
    (lambda: fft.dct(X, n=0), ArgumentError, "at least one point"),
    (lambda: fft.dctn(X, s=(2,), axes=(0, 1)), ArgumentError, "equal lengths"),
    (lambda: ndimage.map_coordinates(X, [LINE], 1), ShapeError, "one array of coordinates"),
    (lambda: ndimage.map_coordinates(X, [LINE, LINE], 3), ArgumentError, "order must be 0 or 1"),
    (lambda: ndimage.map_coordinates(X, [LINE, LINE], 1, "grid"), ArgumentError, "mode must be"),
    (lambda: Grid((LINE,), LINE, "cubic"), ArgumentError, "method must be one of"),
    (lambda: Grid((LINE,), LINE, bounds_error=True), ArgumentError, "bounds_error must be False"),
    (lambda: Grid((LINE, LINE), LINE), ShapeError, "points must be vectors"),
    (lambda: Grid((LINE,), LINE)(np.ones((4, 2))), ShapeError, "a place has 1 coordinates"),
    (lambda: cluster.vq.vq(X, X[:, :2]), ShapeError, "rows of one length"),
    (lambda: cluster.vq.vq(X * 1j, X), DtypeError, "vq takes real numbers"),
]


@pytest.mark.parametrize(("f", "kind", "message"), ERRORS, ids=[m for *_, m in ERRORS])
def test_errors(f: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        f()
    assert message in str(caught.value)
