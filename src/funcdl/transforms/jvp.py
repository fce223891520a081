"""Forward-mode differentiation: push tangents through a function beside its primal values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcdl.config import config
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr, eval_jaxpr
from funcdl.core.leaks import check_leaks
from funcdl.core.primitive import Primitive
from funcdl.core.staging import trace_to_jaxpr
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.core.trace import Trace, Tracer, context, current_trace, new_trace, where_made
from funcdl.errors import MissingRuleError
from funcdl.ops.shape import instantiate
from funcdl.transforms.weak_cache import cached_on_first

Tangent = Any  # an array, a tracer, or a `Zero`


class JVPTracer(Tracer):
    """A primal value and its tangent."""

    __slots__ = ("primal", "tangent")

    transparent = True

    def __init__(self, trace: JVPTrace, primal: Any, tangent: Tangent) -> None:
        self._trace = trace
        self.primal = primal
        self.tangent = tangent
        self.source = where_made(primal, tangent)

    @property
    def aval(self) -> ShapedArray:
        aval: ShapedArray = self.primal.aval
        return aval

    def inner(self) -> Any:
        return self.primal


class JVPTrace(Trace):
    """Applies each primitive's jvp rule; rules bind under the parent."""

    __slots__ = ()

    def split(self, x: Any) -> tuple[Any, Tangent]:
        """The primal and tangent of a value; values from outside have a zero tangent."""
        if type(x) is JVPTracer and x._trace is self:
            return x.primal, x.tangent
        return x, Zero(x.aval.to_tangent())

    def join(self, primal: Any, tangent: Tangent) -> Any:
        """A tracer for the pair, or the primal alone where the tangent is zero."""
        return primal if is_zero(tangent) else JVPTracer(self, primal, tangent)

    def process(self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        assert self.parent is not None
        if not any(type(x) is JVPTracer and x._trace is self for x in args):
            with current_trace(self.parent):
                return primitive.bind(*args, **params)
        primals, tangents = zip(*map(self.split, args), strict=True)
        if primitive.jvp is None:
            raise MissingRuleError(f"primitive {primitive.name} has no jvp rule")
        with current_trace(self.parent):
            out, tangent = primitive.jvp(primals, tangents, **params)
        if primitive.multiple_results:
            return [self.join(p, t) for p, t in zip(out, tangent, strict=True)]
        return self.join(out, tangent)


def jvp_flat(
    f: Callable[..., Sequence[Any]],
    primals: Sequence[Any],
    tangents: Sequence[Tangent],
    parent: Trace | None = None,
    name: str = "jvp",
) -> tuple[list[Any], list[Tangent]]:
    """Outputs and output tangents of a function of flat arguments.

    The function's primitives are interpreted under `parent`, by default the current trace; `name`
    is for messages.
    """
    trace = JVPTrace(name, context.trace if parent is None else parent)
    with new_trace(trace):
        args = [trace.join(p, t) for p, t in zip(primals, tangents, strict=True)]
        pairs = [trace.split(out) for out in f(*args)]
    if config.check_tracer_leaks:
        del args
        check_leaks(trace)
    return [p for p, _ in pairs], [t for _, t in pairs]


@cached_on_first
def jvp_jaxpr(
    program: ClosedJaxpr, nonzero: tuple[bool, ...], instantiated: tuple[bool, ...] = ()
) -> tuple[ClosedJaxpr, tuple[bool, ...]]:
    """The program that also computes tangents.

    Its inputs are the original ones, then tangents for the inputs flagged `nonzero`; its outputs
    the original ones, then tangents for the outputs flagged by the second result, among them all
    flagged `instantiated`.
    """
    nonzero_out: list[bool] = []

    def run(*args: Any) -> list[Any]:
        primals = args[: len(nonzero)]
        given = iter(args[len(nonzero) :])
        tangents = [
            next(given) if nz else Zero(p.aval.to_tangent())
            for p, nz in zip(primals, nonzero, strict=True)
        ]
        outs, out_tangents = jvp_flat(
            lambda *xs: eval_jaxpr(program.jaxpr, program.consts, xs), primals, tangents
        )
        for i, flag in enumerate(instantiated):
            if flag:
                out_tangents[i] = instantiate(out_tangents[i])
        nonzero_out[:] = [not is_zero(t) for t in out_tangents]
        return outs + [t for t in out_tangents if not is_zero(t)]

    avals = program.in_avals
    tangent_avals = [a.to_tangent() for a, nz in zip(avals, nonzero, strict=True) if nz]
    jaxpr, consts = trace_to_jaxpr(run, avals + tangent_avals, name="jvp")
    return ClosedJaxpr(jaxpr, consts), tuple(nonzero_out)


def with_tangents(outs: Sequence[Any], nonzero: Sequence[bool]) -> tuple[list[Any], list[Tangent]]:
    """The outputs of a program that `jvp_jaxpr` made, apart: the original ones, and their tangents.

    `nonzero` flags those of which the program returns a tangent; the others' are `Zero`.
    """
    primals, found = list(outs[: len(nonzero)]), iter(outs[len(nonzero) :])
    return primals, [
        next(found) if flag else Zero(x.aval.to_tangent())
        for x, flag in zip(primals, nonzero, strict=True)
    ]
