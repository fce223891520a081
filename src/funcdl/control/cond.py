"""cond and switch: run one of several functions, chosen by a value."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.config import config
from funcdl.control.programs import eval_compiled, known_value, select
from funcdl.core import dtypes, tree
from funcdl.core.array import as_array
from funcdl.core.avals import ShapedArray
from funcdl.core.axes import name_of, program_uses_axis
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, eval_jaxpr
from funcdl.core.options import sequence
from funcdl.core.primitive import Primitive, own_weak
from funcdl.core.pruning import pruned, with_inputs
from funcdl.core.reference import run_reference
from funcdl.core.staging import trace_to_jaxpr
from funcdl.core.symbolic_zero import Zero, is_linear, is_zero
from funcdl.core.trace import current_trace
from funcdl.errors import ArgumentError, DtypeError, ShapeError, TreeError
from funcdl.ops.comparison import eq
from funcdl.ops.convert import convert_element_type
from funcdl.ops.lowering import Loop
from funcdl.ops.select import clamp, select_n
from funcdl.ops.shape import broadcast_in_dim, full_like, instantiate, zeros
from funcdl.transforms.arguments import as_arrays, check_function, function_name, show_tree
from funcdl.transforms.batching import batch_jaxpr, place_batch
from funcdl.transforms.jvp import jvp_jaxpr, with_tangents
from funcdl.transforms.linear_call import linear_call
from funcdl.transforms.partial_eval import PartialEvalTrace, all_outs, partial_eval_jaxpr
from funcdl.transforms.programs import trace_body, widen_all
from funcdl.transforms.transpose import transpose_jaxpr
from funcdl.transforms.weak_cache import cached_on_first

cond_primitive = Primitive("cond", multiple_results=True)

Branches = tuple[ClosedJaxpr, ...]
_FIX = "Convert one of each two with .astype, or give it the shape of the other."
_NONE_GIVEN = object()


def cond(
    pred: Any,
    true_fun: Callable[..., Any],
    false_fun: Callable[..., Any],
    *operands: Any,
    operand: Any = _NONE_GIVEN,
) -> Any:
    """``true_fun(*operands) if pred else false_fun(*operands)`` (see `jax.lax.cond`).

    Only the chosen function runs, except under a vmap that maps `pred`.

    Args:
      pred: a scalar, bool or number (nonzero is true).
      true_fun, false_fun: return pytrees of the same structure, shapes and dtypes. Where they
        differ in weak type only, the output is not weak, whichever is given first.
      operands: arguments of both functions, pytrees of arrays.
      operand: another way to give a single one.

    Raises:
      ShapeError: `pred` is no scalar, or the outputs' types differ.
      DtypeError: `pred` is complex.
      TreeError: the outputs' structures differ.
      ArgumentError: `operand` is given beside `operands`.
    """
    check_function("cond", true_fun, "true_fun")
    check_function("cond", false_fun, "false_fun")
    operands = _with_operand("cond", operands, operand)
    value = as_array(pred)
    if value.aval.shape:
        raise ShapeError(
            f"cond requires a scalar predicate, got {value.aval}; reduce it with .any() or .all(), "
            "choose elements with where, or map with vmap"
        )
    if dtypes.is_complex(value.aval.dtype):
        raise DtypeError(f"cond requires a bool or a real number as predicate, got {value.aval}")
    if not dtypes.is_bool(value.aval.dtype):
        value = convert_element_type(value, new_dtype=np.dtype(bool), weak_type=False)
    if config.disable_jit and (known := known_value(value)) is not None:
        return (true_fun if known.value else false_fun)(*_as_traced(operands, "cond"))
    index = convert_element_type(value, new_dtype=np.dtype(np.int32), weak_type=False)
    return _choose("cond", index, [false_fun, true_fun], operands)


def switch(
    index: Any,
    branches: Sequence[Callable[..., Any]],
    *operands: Any,
    operand: Any = _NONE_GIVEN,
) -> Any:
    """``branches[clamp(index)](*operands)`` (see `jax.lax.switch`).

    Args:
      index: an integer scalar; out of range means the first or the last branch.
      branches: functions that return pytrees of the same structure, shapes and dtypes.
      operands, operand: as for `cond`.

    Raises:
      ArgumentError: there are no branches.
      DtypeError: `index` is no integer scalar.
      TreeError, ShapeError: the branches return different structures or types.
    """
    branches = sequence("switch: branches", branches)
    if not branches:
        raise ArgumentError("switch requires at least one branch, got none")
    for i, branch in enumerate(branches):
        check_function("switch", branch, f"branches[{i}]")
    operands = _with_operand("switch", operands, operand)
    value = as_array(index)
    if value.aval.shape or not dtypes.is_integer(value.aval.dtype):
        raise DtypeError(f"switch requires an integer scalar as index, got {value.aval}")
    if config.disable_jit and (known := known_value(value)) is not None:
        chosen = min(max(int(known.value), 0), len(branches) - 1)
        return branches[chosen](*_as_traced(operands, "switch"))
    value = convert_element_type(value, new_dtype=np.dtype(np.int32), weak_type=False)
    value = clamp(full_like(value, 0), value, full_like(value, len(branches) - 1))
    return _choose("switch", value, branches, operands)


def _with_operand(what: str, operands: tuple[Any, ...], operand: Any) -> tuple[Any, ...]:
    if operand is _NONE_GIVEN:
        return operands
    if operands:
        raise ArgumentError(
            f"{what} takes its operands by position or by the keyword operand, got both"
        )
    return (operand,)


def _as_traced(operands: Sequence[Any], what: str) -> Any:
    """Operands with arrays for leaves, as traced branches get them."""
    leaves, treedef = as_arrays("operands", tuple(operands), what)
    return treedef.unflatten(leaves)


def _choose(
    what: str, index: Any, funs: Sequence[Callable[..., Any]], operands: Sequence[Any]
) -> Any:
    args, in_tree = as_arrays("operands", tuple(operands), what)
    avals = [x.aval for x in args]
    traced = [trace_body(f, in_tree, avals, what) for f in funs]
    _check_branches(what, funs, traced)
    programs, captured, _ = zip(*traced, strict=True)
    # Every branch takes the captured values of all, so that they share one operand list.
    branches = widen_all(programs, [[x.aval for x in values] for values in captured])
    everything = [x for values in captured for x in values]
    outs = cond_primitive.bind(index, *everything, *args, branches=branches)
    return traced[0][2].unflatten(outs)


def _check_branches(what: str, funs: Sequence[Callable[..., Any]], traced: Sequence[Any]) -> None:
    pairs = list(zip(map(function_name, funs), traced, strict=True))
    if what == "cond":
        pairs.reverse()  # as the user gave them: the one for true first
    if len({name for name, _ in pairs}) < len(pairs):
        labels = ("true_fun", "false_fun") if what == "cond" else range(len(pairs))
        pairs = [
            (f"{name} ({'' if what == 'cond' else 'branch '}{label})", found)
            for label, (name, found) in zip(labels, pairs, strict=True)
        ]
    first_name, (first, _, first_tree) = pairs[0]
    for name, (program, _, out_tree) in pairs[1:]:
        if out_tree != first_tree:
            width = max(len(first_name), len(name)) + 2
            raise TreeError(
                f"{what} requires branches that return the same structure; {first_name} and {name} "
                f"differ:\n  {first_name + ':':<{width}}{show_tree(first_tree)}\n"
                f"  {name + ':':<{width}}{show_tree(out_tree)}"
            )
        paths = [tree.format_path(path) for path in tree.paths(first_tree)]
        wrong = [
            f"  output{path}: {a} and {b}"
            for path, a, b in zip(paths, first.out_avals, program.out_avals, strict=True)
            if not a.same_type(b)
        ]
        if wrong:
            raise ShapeError(
                f"{what} requires branches that return the same types; {first_name} and {name} "
                "differ:\n" + "\n".join(wrong) + "\n" + _FIX
            )


def _impl(
    index: np.ndarray[Any, Any], *args: np.ndarray[Any, Any], branches: Branches
) -> list[np.ndarray[Any, Any]]:
    return run_reference(branches[int(index)], args)


def _shape(index: ShapedArray, *avals: ShapedArray, branches: Branches) -> list[ShapedArray]:
    types = zip(*(branch.out_avals for branch in branches), strict=True)
    return [each[0].update(weak_type=all(aval.weak_type for aval in each)) for each in types]


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, branches: Branches
) -> tuple[list[Any], list[Any]]:
    nonzero = tuple(not is_zero(t) for t in tangents[1:])
    flags = [False] * len(branches[0].out_avals)
    for branch in branches:
        found = jvp_jaxpr(branch, nonzero)[1]
        flags = [a or b for a, b in zip(flags, found, strict=True)]
    programs = tuple(jvp_jaxpr(branch, nonzero, tuple(flags))[0] for branch in branches)
    given = select(tangents[1:], nonzero)
    outs = cond_primitive.bind(*primals, *given, branches=programs)
    return with_tangents(outs, flags)


def _partial_eval(trace: PartialEvalTrace, args: Sequence[Any], params: dict[str, Any]) -> Any:
    branches: Branches = params["branches"]
    index, operands = args[0], args[1:]
    if trace.owns(index):
        return trace.record(cond_primitive, args, params)
    unknown = tuple(map(trace.owns, operands))
    flags = [False] * len(branches[0].out_avals)
    for branch in branches:
        found = partial_eval_jaxpr(branch, unknown).unknown_out
        flags = [a or b for a, b in zip(flags, found, strict=True)]
    parts = [partial_eval_jaxpr(branch, unknown, tuple(flags)) for branch in branches]
    known_ops = select(operands, unknown, False)
    num_known = flags.count(False)
    # Each branch returns its own residuals, and zeros in the places of the others'.
    residual_avals = tuple(
        tuple(_residual_aval(part, kind, i) for kind, i in part.residuals) for part in parts
    )
    known = tuple(
        _pad_residuals(part.known, part.residuals, number, residual_avals, num_known)
        for number, part in enumerate(parts)
    )
    wide = widen_all([part.unknown for part in parts], residual_avals)
    assert trace.parent is not None
    with current_trace(trace.parent):
        known_outs = cond_primitive.bind(index, *known_ops, branches=known)
    residuals = known_outs[num_known:]
    recorded = trace.record(
        cond_primitive,
        [index, *residuals, *select(operands, unknown)],
        {"branches": wide},
    )
    return all_outs(flags, known_outs, recorded)


def _residual_aval(part: Any, kind: str, i: int) -> ShapedArray:
    avals: Sequence[ShapedArray] = part.known.in_avals if kind == "in" else part.known.out_avals
    return avals[i]


@cached_on_first
def _pad_residuals(
    known: ClosedJaxpr,
    residuals: tuple[tuple[str, int], ...],
    number: int,
    residual_avals: tuple[tuple[ShapedArray, ...], ...],
    num_known: int,
) -> ClosedJaxpr:
    """The known part of a branch, returning the residuals of all branches after its outputs."""

    def run(*xs: Any) -> list[Any]:
        outs = eval_jaxpr(known.jaxpr, known.consts, xs)
        own = [xs[i] if kind == "in" else outs[i] for kind, i in residuals]
        padded = [
            x
            for n, avals in enumerate(residual_avals)
            for x in (own if n == number else [zeros(aval) for aval in avals])
        ]
        return [*outs[:num_known], *padded]

    jaxpr, consts = trace_to_jaxpr(run, known.in_avals)
    return ClosedJaxpr(jaxpr, consts)


def _transpose(cts: Sequence[Any], index: Any, *args: Any, branches: Branches) -> list[Any]:
    linear = tuple(map(is_linear, args))
    nonzero = tuple(not is_zero(ct) for ct in cts)
    ct_avals = tuple(x.aval.to_tangent() for x in select(args, linear))
    programs = []
    for branch in branches:
        program, flags = transpose_jaxpr(branch, linear, nonzero)
        programs.append(_fill_zeros(program, flags, ct_avals))
    given = [*select(args, linear, False), *select(cts, nonzero)]
    found = iter(cond_primitive.bind(index, *given, branches=tuple(programs)))
    return [None, *(next(found) if flag else None for flag in linear)]


@cached_on_first
def _fill_zeros(
    program: ClosedJaxpr, flags: tuple[bool, ...], avals: tuple[ShapedArray, ...]
) -> ClosedJaxpr:
    """The program with a zero for each output that it leaves out, so that branches agree."""

    def run(*xs: Any) -> list[Any]:
        found = iter(eval_jaxpr(program.jaxpr, program.consts, xs))
        return [
            next(found) if flag else instantiate(Zero(aval))
            for flag, aval in zip(flags, avals, strict=True)
        ]

    jaxpr, consts = trace_to_jaxpr(run, program.in_avals)
    return ClosedJaxpr(jaxpr, consts)


def _batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int | None], *, branches: Branches
) -> tuple[list[Any], list[int | None]]:
    index, operands = args[0], args[1:]
    if dims[0] is not None:
        return _select_lanes(axis_size, index, operands, dims[1:], branches)
    batched = tuple(d is not None for d in dims[1:])
    inputs = [
        x if d is None else place_batch(x, d, 0, axis_size)
        for x, d in zip(operands, dims[1:], strict=True)
    ]
    flags = [False] * len(branches[0].out_avals)
    for branch in branches:
        found = batch_jaxpr(branch, axis_size, batched)[1]
        flags = [a or b for a, b in zip(flags, found, strict=True)]
    programs = tuple(
        batch_jaxpr(branch, axis_size, batched, tuple(flags))[0] for branch in branches
    )
    outs = cond_primitive.bind(index, *inputs, branches=programs)
    return outs, [0 if flag else None for flag in flags]


def _select_lanes(
    axis_size: int,
    index: Any,
    operands: Sequence[Any],
    dims: Sequence[int | None],
    branches: Branches,
) -> tuple[list[Any], list[int | None]]:
    """Each lane chooses for itself: all branches run, and their results are selected from."""
    floats = [dtypes.is_inexact(x.dtype) for x in operands]
    batched = tuple(d is not None or flag for d, flag in zip(dims, floats, strict=True))
    inputs = [
        place_batch(x, d, 0, axis_size) if flag else x
        for x, d, flag in zip(operands, dims, batched, strict=True)
    ]
    everything = (True,) * len(branches[0].out_avals)
    results = []
    for number, branch in enumerate(branches):
        program, _ = batch_jaxpr(branch, axis_size, batched, everything)
        chosen = eq(index, full_like(index, number))
        # What a collective over the axis gives depends on the members that do not choose it, too.
        shared = program_uses_axis(branch, name_of(axis_size))
        given = [
            _only_where(chosen, x) if flag and not shared else x
            for x, flag in zip(inputs, floats, strict=True)
        ]
        results.append(eval_jaxpr(program.jaxpr, program.consts, given))
    outs = []
    for cases in zip(*results, strict=True):
        which = index
        if len(cases) == 2:
            which = convert_element_type(index, new_dtype=np.dtype(bool), weak_type=False)
        wide = broadcast_in_dim(which, shape=cases[0].shape, broadcast_dimensions=(0,))
        outs.append(cases[0] if len(cases) == 1 else select_n(wide, *cases))
    return outs, [0] * len(outs)


def _only_where(chosen: Any, x: Any) -> Any:
    """A batch of operands that has cotangents only from lanes that choose this branch: in the
    others it may be undefined, and an infinite derivative times zero would not be zero."""
    return linear_call(_as_it_is, _chosen_lanes, chosen, x)


def _as_it_is(chosen: Any, x: Any) -> Any:
    return x


def _chosen_lanes(chosen: Any, ct: Any) -> Any:
    wide = broadcast_in_dim(chosen, shape=ct.shape, broadcast_dimensions=(0,))
    return select_n(wide, zeros(ct.aval), ct)


def _prune(eqn: Eqn, read: Sequence[bool]) -> Eqn:
    parts = [pruned(branch, read) for branch in eqn.params["branches"]]
    used = tuple(any(flags) for flags in zip(*(flags for _, flags in parts), strict=True))
    branches = tuple(with_inputs(program, used) for program, _ in parts)
    if all(read) and all(map(operator.is_, branches, eqn.params["branches"])):
        return eqn
    return eqn.replace(
        invars=[eqn.invars[0], *select(eqn.invars[1:], used)],
        outvars=select(eqn.outvars, read),
        params={"branches": branches},
    )


cond_primitive.impl = _impl
cond_primitive.eval = lambda *args, **params: eval_compiled(cond_primitive, args, params)
cond_primitive.shape = _shape
cond_primitive.weak = own_weak
cond_primitive.jvp = _jvp
cond_primitive.partial_eval = _partial_eval
cond_primitive.transpose = _transpose
cond_primitive.batch = _batch
cond_primitive.prune = _prune
cond_primitive.lower = Loop()
