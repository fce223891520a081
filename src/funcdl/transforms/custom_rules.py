"""custom_jvp and custom_vjp: functions that bring their own derivative rules."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

from funcdl.core import dtypes, tree
from funcdl.core.array import as_array
from funcdl.errors import ArgumentError, ShapeError, TreeError
from funcdl.ops.shape import zeros
from funcdl.transforms.arguments import (
    argument_names,
    as_arrays,
    describe,
    describe_trees,
    flatten_output,
    function_name,
    normalize_argnums,
)
from funcdl.transforms.custom_call import CustomCall, custom_call


class _CustomFunction:
    """What both kinds share: resolving arguments, and splitting off those without derivative."""

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int]) -> None:
        functools.update_wrapper(cast(Callable[..., Any], self), fun)
        self._fun = fun
        self._name = function_name(fun)
        self._nondiff = tuple(nondiff_argnums)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        method = cast(Callable[..., Any], self)
        return method if instance is None else functools.partial(method, instance)

    def _resolve(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        """All arguments by position, defaults filled in."""
        if not kwargs:
            return list(args)
        bound = inspect.signature(self._fun).bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise ArgumentError(
                f"{self._name} has a custom derivative rule, so all of its arguments must be "
                f"positional; got keyword-only {', '.join(sorted(bound.kwargs))}"
            )
        return list(bound.args)

    def _split(self, args: Sequence[Any]) -> tuple[list[Any], list[Any], Callable[..., list[Any]]]:
        """Arguments without derivative, those with one, and how to put them together again."""
        fixed = set(normalize_argnums(self._nondiff, len(args), "nondiff_argnums", self._name))
        nondiff = [args[i] for i in sorted(fixed)]
        diff = [x for i, x in enumerate(args) if i not in fixed]

        def join(values: Sequence[Any]) -> list[Any]:
            rest = iter(values)
            return [args[i] if i in fixed else next(rest) for i in range(len(args))]

        return nondiff, diff, join


class custom_jvp(_CustomFunction):
    """A function with its own rule for jvp, and so for every derivative (see `jax.custom_jvp`).

    A traced value that the rule needs must be an argument: the rule may run when the trace of an
    enclosing function has ended.

    Example::

        @funcdl.custom_jvp
        def f(x):
            return fnp.log1p(fnp.exp(x))

        @f.defjvp
        def f_jvp(primals, tangents):
            (x,), (t,) = primals, tangents
            return f(x), t * sigmoid(x)
    """

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        super().__init__(fun, nondiff_argnums)
        self._rule: Callable[..., Any] | None = None

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule: ``rule(*nondiff_args, primals, tangents) -> (output, output_tangent)``."""
        self._rule = rule
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """Set the rule from one for each argument: ``rule(tangent, output, *primals)``.

        None says that the output does not depend on the argument.
        """
        if self._nondiff:
            raise ArgumentError("defjvps cannot be combined with nondiff_argnums; use defjvp")

        def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
            out = self(*primals)
            parts = [r(t, out, *primals) for r, t in zip(rules, tangents, strict=True) if r]
            if not parts:
                return out, tree.map(lambda x: zeros(as_array(x).aval.to_tangent()), out)
            total = parts[0]
            for part in parts[1:]:
                total = tree.map(lambda a, b: a + b, total, part)
            return out, total

        self.defjvp(rule)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._rule is None:
            raise ArgumentError(
                f"no rule is defined for custom_jvp function {self._name}; use defjvp"
            )
        rule = self._rule
        nondiff, diff, join = self._split(self._resolve(args, kwargs))
        flat, in_tree = _flatten(self._fun, diff, "custom_jvp")
        out_tree: tree.TreeDef | None = None

        def fun(*xs: Any) -> list[Any]:
            nonlocal out_tree
            outs, out_tree = flatten_output(
                self._fun(*join(in_tree.unflatten(xs))), "custom_jvp", self._name
            )
            return outs

        def flat_rule(*xs: Any) -> list[Any]:
            nonlocal out_tree
            half = len(xs) // 2
            pair = rule(*nondiff, in_tree.unflatten(xs[:half]), in_tree.unflatten(xs[half:]))
            rule_name = function_name(rule)
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise ArgumentError(
                    f"the jvp rule {rule_name} of {self._name} must return a pair "
                    f"(output, output_tangent), got {describe(pair)}"
                )
            outs, out_tree = flatten_output(pair[0], "custom_jvp", rule_name)
            tangents, tangent_tree = flatten_output(pair[1], "custom_jvp", rule_name)
            if tangent_tree != out_tree:
                raise TreeError(
                    f"the jvp rule {rule_name} of {self._name} must return an output tangent with "
                    "the output's structure:\n" + describe_trees(tangent_tree, out_tree)
                )
            return [
                *outs,
                *(
                    _check_derivative(f"the jvp rule {rule_name}", "output tangent", out.aval, t)
                    for out, t in zip(outs, tangents, strict=True)
                ),
            ]

        call = CustomCall(self._name, "jvp", fun, flat_rule, None)
        outs = custom_call.bind(*flat, call=call, jaxpr=None)
        assert out_tree is not None
        return out_tree.unflatten(outs)


