"""The last link of every chain: from a direction of ascent to a step downhill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import funcdl.numpy as fnp
from funcdl.core import tree
from funcdl.core.options import number
from funcdl.optim.base import GradientTransformation, Params, Updates, stateless

Schedule = Callable[[Any], Any]
"""The learning rate as a function of the number of steps taken (an int32 scalar; first 0)."""

LearningRate = float | Any | Schedule
"""A number, a scalar array, or a schedule."""

_LAST_STEP = np.iinfo(np.int32).max


class ScaleByScheduleState(NamedTuple):
    """How many steps were taken: an int32 scalar (see `optax.ScaleByScheduleState`)."""

    count: Any


def next_count(count: Any) -> Any:
    """One more, but for the largest int32, which stays: a schedule must not start again."""
    return fnp.minimum(count, _LAST_STEP - 1) + 1


def scale_by_learning_rate(learning_rate: LearningRate) -> GradientTransformation:
    """Multiply updates by minus the learning rate (see `optax.scale_by_learning_rate`).

    Args:
      learning_rate: a number, or a function that takes the number of steps taken so far and
        returns one. A function must be traceable: use `funcdl.numpy.where`, not `if`.

    Raises:
      ArgumentError: it is neither.
    """
    if not callable(learning_rate):
        number("learning_rate", learning_rate)
        return stateless(lambda updates, params: _scale(updates, learning_rate))

    def init(params: Params) -> ScaleByScheduleState:
        return ScaleByScheduleState(fnp.zeros((), np.int32))

    def update(
        updates: Updates, state: ScaleByScheduleState, params: Params = None
    ) -> tuple[Updates, ScaleByScheduleState]:
        rate = learning_rate(state.count)
        return _scale(updates, rate), ScaleByScheduleState(next_count(state.count))

    return GradientTransformation(init, update)


def _scale(updates: Updates, rate: Any) -> Updates:
    def scaled(update: Any) -> Any:
        update = fnp.asarray(update)
        # In the update's dtype: a float32 schedule must not widen a bfloat16 model.
        return -fnp.asarray(rate, dtype=update.dtype) * update

    return tree.map(scaled, updates)
