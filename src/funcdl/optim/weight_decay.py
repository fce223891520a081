"""Weight decay as a transformation of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcdl.core import tree
from funcdl.errors import ArgumentError, TreeError
from funcdl.optim.base import (
    GradientTransformation,
    Params,
    Updates,
    check_structure,
    stateless,
)

Mask = Callable[[Params], Any] | Any | None
"""A tree prefix of the parameters with bool leaves, a function that makes one, or None for all."""


def add_decayed_weights(weight_decay: float = 0.0, mask: Mask = None) -> GradientTransformation:
    """Add ``weight_decay * params`` to the updates (see `optax.add_decayed_weights`).

    Args:
      weight_decay: the factor.
      mask: which parameters decay: a pytree prefix of `params` with bool leaves, or a function of
        `params` that returns one. None means all of them.

    Raises (in `update`):
      ArgumentError: `params` was not given.
      TreeError: updates or mask do not fit `params`.
    """

    def decay(updates: Updates, params: Params) -> Updates:
        if params is None:
            raise ArgumentError(
                "weight decay needs the parameters, got params=None; write "
                "optimizer.update(gradients, state, params)"
            )
        check_structure("add_decayed_weights", updates, params)
        chosen = tree.unflatten(tree.structure(params), _leaf_mask(mask, params))
        return tree.map(lambda g, p, on: g + weight_decay * p if on else g, updates, params, chosen)

    return stateless(decay)


def _leaf_mask(mask: Mask, params: Params) -> list[bool]:
    if mask is None:
        return [True] * len(tree.leaves(params))
    given = mask(params) if callable(mask) else mask
    try:
        return tree.broadcast_prefix(given, params)
    except ValueError:
        raise TreeError(
            "add_decayed_weights requires mask to be a tree prefix of params:\n"
            f"  mask:   {tree.structure(given)}\n  params: {tree.structure(params)}"
        ) from None
