"""Functional deep learning: composable transforms of pure functions over immutable arrays."""

from __future__ import annotations

from funcdl.config import config
from funcdl.core import backend, traceback_filter, tree
from funcdl.core.array import Array
from funcdl.core.avals import ShapeDtypeStruct
from funcdl.core.placement import block_until_ready, device_get, device_put
from funcdl.transforms import (
    checkpoint,
    checkpoint_name,
    checkpoint_policies,
    custom_gradient,
    custom_jvp,
    custom_vjp,
    eval_shape,
    grad,
    jit,
    jvp,
    linear_transpose,
    linearize,
    make_jaxpr,
    remat,
    value_and_grad,
    vjp,
    vmap,
)


def _cpu_backend() -> backend.Backend:
    # Imported when something is first compiled, so that `import funcdl` stays quick.
    from funcdl.compiler.targets import CpuBackend

    return CpuBackend()


backend.register("cpu", _cpu_backend)
traceback_filter.install()

__version__ = "0.1.0"

__all__ = [
    "Array",
    "ShapeDtypeStruct",
    "__version__",
    "block_until_ready",
    "checkpoint",
    "checkpoint_name",
    "checkpoint_policies",
    "config",
    "custom_gradient",
    "custom_jvp",
    "custom_vjp",
    "device_get",
    "device_put",
    "eval_shape",
    "grad",
    "jit",
    "jvp",
    "linear_transpose",
    "linearize",
    "make_jaxpr",
    "remat",
    "tree",
    "value_and_grad",
    "vjp",
    "vmap",
]
