"""Helpers for primitives that hold programs: tracing bodies, reordering inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcdl.config import config
from funcdl.core import tree
from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.primitive import Primitive
from funcdl.core.staging import hoist_consts, trace_to_jaxpr
from funcdl.core.trace import raise_leaked
from funcdl.transforms.arguments import flatten_output
from funcdl.transforms.jit_primitive import compiled


def trace_body(
    fun: Callable[..., Any],
    in_tree: tree.TreeDef,
    avals: Sequence[ShapedArray],
    what: str,
    name: str,
) -> tuple[ClosedJaxpr, list[Any], tree.TreeDef]:
    """Trace a function of a pytree's leaves.

    Returns its program, the outer values that it captured (to be passed as leading inputs), and
    the structure of its output.
    """
    out_tree: tree.TreeDef | None = None

    def flat(*xs: Any) -> list[Any]:
        nonlocal out_tree
        outs, out_tree = flatten_output(fun(*in_tree.unflatten(xs)), what, name)
        return outs

    jaxpr, consts = trace_to_jaxpr(flat, avals, name=what)
    program, captured = hoist_consts(jaxpr, consts)
    assert out_tree is not None
    return program, captured, out_tree


def rearrange(
    program: ClosedJaxpr, inputs: Sequence[int] | None, outputs: Sequence[int] | None
) -> ClosedJaxpr:
    """The program with its inputs and outputs in another order, given by old positions."""
    jaxpr = program.jaxpr
    invars, outvars = jaxpr.invars, jaxpr.outvars
    if inputs is not None:
        invars = tuple(invars[i] for i in inputs)
    if outputs is not None:
        outvars = tuple(outvars[i] for i in outputs)
    return ClosedJaxpr(jaxpr.replace(invars=invars, outvars=outvars, names=None), program.consts)


def eval_compiled(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Run one equation as a compiled program of its own, kept with the first program it holds."""
    for x in args:
        if type(x) is not Array:
            raise_leaked(x)
    avals = tuple(x.aval for x in args)
    owner = next(
        item
        for value in params.values()
        for item in (value if isinstance(value, tuple) else (value,))
        if isinstance(item, ClosedJaxpr)
    )
    key = (primitive, avals, tuple(sorted((k, _identity(v)) for k, v in params.items())))
    programs = _wrapped.setdefault(id(owner), {})
    entry = programs.get(key)
    if entry is None:
        jaxpr, consts = trace_to_jaxpr(lambda *xs: primitive.bind(*xs, **params), avals)
        # The entry keeps the owner alive, so that its id stays its own.
        entry = programs[key] = (ClosedJaxpr(jaxpr, consts), owner)
    program = entry[0]
    run = compiled(program, primitive.name, (False,) * len(args), config.backend)
    outs = run([x.value for x in args])
    return [Array(x, aval.weak_type) for x, aval in zip(outs, program.out_avals, strict=True)]


_wrapped: dict[int, dict[Any, tuple[ClosedJaxpr, ClosedJaxpr]]] = {}


def _identity(value: Any) -> Any:
    if isinstance(value, ClosedJaxpr):
        return id(value)
    return tuple(map(_identity, value)) if isinstance(value, tuple) else value


def split(values: Sequence[Any], *counts: int) -> list[list[Any]]:
    """Cut a sequence into parts of the given lengths, and the rest."""
    parts = []
    start = 0
    for count in counts:
        parts.append(list(values[start : start + count]))
        start += count
    parts.append(list(values[start:]))
    return parts


def select(values: Sequence[Any], flags: Sequence[bool], wanted: bool = True) -> list[Any]:
    """The values whose flag is as wanted."""
    return [x for x, flag in zip(values, flags, strict=True) if flag == wanted]
