"""Helpers that make indices and grids: ix_, mgrid, r_, unravel_index and the like."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.avals import Shape
from funcdl.core.integers import integer
from funcdl.core.options import flag, is_option, sequence
from funcdl.core.trace import Tracer
from funcdl.errors import ArgumentError, ConcretizationError, DtypeError, ShapeError
from funcdl.numpy.arithmetic import clip
from funcdl.numpy.creation import DTypeLike, array, canonical, ones, shape_of
from funcdl.numpy.indexing import where
from funcdl.numpy.joining import concatenate, stack
from funcdl.numpy.matrices import diag_indices, tril_indices, triu_indices
from funcdl.numpy.promotion import ArrayLike, convert, promote_dtypes
from funcdl.numpy.promotion import array as as_operand
from funcdl.numpy.ranges import arange, linspace
from funcdl.numpy.searching import nonzero
from funcdl.numpy.shaping import broadcast_to, moveaxis, reshape
from funcdl.transforms.arguments import check_function

__all__ = [
    "c_",
    "diag_indices_from",
    "index_exp",
    "indices",
    "ix_",
    "mask_indices",
    "mgrid",
    "ogrid",
    "r_",
    "ravel_multi_index",
    "s_",
    "tril_indices_from",
    "triu_indices_from",
    "unravel_index",
]

index_exp, s_ = np.index_exp, np.s_


def indices(dimensions: Sequence[int], dtype: DTypeLike = None, sparse: bool = False) -> Any:
    """The index of each element of a grid, along each dimension (see `numpy.indices`).

    Args:
      dimensions: the sizes of the grid.
      dtype: the element type, by default that of integers.
      sparse: whether to return a tuple of arrays that broadcast, rather than one array.
    """
    sparse = flag("indices: sparse", sparse)
    sizes = shape_of(dimensions, "dimensions")
    kind = dtypes.default_dtype("i") if dtype is None else canonical(dtype)
    each = [
        reshape(arange(n, dtype=kind), tuple(n if k == d else 1 for k in range(len(sizes))))
        for d, n in enumerate(sizes)
    ]
    if sparse:
        return tuple(each)
    if not each:
        return ones((0,), kind)
    return stack([broadcast_to(x, sizes) for x in each])


def ix_(*args: ArrayLike) -> tuple[Any, ...]:
    """Vectors as indices of all their combinations; bools stand for where they are true.

    Argument d becomes an array whose size along dimension d is its own, and 1 along all others. See
    `numpy.ix_`.

    Raises:
      ShapeError: an argument is no vector.
      ConcretizationError: bools are traced.
    """
    out = []
    for d, vector in enumerate(args):
        x = array(vector) if isinstance(vector, list | tuple) else as_operand("ix_", vector)
        if x.aval.ndim != 1:
            raise ShapeError(f"ix_: arguments must be vectors, got {x.aval} as argument {d}")
        if dtypes.is_bool(x.aval.dtype):
            (x,) = nonzero(x)
        if x.aval.size == 0:
            x = convert(x, dtypes.default_dtype("i"))
        shape = tuple(x.aval.size if k == d else 1 for k in range(len(args)))
        out.append(reshape(x, shape))
    return tuple(out)


def unravel_index(indices: ArrayLike, shape: Any) -> tuple[Any, ...]:
    """Row-major places as an index along each dimension (see `jax.numpy.unravel_index`).

    Negative places count from the end; those out of range are moved to the nearest element.

    For each size in `shape` an integer array of the shape of `indices`.

    Raises:
      DtypeError: the places are no integers.
    """
    x = as_operand("unravel_index", indices)
    if not dtypes.is_integer(x.aval.dtype):
        raise DtypeError(f"unravel_index: places must be integers, got {x.aval}")
    sizes = shape_of(shape)
    total = math.prod(sizes)
    x = clip(x, -total, total - 1)
    x = where(x < 0, x + total, x)
    parts = []
    for size in reversed(sizes):
        parts.append(x % max(size, 1))
        x = x // max(size, 1)
    return tuple(reversed(parts))


def ravel_multi_index(
    multi_index: Sequence[ArrayLike],
    dims: Sequence[int],
    mode: str = "raise",
    order: str = "C",
    *,
    dtype: DTypeLike = None,
) -> Any:
    """An index along each dimension as row-major places (see `jax.numpy.ravel_multi_index`).

    Args:
      multi_index: integer arrays that broadcast, one for each dimension.
      dims: the sizes of the dimensions.
      mode: what becomes of indices out of range: "raise" an error, "clip" or "wrap" them.
      order: "C": row-major; "F": column-major.
      dtype: the element type of the result.

    Raises:
      ArgumentError: the arguments do not fit, or an index is out of range.
      ConcretizationError: with `mode` "raise", an index is traced.
      DtypeError: an index is no integer.
    """
    sizes = shape_of(dims, "dims")
    given = sequence("ravel_multi_index: multi_index", multi_index)
    columns = [as_operand("ravel_multi_index", x) for x in given]
    if len(columns) != len(sizes):
        raise ArgumentError(
            f"ravel_multi_index: {len(sizes)} dimensions need as many indices, got {len(columns)}"
        )
    if not is_option(mode, ("raise", "clip", "wrap")) or not is_option(order, ("C", "F")):
        raise ArgumentError(
            "ravel_multi_index: mode must be 'raise', 'clip' or 'wrap', and order 'C' or 'F', got "
            f"{shortened(mode)} and {shortened(order)}"
        )
    for x in columns:
        if not dtypes.is_integer(x.aval.dtype):
            raise DtypeError(f"ravel_multi_index: indices must be integers, got {x.aval}")
    if mode == "raise":
        _check_range(columns, sizes)
    elif mode == "clip":
        columns = [clip(x, 0, n - 1) for x, n in zip(columns, sizes, strict=True)]
    else:
        columns = [x % n for x, n in zip(columns, sizes, strict=True)]
    pairs = list(zip(promote_dtypes("ravel_multi_index", *columns), sizes, strict=True))
    out: Any = 0
    for x, n in pairs if order == "C" else pairs[::-1]:
        out = out * n + x
    kind = dtypes.default_dtype("i") if dtype is None else canonical(dtype)
    return convert(as_operand("ravel_multi_index", out), kind)


def _check_range(columns: Sequence[Any], sizes: Shape) -> None:
    for d, (x, n) in enumerate(zip(columns, sizes, strict=True)):
        if isinstance(x, Tracer):
            raise ConcretizationError(
                "ravel_multi_index: indices that are traced cannot be checked; pass mode='clip' or "
                f"mode='wrap', got {x.aval}"
            )
        if ((x.value < 0) | (x.value >= n)).any():
            raise ArgumentError(
                f"ravel_multi_index: an index along dimension {d} is not in 0 to {n - 1}"
            )


def mask_indices(
    n: int, mask_func: Callable[[Any, int], Any], k: int = 0, *, size: int | None = None
) -> tuple[Any, Any]:
    """The places of an n × n matrix that a function such as `triu` keeps.

    See `jax.numpy.mask_indices`.

    Args:
      n: the size of the matrix.
      mask_func: called with a matrix of ones and `k`.
      k: its second argument.
      size: how many places to return, as for `nonzero`.

    Returns:
      Rows and columns, two integer arrays.

    Raises:
      ConcretizationError: the mask is traced, and there is no `size`.
      ShapeError: the mask has another shape.
    """
    check_function("mask_indices", mask_func)
    n = integer("mask_indices: n", n)
    mask = as_operand("mask_indices", mask_func(ones((n, n)), k))
    if mask.aval.shape != (n, n):
        raise ShapeError(
            f"mask_indices: mask_func must return an array of shape {(n, n)}, got {mask.aval}"
        )
    rows, columns = nonzero(mask, size=size)
    return rows, columns


def diag_indices_from(arr: ArrayLike) -> tuple[Any, ...]:
    """The places of the main diagonal of an array with all dimensions of one size.

    As many integer arrays of shape ``(n,)`` as dimensions. See `numpy.diag_indices_from`.

    Raises:
      ShapeError: it is another array.
    """
    shape = as_operand("diag_indices_from", arr).aval.shape
    if len(shape) < 2 or len(set(shape)) > 1:
        raise ShapeError(
            "diag_indices_from: two dimensions or more are needed, all of one size, got shape "
            f"{shape}"
        )
    return diag_indices(shape[0], len(shape))


def tril_indices_from(arr: ArrayLike, k: int = 0) -> tuple[Any, Any]:
    """`tril_indices` for a matrix (see `numpy.tril_indices_from`).

    Two integer arrays: rows and columns.

    Raises:
      ShapeError: `arr` is no matrix.
    """
    rows, columns = _matrix_shape("tril_indices_from", arr)
    return tril_indices(rows, k, columns)


def triu_indices_from(arr: ArrayLike, k: int = 0) -> tuple[Any, Any]:
    """`triu_indices` for a matrix (see `numpy.triu_indices_from`).

    Two integer arrays: rows and columns.

    Raises:
      ShapeError: `arr` is no matrix.
    """
    rows, columns = _matrix_shape("triu_indices_from", arr)
    return triu_indices(rows, k, columns)


def _matrix_shape(name: str, arr: Any) -> Shape:
    shape: Shape = tuple(arr.shape) if hasattr(arr, "shape") else as_operand(name, arr).aval.shape
    if len(shape) != 2:
        raise ShapeError(f"{name}: a matrix is needed, got shape {shape}")
    return shape


def _range(name: str, entry: slice) -> Any:
    """The numbers of a slice: ``start:stop:step``, or ``start:stop:5j`` for five with both ends."""
    for bound in (entry.start, entry.stop, entry.step):
        if isinstance(bound, Tracer):
            raise ConcretizationError(f"{name}: bounds decide sizes and must not be traced")
    start = 0 if entry.start is None else entry.start
    if entry.stop is None:
        raise ArgumentError(f"{name}: slices must have an end, got {entry}")
    if isinstance(entry.step, complex):
        return linspace(start, entry.stop, int(abs(entry.step)))
    return arange(start, entry.stop, 1 if entry.step is None else entry.step)


class _Grid:
    """What `mgrid` and `ogrid` are: coordinates of grids, by slices."""

    def __init__(self, name: str, sparse: bool) -> None:
        self._name = name
        self._sparse = sparse

    def __getitem__(self, key: slice | tuple[slice, ...]) -> Any:
        if isinstance(key, slice):
            return _range(self._name, key)
        each = promote_dtypes(self._name, *(_range(self._name, entry) for entry in key))
        sizes = tuple(x.aval.size for x in each)
        open_ = [
            reshape(x, tuple(n if k == d else 1 for k, n in enumerate(sizes)))
            for d, x in enumerate(each)
        ]
        return open_ if self._sparse else stack([broadcast_to(x, sizes) for x in open_])

    def __repr__(self) -> str:
        return f"<funcdl.numpy.{self._name}>"


class _Joiner:
    """What `r_` and `c_` are: arrays, numbers and slices joined by indexing."""

    def __init__(self, name: str, axis: int, ndim: int, place: int) -> None:
        self._name = name
        self._defaults = axis, ndim, place

    def __getitem__(self, key: Any) -> Any:
        entries = list(key) if isinstance(key, tuple) else [key]
        axis, ndim, place = self._defaults
        if entries and isinstance(entries[0], str):
            axis, ndim, place = self._directive(entries.pop(0), axis, ndim, place)
        parts = [self._part(entry, ndim, place) for entry in entries]
        if not parts:
            raise ArgumentError(f"{self._name}: at least one array is needed")
        return concatenate(parts, axis)

    def _directive(self, text: str, axis: int, ndim: int, place: int) -> tuple[int, int, int]:
        numbers = text.split(",")
        try:
            values = [operator.index(int(n)) for n in numbers]
        except ValueError:
            raise ArgumentError(
                f"{self._name}: a string must be 'axis', 'axis,ndim' or 'axis,ndim,place', got "
                f"{text!r}"
            ) from None
        found = (*values[:3], *(axis, ndim, place)[len(values) :])
        return found[0], found[1], found[2]

    def _part(self, entry: Any, ndim: int, place: int) -> Any:
        x = _range(self._name, entry) if isinstance(entry, slice) else array(entry)
        own = x.aval.ndim
        x = array(x, ndmin=ndim)
        if place != -1 and 0 < own < ndim:
            # The array's own dimensions begin at `place`, instead of being the last.
            order = list(range(ndim - own, ndim))
            x = moveaxis(x, order, list(range(place, place + own)))
        return x

    def __repr__(self) -> str:
        return f"<funcdl.numpy.{self._name}>"


mgrid = _Grid("mgrid", sparse=False)
ogrid = _Grid("ogrid", sparse=True)
r_ = _Joiner("r_", axis=0, ndim=1, place=-1)
c_ = _Joiner("c_", axis=-1, ndim=2, place=0)
