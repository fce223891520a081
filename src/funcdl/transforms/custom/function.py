"""What custom_jvp and custom_vjp share: resolving arguments, and checks of what rules return."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

from funcdl.core import dtypes, tree
from funcdl.core.avals import ShapedArray
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.errors import ArgumentError, DtypeError, LeafTypeError, ShapeError
from funcdl.ops.convert import convert_element_type
from funcdl.transforms.arguments import (
    argument_names,
    as_arrays,
    describe,
    function_name,
    leaf_names,
    normalize_argnums,
)
from funcdl.transforms.symbolic_zeros import from_user

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class CustomFunction:
    """A function that brings its own derivative rules."""

    def __init__(
        self,
        fun: Callable[..., Any],
        nondiff_argnums: Sequence[int],
        nondiff_argnames: Sequence[str],
        transform: str,
    ) -> None:
        given: Any = fun
        if not callable(given):
            raise ArgumentError(f"{transform} requires a function, got {describe(fun)}")
        functools.update_wrapper(cast(Callable[..., Any], self), fun)
        self._fun = fun
        self._name = function_name(fun)
        self._transform = transform
        try:
            self._signature: inspect.Signature | None = inspect.signature(fun)
        except (TypeError, ValueError):
            self._signature = None
        parameters = self._signature.parameters.values() if self._signature else []
        simple = all(p.kind in _POSITIONAL for p in parameters)
        self._count = len(parameters) if simple and self._signature else -1
        for given in (nondiff_argnums, nondiff_argnames):
            if isinstance(given, str) or not isinstance(given, Sequence):
                which = "nondiff_argnums" if given is nondiff_argnums else "nondiff_argnames"
                raise ArgumentError(
                    f"{transform} of {self._name}: {which} must be a sequence, got {given!r}; "
                    "write a tuple, also for one argument"
                )
        self._nondiff = (*nondiff_argnums, *map(self._position, nondiff_argnames))

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        method = cast(Callable[..., Any], self)
        return method if instance is None else functools.partial(method, instance)

    def _position(self, name: str) -> int:
        names = list(self._signature.parameters) if self._signature else []
        if name not in names:
            raise ArgumentError(
                f"{self._transform} of {self._name}: nondiff_argnames has {name!r}, and the "
                f"function has {', '.join(names) or 'no parameters'}"
            )
        return names.index(name)

    def _no_rule(self, method: str) -> ArgumentError:
        return ArgumentError(
            f"no rule is defined for {self._transform} function {self._name}; use {method}"
        )

    def _resolve(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        """All arguments by position, defaults filled in."""
        if not kwargs and (self._signature is None or len(args) == self._count):
            return list(args)
        signature = self._signature or inspect.signature(self._fun)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise ArgumentError(
                f"{self._name} has a custom derivative rule, so all of its arguments must be "
                f"positional; got keyword-only {', '.join(sorted(bound.kwargs))}"
            )
        return list(bound.args)

    def _split(self, args: Sequence[Any]) -> tuple[list[Any], list[int], Callable[..., list[Any]]]:
        """Arguments without derivative, positions of the others, and how to join them again."""
        fixed = set(normalize_argnums(self._nondiff, len(args), "nondiff_argnums", self._name))
        kept = {i: args[i] for i in sorted(fixed)}  # and no others: programs keep the functions
        count = len(args)

        def join(values: Sequence[Any]) -> list[Any]:
            rest = iter(values)
            return [kept[i] if i in kept else next(rest) for i in range(count)]

        nondiff = list(kept.values())
        positions = [i for i in range(count) if i not in fixed]
        return nondiff, positions, join

    def _flatten(
        self, args: Sequence[Any], positions: Sequence[int]
    ) -> tuple[list[Any], tree.TreeDef, list[str]]:
        """Leaves of the arguments with a derivative, their structure, the arguments' names."""
        all_names = argument_names(self._fun, args)
        names = [all_names[i] for i in positions]
        flat: list[Any] = []
        for i, name in zip(positions, names, strict=True):
            flat += as_arrays(name, args[i], self._transform)[0]
        return flat, tree.structure(tuple(args[i] for i in positions)), names


def derivative_leaves(who: str, what: str, value: Any) -> tuple[list[Any], tree.TreeDef]:
    """The leaves of tangents or cotangents that a rule returned, and their structure."""
    leaves, treedef = tree.flatten(value)
    found = []
    for path, leaf in zip(leaf_names(what, value), leaves, strict=True):
        try:
            found.append(from_user(leaf))
        except LeafTypeError as error:
            raise LeafTypeError(f"{who} must return arrays; {path}: {error.reason}") from None
    return found, treedef


def check_derivative(
    who: str, what: str, aval: ShapedArray, value: Any, any_float: bool = False
) -> Any:
    """A tangent or cotangent that a rule returned for a value of type `aval`.

    With `any_float`, floats of other widths are converted.

    Raises:
      ShapeError, DtypeError: it does not fit.
    """
    wanted = aval.to_tangent()
    if wanted.dtype == dtypes.float0:
        return Zero(wanted)
    found = value.aval
    if found.shape != wanted.shape:
        raise ShapeError(f"{who} must return for {what} a value of type {wanted}, got {found}")
    if found.dtype == wanted.dtype:
        return value
    if is_zero(value):
        return Zero(wanted)
    same_kind = dtypes.is_inexact(found.dtype) and (
        dtypes.is_complex(found.dtype) <= dtypes.is_complex(wanted.dtype)
    )
    if not same_kind or not (any_float or found.weak_type):
        raise DtypeError(
            f"{who} must return for {what} a value of type {wanted}, got {found}; convert it with "
            f".astype({wanted.dtype.name!r})"
        )
    return convert_element_type(value, new_dtype=wanted.dtype, weak_type=False)
