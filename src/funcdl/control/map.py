"""map: a function applied to one slice after the other, as a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcdl.control.scan import run_scan, steps_of
from funcdl.core import tree
from funcdl.core.integers import integer
from funcdl.errors import ArgumentError
from funcdl.ops.shape import reshape
from funcdl.ops.slicing import concatenate, slice_
from funcdl.transforms.arguments import as_arrays, check_function, function_name
from funcdl.transforms.vmap import vmap


def map(f: Callable[[Any], Any], xs: Any, *, batch_size: int | None = None) -> Any:
    """``stack([f(x) for x in xs])``, one at a time or in batches (see `jax.lax.map`).

    Unlike under `vmap`, memory is that of one call, and a `cond` in `f` runs one branch.

    Args:
      f: a function of one slice, returning a pytree of arrays.
      xs: a pytree of arrays with equal leading axes.
      batch_size: how many slices to compute at once, by `vmap`; the last batch may be smaller.

    Returns:
      A pytree with the structure of `f`'s output, and results stacked along the first axis.

    Raises:
      ArgumentError: `xs` has no arrays, lengths differ, or `batch_size` is less than 1.
    """
    check_function("map", f)

    def one(_: None, x: Any) -> tuple[None, Any]:
        return None, f(x)

    if batch_size is None:
        return run_scan("map", one, None, xs, None, False, f)[1]
    size = integer("map: batch_size", batch_size)
    if size < 1:
        raise ArgumentError(f"map requires a batch_size of 1 or more, got {batch_size}")
    leaves, treedef = as_arrays("xs", xs, "map")
    count = steps_of("map", function_name(f), xs, leaves, None)
    whole = count - count % size
    together = vmap(f)

    def several(_: None, x: Any) -> tuple[None, Any]:
        return None, together(x)

    parts = []
    if whole or not count:
        batches = treedef.unflatten(
            reshape(_rows(x, 0, whole), new_sizes=(whole // size, size, *x.shape[1:]))
            for x in leaves
        )
        found = run_scan("map", several, None, batches, None, False, f)[1]
        parts.append(tree.map(lambda y: reshape(y, new_sizes=(whole, *y.shape[2:])), found))
    if whole < count:
        parts.append(together(treedef.unflatten(_rows(x, whole, count) for x in leaves)))
    if len(parts) == 1:
        return parts[0]
    return tree.map(lambda a, b: concatenate(a, b, dimension=0), *parts)


def _rows(x: Any, start: int, stop: int) -> Any:
    if (start, stop) == (0, x.shape[0]):
        return x
    starts = (start, *(0 for _ in x.shape[1:]))
    return slice_(x, start_indices=starts, limit_indices=(stop, *x.shape[1:]), strides=None)
