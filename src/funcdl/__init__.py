"""Functional deep learning: composable transforms of pure functions over immutable arrays."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from funcdl.absent import absent_name
from funcdl.core.garbage_collection import paused

with paused():
    from funcdl import numpy, tree
    from funcdl.config import config
    from funcdl.core import backend, traceback_filter
    from funcdl.core.array import Array
    from funcdl.core.avals import ShapeDtypeStruct
    from funcdl.core.devices import (
        Device,
        Platform,
        default_backend,
        device_count,
        devices,
        local_device_count,
        local_devices,
        process_count,
        process_index,
        process_indices,
        register_memory_stats,
        register_platform,
    )
    from funcdl.core.dtypes import float0
    from funcdl.core.forks import held_off
    from funcdl.core.placement import (
        block_until_ready,
        copy_to_host_async,
        device_get,
        device_put,
        live_arrays,
    )
    from funcdl.settings import (
        check_tracer_leaks,
        default_device,
        default_matmul_precision,
        effects_barrier,
        enable_checks,
        enable_x64,
        ensure_compile_time_eval,
        named_call,
        numpy_dtype_promotion,
        numpy_rank_promotion,
        print_environment_info,
        typeof,
    )
    from funcdl.transforms import (
        checking_leaks,
        checkpoint,
        checkpoint_name,
        checkpoint_policies,
        closure_convert,
        debug_infs,
        debug_key_reuse,
        debug_nans,
        disable_jit,
        eval_shape,
        explain_cache_misses,
        fwd_and_bwd,
        grad,
        jit,
        jvp,
        linear_transpose,
        linearize,
        log_compiles,
        make_jaxpr,
        named_scope,
        remat,
        value_and_grad,
        vjp,
        vmap,
    )
    from funcdl.transforms.caches import clear_caches

if TYPE_CHECKING:
    from funcdl import debug
    from funcdl.profiling import memory_stats, profile
    from funcdl.transforms import (
        custom_gradient,
        custom_jvp,
        custom_vjp,
        hessian,
        io_callback,
        jacfwd,
        jacobian,
        jacrev,
        pure_callback,
    )


def _cpu_backend() -> backend.Backend:
    # Imported when something is first compiled, so that `import funcdl` stays quick.
    with held_off():
        from funcdl.compiler.cpu.target import CpuBackend

    return CpuBackend()


def _gpu_backend() -> backend.Backend:
    with held_off():
        from funcdl.compiler.cuda.target import CudaBackend

    return CudaBackend()


def _gpu_platform() -> Platform:
    with held_off():
        from funcdl.runtime.cuda.platform import installed_platform

    return installed_platform()


def _cpu_memory_stats(device: Device) -> dict[str, int]:
    from funcdl.profiling import memory_stats

    return memory_stats()


_SUBMODULES = frozenset(
    {
        *("custom_batching", "custom_derivatives", "debug", "distributed", "dlpack", "dtypes"),
        *("data", "flatten_util", "image", "lax"),
        *("nn", "onnx", "optim", "random", "scipy", "tree_util", "typing"),
    }
)
_LATER = {
    "profiling": "memory_stats profile",
    "transforms": (
        "custom_gradient custom_jvp custom_vjp hessian io_callback jacfwd jacobian jacrev "
        "pure_callback"
    ),
}
_MODULES = {name: module for module, names in _LATER.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    # Other layers, and what most programs do without, come when they are first named.
    if name in _SUBMODULES:
        with held_off():
            return importlib.import_module(f"funcdl.{name}")
    if name in _MODULES:
        with held_off():
            module = importlib.import_module(f"funcdl.{_MODULES[name]}")
            value = globals()[name] = getattr(module, name)
        return value
    raise absent_name(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES, *_MODULES})


backend.register("cpu", _cpu_backend)
backend.register("gpu", _gpu_backend)
register_platform("gpu", _gpu_platform)
register_memory_stats("cpu", _cpu_memory_stats)
traceback_filter.install()

__version__ = "0.1.0"

__all__ = [
    "Array",
    "Device",
    "ShapeDtypeStruct",
    "__version__",
    "block_until_ready",
    "check_tracer_leaks",
    "checking_leaks",
    "checkpoint",
    "checkpoint_name",
    "checkpoint_policies",
    "clear_caches",
    "closure_convert",
    "config",
    "copy_to_host_async",
    "custom_gradient",
    "custom_jvp",
    "custom_vjp",
    "debug",
    "debug_infs",
    "debug_key_reuse",
    "debug_nans",
    "default_backend",
    "default_device",
    "default_matmul_precision",
    "device_count",
    "device_get",
    "device_put",
    "devices",
    "disable_jit",
    "effects_barrier",
    "enable_checks",
    "enable_x64",
    "ensure_compile_time_eval",
    "eval_shape",
    "explain_cache_misses",
    "float0",
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
    "live_arrays",
    "local_device_count",
    "local_devices",
    "log_compiles",
    "make_jaxpr",
    "memory_stats",
    "named_call",
    "named_scope",
    "numpy",
    "numpy_dtype_promotion",
    "numpy_rank_promotion",
    "print_environment_info",
    "process_count",
    "process_index",
    "process_indices",
    "profile",
    "pure_callback",
    "remat",
    "tree",
    "typeof",
    "value_and_grad",
    "vjp",
    "vmap",
]
