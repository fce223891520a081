"""Products of vectors, matrices and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.array import Array, shortened
from funcdl.core.integers import integer
from funcdl.core.quiet import quietly
from funcdl.core.trace import EvalTrace, context
from funcdl.errors import ArgumentError, ShapeError
from funcdl.numpy.arithmetic import multiply
from funcdl.numpy.creation import DTypeLike, canonical
from funcdl.numpy.functions import conj
from funcdl.numpy.promotion import ArrayLike, convert, promote_dtypes, refuse_out
from funcdl.numpy.reductions import normalize_axis
from funcdl.numpy.shaping import moveaxis, ravel, transpose
from funcdl.ops.dot import dot_general
from funcdl.ops.dot_precision import factor_precision
from funcdl.ops.shape import reshape, reshape_to
from funcdl.ops.slicing import concatenate

__all__ = [
    "cross",
    "dot",
    "inner",
    "kron",
    "matmul",
    "matvec",
    "outer",
    "tensordot",
    "vdot",
    "vecdot",
    "vecmat",
]

Dims = tuple[int, ...]

_AS_NUMPY = frozenset(map(np.dtype, ("f4", "f8", "c8", "c16")))
"""Dtypes of which `dot_general` is NumPy's own product, so that small eager ones can be quick."""


def _contract(
    x: Any,
    y: Any,
    contract: tuple[Dims, Dims],
    batch: tuple[Dims, Dims] = ((), ()),
    preferred: DTypeLike = None,
    precision: Any = None,
) -> Any:
    dtype = x.aval.dtype
    if dtypes.is_bool(dtype):
        # Whether any pair is true in both.
        wide = np.dtype(np.int32)
        counts = _contract(convert(x, wide), convert(y, wide), contract, batch)
        return convert(counts, dtype)
    return dot_general(
        x,
        y,
        dimension_numbers=(contract, batch),
        preferred_element_type=None if preferred is None else canonical(preferred),
        precision=factor_precision(precision),
    )


def _sizes_differ(name: str, x: Any, y: Any, first: int, second: int) -> ShapeError:
    return ShapeError(
        f"{name}: dimension {first} of {x.aval} and dimension {second} of {y.aval} are multiplied "
        f"and added up, so their sizes must be equal, got {x.aval.shape[first]} and "
        f"{y.aval.shape[second]}"
    )


