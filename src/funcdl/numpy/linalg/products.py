"""Products, diagonals and powers of matrices, under the array standard's names."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from funcdl.core.array import shortened
from funcdl.core.options import sequence
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy import matrices, products
from funcdl.numpy.creation import DTypeLike
from funcdl.numpy.indexing import getitem
from funcdl.numpy.joining import stack
from funcdl.numpy.linalg.systems import inv
from funcdl.numpy.promotion import ArrayLike, array, broadcast, promote_dtypes
from funcdl.numpy.reductions import normalize_axis
from funcdl.numpy.shaping import moveaxis
from funcdl.ops.arithmetic import mul, sub
from funcdl.ops.linalg import common

__all__ = [
    "cross",
    "diagonal",
    "matmul",
    "matrix_power",
    "matrix_transpose",
    "multi_dot",
    "outer",
    "tensordot",
    "trace",
    "vecdot",
]


def cross(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> Any:
    """Cross products of vectors of three elements along an axis (see `numpy.linalg.cross`).

    `x1` and `x2` are promoted to one dtype and broadcast.

    Raises:
      ShapeError: the axis has another size, or the shapes do not broadcast.
      ArgumentError: there is no such axis.
    """
    x, y = promote_dtypes("cross", x1, x2)
    sides = []
    for z in (x, y):
        moved = moveaxis(z, normalize_axis("cross", axis, z.ndim), -1)
        if moved.aval.shape[-1] != 3:
            raise ShapeError(f"cross: axis {axis} must have size 3, got {x.aval} and {y.aval}")
        sides.append(moved)
    x, y = broadcast("cross", *sides)
    a, b = ([getitem(z, (..., i)) for i in range(3)] for z in (x, y))
    parts = [sub(mul(a[i - 2], b[i - 1]), mul(a[i - 1], b[i - 2])) for i in range(3)]
    return stack(parts, axis=axis)


def diagonal(x: ArrayLike, /, *, offset: int = 0) -> Any:
    """Diagonals of matrices ``[..., m, n]``, those `offset` to the right of the main ones.

    See `numpy.linalg.diagonal`.

    Raises:
      ShapeError: there are no matrices.
    """
    x = array("diagonal", x)
    common.check_matrix("diagonal", x.aval)
    return matrices.diagonal(x, offset, -2, -1)


def matmul(
    x1: ArrayLike,
    x2: ArrayLike,
    /,
    *,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """Products of matrices, as `funcdl.numpy.matmul` (see `jax.numpy.linalg.matmul`).

    Shapes, dtypes, arguments (`x1`, `x2`) and errors are the same.
    """
    return products.matmul(
        x1, x2, precision=precision, preferred_element_type=preferred_element_type
    )


def matrix_power(a: ArrayLike, n: int) -> Any:
    """Square matrices to an integer power, by repeated squaring; of the inverses for negative `n`.

    See `numpy.linalg.matrix_power`.

    Raises:
      ShapeError: the matrices are not square.
      ArgumentError: `n` is no integer.
    """
    a = array("matrix_power", a)
    common.check_matrix("matrix_power", a.aval, square=True)
    try:
        n = operator.index(n)
    except TypeError:
        raise ArgumentError(f"matrix_power: n must be a Python int, got {shortened(n)}") from None
    if n < 0:
        a, n = inv(a), -n
    if n == 0:
        return common.identity_like(a)
    result = None
    while True:
        if n & 1:
            result = a if result is None else products.matmul(result, a)
        n >>= 1
        if not n:
            return result
        a = products.matmul(a, a)


def matrix_transpose(x: ArrayLike, /) -> Any:
    """The transposed matrices, not conjugated (see `numpy.linalg.matrix_transpose`).

    Raises:
      ShapeError: there are no matrices.
    """
    x = array("matrix_transpose", x)
    common.check_matrix("matrix_transpose", x.aval)
    return common.matrix_transpose(x)


def multi_dot(arrays: Sequence[ArrayLike], *, precision: Any = None) -> Any:
    """The product of several matrices, in the order that costs least.

    See `jax.numpy.linalg.multi_dot`.

    Args:
      arrays: two matrices at least; the first and the last may be vectors.
      precision: has no effect.

    Returns:
      The matrix, vector or scalar array, in the dtype to which all promote.

    Raises:
      ArgumentError: there are fewer than two.
      ShapeError: they are no matrices, or the sizes do not fit.
    """
    xs = promote_dtypes("multi_dot", *sequence("multi_dot: arrays", arrays))
    if len(xs) < 2:
        raise ArgumentError(f"multi_dot: at least two arrays are needed, got {len(xs)}")
    ends = (0, len(xs) - 1)
    for i, x in enumerate(xs):
        if x.ndim != 2 and not (x.ndim == 1 and i in ends):
            raise ShapeError(
                f"multi_dot: arrays must be matrices, the first and last may be vectors; got "
                f"{', '.join(str(x.aval) for x in xs)}"
            )
    for i, (x, y) in enumerate(pairwise(xs)):
        if x.aval.shape[-1] != y.aval.shape[0]:
            raise ShapeError(
                f"multi_dot: array {i}, {x.aval}, has {x.aval.shape[-1]} columns, but array "
                f"{i + 1}, {y.aval}, has {y.aval.shape[0]} rows"
            )
    rows = 1 if xs[0].ndim == 1 else xs[0].aval.shape[0]
    columns = 1 if xs[-1].ndim == 1 else xs[-1].aval.shape[1]
    sizes = [rows, *(x.aval.shape[0] for x in xs[1:]), columns]
    if xs[0].ndim == 1:
        sizes[1] = xs[0].aval.shape[0]
    split = _best_splits(sizes)

    def product(first: int, last: int) -> Any:
        if first == last:
            return xs[first]
        middle = split[first, last]
        return products.matmul(product(first, middle), product(middle + 1, last))

    return product(*ends)


def _best_splits(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """Where to split each chain of matrices, of ``sizes[i]`` rows each, by dynamic programming."""
    count = len(sizes) - 1
    cost = {(i, i): 0 for i in range(count)}
    split = {}
    for length in range(1, count):
        for first in range(count - length):
            last = first + length
            choices = [
                (
                    cost[first, k]
                    + cost[k + 1, last]
                    + sizes[first] * sizes[k + 1] * sizes[last + 1],
                    k,
                )
                for k in range(first, last)
            ]
            cost[first, last], split[first, last] = min(choices)
    return split


def outer(x1: ArrayLike, x2: ArrayLike, /) -> Any:
    """Each element of a vector times each of another: a matrix (see `numpy.linalg.outer`).

    In the dtype to which `x1` and `x2` promote.

    Raises:
      ShapeError: an operand is no vector.
    """
    x, y = promote_dtypes("outer", x1, x2)
    if x.ndim != 1 or y.ndim != 1:
        raise ShapeError(f"outer: vectors are needed, got {x.aval} and {y.aval}")
    return products.outer(x, y)


def tensordot(
    x1: ArrayLike,
    x2: ArrayLike,
    /,
    *,
    axes: int | Sequence[Any] = 2,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """Some dimensions of one array with as many of another, as `funcdl.numpy.tensordot`.

    Shapes, dtypes, arguments (`x1`, `x2`) and errors are the same. See
    `jax.numpy.linalg.tensordot`.
    """
    return products.tensordot(
        x1, x2, axes, precision=precision, preferred_element_type=preferred_element_type
    )


def trace(x: ArrayLike, /, *, offset: int = 0, dtype: DTypeLike = None) -> Any:
    """Sums of diagonals of matrices ``[..., m, n]`` (see `numpy.linalg.trace`).

    Args:
      x: the matrices.
      offset: how far the diagonal is to the right of the main one.
      dtype: as for `funcdl.numpy.sum`.

    Raises:
      ShapeError: there are no matrices.
    """
    x = array("trace", x)
    common.check_matrix("trace", x.aval)
    return matrices.trace(x, offset, -2, -1, dtype)


def vecdot(
    x1: ArrayLike,
    x2: ArrayLike,
    /,
    *,
    axis: int = -1,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """Inner products along an axis, the first operand conjugated, as `funcdl.numpy.vecdot`.

    Shapes, dtypes, arguments (`x1`, `x2`) and errors are the same. See `jax.numpy.linalg.vecdot`.
    """
    return products.vecdot(
        x1, x2, axis=axis, precision=precision, preferred_element_type=preferred_element_type
    )
