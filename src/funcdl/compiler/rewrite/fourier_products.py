"""Fourier transforms as products with matrices of roots of unity, on real and imaginary parts.

What a back end without functions of its own for them can run. A length n = a b takes a product with
the matrix of order a, roots of order n, and then that of order b (Bailey's four steps, 1990); a
matrix may have a few hundred rows, so two or three products do for any length of use. They take
more multiplications than other algorithms, of the kind that GPUs are built for, and nothing but
kernels that there are. Lengths with a large prime factor are convolutions with chirps (Bluestein).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from funcdl.compiler.roots import chirps, padded_length, prime_factors, roots_of_unity
from funcdl.core.array import Array
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr, Eqn
from funcdl.core.staging import trace_to_jaxpr
from funcdl.ops.arithmetic import add, mul, neg, scaled, sub
from funcdl.ops.complex_parts import complex_, imag, real
from funcdl.ops.dot import dot_general
from funcdl.ops.fft import FftType, fft
from funcdl.ops.shape import broadcast_in_dim, full, reshape, rev, transpose
from funcdl.ops.slicing import concatenate, pad, slice_along

# Rows of the largest matrix: of those that a length is cut into, and for what cannot be cut.
_CUT, _WHOLE = 64, 256

Parts = tuple[Any, Any]
"""Real and imaginary parts, [rows, n]; None in place of the latter where they are 0."""


def products(eqn: Eqn) -> ClosedJaxpr | None:
    """The program that takes a transform's place; None for other equations."""
    if eqn.primitive is not fft or not eqn.outvars[0].aval.size:
        return None
    aval = eqn.invars[0].aval
    return _products(aval, eqn.params["fft_type"], eqn.params["fft_lengths"])


@lru_cache(maxsize=256)
def _products(aval: ShapedArray, fft_type: FftType, fft_lengths: Shape) -> ClosedJaxpr:
    def program(x: Any) -> list[Any]:
        parts = (x, None) if fft_type is FftType.RFFT else (real(x), imag(x))
        re, im = transform_parts(parts, fft_type, fft_lengths)
        return [re if fft_type is FftType.IRFFT else complex_(re, im)]

    jaxpr, consts = trace_to_jaxpr(program, [aval], name="fft")
    return ClosedJaxpr(jaxpr, consts)


def transform_parts(parts: Parts, fft_type: FftType, fft_lengths: Shape) -> Parts:
    """The transform of numbers given by their parts, as parts.

    Imaginary parts of real results are of no use.
    """
    last = len(parts[0].shape) - 1
    others = {FftType.RFFT: FftType.FFT, FftType.IRFFT: FftType.IFFT}.get(fft_type, fft_type)
    rest = [(last - back, fft_lengths[-1 - back], others) for back in range(1, len(fft_lengths))]
    steps = [(last, fft_lengths[-1], fft_type), *rest]
    if fft_type is FftType.IRFFT:
        steps = [*rest, steps[0]]  # what becomes real comes last
    for axis, n, kind in steps:
        parts = _exchange(_along_last(_exchange(parts, axis), n, kind), axis)
    return parts


