"""Clipping of gradients, as the first link of a chain."""

from __future__ import annotations

from typing import Any

import funcdl.numpy as fnp
from funcdl.core import dtypes, tree
from funcdl.optim.base import GradientTransformation, Params, Updates, stateless


def global_norm(updates: Updates) -> Any:
    """The Euclidean norm of all elements of a pytree together (see `optax.global_norm`).

    Returns:
      A scalar, 0 for a pytree without elements. Leaves of half precision are squared and added up
      in float32.
    """
    return fnp.sqrt(sum((_square_sum(leaf) for leaf in tree.leaves(updates)), fnp.zeros(())))


def clip_by_global_norm(max_norm: float | Any) -> GradientTransformation:
    """Shorten updates whose global norm is above `max_norm` to it (see
    `optax.clip_by_global_norm`; R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of
    training recurrent neural networks", 2013).

    Args:
      max_norm: the longest norm that stays. Shapes and dtypes of updates stay; a NaN among them
        makes all of them NaN.
    """

    def clipped(updates: Updates, params: Params) -> Updates:
        norm = global_norm(updates)
        # Not one factor for both cases: what is short enough keeps its bits.
        is_short = norm < max_norm

        def shorten(leaf: Any) -> Any:
            leaf = fnp.asarray(leaf)
            return fnp.where(is_short, leaf, (leaf * (max_norm / norm)).astype(leaf.dtype))

        return tree.map(shorten, updates)

    return stateless(clipped)


def clip(max_delta: float | Any) -> GradientTransformation:
    """Clip each element of the updates to ``[-max_delta, max_delta]`` (see `optax.clip`).

    Args:
      max_delta: the largest magnitude that stays. Shapes and dtypes of updates stay, and NaN.
    """
    return stateless(
        lambda updates, params: tree.map(lambda g: fnp.clip(g, -max_delta, max_delta), updates)
    )


def _square_sum(leaf: Any) -> Any:
    leaf = fnp.asarray(leaf)
    wide = fnp.float32 if leaf.dtype in dtypes.HALF else leaf.dtype
    return fnp.sum(fnp.square(fnp.abs(leaf.astype(wide))))
