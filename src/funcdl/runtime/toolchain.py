"""The C compiler: found once, called for each new source text, its results kept on disk."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import TypeVar

from funcdl.config import config
from funcdl.core.records import record
from funcdl.runtime import processes
from funcdl.runtime.disk_cache import CacheDir, default_cache
from funcdl.runtime.processes import Result, Work

# What was compiled at installation (kernels/cpu_c/prebuilt.py); absent where nothing was.
PREBUILT = Path(__file__).with_name("prebuilt")
_Loaded = TypeVar("_Loaded")
_SHOWN_LINES = 12
_VERSION_SECONDS = 60.0
# Held while something is compiled, by its place and key.
_locks: dict[tuple[Path, str, str], Lock] = {}
os.register_at_fork(after_in_child=_locks.clear)


class CompilerError(RuntimeError):
    """The C compiler could not be run, or refused a unit.

    Attributes:
        command: what was run.
        output: everything that the compiler printed.
        source: a kept copy of the source file; None where no source was involved.
    """

    def __init__(
        self, message: str, command: Sequence[str], output: str = "", source: Path | None = None
    ) -> None:
        super().__init__(message)
        self.command = tuple(command)
        self.output = output
        self.source = source


@record
class Unit:
    """One C source text and how to compile it; see `Compiler.build` for the fields.

    `objects` are units with functions that this one calls. They are compiled once for all that name
    them, and linked into each.
    """

    source: str
    flags: tuple[str, ...] = ()
    name: str = "unit"
    include_dirs: tuple[Path, ...] = ()
    extra_key: str = ""
    objects: tuple[Unit, ...] = ()


@record
class Compiler:
    """A command that compiles C (words, so that ``ccache gcc`` works), and its version."""

    command: tuple[str, ...]
    version: str

    def build(
        self,
        source: str,
        *,
        flags: Sequence[str] = (),
        name: str = "unit",
        include_dirs: Sequence[Path] = (),
        extra_key: str = "",
    ) -> Path:
        """Compile `source` to a shared object, unless the disk cache has it, and return its path.

        Args:
            source: the C text.
            flags: compiler flags; libraries (``-l...``) are moved behind the source file.
            name: stem of the file that compiler messages mention.
            include_dirs: folders for ``-I``. The content of their headers is part of the key, the
                path is not.
            extra_key: whatever else should tell this unit from another with the same text.

        Raises:
            CompilerError: the compiler refused, and the source file is kept and named; or the
                folder has no room.
        """
        return self.build_unit(Unit(source, tuple(flags), name, tuple(include_dirs), extra_key))

    def load(self, unit: Unit, load: Callable[[Path], _Loaded]) -> _Loaded:
        """Build a unit, and load it by a function that may raise OSError.

        It does where the file was compiled at installation against a newer C library.
        """
        path = self.build_unit(unit)
        try:
            return load(path)
        except OSError:
            if path.parent != PREBUILT:
                raise
            return load(self.build_unit(unit, prebuilt=False))

    def build_unit(self, unit: Unit, suffix: str = ".so", *, prebuilt: bool = True) -> Path:
        """`build`, or with the suffix ".o" an object for linking.

        Args:
            prebuilt: whether a file that was compiled at installation will do.
        """
        path = PREBUILT / self.prebuilt_name(unit, suffix)
        if prebuilt and path.exists():
            return path
        store = default_cache()
        try:
            with _lock(store, key := self.key(unit), suffix):
                return self._build_in(store, unit, key, suffix)
        except OSError as error:
            raise CompilerError(
                f"{unit.name!r} cannot be compiled in {str(store.root)!r}: {error.strerror}. Make "
                "room there, or set FUNCDL_CACHE_DIR to another folder",
                self.command,
            ) from error

    def build_all(self, units: Sequence[Unit]) -> list[Path]:
        """Compile several units at the same time, one process per core, and their objects
        meanwhile; paths in order."""
        objects = dict.fromkeys(each for unit in units for each in unit.objects)
        if len(units) + len(objects) < 2:
            return [self.build_unit(unit) for unit in units]
        with Work() as work:
            for unit in objects:
                # On a thread of its own, since units wait for it. If it is refused, they ask for it
                # again, and say so.
                work.start(partial(self.build_unit, unit, ".o"))
            return work.map(self.build_unit, units, os.cpu_count() or 1)

    def accepts(self, flags: Sequence[str]) -> bool:
        """Return whether an empty unit compiles and links with `flags`; asked once, then cached.

        For parts that a machine may lack, as ``-fopenmp`` without its library.
        """
        unit = Unit("int fd_probe(void) { return 0; }\n", tuple(flags), "probe")
        store = default_cache()
        key = self.key(unit)
        with _lock(store, key, ".probe"):
            cached = store.get_text(key, ".probe")
            if cached is None:
                with suppress(OSError), store.scratch() as folder:
                    result = self._run(unit, folder)
                    if result.returncode == 0:
                        cached = "yes"
                    elif result.took_too_long:
                        pass
                    elif self._run(replace(unit, flags=()), folder).returncode == 0:
                        cached = "no"
                    # Else the flags are not to blame, but a full disk, or who killed the compiler.
                    if cached is not None:
                        store.put(key, ".probe", cached)
        return cached == "yes"

    def _build_in(self, store: CacheDir, unit: Unit, key: str, suffix: str) -> Path:
        if config.keep_source:
            store.put(key, ".c", unit.source)
        if (path := store.get(key, suffix)) is not None:
            return path
        with store.scratch() as folder:
            result = self._run(unit, folder, suffix)
            built = folder / f"unit{suffix}"
            if result.returncode == 0 and built.exists() and built.stat().st_size:
                return store.put(key, suffix, built)
        kept = store.put(key, ".c", unit.source)
        command = self._command(unit, [str(kept)], os.devnull)
        reason = f"the C compiler refused {unit.name!r} (exit status {result.returncode})"
        if result.took_too_long:
            reason = (
                f"the C compiler was ended: {unit.name!r} took it longer than "
                f"{config.compile_seconds:g} s. Set FUNCDL_COMPILE_SECONDS to more, or to 0 for no "
                "limit"
            )
        raise CompilerError(
            f"{reason}\n  command: {shlex.join(command)}\n"
            f"  source:  {kept}\n" + _first_lines(result.stdout),
            command,
            result.stdout,
            kept,
        )

    def _run(self, unit: Unit, folder: Path, suffix: str = ".so") -> Result:
        """Compile to ``folder/unit<suffix>``."""
        source = folder / f"{unit.name}.c"
        source.write_text(unit.source)
        if suffix == ".so" and not unit.objects:
            return _capture(self._command(unit, [source.name], "unit.so"), folder)
        result = _capture(self._command(unit, [source.name], "unit.o", link=False), folder)
        if suffix == ".o" or result.returncode != 0:
            return result
        # Not before, since other threads compile them meanwhile.
        objects = [str(self.build_unit(each, ".o")) for each in unit.objects]
        return _capture(self._command(unit, ["unit.o", *objects], "unit.so"), folder)

    def _command(
        self, unit: Unit, inputs: Sequence[str], output: str, *, link: bool = True
    ) -> list[str]:
        includes = [f"-I{path}" for path in unit.include_dirs]
        libraries = [flag for flag in unit.flags if flag.startswith("-l")]
        flags = [flag for flag in unit.flags if not flag.startswith("-l")]
        if not link:
            flags = [flag for flag in flags if not flag.startswith("-Wl,")]
            return [*self.command, "-c", "-fPIC", *flags, *includes, *inputs, "-o", output]
        # A linker keeps a library only for undefined names that it has met before.
        return [
            *(*self.command, "-shared", "-fPIC", *flags, *includes),
            *(*inputs, *libraries, "-o", output),
        ]

    def key(self, unit: Unit) -> str:
        """What the disk cache knows a unit by: all that its code depends on, but not its name."""
        return self._digest(unit, self.version)

    def prebuilt_name(self, unit: Unit, suffix: str) -> str:
        """The name of a file that was compiled at installation.

        Whatever the compiler's version: the machine that a package was made on may have another.
        """
        return f"{unit.name}-{self._digest(unit, '')[:16]}{suffix}"

    def _digest(self, unit: Unit, version: str) -> str:
        digest = hashlib.sha256()
        command = self._command(replace(unit, include_dirs=()), ["source"], "output")
        for part in (
            unit.source,
            "\0".join(command),
            "\0".join(folder_digest(path) for path in unit.include_dirs),
            unit.extra_key,
            "\0".join(self._digest(each, version) for each in unit.objects),
            version,
            platform.machine(),
        ):
            data = part.encode()
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        return digest.hexdigest()


def _lock(store: CacheDir, key: str, suffix: str) -> Lock:
    """For this process: a thread that wants what another one compiles waits for it.

    Processes do not wait for each other. What two of them compile is the same.
    """
    return _locks.setdefault((store.root, key, suffix), Lock())


def find_compiler() -> Compiler | None:
    """Return ``config.cc``, else ``$CC``, else the first of gcc, clang and cc that runs, else None.

    The answer for a given pair of settings is kept: at most one ``--version`` call in a process.

    Raises:
        CompilerError: ``config.cc`` is set and does not run.
    """
    return _find(config.cc, os.environ.get("CC", ""), os.environ.get("PATH", ""))


@cache
def _find(configured: str, environment: str, path: str) -> Compiler | None:
    if configured:
        return _probe(_words(configured), required=True)
    for candidate in (environment, "gcc", "clang", "cc"):
        if candidate and (compiler := _probe(_words(candidate), required=False)):
            return compiler
    return None


def _words(command: str) -> list[str]:
    """The words of a command; one where it is a program's path, which may have spaces."""
    if shutil.which(command):
        return [command]
    try:
        return shlex.split(command) or [command]
    except ValueError:  # a quote without its end
        return [command]


