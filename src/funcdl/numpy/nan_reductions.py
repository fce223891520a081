"""Reductions that leave out NaN: each replaces NaN by what does not count, then reduces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.numpy import reductions
from funcdl.numpy.creation import DTypeLike
from funcdl.numpy.indexing import where as choose
from funcdl.numpy.logic import isnan, truth
from funcdl.numpy.promotion import ArrayLike, array, refuse_out
from funcdl.numpy.reductions import Axis
from funcdl.numpy.statistics import mean as whole_mean
from funcdl.numpy.statistics import var as whole_var
from funcdl.ops.exponential import sqrt
from funcdl.ops.reduction import extreme_identity
from funcdl.ops.select import select_n
from funcdl.ops.shape import full_like

__all__ = [
    "nanargmax",
    "nanargmin",
    "nancumprod",
    "nancumsum",
    "nanmax",
    "nanmean",
    "nanmin",
    "nanprod",
    "nanstd",
    "nansum",
    "nanvar",
]


def _without_nan(name: str, a: ArrayLike, other: Any) -> Any:
    x = array(name, a)
    if not dtypes.is_inexact(x.aval.dtype):
        return x
    return select_n(isnan(x), x, full_like(x, other))


def _counted(name: str, a: Any, where: ArrayLike | None) -> Any:
    """A mask of the elements that count: not NaN, and meant."""
    mask = ~isnan(a)
    return mask if where is None else mask & truth(name, where)


def nansum(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Any:
    """As `sum`, NaN counting as 0 (see `numpy.nansum`).

    Arguments, shape, dtype and errors are the same.
    """
    x = _without_nan("nansum", a, 0)
    return reductions.sum(x, axis, dtype, out, keepdims, initial, where)


def nanprod(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Any:
    """As `prod`, NaN counting as 1 (see `numpy.nanprod`).

    Arguments, shape, dtype and errors are the same.
    """
    x = _without_nan("nanprod", a, 1)
    return reductions.prod(x, axis, dtype, out, keepdims, initial, where)


def nancumsum(
    a: ArrayLike, axis: int | None = None, dtype: DTypeLike = None, out: None = None
) -> Any:
    """As `cumsum`, NaN counting as 0 (see `numpy.nancumsum`).

    Arguments, shape, dtype and errors are the same.
    """
    return reductions.cumsum(_without_nan("nancumsum", a, 0), axis, dtype, out)


def nancumprod(
    a: ArrayLike, axis: int | None = None, dtype: DTypeLike = None, out: None = None
) -> Any:
    """As `cumprod`, NaN counting as 1 (see `numpy.nancumprod`).

    Arguments, shape, dtype and errors are the same.
    """
    return reductions.cumprod(_without_nan("nancumprod", a, 1), axis, dtype, out)


def nanmax(
    a: ArrayLike,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Any:
    """As `max`, of the elements that are not NaN; NaN if there are none (see `numpy.nanmax`).

    Arguments, shape, dtype and errors are the same.
    """
    return _extreme("nanmax", reductions.max, a, axis, out, keepdims, initial, where)


def nanmin(
    a: ArrayLike,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Any:
    """As `min`, of the elements that are not NaN; NaN if there are none (see `numpy.nanmin`).

    Arguments, shape, dtype and errors are the same.
    """
    return _extreme("nanmin", reductions.min, a, axis, out, keepdims, initial, where)


def _extreme(
    name: str,
    reduce: Callable[..., Any],
    a: ArrayLike,
    axis: Axis,
    out: None,
    keepdims: bool,
    initial: ArrayLike | None,
    where: ArrayLike | None,
) -> Any:
    x = array(name, a)
    if not dtypes.is_inexact(x.aval.dtype):
        return reduce(x, axis, out, keepdims, initial, where)
    filled = _without_nan(name, x, extreme_identity(x.aval.dtype, name == "nanmax"))
    found = reduce(filled, axis, out, keepdims, initial, where)
    if initial is not None:
        return found
    none_left = reductions.all(isnan(x), axis, keepdims=keepdims)
    return choose(none_left, np.nan, found)


def nanmean(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    keepdims: bool = False,
    where: ArrayLike | None = None,
) -> Any:
    """As `mean`, of the elements that are not NaN; NaN if there are none (see `numpy.nanmean`).

    Arguments, shape, dtype and errors are the same.
    """
    x = array("nanmean", a)
    return whole_mean(x, axis, dtype, out, keepdims, where=_counted("nanmean", x, where))


def nanvar(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    ddof: int | float = 0,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    mean: ArrayLike | None = None,
) -> Any:
    """As `var`, of the elements that are not NaN; NaN if there are too few (see `numpy.nanvar`).

    Arguments, shape, dtype and errors are the same.
    """
    x = array("nanvar", a)
    mask = _counted("nanvar", x, where)
    # What is left out must not make NaN of derivatives either.
    x = _without_nan("nanvar", x, 0)
    return whole_var(x, axis, dtype, out, ddof, keepdims, where=mask, mean=mean)


def nanstd(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    ddof: int | float = 0,
    keepdims: bool = False,
    where: ArrayLike | None = None,
    mean: ArrayLike | None = None,
) -> Any:
    """The square root of `nanvar`, with its arguments (see `numpy.nanstd`).

    Shape, dtype and errors are the same, too.
    """
    return sqrt(nanvar(a, axis, dtype, out, ddof, keepdims, where, mean))


def nanargmax(
    a: ArrayLike, axis: int | None = None, out: None = None, keepdims: bool | None = None
) -> Any:
    """As `argmax`, of the elements that are not NaN; -1 if there are none (see `numpy.nanargmax`).

    Arguments, shape, dtype and errors are the same.
    """
    return _find("nanargmax", reductions.argmax, a, axis, out, keepdims)


def nanargmin(
    a: ArrayLike, axis: int | None = None, out: None = None, keepdims: bool | None = None
) -> Any:
    """As `argmin`, of the elements that are not NaN; -1 if there are none (see `numpy.nanargmin`).

    Arguments, shape, dtype and errors are the same.
    """
    return _find("nanargmin", reductions.argmin, a, axis, out, keepdims)


def _find(
    name: str,
    find: Callable[..., Any],
    a: ArrayLike,
    axis: int | None,
    out: None,
    keepdims: bool | None,
) -> Any:
    refuse_out(name, out)
    x = array(name, a)
    if not dtypes.is_float(x.aval.dtype):
        return find(x, axis, None, keepdims)
    filled = _without_nan(name, x, extreme_identity(x.aval.dtype, name == "nanargmax"))
    found = find(filled, axis, None, keepdims)
    none_left = reductions.all(isnan(x), axis, keepdims=bool(keepdims))
    return choose(none_left, -1, found)
