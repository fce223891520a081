"""What an optimiser is, and how optimisers compose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import funcdl.numpy as fnp
from funcdl.core import tree
from funcdl.core.array import ArrayOperators, aval_of
from funcdl.errors import ArgumentError, LeafTypeError, ShapeError, TreeError
from funcdl.transforms.arguments import describe

Params = Any
"""A pytree of floating-point arrays."""
Updates = Any
"""A pytree with the parameters' structure: gradients on the way in, steps on the way out."""
State = Any
"""A pytree that belongs to one transformation."""


class GradientTransformation(NamedTuple):
    """A pair of pure functions (see `optax.GradientTransformation`).

    Fields:
      init: ``init(params) -> state``.
      update: ``update(updates, state, params=None) -> (updates, state)``; `params` may be left out
        where the transformation does not read it.
    """

    init: Callable[[Params], State]
    update: Callable[..., tuple[Updates, State]]


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing (see `optax.EmptyState`)."""


def identity() -> GradientTransformation:
    """The transformation that changes nothing (see `optax.identity`).

    Its state is an `EmptyState`; shapes and dtypes stay.
    """
    return stateless(lambda updates, params: updates)


def stateless(function: Callable[[Updates, Params], Updates]) -> GradientTransformation:
    """The transformation of a function of updates and parameters."""

    def update(updates: Updates, state: State, params: Params = None) -> tuple[Updates, State]:
        return function(updates, params), state

    return GradientTransformation(lambda params: EmptyState(), update)


def chain(*transformations: GradientTransformation) -> GradientTransformation:
    """Apply transformations one after the other (see `optax.chain`).

    Args:
      transformations: each gets the updates that the one before it returned.

    Returns:
      A transformation whose state is a tuple of theirs.

    Raises:
      ArgumentError: a transformation is none, or `update` is given a state of another number of
        parts.
    """
    for number, transformation in enumerate(transformations):
        if not (hasattr(transformation, "init") and hasattr(transformation, "update")):
            raise ArgumentError(
                f"chain requires transformations, such as clip_by_global_norm(1.0), got "
                f"{type(transformation).__name__} as argument {number}"
            )

    def init(params: Params) -> tuple[State, ...]:
        return tuple(transformation.init(params) for transformation in transformations)

    def update(
        updates: Updates, state: tuple[State, ...], params: Params = None
    ) -> tuple[Updates, tuple[State, ...]]:
        given: Any = state
        parts = len(given) if isinstance(given, tuple) else 1
        if not isinstance(given, tuple) or parts != len(transformations):
            raise ArgumentError(
                f"update of a chain of {len(transformations)} transformations got a state of "
                f"{parts} part{'s' * (parts != 1)}; pass what this optimiser's own init returned"
            )
        new_state = []
        for transformation, part in zip(transformations, state, strict=True):
            updates, part = transformation.update(updates, part, params)
            new_state.append(part)
        return updates, tuple(new_state)

    return GradientTransformation(init, update)


def apply_updates(params: Params, updates: Updates) -> Params:
    """The parameters after one step: each plus its update, in its own dtype.

    See `optax.apply_updates`.

    Args:
      params: a pytree of arrays.
      updates: a pytree of its structure, as `update` returns it.

    Raises:
      TreeError: the structures differ.
      ShapeError: an update would change its parameter's shape.
    """
    check_structure("apply_updates", updates, params)
    return tree.map_with_path(_apply_update, params, updates)


def _apply_update(path: tuple[Any, ...], param: Any, update: Any) -> Any:
    param, update = fnp.asarray(param), fnp.asarray(update)
    if update.shape not in ((), param.shape):
        raise ShapeError(
            f"apply_updates requires an update of its parameter's shape: "
            f"params{tree.format_path(path)} is {param.aval}, its update {update.aval}"
        )
    return (param + update).astype(param.dtype)


def check_structure(caller: str, updates: Updates, params: Params) -> None:
    """Check that updates have the parameters' structure.

    Raises:
      TreeError: they do not.
      LeafTypeError: a leaf is no array.
    """
    check_arrays(caller, "updates", updates)
    check_arrays(caller, "params", params)
    found, wanted = tree.structure(updates), tree.structure(params)
    if found != wanted:
        raise TreeError(
            f"{caller} requires updates with the structure of params:\n"
            f"  updates: {tree.show(found)}\n  params:  {tree.show(wanted)}"
        )


def check_arrays(caller: str, what: str, values: Any) -> None:
    """Check that every leaf of a pytree is an array or a scalar.

    Raises:
      LeafTypeError: one is neither.
    """
    for i, leaf in enumerate(tree.leaves(values)):
        if isinstance(leaf, ArrayOperators):
            continue
        try:
            aval_of(leaf)
        except LeafTypeError as error:
            path = tree.format_path(tree.paths(tree.structure(values))[i])
            raise LeafTypeError(f"{caller}: {what}{path}: {error.reason}") from None


def part_of_state(caller: str, state: Any, field: str) -> Any:
    """A field of a transformation's state.

    Raises:
      ArgumentError: the state is that of another transformation, or none.
    """
    if not hasattr(state, field):
        raise ArgumentError(
            f"{caller}: the state has no {field!r}, got {describe(state)}; pass the state that "
            "this optimiser's init(params) or the last update returned"
        )
    return getattr(state, field)


def check_state(caller: str, updates: Updates, remembered: Updates) -> None:
    """Check that what a state remembers of earlier updates has their structure and shapes.

    Raises:
      TreeError, ShapeError: it does not.
    """
    check_arrays(caller, "updates", updates)
    found, wanted = tree.structure(remembered), tree.structure(updates)
    advice = "pass the state that init(params) or the last update of these parameters returned"
    if found != wanted:
        raise TreeError(
            f"{caller}: the state is of other parameters than the updates; {advice}:\n"
            f"  updates: {tree.show(wanted)}\n  state:   {tree.show(found)}"
        )
    pairs = zip(tree.leaves(updates), tree.leaves(remembered), strict=True)
    for i, (update, old) in enumerate(pairs):
        if fnp.shape(update) != fnp.shape(old):
            path = tree.format_path(tree.paths(wanted)[i])
            raise ShapeError(
                f"{caller}: the state is of other parameters than the updates; {advice}:\n"
                f"  updates{path}: shape {fnp.shape(update)}\n"
                f"  state{path}:   shape {fnp.shape(old)}"
            )


def zeros_like(params: Params, dtype: Any = None) -> Params:
    """Zeros of the parameters' shapes, strongly typed.

    Were they weakly typed, the next state would differ in type, and a jitted step would be
    compiled a second time.
    """

    check_arrays("init", "params", params)

    def zeros(param: Any) -> Any:
        param = fnp.asarray(param)
        return fnp.zeros(param.shape, param.dtype if dtype is None else dtype)

    return tree.map(zeros, params)
