"""Eager evaluation of operands on a device: each operation is a compiled program of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcdl.config import config
from funcdl.core import backend
from funcdl.core.array import Array
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, Jaxpr, Var
from funcdl.core.primitive import Primitive

# How many programs of single operations are kept, the last ones used: each has its executable.
_MAX_PROGRAMS = 4096

_Entry = tuple[backend.Executable, tuple[bool, ...]]
_programs: dict[Any, _Entry] = {}


def evaluate(
    platform: str, primitive: Primitive, args: Sequence[Array], params: dict[str, Any]
) -> Any:
    """Apply a primitive with the back end of a device; results live there."""
    executable, weak = _program(platform, primitive, args, params)
    outs = backend.call(executable, [x.buffer for x in args])
    arrays = [Array(out, flag) for out, flag in zip(outs, weak, strict=True)]
    return arrays if primitive.multiple_results else arrays[0]


def forget() -> None:
    """Drop all programs."""
    _programs.clear()


config.on_change("default_matmul_precision", lambda _: forget())


def _program(
    platform: str, primitive: Primitive, args: Sequence[Array], params: dict[str, Any]
) -> _Entry:
    avals = tuple(x.aval for x in args)
    # Types take part in the key, since 1, 1.0 and True are equal and hash alike.
    named = tuple((name, type(value), value) for name, value in sorted(params.items()))
    key = (platform, primitive, avals, named)
    try:
        entry = _programs.pop(key, None)
    except TypeError:  # a parameter that cannot be hashed: the program serves once
        return _compile(platform, primitive, args, params)
    if entry is None:
        entry = _compile(platform, primitive, args, params)
    _programs[key] = entry  # at the end, as the last one used
    if len(_programs) > _MAX_PROGRAMS:
        del _programs[next(iter(_programs))]
    return entry


def _compile(
    platform: str, primitive: Primitive, args: Sequence[Array], params: dict[str, Any]
) -> _Entry:
    avals = [x.aval for x in args]
    invars = [Var(aval) for aval in avals]
    out_avals = primitive.output_avals(avals, params)
    outvars = [Var(aval) for aval in out_avals]
    eqn = Eqn(primitive, invars, outvars, params)
    program = ClosedJaxpr(Jaxpr((), invars, outvars, [eqn]))
    lowered = backend.get(platform).lower(
        program, name=primitive.name, donated=(False,) * len(avals)
    )
    return lowered.compile(), tuple(aval.weak_type for aval in out_avals)
