"""Matrices of a form: identity, triangles, diagonals."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import Shape
from funcdl.core.integers import integer
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.creation import DTypeLike, asarray, canonical, shape_of
from funcdl.numpy.indexing import getitem
from funcdl.numpy.promotion import ArrayLike, array, convert
from funcdl.numpy.reductions import normalize_axis, sum
from funcdl.numpy.shaping import moveaxis
from funcdl.ops.arithmetic import add
from funcdl.ops.comparison import eq, ge
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_in_dim, broadcast_to, full_like, iota, reshape
from funcdl.ops.slicing import pad

__all__ = [
    "diag",
    "diag_indices",
    "diagflat",
    "diagonal",
    "eye",
    "identity",
    "trace",
    "tri",
    "tril",
    "tril_indices",
    "triu",
    "triu_indices",
]


def _places(shape: Shape, k: int) -> tuple[Any, Any]:
    """Row number plus `k`, and column number, for each element of a matrix."""
    kind = dtypes.default_dtype("i")
    rows = iota(dtype=kind, shape=shape, dimension=0)
    columns = iota(dtype=kind, shape=shape, dimension=1)
    return (add(rows, full_like(rows, k)) if k else rows), columns


def eye(N: int, M: int | None = None, k: int = 0, dtype: DTypeLike = None) -> Any:
    """Ones on the k-th diagonal of a matrix of N rows and M (by default N) columns.

    `dtype` is by default the default float type. See `numpy.eye`.

    Raises:
      ShapeError: a size is negative.
    """
    sizes = integer("eye: N", N), integer("eye: M", N if M is None else M)
    places = _places(shape_of(sizes, "eye: N, M"), integer("eye: k", k))
    return convert(eq(*places), _float_or(dtype))


def identity(n: int, dtype: DTypeLike = None) -> Any:
    """The identity matrix of n rows (see `numpy.identity`).

    Arguments and errors are those of `eye`.
    """
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype: DTypeLike = None) -> Any:
    """Ones on and below the k-th diagonal of a matrix of N rows and M (by default N) columns.

    `dtype` is by default the default float type. See `numpy.tri`.

    Raises:
      ShapeError: a size is negative.
    """
    shape = shape_of((N, N if M is None else M), "tri: N, M")
    return convert(ge(*_places(shape, integer("tri: k", k))), _float_or(dtype))


def tril(m: ArrayLike, k: int = 0) -> Any:
    """Matrices (in the last two dimensions) with zeros above the k-th diagonal (see `numpy.tril`).

    Shape and dtype stay.

    Raises:
      ShapeError: `m` has fewer than two dimensions.
    """
    m = array("tril", m)
    return select_n(_lower("tril", m, integer("tril: k", k)), full_like(m, 0), m)


def triu(m: ArrayLike, k: int = 0) -> Any:
    """Matrices (in the last two dimensions) with zeros below the k-th diagonal (see `numpy.triu`).

    Shape and dtype stay.

    Raises:
      ShapeError: `m` has fewer than two dimensions.
    """
    m = array("triu", m)
    return select_n(_lower("triu", m, integer("triu: k", k) - 1), m, full_like(m, 0))


def _lower(name: str, m: Any, k: int) -> Any:
    if m.ndim < 2:
        raise ShapeError(f"{name}: a matrix is needed, got {m.aval}")
    return broadcast_to(ge(*_places(m.aval.shape[-2:], k)), m.aval.shape)


def diag(v: ArrayLike, k: int = 0) -> Any:
    """The k-th diagonal of a matrix, or the matrix that has a vector on it (see `numpy.diag`).

    The dtype stays. A vector of n elements gives a matrix of ``n + |k|`` rows.

    Raises:
      ShapeError: `v` is neither vector nor matrix.
    """
    v = array("diag", v)
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ShapeError(f"diag: a vector or a matrix is needed, got {v.aval}")
    k = integer("k", k)
    size = v.aval.shape[0] + abs(k)
    # Each row holds the element of the vector that its place on the diagonal wants.
    zero = convert(0, v.aval.dtype, v.aval.weak_type)
    v = pad(v, zero, padding_config=((max(-k, 0), max(k, 0), 0),))
    rows = broadcast_in_dim(v, shape=(size, size), broadcast_dimensions=(0,))
    return select_n(eq(*_places((size, size), k)), full_like(rows, 0), rows)


def diagflat(v: ArrayLike, k: int = 0) -> Any:
    """The matrix with all elements of an array on its k-th diagonal (see `numpy.diagflat`).

    The dtype stays; of n elements the matrix has ``n + |k|`` rows.
    """
    v = array("diagflat", v)
    return diag(reshape(v, new_sizes=(v.aval.size,)), k)


def diagonal(a: ArrayLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Diagonals of the matrices that two dimensions make, along a new last dimension.

    The dtype stays. See `numpy.diagonal`.

    Args:
      a: an array of two dimensions at least.
      offset: how far to the right of the main diagonal; negative: below it.
      axis1, axis2: the dimensions of the matrices' rows and columns.

    Raises:
      ArgumentError: the axes are one.
      ArgumentError: there are no such axes.
    """
    a = array("diagonal", a)
    first, second = (normalize_axis("diagonal", axis, a.ndim) for axis in (axis1, axis2))
    if first == second:
        raise ArgumentError(f"diagonal: axis1 and axis2 must differ, got {axis1} and {axis2}")
    a = moveaxis(a, (first, second), (-2, -1))
    rows, columns = a.aval.shape[-2:]
    offset = integer("diagonal: offset", offset)
    below, right = max(-offset, 0), max(offset, 0)
    count = max(0, min(rows - below, columns - right))
    if count == 0:
        below = right = 0
    places = np.arange(count, dtype=dtypes.default_dtype("i"))
    return getitem(a, (..., places + below, places + right))