def _probe(command: list[str], *, required: bool) -> Compiler | None:
    version, why = _version(command)
    if version is not None:
        return Compiler(tuple(command), version)
    if required:
        raise CompilerError(
            f"config.cc (FUNCDL_CC) is {shlex.join(command)!r}, which is no working C compiler: "
            f"{why}. Set it to a compiler such as 'gcc', or to '' to search for one",
            command,
        )
    return None


def _version(command: list[str]) -> tuple[str | None, str]:
    """What a compiler calls itself; None, and why, where the command is no working one."""
    path = shutil.which(command[0])
    if path is None:
        return None, "not found on PATH"
    key = _identity(path) if len(command) == 1 else None
    if key is not None and (known := default_cache().get_text(key, ".version")):
        return known, ""
    try:
        result = _capture([*command, "--version"], None, _VERSION_SECONDS)
    except OSError as error:
        return None, str(error)
    asked = f"`{shlex.join(command)} --version`"
    if result.took_too_long:
        return None, f"{asked} took longer than {_VERSION_SECONDS:g} s"
    if result.returncode != 0 or not result.stdout.strip():
        return None, f"{asked} failed:\n{_first_lines(result.stdout)}"
    version = result.stdout.splitlines()[0]
    if key is not None and version:
        with suppress(OSError):
            default_cache().put(key, ".version", version)
    return version, ""


