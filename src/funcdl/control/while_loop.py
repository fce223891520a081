"""while_loop and fori_loop: loops whose number of steps is known only when they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.config import config
from funcdl.control.programs import eval_compiled, known_value, rearrange, select, split
from funcdl.control.scan import (
    check_carry,
    check_unroll,
    forgotten_return,
    run_scan,
    settle_weak_types,
    users_part,
)
from funcdl.core import dtypes, lattice, tree
from funcdl.core.array import Array, as_array
from funcdl.core.avals import ShapedArray
from funcdl.core.effects import program_effect
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, eval_jaxpr
from funcdl.core.primitive import Primitive, own_weak
from funcdl.core.pruning import pruned, quiet, with_inputs
from funcdl.core.reference import run_reference
from funcdl.core.staging import trace_to_jaxpr
from funcdl.core.symbolic_zero import is_zero
from funcdl.core.trace import current_trace
from funcdl.errors import (
    DtypeError,
    MissingRuleError,
    NotDifferentiableError,
    ShapeError,
    TreeError,
)
from funcdl.ops.arithmetic import add
from funcdl.ops.comparison import lt
from funcdl.ops.convert import convert_element_type
from funcdl.ops.lowering import Loop
from funcdl.ops.reduction import reduce_or
from funcdl.ops.select import select_n
from funcdl.ops.shape import broadcast_in_dim, full_like, instantiate
from funcdl.transforms.arguments import as_arrays, check_function, describe_trees, function_name
from funcdl.transforms.batching import batch_jaxpr, place_batch
from funcdl.transforms.jvp import jvp_jaxpr, with_tangents
from funcdl.transforms.partial_eval import PartialEvalTrace, partial_eval_jaxpr
from funcdl.transforms.programs import trace_body, without_unused
from funcdl.transforms.weak_cache import cached_on_first

while_primitive = Primitive("while", multiple_results=True)


def while_loop(
    cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Any
) -> Any:
    """Repeat ``val = body_fun(val)`` while ``cond_fun(val)`` (see `jax.lax.while_loop`).

    Args:
      cond_fun: returns a bool scalar.
      body_fun: returns a value of the structure, shapes and dtypes of its argument.
      init_val: the first value, a pytree of arrays.

    Raises:
      TreeError, ShapeError: a function returns something else.
      NotDifferentiableError: reverse-mode differentiation, which would need every step's value;
        use `scan`, or `fori_loop` with fixed bounds.
    """
    return _run_while("while_loop", cond_fun, body_fun, init_val)


def _run_while(
    what: str,
    cond_fun: Callable[[Any], Any],
    body_fun: Callable[[Any], Any],
    init_val: Any,
    owner: Any = None,
    own: int = 0,
) -> Any:
    """`while_loop` on behalf of `what`, which calls the user's function `owner` in `body_fun`.

    The first `own` parts of `init_val` are the loop's; errors speak of the part after them.
    """
    owner = body_fun if owner is None else owner
    name = function_name(owner)
    carry, treedef = as_arrays("init_val", init_val, what)
    if config.disable_jit:
        value = treedef.unflatten(carry)
        going = known_value(as_array(cond_fun(value)))
        if going is not None:
            while going:
                value = body_fun(value)
                going = cond_fun(value)
            return value
    in_tree = tree.structure((init_val,))
    while True:
        avals = [x.aval for x in carry]
        body, body_captured, out_tree = trace_body(body_fun, in_tree, avals, what, owner)
        if out_tree != treedef:
            found, wanted = users_part(out_tree, own), users_part(treedef, own)
            raise TreeError(
                f"{what} requires {name} to return a value with the structure that it got:\n"
                + describe_trees(found, wanted)
                + forgotten_return(name, found)
            )
        promoted = settle_weak_types(carry, body.out_avals)
        if promoted is None:
            break
        carry = promoted
    check_carry(what, name, init_val, avals, body.out_avals, own)
    cond, cond_captured, _ = trace_body(cond_fun, in_tree, avals, f"condition of {what}")
    _check_condition(what, function_name(cond_fun), cond.out_avals)
    outs = while_primitive.bind(
        *cond_captured,
        *body_captured,
        *carry,
        cond=cond,
        body=body,
        cond_consts=len(cond_captured),
        body_consts=len(body_captured),
    )
    return treedef.unflatten(outs)


def _check_condition(what: str, name: str, avals: Sequence[ShapedArray]) -> None:
    if len(avals) == 1 and not avals[0].shape and dtypes.is_bool(avals[0].dtype):
        return
    found = ", ".join(map(str, avals)) or "nothing"
    fix = "return a comparison, such as x > 0"
    if len(avals) == 1 and dtypes.is_bool(avals[0].dtype):
        fix = "reduce it with .any() or .all()"
    raise ShapeError(f"{what} requires {name} to return a bool scalar, got {found}; {fix}")


def fori_loop(
    lower: Any,
    upper: Any,
    body_fun: Callable[[Any, Any], Any],
    init_val: Any,
    *,
    unroll: int | bool | None = None,
) -> Any:
    """``val = body_fun(i, val)`` for i from `lower` up to `upper` (see `jax.lax.fori_loop`).

    With bounds that are known (no tracers) the loop is a `scan`, and so differentiable in reverse
    mode; otherwise it is a `while_loop`.

    Args:
      lower, upper: integer scalars. The index has the dtype of both, and is weakly typed
        where `lower` is.
      body_fun: ``body_fun(i, val) -> val``, which keeps structure, shapes and dtypes.
      init_val: the first value, a pytree of arrays.
      unroll: accepted for compatibility; the compiler decides.

    Raises:
      DtypeError: a bound is no integer scalar.
      TreeError, ShapeError: `body_fun` returns something else than it got.
    """
    check_function("fori_loop", body_fun)
    if unroll is not None:
        check_unroll("fori_loop", unroll)
    bounds = [_bound(which, x) for which, x in (("lower", lower), ("upper", upper))]
    dtype = lattice.result_type(*bounds)
    weak = bounds[0].aval.weak_type and bounds[0].aval.dtype == dtype
    if all(type(x) is Array for x in bounds):
        start, stop = (int(x) for x in bounds)
        index = Array(np.asarray(start, dtype), weak)

        def step(state: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
            i, val = state
            return (add(i, full_like(i, 1)), body_fun(i, val)), None

        count = max(stop - start, 0)
        state = (index, init_val)
        return run_scan("fori_loop", step, state, None, count, False, body_fun, 1)[0][1]
    first, last = (convert_element_type(x, new_dtype=dtype, weak_type=weak) for x in bounds)

    def body(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        i, end, val = state
        return add(i, full_like(i, 1)), end, body_fun(i, val)

    return _run_while("fori_loop", _below, body, (first, last, init_val), body_fun, 2)[2]


def _below(state: tuple[Any, Any, Any]) -> Any:
    return lt(state[0], state[1])


def _bound(which: str, x: Any) -> Any:
    value = as_array(x)
    if value.aval.shape or not dtypes.is_integer(value.aval.dtype):
        raise DtypeError(
            f"fori_loop requires integer scalars as bounds, got {which} of type {value.aval}"
        )
    return value


def _impl(
    *args: np.ndarray[Any, Any],
    cond: ClosedJaxpr,
    body: ClosedJaxpr,
    cond_consts: int,
    body_consts: int,
) -> list[np.ndarray[Any, Any]]:
    for_cond, for_body, carry = split(args, cond_consts, body_consts)
    while bool(run_reference(cond, [*for_cond, *carry])[0]):
        carry = run_reference(body, [*for_body, *carry])
    return carry


def _shape(*avals: ShapedArray, body: ClosedJaxpr, **_: Any) -> list[ShapedArray]:
    return body.out_avals


def _jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    cond: ClosedJaxpr,
    body: ClosedJaxpr,
    cond_consts: int,
    body_consts: int,
) -> tuple[list[Any], list[Any]]:
    nonzero = [not is_zero(t) for t in tangents]
    _, consts_nz, carry_nz = split(nonzero, cond_consts, body_consts)
    while True:
        program, found_nz = jvp_jaxpr(body, (*consts_nz, *carry_nz), tuple(carry_nz))
        found = [a or b for a, b in zip(carry_nz, found_nz, strict=True)]
        if found == carry_nz:
            break
        carry_nz = found
    num_carry, num_dots = len(carry_nz), sum(carry_nz)
    for_cond, for_body, carry = split(primals, cond_consts, body_consts)
    _, const_t, carry_t = split(tangents, cond_consts, body_consts)
    order = (
        *range(body_consts),
        *range(body_consts + num_carry, body_consts + num_carry + sum(consts_nz)),
        *range(body_consts, body_consts + num_carry),
        *range(body_consts + num_carry + sum(consts_nz), len(program.in_avals)),
    )
    outs = while_primitive.bind(
        *for_cond,
        *for_body,
        *select(const_t, consts_nz),
        *carry,
        *(instantiate(t) for t in select(carry_t, carry_nz)),
        cond=_ignoring(cond, tuple(a.to_tangent() for a in select(body.out_avals, carry_nz))),
        body=rearrange(program, order, None),
        cond_consts=cond_consts,
        body_consts=body_consts + sum(consts_nz),
    )
    assert len(outs) == num_carry + num_dots
    return with_tangents(outs, carry_nz)


@cached_on_first
def _ignoring(program: ClosedJaxpr, avals: tuple[ShapedArray, ...]) -> ClosedJaxpr:
    """The program with more inputs, which it does not read."""
    count = len(program.in_avals)

    def run(*args: Any) -> list[Any]:
        return eval_jaxpr(program.jaxpr, program.consts, args[:count])

    jaxpr, consts = trace_to_jaxpr(run, [*program.in_avals, *avals])
    return ClosedJaxpr(jaxpr, consts)


def _partial_eval(trace: PartialEvalTrace, args: Sequence[Any], params: dict[str, Any]) -> Any:
    """Run the known part now; record a loop that computes again what the unknown part needs of it.

    The effects of the loop's body are those of one of the two.
    """
    cond, body = params["cond"], params["body"]
    cond_consts, body_consts = params["cond_consts"], params["body_consts"]
    cond_un, consts_un, carry_un = split(list(map(trace.owns, args)), cond_consts, body_consts)
    while True:
        parts = partial_eval_jaxpr(body, (*consts_un, *carry_un), tuple(carry_un))
        found = [a or b for a, b in zip(carry_un, parts.unknown_out, strict=True)]
        if found == carry_un:
            break
        carry_un = found
    if any(cond_un) or _reads(cond, cond_consts, carry_un):
        return trace.record(while_primitive, args, params)
    for_cond, for_body, carry = split(args, cond_consts, body_consts)
    num_known = carry_un.count(False)
    known_body = rearrange(parts.known, None, tuple(range(num_known)))
    again = quiet(body)
    if program_effect(parts.unknown):
        known_body, again = quiet(known_body), body
    elif program_effect(again):
        raise MissingRuleError(
            "while_loop: a loop of which some results have tangents runs twice under partial "
            "evaluation (linearize, checkpoint), which an io_callback with results in its body "
            "does not allow; use scan, or fori_loop with Python integers as bounds"
        )
    known_body = without_unused(known_body)
    known_cond = _reading(cond, cond_consts, carry_un)
    assert trace.parent is not None
    with current_trace(trace.parent):
        known_outs = while_primitive.bind(
            *for_cond,
            *select(for_body, consts_un, False),
            *select(carry, carry_un, False),
            cond=known_cond,
            body=known_body,
            cond_consts=cond_consts,
            body_consts=consts_un.count(False),
        )
    smaller, keep, carry_kept = _without_unread({**params, "body": again}, carry_un)
    recorded = trace.record(while_primitive, select(args, keep), smaller)
    found_outs, known = iter(recorded), iter(known_outs)
    results = []
    for unknown, kept in zip(carry_un, carry_kept, strict=True):
        again_out = next(found_outs) if kept else None
        results.append(again_out if unknown else next(known))
    return results


def _reads(cond: ClosedJaxpr, cond_consts: int, flags: Sequence[bool]) -> bool:
    """Whether the condition depends on any of the flagged carried values."""
    flagged = select(cond.jaxpr.invars[cond_consts:], flags)
    read = {atom for eqn in cond.eqns for atom in eqn.invars} | set(cond.jaxpr.outvars)
    return not read.isdisjoint(flagged)


def _reading(cond: ClosedJaxpr, cond_consts: int, dropped: Sequence[bool]) -> ClosedJaxpr:
    """The condition without the carried values that it cannot depend on."""
    keep = (*range(cond_consts), *(cond_consts + i for i, d in enumerate(dropped) if not d))
    return rearrange(cond, keep, None)


def _transpose(cts: Sequence[Any], *args: Any, **params: Any) -> list[Any]:
    raise NotDifferentiableError(
        "reverse-mode differentiation (grad, vjp) of while_loop, or of fori_loop with traced "
        "bounds, is not possible: the number of steps is unknown, so their values cannot be kept.\n"
        "Use scan, or fori_loop with Python integers as bounds; or forward mode (jvp, jacfwd)."
    )


def _batch(
    axis_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    cond: ClosedJaxpr,
    body: ClosedJaxpr,
    cond_consts: int,
    body_consts: int,
) -> tuple[list[Any], list[int | None]]:
    cond_b, consts_b, carry_b = split([d is not None for d in dims], cond_consts, body_consts)
    while True:
        batched_body, flags = batch_jaxpr(body, axis_size, (*consts_b, *carry_b), tuple(carry_b))
        batched_cond, (pred_b,) = batch_jaxpr(cond, axis_size, (*cond_b, *carry_b))
        found = [a or b or pred_b for a, b in zip(carry_b, flags, strict=True)]
        if found == carry_b:
            break
        carry_b = found
    wanted = [*cond_b, *consts_b, *carry_b]
    inputs = [
        place_batch(x, d, 0, axis_size) if flag else x
        for x, d, flag in zip(args, dims, wanted, strict=True)
    ]
    if pred_b:
        batched_cond, batched_body = _any_lane(
            batched_cond, batched_body, cond_consts, body_consts, axis_size
        )
        # The body needs the condition's constants too, to freeze the lanes that are done.
        inputs = [*inputs[:cond_consts], *inputs]
        body_consts += cond_consts
    outs = while_primitive.bind(
        *inputs,
        cond=batched_cond,
        body=batched_body,
        cond_consts=cond_consts,
        body_consts=body_consts,
    )
    return outs, [0 if flag else None for flag in carry_b]


@cached_on_first
def _any_lane(
    cond: ClosedJaxpr, body: ClosedJaxpr, cond_consts: int, body_consts: int, axis_size: int
) -> tuple[ClosedJaxpr, ClosedJaxpr]:
    """Loop while any lane wants to; lanes that are done keep their values."""

    def run_cond(*args: Any) -> list[Any]:
        (pred,) = eval_jaxpr(cond.jaxpr, cond.consts, args)
        return [reduce_or(pred, axes=(0,))]

    def run_body(*args: Any) -> list[Any]:
        for_cond, for_body, carry = split(args, cond_consts, body_consts)
        (pred,) = eval_jaxpr(cond.jaxpr, cond.consts, [*for_cond, *carry])
        new = eval_jaxpr(body.jaxpr, body.consts, [*for_body, *carry])
        return [
            select_n(broadcast_in_dim(pred, shape=old.shape, broadcast_dimensions=(0,)), old, value)
            for old, value in zip(carry, new, strict=True)
        ]

    cond_jaxpr, consts = trace_to_jaxpr(run_cond, cond.in_avals)
    body_avals = [*cond.in_avals[:cond_consts], *body.in_avals]
    body_jaxpr, body_values = trace_to_jaxpr(run_body, body_avals)
    return ClosedJaxpr(cond_jaxpr, consts), ClosedJaxpr(body_jaxpr, body_values)


def _prune(eqn: Eqn, read: Sequence[bool]) -> Eqn:
    params, keep, carry_kept = _without_unread(eqn.params, read)
    if all(keep) and params["body"] is eqn.params["body"] and params["cond"] is eqn.params["cond"]:
        return eqn
    invars, outvars = select(eqn.invars, keep), select(eqn.outvars, carry_kept)
    return eqn.replace(invars=invars, outvars=outvars, params=params)


def _without_unread(
    params: dict[str, Any], read: Sequence[bool]
) -> tuple[dict[str, Any], list[bool], list[bool]]:
    """A loop without the carried values that neither the condition nor a read result depends on.

    Returns its parameters, which operands it has, and which carried values.
    """
    cond_consts, body_consts = params["cond_consts"], params["body_consts"]
    cond, cond_used = pruned(params["cond"], (True,))
    for_cond, in_cond = split(cond_used, cond_consts)
    kept = [a or b for a, b in zip(read, in_cond, strict=True)]
    while True:
        body, used = pruned(params["body"], kept)
        for_body, in_body = split(used, body_consts)
        found = [a or b for a, b in zip(kept, in_body, strict=True)]
        if found == kept:
            break
        kept = found
    smaller = {
        "cond": with_inputs(cond, (*for_cond, *kept)),
        "body": with_inputs(body, (*for_body, *kept)),
        "cond_consts": sum(for_cond),
        "body_consts": sum(for_body),
    }
    return smaller, [*for_cond, *for_body, *kept], kept


while_primitive.impl = _impl
while_primitive.eval = lambda *args, **params: eval_compiled(while_primitive, args, params)
while_primitive.shape = _shape
while_primitive.weak = own_weak
while_primitive.jvp = _jvp
while_primitive.partial_eval = _partial_eval
while_primitive.transpose = _transpose
while_primitive.batch = _batch
while_primitive.prune = _prune
while_primitive.lower = Loop()
