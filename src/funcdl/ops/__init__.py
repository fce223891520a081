"""Every primitive, once, with all of its rules; and the public functions of `jax.ops`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from funcdl.ops.segments import segment_max, segment_min, segment_prod, segment_sum

__all__ = ["segment_max", "segment_min", "segment_prod", "segment_sum"]


def __getattr__(name: str) -> Any:
    # They come when they are first named: this package is imported before any of its modules.
    if name in __all__:
        return getattr(importlib.import_module("funcdl.ops.segments"), name)
    raise AttributeError(f"module 'funcdl.ops' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