def _identity(path: str) -> str | None:
    """A hash of which file this is, and when it was written, to know its version by.

    None where the version may be another one's: of scripts, and of what starts compilers by other
    names, as ccache does.
    """
    real = os.path.realpath(path)
    name = os.path.basename(real)
    if "gcc" not in name and "clang" not in name:
        return None
    try:
        with open(real, "rb") as file:
            is_program = file.read(4) == b"\x7fELF"
            status = os.fstat(file.fileno())
    except OSError:
        return None
    known = real, status.st_ino, status.st_size, status.st_mtime_ns
    return hashlib.sha256(repr(known).encode()).hexdigest() if is_program else None


def _capture(command: Sequence[str], folder: Path | None, limit: float | None = None) -> Result:
    return processes.run(command, folder, config.compile_seconds if limit is None else limit)


def _first_lines(output: str) -> str:
    lines = output.splitlines()
    start = next((i for i, line in enumerate(lines) if "error" in line), 0)
    shown = lines[start : start + _SHOWN_LINES]
    more = len(lines) - start - len(shown)
    return "\n".join([*(f"  {line}" for line in shown), *([f"  … {more} more lines"] * (more > 0))])


@cache
def folder_digest(folder: Path) -> str:
    """Return a hash over the names and contents of the files in `folder`, read once a process."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            data = path.read_bytes()
            digest.update(f"{path.name}\0{len(data)}\0".encode())
            digest.update(data)
    return digest.hexdigest()
