"""Adam, and Adam with decoupled weight decay."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import funcdl.numpy as fnp
from funcdl.core import lattice, tree
from funcdl.optim.base import (
    GradientTransformation,
    Params,
    Updates,
    chain,
    check_state,
    part_of_state,
    zeros_like,
)
from funcdl.optim.learning_rate import LearningRate, next_count, scale_by_learning_rate
from funcdl.optim.weight_decay import Mask, add_decayed_weights


class ScaleByAdamState(NamedTuple):
    """Adam's memory (see `optax.ScaleByAdamState`).

    Fields:
      count: how many steps were taken, an int32 scalar.
      mu: decaying means of the gradients, with the parameters' structure.
      nu: decaying means of their squares, with the parameters' structure.
    """

    count: Any
    mu: Any
    nu: Any


def scale_by_adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, eps_root: float = 0.0
) -> GradientTransformation:
    """Adam's direction, before the learning rate (see `optax.scale_by_adam`).

    With gradient ``g`` at step ``t`` (first 1), from Kingma and Ba, "Adam: a method for stochastic
    optimization" (2015), algorithm 1::

        mu = b1 * mu + (1 - b1) * g         nu = b2 * nu + (1 - b2) * g**2
        update = (mu / (1 - b1**t)) / (sqrt(nu / (1 - b2**t) + eps_root) + eps)

    Args:
      b1, b2: decay of the two means.
      eps: keeps the denominator away from zero.
      eps_root: keeps the root's argument away from zero, which matters only to those who
        differentiate through the update: the root has no derivative at zero.

    Returns:
      A transformation that keeps shapes and dtypes; its state is a `ScaleByAdamState`.
    """

    def init(params: Params) -> ScaleByAdamState:
        return ScaleByAdamState(fnp.zeros((), np.int32), zeros_like(params), zeros_like(params))

    def update(
        updates: Updates, state: ScaleByAdamState, params: Params = None
    ) -> tuple[Updates, ScaleByAdamState]:
        means, squares = (part_of_state("update", state, field) for field in ("mu", "nu"))
        check_state("update", updates, means)
        check_state("update", updates, squares)
        mu = tree.map(lambda g, m: b1 * m + (1 - b1) * g, updates, means)
        nu = tree.map(lambda g, v: b2 * v + (1 - b2) * fnp.square(g), updates, squares)
        count = next_count(part_of_state("update", state, "count"))
        weights = {
            dtype: (_weight(b1, count, dtype), _weight(b2, count, dtype))
            for dtype in {m.dtype for m in tree.leaves(mu)}
        }

        def direction(m: Any, v: Any) -> Any:
            mu_weight, nu_weight = weights[m.dtype]
            return (m / mu_weight) / (fnp.sqrt(v / nu_weight + eps_root) + eps)

        return tree.map(direction, mu, nu), ScaleByAdamState(count, mu, nu)

    return GradientTransformation(init, update)


def _weight(decay: float, count: Any, dtype: Any) -> Any:
    """How much weight the gradients have in a mean that began at zero: ``1 - decay**count``."""
    # At least in float32: to bfloat16, 0.999 is 1.
    wide = lattice.promote_types(dtype, np.float32)
    return (1 - fnp.asarray(decay, dtype=wide) ** count.astype(wide)).astype(dtype)


def adam(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
) -> GradientTransformation:
    """Adam (see `optax.adam`); the formulas are at `scale_by_adam`.

    Args:
      learning_rate: a number or a schedule; see `scale_by_learning_rate`.
      b1, b2, eps, eps_root: see `scale_by_adam`.
    """
    return chain(scale_by_adam(b1, b2, eps, eps_root), scale_by_learning_rate(learning_rate))


def adamw(
    learning_rate: LearningRate,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    *,
    weight_decay: float = 1e-4,
    mask: Mask = None,
) -> GradientTransformation:
    """Adam with weight decay that bypasses the means (see `optax.adamw`).

    From Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), with the decay
    multiplied by the learning rate, as is usual. `update` needs `params`.

    Args:
      learning_rate: a number or a schedule; see `scale_by_learning_rate`.
      b1, b2, eps, eps_root: see `scale_by_adam`.
      weight_decay, mask: see `add_decayed_weights`.
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
