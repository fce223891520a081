"""custom_vjp and custom_gradient: functions with their own pullback."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from funcdl.core import tree
from funcdl.core.symbolic_zero import Zero
from funcdl.errors import ArgumentError, TreeError
from funcdl.transforms.arguments import describe, describe_trees, flatten_output, function_name
from funcdl.transforms.custom.call import bind_custom
from funcdl.transforms.custom.definition import CustomCall
from funcdl.transforms.custom.function import CustomFunction, check_derivative, derivative_leaves
from funcdl.transforms.symbolic_zeros import CustomVJPPrimal, to_user

Lists = tuple[list[Any], list[Any]]


class custom_vjp(CustomFunction):
    """A function with its own rule for vjp and grad (see `jax.custom_vjp`).

    Forward mode through it is an error. The function and its rules may use values of enclosing
    traced functions, but not be differentiated by them, as with `custom_jvp`.

    Args:
      fun: the function, of pytrees of arrays.
      nondiff_argnums, nondiff_argnames: arguments without derivative, such as functions; they need
        not be hashable.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        nondiff_argnums: Sequence[int] = (),
        nondiff_argnames: Sequence[str] = (),
    ) -> None:
        super().__init__(fun, nondiff_argnums, nondiff_argnames, "custom_vjp")
        self._fwd: Callable[..., Any] | None = None
        self._bwd: Callable[..., Any] | None = None
        self._symbolic_zeros = False

    def defvjp(
        self,
        fwd: Callable[..., Any],
        bwd: Callable[..., Any],
        symbolic_zeros: bool = False,
        optimize_remat: bool = False,
    ) -> None:
        """Set the forward function and the pullback.

        Args:
          fwd: ``fwd(*args)`` returns ``(output, residuals)``.
          bwd: ``bwd(*nondiff_args, residuals, cotangent)`` returns a tuple with one cotangent (or
            None, for zero) for each argument with a derivative; None stands for parts of one, too.
          symbolic_zeros: give `fwd` its differentiable leaves as
            `custom_derivatives.CustomVJPPrimal`, and `bwd` cotangents that are zero as
            `custom_derivatives.SymbolicZero`, which it may also return.
          optimize_remat: accepted for compatibility; the compiler drops what nothing reads anyway.
        """
        self._fwd, self._bwd, self._symbolic_zeros = fwd, bwd, symbolic_zeros

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        fwd, bwd = self._fwd, self._bwd
        if fwd is None or bwd is None:
            raise self._no_rule("defvjp")
        args = tuple(self._resolve(args, kwargs))
        nondiff, positions, join = self._split(args)
        flat, in_tree, names = self._flatten(args, positions)
        in_avals = [x.aval for x in flat]
        out_tree: tree.TreeDef | None = None
        residual_tree: tree.TreeDef | None = None
        name = function_name(fwd)
        who = f"the forward rule {name} of {self._name}"

        def fun(*xs: Any) -> list[Any]:
            nonlocal out_tree
            outs, out_tree = flatten_output(
                self._fun(*join(in_tree.unflatten(xs))), "custom_vjp", self._name
            )
            return outs

        def rule(_: Any, primals: Sequence[Any], nonzero: Sequence[bool]) -> Lists:
            nonlocal out_tree, residual_tree
            values = list(primals)
            if self._symbolic_zeros:
                values = [CustomVJPPrimal(x, nz) for x, nz in zip(primals, nonzero, strict=True)]
            pair = fwd(*join(in_tree.unflatten(values)))
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise ArgumentError(
                    f"{who} must return a pair (output, residuals), got {describe(pair)}"
                )
            outs, rule_tree = flatten_output(pair[0], "custom_vjp", name)
            if out_tree is not None and rule_tree != out_tree:
                raise TreeError(
                    f"{who} must return an output with the structure that {self._name} returns:\n"
                    + describe_trees(rule_tree, out_tree)
                )
            out_tree = rule_tree
            residuals, residual_tree = flatten_output(pair[1], "custom_vjp", name)
            return outs, residuals

        def pullback(_: Any, residuals: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
            assert out_tree is not None and residual_tree is not None
            ct = out_tree.unflatten(map(to_user, cotangents))
            cts = bwd(*nondiff, residual_tree.unflatten(residuals), ct)
            who = f"the backward rule {function_name(bwd)} of {self._name}"
            return _flatten_cotangents(who, cts, in_tree, names, in_avals)

        call = CustomCall(
            self._name,
            "vjp",
            fun,
            rule,
            pullback,
            symbolic_zeros=self._symbolic_zeros,
            owner=self,
        )
        outs = bind_custom(call, (self._fun, fwd, bwd, nondiff), flat)
        assert out_tree is not None
        return out_tree.unflatten(outs)


def _flatten_cotangents(
    who: str, cts: Any, in_tree: tree.TreeDef, names: Sequence[str], avals: Sequence[Any]
) -> list[Any]:
    if not isinstance(cts, tuple | list) or len(cts) != len(names):
        count = f"{len(cts)} values" if isinstance(cts, tuple | list) else describe(cts)
        raise ArgumentError(
            f"{who} must return a tuple with one cotangent for each of its {len(names)} "
            f"differentiable arguments ({', '.join(names)}), got {count}"
        )
    flat: list[Any] = []
    rest = iter(avals)
    for name, wanted, ct in zip(names, in_tree.children(), cts, strict=True):
        if ct is None:
            flat += [Zero(next(rest).to_tangent()) for _ in range(wanted.num_leaves)]
            continue
        leaves, found_tree = derivative_leaves(who, f"cotangent of {name}", ct)
        given: list[Any] | None = leaves
        if found_tree != wanted:
            # Leaves by their places, since None takes the places of whole subtrees.
            places = found_tree.unflatten(leaves)
            given = _with_parts_left_out(places, wanted.unflatten([_Leaf()] * wanted.num_leaves))
        if given is None:
            raise TreeError(
                f"{who} must return a cotangent with the structure of argument {name}:\n"
                + describe_trees(found_tree, wanted)
            )
        for path, x in zip(tree.paths(wanted), given, strict=True):
            aval = next(rest)
            what = f"argument {name}{tree.format_path(path)}"
            flat.append(
                Zero(aval.to_tangent())
                if x is None
                else check_derivative(who, what, aval, x, any_float=True)
            )
    return flat


class _Leaf:
    """What stands for a leaf of an argument."""


def _with_parts_left_out(ct: Any, argument: Any) -> list[Any] | None:
    """The leaves of a cotangent, None for each leaf of a part of the argument that None stands for.

    None if the structures differ otherwise.
    """
    if ct is None:
        return [None] * len(tree.leaves(argument))
    parts, node = tree.flatten(ct, is_leaf=lambda x: x is not ct)
    wanted, wanted_node = tree.flatten(argument, is_leaf=lambda x: x is not argument)
    if node != wanted_node:
        return None
    if isinstance(argument, _Leaf):
        return parts
    found: list[Any] = []
    for part, of_argument in zip(parts, wanted, strict=True):
        leaves = _with_parts_left_out(part, of_argument)
        if leaves is None:
            return None
        found += leaves
    return found


def custom_gradient(fun: Callable[..., Any]) -> Callable[..., Any]:
    """A function defined together with its pullback (see `jax.custom_gradient`).

    ``fun(*args)`` returns ``(output, pullback)``, where ``pullback(cotangent)`` returns a tuple of
    cotangents (or one cotangent, for one argument).
    """

    @custom_vjp
    def wrapped(*args: Any) -> Any:
        return fun(*args)[0]

    def fwd(*args: Any) -> tuple[Any, Any]:
        return fun(*args)[0], args

    def bwd(args: tuple[Any, ...], ct: Any) -> Any:
        cts = fun(*args)[1](ct)
        return cts if isinstance(cts, tuple | list) else (cts,)

    wrapped.defvjp(fwd, bwd)
    return functools.update_wrapper(wrapped, fun)
