"""Helpers for control flow: reordering programs' inputs and outputs, running them eagerly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcdl.config import config
from funcdl.core import backend, tree
from funcdl.core.array import Array
from funcdl.core.avals import ShapedArray
from funcdl.core.device_buffer import backend_of
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.options import flag
from funcdl.core.primitive import Primitive
from funcdl.core.staging import trace_to_jaxpr
from funcdl.core.trace import Tracer, raise_leaked
from funcdl.errors import TreeError
from funcdl.transforms.arguments import function_name, show_tree
from funcdl.transforms.caches import also_clear
from funcdl.transforms.jit_primitive import compiled
from funcdl.transforms.weak_cache import cached_on_first


@cached_on_first
def rearrange(
    program: ClosedJaxpr, inputs: tuple[int, ...] | None, outputs: tuple[int, ...] | None
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
    """Run one equation eagerly: on NumPy, or as a compiled program of its own, which is kept."""
    for x in args:
        if type(x) is not Array:
            raise_leaked(x)
    avals = [x.aval for x in args]
    values = [x.buffer for x in args]
    outs: Sequence[Any]
    if config.backend == "reference":
        assert primitive.impl is not None
        outs = primitive.impl(*(x.value for x in args), **params)
        out_avals = primitive.output_avals(avals, params)
    else:
        program = _as_program(primitive, avals, params)
        run = compiled(program, primitive.name, (False,) * len(args), backend_of(values))
        outs, out_avals = backend.call(run, values), program.out_avals
    return [Array(x, aval.weak_type) for x, aval in zip(outs, out_avals, strict=True)]


def _as_program(
    primitive: Primitive, avals: Sequence[ShapedArray], params: dict[str, Any]
) -> ClosedJaxpr:
    key = (primitive, tuple(avals), tuple(sorted((k, _identity(v)) for k, v in params.items())))
    entry = _wrapped.pop(key, None)
    if entry is None:
        jaxpr, consts = trace_to_jaxpr(lambda *xs: primitive.bind(*xs, **params), avals)
        # The entry keeps the programs in `params` alive, so that their ids stay their own.
        entry = ClosedJaxpr(jaxpr, consts), params
        if len(_wrapped) >= _MAX_WRAPPED:
            del _wrapped[next(iter(_wrapped))]
    _wrapped[key] = entry  # the last used is last
    return entry[0]


# How many programs are kept, the last ones used: each keeps those in its parameters alive.
_MAX_WRAPPED = 256
_wrapped: dict[Any, tuple[ClosedJaxpr, dict[str, Any]]] = {}
also_clear(_wrapped.clear)


def _identity(value: Any) -> Any:
    if isinstance(value, ClosedJaxpr):
        return id(value)
    return tuple(map(_identity, value)) if isinstance(value, tuple) else value


def known_value(x: Any) -> Array | None:
    """The array behind a value, where it is known: an array, with tangents or without."""
    while isinstance(x, Tracer) and x.transparent:
        x = x.inner()
    return x if type(x) is Array else None


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


def solution_tree(
    what: str, solver: Callable[..., Any], found: tree.TreeDef, has_aux: bool
) -> tree.TreeDef:
    """The structure of a solution, given that of what a solver returned.

    Raises:
      TreeError: it is to be a pair with `aux` second, and is none.
    """
    if not flag(f"{what}: has_aux", has_aux):
        return found
    children = found.children()
    if found.type is not tuple or len(children) != 2:
        raise TreeError(
            f"{what} with has_aux=True requires {function_name(solver)} to return a pair (x, aux), "
            f"got {show_tree(found)}"
        )
    return children[0]
