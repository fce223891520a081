"""Iterative solvers for linear systems, with the names and meanings of `jax.scipy.sparse.linalg`.

Derivatives come from the equation, as those of `lax.custom_linear_solve`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import funcdl.numpy as fnp
from funcdl import lax
from funcdl.absent import getter
from funcdl.core import dtypes, tree
from funcdl.core.options import number
from funcdl.errors import ArgumentError, ShapeError, TreeError
from funcdl.numpy.promotion import promote_inexact, strong

__getattr__ = getter(__name__)

__all__ = ["bicgstab", "cg"]

Operator = Callable[[Any], Any]


def cg(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    tol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
) -> tuple[Any, None]:
    """Conjugate gradients (see `jax.scipy.sparse.linalg.cg`).

    (M. R. Hestenes, E. Stiefel, "Methods of conjugate gradients for solving linear systems", 1952.)

    Args:
      A: a symmetric (Hermitian), positive definite linear function of pytrees like `b`, or its
        matrix if `b` is a vector. Derivatives are by what it closes over, too.
      b: the right-hand side, a pytree of arrays; integers become floats.
      x0: where to start, a pytree like `b`; zeros by default.
      tol, atol: the iteration ends when the residual's norm is at most the larger one of
        ``tol * norm(b)`` and `atol`.
      maxiter: how many steps to take at most; by default 10 times the number of unknowns.
      M: a preconditioner: as `A`, but near its inverse.

    Returns:
      The solution, a pytree like `b`, and None.

    Raises:
      TreeError, ShapeError: `x0` or what `A` returns is not like `b`, or `A` no square matrix.
      ArgumentError: `b` holds no array.
    """
    return _solve("cg", _cg, True, A, b, x0, tol, atol, maxiter, M)


def bicgstab(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    tol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
) -> tuple[Any, None]:
    """Stabilized biconjugate gradients (see `jax.scipy.sparse.linalg.bicgstab`).

    For any linear function `A`. Arguments, results and errors are those of `cg`. (H. A. van der
    Vorst, "Bi-CGSTAB: a fast and smoothly converging variant of Bi-CG", 1992.)
    """
    return _solve("bicgstab", _bicgstab, False, A, b, x0, tol, atol, maxiter, M)


def _solve(
    name: str,
    method: Callable[..., Any],
    hermitian: bool,
    A: Any,
    b: Any,
    x0: Any,
    tol: float,
    atol: float,
    maxiter: int | None,
    M: Any,
) -> tuple[Any, None]:
    leaves, structure = tree.flatten(b)
    if not leaves:
        raise ArgumentError(f"{name}: b must hold at least one array, got none")
    leaves = [strong(x) for x in promote_inexact(name, *leaves)]
    b = structure.unflatten(leaves)
    start = tree.map(fnp.zeros_like, b) if x0 is None else _started(name, x0, b)
    matvec = _operator(name, "A", A, b)
    preconditioner = (lambda x: x) if M is None else _operator(name, "M", M, b)
    steps = 10 * sum(x.size for x in leaves) if maxiter is None else maxiter

    tol, atol = number(f"{name}: tol", tol), number(f"{name}: atol", atol)
    steps = number(f"{name}: maxiter", steps)

    def solve(matvec: Operator, b: Any) -> Any:
        square = _dot(b, b)
        limit = fnp.maximum(tol * tol * square, fnp.asarray(atol * atol, square.dtype))
        return method(matvec, b, start, limit, steps, preconditioner)

    symmetric = hermitian and not any(dtypes.is_complex(x.dtype) for x in leaves)
    return lax.custom_linear_solve(matvec, b, solve, solve, symmetric), None


def _started(name: str, x0: Any, b: Any) -> Any:
    if tree.structure(x0) != tree.structure(b):
        raise TreeError(
            f"{name}: x0 must have the structure of b, {tree.structure(b)}, got "
            f"{tree.structure(x0)}"
        )
    starts = tree.map(lambda x, y: fnp.asarray(x).astype(y.dtype), x0, b)
    for x, y in zip(tree.leaves(starts), tree.leaves(b), strict=True):
        if x.shape != y.shape:
            raise ShapeError(f"{name}: x0 must have the shapes of b, got {x.aval} for {y.aval}")
    return starts


def _operator(name: str, what: str, A: Any, b: Any) -> Operator:
    if callable(A):
        return A  # type: ignore[no-any-return]  # custom_linear_solve checks what it returns
    matrix = fnp.asarray(A)
    sizes = [x.shape for x in tree.leaves(b)]
    if matrix.ndim != 2 or sizes != [matrix.shape[:1]] or matrix.shape[0] != matrix.shape[1]:
        raise ShapeError(
            f"{name}: {what} must be a function, or a square matrix for a vector b of its length, "
            f"got {matrix.aval} for b of shapes {sizes}"
        )
    return lambda x: tree.map(lambda leaf: (matrix @ leaf).astype(leaf.dtype), x)


def _dot(x: Any, y: Any) -> Any:
    """The real part of the inner product of two pytrees."""
    products = tree.map(lambda a, b: fnp.real(fnp.vdot(a, b)), x, y)
    return sum(tree.leaves(products)[1:], tree.leaves(products)[0])


def _full_dot(x: Any, y: Any) -> Any:
    products = tree.leaves(tree.map(fnp.vdot, x, y))
    return sum(products[1:], products[0])


def _moved(x: Any, scale: Any, direction: Any) -> Any:
    return tree.map(lambda a, d: a + (scale * d).astype(a.dtype), x, direction)


def _ratio(x: Any, y: Any) -> Any:
    """The quotient, and 0 where the divisor is 0."""
    none = y == 0
    return fnp.where(none, 0, x / fnp.where(none, 1, y))


def _unfinished(limit: Any, maxiter: int) -> Callable[[Any], Any]:
    """Whether to take another step, from what steps carry."""

    def condition(s: Any) -> Any:
        _, residual, _, _, count = s
        return (_dot(residual, residual) > limit) & (count < maxiter)

    return condition


def _cg(matvec: Operator, b: Any, start: Any, limit: Any, maxiter: int, m: Operator) -> Any:
    def step(s: Any) -> Any:
        x, residual, direction, size, count = s
        image = matvec(direction)
        length = _ratio(size, _dot(direction, image))
        x = _moved(x, length, direction)
        residual = _moved(residual, -length, image)
        better = m(residual)
        new = _dot(residual, better)
        return x, residual, _moved(better, _ratio(new, size), direction), new, count + 1

    residual = _moved(b, -1, matvec(start))
    better = m(residual)
    size = _dot(residual, better)
    begin = start, residual, better, size, 0
    return lax.while_loop(_unfinished(limit, maxiter), step, begin)[0]


def _bicgstab(matvec: Operator, b: Any, start: Any, limit: Any, maxiter: int, m: Operator) -> Any:
    residual = _moved(b, -1, matvec(start))
    shadow = residual

    def step(s: Any) -> Any:
        x, residual, direction, size, count = s
        ahead = m(direction)
        image = matvec(ahead)
        length = _ratio(size, _full_dot(shadow, image))
        half = _moved(residual, -length, image)
        across = m(half)
        bent = matvec(across)
        damping = _ratio(_full_dot(bent, half), _full_dot(bent, bent))
        x = _moved(_moved(x, length, ahead), damping, across)
        residual = _moved(half, -damping, bent)
        new = _full_dot(shadow, residual)
        scale = _ratio(new, size) * _ratio(length, damping)
        direction = _moved(residual, scale, _moved(direction, -damping, image))
        return x, residual, direction, new, count + 1

    size = _full_dot(shadow, residual)
    begin = start, residual, residual, size, 0
    return lax.while_loop(_unfinished(limit, maxiter), step, begin)[0]
