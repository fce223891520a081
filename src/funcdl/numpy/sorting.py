"""Sorting, and the permutations that sort."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.integers import integer
from funcdl.core.options import flag
from funcdl.errors import ArgumentError
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.promotion import ArrayLike, array, convert
from funcdl.numpy.reductions import normalize_axis
from funcdl.ops import sort as ordering
from funcdl.ops.arithmetic import sub
from funcdl.ops.shape import full_like, iota, reshape, rev

__all__ = ["argpartition", "argsort", "lexsort", "partition", "sort", "sort_complex"]


def sort(
    a: ArrayLike,
    axis: int | None = -1,
    *,
    kind: None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
) -> Any:
    """The elements in order along an axis; NaN counts as largest (see `jax.numpy.sort`).

    Args:
      a: the array.
      axis: the axis; None sorts all elements as one row.
      kind, order: must be None.
      stable: has no effect, since equal elements always keep their order.
      descending: whether the largest come first.

    Returns:
      An array of the shape (None: of one dimension) and dtype of `a`.

    Raises:
      ArgumentError: there is no such axis, or `kind` or `order` is given.
    """
    descending = flag("sort: descending", descending)
    x, axis = _operand("sort", a, axis, kind, order)
    (out,) = ordering.sort(x, dimension=axis, is_stable=stable, num_keys=1)
    return rev(out, dimensions=(axis,)) if descending else out


def argsort(
    a: ArrayLike,
    axis: int | None = -1,
    *,
    kind: None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
    dtype: DTypeLike = None,
) -> Any:
    """Where the elements of the sorted array are in `a`; the arguments are those of `sort`.

    `dtype` is that of the places, by default the default integer type.
    """
    descending = flag("argsort: descending", descending)
    x, axis = _operand("argsort", a, axis, kind, order)
    if descending:
        # From the end, so that equal elements keep their order in the reversed result.
        x = rev(x, dimensions=(axis,))
    found = ordering.argsort(x, axis)
    if descending:
        last = full_like(found, x.shape[axis] - 1)
        found = rev(sub(last, found), dimensions=(axis,))
    return convert(found, dtypes.default_dtype("i") if dtype is None else canonical(dtype))


def lexsort(keys: Sequence[ArrayLike], axis: int = -1) -> Any:
    """The permutation that sorts by several keys, of which the last decides first.

    See `numpy.lexsort`.

    Args:
      keys: arrays of one shape, or an array whose first axis runs over the keys.
      axis: the axis of each key to sort along.

    Returns:
      An integer array of the shape of a key.

    Raises:
      ArgumentError: there are no keys.
    """
    if not isinstance(keys, Iterable):
        raise ArgumentError(f"lexsort: keys must be a sequence of arrays, got {shortened(keys)}")
    columns = [array("lexsort", key) for key in keys][::-1]
    if not columns:
        raise ArgumentError("lexsort: at least one key is needed")
    shape = columns[0].shape
    axis = normalize_axis("lexsort", axis, len(shape))
    places = iota(dtype=dtypes.default_dtype("i"), shape=shape, dimension=axis)
    return ordering.sort(*columns, places, dimension=axis, is_stable=True, num_keys=len(columns))[
        -1
    ]


def partition(a: ArrayLike, kth: int, axis: int = -1) -> Any:
    """Elements such that those before place `kth` are no larger, and those behind no smaller.

    They come in full order, which is one such arrangement.

    See `numpy.partition`.

    Returns:
      An array of the shape and dtype of `a`.

    Raises:
      ArgumentError: there is no place `kth` along the axis.
    """
    x, axis = _operand("partition", a, axis, None, None)
    _check_place("partition", kth, x.aval.shape[axis])
    return sort(x, axis)


def argpartition(a: ArrayLike, kth: int, axis: int = -1) -> Any:
    """Where the elements of `partition` are in `a` (see `numpy.argpartition`).

    An integer array of the shape of `a`; arguments and errors are those of `partition`.
    """
    x, axis = _operand("argpartition", a, axis, None, None)
    _check_place("argpartition", kth, x.aval.shape[axis])
    return argsort(x, axis)


def _check_place(name: str, kth: int, size: int) -> None:
    if not -size <= integer("kth", kth) < size:
        raise ArgumentError(f"{name}: kth={kth} is no place along an axis of {size} elements")


def sort_complex(a: ArrayLike) -> Any:
    """The elements along the last axis ordered by real, then imaginary part; always complex.

    The shape stays; half precision becomes complex64. See `numpy.sort_complex`.

    Raises:
      LeafTypeError: `a` is no array or scalar.
    """
    x = sort(a)
    return convert(x, dtypes.complex_dtype(x.aval.dtype))


def _operand(name: str, a: ArrayLike, axis: int | None, kind: Any, order: Any) -> tuple[Any, int]:
    if kind is not None or order is not None:
        raise ArgumentError(f"{name}: kind and order must be None; sorting is always stable")
    x = array(name, a)
    if axis is None:
        return reshape(x, new_sizes=(x.aval.size,)), 0
    return x, normalize_axis(name, axis, x.ndim)
