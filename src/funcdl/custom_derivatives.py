"""Functions with derivative rules of their own, by the names of `jax.custom_derivatives`."""

from __future__ import annotations

from funcdl.transforms.closure_convert import closure_convert
from funcdl.transforms.custom.jvp import custom_jvp
from funcdl.transforms.custom.vjp import custom_gradient, custom_vjp
from funcdl.transforms.linear_call import linear_call
from funcdl.transforms.symbolic_zeros import (
    CustomVJPPrimal,
    SymbolicZero,
    custom_vjp_primal_tree_values,
    zero_from_primal,
)

__all__ = [
    "CustomVJPPrimal",
    "SymbolicZero",
    "closure_convert",
    "custom_gradient",
    "custom_jvp",
    "custom_vjp",
    "custom_vjp_primal_tree_values",
    "linear_call",
    "zero_from_primal",
]
