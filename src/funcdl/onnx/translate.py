"""Programs as ONNX graphs: equations by rules, calls inlined, loops and branches as bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.control.programs import split
from funcdl.core import dtypes
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, Jaxpr, Literal, Var
from funcdl.onnx import rules
from funcdl.onnx.graph import BOOL, INT64, Graph, Value
from funcdl.onnx.rules import Unsupported
from funcdl.ops.attention import attention, attention_gradient, attention_tangent, composed
from funcdl.ops.registry import BOOL as BOOLS
from funcdl.ops.registry import REAL

_CALLS = frozenset(
    {"jit", "checkpoint", "custom_call", "custom_vmap_call", "linear_call", "linear_solve"}
)
_COMPOSED = {p.name: p for p in (attention, attention_tangent, attention_gradient)}
_DTYPES = frozenset(BOOLS + REAL)


class Translator:
    """Translates one program; `refused` says which equations have no ONNX form, and why."""

    def __init__(self) -> None:
        self.refused: list[tuple[Eqn, str]] = []

    def program(self, g: Graph, closed: ClosedJaxpr, args: Sequence[Value]) -> list[Value]:
        """Add a program's nodes to a graph; returns the values of its outputs."""
        jaxpr: Jaxpr = closed.jaxpr
        env: dict[Var, Value] = dict(zip(jaxpr.invars, args, strict=True))
        for var, const in zip(jaxpr.constvars, closed.consts, strict=True):
            env[var] = g.constant(np.asarray(const))

        def read(atom: Var | Literal) -> Value:
            return g.constant(np.asarray(atom.value)) if isinstance(atom, Literal) else env[atom]

        for eqn in jaxpr.eqns:
            try:
                outs = self._equation(g, eqn, [read(atom) for atom in eqn.invars])
            except Unsupported as error:
                self.refused.append((eqn, str(error)))
                outs = [_stand_in(g, var.aval) for var in eqn.outvars]
            for var, out in zip(eqn.outvars, outs, strict=True):
                assert (out.shape, out.dtype) == (var.aval.shape, var.aval.dtype), (eqn, out)
            env.update(zip(eqn.outvars, outs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, g: Graph, eqn: Eqn, args: list[Value]) -> list[Value]:
        name = eqn.primitive.name
        for atom in (*eqn.invars, *eqn.outvars):
            if not has_type(atom.aval):
                raise Unsupported(f"ONNX runtimes do not compute with {atom.aval}")
        entry = rules.find(name)
        if not has_form(name):
            raise Unsupported("ONNX has no operators for it")
        if all(0 in var.aval.shape for var in eqn.outvars):
            return [_stand_in(g, var.aval) for var in eqn.outvars]
        if name in _CALLS:
            return self.program(g, eqn.params["jaxpr"], args)
        if name in _COMPOSED:
            avals = [atom.aval for atom in eqn.invars]
            return self.program(g, composed(_COMPOSED[name], avals, eqn.params), args)
        if name in _CONTROL:
            found: list[Value] = _CONTROL[name](self, g, eqn, [g.dense(x) for x in args])
            return found
        assert entry is not None
        if not entry.broadcasts:
            args = [g.dense(x) for x in args]
        out = entry.write(g, eqn, *args)
        return list(out) if isinstance(out, list) else [out]


def _stand_in(g: Graph, aval: ShapedArray) -> Value:
    """Zeros of a type: all that there is where a dimension is empty."""
    zero = g.constant(np.zeros((), aval.dtype))
    if 0 in aval.shape:
        return g.constant(np.zeros(aval.shape, aval.dtype))
    return Value(zero.name, zero.dtype, aval.shape, ())


def _scan(t: Translator, g: Graph, eqn: Eqn, args: list[Value]) -> list[Value]:
    params = eqn.params
    body: ClosedJaxpr = params["jaxpr"]
    length, num_carry = params["length"], params["num_carry"]
    consts, carry, xs = split(args, params["num_consts"], num_carry)
    if not length:
        return [*carry, *(_stand_in(g, var.aval) for var in eqn.outvars[num_carry:])]
    inner = Graph(g)
    if xs:
        given = _inputs(inner, [*carry, *(_row(x) for x in xs)])
    else:
        inner.input("step", INT64, ())
        inner.input("going", BOOL, ())
        given = _inputs(inner, carry)
        inner.output(inner.fresh("going"), inner.constant(True))
    for out in t.program(inner, body, [*consts, *given]):
        inner.output(inner.fresh("out"), out)
    types = [(var.aval.dtype, var.aval.shape) for var in eqn.outvars]
    if not xs:
        count = g.constant(length, INT64)
        outs = g.nodes_of("Loop", [count, g.constant(True), *carry], types, body=inner)
        if params["reverse"]:
            # Steps are all alike, but what they return is in the order of their numbers.
            outs[num_carry:] = [g.reverse(y, [0]) for y in outs[num_carry:]]
        return outs
    attributes: dict[str, Any] = {"num_scan_inputs": len(xs)}
    if params["reverse"]:
        attributes["scan_input_directions"] = [1] * len(xs)
        if len(types) > num_carry:
            attributes["scan_output_directions"] = [1] * (len(types) - num_carry)
    return g.nodes_of("Scan", [*carry, *xs], types, body=inner, **attributes)


def _row(x: Value) -> Value:
    return Value(x.name, x.dtype, x.shape[1:], x.shape[1:])


def _inputs(g: Graph, like: Sequence[Value]) -> list[Value]:
    return [g.input("in", x.dtype, x.shape) for x in like]


def _while(t: Translator, g: Graph, eqn: Eqn, args: list[Value]) -> list[Value]:
    params = eqn.params
    for_cond, for_body, carry = split(args, params["cond_consts"], params["body_consts"])
    (going,) = t.program(g, params["cond"], [*for_cond, *carry])
    inner = Graph(g)
    inner.input("step", INT64, ())
    inner.input("going", BOOL, ())
    given = _inputs(inner, carry)
    outs = [inner.dense(x) for x in t.program(inner, params["body"], [*for_body, *given])]
    (again,) = t.program(inner, params["cond"], [*for_cond, *outs])
    inner.output(inner.fresh("going"), again)
    for out in outs:
        inner.output(inner.fresh("out"), out)
    types = [(x.dtype, x.shape) for x in carry]
    return g.nodes_of("Loop", [None, g.dense(going), *carry], types, body=inner)


def _cond(t: Translator, g: Graph, eqn: Eqn, args: list[Value]) -> list[Value]:
    index, *operands = args

    def choose(g: Graph, branches: Sequence[ClosedJaxpr], first: int) -> list[Value]:
        """The outputs of one of `branches`, the first of which has the number `first`."""
        if len(branches) == 1:
            return t.program(g, branches[0], operands)
        half = len(branches) // 2
        bound = g.constant(first + half, index.dtype)
        above = g.apply("GreaterOrEqual", index, bound, dtype=BOOL)
        bodies = []
        for chosen, start in ((branches[half:], first + half), (branches[:half], first)):
            inner = Graph(g)
            for out in choose(inner, chosen, start):
                inner.output(inner.fresh("out"), out)
            bodies.append(inner)
        types = [(var.aval.dtype, var.aval.shape) for var in eqn.outvars]
        return g.nodes_of("If", [above], types, then_branch=bodies[0], else_branch=bodies[1])

    return choose(g, eqn.params["branches"], 0)


_CONTROL: dict[str, Any] = {"scan": _scan, "while": _while, "cond": _cond}


def has_form(name: str) -> bool:
    """Whether a primitive can be translated, some of its parameters and dtypes apart."""
    return rules.find(name) is not None or name in _CALLS | _COMPOSED.keys() | _CONTROL.keys()


def has_type(aval: ShapedArray) -> bool:
    """Whether arrays of a type can be in a model: all but complex ones."""
    return dtypes.short_name(aval.dtype) in _DTYPES
