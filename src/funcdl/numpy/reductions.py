"""Reductions over axes: sums, products, extremes, truth, where an extreme is, running sums."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array, shortened
from funcdl.core.options import flag
from funcdl.core.primitive import Primitive
from funcdl.core.records import record
from funcdl.errors import ArgumentError
from funcdl.numpy.arithmetic import maximum, minimum
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.logic import truth
from funcdl.numpy.promotion import ArrayLike, array, convert, refuse_out, strong
from funcdl.ops import arg_reduction, cumulative, reduction
from funcdl.ops.arithmetic import add, mul
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_to, full_like, reshape
from funcdl.ops.slicing import pad

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "cumprod",
    "cumsum",
    "cumulative_prod",
    "cumulative_sum",
    "max",
    "min",
    "prod",
    "sum",
]

Axis = int | Sequence[int] | None


def normalize_axis(name: str, axis: Any, ndim: int) -> int:
    """One axis counted from the front.

    Raises:
      ArgumentError: it is no integer, or out of range.
    """
    try:
        number = operator.index(axis)
    except TypeError:
        raise ArgumentError(f"{name}: axis must be an integer, got {shortened(axis)}") from None
    if not -ndim <= number < ndim:
        raise ArgumentError(
            f"{name}: axis {number} is out of range for an array of {ndim} "
            f"dimension{'s' * (ndim != 1)}"
        )
    return number % ndim


def normalize_axes(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """An `axis` argument as sorted axes counted from the front; None means all.

    Raises:
      ArgumentError: an axis is no integer, out of range, or named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, tuple | list):
        return (normalize_axis(name, axis, ndim),)
    axes = [normalize_axis(name, entry, ndim) for entry in axis]
    if len(set(axes)) != len(axes):
        raise ArgumentError(f"{name}: axis names a dimension twice: {tuple(axis)}")
    return tuple(sorted(axes))


def restore_dims(x: Any, shape: Sequence[int], axes: Sequence[int]) -> Any:
    """A reduction's output with size 1 in place of the axes that it lost."""
    return reshape(x, new_sizes=tuple(1 if d in axes else n for d, n in enumerate(shape)))


def _mask(name: str, a: Any, where: ArrayLike | None, other: Any) -> Any:
    """`a` with `other` where `where` is false."""
    if where is None:
        return a
    mask = broadcast_to(truth(name, where), a.aval.shape)
    return select_n(mask, full_like(a, other), a)


def _reduce(
    name: str,
    primitive: Primitive,
    a: Any,
    axis: Axis,
    keepdims: bool,
    where: ArrayLike | None,
    identity: Any,
) -> Any:
    axes = normalize_axes(name, axis, a.aval.ndim)
    out = primitive(_mask(name, a, where, identity), axes=axes)
    if keepdims is not False and flag(f"{name}: keepdims", keepdims):
        out = restore_dims(out, a.aval.shape, axes)
    return strong(out)


def sum_dtype(dtype: np.dtype[Any], dtype_argument: DTypeLike, promote: bool) -> np.dtype[Any]:
    """In which dtype to add: small integers and bools go to the default integer type."""
    if dtype_argument is not None:
        return canonical(dtype_argument)
    kind = dtypes.kind(dtype)
    if kind not in ("b", "i", "u") or not flag("promote_integers", promote):
        return dtype
    default = dtypes.default_dtype("u" if kind == "u" else "i")
    return default if default.itemsize > dtype.itemsize else dtype


def sum(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
    promote_integers: bool = True,
) -> Any:
    """Sum of elements (see `jax.numpy.sum`).

    Args:
      a: the array.
      axis: an axis or several to add along; None: all.
      dtype: the element type of the result; by default that of `a`, but at least the default
        integer type for integers and bools (unless `promote_integers` is false).
      out: must be None.
      keepdims: whether reduced axes stay, with size 1.
      initial: a scalar to add.
      where: bools that broadcast with `a`; elements where it is false are left out.
      promote_integers: see `dtype`.

    Returns:
      An array of shape (), or of the axes that are left.

    Raises:
      ArgumentError: there is no such axis, or `out` is given.
    """
    return _accumulate(_SUM, a, axis, dtype, out, keepdims, initial, where, promote_integers)


def prod(
    a: ArrayLike,
    axis: Axis = None,
    dtype: DTypeLike = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
    promote_integers: bool = True,
) -> Any:
    """Product of elements; the arguments are those of `sum` (see `jax.numpy.prod`).

    Shape, dtype and errors are those of `sum`, too.
    """
    return _accumulate(_PRODUCT, a, axis, dtype, out, keepdims, initial, where, promote_integers)


@record
class _Kind:
    """What a sum or product is made of: its primitive, that of two numbers, and that of none."""

    name: str
    primitive: Primitive
    combine: Primitive
    identity: int


_SUM = _Kind("sum", reduction.reduce_sum, add, 0)
_PRODUCT = _Kind("prod", reduction.reduce_prod, mul, 1)


