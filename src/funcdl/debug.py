"""Looking into traced programs while they run: `print` and `callback` (see `jax.debug`)."""

from __future__ import annotations

import builtins
import string
from collections.abc import Callable, Sequence
from typing import Any

from funcdl.absent import getter
from funcdl.core import tree
from funcdl.core.array import Array, aval_of
from funcdl.core.integers import integer
from funcdl.core.placement import live_arrays
from funcdl.core.trace import Tracer
from funcdl.errors import ArgumentError, LeafTypeError
from funcdl.transforms import callback as host
from funcdl.transforms.arguments import as_arrays, function_name

__getattr__ = getter(__name__)

__all__ = ["callback", "print", "print_live_arrays"]


def callback(fn: Callable[..., Any], *args: Any, ordered: bool = False, **kwargs: Any) -> None:
    """Call a Python function for its side effects (see `jax.debug.callback`).

    The function is called once each time that the program gets there: in jitted functions, in
    every step of a loop, and in derivatives, whose tangents it does not see. Under vmap it is
    called for each element, in their order.

    Args:
      fn: takes the arguments, arrays as `Array`s; what it returns is dropped.
      args, kwargs: pytrees of arrays. Other leaves, such as strings, are passed on as they are.
      ordered: whether to keep the program's order among all ordered callbacks. Without, callbacks
        that do not depend on each other may change places.

    Raises:
      ArgumentError: `fn` cannot be called.
    """
    if not callable(fn):
        raise ArgumentError(f"debug.callback requires a function, got {type(fn).__name__}")
    leaves, in_tree = tree.flatten((args, kwargs))
    dynamic = [_is_array(x) for x in leaves]
    arrays, _ = as_arrays(
        "argument", [x for x, flag in zip(leaves, dynamic, strict=True) if flag], "debug.callback"
    )

    def call(flat: list[Array]) -> Sequence[Any]:
        given = iter(flat)
        values = [next(given) if d else x for x, d in zip(leaves_of, dynamic, strict=True)]
        rebuilt: Any = in_tree.unflatten(values)
        positional, keywords = rebuilt
        fn(*positional, **keywords)
        return ()

    # Programs live long: what they pass to the function anew must not be kept alive by it.
    leaves_of = [None if flag else x for x, flag in zip(leaves, dynamic, strict=True)]
    host.callback.bind(
        *arrays,
        fun=host.HostFunction("debug.callback", function_name(fn), call),
        out_avals=(),
        kind="debug",
        ordered=ordered,
        vmap_method=None,
    )


def print(fmt: str, *args: Any, ordered: bool = False, **kwargs: Any) -> None:
    """Print values of a traced program when it runs (see `jax.debug.print`).

    Example::

        debug.print("loss {loss:.3f} in step {}", step, loss=loss)

    Args:
      fmt: a format string as for `str.format`; no f-string, which would be filled in at trace time.
      args, kwargs: what it shows, pytrees of arrays or anything else.
      ordered: see `callback`.

    Raises:
      ArgumentError: `fmt` and the arguments do not fit together.
    """
    if not isinstance(fmt, str):
        raise ArgumentError(
            f"debug.print requires a format string first, got {type(fmt).__name__}; write "
            'debug.print("{}", x)'
        )
    _check_format(fmt, args, kwargs)

    def show(*values: Any, **named: Any) -> None:
        builtins.print(fmt.format(*values, **named), flush=True)

    callback(show, *args, ordered=ordered, **kwargs)


def print_live_arrays(limit: int | None = 20) -> None:
    """Print how many arrays of each type are alive, and their bytes, the most bytes first.

    Arrays that share memory count each for itself. See `funcdl.live_arrays`.

    Args:
      limit: how many types to print; None for all.

    Raises:
      ArgumentError: `limit` is negative.
    """
    if limit is not None and integer("print_live_arrays: limit", limit) < 0:
        raise ArgumentError(f"print_live_arrays: limit must not be negative, got {limit}")
    counts: dict[str, tuple[int, int]] = {}
    for x in live_arrays():
        nbytes, count = counts.get(str(x.aval), (0, 0))
        counts[str(x.aval)] = nbytes + x.aval.nbytes, count + 1
    rows = sorted(((nbytes, count, kind) for kind, (nbytes, count) in counts.items()), reverse=True)
    total = sum(nbytes for nbytes, _, _ in rows)
    builtins.print(f"{sum(count for _, count, _ in rows)} arrays, {total / 1e6:.3f} MB")
    for nbytes, count, kind in rows[:limit]:
        builtins.print(f"{nbytes / 1e6:7.3f} MB {count:5d}  {kind}")
    if limit is not None and len(rows) > limit:
        builtins.print(f"and {len(rows) - limit} more types")


def _is_array(x: Any) -> bool:
    try:
        aval_of(x)
    except LeafTypeError:
        return False
    return True


class _Checker(string.Formatter):
    """Looks the fields up and formats none of them, since their values are not known yet."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return ""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return value

    def check_unused_args(self, used_args: Any, args: Any, kwargs: Any) -> None:
        names = [*range(len(args)), *kwargs]
        unused = [str(name) for name in names if name not in used_args]
        if unused:
            raise ArgumentError(f"it does not use argument {', '.join(unused)}")


def _check_format(fmt: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    if f"{Tracer.__name__}<" in fmt:
        raise ArgumentError(
            f"debug.print got a string that shows a traced value already: {fmt!r}. Pass the value "
            'as an argument: debug.print("x = {x}", x=x), without an f before the string'
        )
    try:
        _Checker().vformat(fmt, args, kwargs)
    except (ArgumentError, IndexError, KeyError, ValueError) as error:
        reason = error.reason if isinstance(error, ArgumentError) else str(error)
        if isinstance(error, KeyError):
            reason = f"there is no argument {error}"
        elif isinstance(error, IndexError):
            reason = f"it asks for more than the {len(args)} positional arguments"
        raise ArgumentError(f"debug.print cannot fill in {fmt!r}: {reason}") from None
