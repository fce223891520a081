"""Policies of `checkpoint`: which values of the forward pass are kept for the backward pass.

A policy is called as ``policy(primitive, *operand_avals, **params)`` for each equation, and says
whether its results may be kept. Names and meanings follow `jax.checkpoint_policies`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcdl.core.primitive import Primitive
from funcdl.core.records import record

Policy = Callable[..., bool]


def everything_saveable(primitive: Primitive, /, *avals: Any, **params: Any) -> bool:
    """Keep all that the backward pass needs, as without `checkpoint`."""
    return True


def nothing_saveable(primitive: Primitive, /, *avals: Any, **params: Any) -> bool:
    """Compute everything again from the arguments; the default."""
    return False


def dots_saveable(primitive: Primitive, /, *avals: Any, **params: Any) -> bool:
    """Keep the results of matrix products and convolutions, and compute the rest again."""
    return primitive.name in ("dot_general", "conv_general_dilated")


def dots_with_no_batch_dims_saveable(primitive: Primitive, /, *avals: Any, **params: Any) -> bool:
    """Keep the results of matrix products without batch dimensions: those with weights."""
    return primitive.name == "dot_general" and params["dimension_numbers"][1] == ((), ())


checkpoint_dots = dots_saveable
checkpoint_dots_with_no_batch_dims = dots_with_no_batch_dims_saveable


@record
class _Names:
    names: frozenset[str]
    saved: bool

    def __call__(self, primitive: Primitive, /, *avals: Any, **params: Any) -> bool:
        if primitive.name != "checkpoint_name":
            return False
        return (params["name"] in self.names) == self.saved


@record
class _AllBut:
    names: frozenset[str]

    def __call__(self, primitive: Primitive, /, *avals: Any, **params: Any) -> bool:
        return primitive.name != "checkpoint_name" or params["name"] not in self.names


@record
class _Either:
    first: Policy
    second: Policy

    def __call__(self, primitive: Primitive, /, *avals: Any, **params: Any) -> bool:
        return self.first(primitive, *avals, **params) or self.second(primitive, *avals, **params)


def save_only_these_names(*names: str) -> Policy:
    """Keep what `checkpoint_name` gave one of these names."""
    return _Names(frozenset(names), True)


def save_any_names_but_these(*names: str) -> Policy:
    """Keep what `checkpoint_name` gave a name other than these."""
    return _Names(frozenset(names), False)


def save_anything_except_these_names(*names: str) -> Policy:
    """Keep all that the backward pass needs, but for what has one of these names."""
    return _AllBut(frozenset(names))


def save_from_both_policies(first: Policy, second: Policy) -> Policy:
    """Keep what either policy keeps."""
    return _Either(first, second)
