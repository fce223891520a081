"""Glue: the passes, the C renderer and the runtime make the back end "cpu"."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from threading import Thread
from typing import Any

from funcdl.compiler.cost import cost_analysis, memory_analysis
from funcdl.compiler.cpu import program_cache
from funcdl.compiler.cpu.executable import CpuExecutable, NativeStep, Step, host_step, memory_of
from funcdl.compiler.cpu.profiled import (
    ProfiledExecutable,
    profiled_host_step,
    profiled_native_step,
)
from funcdl.compiler.cpu.schedule import schedule_cpu
from funcdl.compiler.pipeline import Pipeline, native_segments
from funcdl.compiler.program import Program
from funcdl.compiler.steps import HostStep
from funcdl.config import config
from funcdl.core import backend, source
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.errors import CompilerWarning
from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.kernels.cpu_c.native import LoadedProgram, load_program
from funcdl.kernels.cpu_c.render import render_program
from funcdl.kernels.cpu_c.render_profile import PROFILED_ENTRY_POINT, render_profiled_program
from funcdl.kir.program import all_kernels
from funcdl.runtime import call_table, shared_object
from funcdl.runtime.thread_pool import thread_pool
from funcdl.runtime.toolchain import Compiler, CompilerError, Unit, find_compiler


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
        self._donated = tuple(donated)
        self._code_bytes = 0
        self._pipeline = Pipeline(
            closed,
            name=name,
            donated=donated,
            scheduler=schedule_cpu,
            renderer=("c", render_program),
        )

    def as_text(self, stage: str) -> str:
        """The program as a stage left it; ``"triton"`` shows its kernels as Triton source."""
        if stage == "triton":
            return _triton_text(self._pipeline.program)
        return self._pipeline.as_text(stage)

    def compile(self, *, profiled: bool = False) -> backend.Executable:
        """Compile and load; on failure, one warning and the reference executable."""
        compiler = find_compiler()
        if compiler is None:
            _warn_of_missing_compiler()
            return backend.ReferenceProgram(self._closed, self._pipeline.name)
        try:
            return self._build(compiler, profiled)
        except CompilerError as error:
            warnings.warn(
                f"{error}\nThis program runs on the NumPy reference back end instead.",
                CompilerWarning,
                stacklevel=source.stacklevel(),
            )
            return backend.ReferenceProgram(self._closed, self._pipeline.name)

    def cost_analysis(self) -> dict[str, Any]:
        """Operations and bytes of a run, by JAX's names, and those of each kernel."""
        return cost_analysis(self._pipeline.program)

    def memory_analysis(self) -> backend.MemoryAnalysis:
        """The sizes of the memory that a run uses."""
        pipeline = self._pipeline
        return memory_analysis(pipeline.simplified, pipeline.program, self._code_bytes)

    def _build(self, compiler: Compiler, profiled: bool) -> backend.Executable:
        preparation = _preparation(compiler)
        pipeline = self._pipeline
        key = None if profiled else program_cache.program_key(compiler, self._closed, self._donated)
        found = None if key is None else program_cache.find(key, compiler, pipeline.name)
        if found is not None:
            preparation.join()
            self._code_bytes = found.code_bytes
            return found.executable
        program = pipeline.program
        preparation.join()
        if profiled:
            run_native = self._profiled_steps(compiler)
        else:
            loaded = self._load(compiler)
            run_native = _native_steps(compiler, loaded, pipeline.name)
            if key is not None and len(loaded) == len(program.segments) == 1:
                program_cache.store(key, memory_of(pipeline.simplified, program), loaded[0])
        steps: list[Step] = []
        for segment in program.segments:
            if isinstance(segment, HostStep):
                step = host_step(segment, program.addresses)
                steps.append(profiled_host_step(step, segment, pipeline.name) if profiled else step)
            else:
                steps.append(next(run_native))
        executable = CpuExecutable(pipeline.simplified, program, steps)
        return ProfiledExecutable(executable, pipeline.name) if profiled else executable

    def _load(self, compiler: Compiler) -> list[LoadedProgram]:
        """Kernels found or compiled one by one, and a table of calls for each segment."""
        pipeline = self._pipeline
        if config.dump:
            _ = pipeline.sources
        loaded = [
            load_program(compiler, segment, pipeline.name)
            for segment in native_segments(pipeline.program)
        ]
        paths = frozenset(path for part in loaded for path in part.paths)
        self._code_bytes = sum(path.stat().st_size for path in paths)
        return loaded

    def _profiled_steps(self, compiler: Compiler) -> Iterator[Step]:
        """Each segment as one C file, with clocks around the calls."""
        pipeline = self._pipeline
        program = pipeline.program
        segments = native_segments(program)
        flags = compile_flags(accepts=compiler.accepts)
        units = [
            Unit(render_profiled_program(segment), flags, pipeline.name, (include_dir(),))
            for segment in segments
        ]
        num_slots = program.arena_slot + 2
        entries = [
            shared_object.load(path, PROFILED_ENTRY_POINT, num_slots, ctypes.c_int64).function
            for path in compiler.build_all(units)
        ]
        pairs = zip(entries, segments, strict=True)
        return iter([profiled_native_step(entry, segment, program) for entry, segment in pairs])


def _native_steps(
    compiler: Compiler, loaded: Sequence[LoadedProgram], program: str
) -> Iterator[Step]:
    run = call_table.runner(compiler)
    return iter([NativeStep(run, part.words, part.names, program) for part in loaded])


@cache
def _preparation(compiler: Compiler) -> Thread:
    """Builds what every program needs beside its kernels, while the passes run on the first one."""

    def build() -> None:
        # Whoever needs what cannot be built will say so.
        with suppress(CompilerError, OSError):
            compile_flags(accepts=compiler.accepts)
            call_table.runner(compiler)
            thread_pool()

    thread = Thread(target=build, name="funcdl builds its runtime", daemon=True)
    thread.start()
    return thread


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


def _triton_text(program: Program) -> str:
    from funcdl.compiler.cuda.schedule import schedule_gpu
    from funcdl.kernels.triton.render import render_kernel

    sources = [
        render_kernel(kernel, schedule_gpu(kernel)).source
        for segment in native_segments(program)
        for kernel, _ in all_kernels(segment)
    ]
    return "\n\n".join(sources)
