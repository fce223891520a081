"""Functions of samples in a row: differences, integrals, interpolation, convolution."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.integers import integer
from funcdl.core.options import is_option, number
from funcdl.errors import ArgumentError, DtypeError, ShapeError
from funcdl.numpy.arithmetic import abs, clip
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.functions import conj
from funcdl.numpy.indexing import where
from funcdl.numpy.joining import concatenate
from funcdl.numpy.logic import not_equal
from funcdl.numpy.promotion import ArrayLike, array, promote_inexact
from funcdl.numpy.reductions import cumsum, normalize_axes, normalize_axis, sum
from funcdl.numpy.searching import searchsorted
from funcdl.numpy.shaping import broadcast_to, flip, moveaxis, ravel, reshape
from funcdl.numpy.sorting import argsort
from funcdl.ops.windows.convolution import conv_general_dilated
from funcdl.ops.windows.convolution_dimensions import ConvDimensionNumbers

__all__ = [
    "convolve",
    "correlate",
    "diff",
    "ediff1d",
    "gradient",
    "interp",
    "trapezoid",
    "unwrap",
]


def diff(
    a: ArrayLike,
    n: int = 1,
    axis: int = -1,
    prepend: ArrayLike | None = None,
    append: ArrayLike | None = None,
) -> Any:
    """Differences of neighbours along an axis, taken n times (see `numpy.diff`).

    Args:
      a: the array; of bools, whether neighbours differ.
      n: how many times.
      axis: the axis.
      prepend, append: what to join to the array first, scalars or arrays.

    Raises:
      ArgumentError: `n` is negative.
      ShapeError: the array is a scalar.
    """
    n = integer("n", n)
    if n < 0:
        raise ArgumentError(f"diff: n must not be negative, got {n}")
    a = array("diff", a)
    if a.aval.ndim == 0:
        raise ShapeError(f"diff: an array with an axis is needed, got {a.aval}")
    axis = normalize_axis("diff", axis, a.aval.ndim)
    parts = [x for x in (prepend, a, append) if x is not None]
    if len(parts) > 1:
        one = tuple(1 if d == axis else size for d, size in enumerate(a.aval.shape))
        each = [array("diff", x) for x in parts]
        a = concatenate([broadcast_to(x, one) if x.aval.ndim == 0 else x for x in each], axis)
    subtract = not_equal if dtypes.is_bool(a.aval.dtype) else operator.sub
    a = moveaxis(a, axis, 0)
    for _ in range(n):
        a = subtract(a[1:], a[:-1])
    return moveaxis(a, 0, axis)


def ediff1d(
    ary: ArrayLike, to_end: ArrayLike | None = None, to_begin: ArrayLike | None = None
) -> Any:
    """Differences of neighbours in row-major order (see `numpy.ediff1d`).

    Args:
      ary: the array.
      to_end, to_begin: what to put behind and before them, in the array's dtype.
    """
    ary = ravel(array("ediff1d", ary))
    inner = ary[1:] - ary[:-1]
    ends = [None if x is None else array("ediff1d", x) for x in (to_begin, to_end)]
    parts = [ends[0], inner, ends[1]]
    return concatenate([ravel(x).astype(ary.aval.dtype) for x in parts if x is not None])


def trapezoid(y: ArrayLike, x: ArrayLike | None = None, dx: ArrayLike = 1.0, axis: int = -1) -> Any:
    """The integral along an axis by the trapezoidal rule (see `numpy.trapezoid`).

    Args:
      y: the values.
      x: where they are, a vector or of the shape of `y`; None: `dx` apart.
      dx: the distance between values.
      axis: the axis.
    """
    if x is None:
        (y,) = promote_inexact("trapezoid", y)
        width: Any = array("trapezoid", dx)
        y = moveaxis(y, axis, -1)
    else:
        y, x = promote_inexact("trapezoid", y, x)
        y = moveaxis(y, axis, -1)
        width = diff(x) if x.aval.ndim == 1 else diff(moveaxis(x, axis, -1))
    return sum((y[..., 1:] + y[..., :-1]) * width, -1) * 0.5


def gradient(
    f: ArrayLike,
    *varargs: ArrayLike,
    axis: int | Sequence[int] | None = None,
    edge_order: int | None = None,
) -> Any:
    """Derivatives of samples by central differences, one-sided at the ends (see `numpy.gradient`).

    Args:
      f: the values at the points of a grid.
      varargs: how far apart these are: one number, one for each axis, or for each axis the
        coordinates.
      axis: an axis or several; None: all.
      edge_order: must be None or 1.

    Returns:
      An array of the shape of `f`, or a list of them for several axes.

    Raises:
      ArgumentError: `varargs` do not fit, an axis has less than two points, or `edge_order` is 2.
    """
    if edge_order is not None and integer("gradient: edge_order", edge_order) != 1:
        raise ArgumentError(f"gradient: edge_order must be None or 1, got {edge_order}")
    f, *distances = promote_inexact("gradient", f, *varargs)
    if axis is None or isinstance(axis, tuple | list):
        axes = normalize_axes("gradient", axis, f.aval.ndim)
        if axis is not None:
            axes = tuple(normalize_axis("gradient", d, f.aval.ndim) for d in axis)
    else:
        axes = (normalize_axis("gradient", axis, f.aval.ndim),)
    distances = distances or [1.0]
    if len(distances) == 1:
        distances *= len(axes)
    if len(distances) != len(axes):
        raise ArgumentError(
            f"gradient: one distance is needed, or one for each of {len(axes)} axes, got "
            f"{len(distances)}"
        )
    results = [_slopes(f, h, d) for h, d in zip(distances, axes, strict=True)]
    return results[0] if len(results) == 1 else results


def _slopes(f: Any, distance: ArrayLike, axis: int) -> Any:
    y = moveaxis(f, axis, 0)
    count = y.aval.shape[0]
    if count < 2:
        raise ArgumentError(
            f"gradient: two points are needed along axis {axis}, got {count} in {f.aval}"
        )
    h = array("gradient", distance)
    if h.aval.ndim == 0:
        inner = (y[2:] - y[:-2]) * 0.5 / h
        ends = (y[1] - y[0]) / h, (y[-1] - y[-2]) / h
    else:
        if h.aval.shape != (count,):
            raise ArgumentError(
                f"gradient: axis {axis} has {count} points, and needs as many coordinates, got "
                f"{h.aval}"
            )
        steps = diff(h)
        wide = reshape(steps, (count - 1, *(1,) * (y.aval.ndim - 1)))
        left, right = wide[:-1], wide[1:]
        # The parabola through three points, at the one in the middle.
        inner = (
            -right / (left * (left + right)) * y[:-2]
            + (right - left) / (left * right) * y[1:-1]
            + left / (right * (left + right)) * y[2:]
        )
        ends = (y[1] - y[0]) / steps[0], (y[-1] - y[-2]) / steps[-1]
    return moveaxis(concatenate([ends[0][None], inner, ends[1][None]]), 0, axis)


def interp(
    x: ArrayLike,
    xp: ArrayLike,
    fp: ArrayLike,
    left: ArrayLike | str | None = None,
    right: ArrayLike | str | None = None,
    period: ArrayLike | None = None,
) -> Any:
    """Linear interpolation between points (see `jax.numpy.interp`).

    Args:
      x: where to look.
      xp: where the points are, a vector that rises.
      fp: the values there.
      left, right: the result before the first and behind the last point, by default the value
        there; "extrapolate": the line goes on.
      period: after how much the points repeat; then `xp` need not be sorted.

    Raises:
      ShapeError: `xp` and `fp` are no vectors of equal, positive length.
      ArgumentError: `left` or `right` is another string, or `period` is 0.
      DtypeError: `x` or `xp` is complex.
    """
    for side, value in (("left", left), ("right", right)):
        if isinstance(value, str) and value != "extrapolate":
            raise ArgumentError(
                f"interp: {side} must be a number or 'extrapolate', got {shortened(value)}"
            )
    x, xp = promote_inexact("interp", x, xp)
    if dtypes.is_complex(x.aval.dtype):
        raise DtypeError(
            f"interp: places on a line are real, got x and xp of dtype {x.aval.dtype.name}; "
            "the values fp alone may be complex"
        )
    (fp,) = promote_inexact("interp", fp)
    if xp.aval.ndim != 1 or xp.aval.shape != fp.aval.shape or xp.aval.shape[0] == 0:
        raise ShapeError(
            f"interp: xp and fp must be vectors of one length, got {xp.aval} and {fp.aval}"
        )
    if period is not None:
        if isinstance(period, int | float) and period == 0:
            raise ArgumentError("interp: period must not be 0")
        length = abs(array("interp", period)).astype(x.aval.dtype)
        x, xp = x % length, xp % length
        order = argsort(xp)
        xp, fp = xp[order], fp[order]
        xp = concatenate([xp[-1:] - length, xp, xp[:1] + length])
        fp = concatenate([fp[-1:], fp, fp[:1]])
        left = right = None
    place = clip(searchsorted(xp, x, side="right"), 1, max(xp.aval.shape[0] - 1, 1))
    if xp.aval.shape[0] == 1:
        value = broadcast_to(fp[0], x.aval.shape)
    else:
        width, height = xp[place] - xp[place - 1], fp[place] - fp[place - 1]
        delta = x - xp[place - 1]
        flat = width == 0
        value = where(flat, fp[place - 1], fp[place - 1] + delta / where(flat, 1, width) * height)
    if not isinstance(left, str):
        value = where(x < xp[0], fp[0] if left is None else left, value)
    if not isinstance(right, str):
        value = where(x > xp[-1], fp[-1] if right is None else right, value)
    return value


def unwrap(
    p: ArrayLike, discont: ArrayLike | None = None, axis: int = -1, period: ArrayLike = 2 * math.pi
) -> Any:
    """Angles without jumps of more than half a period along an axis (see `numpy.unwrap`).

    Args:
      p: the angles.
      discont: the least jump to take out, by default half a period.
      axis: the axis.
      period: what full turns add to an angle.

    Raises:
      DtypeError: the angles are complex.
    """
    p = array("unwrap", p)
    if dtypes.is_complex(p.aval.dtype):
        raise DtypeError(f"unwrap: angles must be real, got {p.aval}")
    period = number("unwrap: period", period)
    discont = None if discont is None else number("unwrap: discont", discont)
    p = moveaxis(p, axis, 0)
    whole = dtypes.is_integer(p.aval.dtype) and isinstance(period, int)
    half: Any = period // 2 if whole else period / 2
    (p,) = [p] if whole else promote_inexact("unwrap", p)
    if p.aval.shape[0] == 0:
        return moveaxis(p, 0, axis)
    jump = p[1:] - p[:-1]
    step = (jump + half) % period - half
    # A jump of exactly half a period up stays one up.
    step = where((step == -half) & (jump > 0), half, step)
    if whole and period % 2:
        step = (jump + half) % period - half
    limit = half if discont is None else discont
    correction = where(abs(jump) < limit, 0, step - jump)
    moved = p[1:] + cumsum(correction, axis=0).astype(p.aval.dtype)
    return moveaxis(concatenate([p[:1], moved]), 0, axis)


def convolve(
    a: ArrayLike,
    v: ArrayLike,
    mode: str = "full",
    *,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """The convolution of two vectors (see `jax.numpy.convolve`).

    Args:
      a, v: vectors of m and n elements.
      mode: "full": all m + n - 1 places where they overlap; "same": max(m, n) of them, from the
        middle; "valid": those where they overlap wholly.
      precision: has no effect.
      preferred_element_type: the dtype to add up in and to return.

    Raises:
      ShapeError: an operand is no vector, or empty.
      ArgumentError: an unknown mode.
    """
    x, y = _vectors("convolve", a, v, mode)
    if x.aval.size < y.aval.size:
        x, y = y, x
    return _slide(x, flip(y), mode, preferred_element_type)


def correlate(
    a: ArrayLike,
    v: ArrayLike,
    mode: str = "valid",
    *,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """The cross-correlation of two vectors, the second conjugated (see `jax.numpy.correlate`).

    The arguments are those of `convolve`.
    """
    x, y = _vectors("correlate", a, v, mode)
    y = conj(y) if dtypes.is_complex(y.aval.dtype) else y
    if x.aval.size >= y.aval.size:
        return _slide(x, y, mode, preferred_element_type)
    return flip(_slide(y, x, mode, preferred_element_type))


def _vectors(name: str, a: ArrayLike, v: ArrayLike, mode: str) -> tuple[Any, Any]:
    if not is_option(mode, ("full", "same", "valid")):
        raise ArgumentError(
            f"{name}: mode must be 'full', 'same' or 'valid', got {shortened(mode)}"
        )
    x, y = promote_inexact(name, a, v)
    if x.aval.ndim != 1 or y.aval.ndim != 1 or 0 in (x.aval.size, y.aval.size):
        raise ShapeError(f"{name}: vectors with elements are needed, got {x.aval} and {y.aval}")
    return x, y


def _slide(x: Any, window: Any, mode: str, preferred: DTypeLike) -> Any:
    """Inner products of a window with the longer vector at each place."""
    size = window.aval.size
    padding = {
        "full": (size - 1, size - 1),
        "same": (size // 2, size - size // 2 - 1),
        "valid": (0, 0),
    }[mode]
    out = conv_general_dilated(
        x[None, None, :],
        window[None, None, :],
        window_strides=(1,),
        padding=(padding,),
        lhs_dilation=(1,),
        rhs_dilation=(1,),
        dimension_numbers=ConvDimensionNumbers((0, 1, 2), (0, 1, 2), (0, 1, 2)),
        feature_group_count=1,
        batch_group_count=1,
        precision=None,
        preferred_element_type=None if preferred is None else canonical(preferred),
    )
    return out[0, 0]
