"""Zeros that rules with ``symbolic_zeros=True`` are given, and may return, in place of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from funcdl.core import tree
from funcdl.core.array import as_array
from funcdl.core.avals import ShapedArray, Typed
from funcdl.core.symbolic_zero import Zero, is_zero
from funcdl.ops.shape import zeros


class SymbolicZero(Typed):
    """A tangent or cotangent that is zero whatever the arguments (see `jax.custom_derivatives`).

    It has a shape and a dtype, and no elements.
    """

    __slots__ = ("_aval",)

    def __init__(self, aval: ShapedArray) -> None:
        self._aval = aval

    @property
    def aval(self) -> ShapedArray:
        return self._aval

    def __repr__(self) -> str:
        return f"SymbolicZero({self.aval})"


@dataclass(frozen=True)
class CustomVJPPrimal:
    """An argument of a forward rule with ``symbolic_zeros=True``.

    `perturbed` says whether a cotangent for it is wanted (see `jax.custom_derivatives`).
    """

    value: Any
    perturbed: bool


def custom_vjp_primal_tree_values(tree_of_primals: Any) -> Any:
    """The values of a tree of `CustomVJPPrimal`s (see `jax.custom_derivatives`)."""
    leaves, treedef = tree.flatten(tree_of_primals)
    return treedef.unflatten(
        [leaf.value if isinstance(leaf, CustomVJPPrimal) else leaf for leaf in leaves]
    )


def zero_from_primal(val: Any, symbolic_zeros: bool = False) -> Any:
    """A zero tangent of a value: an array, or a `SymbolicZero` (see `jax.custom_derivatives`).

    Integers have tangents of dtype float0. `symbolic_zeros` says whether to return a
    `SymbolicZero`.

    Raises:
      LeafTypeError: `val` is no array or scalar.
    """
    aval = as_array(val).aval.to_tangent()
    return SymbolicZero(aval) if symbolic_zeros else zeros(aval)


def to_user(x: Any) -> Any:
    """What a rule is given for a tangent or cotangent."""
    return SymbolicZero(x.aval) if is_zero(x) else x


def from_user(x: Any) -> Any:
    """A leaf of what a rule returned."""
    return Zero(x.aval) if isinstance(x, SymbolicZero) else as_array(x)
