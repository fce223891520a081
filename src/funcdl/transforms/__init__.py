"""Function transforms: derivatives, vectorization, compilation. They nest in any order.

Modules that most programs do without are imported when one of their names is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from funcdl.core.forks import held_off
from funcdl.ops.barrier import checkpoint_name
from funcdl.transforms import checkpoint_policies
from funcdl.transforms.checkpoint import checkpoint, remat
from funcdl.transforms.closure_convert import closure_convert
from funcdl.transforms.debugging import (
    checking_leaks,
    debug_infs,
    debug_key_reuse,
    debug_nans,
    disable_jit,
    explain_cache_misses,
    log_compiles,
    named_scope,
)
from funcdl.transforms.derivatives import jvp, linear_transpose, linearize, vjp
from funcdl.transforms.fwd_and_bwd import fwd_and_bwd
from funcdl.transforms.gradient import grad, value_and_grad
from funcdl.transforms.jit import JitFunction, eval_shape, jit, make_jaxpr
from funcdl.transforms.stages import Compiled, Lowered, Traced
from funcdl.transforms.vmap import vmap

if TYPE_CHECKING:
    from funcdl.transforms.callback import io_callback, pure_callback
    from funcdl.transforms.custom.jvp import custom_jvp
    from funcdl.transforms.custom.vjp import custom_gradient, custom_vjp
    from funcdl.transforms.jacobians import hessian, jacfwd, jacobian, jacrev

# None that is called as its module is: the import of a module binds its name here.
_LATER = {
    "callback": "io_callback pure_callback",
    "custom.jvp": "custom_jvp",
    "custom.vjp": "custom_gradient custom_vjp",
    "jacobians": "hessian jacfwd jacobian jacrev",
}
_MODULES = {name: module for module, names in _LATER.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with held_off():
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    value = globals()[name] = getattr(module, name)
    return value


__all__ = [
    "Compiled",
    "JitFunction",
    "Lowered",
    "Traced",
    "checking_leaks",
    "checkpoint",
    "checkpoint_name",
    "checkpoint_policies",
    "closure_convert",
    "custom_gradient",
    "custom_jvp",
    "custom_vjp",
    "debug_infs",
    "debug_key_reuse",
    "debug_nans",
    "disable_jit",
    "eval_shape",
    "explain_cache_misses",
    "fwd_and_bwd",
    "grad",
    "hessian",
    "io_callback",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jit",
    "jvp",
    "linear_transpose",
    "linearize",
    "log_compiles",
    "make_jaxpr",
    "named_scope",
    "pure_callback",
    "remat",
    "value_and_grad",
    "vjp",
    "vmap",
]
