"""Gradient descent as pairs of pure functions, with the names and formulas of optax.

An optimiser is a `GradientTransformation`: ``init(params)`` makes its state, and
``update(gradients, state, params)`` returns what to add to the parameters and the next state. Both
are pure functions over pytrees, so a whole training step can be jitted, differentiated and mapped:

    optimizer = optim.adam(1e-3)
    state = optimizer.init(params)

    @fd.jit
    def step(params, state, batch):
        gradients = fd.grad(loss)(params, batch)
        updates, state = optimizer.update(gradients, state, params)
        return optim.apply_updates(params, updates), state

A module of this package may import `funcdl.numpy`, `funcdl.lax` and what stands below them, and
never `funcdl.nn`: an optimiser knows of pytrees of arrays, not of layers.

Designs rejected:

* Objects that hold the parameters and change them in place, as `torch.optim` has them: a state that
  is not an argument can neither be donated to a jitted step nor mapped over by `vmap`.
* One function for each optimiser with everything in it: gradient clipping, weight decay and
  schedules would be written again in each. Here they are transformations that `chain` composes.
"""

from __future__ import annotations

from funcdl.absent import getter
from funcdl.optim.adam import ScaleByAdamState, adam, adamw, scale_by_adam
from funcdl.optim.base import (
    EmptyState,
    GradientTransformation,
    apply_updates,
    chain,
    identity,
)
from funcdl.optim.clipping import clip, clip_by_global_norm, global_norm
from funcdl.optim.learning_rate import ScaleByScheduleState, Schedule, scale_by_learning_rate
from funcdl.optim.sgd import TraceState, sgd, trace
from funcdl.optim.weight_decay import add_decayed_weights

__getattr__ = getter(__name__)

__all__ = [
    "EmptyState",
    "GradientTransformation",
    "ScaleByAdamState",
    "ScaleByScheduleState",
    "Schedule",
    "TraceState",
    "adam",
    "adamw",
    "add_decayed_weights",
    "apply_updates",
    "chain",
    "clip",
    "clip_by_global_norm",
    "global_norm",
    "identity",
    "scale_by_adam",
    "scale_by_learning_rate",
    "sgd",
    "trace",
]
