"""What Python and NumPy may ask of a traced value, and the errors that say why there is no answer.

As in JAX, truth values and integers of values under `jvp` and `grad` alone are known, since the
function then runs on actual numbers; no derivative is lost, as they are piecewise constant.
"""

from __future__ import annotations

import operator
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from funcdl.errors import (
    ConcretizationError,
    TracerArrayError,
    TracerBoolError,
)

if TYPE_CHECKING:
    from types import FrameType

    from funcdl.core.trace import Tracer

_BOOL = "a truth value (if, while, and, or, not, assert, bool())"
_BRANCH = (
    "Choose between results with funcdl.numpy.where or funcdl.lax.cond, combine conditions with "
    "&, | and ~, and loop with funcdl.lax.while_loop"
)
_INDEX = "an integer (range(), a size, a position in a list)"
_INTEGER = "Loop with funcdl.lax.fori_loop, and index an array rather than a list"
_NUMBER = "Keep the array, and change its dtype with x.astype(...)"
_NUMPY = (
    "Use the function of the same name in funcdl.numpy, and funcdl.numpy.asarray instead of "
    "numpy.asarray"
)
_DECIDES = (
    "Values that decide the shapes or the steps of a program must be known when it is traced: take "
    "them from x.shape or from Python numbers"
)
_PYTHON = "Return the array from the function and convert it outside"


class TracerConversions:
    """The conversions of tracers to Python and NumPy values."""

    __slots__ = ()

    transparent = False
    """Whether the value wrapped is this tracer's own value, with something beside it."""

    def inner(self) -> Any:
        """The value one trace further out that this one wraps; None where there is none."""
        return None

    def __bool__(self: Any) -> bool:
        return bool(_known(self, TracerBoolError, _BOOL, _BRANCH))

    def __index__(self: Any) -> int:
        return operator.index(_known(self, ConcretizationError, _INDEX, _INTEGER))

    def __int__(self: Any) -> int:
        return int(_known(self, ConcretizationError, "int()", _INTEGER))

    def __float__(self: Any) -> float:
        _refuse(self, ConcretizationError, "float()", _NUMBER)

    def __complex__(self: Any) -> complex:
        _refuse(self, ConcretizationError, "complex()", _NUMBER)

    def item(self: Any, *index: int) -> Any:
        """Fails: a traced array has no elements yet."""
        _refuse(self, ConcretizationError, "item()", _PYTHON)

    def tolist(self: Any) -> Any:
        """Fails: a traced array has no elements yet."""
        _refuse(self, ConcretizationError, "tolist()", _PYTHON)

    def __format__(self: Any, spec: str) -> str:
        if spec:
            _refuse(self, ConcretizationError, f"text in the format {spec!r}", _PYTHON)
        return repr(self)

    def __array__(self: Any, dtype: Any = None, copy: bool | None = None) -> Any:
        _refuse(
            self, TracerArrayError, "a NumPy array (numpy.asarray() or a NumPy function)", _NUMPY
        )


def _origin(x: Any) -> Any:
    """The tracer that decides whether a value is known."""
    while x.transparent and isinstance(inner := x.inner(), TracerConversions):
        x = inner
    return x


def _known(x: Tracer, kind: type[Exception], what: str, advice: str) -> Any:
    origin = _origin(x)
    if not origin.transparent:
        _refuse(x, kind, what, advice)
    return origin.inner()


def _refuse(x: Tracer, kind: type[Exception], what: str, advice: str) -> NoReturn:
    from funcdl.core.trace import check_alive

    check_alive(x)
    origin = _origin(x)
    name = origin._trace.name
    asking = _asking_function(sys._getframe(1))
    if asking is not None:
        # It was no `if` or `int()` of the user's: what those advise would mislead.
        kind, advice = ConcretizationError, _DECIDES
        what = f"{asking} needs the value of an argument; that"
        found = f"{asking} needs the value of an argument, and got a traced array ({x.aval}):"
    else:
        found = f"{what} was asked of a traced array ({x.aval}), but"
    if origin.transparent:
        lines = [f"{what} of a traced array ({x.aval}) would lose its derivative in {name}."]
        way_out = "; where none is wanted, use funcdl.lax.stop_gradient(x) first"
    elif name.startswith("vmap"):
        lines = [f"{found} {name} holds a batch of them."]
        way_out = ", or pass the argument whole (in_axes=None)"
    else:
        lines = [f"{found} {name} knows only its type."]
        static = kind is not TracerArrayError and name.startswith(("jit", "make_jaxpr"))
        way_out = ", or make the argument static (static_argnums, static_argnames)" * static
    names, is_argument = _arguments_behind(x)
    if names:
        lines.append(f"It {'is' if is_argument else 'depends on'} {_join(names)}.")
    if x.source is not None:
        made = "passed" if is_argument else "created"
        lines.append(f"It was {made} at {x.source.describe()}")
    raise kind("\n".join([*lines, f"{advice}{way_out}."]))


def _asking_function(frame: FrameType | None) -> str | None:
    """The library's public function that asks for a value, None where the user's code does."""
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    module = "" if frame is None else str(frame.f_globals.get("__name__"))
    # These call functions of the user's, which may be NumPy's own.
    if module.startswith(_CALLERS):
        return None
    from funcdl.called import find_call

    call = find_call(frame)
    return None if call is None else call.name


_CALLERS = ("funcdl.control.", "funcdl.numpy.functional", "funcdl.numpy.vectorization")


def _arguments_behind(x: Any) -> tuple[list[str], bool]:
    """The arguments that a value depends on, and whether it is one itself."""
    while isinstance(x, TracerConversions):
        # Every subclass is a tracer and has a trace; this base stands below that module.
        trace: Any = x._trace  # type: ignore[attr-defined]
        if names := trace.arguments_behind(x):
            return names, trace.is_argument(x)
        x = x.inner()
    return [], False


def _join(names: list[str], limit: int = 4) -> str:
    shown = ", ".join(names[:limit])
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"argument{'s' * (len(names) > 1)} {shown}{more}"
