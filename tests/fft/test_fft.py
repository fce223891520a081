"""Discrete Fourier transforms: values and dtypes as NumPy and JAX give, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import lax
from funcdl.config import config
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.test_util import check_grads

RNG = np.random.default_rng(0)
COMPLEX = (RNG.normal(size=(3, 4, 5, 2)) + 1j * RNG.normal(size=(3, 4, 5, 2))).astype(np.complex64)
REAL = COMPLEX.real.copy()

ONE = [{}, {"axis": 1}, {"n": 3}, {"n": 7, "axis": -2}, {"norm": "ortho"}, {"norm": "forward"}]
TWO = [{}, {"axes": (2, 0)}, {"s": (3, 6)}, {"s": (2, 2), "axes": (1, 2), "norm": "ortho"}]
MANY = [*TWO, {"axes": (1,)}, {"norm": "forward"}, {"s": (4, 4, 3), "axes": (3, 1, 0)}]
CALLS = [(name, call) for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft") for call in ONE]
CALLS += [(name, call) for name in ("fft2", "ifft2", "rfft2", "irfft2") for call in TWO]
CALLS += [(name, call) for name in ("fftn", "ifftn", "rfftn", "irfftn") for call in MANY]
TAKES_REAL = ("rfft", "ihfft", "rfft2", "rfftn")


def described(call: Any) -> str:
    return str(call).replace(" ", "") if isinstance(call, dict) else str(call)


@pytest.mark.filterwarnings("ignore:`axes` should not be `None`:DeprecationWarning")
@pytest.mark.parametrize(("name", "call"), CALLS, ids=described)
def test_transforms_agree_with_numpy(name: str, call: dict[str, Any]) -> None:
    x = REAL if name in TAKES_REAL else COMPLEX
    found = getattr(fnp.fft, name)(x, **call)
    wanted = getattr(np.fft, name)(x.astype(np.promote_types(x.dtype, np.float64)), **call)
    single = np.complex64 if np.iscomplexobj(wanted) else np.float32
    assert (found.shape, found.dtype) == (wanted.shape, single)
    np.testing.assert_allclose(found, wanted, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.peers
@pytest.mark.parametrize("name", ["fft", "rfft", "irfft", "hfft", "ihfft", "ifft2", "rfftn"])
@pytest.mark.parametrize("dtype", ["bool", "int32", "float32", "complex64", "float16"])
def test_dtypes_agree_with_jax(name: str, dtype: str) -> None:
    jnp = pytest.importorskip("jax.numpy")
    x = np.ones((4, 4), dtype)
    try:
        wanted = getattr(jnp.fft, name)(x)
    except ValueError:
        with pytest.raises(DtypeError):
            getattr(fnp.fft, name)(x)
    else:
        found = getattr(fnp.fft, name)(x)
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)


@pytest.mark.peers
def test_all_names_of_jax_are_here() -> None:
    jnp = pytest.importorskip("jax.numpy")
    assert {name for name in dir(jnp.fft) if name[0] != "_"} == set(fnp.fft.__all__)


def test_double_precision_stays_double() -> None:
    x = COMPLEX.astype(np.complex128)
    found = fnp.fft.fft(x)
    assert found.dtype == np.complex128
    np.testing.assert_allclose(found, np.fft.fft(x), rtol=1e-13)
    assert fnp.fft.irfft(x).dtype == np.float64


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_frequencies_and_shifts(n: int) -> None:
    for name in ("fftfreq", "rfftfreq"):
        found = getattr(fnp.fft, name)(n, 0.5)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, getattr(np.fft, name)(n, 0.5), rtol=1e-6)
        assert getattr(fnp.fft, name)(n, dtype=np.float64).dtype == np.float64
    x = np.arange(n * 3).reshape(n, 3)
    for axes in (None, 0, (0, 1), ()):
        for name in ("fftshift", "ifftshift"):
            wanted = getattr(np.fft, name)(x, axes)
            np.testing.assert_array_equal(getattr(fnp.fft, name)(x, axes), wanted)


def test_more_than_three_axes() -> None:
    back = fnp.fft.irfftn(fnp.fft.rfftn(REAL), s=REAL.shape, axes=(0, 1, 2, 3))
    np.testing.assert_allclose(back, REAL, atol=1e-6)
    np.testing.assert_allclose(fnp.fft.fftn(COMPLEX), np.fft.fftn(COMPLEX), atol=1e-4)


def test_jit_vmap_and_threads() -> None:
    def f(x: Any) -> Any:
        return fnp.fft.irfft(fnp.fft.rfft(x) * 2)

    np.testing.assert_allclose(fd.jit(f)(REAL[..., 0]), f(REAL[..., 0]), atol=1e-6)
    wanted = np.stack([f(x) for x in REAL.swapaxes(0, 1)], 1)
    np.testing.assert_allclose(fd.vmap(f, 1, 1)(REAL), wanted, rtol=1e-6)
    large = RNG.normal(size=(64, 2048)).astype(np.float32)
    with config.override(num_threads=1):
        one = np.asarray(fnp.fft.rfft(large))
    with config.override(num_threads=2):
        np.testing.assert_array_equal(fnp.fft.rfft(large), one)


@pytest.mark.parametrize("n", [4, 5])
def test_derivatives_through_cut_and_padded_transforms(n: int) -> None:
    x = fnp.asarray(REAL[0, :2, :, 0].astype(np.float64))
    check_grads(lambda v: abs(fnp.fft.fft2(v, (n, n)))[1:] ** 2, [x])
    check_grads(lambda v: fnp.fft.irfftn(fnp.fft.rfftn(v, (n, n)) ** 2, (3, n)), [x])
    check_grads(lambda v: fnp.fft.hfft(fnp.fft.ihfft(v) ** 2, n), [x])


def test_lax_fft_takes_types_by_name() -> None:
    wanted = np.fft.rfft2(REAL)
    for kind in ("RFFT", "rfft", lax.FftType.RFFT, 2):
        np.testing.assert_allclose(lax.fft(REAL, kind, (5, 2)), wanted, atol=1e-5)


ERRORS = [
    (lambda: lax.fft(REAL, "DCT", (2,)), ArgumentError, "one of FFT, IFFT, RFFT, IRFFT"),
    (lambda: lax.fft(REAL, "FFT", (2,)), DtypeError, "takes c64, c128, got f32"),
    (lambda: lax.fft(REAL, "RFFT", (3,)), ShapeError, r"last dimensions are \(3,\)"),
    (lambda: lax.fft(COMPLEX, "IRFFT", (4,)), ShapeError, r"last dimensions are \(3,\)"),
    (lambda: lax.fft(COMPLEX, "FFT", (3, 4, 5, 2)), ArgumentError, "1 to 3 entries"),
    (lambda: lax.fft(COMPLEX, "FFT", (0,)), ArgumentError, "positive"),
    (lambda: fnp.fft.rfft(REAL.astype(np.float16)), DtypeError, "half precision; convert"),
    (lambda: fnp.fft.rfft(COMPLEX), DtypeError, "rfft takes real numbers.*use fft"),
    (lambda: fnp.fft.ihfft(COMPLEX), DtypeError, r"ihfft takes real numbers.*\]; pass its real"),
    (lambda: fnp.fft.fft(REAL, n=0), ArgumentError, "at least one point"),
    (lambda: fnp.fft.fft(REAL, norm="both"), ArgumentError, "norm must be .*'both'"),
    (lambda: fnp.fft.hfft(REAL, norm="both"), ArgumentError, "hfft: norm must be"),
    (lambda: fnp.fft.fftn(REAL, axes=(1, 1)), ArgumentError, "twice"),
    (lambda: fnp.fft.fftn(REAL, s=(2,), axes=(0, 1)), ArgumentError, "equal lengths"),
    (lambda: fnp.fft.fftn(REAL, s=(2,) * 5), ShapeError, "5 entries for 4 dimensions"),
    (lambda: fnp.fft.fft(REAL, axis=4), ArgumentError, "out of range"),
    (lambda: fnp.fft.fftfreq(0), ArgumentError, "positive"),
    (lambda: fnp.fft.rfftn(1.0), ArgumentError, "at least one axis"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
