"""custom_vmap: functions that bring their own rule for vmap."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

from funcdl.core import tree
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr, eval_jaxpr
from funcdl.core.primitive import Primitive, own_weak
from funcdl.core.records import record
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.core.trace import current_trace
from funcdl.errors import ArgumentError, ShapeError, TreeError
from funcdl.ops.rows import broadcast_batch
from funcdl.ops.shape import instantiate, move_to_front
from funcdl.transforms.arguments import (
    argument_names,
    as_arrays,
    describe,
    describe_trees,
    flatten_output,
    function_name,
    show_tree,
)
from funcdl.transforms.jvp import jvp_flat, jvp_jaxpr
from funcdl.transforms.partial_eval import PartialEvalTrace
from funcdl.transforms.programs import eval_program, program_types, run_program, trace_body
from funcdl.transforms.transpose import backward_pass

FlatRule = Callable[[int, Sequence[bool], Sequence[Any]], tuple[list[Any], list[bool]]]


@record
class VmapRule:
    """A rule on flat arguments: ``apply(axis_size, in_batched, args)`` returns outputs, and which
    of them have the batch as their first dimension. `captured` counts the leading arguments that
    are values of outer traces, which the rule does not see."""

    name: str
    apply: FlatRule
    captured: int

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __str__(self) -> str:
        return self.name


custom_vmap_call = Primitive("custom_vmap_call", multiple_results=True)


class custom_vmap:
    """A function with its own rule for vmap (see `jax.custom_batching.custom_vmap`).

    ``def_vmap(rule)``: ``rule(axis_size, in_batched, *args)`` returns ``(output, out_batched)``.
    `in_batched` has for each argument a tree of bools with its structure: whether that leaf has the
    batch, as its first dimension. `out_batched` says the same of the output.

    Everywhere else the function is what it would be without the rule; it has derivatives in
    both modes, and forward mode under vmap uses the derivative of the rule.

    Raises (when called):
      ArgumentError: there is no rule, or it returns no pair; under vmap, the function closes over
        a value that is mapped.
      TreeError, ShapeError: the rule's output does not fit the function's.

    Example::

        @custom_vmap
        def solve(a, b):
            return fnp.linalg.solve(a, b)

        @solve.def_vmap
        def solve_vmap(axis_size, in_batched, a, b):
            a_batched, b_batched = in_batched
            if not a_batched:  # one factorisation for all right-hand sides
                return solve(a, b.T).T, True
            ...
    """

    def __init__(self, fun: Callable[..., Any]) -> None:
        functools.update_wrapper(cast(Callable[..., Any], self), fun)
        self._fun = fun
        self._name = function_name(fun)
        self._rule: Callable[..., Any] | None = None

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        method = cast(Callable[..., Any], self)
        return method if instance is None else functools.partial(method, instance)

    def def_vmap(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule."""
        self._rule = rule
        return rule

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        rule = self._rule
        if rule is None:
            raise ArgumentError(
                f"no rule is defined for custom_vmap function {self._name}; use def_vmap"
            )
        args = self._positional(args, kwargs)
        leaves: list[Any] = []
        for name, arg in zip(argument_names(self._fun, args), args, strict=True):
            leaves += as_arrays(name, arg, "custom_vmap")[0]
        in_tree = tree.structure(args)
        avals = [x.aval for x in leaves]
        program, captured, out_tree = trace_body(self._fun, in_tree, avals, "custom_vmap")
        apply = _flat_rule(rule, self._name, in_tree, out_tree, program.out_avals)
        outs = custom_vmap_call.bind(
            *captured, *leaves, jaxpr=program, rule=VmapRule(self._name, apply, len(captured))
        )
        return out_tree.unflatten(outs)

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if not kwargs:
            return args
        bound = inspect.signature(self._fun).bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise ArgumentError(
                f"{self._name} has a custom vmap rule, so all of its arguments must be positional; "
                f"got keyword-only {', '.join(sorted(bound.kwargs))}"
            )
        return bound.args


def _flat_rule(
    rule: Callable[..., Any],
    name: str,
    in_tree: tree.TreeDef,
    out_tree: tree.TreeDef,
    out_avals: Sequence[ShapedArray],
) -> FlatRule:
    """The user's rule on flat arguments, with checks of what it returns."""
    who = f"the vmap rule {function_name(rule)} of {name}"

    def apply(
        axis_size: int, batched: Sequence[bool], args: Sequence[Any]
    ) -> tuple[list[Any], list[bool]]:
        flags = cast(tuple[Any, ...], in_tree.unflatten(batched))
        values = cast(tuple[Any, ...], in_tree.unflatten(args))
        found = rule(int(axis_size), list(flags), *values)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise ArgumentError(
                f"{who} must return a pair (output, out_batched), got {describe(found)}"
            )
        outs, found_tree = flatten_output(found[0], "custom_vmap", function_name(rule))
        if found_tree != out_tree:
            raise TreeError(
                f"{who} must return an output with the structure of the function's:\n"
                + describe_trees(found_tree, out_tree)
            )
        out_flags = _output_flags(who, found[1], out_tree)
        wrong = [
            f"  output{tree.format_path(path)}: found {out.aval}, wanted {wanted}"
            for path, out, flag, aval in zip(
                tree.paths(out_tree), outs, out_flags, out_avals, strict=True
            )
            if not out.aval.same_type(
                wanted := aval.update(shape=(axis_size, *aval.shape)) if flag else aval
            )
        ]
        if wrong:
            raise ShapeError(
                f"{who} must return outputs of the function's types, with a first dimension of "
                f"size {axis_size} where out_batched is True:\n" + "\n".join(wrong)
            )
        return outs, out_flags

    return apply


