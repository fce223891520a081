"""Partial evaluation: compute what is known now, record the rest as a program.

This is how reverse mode gets its linear program: primal values are known, tangents are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from funcdl.core.jaxpr import ClosedJaxpr, Var, eval_jaxpr
from funcdl.core.primitive import Primitive
from funcdl.core.pruning import prune_jaxpr
from funcdl.core.records import record
from funcdl.core.staging import JaxprTrace, hoist_consts
from funcdl.core.trace import context, current_trace, new_trace
from funcdl.transforms.weak_cache import cached_on_first


class PartialEvalTrace(JaxprTrace):
    """Records the equations that depend on unknown inputs; binds the others under the parent."""

    __slots__ = ()

    def process(self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        if not any(map(self.owns, args)):
            assert self.parent is not None
            with current_trace(self.parent):
                return primitive.bind(*args, **params)
        if primitive.partial_eval is not None:
            return primitive.partial_eval(self, args, params)
        return self.record(primitive, args, params)


@record
class PartialProgram:
    """A program split in two.

    `known` maps the known inputs to the known outputs followed by residuals; `unknown` maps the
    residuals and the unknown inputs to the unknown outputs. `residuals` says where each residual
    comes from: ``("in", i)`` the i-th known input, ``("out", i)`` an output of `known`.
    """

    known: ClosedJaxpr
    unknown: ClosedJaxpr
    unknown_out: tuple[bool, ...]
    residuals: tuple[tuple[str, int], ...]


@cached_on_first
def partial_eval_jaxpr(
    program: ClosedJaxpr, unknown_in: tuple[bool, ...], unknown_outs: tuple[bool, ...] = ()
) -> PartialProgram:
    """Split a program by which of its inputs are unknown.

    Outputs flagged `unknown_outs` become outputs of the unknown part even where they are known.
    """
    known_trace = JaxprTrace("partial_eval", context.trace)
    unknown_trace = PartialEvalTrace("partial_eval", known_trace)
    with new_trace(known_trace):
        with new_trace(unknown_trace):
            args = [
                (unknown_trace if unknown else known_trace).new_input(aval)
                for aval, unknown in zip(program.in_avals, unknown_in, strict=True)
            ]
            outs = eval_jaxpr(program.jaxpr, program.consts, args)
            forced = unknown_outs or (False,) * len(outs)
            unknown_out = tuple(
                flag or unknown_trace.owns(out) for out, flag in zip(outs, forced, strict=True)
            )
            unknown_jaxpr, residual_values = unknown_trace.to_jaxpr(
                [out for out, unknown in zip(outs, unknown_out, strict=True) if unknown]
            )
            unknown_jaxpr, residual_values = prune_jaxpr(unknown_jaxpr, residual_values)
        unknown, passed = hoist_consts(unknown_jaxpr, residual_values)
        known_outs = [out for out, flag in zip(outs, unknown_out, strict=True) if not flag]
        inputs = {known_trace.atom(arg): i for i, arg in enumerate(known_args(args, unknown_in))}
        residuals: list[tuple[str, int]] = []
        for value in passed:
            var = known_trace.atom(value)
            if isinstance(var, Var) and var in inputs:
                residuals.append(("in", inputs[var]))
            else:
                residuals.append(("out", len(known_outs)))
                known_outs.append(value)
        known_jaxpr, known_consts = prune_jaxpr(*known_trace.to_jaxpr(known_outs))
    return PartialProgram(
        ClosedJaxpr(known_jaxpr, known_consts), unknown, unknown_out, tuple(residuals)
    )


def known_args(args: Sequence[Any], unknown: Sequence[bool]) -> list[Any]:
    """The arguments not flagged as unknown."""
    return [x for x, flag in zip(args, unknown, strict=True) if not flag]


def all_outs(
    unknown: Sequence[bool], known_outs: Iterable[Any], unknown_outs: Iterable[Any]
) -> list[Any]:
    """The outputs of both parts in their order; what the known part has besides is left out."""
    known, recorded = iter(known_outs), iter(unknown_outs)
    return [next(recorded) if flag else next(known) for flag in unknown]
