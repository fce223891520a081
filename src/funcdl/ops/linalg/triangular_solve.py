"""Systems with triangular matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import ShapeError
from funcdl.ops import registry
from funcdl.ops.arithmetic import neg
from funcdl.ops.jvp_rules import add_tangents
from funcdl.ops.linalg import common
from funcdl.ops.linalg.common import conjugate, dot, matrix_transpose
from funcdl.ops.linalg.samples import spread
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.shape import reshape, transpose

NDArray = np.ndarray[Any, Any]


def _shape(
    a: ShapedArray,
    b: ShapedArray,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> ShapedArray:
    name = "triangular_solve"
    common.check_matrix(name, a, square=True)
    common.check_matrix(name, b)
    common.check_dtype(name, a, b)
    common.check_batch(name, a, 2, b, 2)
    side = -2 if left_side else -1
    if b.shape[side] != a.shape[-1]:
        what = "rows" if left_side else "columns"
        raise ShapeError(
            f"triangular_solve: with left_side={left_side}, b must have as many {what} as a, got "
            f"{a} and {b} with {a.shape[-1]} and {b.shape[side]}"
        )
    return ShapedArray(b.shape, b.dtype)


def _compute(
    a: NDArray,
    b: NDArray,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> NDArray:
    if b.size == 0:
        return np.empty(b.shape, b.dtype)
    solve = common.lapack("trsm", a.dtype)
    if conjugate_a and not transpose_a:
        a = a.conj()
    options = {
        "side": not left_side,
        "lower": lower,
        "trans_a": (2 if conjugate_a else 1) if transpose_a else 0,
        "diag": unit_diagonal,
    }
    return common.each_matrix(
        lambda a, b: [solve(1, a, b, **options)], [(a, 2), (b, 2)], [(b.shape[-2:], b.dtype)]
    )[0]


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    (a, b), (ta, tb) = primals, tangents
    x = triangular_solve(a, b, **params)
    parts = []
    if not is_zero(tb):
        parts.append(triangular_solve(a, tb, **params))
    if not is_zero(ta):
        keep = common.lower if params["lower"] else common.upper
        outside = -1 if params["lower"] else 1
        ta = keep(ta, outside if params["unit_diagonal"] else 0)
        ta = matrix_transpose(ta) if params["transpose_a"] else ta
        ta = conjugate(ta) if params["conjugate_a"] else ta
        product = dot(ta, x) if params["left_side"] else dot(x, ta)
        parts.append(triangular_solve(a, neg(product), **params))
    return x, add_tangents(parts, x.aval)


def _transpose(ct: Any, a: Any, b: Any, *, transpose_a: bool, **params: Any) -> list[Any]:
    if is_zero(ct):
        return [None, Zero(b.aval)]
    return [None, triangular_solve(a, ct, transpose_a=not transpose_a, **params)]


def _batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int | None], **params: Any
) -> tuple[Any, int]:
    (a, b), (of_a, of_b) = args, dims
    if of_a is not None or of_b is None:
        return _leading(axis_size, args, dims, **params)
    # One matrix for all: the batch is one more dimension of the right-hand sides.
    others = [d for d in range(b.ndim) if d != of_b]
    at = len(others) if params["left_side"] else len(others) - 2
    b = transpose(b, permutation=(*others[:at], of_b, *others[at:]))
    first = at - 1 if params["left_side"] else at
    folded = (*b.shape[:first], b.shape[first] * b.shape[first + 1], *b.shape[first + 2 :])
    x = triangular_solve(a, reshape(b, new_sizes=folded), **params)
    return reshape(x, new_sizes=b.shape), at


_OPTIONS = (
    (True, True, False, False, False),
    (True, False, True, False, True),
    (False, True, True, True, False),
    (False, False, False, True, False),
)


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    names = ("left_side", "lower", "transpose_a", "conjugate_a", "unit_diagonal")
    for options in _OPTIONS:
        params = dict(zip(names, options, strict=True))
        for batch, n, k in [((), 3, 2), ((2,), 2, 1), ((), 0, 2), ((), 2, 0), ((0,), 2, 2)]:
            shape = (n, k) if params["left_side"] else (k, n)
            a = spread(rng, (*batch, n, n), dtype)
            yield Sample((a, random_array(rng, (*batch, *shape), dtype)), params, (0, 1))
    singular = np.array([[0, 0], [1, 1]], dtypes.real_dtype(dtype)).astype(dtype)
    if not dtypes.is_complex(dtype):
        yield Sample((singular, np.ones((2, 1), dtype)), dict(zip(names, _OPTIONS[0], strict=True)))


triangular_solve = common.matrix_primitive("triangular_solve", _shape, _compute)
triangular_solve.jvp = _jvp
triangular_solve.transpose = _transpose
_leading = common.leading_batch(triangular_solve)
triangular_solve.batch = _batch
registry.add(Op(triangular_solve, common.ACCEPTS, _samples, common.LAPACK_IF_LARGE))
