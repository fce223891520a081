"""The current trace, and tracers.

A transform runs a function under a *trace*: every primitive that is bound meanwhile is handed to
that trace, which interprets it and may bind primitives under its parent in turn. The current trace
is held in a thread-local context, so there are no levels to compare and no stack to search.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from funcdl.config import config
from funcdl.core.array import Array, ArrayOperators
from funcdl.core.conversions import TracerConversions
from funcdl.core.device_buffer import DeviceBuffer, backend_of, on_first_use
from funcdl.core.source import SourceLine, current
from funcdl.errors import LeakedTracerError

if TYPE_CHECKING:
    from funcdl.core.axes import Axis
    from funcdl.core.primitive import Primitive


class Trace:
    """How primitives are interpreted while some function is being transformed."""

    __slots__ = ("alive", "name", "parent")

    axis: Axis | None = None
    """The axis that the trace maps, where it has a name."""

    def __init__(self, name: str, parent: Trace | None) -> None:
        self.name = name
        self.parent = parent
        self.alive = True

    def process(self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Interpret one application of a primitive."""
        raise AssertionError(f"{type(self).__name__} interprets nothing")

    def arguments_behind(self, x: Any) -> list[str]:
        """Names of the traced function's arguments that a tracer depends on, where known."""
        return []

    def is_argument(self, x: Any) -> bool:
        """Whether a tracer is one of the traced function's arguments."""
        return False

    def stands_for(self, x: Any) -> bool:
        """Whether this trace puts a value in the place of a tracer from elsewhere."""
        return False


class EvalTrace(Trace):
    """The bottom of every chain of traces: computes with NumPy at once."""

    __slots__ = ()

    def process(self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        if primitive.eval is not None:
            return primitive.eval(*args, **params)
        values = []
        weak = []
        for arg in args:
            if type(arg) is not Array:
                raise_leaked(arg)
            # The property, which checks for deletion, only where this is not a plain live array.
            value = arg._value
            if type(value) is not np.ndarray:
                if isinstance(value, DeviceBuffer):
                    return self._process_on_device(primitive, args, params)
                value = arg.value
            values.append(value)
            weak.append(arg.weak_type)
        out = primitive.impl(*values, **params)  # type: ignore[misc]  # every primitive has one
        # Without a weak operand no result is weak, except of operations that say so themselves.
        may_be_weak = True in weak or not weak or "weak_type" in params
        is_weak = may_be_weak and primitive.weak(weak, **params)
        if primitive.multiple_results:
            return [Array(value, is_weak) for value in out]
        if out.base is not None:
            # A view: its memory has several owners now, so none of them may donate it.
            out.flags.writeable = False
            for value in values:
                value.flags.writeable = False
        return Array(out, is_weak)

    def _process_on_device(
        self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]
    ) -> Any:
        from funcdl.core.eager_device import evaluate

        for arg in args:
            if type(arg) is not Array:
                raise_leaked(arg)
        platform = backend_of(x._value for x in args)
        if platform in ("cpu", "reference"):
            on_host = tuple(Array(x.value, x.weak_type) for x in args)
            return EvalTrace.process(self, primitive, on_host, params)
        return evaluate(platform, primitive, args, params)


class PlacedEvalTrace(EvalTrace):
    """The same once arrays are on devices: eager functions take no short cuts past `process`."""

    __slots__ = ()


eval_trace = EvalTrace("eval", None)


def _choose_eval_trace() -> None:
    if type(eval_trace) is EvalTrace:
        eval_trace.__class__ = PlacedEvalTrace


on_first_use(_choose_eval_trace)


class _Context(threading.local):
    trace: Trace = eval_trace


context = _Context()


class current_trace:
    """Context manager that makes `trace` the current one."""

    __slots__ = ("previous", "trace")

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def __enter__(self) -> Trace:
        self.previous = context.trace
        context.trace = self.trace
        return self.trace

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        context.trace = self.previous


class new_trace(current_trace):
    """Like `current_trace`, for a trace that ends here: tracers used later have leaked."""

    __slots__ = ()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self.trace.alive = False


class Tracer(TracerConversions, ArrayOperators):
    """A stand-in for an array while a function is traced."""

    __slots__ = ("_trace", "source")

    _trace: Trace
    source: SourceLine | None

    @property
    def weak_type(self) -> bool:
        return self.aval.weak_type

    def __repr__(self) -> str:
        return f"Tracer<{self.aval}>(under {self._trace.name})"


def where_made(*inner: Any) -> SourceLine | None:
    """The source line of a new tracer that wraps these values: theirs where they have one."""
    if not config.check_tracer_leaks:  # theirs is quick to tell, and near enough otherwise
        for x in inner:
            if isinstance(x, Tracer) and x.source is not None:
                return x.source
    return current()


def is_usable(x: Tracer) -> bool:
    """Whether a tracer means something under the current trace: its own trace is among the outer
    ones and has not ended, or one of them puts a value in its place."""
    trace: Trace | None = context.trace
    while trace is not None:
        if trace.stands_for(x) or (trace is x._trace and trace.alive):
            return True
        trace = trace.parent
    return False


def check_alive(*xs: Any) -> None:
    """Raise `LeakedTracerError` for a tracer whose transform has ended."""
    for x in xs:
        if isinstance(x, Tracer) and not x._trace.alive and not is_usable(x):
            raise_leaked(x)


def raise_leaked(x: Any) -> None:
    """Explain why `x` cannot be computed with."""
    if not isinstance(x, Tracer):
        raise TypeError(f"expected an Array, got {type(x).__name__}: {x!r}")
    origin = getattr(x, "source", None)
    where = f"\nIt was created at {origin.describe()}" if origin is not None else ""
    raise LeakedTracerError(
        f"a traced value of type {x.aval} was used outside the function that was being traced "
        f"by {x._trace.name}.{where}\n"
        "It leaked through a side effect, such as a global, an attribute, or a list of an outer "
        "scope that the traced function wrote to: return the value from the function instead. "
        "Or a custom derivative rule defined inside that function uses it: pass it as an argument."
    )
