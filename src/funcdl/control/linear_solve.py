"""custom_linear_solve: solve a linear system, differentiated implicitly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcdl.control.programs import solution_tree, split
from funcdl.core import tree
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr, eval_jaxpr
from funcdl.core.options import flag
from funcdl.core.primitive import Primitive, own_weak
from funcdl.core.staging import trace_to_jaxpr
from funcdl.core.symbolic_zero import Zero, is_linear, is_zero
from funcdl.errors import ArgumentError, NotDifferentiableError, ShapeError, TreeError
from funcdl.ops.arithmetic import sub
from funcdl.ops.shape import instantiate
from funcdl.transforms.arguments import (
    as_arrays,
    check_function,
    describe_trees,
    function_name,
    leaf_names,
)
from funcdl.transforms.batching import batch_jaxpr, place_batch
from funcdl.transforms.jvp import jvp_jaxpr
from funcdl.transforms.programs import (
    eval_program,
    program_types,
    run_program,
    trace_body,
    widen_all,
)
from funcdl.transforms.transpose import transpose_jaxpr
from funcdl.transforms.weak_cache import cached_on_first

linear_solve = Primitive("linear_solve", multiple_results=True)

MatVec = Callable[[Any], Any]
Solve = Callable[[MatVec, Any], Any]


def custom_linear_solve(
    matvec: MatVec,
    b: Any,
    solve: Solve,
    transpose_solve: Solve | None = None,
    symmetric: bool = False,
    has_aux: bool = False,
) -> Any:
    """The x for which ``matvec(x)`` is `b` (see `jax.lax.custom_linear_solve`).

    Derivatives come from the equation and not from how it is solved: the tangent of x solves the
    same system, the cotangent the transposed one. So `solve` may be any iteration.

    Args:
      matvec: a linear function, from the structure and types of `b` to themselves. Derivatives are
        by `b` and by what `matvec` closes over.
      b: the right-hand side, a pytree of arrays.
      solve: ``solve(matvec, b)`` returns x.
      transpose_solve: ``transpose_solve(vecmat, b)`` solves the transposed system; needed for
        reverse mode, unless `symmetric`, where it is `solve` by default.
      symmetric: whether `matvec` is its own transpose.
      has_aux: whether the solvers return a pair ``(x, aux)``; `aux` has no derivative.

    Raises:
      TreeError, ShapeError: a function returns something else than it must.
      NotDifferentiableError: reverse mode without `transpose_solve` or `symmetric`.
    """
    symmetric = flag("custom_linear_solve: symmetric", symmetric)
    functions = {"matvec": matvec, "solve": solve, "transpose_solve": transpose_solve}
    for which, function in functions.items():
        if function is not None or which != "transpose_solve":
            check_function("custom_linear_solve", function, which)
    leaves, b_tree = as_arrays("b", b, "custom_linear_solve")
    avals = [x.aval.update(weak_type=False) for x in leaves]
    in_tree = tree.structure((b,))
    types = b_tree.unflatten(avals)
    forward, forward_captured, out_tree = trace_body(matvec, in_tree, avals, "custom_linear_solve")
    _check(function_name(matvec), types, avals, out_tree, forward.out_avals)

    def trace(solver: Solve, operator: MatVec) -> tuple[ClosedJaxpr, list[Any], tree.TreeDef]:
        def call(y: Any) -> Any:
            return solver(operator, y)

        program, captured, found = trace_body(
            call, in_tree, avals, f"solver {function_name(solver)} of custom_linear_solve"
        )
        x_tree = solution_tree("custom_linear_solve", solver, found, has_aux)
        _check(function_name(solver), types, avals, x_tree, program.out_avals[: len(avals)])
        return program, captured, found

    program, captured, solve_tree = trace(solve, matvec)
    if transpose_solve is None and symmetric:
        transpose_solve = solve
    parts = [(forward, forward_captured), (program, captured)]
    if transpose_solve is None:
        pass
    elif symmetric:
        back, back_captured, _ = trace(transpose_solve, matvec)
        parts += [(forward, forward_captured), (back, back_captured)]
    else:
        count = len(forward_captured)
        vecmat = _transposed(forward, count)

        def apply(y: Any) -> Any:
            ys, _ = tree.flatten(y)
            return b_tree.unflatten(
                eval_jaxpr(vecmat.jaxpr, vecmat.consts, [*forward_captured, *ys])
            )

        back, back_captured, _ = trace(transpose_solve, apply)
        parts += [(vecmat, forward_captured), (back, back_captured)]
    everything = [x for _, values in parts for x in values]
    own = [[x.aval for x in values] for _, values in parts]
    programs: list[ClosedJaxpr | None] = [None] * 4
    programs[: len(parts)] = widen_all([part for part, _ in parts], own)
    outs = linear_solve.bind(
        *everything,
        *leaves,
        matvec=programs[0],
        jaxpr=programs[1],
        vecmat=programs[2],
        transposed=programs[3],
        num_consts=len(everything),
    )
    return solve_tree.unflatten(outs)


def _check(
    name: str,
    types: Any,
    avals: Sequence[ShapedArray],
    out_tree: tree.TreeDef,
    outs: Sequence[ShapedArray],
) -> None:
    wanted = tree.structure(types)
    if out_tree != wanted:
        raise TreeError(
            f"custom_linear_solve requires {name} to return the structure of b:\n"
            + describe_trees(out_tree, wanted)
        )
    for path, found, aval in zip(leaf_names("b", types), outs, avals, strict=True):
        if not found.same_type(aval):
            raise ShapeError(
                f"custom_linear_solve requires {name} to return the types of b; {path} is "
                f"{aval}, and {found} was returned for it"
            )


@cached_on_first
def _transposed(program: ClosedJaxpr, num_consts: int) -> ClosedJaxpr:
    """The transpose of a program that is linear in the inputs after its constants."""
    const_avals, x_avals = split(program.in_avals, num_consts)
    linear = (*[False] * num_consts, *[True] * len(x_avals))
    back, flags = transpose_jaxpr(program, linear, (True,) * len(program.out_avals))

    def run(*xs: Any) -> list[Any]:
        found = iter(eval_jaxpr(back.jaxpr, back.consts, xs))
        return [
            next(found) if flag else instantiate(Zero(aval))
            for flag, aval in zip(flags, x_avals, strict=True)
        ]

    jaxpr, consts = trace_to_jaxpr(run, [*const_avals, *program.out_avals], name="transpose")
    return ClosedJaxpr(jaxpr, consts)


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], **params: Any
) -> tuple[list[Any], list[Any]]:
    """From ``A x = b``: ``A dx = db - dA x``."""
    matvec: ClosedJaxpr = params["matvec"]
    count = params["num_consts"]
    outs = linear_solve.bind(*primals, **params)
    xs = outs[: len(primals) - count]
    nonzero = tuple(not is_zero(t) for t in tangents[:count])
    right = list(tangents[count:])
    if any(nonzero):
        program, flags = jvp_jaxpr(matvec, (*nonzero, *[False] * len(xs)))
        given = [t for t in tangents[:count] if not is_zero(t)]
        found = eval_jaxpr(program.jaxpr, program.consts, [*primals[:count], *xs, *given])
        change = iter(found[len(xs) :])
        right = [
            sub(instantiate(t), next(change)) if flag else t
            for t, flag in zip(right, flags, strict=True)
        ]
    aux = [Zero(out.aval.to_tangent()) for out in outs[len(xs) :]]
    if all(map(is_zero, right)):
        return outs, [*right, *aux]
    dots = linear_solve.bind(*primals[:count], *map(instantiate, right), **params)
    return outs, [*dots[: len(xs)], *aux]


def _transpose(cts: Sequence[Any], *args: Any, **params: Any) -> list[Any]:
    if params["transposed"] is None:
        raise NotDifferentiableError(
            "reverse-mode differentiation (grad, vjp) of custom_linear_solve requires its argument "
            "transpose_solve, a solver of the transposed system"
        )
    count = params["num_consts"]
    if any(map(is_linear, args[:count])):
        raise ArgumentError(
            "custom_linear_solve is linear in b only, not in what matvec closes over"
        )
    given = map(instantiate, cts[: len(args) - count])
    back = {
        "matvec": params["vecmat"],
        "vecmat": params["matvec"],
        "jaxpr": params["transposed"],
        "transposed": params["jaxpr"],
        "num_consts": count,
    }
    found = linear_solve.bind(*args[:count], *given, **back)
    return [*[None] * count, *found[: len(args) - count]]


def _batch(
    axis_size: int, args: Sequence[Any], dims: Sequence[int | None], **params: Any
) -> tuple[list[Any], list[int | None]]:
    count = params["num_consts"]
    consts_b = tuple(d is not None for d in dims[:count])
    inputs = [
        x if d is None and i < count else place_batch(x, d, 0, axis_size)
        for i, (x, d) in enumerate(zip(args, dims, strict=True))
    ]
    batched = dict(params)
    for name in ("matvec", "vecmat", "jaxpr", "transposed"):
        program: ClosedJaxpr | None = params[name]
        if program is not None:
            flags = (*consts_b, *[True] * (len(args) - count))
            everything = (True,) * len(program.out_avals)
            batched[name] = batch_jaxpr(program, axis_size, flags, everything)[0]
    outs = linear_solve.bind(*inputs, **batched)
    return outs, [0] * len(outs)


linear_solve.impl = run_program
linear_solve.eval = eval_program
linear_solve.shape = program_types
linear_solve.weak = own_weak
linear_solve.jvp = _jvp
linear_solve.transpose = _transpose
linear_solve.batch = _batch
