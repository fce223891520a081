"""custom_root: find a root of a function, differentiated implicitly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcdl.control.programs import solution_tree, split
from funcdl.core import tree
from funcdl.core.jaxpr import ClosedJaxpr, eval_jaxpr
from funcdl.errors import ShapeError, TreeError
from funcdl.ops.arithmetic import neg
from funcdl.ops.shape import zeros
from funcdl.transforms.arguments import as_arrays, check_function, describe_trees, function_name
from funcdl.transforms.custom.jvp import custom_jvp
from funcdl.transforms.derivatives import jvp, linearize
from funcdl.transforms.programs import trace_body


def custom_root(
    f: Callable[[Any], Any],
    initial_guess: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    tangent_solve: Callable[[Callable[[Any], Any], Any], Any],
    has_aux: bool = False,
) -> Any:
    """The x for which ``f(x)`` is zero (see `jax.lax.custom_root`).

    Derivatives by what `f` closes over come from the implicit function theorem, and not from how
    the root is found: so `solve` may be any iteration.

    Args:
      f: a function from the structure and types of `initial_guess` to themselves.
      initial_guess: where to start; a pytree of arrays, without influence on derivatives.
      solve: ``solve(f, initial_guess)`` returns the root.
      tangent_solve: ``tangent_solve(g, y)`` returns the z for which ``g(z)`` is `y`, where g is
        linear: the derivative of `f` at the root. It must itself be differentiable (`f` of one
        number: ``lambda g, y: y / g(1.0)``; in general `custom_linear_solve`).
      has_aux: whether `solve` returns a pair ``(x, aux)``; `aux` has no derivative.

    Raises:
      TreeError, ShapeError: a function returns something else than it must.
    """
    what = "custom_root"
    for which, function in (("f", f), ("solve", solve), ("tangent_solve", tangent_solve)):
        check_function(what, function, which)
    guess, guess_tree = as_arrays("initial_guess", initial_guess, what)
    avals = [x.aval.update(weak_type=False) for x in guess]
    in_tree = tree.structure((initial_guess,))
    program, captured, out_tree = trace_body(f, in_tree, avals, what)
    _check(function_name(f), guess_tree, avals, out_tree, program)

    def call(x: Any) -> Any:
        return solve(f, x)

    solver, solver_captured, solver_tree = trace_body(call, in_tree, avals, f"solver of {what}")
    x_tree = solution_tree(what, solve, solver_tree, has_aux)
    _check(function_name(solve), guess_tree, avals, x_tree, solver)

    def solve_tangent(x: Any, y: Any) -> Any:
        return tangent_solve(linearize(f, x)[1], y)

    pair_tree = tree.structure((initial_guess, initial_guess))
    tangent, tangent_captured, tangent_tree = trace_body(
        solve_tangent, pair_tree, [*avals, *avals], f"tangent_solve of {what}"
    )
    _check(function_name(tangent_solve), guess_tree, avals, tangent_tree, tangent)
    counts = len(captured), len(solver_captured), len(tangent_captured)

    @custom_jvp
    def root(*args: Any) -> list[Any]:
        _, for_solver, _, start = split(args, *counts)
        return eval_jaxpr(solver.jaxpr, solver.consts, [*for_solver, *start])

    @root.defjvp
    def root_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
        outs = root(*primals)
        x, aux = outs[: len(avals)], outs[len(avals) :]
        for_f, _, for_tangent, _ = split(primals, *counts)

        def residual(*values: Any) -> list[Any]:
            return eval_jaxpr(program.jaxpr, program.consts, [*values, *x])

        dots = tangents[: counts[0]]
        right = jvp(residual, tuple(for_f), tuple(dots))[1] if dots else []
        change = map(neg, right) if dots else (zeros(aval) for aval in avals)
        found = eval_jaxpr(tangent.jaxpr, tangent.consts, [*for_tangent, *x, *change])
        return outs, [*found, *(zeros(y.aval.to_tangent()) for y in aux)]

    return solver_tree.unflatten(root(*captured, *solver_captured, *tangent_captured, *guess))


def _check(
    name: str, wanted: tree.TreeDef, avals: list[Any], found: tree.TreeDef, program: ClosedJaxpr
) -> None:
    if found != wanted:
        raise TreeError(
            f"custom_root requires {name} to return the structure of initial_guess:\n"
            + describe_trees(found, wanted)
        )
    for aval, out in zip(avals, program.out_avals, strict=False):
        if not out.same_type(aval):
            raise ShapeError(
                f"custom_root requires {name} to return the types of initial_guess; got {out} for "
                f"{aval}"
            )
