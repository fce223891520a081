"""What to use instead of names that there are not: the words of `AttributeError` in modules.

The names are in absent.toml: those of JAX that are left out, with reasons, and others that users of
JAX, NumPy or PyTorch may try.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, NoReturn

# Where a name that is missing in one place is looked for.
_PLACES = ("lax", "nn", "numpy", "random", "numpy.linalg", "tree")


def absent_name(module: str, name: str) -> AttributeError:
    """The error for a name that a module of the package lacks."""
    hidden = name.startswith("_") or _is_submodule(module, name)
    advice = None if hidden else _advice(module, name)
    message = f"module {module!r} has no attribute {name!r}{advice or ''}"
    return AttributeError(message, name=name, obj=sys.modules.get(module))


def getter(module: str) -> Callable[[str], Any]:
    """A module's `__getattr__`, for one whose names are all there."""

    def __getattr__(name: str) -> NoReturn:
        raise absent_name(module, name)

    return __getattr__


def _is_submodule(module: str, name: str) -> bool:
    # `from package import submodule` asks for the attribute before it imports.
    is_package = hasattr(sys.modules[module], "__path__")
    return is_package and importlib.util.find_spec(f"{module}.{name}") is not None


def _advice(module: str, name: str) -> str | None:
    package, dot, path = module.partition(".")
    for key, reason in _table().get(f"jax{dot}{path}", {}).items():
        if fnmatchcase(name, key):
            return f", unlike JAX: {reason}"
    found = _table().get(module, {}).get(name)
    if found is not None:
        return f": {found}"
    for place in _PLACES:
        other = f"{package}.{place}"
        if name in importlib.import_module(other).__all__:
            return f": use {other}.{name}"
    return None


@functools.cache
def _table() -> dict[str, dict[str, str]]:
    import tomllib
    from importlib.resources import files

    return tomllib.loads(files(__package__).joinpath("absent.toml").read_text("utf-8"))
