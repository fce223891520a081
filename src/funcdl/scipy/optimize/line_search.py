"""A step along a direction of descent: far enough down, to where the slope is much less.

(J. Nocedal, S. J. Wright, "Numerical Optimization", 2006, algorithms 3.5 and 3.6; near a minimum,
where values differ by rounding alone, the conditions of W. W. Hager, H. Zhang, 2005.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import funcdl.numpy as fnp
from funcdl.control.while_loop import while_loop

# How much of the decrease that the slope promises is enough, and how much of the slope may be left.
DECREASE = 1e-4
CURVATURE = 0.9


class Point(NamedTuple):
    """A point on the line: the step, the value, the slope along the line, and the gradient."""

    step: Any
    value: Any
    slope: Any
    gradient: Any


class _State(NamedTuple):
    """`low` is the best point so far; between it and `high`, if `bracketed`, a good one lies."""

    trial: Any
    low: Point
    high: Point
    bracketed: Any
    accepted: Any
    count: Any


def line_search(
    evaluate: Callable[[Any], tuple[Any, Any, Any]],
    start: Point,
    first: Any,
    maxiter: int,
) -> tuple[Point, Any]:
    """The best point found, and how many were tried; `start` itself where none was better.

    Args:
      evaluate: the value, slope and gradient after a step.
      start: where the line starts; its slope is negative.
      first: the step to try first.
      maxiter: how many to try at most.
    """
    noise = abs(start.value) * float(fnp.finfo(start.value.dtype).eps)

    def body(s: _State) -> _State:
        new = Point(s.trial, *evaluate(s.trial))
        promised = start.value + DECREASE * new.step * start.slope
        down = (new.value <= promised) & (new.value < s.low.value)
        level = (new.value <= start.value + noise) & (new.slope <= (2 * DECREASE - 1) * start.slope)
        accepted = (down | level) & (abs(new.slope) <= -CURVATURE * start.slope)
        ahead = fnp.where(s.bracketed, s.high.step - s.low.step, 1)
        turned = down & (new.slope * ahead >= 0)
        high = _choose(down, _choose(turned, s.low, s.high), new)
        low = _choose(down | accepted, new, s.low)
        bracketed = s.bracketed | ~down | turned
        trial = fnp.where(bracketed, _between(low, high), 2 * new.step)
        return _State(trial, low, high, bracketed, accepted, s.count + 1)

    false = fnp.zeros((), bool)
    found = while_loop(
        lambda s: ~s.accepted & (s.count < maxiter),
        body,
        _State(first, start, start, false, false, fnp.zeros((), fnp.int32)),
    )
    return found.low, found.count


def _choose(condition: Any, x: Point, y: Point) -> Point:
    return Point(*(fnp.where(condition, a, b) for a, b in zip(x, y, strict=True)))


def _between(low: Point, high: Point) -> Any:
    """The minimum of the cubic through both points, or the middle if that is not well inside."""
    width = high.step - low.step
    secant = (high.value - low.value) / fnp.where(width == 0, 1, width)
    bend = low.slope + high.slope - 3 * secant
    square = bend * bend - low.slope * high.slope
    root = fnp.copysign(fnp.sqrt(fnp.where(square > 0, square, 0)), width)
    divisor = high.slope - low.slope + 2 * root
    share = 1 - (high.slope + root - bend) / fnp.where(divisor == 0, 1, divisor)
    good = (square > 0) & (divisor != 0) & (share > 0.1) & (share < 0.9)
    return low.step + width * fnp.where(good, share, 0.5)