class custom_vjp(_CustomFunction):
    """A function with its own rule for vjp and grad (see `jax.custom_vjp`).

    Forward mode through it is an error. ``defvjp(fwd, bwd)``: ``fwd(*args)`` returns
    ``(output, residuals)``; ``bwd(*nondiff_args, residuals, cotangent)`` returns a tuple with one
    cotangent (or None, for zero) for each argument with a derivative. Traced values that they need
    must be arguments, as with `custom_jvp`.
    """

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        super().__init__(fun, nondiff_argnums)
        self._fwd: Callable[..., Any] | None = None
        self._bwd: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the forward function and the pullback."""
        self._fwd, self._bwd = fwd, bwd

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._fwd is None or self._bwd is None:
            raise ArgumentError(
                f"no rule is defined for custom_vjp function {self._name}; use defvjp"
            )
        fwd, bwd = self._fwd, self._bwd
        nondiff, diff, join = self._split(self._resolve(args, kwargs))
        flat, in_tree = _flatten(self._fun, diff, "custom_vjp")
        in_avals = [x.aval for x in flat]
        out_tree: tree.TreeDef | None = None
        residual_tree: tree.TreeDef | None = None

        def fun(*xs: Any) -> list[Any]:
            nonlocal out_tree
            outs, out_tree = flatten_output(
                self._fun(*join(in_tree.unflatten(xs))), "custom_vjp", self._name
            )
            return outs

        def rule(*xs: Any) -> Any:
            nonlocal out_tree, residual_tree
            pair = fwd(*join(in_tree.unflatten(xs)))
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise ArgumentError(
                    f"the forward rule {function_name(fwd)} of {self._name} must return a pair "
                    f"(output, residuals), got {describe(pair)}"
                )
            outs, out_tree = flatten_output(pair[0], "custom_vjp", function_name(fwd))
            residuals, residual_tree = flatten_output(pair[1], "custom_vjp", function_name(fwd))
            return outs, residuals

        def pullback(*xs: Any) -> list[Any]:
            assert out_tree is not None and residual_tree is not None
            count = residual_tree.num_leaves
            cts = bwd(*nondiff, residual_tree.unflatten(xs[:count]), out_tree.unflatten(xs[count:]))
            return self._flatten_cotangents(cts, diff, in_avals)

        call = CustomCall(self._name, "vjp", fun, rule, pullback)
        outs = custom_call.bind(*flat, call=call, jaxpr=None)
        assert out_tree is not None
        return out_tree.unflatten(outs)

    def _flatten_cotangents(self, cts: Any, diff: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
        assert self._bwd is not None
        who = f"the backward rule {function_name(self._bwd)}"
        if not isinstance(cts, tuple | list) or len(cts) != len(diff):
            found = f"{len(cts)} values" if isinstance(cts, tuple | list) else type(cts).__name__
            raise ArgumentError(
                f"{who} of {self._name} must return a tuple with one cotangent for each of its "
                f"{len(diff)} differentiable arguments, got {found}"
            )
        flat: list[Any] = []
        rest = iter(avals)
        for position, (ct, arg) in enumerate(zip(cts, diff, strict=True)):
            wanted = tree.structure(arg)
            if ct is None:
                flat += [zeros(next(rest).to_tangent()) for _ in range(wanted.num_leaves)]
                continue
            leaves, found_tree = tree.flatten(ct)
            if found_tree != wanted:
                raise TreeError(
                    f"{who} of {self._name} must return a cotangent with the structure of argument "
                    f"{position}:\n" + describe_trees(found_tree, wanted)
                )
            flat += [
                _check_derivative(
                    who, f"cotangent for argument {position}", next(rest), as_array(x)
                )
                for x in leaves
            ]
        return flat


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


def _flatten(
    fun: Callable[..., Any], args: Sequence[Any], transform: str
) -> tuple[list[Any], tree.TreeDef]:
    flat: list[Any] = []
    for name, arg in zip(argument_names(fun, args), args, strict=True):
        flat += as_arrays(name, arg, transform)[0]
    return flat, tree.structure(tuple(args))


def _check_derivative(who: str, what: str, aval: Any, value: Any) -> Any:
    wanted = aval.to_tangent()
    if wanted.dtype == dtypes.float0:
        return zeros(wanted)
    found = value.aval
    if found.shape != wanted.shape:
        raise ShapeError(f"{who} must return for {what} a value of type {wanted}, got {found}")
    if found.dtype != wanted.dtype:
        from funcdl.ops.convert import convert_element_type

        return convert_element_type(value, new_dtype=wanted.dtype, weak_type=False)
    return value
