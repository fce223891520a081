"""The primitive `jit`: a call of a compiled program, and its rules under every transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funcdl.config import config
from funcdl.core import backend, profiler
from funcdl.core.array import Array
from funcdl.core.device_buffer import backend_of
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.primitive import Primitive, own_weak
from funcdl.core.pruning import prune_call
from funcdl.core.symbolic_zero import Zero, is_linear, is_zero
from funcdl.core.trace import current_trace, raise_leaked
from funcdl.ops.key_use import looks_at_keys
from funcdl.ops.shape import move_to_front
from funcdl.transforms.batching import batch_jaxpr
from funcdl.transforms.explain import logged
from funcdl.transforms.jvp import jvp_jaxpr, with_tangents
from funcdl.transforms.partial_eval import (
    PartialEvalTrace,
    all_outs,
    known_args,
    partial_eval_jaxpr,
)
from funcdl.transforms.programs import program_types, run_program
from funcdl.transforms.transpose import transpose_jaxpr
from funcdl.transforms.weak_cache import cached_on_first

jit_call = Primitive("jit", multiple_results=True)


def compiled(
    program: ClosedJaxpr, name: str, donated: tuple[bool, ...], backend_name: str
) -> backend.Executable:
    """The executable of a program, made once for each precision of products; another one while a
    profile is taken."""
    precision = config.default_matmul_precision
    return _compiled(program, name, donated, backend_name, bool(profiler.active), precision)


@cached_on_first
def _compiled(
    program: ClosedJaxpr,
    name: str,
    donated: tuple[bool, ...],
    backend_name: str,
    profiled: bool,
    precision: str,  # which the compiler reads from the configuration
) -> backend.Executable:
    if looks_at_keys(program):
        backend_name = "reference"
    with logged(f"{name} was compiled", program.jaxpr.names or (), program.in_avals):
        lowered = backend.get(backend_name).lower(program, name=name, donated=donated)
        return lowered.compile(profiled=profiled)


def _eval(*args: Any, jaxpr: ClosedJaxpr, name: str, donated: tuple[bool, ...]) -> list[Any]:
    for x in args:
        if type(x) is not Array:
            raise_leaked(x)
    values = [x.buffer for x in args]
    try:
        outs = backend.call(compiled(jaxpr, name, donated, backend_of(values)), values)
    except BaseException as error:
        if backend.had_begun(error):
            delete_donated(args, donated)
        raise
    delete_donated(args, donated)
    return [Array(x, aval.weak_type) for x, aval in zip(outs, jaxpr.out_avals, strict=True)]


def delete_donated(args: Sequence[Array], donated: Sequence[bool]) -> None:
    """After a call with these arguments, also one that has failed on its way."""
    for x, flag in zip(args, donated, strict=True):
        if flag:
            x.delete()


def _jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    jaxpr: ClosedJaxpr,
    name: str,
    donated: tuple[bool, ...],
) -> tuple[list[Any], list[Any]]:
    nonzero = tuple(not is_zero(t) for t in tangents)
    program, nonzero_out = jvp_jaxpr(jaxpr, nonzero)
    given = [t for t in tangents if not is_zero(t)]
    outs = _call([*primals, *given], program, f"jvp_{name}")
    return with_tangents(outs, nonzero_out)


def _partial_eval(trace: PartialEvalTrace, args: Sequence[Any], params: dict[str, Any]) -> Any:
    program, name = params["jaxpr"], params["name"]
    unknown = tuple(map(trace.owns, args))
    split = partial_eval_jaxpr(program, unknown)
    known = known_args(args, unknown)
    assert trace.parent is not None
    with current_trace(trace.parent):
        known_outs = _call(known, split.known, name)
    residuals = [known[i] if kind == "in" else known_outs[i] for kind, i in split.residuals]
    rest = [x for x, flag in zip(args, unknown, strict=True) if flag]
    unknown_outs = trace.record(jit_call, [*residuals, *rest], _params(split.unknown, name))
    return all_outs(split.unknown_out, known_outs, unknown_outs)


def _transpose(
    cts: Sequence[Any],
    *args: Any,
    jaxpr: ClosedJaxpr,
    name: str,
    donated: tuple[bool, ...],
) -> list[Any]:
    linear = tuple(map(is_linear, args))
    nonzero_ct = tuple(not is_zero(ct) for ct in cts)
    program, flags = transpose_jaxpr(jaxpr, linear, nonzero_ct)
    given = known_args(args, linear) + [ct for ct in cts if not is_zero(ct)]
    found = iter(_call(given, program, f"transpose_{name}"))
    nonzero = iter(flags)
    return [
        (next(found) if next(nonzero) else Zero(x.aval.to_tangent())) if flag else None
        for x, flag in zip(args, linear, strict=True)
    ]


def _batch(
    axis_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    jaxpr: ClosedJaxpr,
    name: str,
    donated: tuple[bool, ...],
) -> tuple[list[Any], list[int | None]]:
    batched = tuple(dim is not None for dim in dims)
    program, batched_out = batch_jaxpr(jaxpr, axis_size, batched)
    inputs = [move_to_front(x, dim) for x, dim in zip(args, dims, strict=True)]
    outs = _call(inputs, program, f"vmap_{name}")
    return outs, [0 if flag else None for flag in batched_out]


def _call(args: Sequence[Any], program: ClosedJaxpr, name: str) -> list[Any]:
    outs: list[Any] = jit_call.bind(*args, **_params(program, name))
    return outs


def _params(program: ClosedJaxpr, name: str) -> dict[str, Any]:
    return {"jaxpr": program, "name": name, "donated": (False,) * len(program.in_avals)}


jit_call.eval = _eval
jit_call.impl = run_program
jit_call.shape = program_types
jit_call.weak = own_weak
jit_call.jvp = _jvp
jit_call.partial_eval = _partial_eval
jit_call.transpose = _transpose
jit_call.batch = _batch
jit_call.prune = prune_call
