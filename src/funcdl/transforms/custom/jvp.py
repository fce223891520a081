"""custom_jvp: functions with their own rule for forward mode, and so for every derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcdl.core import tree
from funcdl.core.array import as_array
from funcdl.errors import ArgumentError, TreeError
from funcdl.ops.shape import zeros
from funcdl.transforms.arguments import describe, describe_trees, flatten_output, function_name
from funcdl.transforms.custom.call import bind_custom
from funcdl.transforms.custom.definition import CustomCall
from funcdl.transforms.custom.function import CustomFunction, check_derivative, derivative_leaves
from funcdl.transforms.symbolic_zeros import to_user

Lists = tuple[list[Any], list[Any]]


class custom_jvp(CustomFunction):
    """A function with its own rule for jvp, and so for every derivative (see `jax.custom_jvp`).

    The function and its rule may use values of enclosing traced functions. Differentiating by such
    a value is an error where it is used: it must be an argument for that.

    Args:
      fun: the function, of pytrees of arrays.
      nondiff_argnums, nondiff_argnames: arguments without derivative, such as functions; they need
        not be hashable. The rule gets them first.

    Example::

        @funcdl.custom_jvp
        def f(x):
            return fnp.log1p(fnp.exp(x))

        @f.defjvp
        def f_jvp(primals, tangents):
            (x,), (t,) = primals, tangents
            return f(x), t * sigmoid(x)
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        nondiff_argnums: Sequence[int] = (),
        nondiff_argnames: Sequence[str] = (),
    ) -> None:
        super().__init__(fun, nondiff_argnums, nondiff_argnames, "custom_jvp")
        self._rule: Callable[..., Any] | None = None
        self._symbolic_zeros = False

    def defjvp(self, jvp: Callable[..., Any], symbolic_zeros: bool = False) -> Callable[..., Any]:
        """Set the rule: ``jvp(*nondiff_args, primals, tangents) -> (output, output_tangent)``.

        With `symbolic_zeros`, tangents that are zero for all arguments are given as
        `custom_derivatives.SymbolicZero`, and may be returned so.
        """
        self._rule, self._symbolic_zeros = jvp, symbolic_zeros
        return jvp

    def defjvps(self, *jvps: Callable[..., Any] | None) -> None:
        """Set the rule from one for each argument: ``rule(tangent, output, *primals)``.

        None says that the output does not depend on the argument.
        """
        if self._nondiff:
            raise ArgumentError("defjvps cannot be combined with nondiff_argnums; use defjvp")

        def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
            if len(jvps) != len(primals):
                raise ArgumentError(
                    f"defjvps of {self._name} was given {len(jvps)} rules, and {self._name} has "
                    f"{len(primals)} arguments; pass one for each, or None"
                )
            out = self(*primals)
            parts = [r(t, out, *primals) for r, t in zip(jvps, tangents, strict=True) if r]
            if not parts:
                return out, tree.map(lambda x: zeros(as_array(x).aval.to_tangent()), out)
            total = parts[0]
            for part in parts[1:]:
                total = tree.map(lambda a, b: a + b, total, part)
            return out, total

        self.defjvp(rule)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        rule = self._rule
        if rule is None:
            raise self._no_rule("defjvp")
        args = tuple(self._resolve(args, kwargs))
        nondiff, positions, join = self._split(args)
        flat, in_tree, _ = self._flatten(args, positions)
        out_tree: tree.TreeDef | None = None
        who = f"the jvp rule {function_name(rule)} of {self._name}"

        def fun(*xs: Any) -> list[Any]:
            nonlocal out_tree
            outs, out_tree = flatten_output(
                self._fun(*join(in_tree.unflatten(xs))), "custom_jvp", self._name
            )
            return outs

        def flat_rule(_: Any, primals: Sequence[Any], tangents: Sequence[Any]) -> Lists:
            nonlocal out_tree
            given = in_tree.unflatten(map(to_user, tangents))
            pair = rule(*nondiff, in_tree.unflatten(primals), given)
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise ArgumentError(
                    f"{who} must return a pair (output, output_tangent), got {describe(pair)}"
                )
            outs, rule_tree = flatten_output(pair[0], "custom_jvp", function_name(rule))
            if out_tree is not None and rule_tree != out_tree:
                raise TreeError(
                    f"{who} must return an output with the structure that {self._name} returns:\n"
                    + describe_trees(rule_tree, out_tree)
                )
            out_tree = rule_tree
            found, tangent_tree = derivative_leaves(who, "output tangent", pair[1])
            if tangent_tree != out_tree:
                raise TreeError(
                    f"{who} must return an output tangent with the output's structure:\n"
                    + describe_trees(tangent_tree, out_tree)
                )
            paths = [f"output tangent{tree.format_path(path)}" for path in tree.paths(out_tree)]
            return outs, [
                check_derivative(who, path, out.aval, t)
                for path, out, t in zip(paths, outs, found, strict=True)
            ]

        call = CustomCall(
            self._name, "jvp", fun, flat_rule, symbolic_zeros=self._symbolic_zeros, owner=self
        )
        outs = bind_custom(call, (self._fun, rule, nondiff), flat)
        assert out_tree is not None
        return out_tree.unflatten(outs)
