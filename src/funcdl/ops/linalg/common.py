"""What the matrix primitives share: checks of operands, batches, and small matrix algebra.

All of them take batches of matrices in the last two dimensions, of dtype float32, float64,
complex64 or complex128, and compute them with LAPACK, one matrix after the other. So do programs
compiled to C, without Python between the matrices (`compiler.lapack`), but for small ones
(`compiler.matrices`). A matrix for which LAPACK fails has NaN as its result, as in
`jax.lax.linalg`; nothing is raised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import Shape, ShapedArray
from funcdl.core.forks import held_off
from funcdl.core.primitive import Primitive, never_weak
from funcdl.errors import DtypeError, ShapeError
from funcdl.ops.arithmetic import add, div, scaled, sub
from funcdl.ops.comparison import eq, ge
from funcdl.ops.complex_parts import conj, real
from funcdl.ops.convert import cast
from funcdl.ops.dot import dot_general
from funcdl.ops.reduction import reduce_sum
from funcdl.ops.rows import broadcast_batch
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_in_dim, broadcast_to, full_like, iota, transpose
from funcdl.ops.shape import move_to_front as move_to_front
from funcdl.ops.slicing import slice_

NDArray = np.ndarray[Any, Any]

ACCEPTS = ("f32", "f64", "c64", "c128")
REAL = ("f32", "f64")
_HOST = {"triton": "runs on the host"}
OWN = _HOST | {"c": "a function of the library does it"}
LAPACK = _HOST | {"c": "LAPACK does it"}
LAPACK_IF_LARGE = _HOST | {"c": "a function of the library does it; LAPACK if large or complex"}
INDEX = np.dtype(np.int32)


def check_dtype(name: str, *avals: ShapedArray, accepts: tuple[str, ...] = ACCEPTS) -> None:
    """Check that the operands share one of the dtypes that LAPACK has.

    Raises:
      DtypeError: they do not.
    """
    for aval in avals:
        if dtypes.short_name(aval.dtype) not in accepts:
            raise DtypeError(
                f"{name} does not accept {aval}; it takes {', '.join(accepts)}.\n"
                "Convert the operand with astype first."
            )
    if any(aval.dtype != avals[0].dtype for aval in avals):
        raise DtypeError(
            f"{name} requires operands of equal dtype, got {', '.join(map(str, avals))}.\n"
            "Primitives do not promote; the functions of funcdl.numpy.linalg do."
        )


def check_matrix(name: str, aval: ShapedArray, *, square: bool = False) -> None:
    """Check that an operand is a batch of matrices.

    Raises:
      ShapeError: it has fewer than two dimensions, or the matrices should be square and are not.
    """
    if aval.ndim < 2:
        raise ShapeError(
            f"{name} requires matrices, in the last two dimensions of an array, got {aval}"
        )
    rows, columns = aval.shape[-2:]
    if square and rows != columns:
        raise ShapeError(
            f"{name} requires square matrices, got {aval} with {rows} rows and {columns} columns"
        )


def check_batch(name: str, first: ShapedArray, rank: int, second: ShapedArray, other: int) -> None:
    """Check that leading dimensions agree; `rank` and `other` count the trailing ones.

    Raises:
      ShapeError: they do not.
    """
    if first.shape[: first.ndim - rank] != second.shape[: second.ndim - other]:
        raise ShapeError(
            f"{name} requires equal leading dimensions, got {first} and {second}.\n"
            "Primitives do not broadcast; use broadcast_to or vmap."
        )


def aval_of(x: NDArray) -> ShapedArray:
    """The type of a NumPy array."""
    return ShapedArray(x.shape, x.dtype)


def checked(primitive: Primitive, compute: Callable[..., Any]) -> Callable[..., Any]:
    """An `impl` that checks its operands by the shape rule before it computes."""

    def impl(*xs: NDArray, **params: Any) -> Any:
        assert primitive.shape is not None
        primitive.shape(*map(aval_of, xs), **params)
        with np.errstate(all="ignore"):
            return compute(*xs, **params)

    return impl


def matrix_primitive(
    name: str,
    shape: Callable[..., Any],
    compute: Callable[..., Any],
    *,
    multiple_results: bool = False,
) -> Primitive:
    """A primitive on batches of matrices with all of its rules but the derivative."""
    primitive = Primitive(name, multiple_results=multiple_results)
    primitive.shape = shape
    primitive.impl = checked(primitive, compute)
    primitive.weak = never_weak
    primitive.batch = leading_batch(primitive)
    return primitive


def leading_batch(primitive: Primitive) -> Callable[..., tuple[Any, Any]]:
    """The batching rule of a primitive whose leading dimensions are a batch already."""

    def batch(
        axis_size: int, args: Sequence[Any], dims: Sequence[int | None], **params: Any
    ) -> tuple[Any, Any]:
        args = [
            broadcast_batch(x, axis_size) if dim is None else move_to_front(x, dim)
            for x, dim in zip(args, dims, strict=True)
        ]
        outs = primitive.bind(*args, **params)
        return outs, [0] * len(outs) if primitive.multiple_results else 0

    return batch


@lru_cache(maxsize=256)
def lapack(name: str, dtype: np.dtype[Any]) -> Any:
    """The LAPACK or BLAS function of this name without the letter of its dtype."""
    # Imported here, since SciPy takes longer to import than all of this library.
    with held_off():
        from scipy.linalg import blas
        from scipy.linalg import lapack as functions

    letter = {"f32": "s", "f64": "d", "c64": "c", "c128": "z"}[dtypes.short_name(dtype)]
    return getattr(functions, letter + name, None) or getattr(blas, letter + name)


def each_matrix(
    compute: Callable[..., Sequence[Any] | None],
    operands: Sequence[tuple[NDArray, int]],
    results: Sequence[tuple[Shape, np.dtype[Any]]],
) -> list[NDArray]:
    """Apply a function to every element of batches.

    Args:
      compute: takes one element of each operand and returns the results, or None for a failure,
        which makes results NaN (and integers 0).
      operands: each with the number of its trailing dimensions that are not batch dimensions.
      results: shape without the batch, and dtype, of each.
    """
    first, rank = operands[0]
    batch = first.shape[: first.ndim - rank]
    count = math.prod(batch)
    flat = [x.reshape(count, *x.shape[x.ndim - rank :]) for x, rank in operands]
    outs = [np.empty((count, *shape), dtype) for shape, dtype in results]
    for i in range(count):
        found = compute(*(x[i] for x in flat))
        for number, out in enumerate(outs):
            if found is None:
                out[i] = np.nan if dtypes.is_inexact(out.dtype) else 0
            else:
                out[i] = found[number]
    return [out.reshape(*batch, *shape) for out, (shape, _) in zip(outs, results, strict=True)]


def by_numpy(
    function: Callable[[NDArray], Sequence[NDArray]],
    x: NDArray,
    results: Sequence[tuple[Shape, np.dtype[Any]]],
) -> list[NDArray]:
    """A function of `numpy.linalg` on a batch; where it fails, on one matrix after the other."""
    try:
        return list(function(x))
    except np.linalg.LinAlgError:
        pass

    def one(matrix: NDArray) -> Sequence[NDArray] | None:
        try:
            return function(matrix)
        except np.linalg.LinAlgError:
            return None

    return each_matrix(one, [(x, 2)], results)


def dot(x: Any, y: Any) -> Any:
    """The product of batches of matrices."""
    batch = tuple(range(x.ndim - 2))
    return dot_general(
        x,
        y,
        dimension_numbers=(((x.ndim - 1,), (y.ndim - 2,)), (batch, batch)),
        preferred_element_type=None,
        precision=None,
    )


def matrix_transpose(x: Any) -> Any:
    """The transposed matrices."""
    return transpose(x, permutation=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def conjugate(x: Any) -> Any:
    """The complex conjugate; real arrays pass."""
    return conj(x) if dtypes.is_complex(x.dtype) else x


def adjoint(x: Any) -> Any:
    """The conjugate transpose of matrices."""
    return conjugate(matrix_transpose(x))


def real_part(x: Any) -> Any:
    """The real part; real arrays pass."""
    return real(x) if dtypes.is_complex(x.dtype) else x


def _places(x: Any) -> tuple[Any, Any]:
    shape = x.shape[-2:]
    return (
        iota(dtype=INDEX, shape=shape, dimension=0),
        iota(dtype=INDEX, shape=shape, dimension=1),
    )


def _where(mask: Any, x: Any, y: Any) -> Any:
    return select_n(broadcast_to(mask, x.shape), y, x)


def on_diagonal(x: Any) -> Any:
    """Where the main diagonals of matrices of the shape of `x` are."""
    return broadcast_to(eq(*_places(x)), x.shape)


def identity_like(x: Any) -> Any:
    """Matrices of the shape and dtype of `x` with ones on their main diagonals."""
    return cast(on_diagonal(x), x.dtype)


def lower(x: Any, offset: int = 0) -> Any:
    """Matrices without the elements above the diagonal that is `offset` to the right."""
    rows, columns = _places(x)
    return _where(ge(_moved(rows, offset), columns), x, full_like(x, 0))


def upper(x: Any, offset: int = 0) -> Any:
    """Matrices without the elements below the diagonal that is `offset` to the right."""
    rows, columns = _places(x)
    return _where(ge(columns, _moved(rows, offset)), x, full_like(x, 0))


def _moved(places: Any, offset: int) -> Any:
    return add(places, full_like(places, offset)) if offset else places


def lower_half(x: Any) -> Any:
    """Matrices without what is above their diagonals, and with half of the diagonals."""
    return _where(on_diagonal(x), scaled(x, 0.5), lower(x))


def upper_half(x: Any) -> Any:
    """Matrices without what is below their diagonals, and with half of the diagonals."""
    return _where(on_diagonal(x), scaled(x, 0.5), upper(x))


def hermitian(x: Any, from_lower: bool = True) -> Any:
    """The Hermitian matrices that have these lower (or upper) triangles."""
    half = lower_half(x) if from_lower else upper_half(x)
    return add(half, adjoint(half))


def skew(half: Any) -> Any:
    """``half - half*``, which is skew-Hermitian."""
    return sub(half, adjoint(half))


def diagonal(x: Any) -> Any:
    """The main diagonals of square matrices."""
    return reduce_sum(_where(on_diagonal(x), x, full_like(x, 0)), axes=(x.ndim - 1,))


def rows_of(v: Any, count: int) -> Any:
    """Matrices of `count` rows, each of which is the vector."""
    ndim = v.ndim
    return broadcast_in_dim(
        v,
        shape=(*v.shape[:-1], count, v.shape[-1]),
        broadcast_dimensions=(*range(ndim - 1), ndim),
    )


def columns_of(v: Any, count: int) -> Any:
    """Matrices of `count` columns, each of which is the vector."""
    return broadcast_in_dim(v, shape=(*v.shape, count), broadcast_dimensions=tuple(range(v.ndim)))


def everywhere(values: Any, like: Any) -> Any:
    """A number for each matrix, as matrices of the shape of `like`."""
    n = like.aval.shape[-1]
    return columns_of(columns_of(values, n), n)


def part(x: Any, rows: int | None = None, columns: int | None = None) -> Any:
    """The first rows and columns of matrices."""
    limits = list(x.shape)
    limits[-2] = x.shape[-2] if rows is None else rows
    limits[-1] = x.shape[-1] if columns is None else columns
    if tuple(limits) == x.shape:
        return x
    return slice_(x, start_indices=(0,) * x.ndim, limit_indices=tuple(limits), strides=None)


def differences(values: Any, product: Any) -> Any:
    """``F[i, j] = 1 / product(values[j], values[i])`` outside of the diagonal, where it is 0.

    Infinite where a difference is 0.
    """
    size = values.shape[-1]
    gaps = product(rows_of(values, size), columns_of(values, size))
    one = identity_like(gaps)
    return sub(div(full_like(gaps, 1), add(gaps, one)), one)
