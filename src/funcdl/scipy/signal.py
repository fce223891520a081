"""Convolutions of arrays, and trends, with the names and meanings of `jax.scipy.signal`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.absent import getter
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.options import host_values, is_option, number
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.promotion import promote_inexact
from funcdl.numpy.reductions import normalize_axis

__getattr__ = getter(__name__)

__all__ = ["convolve", "convolve2d", "correlate", "correlate2d", "detrend", "fftconvolve"]

_MODES = ("full", "same", "valid")


def convolve(
    in1: Any, in2: Any, mode: str = "full", method: str = "auto", precision: Any = None
) -> Any:
    """The convolution of two arrays of as many dimensions (see `jax.scipy.signal.convolve`).

    Args:
      in1, in2: the arrays; integers become floats.
      mode: ``"full"``: wherever they overlap; ``"same"``: as much as `in1` has, from the middle;
        ``"valid"``: where the smaller one lies inside of the other.
      method: ``"auto"`` or ``"direct"``: sums of products; ``"fft"``: as `fftconvolve`.
      precision: of the products, as for `lax.dot_general`.

    Raises:
      ShapeError: the ranks differ, an array is empty, or, for ``"valid"``, neither is inside of the
        other.
      ArgumentError: an unknown mode or method.
    """
    return _convolve("convolve", in1, in2, mode, method, precision)


def correlate(
    in1: Any, in2: Any, mode: str = "full", method: str = "auto", precision: Any = None
) -> Any:
    """The cross-correlation: `convolve` with `in2` reversed and conjugated.

    Arguments and errors are those of `convolve` (see `jax.scipy.signal.correlate`).
    """
    return _convolve("correlate", in1, _reversed("correlate", in2), mode, method, precision)


def convolve2d(
    in1: Any,
    in2: Any,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: float = 0,
    precision: Any = None,
) -> Any:
    """`convolve` of matrices (see `jax.scipy.signal.convolve2d`).

    Raises:
      ShapeError: an array is no matrix, or as for `convolve`.
      ArgumentError: `boundary` is not ``"fill"`` or `fillvalue` not 0, or as for `convolve`.
    """
    _check_matrices("convolve2d", in1, in2, boundary, fillvalue)
    return _convolve("convolve2d", in1, in2, mode, "direct", precision)


def correlate2d(
    in1: Any,
    in2: Any,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: float = 0,
    precision: Any = None,
) -> Any:
    """`correlate` of matrices (see `jax.scipy.signal.correlate2d`); errors are `convolve2d`'s.

    As in SciPy, mode ``"same"`` begins one place later than `correlate` where `in2` has an even
    length.
    """
    _check_matrices("correlate2d", in1, in2, boundary, fillvalue)
    other = _reversed("correlate2d", in2)
    return _convolve("correlate2d", in1, other, mode, "direct", precision, later=True)


def fftconvolve(
    in1: Any, in2: Any, mode: str = "full", axes: int | Sequence[int] | None = None
) -> Any:
    """`convolve` by Fourier transforms, for large arrays (see `jax.scipy.signal.fftconvolve`).

    Args:
      in1, in2, mode: as for `convolve`.
      axes: the dimensions to convolve, by default all; the others broadcast.

    Raises:
      ShapeError, ArgumentError: as for `convolve`.
    """
    x, y = _operands("fftconvolve", in1, in2, mode)
    places = range(x.ndim) if axes is None else host_values("fftconvolve: axes", axes).flat
    dims = sorted({normalize_axis("fftconvolve", d, x.ndim) for d in places})
    _check_inside("fftconvolve", x, y, mode, dims)
    if not dims:
        return x * y
    sizes = [x.shape[d] + y.shape[d] - 1 for d in dims]
    dtype = x.dtype
    if dtypes.is_complex(dtype):
        product = fnp.fft.fftn(x, sizes, dims) * fnp.fft.fftn(y, sizes, dims)
        out = fnp.fft.ifftn(product, sizes, dims)
    else:
        wide = fnp.float64 if dtype == np.float64 else fnp.float32
        x, y = x.astype(wide), y.astype(wide)
        product = fnp.fft.rfftn(x, sizes, dims) * fnp.fft.rfftn(y, sizes, dims)
        out = fnp.fft.irfftn(product, sizes, dims)
    kept = [slice(None)] * out.ndim
    for d in dims:
        first, count = _kept(x.shape[d], y.shape[d], mode)
        kept[d] = slice(first, first + count)
    return out[tuple(kept)].astype(dtype)


def detrend(
    data: Any,
    axis: int = -1,
    type: str = "linear",
    bp: int | Sequence[int] = 0,
    overwrite_data: None = None,
) -> Any:
    """The data less their mean, or the line that fits them best (see `jax.scipy.signal.detrend`).

    Args:
      data: an array; integers become floats.
      axis: the axis.
      type: ``"linear"`` or ``"constant"``.
      bp: where along the axis new lines start.
      overwrite_data: must be None.

    Raises:
      ArgumentError: another `type`, `overwrite_data`, or break points outside of the axis.
    """
    if overwrite_data is not None:
        raise ArgumentError("detrend: overwrite_data must be None, since arrays are immutable")
    if not is_option(type, ("linear", "constant")):
        raise ArgumentError(f"detrend: type must be 'linear' or 'constant', got {shortened(type)}")
    (x,) = promote_inexact("detrend", data)
    rows = fnp.moveaxis(x, normalize_axis("detrend", axis, x.ndim), -1)
    size = rows.shape[-1]
    if type == "constant":
        return fnp.moveaxis(rows - fnp.mean(rows, axis=-1, keepdims=True), -1, axis)
    points = host_values("detrend: bp", bp).ravel()
    if points.size and points.dtype.kind not in "iu":
        raise ArgumentError(f"detrend: bp must be one or several integers, got {shortened(bp)}")
    breaks = sorted({0, size, *points.tolist()})
    if breaks[0] < 0 or breaks[-1] > size:
        raise ArgumentError(f"detrend: bp must be from 0 to {size}, got {bp}")
    parts = []
    for start, stop in itertools.pairwise(breaks):
        # What is left beside an orthonormal basis of lines.
        columns = np.stack([np.ones(stop - start), np.arange(start, stop)], axis=1)
        basis = fnp.asarray(np.linalg.qr(columns)[0]).astype(x.dtype)
        part = rows[..., start:stop]
        parts.append(part - (part @ basis) @ basis.T)
    return fnp.moveaxis(fnp.concatenate(parts, axis=-1), -1, axis)


def _operands(name: str, in1: Any, in2: Any, mode: str) -> tuple[Any, Any]:
    if not is_option(mode, _MODES):
        raise ArgumentError(f"{name}: mode must be one of {_MODES}, got {shortened(mode)}")
    x, y = promote_inexact(name, in1, in2)
    if x.ndim != y.ndim or 0 in (x.size, y.size):
        raise ShapeError(
            f"{name}: arrays with elements and as many dimensions are needed, got {x.aval} and "
            f"{y.aval}"
        )
    return x, y


def _reversed(name: str, x: Any) -> Any:
    (x,) = promote_inexact(name, x)
    return fnp.conj(fnp.flip(x)) if dtypes.is_complex(x.dtype) else fnp.flip(x)


def _check_matrices(name: str, in1: Any, in2: Any, boundary: str, fillvalue: float) -> None:
    if not is_option(boundary, ("fill",)) or number(f"{name}: fillvalue", fillvalue) != 0:
        raise ArgumentError(
            f"{name}: boundary must be 'fill' and fillvalue 0, "
            f"got {shortened(boundary)} and {fillvalue}; "
            "numpy.pad has other boundaries"
        )
    if fnp.ndim(in1) != 2 or fnp.ndim(in2) != 2:
        raise ShapeError(
            f"{name}: matrices are needed, got shapes {fnp.shape(in1)} and {fnp.shape(in2)}"
        )


def _check_inside(name: str, x: Any, y: Any, mode: str, dims: Sequence[int]) -> None:
    larger = [x.shape[d] >= y.shape[d] for d in dims]
    smaller = [x.shape[d] <= y.shape[d] for d in dims]
    if mode == "valid" and not (all(larger) or all(smaller)):
        raise ShapeError(
            f"{name}: for mode 'valid' one array must be at least as large as the other in every "
            f"dimension, got {x.aval} and {y.aval}"
        )


def _kept(first: int, second: int, mode: str, later: bool = False) -> tuple[int, int]:
    """Where what is wanted begins in the full convolution of two lengths, and its length.

    Of two places in the middle it begins at the first, or `later`.
    """
    if mode == "full":
        return 0, first + second - 1
    if mode == "same":
        return (second if later else second - 1) // 2, first
    return min(first, second) - 1, abs(first - second) + 1


def _convolve(
    name: str, in1: Any, in2: Any, mode: str, method: str, precision: Any, later: bool = False
) -> Any:
    if not is_option(method, ("auto", "direct", "fft")):
        raise ArgumentError(
            f"{name}: method must be 'auto', 'direct' or 'fft', got {shortened(method)}"
        )
    x, y = _operands(name, in1, in2, mode)
    _check_inside(name, x, y, mode, range(x.ndim))
    if method == "fft":
        return fftconvolve(x, y, mode)
    if x.ndim == 0:
        return x * y
    kept = [_kept(a, b, mode, later) for a, b in zip(x.shape, y.shape, strict=True)]
    # The larger one is what windows slide over.
    if x.size < y.size:
        x, y = y, x
    padding = []
    for (first, count), a, b in zip(kept, x.shape, y.shape, strict=True):
        before = b - 1 - first
        padding.append((before, count + b - 1 - a - before))
    out = lax.conv_general_dilated(
        x[None, None], fnp.flip(y)[None, None], (1,) * x.ndim, padding, precision=precision
    )
    return out[0, 0]
