"""Compiled functions, found by their texts: in this process, in the disk cache, or by compiling.

A shared object, here a *part*, holds several functions, each exported by a name made of its key. In
the disk cache an entry ``<key>.kernel`` holds the key of a part that exports the function. Parts
and entries can vanish or be damaged independently: what cannot be loaded is compiled again.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from funcdl.core.records import record
from funcdl.runtime.disk_cache import CacheDir, default_cache
from funcdl.runtime.shared_object import SharedObject
from funcdl.runtime.toolchain import Compiler, Unit

# Stands for a function's own name in its text.
NAME = "FD_NAME"
# Every part parses the headers (50 ms), which takes as long as one or two kernels.
KERNELS_PER_PART = 2


@record
class Loaded:
    """The address of a function, the shared object that it is in, and its key."""

    address: int
    path: Path
    key: str

    @property
    def part_key(self) -> str:
        """The key of the shared object."""
        return self.path.name.partition(".")[0]


@dataclass
class Statistics:
    """How many functions this process has asked for, loaded from disk, and compiled."""

    wanted: int = 0
    loaded: int = 0
    compiled: int = 0


statistics = Statistics()
# By the folder of the cache, so that another one is filled as well, and by the function's key.
_functions: dict[tuple[Path, str], Loaded] = {}


def find(
    compiler: Compiler,
    texts: Sequence[str],
    unit: Callable[[Sequence[str]], Unit],
) -> list[Loaded]:
    """The functions with these texts, compiled where no one has done so before.

    Args:
        texts: C definitions of ``NAME``, which are exported.
        unit: makes a unit of some of them.

    Raises:
        CompilerError: the compiler refused a unit.
    """
    store = default_cache()
    base = compiler.key(unit(()))
    keys = [hashlib.sha256(f"{base}\n{text}".encode()).hexdigest()[:40] for text in texts]
    missing: dict[str, str] = {}
    parts: dict[str, Path | None] = {}
    statistics.wanted += len(texts)
    for key, text in zip(keys, texts, strict=True):
        if (store.root, key) in _functions or key in missing:
            continue
        if not _look_up(store, key, parts):
            missing[key] = text
    if missing:
        groups = share_out(missing, os.cpu_count() or 1)
        units = [
            unit([missing[key].replace(NAME, _symbol(key)) for key in group]) for group in groups
        ]
        for group, path in zip(groups, compiler.build_all(units), strict=True):
            for key in group:
                loaded = _functions[store.root, key] = _load(path, key)
                with suppress(OSError):  # at worst another process compiles it again
                    store.put(key, ".kernel", loaded.part_key)
        statistics.compiled += len(missing)
    return [_functions[store.root, key] for key in keys]


def load(keys: Sequence[tuple[str, str]]) -> list[Loaded] | None:
    """Functions that were loaded before, by their keys and those of their parts.

    None where one is no longer to be found. The entries of the functions are not read, since a
    program has fifty functions and two parts.
    """
    store = default_cache()
    parts: dict[str, Path | None] = {}
    for key, part_key in keys:
        if (store.root, key) not in _functions and not _load_from(store, key, part_key, parts):
            return None
    return [_functions[store.root, key] for key, _ in keys]


def share_out(texts: dict[str, str], parts: int) -> list[list[str]]:
    """The keys of `texts` in at most so many groups, of texts about equally long."""
    groups: list[list[str]] = [
        [] for _ in range(max(1, min(parts, len(texts) // KERNELS_PER_PART)))
    ]
    sizes = [0] * len(groups)
    for key in sorted(texts, key=lambda key: -len(texts[key])):
        smallest = sizes.index(min(sizes))
        sizes[smallest] += len(texts[key])
        groups[smallest].append(key)
    return groups


def _look_up(store: CacheDir, key: str, parts: dict[str, Path | None]) -> bool:
    """Load the function from the disk cache, if it has it."""
    part_key = store.get_text(key, ".kernel")
    if part_key is None:
        return False
    if _load_from(store, key, part_key, parts):
        return True
    with suppress(OSError):
        store.remove(key, ".kernel")
    return False


def _load_from(store: CacheDir, key: str, part_key: str, parts: dict[str, Path | None]) -> bool:
    """Load the function from a part of the disk cache, if that has it.

    `parts` are those looked up so far: each is read once, to compare it with its checksum.
    """
    if part_key not in parts:
        parts[part_key] = store.get(part_key, ".so")
    path = parts[part_key]
    if path is not None:
        with suppress(OSError, AttributeError):
            _functions[store.root, key] = _load(path, key)
            statistics.loaded += 1
            return True
    return False


def _load(path: Path, key: str) -> Loaded:
    function = _open(path, path.stat().st_ino).function(_symbol(key))
    return Loaded(ctypes.cast(function, ctypes.c_void_p).value or 0, path, key)


@cache
def _open(path: Path, inode: int) -> SharedObject:
    # A damaged entry that was replaced has another inode.
    return SharedObject(path)


def _symbol(key: str) -> str:
    return f"fd_kernel_{key}"
