"""checkpoint: compute values of the forward pass again in the backward pass, rather than keep them.

The primitive `checkpoint` is a call of a program. Where reverse mode splits a call into a known and
a linear part, the linear part gets not the residuals but what they are computed from, and computes
them itself. Once transposed, it does so behind a barrier: not before its cotangents are there, and
not shared by the compiler with the forward pass (see `optimization_barrier`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from funcdl.core import tree
from funcdl.core.effects import eqn_effect
from funcdl.core.jaxpr import Atom, ClosedJaxpr, Eqn, Jaxpr, Var, eval_jaxpr, sub_jaxprs
from funcdl.core.primitive import Primitive, own_weak
from funcdl.core.pruning import prune_call, prune_jaxpr, without_silent_effects
from funcdl.core.records import record
from funcdl.core.staging import trace_to_jaxpr
from funcdl.core.symbolic_zero import Zero, is_linear, is_zero
from funcdl.core.trace import current_trace
from funcdl.errors import ArgumentError
from funcdl.ops.barrier import optimization_barrier
from funcdl.ops.shape import move_to_front
from funcdl.transforms.arguments import argument_names, as_arrays, function_name, normalize_argnums
from funcdl.transforms.batching import batch_jaxpr
from funcdl.transforms.checkpoint_policies import Policy, nothing_saveable
from funcdl.transforms.jit_primitive import jit_call
from funcdl.transforms.jvp import jvp_jaxpr, with_tangents
from funcdl.transforms.partial_eval import (
    PartialEvalTrace,
    all_outs,
    known_args,
    partial_eval_jaxpr,
)
from funcdl.transforms.programs import (
    eval_program,
    program_types,
    run_program,
    trace_body,
    without_unused,
)
from funcdl.transforms.selection import select_arguments
from funcdl.transforms.transpose import trace_transposed
from funcdl.transforms.weak_cache import cached_on_first

checkpoint_call = Primitive("checkpoint", multiple_results=True)


def checkpoint(
    fun: Callable[..., Any],
    *,
    prevent_cse: bool = True,
    policy: Policy | None = None,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Iterable[str] = (),
) -> Callable[..., Any]:
    """A function whose gradient takes less memory and more time (see `jax.checkpoint`).

    Values and derivatives are unchanged. Between the forward and the backward pass, only `fun`'s
    arguments are kept, and what the policy says; the rest is computed again. A chain of N layers
    with a checkpoint around every √N of them holds O(√N) activations.

    Args:
      fun: a function of pytrees of arrays.
      prevent_cse: whether compiled programs must keep the two computations apart. Only where `fun`
        is the body of a `scan` can it be False without defeating the purpose.
      policy: says which values are kept all the same; see `checkpoint_policies`.
      static_argnums, static_argnames: arguments that are no arrays; they need not be hashable.

    Raises:
      ArgumentError: `policy` cannot be called or hashed, or `static_argnums` is out of range (when
        the result is called).
    """
    if not callable(fun):
        raise ArgumentError(
            f"checkpoint requires a function, got {type(fun).__name__}; write "
            "functools.partial(checkpoint, policy=...) for a decorator with options"
        )
    if policy is not None and not callable(policy):
        raise ArgumentError(
            "checkpoint requires policy to be a function, such as "
            f"checkpoint_policies.dots_saveable, got {policy!r}"
        )

    chosen = select_arguments(fun, function_name(fun), "static", None, static_argnames)

    @functools.wraps(fun)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        static = normalize_argnums(static_argnums, len(args), "static_argnums") if args else ()
        static = (*static, *(i for i in chosen.positions if i < len(args)))
        dynamic = [i for i in range(len(args)) if i not in static]
        names = argument_names(fun, args)
        leaves: list[Any] = []
        for i in dynamic:
            leaves += as_arrays(names[i], args[i], "checkpoint")[0]
        fixed = {name: x for name, x in kwargs.items() if name in chosen.names}
        traced = {name: x for name, x in sorted(kwargs.items()) if name not in fixed}
        for name, value in traced.items():
            leaves += as_arrays(name, value, "checkpoint")[0]
        given = tuple(args[i] for i in dynamic)
        in_tree = tree.structure((given, traced))

        def call(values: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            full = list(args)
            for i, value in zip(dynamic, values, strict=True):
                full[i] = value
            return fun(*full, **keywords, **fixed)

        functools.update_wrapper(call, fun)
        avals = [x.aval for x in leaves]
        # The program of a function with static arguments is for these values of them only.
        owner = call if static or fixed else fun
        program, captured, out_tree = trace_body(call, in_tree, avals, "checkpoint", owner)
        outs = checkpoint_call.bind(
            *captured, *leaves, jaxpr=program, policy=policy, prevent_cse=prevent_cse
        )
        return out_tree.unflatten(outs)

    return checkpointed


remat = checkpoint


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, jaxpr: ClosedJaxpr, **params: Any
) -> tuple[list[Any], list[Any]]:
    program, nonzero_out = jvp_jaxpr(jaxpr, tuple(not is_zero(t) for t in tangents))
    given = [t for t in tangents if not is_zero(t)]
    outs = checkpoint_call.bind(*primals, *given, jaxpr=program, **params)
    return with_tangents(outs, nonzero_out)


def _partial_eval(trace: PartialEvalTrace, args: Sequence[Any], params: dict[str, Any]) -> Any:
    unknown = tuple(map(trace.owns, args))
    policy = params["policy"] or nothing_saveable
    parts = _split(params["jaxpr"], unknown, policy)
    known = known_args(args, unknown)
    assert trace.parent is not None
    with current_trace(trace.parent):
        known_outs = checkpoint_call.bind(*known, **{**params, "jaxpr": parts.known})
    num_saved = parts.num_saved
    saved = known_outs[len(known_outs) - num_saved :]
    kept = [x for x, flag in zip(known, parts.kept, strict=True) if flag]
    rest = [x for x, flag in zip(args, unknown, strict=True) if flag]
    recorded = trace.record(
        checkpoint_call, [*kept, *saved, *rest], {**params, "jaxpr": parts.unknown}
    )
    return all_outs(parts.unknown_out, known_outs, recorded)


@record
class _Parts:
    """A program split in two, the second of which computes again what it needs of the first.

    `known` maps the known inputs to the known outputs and `num_saved` values more; `unknown` maps
    the known inputs flagged `kept`, those values and the unknown inputs to the unknown outputs.
    """

    known: ClosedJaxpr
    unknown: ClosedJaxpr
    unknown_out: tuple[bool, ...]
    kept: tuple[bool, ...]
    num_saved: int


@cached_on_first
def _split(program: ClosedJaxpr, unknown_in: tuple[bool, ...], policy: Policy) -> _Parts:
    split = partial_eval_jaxpr(_inlined(program), unknown_in)
    known, consts = split.known.jaxpr, split.known.consts
    residuals: list[Atom] = [
        known.invars[i] if kind == "in" else known.outvars[i] for kind, i in split.residuals
    ]
    eqns, saved, needed = _recomputation(known, residuals, policy)
    kept = tuple(var in needed for var in known.invars)
    inputs = [*(var for var in known.invars if var in needed), *saved]
    again, consts_again = prune_jaxpr(Jaxpr(known.constvars, inputs, residuals, eqns), consts)
    count = len(again.invars)
    unknown = split.unknown

    def run(*xs: Any) -> list[Any]:
        found = eval_jaxpr(again, consts_again, xs[:count])
        return eval_jaxpr(unknown.jaxpr, unknown.consts, [*found, *xs[count:]])

    rest_avals = [aval for aval, flag in zip(program.in_avals, unknown_in, strict=True) if flag]
    jaxpr, values = trace_to_jaxpr(
        run, [*(var.aval for var in again.invars), *rest_avals], name="checkpoint"
    )
    num_known = split.unknown_out.count(False)
    first = known.replace(outvars=(*known.outvars[:num_known], *saved))
    return _Parts(
        without_unused(ClosedJaxpr(first, consts)),
        ClosedJaxpr(jaxpr, values),
        split.unknown_out,
        kept,
        len(saved),
    )


def _recomputation(
    jaxpr: Jaxpr, residuals: Sequence[Atom], policy: Policy
) -> tuple[list[Eqn], list[Var], set[Atom]]:
    """The equations that give the residuals, the values that they start from (other than inputs),
    and everything that is read."""
    needed = set(residuals)
    eqns: list[Eqn] = []
    saved: list[Var] = []
    for eqn in reversed(jaxpr.eqns):
        wanted = [var for var in eqn.outvars if var in needed]
        if not wanted:
            continue
        # What calls the user's functions is not run again: their results are kept.
        silent = without_silent_effects(eqn)
        keep = silent is None or bool(eqn_effect(silent))
        if keep or policy(eqn.primitive, *(atom.aval for atom in eqn.invars), **eqn.params):
            saved += wanted
        elif silent is not None:
            eqns.append(silent)
            needed.update(silent.invars)
    return eqns[::-1], saved, needed


@cached_on_first
def _inlined(program: ClosedJaxpr) -> ClosedJaxpr:
    """The program with calls of jitted functions replaced by their equations, for the policy."""
    if all(eqn.primitive is not jit_call for eqn in program.eqns):
        return program

    def run(closed: ClosedJaxpr, args: Sequence[Any]) -> list[Any]:
        env: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
        env.update(zip(closed.jaxpr.invars, args, strict=True))

        def read(atom: Atom) -> Any:
            return env[atom] if isinstance(atom, Var) else atom.value

        for eqn in closed.eqns:
            values = list(map(read, eqn.invars))
            if eqn.primitive is jit_call:
                (inner,) = sub_jaxprs(eqn.params)
                out = run(inner, values)
            else:
                out = eqn.primitive.bind(*values, **eqn.params)
            outs = out if eqn.primitive.multiple_results else [out]
            env.update(zip(eqn.outvars, outs, strict=True))
        return list(map(read, closed.jaxpr.outvars))

    jaxpr, consts = trace_to_jaxpr(lambda *xs: run(program, xs), program.in_avals)
    return ClosedJaxpr(jaxpr, consts)


def _transpose(
    cts: Sequence[Any], *args: Any, jaxpr: ClosedJaxpr, prevent_cse: bool, **params: Any
) -> list[Any]:
    linear = tuple(map(is_linear, args))
    nonzero = tuple(not is_zero(ct) for ct in cts)
    program, flags = _transposed(jaxpr, linear, nonzero, prevent_cse)
    given = [*known_args(args, linear), *(ct for ct in cts if not is_zero(ct))]
    outs = checkpoint_call.bind(*given, jaxpr=program, prevent_cse=prevent_cse, **params)
    found, nonzero_out = iter(outs), iter(flags)
    return [
        (next(found) if next(nonzero_out) else Zero(x.aval.to_tangent())) if flag else None
        for x, flag in zip(args, linear, strict=True)
    ]


@cached_on_first
def _transposed(
    program: ClosedJaxpr,
    linear: tuple[bool, ...],
    nonzero: tuple[bool, ...],
    prevent_cse: bool,
) -> tuple[ClosedJaxpr, tuple[bool, ...]]:
    """As `transpose_jaxpr`, with the recomputation behind a barrier."""

    def behind_barrier(values: Sequence[Any], cts: Sequence[Any]) -> Sequence[Any]:
        return [optimization_barrier.bind(x, *cts) for x in values] if prevent_cse else values

    return trace_transposed(program, linear, nonzero, behind_barrier)


def _batch(
    axis_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    jaxpr: ClosedJaxpr,
    **params: Any,
) -> tuple[list[Any], list[int | None]]:
    program, flags = batch_jaxpr(jaxpr, axis_size, tuple(dim is not None for dim in dims))
    inputs = [move_to_front(x, dim) for x, dim in zip(args, dims, strict=True)]
    outs = checkpoint_call.bind(*inputs, jaxpr=program, **params)
    return outs, [0 if flag else None for flag in flags]


checkpoint_call.impl = run_program
checkpoint_call.eval = eval_program
checkpoint_call.shape = program_types
checkpoint_call.weak = own_weak
checkpoint_call.jvp = _jvp
checkpoint_call.partial_eval = _partial_eval
checkpoint_call.transpose = _transpose
checkpoint_call.batch = _batch
checkpoint_call.prune = prune_call
