"""What all elementwise special functions share: promotion, and single precision at least."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from funcdl.core import dtypes
from funcdl.core.source import name_frames
from funcdl.errors import DtypeError
from funcdl.numpy.promotion import broadcast, convert, promote_inexact
from funcdl.ops.lowering import compute_dtype


def bind(
    name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> inspect.BoundArguments:
    """The arguments by the parameters of a function, which errors name as Python does.

    Raises:
      TypeError: they do not fit.
    """
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}() {error}") from None


def elementwise(function: Callable[..., Any], *, takes_complex: bool = False) -> Callable[..., Any]:
    """Give a function of arrays operands of one float dtype and one shape.

    Half precision is computed in float32. All operands may be passed by keyword.

    Args:
      takes_complex: whether the function is defined for complex numbers, too.

    Raises:
      DtypeError: an operand is complex, and the function is not defined for it.
      ShapeError: the shapes do not broadcast.
    """
    name = function.__name__
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != len(signature.parameters):
            args = bind(name, signature, args, kwargs).args
        xs = broadcast(name, *promote_inexact(name, *args))
        dtype = xs[0].aval.dtype
        if dtypes.is_complex(dtype) and not takes_complex:
            raise DtypeError(f"{name} takes real numbers, got {', '.join(str(x.aval) for x in xs)}")
        wide = compute_dtype(dtype)
        if wide == dtype:
            return function(*xs)
        return convert(function(*(convert(x, wide) for x in xs)), dtype)

    name_frames(wrapped, name)
    if function.__doc__:
        wrapped.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\n{_facts(name, takes_complex)}"
    return wrapped


def _facts(name: str, takes_complex: bool) -> str:
    """The part of a docstring that all of these functions share."""
    refused = "" if takes_complex else "\n  DtypeError: an operand is complex."
    return (
        f"As `scipy.special.{name}`. Operands are broadcast to one shape and promoted to one\n"
        "floating dtype, which the result has; half precision is computed in float32.\n\n"
        "Raises:\n  LeafTypeError: an operand is no array or scalar.\n"
        f"  ShapeError: the shapes do not broadcast.{refused}"
    )


def analytic(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `elementwise`, for a function that is defined for complex numbers, too."""
    return elementwise(function, takes_complex=True)
