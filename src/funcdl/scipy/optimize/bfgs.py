"""The method of Broyden, Fletcher, Goldfarb and Shanno.

(J. Nocedal, S. J. Wright, "Numerical Optimization", 2006, algorithm 6.1.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import funcdl.numpy as fnp
from funcdl.control.while_loop import while_loop
from funcdl.scipy.optimize.line_search import Point, line_search
from funcdl.transforms import value_and_grad

# Why the iteration ended.
CONVERGED, TOO_MANY_STEPS, NO_LOWER_POINT = 0, 1, 3


class State(NamedTuple):
    """After some steps: the point with its value and gradient, and the inverse Hessian's estimate.

    `evaluations` counts values with gradients; `stuck` says that a line had no lower point.
    """

    x: Any
    value: Any
    gradient: Any
    inverse: Any
    steps: Any
    evaluations: Any
    stuck: Any


def minimize_bfgs(
    fun: Callable[[Any], Any],
    x0: Any,
    *,
    maxiter: int,
    norm: float,
    gtol: float,
    line_search_maxiter: int,
) -> tuple[State, Any]:
    """The last state, and why it is the last.

    Args:
      fun: from a vector to a scalar.
      x0: the vector to start at.
      maxiter: how many steps to take at most.
      norm: the order of the norm of the gradient.
      gtol: what it must come down to.
      line_search_maxiter: how many points to try in a step.
    """
    evaluate = value_and_grad(fun)

    def is_flat(gradient: Any) -> Any:
        return fnp.linalg.norm(gradient, ord=norm) < gtol

    def body(s: State) -> State:
        direction = -(s.inverse @ s.gradient)
        slope = direction @ s.gradient
        # Rounding can spoil the estimate; the gradient always leads down.
        lost = ~(slope < 0)
        direction = fnp.where(lost, -s.gradient, direction)
        slope = fnp.where(lost, -(s.gradient @ s.gradient), slope)

        def along(step: Any) -> tuple[Any, Any, Any]:
            value, gradient = evaluate(s.x + step * direction)
            return value, gradient @ direction, gradient

        length = fnp.sqrt(s.gradient @ s.gradient)
        first = fnp.where((s.steps == 0) & (length > 1), 1 / length, 1).astype(s.x.dtype)
        start = Point(fnp.zeros_like(s.value), s.value, slope, s.gradient)
        point, count = line_search(along, start, first, line_search_maxiter)
        moved, bent = point.step * direction, point.gradient - s.gradient
        inverse = _updated(s.inverse, moved, bent, s.steps == 0)
        return State(
            s.x + moved,
            point.value,
            point.gradient,
            inverse,
            s.steps + 1,
            s.evaluations + count,
            point.step == 0,
        )

    value, gradient = evaluate(x0)
    zero = fnp.zeros((), fnp.int32)
    identity = fnp.eye(x0.shape[0], dtype=x0.dtype)
    last = while_loop(
        lambda s: ~is_flat(s.gradient) & ~s.stuck & (s.steps < maxiter),
        body,
        State(x0, value, gradient, identity, zero, zero + 1, fnp.zeros((), bool)),
    )
    reason = fnp.where(last.stuck, NO_LOWER_POINT, TOO_MANY_STEPS)
    return last, fnp.where(is_flat(last.gradient), CONVERGED, reason)


def _updated(inverse: Any, moved: Any, bent: Any, first: Any) -> Any:
    """The inverse Hessian's estimate after a step that bent the gradient."""
    product = moved @ bent
    square = bent @ bent
    good = product > 1e-10 * fnp.sqrt(square * (moved @ moved))
    product, square = fnp.where(good, product, 1), fnp.where(good, square, 1)
    start = fnp.where(first & good, product / square, 1) * inverse
    image = start @ bent
    change = fnp.outer(moved, image)
    scale = (1 + (bent @ image) / product) / product
    updated = start + scale * fnp.outer(moved, moved) - (change + change.T) / product
    return fnp.where(good, updated, inverse)
