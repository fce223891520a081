"""Descriptions of samples: the commonest values, ranks, standard errors."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.options import flag, is_option
from funcdl.errors import ArgumentError
from funcdl.numpy.promotion import array, promote_inexact
from funcdl.numpy.reductions import normalize_axis

__all__ = ["ModeResult", "mode", "rankdata", "sem"]

_METHODS = ("average", "min", "max", "dense", "ordinal")


class ModeResult(NamedTuple):
    """What `mode` returns: the commonest values, and how often each occurs."""

    mode: Any
    count: Any


def _check_policy(name: str, nan_policy: str, allowed: tuple[str, ...] = ("propagate",)) -> None:
    if not is_option(nan_policy, allowed):
        raise ArgumentError(
            f"{name}: nan_policy must be {' or '.join(map(repr, allowed))}, "
            f"got {shortened(nan_policy)}"
        )


def mode(
    a: Any, axis: int | None = 0, nan_policy: str = "propagate", keepdims: bool = False
) -> ModeResult:
    """The commonest value along an axis, of several the least (see `jax.scipy.stats.mode`).

    Args:
      a: an array of real numbers.
      axis: the axis; None: all elements are one sample.
      nan_policy: must be ``"propagate"``: all NaN count as one value.
      keepdims: whether the axis stays, with size 1.

    Returns:
      The values, of the dtype of `a`, and their numbers, integers. Of no elements NaN, 0 times.

    Raises:
      ArgumentError: another `nan_policy`, or integers without elements.
    """
    _check_policy("mode", nan_policy)
    x = array("mode", a)
    rows, shape = _rows("mode", x, axis, keepdims)
    count = rows.shape[-1]
    kind = dtypes.default_dtype("i")
    if count == 0:
        if not dtypes.is_inexact(x.dtype):
            raise ArgumentError(f"mode: integers without elements have no mode, got {x.aval}")
        return ModeResult(fnp.full(shape, fnp.nan, x.dtype), fnp.zeros(shape, kind))
    ordered = fnp.sort(rows, axis=-1)
    lengths = _places(ordered) - _starts(ordered) + 1
    # The first of the longest runs ends where this length is first reached.
    end = fnp.argmax(lengths, axis=-1, keepdims=True)
    value = fnp.take_along_axis(ordered, end, axis=-1)
    number = fnp.take_along_axis(lengths, end, axis=-1)
    return ModeResult(fnp.reshape(value, shape), fnp.reshape(number, shape).astype(kind))


def rankdata(
    a: Any, method: str = "average", *, axis: int | None = None, nan_policy: str = "propagate"
) -> Any:
    """The ranks of elements from 1 on (see `jax.scipy.stats.rankdata`).

    Args:
      a: an array of real numbers.
      method: the rank of equal elements: ``"average"``, ``"min"`` or ``"max"`` of the ranks that
        they take together; ``"dense"``: as ``"min"``, with no rank left out behind them;
        ``"ordinal"``: one each, in their order.
      axis: the axis; None: all elements, and the result is a vector.
      nan_policy: must be ``"propagate"``: a sample with NaN has NaN for ranks.

    Returns:
      Floats of the default dtype, of the shape of `a` (or flat).

    Raises:
      ArgumentError: an unknown `method`, or another `nan_policy`.
    """
    _check_policy("rankdata", nan_policy)
    if not is_option(method, _METHODS):
        raise ArgumentError(f"rankdata: method must be one of {_METHODS}, got {shortened(method)}")
    x = array("rankdata", a)
    if axis is None or x.ndim == 0:
        x, axis = fnp.ravel(x), 0
    axis = normalize_axis("rankdata", axis, x.ndim)
    rows = fnp.moveaxis(x, axis, -1)
    order = fnp.argsort(rows, axis=-1)
    ordered = fnp.take_along_axis(rows, order, axis=-1)
    first = _is_first(ordered)
    places = _places(ordered)
    if method == "ordinal":
        rank = places + 1
    elif method == "dense":
        rank = fnp.cumsum(first, axis=-1, dtype=places.dtype)
    else:
        low, high = _starts(ordered) + 1, _ends(first, places) + 1
        rank = {"min": low, "max": high, "average": (low + high) / 2}[method]
    ranks = fnp.take_along_axis(rank.astype(fnp.float_), fnp.argsort(order, axis=-1), axis=-1)
    if dtypes.is_inexact(rows.dtype):
        unknown = fnp.any(fnp.isnan(rows), axis=-1, keepdims=True)
        ranks = fnp.where(unknown, fnp.nan, ranks)
    return fnp.moveaxis(ranks, -1, axis)


def sem(
    a: Any,
    axis: int | None = 0,
    ddof: int = 1,
    nan_policy: str = "propagate",
    *,
    keepdims: bool = False,
) -> Any:
    """The standard error of the mean (see `jax.scipy.stats.sem`).

    Args:
      a: an array of real numbers.
      axis: the axis; None: all elements are one sample.
      ddof: what is subtracted from the number of elements for the variance's divisor.
      nan_policy: ``"propagate"``: NaN makes NaN; ``"omit"``: it is left out.
      keepdims: whether the axis stays, with size 1.

    Returns:
      A float of the dtype of `a`.

    Raises:
      ArgumentError: another `nan_policy`.
    """
    _check_policy("sem", nan_policy, ("propagate", "omit"))
    (x,) = promote_inexact("sem", a)
    rows, shape = _rows("sem", x, axis, keepdims)
    if nan_policy == "omit":
        count = fnp.sum(~fnp.isnan(rows), axis=-1)
        deviation = fnp.nanstd(rows, axis=-1, ddof=ddof)
        return fnp.reshape(deviation / fnp.sqrt(count.astype(x.dtype)), shape)
    return fnp.reshape(fnp.std(rows, axis=-1, ddof=ddof) / math.sqrt(rows.shape[-1]), shape)


def _rows(name: str, x: Any, axis: int | None, keepdims: bool) -> tuple[Any, tuple[int, ...]]:
    """The samples along the last dimension, and the shape of what is found of each."""
    keepdims = flag(f"{name}: keepdims", keepdims)
    if axis is None or x.ndim == 0:
        return fnp.ravel(x), (1,) * x.ndim if keepdims else ()
    axis = normalize_axis(name, axis, x.ndim)
    sizes = list(x.shape)
    sizes[axis : axis + 1] = [1] if keepdims else []
    return fnp.moveaxis(x, axis, -1), tuple(sizes)


def _places(x: Any) -> Any:
    return lax.broadcasted_iota(fnp.int32, x.shape, x.ndim - 1)


def _is_first(ordered: Any) -> Any:
    """Whether sorted elements differ from the one before; all NaN are the same."""
    after, before = ordered[..., 1:], ordered[..., :-1]
    differ = after != before
    if dtypes.is_inexact(ordered.dtype):
        differ = differ & ~(fnp.isnan(after) & fnp.isnan(before))
    return fnp.concatenate([fnp.ones_like(ordered[..., :1], dtype=bool), differ], axis=-1)


def _starts(ordered: Any) -> Any:
    """Where each element's run of equal ones starts."""
    places = _places(ordered)
    return lax.cummax(fnp.where(_is_first(ordered), places, 0), axis=ordered.ndim - 1)


def _ends(first: Any, places: Any) -> Any:
    """Where each element's run of equal ones ends."""
    last = fnp.concatenate([first[..., 1:], fnp.ones_like(first[..., :1])], axis=-1)
    size = places.shape[-1]
    return lax.cummin(fnp.where(last, places, size), axis=places.ndim - 1, reverse=True)
