"""composite: a function that programs show as one call with a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcdl.core import tree
from funcdl.core.integers import integer
from funcdl.transforms.arguments import as_arrays, check_function, function_name
from funcdl.transforms.jit_primitive import jit_call
from funcdl.transforms.programs import trace_body


def composite(decomposition: Callable[..., Any], name: str, version: int = 0) -> Callable[..., Any]:
    """A function that programs show as one call with a name (see `jax.lax.composite`).

    Args:
      decomposition: what it computes, and how it is differentiated and compiled.
      name: of the call, such as ``"my.layer_norm"``.
      version: of the operation's meaning; later than 0 it is part of the name.

    Returns:
      A function of the same positional arguments, pytrees of arrays. Keyword arguments are static.
    """
    check_function("composite", decomposition)
    version = integer("composite: version", version)
    title = name if not version else f"{name}@{version}"

    def call(*args: Any, **attributes: Any) -> Any:
        def body(*xs: Any) -> Any:
            return decomposition(*xs, **attributes)

        leaves, _ = as_arrays("args", args, "composite")
        program, captured, out_tree = trace_body(
            body, tree.structure(args), [x.aval for x in leaves], f"composite {title}"
        )
        operands = [*captured, *leaves]
        outs = jit_call.bind(*operands, jaxpr=program, name=title, donated=(False,) * len(operands))
        return out_tree.unflatten(outs)

    call.__name__ = function_name(decomposition)
    return call
