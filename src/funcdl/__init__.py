"""Functional deep learning: composable transforms of pure functions over immutable arrays."""

from __future__ import annotations

import importlib
from types import ModuleType

from funcdl import debug, numpy
from funcdl.config import config
from funcdl.core import backend, traceback_filter, tree
from funcdl.core.array import Array
from funcdl.core.avals import ShapeDtypeStruct
from funcdl.core.placement import block_until_ready, device_get, device_put
from funcdl.transforms import (
    checking_leaks,
    checkpoint,
    checkpoint_name,
    checkpoint_policies,
    custom_gradient,
    custom_jvp,
    custom_vjp,
    debug_infs,
    debug_nans,
    disable_jit,
    eval_shape,
    explain_cache_misses,
    grad,
    hessian,
    io_callback,
    jacfwd,
    jacobian,
    jacrev,
    jit,
    jvp,
    linear_transpose,
    linearize,
    log_compiles,
    make_jaxpr,
    named_scope,
    pure_callback,
    remat,
    value_and_grad,
    vjp,
    vmap,
)


def _cpu_backend() -> backend.Backend:
    # Imported when something is first compiled, so that `import funcdl` stays quick.
    from funcdl.compiler.targets import CpuBackend

    return CpuBackend()


_SUBMODULES = frozenset({"lax", "nn", "optim", "random", "scipy"})


def __getattr__(name: str) -> ModuleType:
    # The other layers come when they are first named, as in `funcdl.nn.relu`.
    if name in _SUBMODULES:
        return importlib.import_module(f"funcdl.{name}")
    raise AttributeError(f"module 'funcdl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})


backend.register("cpu", _cpu_backend)
traceback_filter.install()

__version__ = "0.1.0"

__all__ = [
    "Array",
    "ShapeDtypeStruct",
    "__version__",
    "block_until_ready",
    "checking_leaks",
    "checkpoint",
    "checkpoint_name",
    "checkpoint_policies",
    "config",
    "custom_gradient",
    "custom_jvp",
    "custom_vjp",
    "debug",
    "debug_infs",
    "debug_nans",
    "device_get",
    "device_put",
    "disable_jit",
    "eval_shape",
    "explain_cache_misses",
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
    "numpy",
    "pure_callback",
    "remat",
    "tree",
    "value_and_grad",
    "vjp",
    "vmap",
]
