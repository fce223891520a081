"""Fourier transforms in C: native in loops too, and as exact as their number of steps allows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.compiler import fft as transforms
from funcdl.compiler.roots import roots_of_unity
from funcdl.config import config
from funcdl.ops.fft import FftType
from funcdl.runtime.toolchain import find_compiler

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

NDArray = np.ndarray[Any, Any]
KINDS = ("fft", "ifft", "rfft", "irfft")
# Powers of two; other factors; primes with loops of their own, without, and with chirps; lengths
# that are lanes, panels, or chirped after halving; on both sides of each of these borders.
LENGTHS = [*range(1, 18), 30, 31, 32, 33, 37, 61, 63, 64, 65, 67, 74, 100, 105, 121, 127, 128, 131]
LENGTHS += [134, 210, 254, 256, 257, 262, 330, 512, 720, 1000, 1009, 1024, 2018, 2187, 4096, 4100]
BATCHES = ((), (3,), (19,))


def operand(kind: str, n: int, batch: tuple[int, ...], dtype: str, seed: int = 0) -> NDArray:
    rng = np.random.default_rng([n, seed])
    shape = (*batch, n // 2 + 1 if kind.startswith("irfft") else n)
    x = rng.standard_normal(shape)
    if not kind.startswith("rfft"):
        x = x + 1j * rng.standard_normal(shape)
        dtype = {"float32": "complex64", "float64": "complex128"}[dtype]
    return x.astype(dtype)


def wide(x: NDArray) -> NDArray:
    return x.astype(np.promote_types(x.dtype, np.float64))


def assert_close(found: Any, wanted: NDArray, points: int) -> None:
    """Errors grow with the logarithm of the length, relative to the mean size of results."""
    found = np.asarray(found)
    assert found.shape == wanted.shape
    size = np.sqrt(np.mean(np.abs(wanted) ** 2)) if wanted.size else 0
    bound = 2 * np.finfo(found.dtype).eps * (1 + math.log2(points)) * size
    assert np.abs(found - wanted).max(initial=0) <= bound


def compiled(f: Callable[..., Any], *args: Any) -> Any:
    """The results of the C back end, which must not need the host."""
    with config.override(backend="cpu"):
        jitted = fd.jit(f)
        assert not on_host(f, *args)
        return jitted(*args)


def on_host(f: Callable[..., Any], *args: Any) -> list[str]:
    with config.override(backend="cpu"):
        text = fd.jit(f).lower(*args).as_text("kernels")
    return [line for line in text.splitlines() if line.startswith("host")]


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_lengths_are_as_numpy_in_double_precision(kind: str, dtype: str) -> None:
    calls = [(n, batch) for n in LENGTHS for batch in BATCHES]
    args = [operand(kind, n, batch, dtype) for n, batch in calls]

    def program(*xs: Any) -> list[Any]:
        transform = getattr(fnp.fft, kind)
        return [transform(x, n) for x, (n, _) in zip(xs, calls, strict=True)]

    for found, x, (n, _) in zip(compiled(program, *args), args, calls, strict=True):
        assert_close(found, getattr(np.fft, kind)(wide(x), n), n)


SHAPES = [(4, 6), (33, 5), (2, 17, 20), (3, 5, 1), (2, 67, 3), (1, 131, 2), (64, 64), (5, 4, 6, 7)]


@needs_compiler
@pytest.mark.parametrize("name", [f"{kind}n" for kind in KINDS])
def test_several_dimensions(name: str) -> None:
    calls = [(s, d) for s in SHAPES for d in ("float32", "float64")]
    args = [operand(name, s[-1], s[:-1], d) for s, d in calls]

    def axes(shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(range(len(shape)))[-3:]

    def apply(module: Any, x: Any, shape: tuple[int, ...]) -> Any:
        lengths = [shape[a] for a in axes(shape)]
        return getattr(module, name)(x, lengths, axes(shape))

    def program(*xs: Any) -> list[Any]:
        return [apply(fnp.fft, x, s) for x, (s, _) in zip(xs, calls, strict=True)]

    for found, x, (shape, _) in zip(compiled(program, *args), args, calls, strict=True):
        assert_close(found, apply(np.fft, wide(x), shape), math.prod(shape) + 1)


@needs_compiler
@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.integers(1, 40), max_size=2),
    st.integers(1, 400),
    st.integers(0, 2),
)
def test_any_dimension(kind: str, batch: list[int], n: int, axis: int) -> None:
    x = operand(kind, n, tuple(batch), "float32")
    axis = min(axis, len(batch))
    x = np.moveaxis(x, -1, axis)[::-1]  # not contiguous
    with config.override(backend="cpu"):
        found = fd.jit(lambda x: getattr(fnp.fft, kind)(x, n, axis))(x)
    assert_close(found, getattr(np.fft, kind)(wide(x), n, axis), n)


@needs_compiler
@pytest.mark.parametrize("n", [6, 7, 96, 97, 134, 1024])
def test_derivatives_and_batching(n: int) -> None:
    x = operand("rfft", n, (3,), "float64")

    def loss(x: Any) -> Any:
        spectrum = fnp.fft.rfft(x)
        return fnp.fft.irfft(spectrum, n) @ x + fnp.abs(fnp.fft.ifft(spectrum)).sum()

    f = fd.vmap(fd.value_and_grad(loss))
    with config.override(backend="cpu"):
        found = fd.jit(f)(x)
    for got, want in zip(found, f(x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)


def smoothed(x: Any) -> Any:
    return fnp.fft.irfft(fnp.fft.rfft(x), x.shape[-1])


@needs_compiler
@pytest.mark.parametrize("n", [20, 37, 131, 256])
def test_loops_stay_native(n: int) -> None:
    x = operand("rfft", n, (2,), "float32")

    def scanned(x: Any) -> Any:
        return lax.scan(lambda c, _: (fnp.tanh(smoothed(c)), fnp.fft.rfft(c)), x, None, length=4)

    def looped(x: Any) -> Any:
        return lax.fori_loop(0, 4, lambda i, c: fnp.tanh(smoothed(c)), x)

    want = np.tanh(np.tanh(np.tanh(np.tanh(x.astype(np.float64)))))
    for last in (compiled(scanned, x)[0], compiled(looped, x)):
        np.testing.assert_allclose(last, want, atol=1e-6)
    first = compiled(scanned, x)[1][0]
    assert_close(first, np.fft.rfft(x.astype(np.float64)), n)


def vorticity(w: Any) -> Any:
    """Some steps of a flow, whose derivatives are products with frequencies."""
    n = w.shape[0]
    kx, ky = np.fft.fftfreq(n, 1 / n)[:, None], np.fft.rfftfreq(n, 1 / n)[None]
    square = kx**2 + ky**2
    kx, ky, inverse = (k.astype(w.dtype) for k in (kx, ky, 1 / np.where(square == 0, 1, square)))

    def step(_: Any, spectrum: Any) -> Any:
        stream = spectrum * inverse
        back = fnp.fft.irfft2
        flow = back(1j * ky * stream) * back(1j * kx * spectrum)
        flow -= back(1j * kx * stream) * back(1j * ky * spectrum)
        return spectrum - np.float32(1e-3) * fnp.fft.rfft2(flow)

    return fnp.fft.irfft2(lax.fori_loop(0, 5, step, fnp.fft.rfft2(w)))


@needs_compiler
def test_a_flow_is_native() -> None:
    w = operand("rfft", 16, (16,), "float32")
    np.testing.assert_allclose(compiled(vorticity, w), vorticity(w), atol=1e-5)


@needs_compiler
def test_a_long_convolution_and_its_gradient_are_native() -> None:
    def loss(kernel: Any, x: Any) -> Any:
        n = 2 * x.shape[-1]
        product = fnp.fft.rfft(x, n) * fnp.fft.rfft(kernel, n)
        return (fnp.fft.irfft(product, n)[..., : x.shape[-1]] ** 2).sum()

    kernel, x = operand("rfft", 60, (4,), "float64"), operand("rfft", 60, (3, 4), "float64", 1)
    f = fd.value_and_grad(loss)
    for found, want in zip(compiled(f, kernel, x), f(kernel, x), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-11)


@needs_compiler
def test_threads_change_no_bits() -> None:
    args = [operand("fft", n, (70,), "float32") for n in (300, 1009, 1024)]

    def program(*xs: Any) -> list[Any]:
        return [f(x) for x in xs for f in (fnp.fft.fft, fnp.fft.fft2)]

    found = []
    for threads in (1, 2):
        with config.override(num_threads=threads):
            found.append(compiled(program, *args))
    for one, two in zip(*found, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [8, 9, 131, 512])
def test_a_row_does_not_spoil_others(kind: str, n: int) -> None:
    x = operand(kind, n, (5,), "float32")
    x[1] = np.nan
    x[3] = 1e30
    found = np.asarray(compiled(lambda x: getattr(fnp.fft, kind)(x, n), x))
    assert np.isnan(found[1]).any()
    for row in (0, 2, 3, 4):
        assert_close(found[row], getattr(np.fft, kind)(wide(x[row]), n), n)


@needs_compiler
def test_what_stays_with_the_host() -> None:
    limit = transforms.LONGEST
    assert not on_host(fnp.fft.fft, np.zeros(limit, np.complex64))
    assert on_host(fnp.fft.fft, np.zeros(limit + 1, np.complex64))
    empty = np.zeros((0, 8), np.complex64)
    with config.override(backend="cpu"):
        assert fd.jit(fnp.fft.rfft)(empty.real).shape == (0, 5)
        assert fd.jit(fnp.fft.fft)(empty).shape == (0, 8)


@pytest.mark.parametrize("n", [*range(1, 300), 1009, 4096, 65537, 1 << 20])
def test_plans_multiply_up(n: int) -> None:
    for kind in FftType:
        for shape in ((n,), (64, n)):
            (axis,) = transforms.plan(shape, kind, (n,))
            points = axis.first * axis.second
            if axis.chirped:
                assert points >= 2 * n - 1
            else:
                assert points in (n, n / 2)
            for part in (axis.first, axis.second):
                factors = transforms._factors(part)
                assert math.prod(factors) == part
                assert len(factors) < 24  # FD_FFT_FACTORS, and a zero


def test_roots_are_exact() -> None:
    for order in (1, 2, 8, 12, 1000, 1009, 1 << 20):
        k = np.unique(np.linspace(0, order - 1, 300).astype(np.int64))
        angle = -8 * np.arctan(np.longdouble(1)) * k / order
        found = roots_of_unity(k, order)
        for part, exact in ((found.real, np.cos(angle)), (found.imag, np.sin(angle))):
            assert np.abs(part - exact).max() < 1.2e-16
    quarters = roots_of_unity(np.arange(4), 4)
    np.testing.assert_array_equal(quarters, [1, -1j, -1, 1j])


CALL = """\
  const fd_fft_sizes record0_0 = {
    .outer = 3,
    .length = 12,
    .inner = 1,
    .inverse = 0,
    .real = 1,
    .scale = 1.0,
    .half_roots = 14,
    .chirps = 22,
    .spectrum = 22,
    .has_chirps = 0,
  };
  const fd_fft_core record0_1 = {
    .first = 6,
    .second = 1,
    .first_factors = {2, 3, 0},
    .second_factors = {0},
    .first_roots = 0,
    .second_roots = 12,
    .turns = 14,
  };
  fd_fft_f32(record0_0, record0_1, """


def test_the_call_in_c() -> None:
    with config.override(backend="cpu"):
        text = fd.jit(fnp.fft.rfft).lower(np.zeros((3, 12), np.float32)).as_text("c")
    assert CALL in text
    assert '#include "fd_fft.h"' in text


@needs_compiler
def test_costs_are_counted() -> None:
    with config.override(backend="cpu"):
        found = fd.jit(fnp.fft.fft).lower(np.zeros(1024, np.complex64)).cost_analysis()
    assert found["flops"] == 5 * 1024 * 10
