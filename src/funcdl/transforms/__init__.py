"""Function transforms: derivatives, vectorization, compilation. They nest in any order."""

from __future__ import annotations

from funcdl.ops.barrier import checkpoint_name
from funcdl.transforms import checkpoint_policies
from funcdl.transforms.checkpoint import checkpoint, remat
from funcdl.transforms.custom_rules import custom_gradient, custom_jvp, custom_vjp
from funcdl.transforms.derivatives import jvp, linear_transpose, linearize, vjp
from funcdl.transforms.gradient import grad, value_and_grad
from funcdl.transforms.jit import Compiled, JitFunction, Lowered, eval_shape, jit, make_jaxpr
from funcdl.transforms.vmap import vmap

__all__ = [
    "Compiled",
    "JitFunction",
    "Lowered",
    "checkpoint",
    "checkpoint_name",
    "checkpoint_policies",
    "custom_gradient",
    "custom_jvp",
    "custom_vjp",
    "eval_shape",
    "grad",
    "jit",
    "jvp",
    "linear_transpose",
    "linearize",
    "make_jaxpr",
    "remat",
    "value_and_grad",
    "vjp",
    "vmap",
]