def trace(
    a: ArrayLike,
    offset: int = 0,
    axis1: int = 0,
    axis2: int = 1,
    dtype: DTypeLike = None,
    out: None = None,
) -> Any:
    """Sums of diagonals; the arguments are those of `diagonal` (see `numpy.trace`).

    Integers and bools are summed as `sum` does.

    Args:
      dtype, out: see `sum`.
    """
    return sum(diagonal(a, offset, axis1, axis2), -1, dtype, out)


def _integers(n: int, k: int, m: int | None) -> tuple[int, int, int | None]:
    return integer("n", n), integer("k", k), None if m is None else integer("m", m)


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Any, Any]:
    """Rows and columns of the elements on and below the k-th diagonal (see `numpy.tril_indices`).

    Two integer arrays, for a matrix of n rows and `m` (by default n) columns.
    """
    rows, columns = np.tril_indices(*_integers(n, k, m))
    return _indices(rows), _indices(columns)


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Any, Any]:
    """Rows and columns of the elements on and above the k-th diagonal (see `numpy.triu_indices`).

    Two integer arrays, for a matrix of n rows and `m` (by default n) columns.
    """
    rows, columns = np.triu_indices(*_integers(n, k, m))
    return _indices(rows), _indices(columns)


def diag_indices(n: int, ndim: int = 2) -> tuple[Any, ...]:
    """The places of the main diagonal of an array of `ndim` dimensions of size n.

    `ndim` equal integer arrays of shape ``(n,)``. See `numpy.diag_indices`.
    """
    return (_indices(np.arange(integer("diag_indices: n", n))),) * integer(
        "diag_indices: ndim", ndim
    )


def _indices(places: np.ndarray[Any, Any]) -> Any:
    return asarray(places, dtypes.default_dtype("i"))


def _float_or(dtype: DTypeLike) -> np.dtype[Any]:
    return dtypes.default_dtype("f") if dtype is None else canonical(dtype)