def _accumulate(
    kind: _Kind,
    a: ArrayLike,
    axis: Axis,
    dtype: DTypeLike,
    out: None,
    keepdims: bool,
    initial: ArrayLike | None,
    where: ArrayLike | None,
    promote_integers: bool,
) -> Any:
    refuse_out(kind.name, out)
    a = array(kind.name, a)
    target = sum_dtype(a.aval.dtype, dtype, promote_integers)
    if dtypes.is_bool(target):
        # As NumPy: the sum of bools in bool is whether any is true, the product whether all are.
        return (any if kind is _SUM else all)(a, axis, keepdims=keepdims, where=where)
    result = _reduce(
        kind.name, kind.primitive, convert(a, target), axis, keepdims, where, kind.identity
    )
    if initial is None:
        return result
    first = convert(array(kind.name, initial), target)
    return kind.combine(result, broadcast_to(first, result.aval.shape))


def max(
    a: ArrayLike,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Any:
    """Largest element; NaN if there is one (see `jax.numpy.max`).

    Args:
      a: the array.
      axis: an axis or several; None: all.
      out: must be None.
      keepdims: whether reduced axes stay, with size 1.
      initial: a lower bound of the result; needed with `where`, and for no elements.
      where: bools that broadcast with `a`; elements where it is false are left out.

    Raises:
      ArgumentError: there are no elements, or `where` is given, and `initial` is not.
    """
    return _extreme("max", reduction.reduce_max, True, a, axis, out, keepdims, initial, where)


def min(
    a: ArrayLike,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    initial: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Any:
    """Smallest element; the arguments are those of `max`, `initial` being an upper bound.

    Dtype and errors are those of `max`, too. See `numpy.min`.
    """
    return _extreme("min", reduction.reduce_min, False, a, axis, out, keepdims, initial, where)


amax, amin = max, min


def _extreme(
    name: str,
    primitive: Primitive,
    largest: bool,
    a: ArrayLike,
    axis: Axis,
    out: None,
    keepdims: bool,
    initial: ArrayLike | None,
    where: ArrayLike | None,
) -> Any:
    refuse_out(name, out)
    a = array(name, a)
    axes = normalize_axes(name, axis, a.aval.ndim)
    if initial is None:
        if where is not None:
            raise ArgumentError(
                f"{name}: where needs initial, the result if it is false everywhere"
            )
        if 0 in (a.aval.shape[d] for d in axes):
            raise ArgumentError(
                f"{name}: there is no {name} of no elements, along axis {axis} of {a.aval}; pass "
                "initial, the result for none"
            )
    identity = None if where is None else reduction.extreme_identity(a.aval.dtype, largest)
    result = _reduce(name, primitive, a, axes, keepdims, where, identity)
    if initial is None:
        return result
    first = convert(array(name, initial), a.aval.dtype)
    return (maximum if largest else minimum)(result, first)


def all(
    a: ArrayLike,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    *,
    where: ArrayLike | None = None,
) -> Any:
    """Whether all elements differ from zero; the arguments are those of `sum` (see `numpy.all`).

    A bool array; errors, too, are those of `sum`.
    """
    refuse_out("all", out)
    return _reduce("all", reduction.reduce_and, truth("all", a), axis, keepdims, where, True)


def any(
    a: ArrayLike,
    axis: Axis = None,
    out: None = None,
    keepdims: bool = False,
    *,
    where: ArrayLike | None = None,
) -> Any:
    """Whether any element differs from zero; the arguments are those of `sum` (see `numpy.any`).

    A bool array; errors, too, are those of `sum`.
    """
    refuse_out("any", out)
    return _reduce("any", reduction.reduce_or, truth("any", a), axis, keepdims, where, False)


def count_nonzero(a: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """How many elements differ from zero (see `numpy.count_nonzero`).

    An array of the default integer type; `axis`, `keepdims` and errors are those of `sum`.
    """
    return sum(truth("count_nonzero", a), axis, keepdims=keepdims)


def argmax(
    a: ArrayLike, axis: int | None = None, out: None = None, keepdims: bool | None = None
) -> Any:
    """Where the largest element is: the first of equal ones, NaN before all (`jax.numpy.argmax`).

    Args:
      a: the array.
      axis: the axis to search along; None: the whole array in row-major order.
      out: must be None.
      keepdims: whether the axis stays, with size 1.

    Returns:
      An array of the default integer type.

    Raises:
      ArgumentError: there are no elements.
    """
    return _find("argmax", arg_reduction.argmax, a, axis, out, keepdims)


def argmin(
    a: ArrayLike, axis: int | None = None, out: None = None, keepdims: bool | None = None
) -> Any:
    """Where the smallest element is; the arguments are those of `argmax` (see `numpy.argmin`).

    Shape, dtype and errors are those of `argmax`, too.
    """
    return _find("argmin", arg_reduction.argmin, a, axis, out, keepdims)


def _find(
    name: str,
    primitive: Primitive,
    a: ArrayLike,
    axis: int | None,
    out: None,
    keepdims: bool | None,
) -> Any:
    refuse_out(name, out)
    a = array(name, a)
    shape = a.aval.shape
    axes = normalize_axes(name, axis, len(shape))
    if axis is not None and len(axes) != 1:
        raise ArgumentError(f"{name}: axis must be one integer or None, got {shortened(axis)}")
    if axis is None:
        a = reshape(a, new_sizes=(a.aval.size,))
    number = axes[0] if axis is not None else 0
    if a.aval.shape[number] == 0:
        raise ArgumentError(f"{name}: there is no {name} of no elements, of an array of {a.aval}")
    found = primitive(a, axes=(number,), index_dtype=dtypes.default_dtype("i"))
    kept = keepdims is not None and flag(f"{name}: keepdims", keepdims)
    return restore_dims(found, shape, axes) if kept else found


def cumsum(a: ArrayLike, axis: int | None = None, dtype: DTypeLike = None, out: None = None) -> Any:
    """Sums of all elements up to each one (see `jax.numpy.cumsum`).

    Args:
      a: the array.
      axis: the axis to go along; None: the whole array in row-major order.
      dtype: the element type of the result; by default that of `a`, for bools the default integer
        type.
      out: must be None.

    Returns:
      An array of the shape of `a`, or of one dimension for None.

    Raises:
      ArgumentError: there is no such axis, or `out` is given.
    """
    return _running("cumsum", cumulative.cumsum, a, axis, dtype, out)


def cumprod(
    a: ArrayLike, axis: int | None = None, dtype: DTypeLike = None, out: None = None
) -> Any:
    """Products of all elements up to each one; the arguments are those of `cumsum`.

    Shape, dtype and errors are the same. See `numpy.cumprod`.
    """
    return _running("cumprod", cumulative.cumprod, a, axis, dtype, out)


def cumulative_sum(
    x: ArrayLike,
    /,
    *,
    axis: int | None = None,
    dtype: DTypeLike = None,
    include_initial: bool = False,
) -> Any:
    """As `cumsum`; `axis` can be left out for vectors alone (see `jax.numpy.cumulative_sum`).

    Args:
      x: the array.
      axis: the axis to go along.
      dtype: the element type of the result; by default as for `sum`.
      include_initial: whether to begin with 0, the sum of no elements.

    Raises:
      ArgumentError: there is no `axis`, and `x` is no vector.
    """
    return _cumulative("cumulative_sum", cumsum, 0, x, axis, dtype, include_initial)


def cumulative_prod(
    x: ArrayLike,
    /,
    *,
    axis: int | None = None,
    dtype: DTypeLike = None,
    include_initial: bool = False,
) -> Any:
    """As `cumulative_sum` of products, beginning with 1 (see `numpy.cumulative_prod`).

    Shape, dtype and errors are the same.
    """
    return _cumulative("cumulative_prod", cumprod, 1, x, axis, dtype, include_initial)


def _cumulative(
    name: str,
    accumulate: Callable[..., Any],
    identity: int,
    x: ArrayLike,
    axis: int | None,
    dtype: DTypeLike,
    include_initial: bool,
) -> Any:
    x = array(name, x)
    if axis is None and x.aval.ndim != 1:
        raise ArgumentError(f"{name}: axis is needed for an array of {x.aval.ndim} dimensions")
    axis = normalize_axis(name, 0 if axis is None else axis, x.aval.ndim)
    out = accumulate(x, axis, sum_dtype(x.aval.dtype, dtype, True))
    if not flag(f"{name}: include_initial", include_initial):
        return out
    config = tuple((int(d == axis), 0, 0) for d in range(out.aval.ndim))
    return pad(out, Array(np.array(identity, out.aval.dtype)), padding_config=config)


def _running(
    name: str,
    primitive: Primitive,
    a: ArrayLike,
    axis: int | None,
    dtype: DTypeLike,
    out: None,
) -> Any:
    refuse_out(name, out)
    a = array(name, a)
    dtype = sum_dtype(a.aval.dtype, dtype, dtypes.is_bool(a.aval.dtype))
    if dtypes.is_bool(dtype):  # whether any, or all, are true up to each one
        extreme = cumulative.cummax if primitive is cumulative.cumsum else cumulative.cummin
        bits = convert(convert(a, dtype), np.dtype(np.uint8))
        return convert(_along(name, extreme, bits, axis), dtype)
    return _along(name, primitive, strong(convert(a, dtype)), axis)


def _along(name: str, primitive: Primitive, a: Any, axis: int | None) -> Any:
    if axis is None:
        a, axis = reshape(a, new_sizes=(a.aval.size,)), 0
    return primitive(a, axis=normalize_axis(name, axis, a.aval.ndim), reverse=False)
