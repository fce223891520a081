"""What `os.fork` waits for: imports that happen in the middle of a call.

A forked child has the forking thread alone. A module that another thread was importing stays locked
there, and whoever needs it waits forever; Python offers no way to unlock it. So parts of the
library that are imported when they are first needed are imported under `held_off`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# A fork goes on after so many seconds: an import that waits for the forking thread never ends.
PATIENCE = 10.0

_gate = threading.RLock()  # a module may fork while it is imported


class _Fork(threading.local):
    waited = False


_fork = _Fork()


@contextmanager
def held_off() -> Iterator[None]:
    """Let no other thread fork meanwhile. For what ends soon and runs no code of users."""
    with _gate:
        yield


def _before() -> None:
    _fork.waited = _gate.acquire(timeout=PATIENCE)


def _after_in_parent() -> None:
    if _fork.waited:
        _gate.release()


def _after_in_child() -> None:
    global _gate
    _gate = threading.RLock()


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
