"""A folder of compiled artefacts, addressed by key, shared safely between processes.

An entry is one file, ``<root>/<key[:2]>/<key>.<checksum><suffix>``. It appears by an atomic rename
and carries its checksum in its name, so that a reader sees a whole entry or none, whatever a crash,
a full disk or another process did.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import stat
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from funcdl.config import config
from funcdl.core.forks import held_off

DEFAULT_MAX_BYTES = 1 << 30
# Pruning looks at every entry, half a second where there are 50,000, and a `put` waits for it. So
# the first one of a process prunes if no one has done so in an hour, and later ones after so large
# a share of the folder's size.
_SECONDS_BETWEEN_PRUNINGS = 3600.0
_SHARE_BETWEEN_PRUNINGS = 1 / 16
_STAMP = "pruned"  # a file as old as the last pruning
_TEMPORARY = ".tmp"
# Another process may be about to load an entry that it has just looked up.
_MIN_AGE_SECONDS = 600.0


class CacheDir:
    """Artefacts below one folder.

    Args:
        root: the folder; made, with access for this user only, when it does not exist. Where it
            belongs to another user, can be written by others, or cannot be written by this
            process, a temporary folder of this process takes its place, with one warning: a
            loaded entry runs as this user. Made anew where somebody deletes it meanwhile.
        max_bytes: `prune` deletes the entries that were not used for longest above this size.
    """

    def __init__(self, root: str | os.PathLike[str], max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.root = _usable(Path(root).expanduser())
        self.max_bytes = max_bytes
        self._put_bytes: int | None = None  # since this process has pruned; None before its first

    def get(self, key: str, suffix: str) -> Path | None:
        """Return the file of this entry; None where there is none or it is damaged."""
        found = self._read(key, suffix)
        return None if found is None else found[0]

    def get_bytes(self, key: str, suffix: str) -> bytes | None:
        """Return the content of this entry; None where there is none or it is damaged."""
        found = self._read(key, suffix)
        return None if found is None else found[1]

    def get_text(self, key: str, suffix: str) -> str | None:
        """Return the content of this entry as text; None where there is none."""
        data = self.get_bytes(key, suffix)
        return data if data is None else data.decode()

    def put(self, key: str, suffix: str, content: bytes | str | Path) -> Path:
        """Publish an entry, given its content or a file that holds it, and return its file.

        A key stands for one content. Where two writers disagree all the same, both files stay, so
        that neither loses the one it was given, and `get` returns either; `remove` a key to store
        something new under it.

        Raises:
            ValueError: the content is empty: it could not be told from a damaged entry.
        """
        if isinstance(content, Path):
            content = content.read_bytes()
        data = content.encode() if isinstance(content, str) else content
        if not data:
            raise ValueError(f"cache entry {key + suffix!r} has no content; nothing was stored")
        self._make_again()
        path = self._folder(key) / _file_name(key, suffix, data)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with self.scratch() as folder:
            temporary = folder / path.name
            temporary.write_bytes(data)
            os.replace(temporary, path)
        self._prune_if_due(len(data))
        return path

    def remove(self, key: str, suffix: str) -> None:
        """Delete this entry, if there is one."""
        for path in self._versions(key, suffix):
            path.unlink(missing_ok=True)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Let one process and thread in at a time; a process that dies lets the next one in."""
        self._make_again()
        digest = f"{zlib.crc32(name.encode()):08x}"
        with open(self.root / f"{digest}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                # Closing does not let others in where a child was forked, which has it open, too.
                fcntl.flock(file, fcntl.LOCK_UN)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a temporary folder on the cache's own file system, deleted at the end."""
        self._make_again()
        # Not a `TemporaryDirectory`: a forked child deletes those of its parent when it ends.
        folder = self.root / f"{_TEMPORARY}{os.urandom(8).hex()}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def prune(self, min_age: float = _MIN_AGE_SECONDS) -> int:
        """Delete entries until all fit into `max_bytes`; return how many bytes went.

        The least recently used go first; those used in the last `min_age` seconds stay. Temporary
        folders that a killed process left behind go after a day.
        """
        with suppress(OSError):
            (self.root / _STAMP).touch(mode=0o600)  # first, so that one of several processes prunes
        now = time.time()
        entries = []
        for path in self._files():
            with suppress(OSError):
                status = path.stat()
                if not path.parent.name.startswith(_TEMPORARY):
                    entries.append((status.st_mtime, status.st_size, path))
                elif now - status.st_mtime > 86400:
                    shutil.rmtree(path.parent, ignore_errors=True)
        excess = sum(size for _, size, _ in entries) - self.max_bytes
        freed = 0
        for used, size, path in sorted(entries):
            if freed >= excess or now - used < min_age:
                break
            with suppress(OSError):
                path.unlink()
                freed += size
        return freed

    def _prune_if_due(self, nbytes: int) -> None:
        is_due = self._put_bytes is None and self._was_pruned_long_ago()
        self._put_bytes = (self._put_bytes or 0) + nbytes
        if is_due or self._put_bytes > self.max_bytes * _SHARE_BETWEEN_PRUNINGS:
            self._put_bytes = 0
            self.prune()

    def _was_pruned_long_ago(self) -> bool:
        try:
            age = time.time() - (self.root / _STAMP).stat().st_mtime
        except OSError:
            return True
        return not 0 <= age < _SECONDS_BETWEEN_PRUNINGS  # clocks are set back, too

    def _make_again(self) -> None:
        """Make the folder if it is gone, with the checks of the first time."""
        if not self.root.is_dir():
            self.root = _usable(self.root)

    def _files(self) -> Iterator[Path]:
        """All files; folders may vanish meanwhile, as the scratch folders of other threads do."""
        for folder in self.root.iterdir():
            with suppress(OSError):
                yield from list(folder.iterdir())

    def _folder(self, key: str) -> Path:
        return self.root / key[:2]

    def _read(self, key: str, suffix: str) -> tuple[Path, bytes] | None:
        for path in self._versions(key, suffix):
            with suppress(OSError):
                data = path.read_bytes()
                if data and path.name == _file_name(key, suffix, data):
                    os.utime(path)  # the time of last use, for `prune`
                    return path, data
                path.unlink()
        return None

    def _versions(self, key: str, suffix: str) -> list[Path]:
        try:
            names = os.listdir(self._folder(key))
        except OSError:
            return []
        prefix = key + "."
        return [
            self._folder(key) / name
            for name in names
            if name.startswith(prefix) and name[len(prefix) + 8 :] == suffix
        ]


def default_cache() -> CacheDir:
    """Return the cache in ``config.cache_dir``; '' is ``funcdl`` in the user's cache folder."""
    root = config.cache_dir
    if not root:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        root = os.path.join(base, "funcdl")
    return _open(root)


@cache
def _open(root: str) -> CacheDir:
    return CacheDir(root)


def _file_name(key: str, suffix: str, data: bytes) -> str:
    return f"{key}.{zlib.crc32(data):08x}{suffix}"


def _usable(root: Path) -> Path:
    """Return `root` if only this user can put files there, else a private temporary folder."""
    why_not = _why_not_usable(root)
    if not why_not:
        return root
    fallback = _private_folder()
    warnings.warn(
        f"compiled code cannot be kept in {str(root)!r}: {why_not}. Using {str(fallback)!r} until "
        "this process ends; set FUNCDL_CACHE_DIR to a folder that only you can write to",
        RuntimeWarning,
        stacklevel=2,
    )
    return fallback


def _why_not_usable(root: Path) -> str | None:
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = root.stat()
        if status.st_uid != os.geteuid():
            return f"it belongs to user {status.st_uid}, and this process runs as {os.geteuid()}"
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"others can write to it (mode {stat.S_IMODE(status.st_mode):03o})"
        probe = root / f"{_TEMPORARY}{os.getpid():x}-{time.time_ns():x}"
        probe.mkdir(mode=0o700)
        probe.rmdir()
        return None
    except OSError as error:
        return f"{error.strerror}"


@cache
def _private_folder() -> Path:
    with held_off():
        import tempfile

    folder = tempfile.mkdtemp(prefix="funcdl-")
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in a forked child: the parent still uses the folder
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder)
