"""Functional deep learning: composable transforms of pure functions over immutable arrays."""

from __future__ import annotations

from funcdl.config import config
from funcdl.core import traceback_filter, tree
from funcdl.core.array import Array
from funcdl.core.avals import ShapeDtypeStruct
from funcdl.transforms import (
    eval_shape,
    grad,
    jit,
    jvp,
    linear_transpose,
    linearize,
    make_jaxpr,
    value_and_grad,
    vjp,
    vmap,
)

traceback_filter.install()

__version__ = "0.1.0"

__all__ = [
    "Array",
    "ShapeDtypeStruct",
    "__version__",
    "config",
    "eval_shape",
    "grad",
    "jit",
    "jvp",
    "linear_transpose",
    "linearize",
    "make_jaxpr",
    "tree",
    "value_and_grad",
    "vjp",
    "vmap",
]
