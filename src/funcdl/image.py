"""Images at other sizes: resampling along some dimensions of an array (see `jax.image`).

Each dimension is a product with a matrix of weights, so that everything has derivatives, by the
image, the scale and the translation.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core import lattice
from funcdl.core.array import shortened
from funcdl.core.integers import integers
from funcdl.core.options import flag
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.promotion import promote_inexact
from funcdl.numpy.reductions import normalize_axis

__all__ = ["ResizeMethod", "resize", "scale_and_translate"]


class ResizeMethod(enum.Enum):
    """How values between pixels are found (see `jax.image.ResizeMethod`)."""

    NEAREST = 0
    LINEAR = 1
    LANCZOS3 = 2
    LANCZOS5 = 3
    CUBIC = 4
    CUBIC_PYTORCH = 5
    AREA = 6

    @staticmethod
    def from_string(s: str) -> ResizeMethod:
        """The method of a name such as ``"bilinear"``.

        Raises:
          ArgumentError: there is none.
        """
        if s not in _NAMES:
            raise ArgumentError(f"method must be one of {', '.join(_NAMES)}; got {shortened(s)}")
        return _NAMES[s]


_NAMES = {
    "nearest": ResizeMethod.NEAREST,
    **dict.fromkeys(("linear", "bilinear", "trilinear", "triangle"), ResizeMethod.LINEAR),
    "lanczos3": ResizeMethod.LANCZOS3,
    "lanczos5": ResizeMethod.LANCZOS5,
    **dict.fromkeys(("cubic", "bicubic", "tricubic"), ResizeMethod.CUBIC),
    **dict.fromkeys(("cubic-pytorch", "bicubic-pytorch"), ResizeMethod.CUBIC_PYTORCH),
    "area": ResizeMethod.AREA,
}
# Where weights add up to less, an output lies outside of the image; the bound is JAX's.
_TINY = 1000 * float(np.finfo(np.float32).eps)


def resize(
    image: Any,
    shape: Sequence[int],
    method: str | ResizeMethod,
    antialias: bool = True,
    precision: Any = lax.Precision.HIGHEST,
) -> Any:
    """The image at another size (see `jax.image.resize`).

    Args:
      image: an array; integers are turned into floats, but for method ``"nearest"``.
      shape: the new sizes of all dimensions.
      method: a ResizeMethod or its name: ``"nearest"``, ``"linear"``, ``"cubic"``,
        ``"cubic-pytorch"`` (as PyTorch's bicubic without antialiasing), ``"lanczos3"``,
        ``"lanczos5"``, ``"area"`` (the mean over what a new pixel covers).
      antialias: whether to widen the kernel where the image gets smaller.
      precision: of the products, as for `lax.dot_general`.

    Raises:
      ShapeError: `shape` has another number of dimensions.
      ArgumentError: there is no such method.
    """
    x = fnp.asarray(image)
    sizes = _sizes("resize", x, shape)
    kind = _method("resize", method)
    antialias = flag("resize: antialias", antialias)
    dims = [d for d in range(x.ndim) if x.shape[d] != sizes[d]]
    if kind is ResizeMethod.NEAREST:
        for d in dims:
            x = fnp.take(x, _nearest(x.shape[d], sizes[d]), axis=d)
        return x
    # An empty result has no scale, and needs none.
    scales = [np.float32(sizes[d] / x.shape[d] if sizes[d] else 1) for d in dims]
    shifts = [np.float32(0)] * len(dims)
    return _resampled(x, sizes, dims, scales, shifts, kind, antialias, precision)


def scale_and_translate(
    image: Any,
    shape: Sequence[int],
    spatial_dims: Sequence[int],
    scale: Any,
    translation: Any,
    method: str | ResizeMethod,
    antialias: bool = True,
    precision: Any = lax.Precision.HIGHEST,
) -> Any:
    """The image under ``x -> scale * x + translation`` (see `jax.image.scale_and_translate`).

    Pixels are squares, with their centres at half numbers. What lies outside of the image is zero.

    Args:
      image: an array; integers are turned into floats.
      shape: the result's shape; along dimensions that are not spatial ones that of `image`.
      spatial_dims: the K dimensions that are resampled.
      scale, translation: ``[K]``, in pixels of the result.
      method, antialias, precision: as for `resize`, without method ``"nearest"``.

    Raises:
      ShapeError: `shape`, `scale` or `translation` does not fit.
      ArgumentError: there is no such method.
    """
    x = fnp.asarray(image)
    sizes = _sizes("scale_and_translate", x, shape)
    kind = _method("scale_and_translate", method)
    antialias = flag("scale_and_translate: antialias", antialias)
    if kind is ResizeMethod.NEAREST:
        raise ArgumentError(
            "scale_and_translate has no method 'nearest'; resize has, and 'linear' is near"
        )
    dims = [
        normalize_axis("scale_and_translate", d, x.ndim)
        for d in integers("scale_and_translate: spatial_dims", spatial_dims)
    ]
    if len(set(dims)) < len(dims):
        raise ArgumentError(f"scale_and_translate: spatial_dims has one twice: {spatial_dims}")
    for d in range(x.ndim):
        if d not in dims and sizes[d] != x.shape[d]:
            raise ShapeError(
                f"scale_and_translate requires the size of dimension {d}, which is not in "
                f"spatial_dims, to stay {x.shape[d]}; got shape {sizes}"
            )
    scales, shifts = promote_inexact("scale_and_translate", _list(scale), _list(translation))
    if scales.shape != (len(dims),) or shifts.shape != scales.shape:
        raise ShapeError(
            f"scale_and_translate requires scale and translation of shape ({len(dims)},), one for "
            f"each of spatial_dims; got {scales.aval} and {shifts.aval}"
        )
    pairs = [(scales[i], shifts[i]) for i in range(len(dims))]
    return _resampled(
        x, sizes, dims, [s for s, _ in pairs], [t for _, t in pairs], kind, antialias, precision
    )


def _method(name: str, method: Any) -> ResizeMethod:
    if isinstance(method, ResizeMethod):
        return method
    if isinstance(method, str):
        return ResizeMethod.from_string(method)
    raise ArgumentError(
        f"{name}: method must be a name, such as 'linear', or a ResizeMethod, got "
        f"{shortened(method)}"
    )


def _list(x: Any) -> Any:
    return (
        fnp.stack([fnp.asarray(v) for v in x])
        if isinstance(x, list | tuple) and x
        else fnp.asarray(x)
    )


def _sizes(what: str, x: Any, shape: Sequence[int]) -> tuple[int, ...]:
    sizes = integers("shape", shape)
    if len(sizes) != x.ndim:
        raise ShapeError(
            f"{what} requires a shape with one size for each dimension of image, of type {x.aval}; "
            f"got {sizes}"
        )
    return sizes


def _nearest(size: int, count: int) -> Any:
    """The pixel below the centre of each new pixel, in float32 as in JAX."""
    centres = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * np.float32(size)
    return np.floor(centres / np.float32(count)).astype(np.int32)


def _resampled(
    x: Any,
    sizes: tuple[int, ...],
    dims: Sequence[int],
    scales: Sequence[Any],
    shifts: Sequence[Any],
    method: ResizeMethod,
    antialias: bool,
    precision: Any,
) -> Any:
    (x,) = promote_inexact("image", x)
    for d, scale, shift in zip(dims, scales, shifts, strict=True):
        weights = _weights(x.shape[d], sizes[d], scale, shift, method, antialias)
        numbers = (((d,), (0,)), ((), ()))
        out = lax.dot_general(x, weights.astype(x.dtype), numbers, precision=precision)
        x = fnp.moveaxis(out, -1, d)
    return x


def _weights(
    size: int, count: int, scale: Any, shift: Any, method: ResizeMethod, antialias: bool
) -> Any:
    """The weight of each old pixel in each new one, ``[size, count]``."""
    inverse = 1 / scale
    dtype = lattice.result_type(scale, shift)
    starts = (fnp.arange(count, dtype=dtype) - shift) * inverse
    centres = starts + 0.5 * inverse - 0.5
    # Kernels reach beyond the edges only where edge pixels stand for all beyond them.
    repeat_edges = method is ResizeMethod.CUBIC_PYTORCH and not antialias
    pad = 2 if repeat_edges else 0
    pixels = fnp.arange(-pad, size + pad, dtype=dtype)[:, None]
    if method is ResizeMethod.AREA:
        ends = fnp.minimum(starts + inverse, pixels + 1)
        weights = fnp.maximum(0, ends - fnp.maximum(starts, pixels))
    else:
        width = fnp.maximum(inverse, 1) if antialias else 1
        kernel = _CUBIC_KEYS if method is ResizeMethod.CUBIC_PYTORCH and antialias else None
        weights = (kernel or _KERNELS[method])(fnp.abs(centres - pixels) / width)
    if repeat_edges:
        inside = np.clip(np.arange(-pad, size + pad), 0, size - 1)
        weights = fnp.zeros((size, count), dtype).at[inside].add(weights)
    total = fnp.sum(weights, axis=0, keepdims=True)
    enough = fnp.abs(total) > _TINY
    weights = fnp.where(enough, weights / fnp.where(enough, total, 1), 0)
    if repeat_edges:
        return weights
    return fnp.where((centres >= -0.5) & (centres <= size - 0.5), weights, 0)


def _triangle(x: Any) -> Any:
    return fnp.maximum(0, 1 - x)


def _lanczos(radius: int) -> Callable[[Any], Any]:
    """C. E. Duchon, "Lanczos filtering in one and two dimensions" (1979)."""

    def kernel(x: Any) -> Any:
        near = x <= 1e-3
        product = radius * fnp.sin(math.pi * x) * fnp.sin(math.pi * x / radius)
        value = fnp.where(near, 1, product / fnp.where(near, 1, (math.pi * x) ** 2))
        return fnp.where(x > radius, 0, value)

    return kernel


def _cubic(a: float) -> Callable[[Any], Any]:
    """R. G. Keys, "Cubic convolution interpolation for digital image processing" (1981)."""

    def kernel(x: Any) -> Any:
        inner = ((a + 2) * x - (a + 3)) * x * x + 1
        outer = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return fnp.where(x >= 2, 0, fnp.where(x >= 1, outer, inner))

    return kernel


_CUBIC_KEYS = _cubic(-0.5)
_KERNELS = {
    ResizeMethod.LINEAR: _triangle,
    ResizeMethod.LANCZOS3: _lanczos(3),
    ResizeMethod.LANCZOS5: _lanczos(5),
    ResizeMethod.CUBIC: _CUBIC_KEYS,
    ResizeMethod.CUBIC_PYTORCH: _cubic(-0.75),
}