def matmul(
    a: ArrayLike,
    b: ArrayLike,
    *,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """Product of matrices in the last two dimensions (see `numpy.matmul`).

    Args:
      a, b: arrays ``[..., m, k]`` and ``[..., k, n]``, whose leading dimensions broadcast; a vector
        is a row on the left and a column on the right, and that dimension is not in the result.
      precision: what a GPU may round float32 to (see `funcdl.lax.dot_general`).
      preferred_element_type: the dtype to add up in and to return.

    Raises:
      ShapeError: an operand is a scalar, or sizes do not fit.
    """
    if precision is None is preferred_element_type:
        quick = _eager_product(a, b)
        if quick is not None:
            return quick
    x, y = promote_dtypes("matmul", a, b)
    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError(
            f"matmul: operands must have at least one dimension, got {x.aval} and {y.aval}; "
            "multiply by scalars with *"
        )
    inner = (x.ndim - 1, max(y.ndim - 2, 0))
    if x.aval.shape[inner[0]] != y.aval.shape[inner[1]]:
        raise _sizes_differ("matmul", x, y, *inner)
    if x.ndim <= 2 or y.ndim <= 2:
        # Leading dimensions that one operand alone has are rows or columns like others.
        dims = (inner[0],), (inner[1],)
        out = _contract(x, y, dims, ((), ()), preferred_element_type, precision)
        if x.ndim == 2 and y.ndim > 2:
            out = moveaxis(out, 0, -2)
        return out
    return _batched(x, y, preferred_element_type, precision)


def _eager_product(a: Any, b: Any) -> Array | None:
    """The product of matrices and vectors of one dtype, by NumPy; None for other operands."""
    if type(a) is not Array or type(b) is not Array or type(context.trace) is not EvalTrace:
        return None
    x, y = a.value, b.value
    fits = 1 <= x.ndim <= 2 and 1 <= y.ndim <= 2 and x.shape[-1] == y.shape[0]
    if not fits or x.dtype is not y.dtype or x.dtype not in _AS_NUMPY:
        return None
    return Array(quietly(np.matmul, x, y), a.weak_type and b.weak_type)


def _batched(x: Any, y: Any, preferred: DTypeLike, precision: Any) -> Any:
    """The product of stacks of matrices."""
    stacks = [z.aval.shape[:-2] for z in (x, y)]
    rank = max(map(len, stacks))
    sizes = [(1,) * (rank - len(stack)) + stack for stack in stacks]
    for d, (own, other) in enumerate(zip(*sizes, strict=True)):
        if own != other and 1 not in (own, other):
            raise ShapeError(
                f"matmul: leading dimensions of {x.aval} and {y.aval} do not broadcast: dimension "
                f"{d - rank - 2} has sizes {own} and {other}"
            )
    shared = [d for d in range(rank) if sizes[0][d] == sizes[1][d]]
    alone = [[d for d in range(rank) if d not in shared and sizes[side][d] != 1] for side in (0, 1)]
    operands: list[Any] = []
    batch: list[Dims] = []
    contract: list[Dims] = []
    for side, z in enumerate((x, y)):
        kept = [d for d in range(rank) if d in shared or d in alone[side]]
        operands.append(reshape_to(z, (*(sizes[side][d] for d in kept), *z.aval.shape[-2:])))
        batch.append(tuple(kept.index(d) for d in shared))
        contract.append((len(kept) + 1 - side,))
    left, right = operands
    dims = (contract[0], contract[1]), (batch[0], batch[1])
    out = _contract(left, right, *dims, preferred, precision)
    # The output has the shared dimensions, those of x alone, m, those of y alone, n.
    found = [*shared, *alone[0], rank, *alone[1], rank + 1]
    return transpose(out, [found.index(d) for d in sorted(found)])


def dot(
    a: ArrayLike,
    b: ArrayLike,
    *,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """The last dimension of `a` with the last but one of `b` (see `numpy.dot`).

    Scalars multiply; of two vectors it is the inner product, of two matrices their product.

    Args:
      a, b: arrays or scalars, promoted to one dtype.
      precision, preferred_element_type: as for `funcdl.lax.dot_general`.

    Raises:
      ShapeError: the sizes of these dimensions differ.
    """
    if precision is None is preferred_element_type:
        quick = _eager_product(a, b)
        if quick is not None:
            return quick
    x, y = promote_dtypes("dot", a, b)
    if x.ndim == 0 or y.ndim == 0:
        out = multiply(x, y)
        return (
            out
            if preferred_element_type is None
            else convert(out, canonical(preferred_element_type))
        )
    inner = (x.ndim - 1, max(y.ndim - 2, 0))
    if x.aval.shape[inner[0]] != y.aval.shape[inner[1]]:
        raise _sizes_differ("dot", x, y, *inner)
    dims = (inner[0],), (inner[1],)
    return _contract(x, y, dims, ((), ()), preferred_element_type, precision)


def inner(
    a: ArrayLike,
    b: ArrayLike,
    *,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """The last dimensions of both multiplied and added up (see `numpy.inner`).

    Args:
      a, b: arrays ``[..., n]``, or a scalar, which multiplies the other.
      precision, preferred_element_type: as for `matmul`.

    Returns:
      An array of the other dimensions of `a`, then those of `b`.

    Raises:
      ShapeError: the last dimensions differ.
    """
    x, y = promote_dtypes("inner", a, b)
    if x.ndim == 0 or y.ndim == 0:
        return dot(x, y, precision=precision, preferred_element_type=preferred_element_type)
    if x.aval.shape[-1] != y.aval.shape[-1]:
        raise _sizes_differ("inner", x, y, x.ndim - 1, y.ndim - 1)
    dims = (x.ndim - 1,), (y.ndim - 1,)
    return _contract(x, y, dims, ((), ()), preferred_element_type, precision)


def outer(a: ArrayLike, b: ArrayLike, out: None = None) -> Any:
    """Each element of `a` times each of `b`: a matrix (see `numpy.outer`).

    Shape ``(a.size, b.size)``, in the dtype to which both promote; `out` must be None.

    Raises:
      LeafTypeError: an operand is no array or scalar.
    """
    refuse_out("outer", out)
    x, y = promote_dtypes("outer", a, b)
    return multiply(reshape(x, new_sizes=(x.size, 1)), ravel(y))


def vdot(
    a: ArrayLike,
    b: ArrayLike,
    *,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """Inner product of all elements, those of `a` conjugated (see `jax.numpy.vdot`).

    A scalar array; `b` has as many elements as `a`. The other arguments are those of `dot`.

    Raises:
      ShapeError: the numbers of elements differ.
    """
    x, y = (ravel(z) for z in promote_dtypes("vdot", a, b))
    x = conj(x) if dtypes.is_complex(x.aval.dtype) else x
    return dot(x, y, precision=precision, preferred_element_type=preferred_element_type)


def vecdot(
    x1: ArrayLike,
    x2: ArrayLike,
    /,
    *,
    axis: int = -1,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """Inner products of vectors, the first of them conjugated (see `jax.numpy.vecdot`).

    Args:
      x1, x2: arrays of equal size along `axis`; their other dimensions broadcast.
      axis: the dimension of the vectors.
      precision, preferred_element_type: as for `matmul`.

    Raises:
      ShapeError: a scalar, vectors of different sizes, or shapes that do not broadcast.
    """
    x, y = promote_dtypes("vecdot", x1, x2)
    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError(f"vecdot: vectors are needed, got {x.aval} and {y.aval}")
    x, y = moveaxis(x, axis, -1), moveaxis(y, axis, -1)
    if x.aval.shape[-1] != y.aval.shape[-1]:
        raise _sizes_differ("vecdot", x, y, x.ndim - 1, y.ndim - 1)
    x = conj(x) if dtypes.is_complex(x.aval.dtype) else x
    rows = reshape(x, new_sizes=(*x.aval.shape[:-1], 1, x.aval.shape[-1]))
    columns = reshape(y, new_sizes=(*y.aval.shape, 1))
    out = matmul(rows, columns, precision=precision, preferred_element_type=preferred_element_type)
    return reshape(out, new_sizes=out.aval.shape[:-2])


def matvec(x1: ArrayLike, x2: ArrayLike, /) -> Any:
    """Matrices ``[..., m, n]`` times vectors ``[..., n]`` (see `jax.numpy.matvec`).

    Raises:
      ShapeError: dimensions are missing, or sizes do not fit.
    """
    x, y = promote_dtypes("matvec", x1, x2)
    if x.ndim < 2 or y.ndim < 1:
        raise ShapeError(f"matvec: a matrix and a vector are needed, got {x.aval} and {y.aval}")
    return _times_vector("matvec", x, y)


def vecmat(x1: ArrayLike, x2: ArrayLike, /) -> Any:
    """Vectors ``[..., n]``, conjugated, times matrices ``[..., n, m]`` (see `jax.numpy.vecmat`).

    Raises:
      ShapeError: dimensions are missing, or sizes do not fit.
    """
    x, y = promote_dtypes("vecmat", x1, x2)
    if x.ndim < 1 or y.ndim < 2:
        raise ShapeError(f"vecmat: a vector and a matrix are needed, got {x.aval} and {y.aval}")
    x = conj(x) if dtypes.is_complex(x.aval.dtype) else x
    return _times_vector("vecmat", moveaxis(y, -1, -2), x)


def _times_vector(name: str, matrix: Any, vector: Any) -> Any:
    """``[..., m, n]`` and ``[..., n]`` to ``[..., m]``."""
    if matrix.aval.shape[-1] != vector.aval.shape[-1]:
        raise ShapeError(
            f"{name}: the vectors have {vector.aval.shape[-1]} elements, the matrices "
            f"{matrix.aval.shape[-1]} places for them"
        )
    if vector.ndim == 1:
        return matmul(matrix, vector)
    columns = reshape(vector, new_sizes=(*vector.aval.shape, 1))
    out = matmul(matrix, columns)
    return reshape(out, new_sizes=out.aval.shape[:-1])


def tensordot(
    a: ArrayLike,
    b: ArrayLike,
    axes: int | Sequence[Any] = 2,
    *,
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
) -> Any:
    """Some dimensions of `a` with as many of `b` (see `numpy.tensordot`).

    Args:
      a, b: the arrays.
      axes: a number n: the last n dimensions of `a` with the first n of `b`; or a pair, the
        dimensions of `a` and those of `b`, each an integer or a sequence.
      precision: what a GPU may round float32 to (see `funcdl.lax.dot_general`).
      preferred_element_type: the dtype to add up in and to return.

    Raises:
      ArgumentError: `axes` does not fit.
      ShapeError: the sizes of paired dimensions differ.
    """
    x, y = promote_dtypes("tensordot", a, b)
    if isinstance(axes, Sequence):
        if len(axes) != 2:
            raise ArgumentError(
                f"tensordot: axes must be a number or a pair, got {shortened(axes)}"
            )
        first, second = (
            tuple(
                normalize_axis("tensordot", d, z.ndim)
                for d in (dims if isinstance(dims, Sequence) else (dims,))
            )
            for dims, z in zip(axes, (x, y), strict=True)
        )
    else:
        count = integer("axes", axes)
        if not 0 <= count <= min(x.ndim, y.ndim):
            raise ArgumentError(
                f"tensordot: axes={count} is out of range for {x.aval} and {y.aval}"
            )
        first, second = tuple(range(x.ndim - count, x.ndim)), tuple(range(count))
    if len(first) != len(second):
        raise ArgumentError(f"tensordot: axes must pair up, got {first} and {second}")
    for left, right in zip(first, second, strict=True):
        if x.aval.shape[left] != y.aval.shape[right]:
            raise _sizes_differ("tensordot", x, y, left, right)
    return _contract(x, y, (first, second), ((), ()), preferred_element_type, precision)


def cross(
    a: ArrayLike,
    b: ArrayLike,
    axisa: int = -1,
    axisb: int = -1,
    axisc: int = -1,
    axis: int | None = None,
) -> Any:
    """Vectors at right angles to two others, of two or three dimensions (see `numpy.cross`).

    Args:
      a, b: the vectors; other dimensions broadcast. A vector of two elements lies in the plane; of
        two such the result is its third element alone.
      axisa, axisb, axisc: the axes of the vectors in `a`, `b` and the result.
      axis: all three.

    Raises:
      ShapeError: vectors have another number of elements.
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = promote_dtypes("cross", a, b)
    x, y = moveaxis(x, axisa, -1), moveaxis(y, axisb, -1)
    sizes = [z.aval.shape[-1] for z in (x, y)]
    if any(size not in (2, 3) for size in sizes):
        raise ShapeError(f"cross: vectors must have 2 or 3 elements, got {sizes[0]} and {sizes[1]}")
    u, v = ([z[..., i] for i in range(size)] for z, size in zip((x, y), sizes, strict=True))
    third = u[0] * v[1] - u[1] * v[0]
    if sizes == [2, 2]:
        return third
    u, v = (w if len(w) == 3 else [*w, w[0] * 0] for w in (u, v))
    parts = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], third]
    columns = [reshape(z, new_sizes=(*z.aval.shape, 1)) for z in parts]
    return moveaxis(concatenate(*columns, dimension=third.aval.ndim), -1, axisc)


def kron(a: ArrayLike, b: ArrayLike) -> Any:
    """Kronecker product: each element of `a` times the whole of `b` (see `numpy.kron`).

    Both are promoted to one dtype; sizes multiply, missing dimensions in front count as 1.

    Raises:
      LeafTypeError: an operand is no array or scalar.
    """
    x, y = promote_dtypes("kron", a, b)
    rank = max(x.ndim, y.ndim)
    shapes = [(1,) * (rank - z.ndim) + z.aval.shape for z in (x, y)]
    spread = [
        reshape(z, new_sizes=tuple(n for size in shape for n in ((size, 1), (1, size))[side]))
        for side, (z, shape) in enumerate(zip((x, y), shapes, strict=True))
    ]
    sizes = tuple(m * n for m, n in zip(*shapes, strict=True))
    return reshape(multiply(*spread), new_sizes=sizes)