def _along_last(parts: Parts, n: int, kind: FftType) -> Parts:
    inverse = kind in (FftType.IFFT, FftType.IRFFT)
    if kind is FftType.IRFFT:
        parts = _whole_spectrum(parts, n)
    batch = parts[0].shape[:-1]
    parts = _each(parts, lambda x: reshape(x, new_sizes=(math.prod(batch), n)))
    parts = _transform(parts, n, inverse)
    if inverse:
        parts = _each(parts, lambda x: scaled(x, 1 / n))
    if kind is FftType.RFFT:
        parts = _each(parts, lambda x: slice_along(x, 1, 0, n // 2 + 1))
    return _each(parts, lambda x: reshape(x, new_sizes=(*batch, x.shape[1])))


def _each(parts: Parts, f: Any) -> Parts:
    re, im = parts
    return f(re), None if im is None else f(im)


def _exchange(parts: Parts, axis: int) -> Parts:
    """Exchange a dimension with the last one."""
    order = list(range(len(parts[0].shape)))
    order[axis], order[-1] = order[-1], order[axis]
    if axis == len(order) - 1:
        return parts
    return _each(parts, lambda x: transpose(x, permutation=tuple(order)))


def _whole_spectrum(parts: Parts, n: int) -> Parts:
    """The half of a spectrum that is there, and its mirror image, whose numbers are conjugates."""
    re, im = parts
    axis = len(re.shape) - 1
    mirrored = [slice_along(x, axis, 1, (n + 1) // 2) for x in (re, im)]
    re_end, im_end = (rev(x, dimensions=(axis,)) for x in mirrored)
    # The imaginary parts of what is its own conjugate are not looked at.
    own = full((*re.shape[:-1], 1), 0, re.dtype)
    ends = [own] if n % 2 == 0 else []
    im = concatenate(own, mirrored[1], *ends, neg(im_end), dimension=axis)
    return concatenate(re, re_end, dimension=axis), im


def _transform(parts: Parts, n: int, inverse: bool) -> Parts:
    """The transform of each row, not scaled."""
    rows, dtype = parts[0].shape[0], parts[0].dtype
    if n <= _CUT or (max(prime_factors(n)) > _CUT and n <= _WHOLE):
        return _product(parts, 1, n, inverse)
    if max(prime_factors(n)) > _CUT:
        return _convolve(parts, n, inverse)
    first = _cut(n)
    rest = n // first
    # [rows, first, rest] to [rows, rest, first], turned, and then to [rows first, rest].
    cut = _each(parts, lambda x: reshape(x, new_sizes=(rows, first, rest)))
    turned = _times(_product(cut, 1, first, inverse), _turns(rest, first, dtype, inverse))
    order = (0, 2, 1)
    flat = _each(
        turned,
        lambda x: reshape(transpose(x, permutation=order), new_sizes=(rows * first, rest)),
    )
    done = _each(
        _transform(flat, rest, inverse), lambda x: reshape(x, new_sizes=(rows, first, rest))
    )
    return _each(done, lambda x: reshape(transpose(x, permutation=order), new_sizes=(rows, n)))


def _cut(n: int) -> int:
    """The factor nearest to the square root, of those that a matrix may have as rows."""
    fit = [d for d in range(2, _CUT + 1) if n % d == 0]
    return min(fit, key=lambda d: abs(math.log(d * d / n)))


def _product(parts: Parts, axis: int, n: int, inverse: bool) -> Parts:
    """The transform along one dimension, which becomes the last, by one matrix."""
    re, im = parts
    of_re, of_im = _matrices(n, re.dtype, inverse)
    both = _dot(re, of_re, axis)
    if im is not None:
        both = add(both, _dot(im, of_im, axis))
    last = len(both.shape) - 1
    return slice_along(both, last, 0, n), slice_along(both, last, n, 2 * n)


def _dot(x: Any, matrix: Array, axis: int) -> Any:
    numbers = (((axis,), (0,)), ((), ()))
    # Rounding the factors to fewer digits would be that of all results.
    return dot_general(x, matrix, dimension_numbers=numbers, precision="ieee")


def _times(parts: Parts, factor: tuple[Array, Array]) -> Parts:
    re, im = parts
    trailing = tuple(range(re.ndim - factor[0].ndim, re.ndim))
    cos, sin = (broadcast_in_dim(f, shape=re.shape, broadcast_dimensions=trailing) for f in factor)
    if im is None:
        return mul(re, cos), mul(re, sin)
    return sub(mul(re, cos), mul(im, sin)), add(mul(re, sin), mul(im, cos))


def _convolve(parts: Parts, n: int, inverse: bool) -> Parts:
    """jk = (j^2 + k^2 - (j - k)^2) / 2, so that a transform is a convolution."""
    padded = padded_length(n)
    chirp, spectrum = _chirps(n, padded, parts[0].dtype, inverse)
    zero = full((), 0, parts[0].dtype)
    config = ((0, 0, 0), (0, padded - n, 0))
    row = _each(_times(parts, chirp), lambda x: pad(x, zero, padding_config=config))
    row = _transform(_times(_transform(row, padded, False), spectrum), padded, True)
    return _times(_each(row, lambda x: slice_along(x, 1, 0, n)), chirp)


@lru_cache(maxsize=256)
def _matrices(n: int, dtype: np.dtype[Any], inverse: bool) -> tuple[Array, Array]:
    """What real parts, and what imaginary ones contribute to both parts of results."""
    k = np.arange(n)
    w = roots_of_unity(np.outer(k, k), n)
    cos, sin = w.real, -w.imag if inverse else w.imag
    return (
        Array(np.concatenate([cos, sin], 1).astype(dtype)),
        Array(np.concatenate([-sin, cos], 1).astype(dtype)),
    )


@lru_cache(maxsize=256)
def _turns(rows: int, columns: int, dtype: np.dtype[Any], inverse: bool) -> tuple[Array, Array]:
    powers = np.outer(np.arange(rows), np.arange(columns))
    return _split(roots_of_unity(powers, rows * columns), dtype, inverse)


@lru_cache(maxsize=256)
def _chirps(n: int, padded: int, dtype: np.dtype[Any], inverse: bool) -> tuple[Any, Any]:
    chirp, spectrum = chirps(n, padded)
    if inverse:
        # The spectrum of conjugates, which are even, is the conjugate of the spectrum.
        return _split(chirp, dtype, True), _split(spectrum, dtype, True)
    return _split(chirp, dtype, False), _split(spectrum, dtype, False)


def _split(w: np.ndarray[Any, Any], dtype: np.dtype[Any], inverse: bool) -> tuple[Array, Array]:
    im = -w.imag if inverse else w.imag
    return Array(w.real.astype(dtype)), Array(im.astype(dtype))
