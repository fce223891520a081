"""Fourier transforms as products of matrices: as exact as others, and kernels on a GPU."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.cuda.environment import StubGpu, installed

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.compiler.rewrite import fourier_products
from funcdl.compiler.rewrite.fourier_products import transform_parts
from funcdl.compiler.rewrite.simplify import simplify
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.reference import run_reference
from funcdl.ops.fft import FftType, fft

NDArray = np.ndarray[Any, Any]
# One matrix; cut once and twice; primes that are one matrix and that are convolutions.
LENGTHS = [*range(1, 9), 31, 63, 64, 66, 67, 100, 131, 256, 257, 262, 509, 1000, 1009, 8192]


def operand(kind: FftType, lengths: tuple[int, ...], dtype: str) -> NDArray:
    rng = np.random.default_rng(lengths)
    last = lengths[-1] // 2 + 1 if kind is FftType.IRFFT else lengths[-1]
    shape = (2, *lengths[:-1], last)
    x = rng.standard_normal(shape)
    if kind is FftType.RFFT:
        return x.astype(dtype)
    return (x + 1j * rng.standard_normal(shape)).astype(np.result_type(dtype, np.complex64))


def wanted(x: NDArray, kind: FftType, lengths: tuple[int, ...]) -> NDArray:
    wide = x.astype(np.promote_types(x.dtype, np.float64))
    transform: Any = getattr(np.fft, f"{kind.name.lower()}n")
    return np.asarray(transform(wide, lengths, tuple(range(1, x.ndim))))


def check(found: Any, want: NDArray, points: int) -> None:
    found = np.asarray(found)
    assert found.shape == want.shape
    size = np.sqrt(np.mean(np.abs(want) ** 2))
    bound = 2 * np.finfo(found.dtype).eps * (1 + math.log2(points)) * size
    assert np.abs(found - want).max() <= bound


def program(x: NDArray, kind: FftType, lengths: tuple[int, ...]) -> ClosedJaxpr:
    return fourier_products._products(fnp.asarray(x).aval, kind, lengths)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", FftType)
def test_all_lengths_are_as_numpy_in_double_precision(kind: FftType, dtype: str) -> None:
    for n in LENGTHS:
        x = operand(kind, (n,), dtype)
        (found,) = run_reference(program(x, kind, (n,)), [x])
        check(found, wanted(x, kind, (n,)), n)


@pytest.mark.parametrize("lengths", [(4, 6), (5, 131), (100, 3), (2, 7, 12), (1, 5, 1)])
@pytest.mark.parametrize("kind", FftType)
def test_several_dimensions(kind: FftType, lengths: tuple[int, ...]) -> None:
    x = operand(kind, lengths, "float32")
    (found,) = run_reference(program(x, kind, lengths), [x])
    check(found, wanted(x, kind, lengths), math.prod(lengths) + 1)


def test_few_products_do() -> None:
    for n, products in [(64, 2), (256, 4), (4096, 4), (1 << 16, 6), (257, 8), (251, 2)]:
        x = operand(FftType.FFT, (n,), "float32")
        text = str(program(x, FftType.FFT, (n,)).jaxpr)
        assert text.count("dot_general[") == products


PRODUCT = """\
{ lambda a:f32[3,6]; b:f32[2,3]. let
    c:f32[2,6] = dot_general[dimension_numbers=(((1,), (0,)), ((), ())) precision='ieee'] b a
    d:f32[2,3] = slice[limit_indices=(2, 3) start_indices=(0, 0) strides=None] c
    e:f32[2,3] = slice[limit_indices=(2, 6) start_indices=(0, 3) strides=None] c
    f:f32[2,2] = slice[limit_indices=(2, 2) start_indices=(0, 0) strides=None] d
    g:f32[2,2] = slice[limit_indices=(2, 2) start_indices=(0, 0) strides=None] e
    h:c64[2,2] = complex f g
  in (h,) }"""


def test_the_program_of_a_short_transform() -> None:
    x = operand(FftType.RFFT, (3,), "float32")
    assert str(simplify(program(x, FftType.RFFT, (3,)))) == PRODUCT


def parts_program(re: Any, im: Any) -> Any:
    """A loop over transforms of 100 points, there and back."""

    def step(parts: Any, _: Any) -> Any:
        spectrum = transform_parts(parts, FftType.FFT, (100,))
        return transform_parts(spectrum, FftType.IFFT, (100,)), spectrum[0]

    return lax.scan(step, (re, im), None, length=2)


def test_a_loop_on_the_gpu_needs_no_host() -> None:
    x = operand(FftType.FFT, (100,), "float32")
    with installed(StubGpu()):
        args = [fd.device_put(part.copy(), "gpu") for part in (x.real, x.imag)]
        f = fd.jit(parts_program)
        text = f.lower(*args).as_text("kernels")
        assert not [line for line in text.splitlines() if line.startswith("host")]
        (re, im), spectra = f(*args)
        check(np.asarray(re) + 1j * np.asarray(im), x, 1000)
        check(spectra[0], wanted(x, FftType.FFT, (100,)).real, 100)


def test_complex_programs_on_the_gpu_need_no_host() -> None:
    def program(x: Any) -> Any:
        return lax.fori_loop(0, 2, lambda _, c: fnp.fft.irfft2(fnp.fft.rfft2(c) * 0.5j), x)

    x = operand(FftType.RFFT, (6, 10), "float32")
    with installed(StubGpu()):
        f, on_gpu = fd.jit(program), fd.device_put(x, "gpu")
        text = f.lower(on_gpu).as_text("kernels")
        assert not [line for line in text.splitlines() if line.startswith("host")]
        np.testing.assert_allclose(np.asarray(f(on_gpu)), program(x), atol=1e-5)


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 90])
def test_kernels_compile(arch: int, tmp_path: Path) -> None:
    from funcdl.kernels.triton.compile_pool import compile_all
    from funcdl.runtime.disk_cache import CacheDir

    sources: list[Any] = []

    class Collecting(StubGpu):
        def _compile(self, kernels: Any, arch: int, *, aligned: bool = True) -> Any:
            sources.extend(kernels)
            return super()._compile(kernels, arch, aligned=aligned)

    with installed(Collecting()):
        args = [fd.device_put(np.ones((3, 100), np.float32), "gpu")] * 2
        fd.jit(lambda *parts: transform_parts(parts, FftType.FFT, (100,)))(*args)
    assert any("dot" in kernel.name for kernel in sources)
    for cubin in compile_all(sources, arch, cache=CacheDir(tmp_path)):
        assert cubin.metadata["spill_bytes"] == 0


def test_nothing_else_is_rewritten() -> None:
    jaxpr = fd.make_jaxpr(lambda x: fft(fnp.exp(x), fft_type=FftType.RFFT, fft_lengths=(4,)))
    first, second = jaxpr(np.ones(4, np.float32)).jaxpr.eqns
    assert fourier_products.products(first) is None
    assert second.primitive is fft


def test_an_equation_without_operands_is_no_transform() -> None:
    (eqn,) = fd.make_jaxpr(lambda: lax.iota(np.int32, 3))().jaxpr.eqns
    assert fourier_products.products(eqn) is None


def test_transforms_of_complex_numbers_are_kernels_on_the_gpu() -> None:
    x = operand(FftType.FFT, (100,), "float32")
    with installed(StubGpu()):
        f = fd.jit(lambda x: fft(x * 2, fft_type=FftType.FFT, fft_lengths=(100,)))
        text = f.lower(fd.device_put(x, "gpu")).as_text("kernels")
        assert not [line for line in text.splitlines() if line.startswith("host")]
        check(f(fd.device_put(x, "gpu")), 2 * wanted(x, FftType.FFT, (100,)), 100)
