"""Determinants, with derivatives that need no inverse to exist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from funcdl.core import dtypes
from funcdl.core.array import shortened
from funcdl.core.options import is_option
from funcdl.errors import ArgumentError
from funcdl.numpy.arithmetic import sign
from funcdl.numpy.functions import log
from funcdl.numpy.linalg.operands import square_matrices
from funcdl.numpy.promotion import ArrayLike, strong
from funcdl.numpy.reductions import prod, sum
from funcdl.ops import linalg as ops
from funcdl.ops.arithmetic import abs_, add, div, mul, sub
from funcdl.ops.comparison import eq, ne
from funcdl.ops.complex_parts import complex_, imag, real
from funcdl.ops.convert import cast
from funcdl.ops.linalg import common
from funcdl.ops.linalg.lu import lu_solve, permuted
from funcdl.ops.select import select_n
from funcdl.ops.shape import full, full_like, iota, reshape
from funcdl.ops.slicing import slice_
from funcdl.transforms import custom_jvp

__all__ = ["det", "slogdet"]


class SlogdetResult(NamedTuple):
    """What `slogdet` returns."""

    sign: Any
    logabsdet: Any


def det(a: ArrayLike) -> Any:
    """Determinants of matrices ``[..., n, n]`` (see `jax.numpy.linalg.det`).

    From 4 rows on by LU factors, whose derivative is right also for singular matrices if these
    have rank ``n - 1`` and their first ``n - 1`` columns are independent.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
    """
    a = square_matrices("det", a)
    n = a.aval.shape[-1]
    if n == 0:
        return full(a.aval.shape[:-2], 1, a.aval.dtype)
    if n <= 3:
        return _by_expansion(a, tuple(range(n)))
    return _det(strong(a))


def _by_expansion(a: Any, columns: tuple[int, ...]) -> Any:
    """The determinant of the last rows and these columns, by the first of these rows."""
    row = a.aval.shape[-1] - len(columns)
    total = None
    for number, column in enumerate(columns):
        term = _element(a, row, column)
        rest = columns[:number] + columns[number + 1 :]
        if rest:
            term = mul(term, _by_expansion(a, rest))
        combine = sub if number % 2 else add
        total = term if total is None else combine(total, term)
    return total


def _element(a: Any, row: int, column: int) -> Any:
    batch = a.aval.shape[:-2]
    starts = (*(0 for _ in batch), row, column)
    limits = (*batch, row + 1, column + 1)
    x = slice_(a, start_indices=starts, limit_indices=limits, strides=None)
    return reshape(x, new_sizes=batch)


def _parity(pivots: Any) -> Any:
    """-1 where the row exchanges are odd in number, else 1; as integers."""
    places = iota(dtype=common.INDEX, shape=pivots.aval.shape, dimension=pivots.ndim - 1)
    odd = sum(ne(pivots, places), -1, dtype=common.INDEX) % 2
    return 1 - 2 * odd


def _from_factors(factors: Any, pivots: Any) -> Any:
    parity = cast(_parity(pivots), factors.aval.dtype)
    return mul(prod(common.diagonal(factors), -1), parity)


@custom_jvp
def _det(a: Any) -> Any:
    factors, pivots, _ = ops.lu(a)
    return _from_factors(factors, pivots)


@_det.defjvp
def _det_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The trace of the adjugate times the tangent.

    The adjugate is ``det(a) a⁻¹``. The factor of the last pivot in the determinant cancels the
    division by it, so that this pivot may be 0.
    """
    (a,), (t,) = primals, tangents
    factors, pivots, permutation = ops.lu(a)
    value = _from_factors(factors, pivots)
    n = a.aval.shape[-1]
    diagonal = common.diagonal(factors)
    start, last = (0,) * diagonal.ndim, (*diagonal.aval.shape[:-1], n - 1)
    others = prod(slice_(diagonal, start_indices=start, limit_indices=last, strides=None), -1)
    others = mul(others, cast(_parity(pivots), a.aval.dtype))
    # The system with the last pivot replaced, and all but the last row of the right-hand side
    # multiplied by the determinant.
    row = iota(dtype=common.INDEX, shape=a.aval.shape, dimension=a.ndim - 2)
    is_last = eq(row, full_like(row, n - 1))
    replaced = common.everywhere(div(full_like(others, 1), others), a)
    high = select_n(is_last, factors, replaced)
    side = permuted(permutation, t)
    options = {"left_side": True, "transpose_a": False, "conjugate_a": False}
    side = ops.triangular_solve(factors, side, lower=True, unit_diagonal=True, **options)
    side = select_n(is_last, mul(side, common.everywhere(value, a)), side)
    side = ops.triangular_solve(high, side, lower=False, unit_diagonal=False, **options)
    return value, sum(common.diagonal(side), -1)


@custom_jvp
def _slogdet(a: Any) -> tuple[Any, Any]:
    factors, pivots, _ = ops.lu(a)
    diagonal = common.diagonal(factors)
    signs = prod(sign(diagonal), -1)
    parity = cast(_parity(pivots), a.aval.dtype)
    return mul(signs, parity), sum(log(abs_(diagonal)), -1)


@_slogdet.defjvp
def _slogdet_jvp(
    primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """The logarithm moves by the trace of ``a \\ da``; its imaginary part turns the sign."""
    (a,), (t,) = primals, tangents
    signs, logs = _slogdet(a)
    factors, _, permutation = ops.lu(a)
    slope = sum(common.diagonal(lu_solve(factors, permutation, t)), -1)
    if not dtypes.is_complex(a.aval.dtype):
        return (signs, logs), (full_like(signs, 0), slope)
    turn = complex_(full_like(logs, 0), imag(slope))
    return (signs, logs), (mul(signs, turn), real(slope))


def slogdet(a: ArrayLike, *, method: str | None = None) -> SlogdetResult:
    """Signs and logarithms of absolute values of determinants (see `jax.numpy.linalg.slogdet`).

    Args:
      a: matrices ``[..., n, n]``.
      method: ``"lu"`` or None, which are the same.

    Returns:
      Signs (of length 1 if complex; 0 for singular matrices) and real logarithms ``[...]``.

    Raises:
      ShapeError: the matrices are not square.
      DtypeError: half precision.
      ArgumentError: another `method`.
    """
    if not is_option(method, (None, "lu")):
        raise ArgumentError(f"slogdet: method must be 'lu' or None, got {shortened(method)}")
    a = square_matrices("slogdet", a)
    return SlogdetResult(*_slogdet(strong(a)))
