"""Systems with tridiagonal matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.symbolic_zero import is_zero
from funcdl.errors import ShapeError
from funcdl.ops import registry
from funcdl.ops.arithmetic import mul, neg
from funcdl.ops.jvp_rules import add_tangents
from funcdl.ops.linalg import common
from funcdl.ops.registry import Op, Sample, random_array
from funcdl.ops.slicing import pad

NDArray = np.ndarray[Any, Any]


def _shape(dl: ShapedArray, d: ShapedArray, du: ShapedArray, b: ShapedArray) -> ShapedArray:
    name = "tridiagonal_solve"
    common.check_matrix(name, b)
    common.check_dtype(name, dl, d, du, b)
    if not dl.shape == d.shape == du.shape == b.shape[:-1]:
        raise ShapeError(
            f"tridiagonal_solve: dl, d and du must have shape {b.shape[:-1]}, that of b without "
            f"its last dimension, got {dl}, {d}, {du} and b {b}"
        )
    return ShapedArray(b.shape, b.dtype)


def _compute(dl: NDArray, d: NDArray, du: NDArray, b: NDArray) -> NDArray:
    if b.size == 0:
        return np.empty(b.shape, b.dtype)
    if d.shape[-1] == 1:
        single = d[..., None]
        return np.where(single == 0, np.nan, b / single).astype(b.dtype)
    solve = common.lapack("gtsv", b.dtype)

    def one(dl: NDArray, d: NDArray, du: NDArray, b: NDArray) -> Sequence[NDArray] | None:
        *_, x, info = solve(dl[1:], d, du[:-1], b)
        return None if info else [x]

    operands = [(dl, 1), (d, 1), (du, 1), (b, 2)]
    return common.each_matrix(one, operands, [(b.shape[-2:], b.dtype)])[0]


def _shifted(x: Any, axis: int, step: int) -> Any:
    """Elements moved by one place along an axis, with a zero where there was none."""
    config = tuple((step, -step, 0) if d == axis else (0, 0, 0) for d in range(x.ndim))
    return pad(x, Array(np.zeros((), x.dtype)), padding_config=config)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    x = tridiagonal_solve(*primals)
    dl, d, du, _ = primals
    columns = x.shape[-1]
    sides = []
    # Row i of the matrix meets the elements i - 1, i and i + 1 of a column.
    for t, step in zip(tangents[:3], (1, 0, -1), strict=True):
        if not is_zero(t):
            met = _shifted(x, x.ndim - 2, step) if step else x
            sides.append(neg(mul(common.columns_of(t, columns), met)))
    if not is_zero(tangents[3]):
        sides.append(tangents[3])
    side = add_tangents(sides, x.aval)
    return x, side if is_zero(side) else tridiagonal_solve(dl, d, du, side)


def _transpose(ct: Any, dl: Any, d: Any, du: Any, b: Any) -> list[Any]:
    axis = d.ndim - 1
    flipped = (_shifted(du, axis, 1), d, _shifted(dl, axis, -1))
    return [None, None, None, tridiagonal_solve(*flipped, ct)]


def _samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> Iterator[Sample]:
    for batch, n, k in [((), 4, 2), ((2,), 2, 1), ((), 1, 2), ((), 3, 0), ((0,), 2, 1), ((), 0, 2)]:
        shape = (*batch, n)
        sides = [random_array(rng, shape, dtype, -0.5, 0.5) for _ in range(2)]
        d = random_array(rng, shape, dtype, 2, 3)
        b = random_array(rng, (*shape, k), dtype)
        yield Sample((sides[0], d, sides[1], b), {}, (0, 1, 2, 3))
    zeros = np.zeros(3, dtype)
    yield Sample((zeros, zeros, zeros, np.ones((3, 1), dtype)))


tridiagonal_solve = common.matrix_primitive("tridiagonal_solve", _shape, _compute)
tridiagonal_solve.jvp = _jvp
tridiagonal_solve.transpose = _transpose
registry.add(Op(tridiagonal_solve, common.ACCEPTS, _samples, common.LAPACK))
