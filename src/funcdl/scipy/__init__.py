"""SciPy's functions on immutable, transformable arrays; names and meanings follow `jax.scipy`."""

from __future__ import annotations

import importlib
from types import ModuleType

from funcdl.absent import absent_name

_SUBMODULES = frozenset(
    {
        *("cluster", "fft", "integrate", "interpolate", "linalg", "ndimage", "optimize", "signal"),
        *("sparse", "special", "stats"),
    }
)


def __getattr__(name: str) -> ModuleType:
    # Each comes when it is first named.
    if name in _SUBMODULES:
        return importlib.import_module(f"funcdl.scipy.{name}")
    raise absent_name(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
