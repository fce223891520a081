"""The back end "cpu": a program comes from the disk cache, or from the passes and a C compiler.

A new process whose programs are all in the cache runs no pass and renders nothing. So what does is
in `compiler.cpu.build`, and imported when a program is compiled or looked at.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funcdl.compiler.cpu import program_cache
from funcdl.compiler.naming import program_name
from funcdl.core import backend, source
from funcdl.core.forks import held_off
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.properties import computed_once
from funcdl.errors import CompilerWarning
from funcdl.kernels.cpu_c.isa import compile_flags
from funcdl.runtime import call_table
from funcdl.runtime.processes import Work
from funcdl.runtime.thread_pool import thread_pool
from funcdl.runtime.toolchain import Compiler, CompilerError, find_compiler

if TYPE_CHECKING:
    from funcdl.compiler.cpu.executable import Loaded
    from funcdl.compiler.pipeline import Pipeline


class CpuBackend:
    """C with OpenMP, compiled at run time; without a compiler, the reference back end serves."""

    name = "cpu"

    def lower(self, program: ClosedJaxpr, *, name: str, donated: Sequence[bool]) -> CpuProgram:
        """Take in a program."""
        return CpuProgram(program, name, donated)


class CpuProgram:
    """A program on its way to C."""

    def __init__(self, closed: ClosedJaxpr, name: str, donated: Sequence[bool]) -> None:
        self._closed = closed
        self._name = program_name(name)
        self._donated = tuple(donated)
        self._code_bytes = 0

    @computed_once
    def _pipeline(self) -> Pipeline:
        # Importing all passes takes 60 ms, as long as NumPy.
        with held_off():
            from funcdl.compiler.cpu import build

        return build.pipeline(self._closed, self._name, self._donated)

    def as_text(self, stage: str) -> str:
        """The program as a stage left it; ``"triton"`` shows its kernels as Triton source."""
        if stage == "triton":
            from funcdl.compiler.cpu import build

            return build.triton_text(self._pipeline.program)
        return self._pipeline.as_text(stage)

    def compile(self, *, profiled: bool = False) -> backend.Executable:
        """Compile and load; on failure, one warning and the reference executable."""
        compiler = find_compiler()
        if compiler is None:
            _warn_of_missing_compiler()
            return backend.ReferenceProgram(self._closed, self._name)
        try:
            return self._load(compiler, profiled)
        except (CompilerError, OSError) as error:
            reason = str(error)
            if isinstance(error, OSError):
                reason = (
                    f"the code of {self._name!r} cannot be loaded: {error}. Set FUNCDL_CACHE_DIR "
                    "to a folder from whose file system code may run"
                )
            warnings.warn(
                f"{reason}\nThis program runs on the NumPy reference back end instead.",
                CompilerWarning,
                stacklevel=source.stacklevel(),
            )
            return backend.ReferenceProgram(self._closed, self._name)

    def cost_analysis(self) -> dict[str, Any]:
        """Operations and bytes of a run, by JAX's names, and those of each kernel."""
        from funcdl.compiler.cost import cost_analysis

        return cost_analysis(self._pipeline.program)

    def memory_analysis(self) -> backend.MemoryAnalysis:
        """The sizes of the memory that a run uses."""
        from funcdl.compiler.cost import memory_analysis

        pipeline = self._pipeline
        return memory_analysis(pipeline.simplified, pipeline.program, self._code_bytes)

    def write_library(
        self, folder: Path, name: str, labels: tuple[Sequence[str], Sequence[str]]
    ) -> None:
        """Write C sources, headers, constants and a Makefile."""
        from funcdl.compiler.cpu import build

        alone = build.pipeline(self._closed, self._name, self._donated, alone=True)
        build.write_library(alone, folder, name, labels)

    def _load(self, compiler: Compiler, profiled: bool) -> backend.Executable:
        with _prepared(compiler):
            if profiled:
                with held_off():
                    from funcdl.compiler.cpu import build

                return build.profiled_executable(self._pipeline, compiler)
            loaded = self._find(compiler)
        self._code_bytes = loaded.code_bytes
        return loaded.executable

    def _find(self, compiler: Compiler) -> Loaded:
        key = program_cache.program_key(compiler, self._closed, self._donated)
        found = None if key is None else program_cache.find(key, compiler, self._name)
        if found is not None:
            return found
        with held_off():
            from funcdl.compiler.cpu import build

        return build.executable(self._pipeline, compiler, key)


@cache
def _preparation(compiler: Compiler) -> Work:
    """Builds what every program needs beside its kernels; first it asks about flags for these."""

    def build() -> None:
        # Whoever needs what cannot be built will say so.
        compile_flags(accepts=compiler.accepts)
        call_table.runner(compiler)
        thread_pool()

    work = Work()
    work.start(build, "funcdl builds its runtime")
    return work


# A child does not have the threads.
os.register_at_fork(after_in_child=_preparation.cache_clear)


@contextmanager
def _prepared(compiler: Compiler) -> Iterator[None]:
    """Prepare, while passes and compilers run inside, and wait until it is done."""
    preparation = _preparation(compiler)
    try:
        yield
        preparation.join()
    except BaseException:  # also Ctrl-C, which is to leave nothing that runs
        _preparation.cache_clear()
        preparation.stop()
        preparation.join()
        raise


_warned_of_missing_compiler = False


def _warn_of_missing_compiler() -> None:
    """Warn once, however many programs there are: the reason is the machine's."""
    global _warned_of_missing_compiler
    if _warned_of_missing_compiler:
        return
    _warned_of_missing_compiler = True
    warnings.warn(
        "no C compiler found (gcc, clang or cc on the PATH, or FUNCDL_CC): jitted functions run "
        "on the NumPy reference back end, many times slower. Install one, or set "
        "FUNCDL_BACKEND=reference to choose this without a warning.",
        CompilerWarning,
        stacklevel=source.stacklevel(),
    )
