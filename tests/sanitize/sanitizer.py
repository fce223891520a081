"""Runs Python under a sanitizer, which checks all C that is compiled in that process."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from funcdl.runtime.toolchain import find_compiler

ROOT = Path(__file__).parents[2]

_COMMON = "-g1 -fno-omit-frame-pointer"
FLAGS = {
    # Conversions out of range are not part of `undefined`, and differ between processors.
    "address": f"{_COMMON} -fsanitize=address,undefined,float-cast-overflow -fsanitize-recover=all",
    "thread": f"{_COMMON} -fsanitize=thread",
}
LIBRARIES = {"address": "libasan.so", "thread": "libtsan.so"}
_OPTIONS = {
    # Python leaks on purpose. Freed memory is kept for a while, to see who still uses it.
    "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=0:quarantine_size_mb=64",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    # Python itself is not instrumented. A forked child goes on without threads of its own.
    "TSAN_OPTIONS": "halt_on_error=0:exitcode=0:report_signal_unsafe=0:die_after_fork=0:"
    "ignore_noninstrumented_modules=1",
}
# For the extension. Python's own allocator would hide the ends of objects.
NATIVE = {"FUNCDL_DISPATCH": "auto", "PYTHONMALLOC": "malloc"}
# Of wall time, for a suite on a busy machine; only what hangs takes as long.
_LIMIT = 2 * 3600
_FINDING = re.compile(r"^(?:SUMMARY: .*|.*runtime error: .*)$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What a process printed, how it ended, and what the sanitizer found (each kind once)."""

    status: int
    output: str
    findings: tuple[str, ...]
    log: str


@cache
def library(kind: str) -> Path | None:
    """The run-time library of a sanitizer; None where the compiler lacks it or is not gcc."""
    compiler = find_compiler()
    if compiler is None or "clang" in compiler.version:
        return None
    query = [*compiler.command, f"-print-file-name={LIBRARIES[kind]}"]
    path = Path(subprocess.run(query, capture_output=True, text=True).stdout.strip())
    return path if path.is_absolute() and path.exists() else None


def _command(flags: str = "") -> str:
    """The C compiler, which does without the library that Python is started with."""
    compiler = find_compiler()
    assert compiler is not None
    return f"env -u LD_PRELOAD {shlex.join(compiler.command)} {flags}"


def run_python(kind: str, folder: Path, arguments: Sequence[str], **environ: str) -> Run:
    """Run Python with generated code under the sanitizer `kind`, logs and cache in `folder`."""
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    command = _command(FLAGS[kind])
    where = {name: f"{value}:log_path={logs}/log" for name, value in _OPTIONS.items()}
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            # Where C++'s library is not found at the start, exceptions of other packages end the
            # process.
            "LD_PRELOAD": f"{library(kind)}:libstdc++.so.6",
            "FUNCDL_CC": command,
            "CC": command,
            "FUNCDL_CACHE_DIR": str(folder / "cache"),
            "FUNCDL_DISPATCH": "python",
            "FUNCDL_NUM_THREADS": "2",
            # It ends its threads before a fork, and waits forever for them under ThreadSanitizer.
            "OPENBLAS_NUM_THREADS": "1",
            **where,
            **environ,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LIMIT,
    )
    log = "\n".join(path.read_text(errors="replace") for path in sorted(logs.iterdir()))
    log += "\n".join(_FINDING.findall(result.stdout))  # UBSan's, which has no file of its own
    found = tuple(dict.fromkeys(re.sub(r"==\d+==", "", line) for line in _FINDING.findall(log)))
    return Run(result.returncode, result.stdout, found, log)


def run_pytest(
    kind: str, modes: str, folder: Path, arguments: Sequence[str], **environ: str
) -> Run:
    """Run tests under a sanitizer; `modes` are those of `plugin.py`."""
    # Nothing is captured: UBSan writes to stderr.
    plugin = ["-m", "pytest", "-q", "-s", "-p", "no:xdist", "-p", "no:cacheprovider"]
    if "native" in modes.split():
        plugin += ["-p", "tests.sanitize.native_plugin"]
        environ = {"FUNCDL_CC": _command(), **NATIVE, **environ}
    plugin += ["-p", "tests.sanitize.plugin"]
    return run_python(
        kind, folder, [*plugin, *arguments], FUNCDL_TEST_SANITIZER=f"any {modes}", **environ
    )
