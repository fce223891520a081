"""Arguments of transformed functions: positions, names, flattening, and what errors say of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from funcdl.core import tree
from funcdl.core.array import Array, ArrayOperators, as_array
from funcdl.errors import ArgumentError, DeletedArrayError, LeafTypeError


def function_name(f: Callable[..., Any]) -> str:
    """A function's name for messages and generated code."""
    while isinstance(f, functools.partial):
        f = f.func
    return str(getattr(f, "__name__", type(f).__name__))


def normalize_argnums(
    argnums: int | Sequence[int], count: int, what: str = "argnums", name: str = "the function"
) -> tuple[int, ...]:
    """Positions as a tuple of non-negative integers.

    Raises:
      ArgumentError: a position is no integer, or there is no such argument.
    """
    given: Any = argnums
    several = isinstance(given, Sequence) and not isinstance(given, str)
    positions: tuple[Any, ...] = tuple(given) if several else (given,)
    for i in positions:
        if not isinstance(i, int) or isinstance(i, bool):
            raise ArgumentError(f"{what} must be an int or a sequence of ints, got {argnums!r}")
        if not -count <= i < count:
            raise ArgumentError(
                f"{what}={argnums!r} is out of range: {name} was called with {count} positional "
                f"argument{'s' * (count != 1)}"
                + "; arguments to differentiate by are passed by position"
                * (count == 0)
            )
    return tuple(i % count for i in positions)


def distinct_argnums(
    argnums: int | Sequence[int], count: int, what: str = "argnums", name: str = "the function"
) -> tuple[int, ...]:
    """As `normalize_argnums`, for arguments to differentiate by, which are named once each.

    Raises:
      ArgumentError: as there, or an argument is named twice.
    """
    positions = normalize_argnums(argnums, count, what, name)
    if len(set(positions)) != len(positions):
        raise ArgumentError(f"{what}={argnums!r} names an argument of {name} twice")
    return positions


def at_positions(
    f: Callable[..., Any], positions: Sequence[int], args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """`f` as a function of some positional arguments alone, and those arguments."""

    def restricted(*values: Any) -> Any:
        full = list(args)
        for i, value in zip(positions, values, strict=True):
            full[i] = value
        return f(*full, **kwargs)

    functools.update_wrapper(restricted, f)
    return restricted, tuple(args[i] for i in positions)


def argument_names(f: Callable[..., Any], args: Sequence[Any]) -> list[str]:
    """A name for each positional argument: the parameter's, or its position."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = []
    for i in range(len(args)):
        parameter = parameters[min(i, len(parameters) - 1)] if parameters else None
        if parameter is None or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            names.append(f"arg{i}")
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            first = next(n for n, p in enumerate(parameters) if p is parameter)
            names.append(f"{parameter.name}[{i - first}]")
        else:
            names.append(parameter.name)
    return names


def leaf_names(name: str, value: Any) -> list[str]:
    """A name for each leaf of an argument: ``params['w'][0]``."""
    return [name + tree.format_path(path) for path, _ in tree.leaves_with_path(value)]


def as_arrays(name: str, value: Any, transform: str) -> tuple[list[Any], tree.TreeDef]:
    """The leaves of an argument as arrays.

    Raises:
      LeafTypeError: a leaf is no array; the message gives its path.
      DeletedArrayError: a leaf has been deleted; likewise.
    """
    leaves, treedef = tree.flatten(value)
    try:
        arrays = [as_array(leaf) for leaf in leaves]
        if not any(type(x) is Array and x.is_deleted() for x in arrays):
            return arrays, treedef
    except LeafTypeError:
        pass  # found again below, with its path
    for path, leaf in zip(leaf_names(name, value), leaves, strict=True):
        try:
            x = as_array(leaf)
            if type(x) is Array:
                _ = x.value
        except (LeafTypeError, DeletedArrayError) as error:
            reason = error.reason
            if path == "self" and isinstance(error, LeafTypeError):
                reason = _OF_METHODS.format(kind=type(leaf).__name__)
            raise type(error)(f"{transform}: argument {path}: {reason}") from None
    raise AssertionError(transform)


_OF_METHODS = (
    "expected arrays, got an object of class {kind}.\n"
    "Make the class a pytree, with funcdl.tree_util.register_dataclass or "
    "register_pytree_node_class; or leave its attributes constant and make self static, by "
    "static_argnums=0."
)


def flatten_output(value: Any, transform: str, name: str) -> tuple[list[Any], tree.TreeDef]:
    """The leaves of a function's result as arrays.

    Raises:
      LeafTypeError: a leaf is no array; the message gives its path.
    """
    leaves, treedef = tree.flatten(value)
    arrays = []
    for i, leaf in enumerate(leaves):
        try:
            arrays.append(as_array(leaf))
        except LeafTypeError as error:
            path = tree.format_path(tree.paths(treedef)[i])
            reason = error.reason
            if inspect.isgenerator(leaf):
                reason = (
                    "it is a generator, since the function has `yield`; collect the values in a "
                    "list and return that, or loop with funcdl.lax.scan"
                )
            raise LeafTypeError(
                f"{transform} requires {name} to return arrays; output{path}: {reason}"
            ) from None
    return arrays, treedef


def check_function(transform: str, fun: Any, argument: str = "") -> None:
    """Raise `ArgumentError` for what cannot be called, such as a function's value.

    `argument` names it where there are several arguments that it may be.
    """
    if not callable(fun):
        raise ArgumentError(
            f"{transform} requires a function{argument and f' as {argument}'}, got "
            f"{describe(fun)}; pass the function itself, or lambda: ... around an expression"
        )


def describe(value: Any) -> str:
    """What kind of value something is, for messages."""
    if isinstance(value, ArrayOperators):
        return f"an array of type {value.aval}"
    return "None" if value is None else f"a {type(value).__name__}"


def describe_trees(found: tree.TreeDef, wanted: tree.TreeDef) -> str:
    """Two structures, below each other, without the pytree library's decoration."""
    return f"  found:  {show_tree(found)}\n  wanted: {show_tree(wanted)}"


def show_tree(treedef: tree.TreeDef) -> str:
    """A structure as the user would write it, ``*`` for each leaf."""
    return tree.show(treedef)
