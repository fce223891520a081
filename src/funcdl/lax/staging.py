"""What programs say about how they are to be compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcdl.core import tree
from funcdl.core.array import as_array
from funcdl.errors import ArgumentError
from funcdl.ops import barrier
from funcdl.transforms.arguments import check_function


def optimization_barrier(operand: Any, /) -> Any:
    """The same values, of which none is used before all are there (`jax.lax.optimization_barrier`).

    To the compiler they are new values: what is computed from them is not shared with what was
    computed from the operands.

    Args:
      operand: a pytree of arrays.
    """
    leaves, treedef = tree.flatten(operand)
    xs = [as_array(leaf) for leaf in leaves]
    outs = [barrier.optimization_barrier(x, *xs[:i], *xs[i + 1 :]) for i, x in enumerate(xs)]
    return treedef.unflatten(outs)


def platform_dependent(
    *args: Any,
    default: Callable[..., Any] | None = None,
    **per_platform: Callable[..., Any],
) -> Any:
    """What the function for this platform returns (see `jax.lax.platform_dependent`).

    The platform is known when a program is traced, and is ``cpu``; other functions are not called.

    Args:
      args: arguments of the function, pytrees of arrays.
      default: for platforms that are not named.
      per_platform: functions by platform: ``cpu=…``, ``cuda=…``.

    Raises:
      ArgumentError: there is neither ``cpu`` nor `default`.
    """
    function = per_platform.get("cpu", default)
    if function is None:
        raise ArgumentError(
            "platform_dependent requires a function for the platform 'cpu' or a default, got "
            f"{sorted(per_platform)}"
        )
    given = per_platform if default is None else {**per_platform, "default": default}
    for which, branch in given.items():
        check_function("platform_dependent", branch, which)
    return function(*(tree.map(as_array, arg) for arg in args))
