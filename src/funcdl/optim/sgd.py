"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Any, NamedTuple

from funcdl.core import tree
from funcdl.core.options import flag
from funcdl.optim.base import (
    GradientTransformation,
    Params,
    Updates,
    chain,
    check_state,
    identity,
    part_of_state,
    zeros_like,
)
from funcdl.optim.learning_rate import LearningRate, scale_by_learning_rate


class TraceState(NamedTuple):
    """The decaying sum of past updates, with the parameters' structure (see `optax.TraceState`)."""

    trace: Any


def trace(decay: float, nesterov: bool = False) -> GradientTransformation:
    """Replace updates by their decaying sum, ``m = g + decay * m`` (see `optax.trace`).

    Args:
      decay: how much of the sum remains after each step.
      nesterov: look one step ahead, ``g + decay * m`` with the new ``m``, as rewritten by
        Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in
        deep learning" (2013).

    Returns:
      A transformation that keeps shapes and dtypes; its state is a `TraceState`.
    """

    nesterov = flag("trace: nesterov", nesterov)

    def add_decayed(updates: Updates, sums: Any) -> Any:
        return tree.map(lambda g, m: g + decay * m, updates, sums)

    def update(
        updates: Updates, state: TraceState, params: Params = None
    ) -> tuple[Updates, TraceState]:
        remembered = part_of_state("update", state, "trace")
        check_state("update", updates, remembered)
        sums = add_decayed(updates, remembered)
        return (add_decayed(updates, sums) if nesterov else sums), TraceState(sums)

    return GradientTransformation(lambda params: TraceState(zeros_like(params)), update)


def sgd(
    learning_rate: LearningRate, momentum: float | None = None, nesterov: bool = False
) -> GradientTransformation:
    """Stochastic gradient descent (see `optax.sgd`).

    Args:
      learning_rate: a number or a schedule; see `scale_by_learning_rate`.
      momentum: the decay of `trace`; None means no momentum, and no state for it.
      nesterov: Nesterov's variant of momentum.
    """
    direction = identity() if momentum is None else trace(momentum, nesterov)
    return chain(direction, scale_by_learning_rate(learning_rate))
