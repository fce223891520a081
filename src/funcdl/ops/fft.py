"""The discrete Fourier transform over the last one, two or three dimensions.

Meanings are those of `jax.lax.fft`: forward transforms are not scaled, inverse ones by one over the
number of points. Eager ones are SciPy's port of pocketfft, in the operand's precision, on as many
threads as compiled code gets.
"""

from __future__ import annotations

import enum
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.config import config
from funcdl.core import dtypes
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.forks import held_off
from funcdl.core.primitive import Primitive, never_weak
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.ops import registry
from funcdl.ops.arithmetic import mul
from funcdl.ops.complex_parts import complex_, conj, real
from funcdl.ops.jvp_rules import linear_jvp
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.shape import broadcast_in_dim, full, full_like, move_to_front
from funcdl.ops.slicing import concatenate, pad

NDArray = np.ndarray[Any, Any]


class FftType(enum.IntEnum):
    """Which transform: forward or inverse, of complex numbers, or of the halves of real ones.

    See `jax.lax.FftType`.
    """

    FFT = 0
    IFFT = 1
    RFFT = 2
    IRFFT = 3


_ACCEPTS = {
    FftType.FFT: registry.COMPLEX,
    FftType.IFFT: registry.COMPLEX,
    FftType.RFFT: ("f32", "f64"),
    FftType.IRFFT: registry.COMPLEX,
}

# Below this many elements starting threads costs more than it gains.
_PARALLEL_FROM = 1 << 16


def _input_shape(fft_type: FftType, fft_lengths: Shape) -> Shape:
    """The last dimensions that an operand must have."""
    if fft_type is FftType.IRFFT:
        return (*fft_lengths[:-1], fft_lengths[-1] // 2 + 1)
    return fft_lengths


def _check(x: Any, fft_type: FftType, fft_lengths: Shape) -> None:
    """Check the operand, an array or aval."""
    if dtypes.short_name(x.dtype) not in _ACCEPTS[fft_type]:
        aval = ShapedArray(x.shape, x.dtype)
        fix = ""
        if dtypes.short_name(x.dtype) in ("f16", "bf16"):
            fix = ".\nThere is no transform in half precision; convert to float32 with astype first"
        accepted = ", ".join(_ACCEPTS[fft_type])
        raise DtypeError(f"fft of type {fft_type.name} takes {accepted}, got {aval}{fix}")
    if not 1 <= len(fft_lengths) <= 3:
        raise ArgumentError(f"fft: fft_lengths must have 1 to 3 entries, got {fft_lengths}")
    if min(fft_lengths) < 1:
        raise ArgumentError(f"fft: fft_lengths must be positive, got {fft_lengths}")
    wanted = _input_shape(fft_type, fft_lengths)
    if x.shape[len(x.shape) - len(wanted) :] != wanted or len(x.shape) < len(wanted):
        raise ShapeError(
            f"fft of type {fft_type.name} and lengths {fft_lengths} takes an operand whose last "
            f"dimensions are {wanted}, got {ShapedArray(x.shape, x.dtype)}"
        )


def _shape(x: ShapedArray, *, fft_type: FftType, fft_lengths: Shape) -> ShapedArray:
    _check(x, fft_type, fft_lengths)
    if fft_type is FftType.RFFT:
        shape = (*x.shape[:-1], fft_lengths[-1] // 2 + 1)
        return ShapedArray(shape, np.result_type(x.dtype, np.complex64))
    if fft_type is FftType.IRFFT:
        return ShapedArray((*x.shape[:-1], fft_lengths[-1]), dtypes.real_dtype(x.dtype))
    return ShapedArray(x.shape, x.dtype)


def _impl(x: NDArray, *, fft_type: FftType, fft_lengths: Shape) -> NDArray:
    out = _shape(ShapedArray(x.shape, x.dtype), fft_type=fft_type, fft_lengths=fft_lengths)
    if out.size == 0:
        return np.empty(out.shape, out.dtype)
    with held_off():
        from scipy import fft as transforms

    axes = tuple(range(-len(fft_lengths), 0))
    threads = config.num_threads or len(os.sched_getaffinity(0))
    workers = threads if x.size >= _PARALLEL_FROM else 1
    if fft_type is FftType.FFT:
        result = transforms.fftn(x, axes=axes, workers=workers)
    elif fft_type is FftType.IFFT:
        result = transforms.ifftn(x, axes=axes, workers=workers)
    elif fft_type is FftType.RFFT:
        result = transforms.rfftn(x, axes=axes, workers=workers)
    else:
        result = transforms.irfftn(x, fft_lengths, axes, workers=workers)
    return np.asarray(result, out.dtype)


def _transpose(ct: Any, x: Any, *, fft_type: FftType, fft_lengths: Shape) -> list[Any]:
    """The matrix of a transform is symmetric, so FFT and IFFT are their own transposes."""
    if fft_type in (FftType.FFT, FftType.IFFT):
        return [fft(ct, fft_type=fft_type, fft_lengths=fft_lengths)]
    last = fft_lengths[-1]
    half = last // 2 + 1
    if fft_type is FftType.RFFT:
        # The first half of the outputs of an FFT of what has no imaginary part.
        padding = (*[(0, 0, 0)] * (ct.ndim - 1), (0, last - half, 0))
        whole = pad(ct, full((), 0, ct.dtype), padding_config=padding)
        return [real(fft(whole, fft_type=FftType.FFT, fft_lengths=fft_lengths))]
    # Each input but the first, and the middle one of an even number, stands for itself and its
    # conjugate on the other half.
    spectrum = conj(fft(ct, fft_type=FftType.RFFT, fft_lengths=fft_lengths))
    single = [full((1,), 1, ct.dtype)]
    middle = single if last % 2 == 0 else []
    pairs = full((half - 1 - len(middle),), 2, ct.dtype)
    counts = concatenate(*single, pairs, *middle, dimension=0)
    counts = mul(counts, full_like(counts, 1 / math.prod(fft_lengths)))
    counts = complex_(counts, full_like(counts, 0))
    weights = broadcast_in_dim(
        counts, shape=spectrum.shape, broadcast_dimensions=(len(spectrum.shape) - 1,)
    )
    return [mul(spectrum, weights)]


def _batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int], **params: Any
) -> tuple[Any, int]:
    return fft(move_to_front(args[0], dims[0]), **params), 0


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    kinds = [FftType.FFT, FftType.IFFT, FftType.IRFFT]
    for kind in kinds if dtypes.is_complex(dtype) else [FftType.RFFT]:
        for batch, lengths in [
            ((), (4,)),
            ((), (5,)),
            ((2,), (1,)),
            ((3,), (2,)),
            ((2,), (2, 3)),
            ((), (2, 1, 4)),
            ((0,), (3,)),
        ]:
            x = random_array(rng, (*batch, *_input_shape(kind, lengths)), dtype)
            yield Sample((x,), {"fft_type": kind, "fft_lengths": lengths}, (0,))


fft = Primitive("fft")
fft.impl = _impl
fft.shape = _shape
fft.weak = never_weak
fft.jvp = linear_jvp(fft)
fft.transpose = _transpose
fft.batch = _batch
registry.add(
    Op(
        fft,
        ("f32", "f64", *registry.COMPLEX),
        _samples,
        {"c": "runs on the host if longer than 2^20"},
    )
)

tabled_fft = Primitive("tabled_fft")
"""What the compiler makes of `fft`: the operand, and a table for each dimension's transform."""
tabled_fft.impl = lambda x, *tables, **params: _impl(x, **params)
tabled_fft.shape = lambda x, *tables, **params: _shape(x, **params)
tabled_fft.weak = never_weak
