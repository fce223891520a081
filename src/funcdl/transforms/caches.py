"""Forgetting traced and compiled programs."""

from __future__ import annotations

from collections.abc import Callable

from funcdl.config import config
from funcdl.core import eager_device
from funcdl.transforms.jit import _caches as compiled
from funcdl.transforms.programs import _traced as bodies

_others: list[Callable[[], None]] = []


def also_clear(clear: Callable[[], None]) -> None:
    """Have `clear_caches` call a function, which forgets the programs of a module above."""
    _others.append(clear)


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
    eager_device.forget()
    for clear in _others:
        clear()


# Programs differ while keys are looked at, and the flag is no part of what they are cached by.
config.on_change("debug_key_reuse", lambda _: clear_caches())