def _output_flags(who: str, value: Any, out_tree: tree.TreeDef) -> list[bool]:
    flags, flag_tree = tree.flatten(value)
    if flag_tree != out_tree:
        raise TreeError(
            f"{who} must return out_batched with the structure of the output, {show_tree(out_tree)}"
            f", and a bool for each leaf; got {value!r}"
        )
    for flag in flags:
        if not isinstance(flag, bool):
            raise ArgumentError(
                f"{who} must return a bool for each leaf in out_batched, got {flag!r}"
            )
    return flags


def _batch(
    axis_size: int,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    jaxpr: ClosedJaxpr,
    rule: VmapRule,
) -> tuple[list[Any], list[int | None]]:
    if any(dim is not None for dim in dims[: rule.captured]):
        raise ArgumentError(
            f"{rule.name} has a custom vmap rule, and closes over a value that vmap maps, which "
            "the rule would not see; pass the value as an argument"
        )
    values = [move_to_front(x, dim) for x, dim in zip(args, dims, strict=True)][rule.captured :]
    outs, flags = rule.apply(axis_size, [dim is not None for dim in dims[rule.captured :]], values)
    return outs, [0 if flag else None for flag in flags]


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, jaxpr: ClosedJaxpr, rule: VmapRule
) -> tuple[list[Any], list[Any]]:
    # The primal outputs by a call of their own, so that reverse mode keeps the rule for them.
    outs = custom_vmap_call.bind(*primals, jaxpr=jaxpr, rule=rule)
    nonzero = tuple(not is_zero(t) for t in tangents)
    if not any(nonzero):
        return outs, [Zero(out.aval.to_tangent()) for out in outs]
    program, _ = jvp_jaxpr(jaxpr, nonzero, (True,) * len(outs))
    derivative = ClosedJaxpr(
        program.jaxpr.replace(outvars=program.jaxpr.outvars[len(outs) :]), program.consts
    )
    given = [t for t in tangents if not is_zero(t)]
    dots = custom_vmap_call.bind(
        *primals, *given, jaxpr=derivative, rule=_rule_of_derivative(rule, len(primals), nonzero)
    )
    return outs, dots


def _rule_of_derivative(rule: VmapRule, count: int, nonzero: Sequence[bool]) -> VmapRule:
    """The rule of the function ``(*primals, *tangents) -> output tangents``."""
    captured = rule.captured
    varied = nonzero[captured:]
    if any(nonzero[:captured]):

        def refuse(*_: Any) -> Any:
            raise ArgumentError(
                f"{rule.name} has a custom vmap rule, and closes over a value that is "
                "differentiated, which the rule would not see; pass the value as an argument"
            )

        return VmapRule(rule.name, refuse, 0)

    def apply(
        axis_size: int, batched: Sequence[bool], args: Sequence[Any]
    ) -> tuple[list[Any], list[bool]]:
        own = count - captured
        primals, primal_b = list(args[:own]), list(batched[:own])
        given = iter(zip(args[own:], batched[own:], strict=True))
        tangents: list[Any] = []
        for i, flag in enumerate(varied):
            t, t_batched = next(given) if flag else (None, primal_b[i])
            if t_batched != primal_b[i]:
                t, primals[i] = (
                    x if has else _repeated(x, axis_size)
                    for x, has in ((t, t_batched), (primals[i], primal_b[i]))
                )
                primal_b[i] = True
            tangents.append(Zero(primals[i].aval.to_tangent()) if t is None else t)
        flags: list[bool] = []

        def run(*xs: Any) -> list[Any]:
            outs, found = rule.apply(axis_size, primal_b, xs)
            flags[:] = found
            return outs

        _, dots = jvp_flat(run, primals, tangents, name=rule.name)
        return [instantiate(t) for t in dots], flags

    return VmapRule(rule.name, apply, captured)


def _repeated(x: Any, axis_size: int) -> Any:
    return broadcast_batch(x, axis_size)


def _partial_eval(trace: PartialEvalTrace, args: Sequence[Any], params: dict[str, Any]) -> Any:
    # What is linear is to be transposed, which the rule says nothing about.
    program = params["jaxpr"]
    with current_trace(trace):
        return eval_jaxpr(program.jaxpr, program.consts, args)


def _transpose(cts: Sequence[Any], *args: Any, jaxpr: ClosedJaxpr, rule: VmapRule) -> Sequence[Any]:
    return backward_pass(jaxpr.jaxpr, jaxpr.consts, args, cts)


custom_vmap_call.impl = run_program
custom_vmap_call.eval = eval_program
custom_vmap_call.shape = program_types
custom_vmap_call.weak = own_weak
custom_vmap_call.jvp = _jvp
custom_vmap_call.partial_eval = _partial_eval
custom_vmap_call.transpose = _transpose
custom_vmap_call.batch = _batch
