"""Settings for the length of a ``with`` block, by JAX's names; each sets a flag of `funcdl.config`.

Those that choose among ways in which numbers are computed accept the one way that there is.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

import numpy as np

from funcdl.config import config
from funcdl.core.array import aval_of, shortened
from funcdl.core.avals import ShapedArray
from funcdl.core.devices import default_backend, devices, find_device
from funcdl.core.options import flag, is_option
from funcdl.core.trace import current_trace, eval_trace
from funcdl.errors import ArgumentError
from funcdl.ops.dot_precision import check_precision, factor_precision
from funcdl.transforms import named_scope

F = TypeVar("F", bound=Callable[..., Any])


def enable_x64(new_val: bool = True) -> AbstractContextManager[Any]:
    """64-bit types as the default, or none at all (see `jax.enable_x64`).

    The third mode, ``"explicit"``, is that of ``config.x64``.

    A context manager; `new_val` is a bool.
    """
    new_val = flag("enable_x64: new_val", new_val)
    return config.override(x64="on" if new_val else "off")


def enable_checks(new_val: bool = True) -> AbstractContextManager[Any]:
    """Check programs again after every pass of the compiler (see `jax.enable_checks`).

    A context manager; `new_val` is a bool.
    """
    new_val = flag("enable_checks: new_val", new_val)
    return config.override(check=bool(new_val))


def check_tracer_leaks(new_val: bool = True) -> AbstractContextManager[Any]:
    """A context where a traced value that outlives its trace is an error (`LeakedTracerError`).

    It is `checking_leaks` with a switch, the bool `new_val`. See `jax.check_tracer_leaks`.
    """
    new_val = flag("check_tracer_leaks: new_val", new_val)
    return config.override(check_tracer_leaks=bool(new_val))


def default_device(new_val: Any = None) -> AbstractContextManager[Any]:
    """Run jitted functions on this device, where no operand decides (see `jax.default_device`).

    Raises:
      ArgumentError: there is no such device, or it is not the first of its kind.
      DeviceError: its driver is missing.
    """
    if new_val is None:
        return contextlib.nullcontext()
    device = find_device("default_device", new_val)
    if device.id != 0:
        raise ArgumentError(
            f"default_device: only the first GPU can be the default, got {device}; put the "
            "operands there with funcdl.device_put"
        )
    if device.platform == default_backend():
        return contextlib.nullcontext()
    return config.override(backend=device.platform)


def default_matmul_precision(new_val: Any = None) -> AbstractContextManager[Any]:
    """How exactly a GPU multiplies float32 matrices where a call does not say.

    ``"highest"`` and ``"float32"`` round nothing, ``"tensorfloat32"`` rounds factors to the 10 bits
    of tensor cores, ``"high"`` to the sum of two such numbers. None and ``"default"`` mean what
    `funcdl.config.default_matmul_precision` starts with: nothing is rounded. (JAX's default is a
    rounding on GPUs.) CPUs never round; with ``"highest"`` and ``"float32"`` they sum every window
    of a convolution by itself (see `lax.conv_general_dilated`).

    Raises:
      ArgumentError: JAX has no such precision either.
    """
    check_precision("default_matmul_precision", new_val)
    names = {"ieee": "highest", "tf32": "tensorfloat32", "tf32x3": "high", None: "default"}
    return config.override(default_matmul_precision=names[factor_precision(new_val)])


def numpy_dtype_promotion(new_val: str = "standard") -> AbstractContextManager[Any]:
    """How operands of different dtypes are promoted: ``"standard"`` is the only way.

    Raises:
      ArgumentError: another way, such as JAX's ``"strict"``.
    """
    if not is_option(new_val, ("standard",)):
        raise ArgumentError(
            f"numpy_dtype_promotion: only 'standard' is supported, got {new_val!r}; functions of "
            "funcdl.lax do not promote"
        )
    return contextlib.nullcontext()


def numpy_rank_promotion(new_val: str = "allow") -> AbstractContextManager[Any]:
    """Whether arrays of different ranks broadcast: ``"allow"`` is the only way.

    A context manager; `new_val` is a text. See `jax.numpy_rank_promotion`.

    Raises:
      ArgumentError: another way, such as JAX's ``"raise"``.
    """
    if not is_option(new_val, ("allow",)):
        raise ArgumentError(
            f"numpy_rank_promotion: only 'allow' is supported, got {new_val!r}; functions of "
            "funcdl.lax do not broadcast"
        )
    return contextlib.nullcontext()


def ensure_compile_time_eval() -> AbstractContextManager[Any]:
    """Compute at once what depends on no traced value (see `jax.ensure_compile_time_eval`).

    Traced values cannot be used meanwhile.
    """
    return current_trace(eval_trace)


def effects_barrier() -> None:
    """Wait until all side effects have happened. They have when a jitted call returns.

    See `jax.effects_barrier`.
    """


def named_call(fun: F, *, name: str | None = None) -> F:
    """`fun` in a `named_scope` of its own name, or of another (see `jax.named_call`)."""
    if not callable(fun):
        raise ArgumentError(f"named_call requires a function, got {type(fun).__name__}")
    if name is not None and not isinstance(name, str):
        raise ArgumentError(f"named_call: name must be a string, got {shortened(name)}")
    title = name or str(getattr(fun, "__name__", type(fun).__name__))

    @functools.wraps(fun)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with named_scope(title):
            return fun(*args, **kwargs)

    return cast(F, wrapper)


def typeof(x: Any) -> ShapedArray:
    """What a trace knows of an array or scalar: shape, dtype and weak type (see `jax.typeof`).

    Raises:
      LeafTypeError: `x` is neither.
    """
    return aval_of(x)


def print_environment_info(return_string: bool = False) -> str | None:
    """Print versions, platform, compiler and flags, for a bug report.

    See `jax.print_environment_info`.

    Args:
      return_string: whether to return the text and print nothing.
    """
    return_string = flag("print_environment_info: return_string", return_string)
    import platform

    import funcdl
    from funcdl.runtime.toolchain import find_compiler

    compiler = find_compiler()
    lines = [
        f"funcdl: {funcdl.__version__}",
        f"numpy: {np.__version__}",
        f"python: {sys.version}",
        f"platform: {platform.platform()}",
        f"processor: {platform.machine()}, {os.cpu_count()} cores",
        f"devices: {devices()}",
        f"C compiler: {compiler.version if compiler else 'none'}",
        *(f"${name}={value}" for name, value in sorted(os.environ.items()) if "FUNCDL_" in name),
        "",
        config.describe(),
    ]
    text = "\n".join(lines)
    if return_string:
        return text
    print(text)
    return None
