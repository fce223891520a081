"""Forgetting traced and compiled programs."""

from __future__ import annotations

from funcdl.config import config
from funcdl.control.programs import _wrapped as control_flow
from funcdl.core import eager_device
from funcdl.transforms.jit import _caches as compiled
from funcdl.transforms.programs import _traced as bodies


def clear_caches() -> None:
    """Forget all programs that were traced and compiled (see `jax.clear_caches`).

    They are traced and compiled again when needed; compiled code stays in the cache on disk.
    Programs of callables that cannot be hashed go when these do.
    """
    for by_options in list(compiled.values()):
        for entries, staged in by_options.values():
            entries.clear()
            staged.clear()
    bodies.clear()
    control_flow.clear()
    eager_device.forget()


# Programs differ while keys are looked at, and the flag is no part of what they are cached by.
config.on_change("debug_key_reuse", lambda _: clear_caches())
