"""fwd_and_bwd: the forward and the backward pass as two functions, each compiled once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcdl.core.options import flag
from funcdl.errors import ArgumentError
from funcdl.transforms.arguments import distinct_argnums, function_name
from funcdl.transforms.derivatives import vjp
from funcdl.transforms.jit import jit
from funcdl.transforms.linearized import Pullback


def fwd_and_bwd(
    fun: Callable[..., Any],
    argnums: int | Sequence[int],
    has_aux: bool = False,
    jitted: bool = True,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The forward and the backward pass of a function (see `jax.fwd_and_bwd`).

    Args:
      fun: a function of pytrees of arrays.
      argnums: the positional arguments to differentiate by.
      has_aux: whether `fun` returns a pair ``(output, aux)``.
      jitted: whether to jit both results.

    Returns:
      ``fwd(*args)``, which returns ``(output, residuals)``, and `aux` third if `has_aux`; and
      ``bwd(residuals, cotangent)``, which returns a tuple with one cotangent for each of `argnums`.
      Residuals are a pytree of arrays.

    Raises:
      ArgumentError: `argnums` is out of range, or `bwd` is given other residuals.
    """
    jitted = flag("fwd_and_bwd: jitted", jitted)
    name = function_name(fun)

    def fwd(*args: Any) -> Any:
        positions = distinct_argnums(argnums, len(args), "argnums", name)

        def chosen(*values: Any) -> Any:
            full = list(args)
            for i, value in zip(positions, values, strict=True):
                full[i] = value
            return fun(*full)

        chosen.__name__ = name
        return vjp(chosen, *(args[i] for i in positions), has_aux=has_aux)

    def bwd(residuals: Pullback, cotangent: Any) -> Any:
        if not isinstance(residuals, Pullback):
            raise ArgumentError(
                f"the backward pass of {name} requires the residuals that its forward pass "
                f"returned, got {type(residuals).__name__}"
            )
        return residuals(cotangent)

    fwd.__name__, bwd.__name__ = f"fwd_{name}", f"bwd_{name}"
    return (jit(fwd), jit(bwd)) if jitted else (fwd, bwd)
