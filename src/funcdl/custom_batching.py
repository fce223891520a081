"""Functions with their own rules for vmap (see `jax.custom_batching`)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from funcdl.control.map import map as map_
from funcdl.core import tree
from funcdl.transforms.custom.vmap import custom_vmap

__all__ = ["custom_vmap", "sequential_vmap"]


def sequential_vmap(fun: Callable[..., Any]) -> custom_vmap:
    """A function that vmap calls for one element after the other (`jax.custom_batching`).

    The calls are the steps of one loop, as with `lax.map`: memory is that of one call, and a `cond`
    runs one branch.

    Args:
      fun: a function of pytrees of arrays, with positional arguments.
    """
    mapped = custom_vmap(fun)

    @functools.wraps(fun)
    def rule(axis_size: int, in_batched: list[Any], *args: Any) -> tuple[Any, Any]:
        flags = tree.leaves(tuple(in_batched))
        leaves, treedef = tree.flatten(args)
        batched = [x for x, flag in zip(leaves, flags, strict=True) if flag]

        def one(xs: list[Any]) -> Any:
            given = iter(xs)
            values = [next(given) if f else x for x, f in zip(leaves, flags, strict=True)]
            return fun(*treedef.unflatten(values))

        if not batched:
            out = fun(*args)
            return out, tree.map(lambda _: False, out)
        out = map_(one, batched)
        return out, tree.map(lambda _: True, out)

    mapped.def_vmap(rule)
    return mapped
