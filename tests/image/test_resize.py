"""Resampled images against JAX, a loop over pixels, and laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.differential.engine import quick_compiler

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import image
from funcdl.errors import ArgumentError, FuncdlError, ShapeError
from funcdl.image import ResizeMethod
from funcdl.test_util import check_grads

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 5, 3)).astype(np.float32)
SMOOTH = ["linear", "cubic", "cubic-pytorch", "lanczos3", "lanczos5", "area"]
WARPS = [
    (np.array(scale, np.float32), np.array(shift, np.float32))
    for scale, shift in (([1.3, 0.6], [0.5, -1.0]), ([2, 2], [0, 0]), ([0.3, 1], [1, 2.5]))
]
SHAPES = [(14, 9, 3), (3, 2, 3), (1, 11, 3), (7, 0, 3), (20, 1, 6)]


def calls(module: Any, method: str, antialias: bool) -> Any:
    """Everything at once, as one program of JAX's, which compiles slowly."""

    def run(x: Any) -> list[Any]:
        outs = [module.resize(x, shape, method, antialias) for shape in SHAPES]
        for scale, shift in WARPS if method != "nearest" else []:
            outs.append(
                module.scale_and_translate(
                    x, (6, 8, 3), (0, 1), scale, shift, method, antialias=antialias
                )
            )
        return outs

    return run


@pytest.mark.peers
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(
    "method",
    [
        *("nearest", "linear", "cubic-pytorch"),
        *(
            pytest.param(m, marks=pytest.mark.slow)
            for m in ("cubic", "lanczos3", "lanczos5", "area")
        ),
    ],
)
def test_jax_agrees(method: str, antialias: bool) -> None:
    jax = pytest.importorskip("jax")
    program = jax.jit(calls(jax.image, method, antialias), compiler_options=quick_compiler())
    theirs = program(X)
    for wanted, found in zip(theirs, calls(image, method, antialias)(X), strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize(("size", "count"), [(3, 7), (17, 5), (28, 100), (224, 333), (5, 1)])
def test_nearest_takes_the_pixel_below_the_centre(size: int, count: int) -> None:
    wanted = [(2 * i + 1) * size // (2 * count) for i in range(count)]
    found = image.resize(np.arange(size, dtype=np.int32), (count,), "nearest")
    assert found.dtype == np.int32 and found.tolist() == wanted


@pytest.mark.parametrize("factor", [2, 3])
def test_area_is_the_mean_of_what_is_covered(factor: int) -> None:
    x = RNG.normal(size=(6, 12)).astype(np.float32)
    found = image.resize(x, (6 // factor, 12 // factor), ResizeMethod.AREA)
    blocks = x.reshape(6 // factor, factor, 12 // factor, factor)
    np.testing.assert_allclose(found, blocks.mean((1, 3)), atol=1e-6)


def test_linear_is_interpolation() -> None:
    x = RNG.normal(size=9).astype(np.float32)
    centres = (np.arange(20) + 0.5) * 9 / 20 - 0.5
    wanted = np.interp(centres, np.arange(9), x)
    np.testing.assert_allclose(image.resize(x, (20,), "linear"), wanted, atol=1e-6)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("method", SMOOTH)
def test_laws(method: str, antialias: bool) -> None:
    """Constants stay; the same size changes nothing; a shift by whole pixels is a shift."""
    for shape in ((14, 9), (3, 2)):
        out = image.resize(np.full((7, 5), 3.0, np.float32), shape, method, antialias)
        np.testing.assert_allclose(out, np.full(shape, 3.0), rtol=1e-5)
    np.testing.assert_array_equal(image.resize(X, X.shape, method, antialias), X)
    moved = image.scale_and_translate(X, X.shape, (0,), [1.0], [2.0], method, antialias)
    np.testing.assert_allclose(moved[2:], X[:-2], atol=1e-5)
    if method != "cubic-pytorch" or antialias:
        np.testing.assert_array_equal(moved[:2], 0)


@pytest.mark.parametrize("method", SMOOTH)
def test_jit_vmap_and_derivatives(method: str) -> None:
    def f(x: Any) -> Any:
        return image.resize(x, (4, 8), method)

    xs = np.moveaxis(X, 2, 0)
    found = fd.jit(fd.vmap(f))(xs)
    np.testing.assert_allclose(found, np.stack([f(x) for x in xs]), atol=1e-5)
    check_grads(f, (xs[0],), order=1, rtol=2e-2, atol=2e-2)


def test_derivatives_by_scale_and_translation() -> None:
    def f(scale: Any, shift: Any) -> Any:
        return image.scale_and_translate(X, (6, 8, 3), (0, 1), scale, shift, "cubic")

    args = np.array([1.3, 1.7], np.float32), np.array([0.21, -0.43], np.float32)
    check_grads(f, args, order=1, rtol=5e-2, atol=5e-2)


def test_integers_and_halves() -> None:
    assert image.resize(np.arange(4, dtype=np.int32), (8,), "linear").dtype == np.float32
    half = image.resize(fnp.arange(4.0).astype("bfloat16"), (8,), "linear")
    assert half.dtype.name == "bfloat16"


MISTAKES: dict[str, tuple[Any, type[FuncdlError], str]] = {
    "method": (
        lambda: image.resize(X, (2, 2, 3), "bicubics"),
        ArgumentError,
        "resize: method must be one of nearest, linear, bilinear, trilinear, triangle, lanczos3, "
        "lanczos5, cubic, bicubic, tricubic, cubic-pytorch, bicubic-pytorch, area; got 'bicubics'",
    ),
    "shape": (
        lambda: image.resize(X, (2, 2), "linear"),
        ShapeError,
        "resize requires a shape with one size for each dimension of image, of type f32[7,5,3]; "
        "got (2, 2)",
    ),
    "nearest": (
        lambda: image.scale_and_translate(X, X.shape, (0,), [1.0], [0.0], "nearest"),
        ArgumentError,
        "scale_and_translate has no method 'nearest'; resize has, and 'linear' is near",
    ),
    "scale": (
        lambda: image.scale_and_translate(X, X.shape, (0, 1), [1.0], [0.0], "linear"),
        ShapeError,
        "scale_and_translate requires scale and translation of shape (2,), one for each of "
        "spatial_dims; got ~f32[1] and ~f32[1]",
    ),
    "a dimension that is not resampled": (
        lambda: image.scale_and_translate(X, (7, 5, 4), (0,), [1.0], [0.0], "linear"),
        ShapeError,
        "scale_and_translate requires the size of dimension 2, which is not in spatial_dims, to "
        "stay 3; got shape (7, 5, 4)",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str) -> None:
    call, kind, message = MISTAKES[name]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message
