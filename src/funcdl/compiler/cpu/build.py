"""Compiles what the disk cache lacks: the passes, the renderer and the C compiler in a row.

Apart from `compiler.cpu.target`, which imports this module when the first program needs it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path

from funcdl.compiler.cpu import library, program_cache
from funcdl.compiler.cpu.executable import (
    CpuExecutable,
    Loaded,
    NativeStep,
    Step,
    host_step,
    memory_of,
)
from funcdl.compiler.cpu.profiled import (
    ProfiledExecutable,
    profiled_host_step,
    profiled_native_step,
)
from funcdl.compiler.cpu.schedule import schedule_cpu
from funcdl.compiler.fft import fourier_transform, with_tables
from funcdl.compiler.lapack import lapack_step
from funcdl.compiler.loops import LoopStep
from funcdl.compiler.matrices import small_matrices
from funcdl.compiler.pipeline import Pipeline, native_segments
from funcdl.compiler.program import Program
from funcdl.compiler.rewrite.split_reductions import split_reductions
from funcdl.compiler.rewrite.written_slices import written_slices
from funcdl.compiler.steps import HostStep
from funcdl.config import config
from funcdl.core.jaxpr import ClosedJaxpr, Eqn
from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.kernels.cpu_c.program.native import LoadedProgram, load_program
from funcdl.kernels.cpu_c.program.profile import PROFILED_ENTRY_POINT, render_profiled_program
from funcdl.kernels.cpu_c.render import render_program
from funcdl.kir.program import all_kernels
from funcdl.runtime import call_table, shared_object
from funcdl.runtime.lapack import lapack_table
from funcdl.runtime.toolchain import Compiler, Unit


def pipeline(
    closed: ClosedJaxpr, name: str, donated: Sequence[bool], *, alone: bool = False
) -> Pipeline:
    """The passes that lead to C.

    Args:
        alone: whether it is to run without this process, whose LAPACK it then does not have.
    """
    return Pipeline(
        closed,
        name=name,
        donated=donated,
        scheduler=schedule_cpu,
        renderer=("c", render_program),
        library=_own_library if alone else _library,
        composed=with_tables,
        divide=_divided,
    )


def _divided(program: ClosedJaxpr) -> ClosedJaxpr:
    """The program with long reductions in parts, and slices of inputs written in place."""
    return written_slices(split_reductions(program))


def _own_library(eqn: Eqn, name: str) -> LoopStep | None:
    """What the headers compute by themselves."""
    return small_matrices(eqn, name) or fourier_transform(eqn, name)


def _library(eqn: Eqn, name: str) -> LoopStep | None:
    small = small_matrices(eqn, name, alone=False)
    if small is not None:
        return small
    step = lapack_step(eqn, name)
    # Asked for here alone, since it imports SciPy.
    return _own_library(eqn, name) if step is None or lapack_table() is None else step


def executable(pipeline: Pipeline, compiler: Compiler, key: str | None) -> Loaded:
    """Compile and load.

    Args:
        key: what the program cache is to know the program by, where it can keep it.

    Raises:
        CompilerError: the compiler refused a unit.
    """
    program = pipeline.program
    memory = memory_of(pipeline.simplified, program)
    parts = _load(pipeline, compiler)
    if key is not None and len(parts) == len(program.segments) == 1:
        program_cache.store(key, memory, parts[0])
    run = call_table.runner(compiler)
    native = iter([NativeStep(run, part.words, part.names, pipeline.name) for part in parts])
    steps: list[Step] = [
        host_step(segment, program.addresses) if isinstance(segment, HostStep) else next(native)
        for segment in program.segments
    ]
    paths = frozenset(path for part in parts for path in part.paths)
    return Loaded(CpuExecutable(memory, steps), sum(path.stat().st_size for path in paths))


def profiled_executable(pipeline: Pipeline, compiler: Compiler) -> ProfiledExecutable:
    """Compile and load with clocks around the calls.

    Raises:
        CompilerError: the compiler refused a unit.
    """
    program = pipeline.program
    native = _profiled_steps(pipeline, compiler)
    steps = [
        profiled_host_step(host_step(segment, program.addresses), segment, pipeline.name)
        if isinstance(segment, HostStep)
        else next(native)
        for segment in program.segments
    ]
    executable = CpuExecutable(memory_of(pipeline.simplified, program), steps)
    return ProfiledExecutable(executable, pipeline.name)


def write_library(
    pipeline: Pipeline, folder: Path, name: str, labels: tuple[Sequence[str], Sequence[str]]
) -> None:
    """Write the program as a C library; see `compiler.cpu.library`.

    Args:
        pipeline: of a program that is to run alone.

    Raises:
        ArgumentError: part of the program runs on the host.
    """
    library.write_library(pipeline, _own_library, folder, name, labels)


def triton_text(program: Program) -> str:
    """The kernels of a program as Triton source."""
    from funcdl.compiler.cuda.schedule import schedule_gpu
    from funcdl.kernels.triton.render import render_kernel

    sources = [
        render_kernel(kernel, schedule_gpu(kernel)).source
        for segment in native_segments(program)
        for kernel, _ in all_kernels(segment)
    ]
    return "\n\n".join(sources)


def _load(pipeline: Pipeline, compiler: Compiler) -> list[LoadedProgram]:
    """Kernels found or compiled one by one, and a table of calls for each segment."""
    if config.dump:
        _ = pipeline.sources
    return [
        load_program(compiler, segment, pipeline.name)
        for segment in native_segments(pipeline.program)
    ]


def _profiled_steps(pipeline: Pipeline, compiler: Compiler) -> Iterator[Step]:
    """Each segment as one C file, with clocks around the calls."""
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
