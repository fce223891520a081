"""Staging: run a function under a trace that records every primitive into a jaxpr."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcdl.config import config
from funcdl.core import source
from funcdl.core.array import Array, as_array
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Literal, Var
from funcdl.core.leaks import check_leaks
from funcdl.core.primitive import Primitive
from funcdl.core.trace import Trace, Tracer, check_alive, context, new_trace, raise_leaked


class JaxprTracer(Tracer):
    """A variable of the program being recorded."""

    __slots__ = ("_var",)

    def __init__(self, trace: JaxprTrace, var: Var, where: source.SourceLine | None) -> None:
        self._trace = trace
        self._var = var
        self.source = where

    @property
    def aval(self) -> ShapedArray:
        return self._var.aval


class JaxprTrace(Trace):
    """Records equations; values from outside become constants."""

    __slots__ = ("_consts", "_eqns", "_invars", "_names")

    def __init__(
        self, name: str, parent: Trace | None = None, names: Sequence[str] | None = None
    ) -> None:
        super().__init__(name, parent)
        self._names = names
        self._eqns: list[Eqn] = []
        self._invars: list[Var] = []
        self._consts: dict[int, tuple[Var, Any]] = {}

    def new_input(self, aval: ShapedArray) -> JaxprTracer:
        """A tracer for one more input of the program."""
        var = Var(aval)
        self._invars.append(var)
        return JaxprTracer(self, var, source.current())

    def owns(self, x: Any) -> bool:
        return isinstance(x, JaxprTracer) and x._trace is self

    def atom(self, x: Any) -> Atom:
        """The variable or literal that stands for a value in the program."""
        if isinstance(x, JaxprTracer) and x._trace is self:
            return x._var
        if not isinstance(x, Array | Tracer):
            x = as_array(x)
        if isinstance(x, Array):
            _ = x.value  # a deleted array must fail here, at the user's line
            if x.aval.shape == ():
                return Literal(x)
        elif not self.reaches(x):
            raise_leaked(x)
        known = self._consts.get(id(x))
        if known is None:
            # The dict also keeps `x` alive, so that its id stays its own.
            known = self._consts[id(x)] = (Var(x.aval), x)
        return known[0]

    def reaches(self, x: Tracer) -> bool:
        """Whether a tracer means something further out, so that it may be a constant here."""
        outer = self.parent
        while outer is not None and outer is not x._trace and not outer.stands_for(x):
            outer = outer.parent
        return outer is not None and outer.alive

    def process(self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        if primitive.stage is not None:
            return primitive.stage(self, args, params)
        return self.record(primitive, args, params)

    def record(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Add one equation; returns tracers for its outputs."""
        # Nearly all that tracing costs is here, so the usual cases are written out.
        invars = [
            x._var if type(x) is JaxprTracer and x._trace is self else self.atom(x) for x in args
        ]
        avals = primitive.output_avals([atom.aval for atom in invars], params)
        where = source.current()
        if primitive.multiple_results:
            outvars = [Var(aval) for aval in avals]
            self._eqns.append(Eqn(primitive, invars, outvars, params, where))
            return [JaxprTracer(self, var, where) for var in outvars]
        (aval,) = avals
        var = Var(aval)
        self._eqns.append(Eqn(primitive, invars, (var,), params, where))
        return JaxprTracer(self, var, where)

    def arguments_behind(self, x: Any) -> list[str]:
        if self._names is None:
            return []
        needed = {x._var}
        for eqn in reversed(self._eqns):
            if not needed.isdisjoint(eqn.outvars):
                needed.update(atom for atom in eqn.invars if isinstance(atom, Var))
        pairs = zip(self._names, self._invars, strict=True)
        return [name for name, var in pairs if var in needed]

    def is_argument(self, x: Any) -> bool:
        return x._var in self._invars

    def to_jaxpr(
        self, outs: Sequence[Any], names: Sequence[str] | None = None
    ) -> tuple[Jaxpr, list[Any]]:
        """The program that computes `outs`, and the values of its constants."""
        outvars = [self.atom(x) for x in outs]
        constvars = [var for var, _ in self._consts.values()]
        consts = [x for _, x in self._consts.values()]
        # A tracer that a custom rule closes over has this trace; it must not keep the values, too.
        self._consts.clear()
        return Jaxpr(constvars, self._invars, outvars, self._eqns, names), consts


def trace_to_jaxpr(
    f: Callable[..., Sequence[Any]],
    avals: Sequence[ShapedArray],
    *,
    name: str = "jit",
    names: Sequence[str] | None = None,
) -> tuple[Jaxpr, list[Any]]:
    """Trace `f`, a function of flat arguments that returns a flat sequence.

    Returns the jaxpr and the values of its constants, which may be tracers of outer traces.
    """
    trace = JaxprTrace(name, context.trace, names)
    with new_trace(trace):
        args = [trace.new_input(aval) for aval in avals]
        outs = f(*args)
        check_alive(*outs)
        traced = trace.to_jaxpr(outs, names)
    if config.check_tracer_leaks:
        del args, outs
        check_leaks(trace)
    return traced


def hoist_consts(jaxpr: Jaxpr, consts: Sequence[Any]) -> tuple[ClosedJaxpr, list[Any]]:
    """Close over the constants that are arrays; turn those that are tracers into leading inputs.

    Returns the closed program and the tracers to pass before its own arguments.
    """
    closed = [(v, x) for v, x in zip(jaxpr.constvars, consts, strict=True) if type(x) is Array]
    passed = [(v, x) for v, x in zip(jaxpr.constvars, consts, strict=True) if type(x) is not Array]
    names = jaxpr.names
    if names is not None:
        names = tuple(f"captured{i}" for i in range(len(passed))) + names
    program = jaxpr.replace(
        constvars=tuple(v for v, _ in closed),
        invars=tuple(v for v, _ in passed) + jaxpr.invars,
        names=names,
    )
    return ClosedJaxpr(program, [x for _, x in closed]), [x for _, x in passed]
