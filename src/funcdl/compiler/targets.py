"""Glue: the passes, a renderer and the runtime make a back end."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from funcdl.compiler.cost import cost_analysis, memory_analysis
from funcdl.compiler.pipeline import Pipeline, native_segments
from funcdl.compiler.profiled import (
    ProfiledExecutable,
    profiled_host_step,
    profiled_native_step,
)
from funcdl.compiler.program import HostStep, Program
from funcdl.compiler.schedule_cpu import schedule_cpu
from funcdl.config import config
from funcdl.core import backend, source
from funcdl.core.jaxpr import ClosedJaxpr, Literal, Var
from funcdl.errors import ArgumentError, CompilerWarning
from funcdl.kernels.cpu_c.isa import compile_flags, include_dir
from funcdl.kernels.cpu_c.native import load_program
from funcdl.kernels.cpu_c.render import render_program
from funcdl.kernels.cpu_c.render_profile import PROFILED_ENTRY_POINT, render_profiled_program
from funcdl.kir.program import Address, all_kernels
from funcdl.runtime import call_table, cpu_memory, shared_object
from funcdl.runtime.toolchain import Compiler, CompilerError, Unit, find_compiler

NDArray = np.ndarray[Any, Any]


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
        pipeline = self._pipeline
        program = pipeline.program
        run_native = self._profiled_steps(compiler) if profiled else self._native_steps(compiler)
        steps: list[Step] = []
        for segment in program.segments:
            if isinstance(segment, HostStep):
                step = _host_step(segment, program.addresses)
                steps.append(profiled_host_step(step, segment, pipeline.name) if profiled else step)
            else:
                steps.append(next(run_native))
        executable = CpuExecutable(pipeline.simplified, program, steps)
        return ProfiledExecutable(executable, pipeline.name) if profiled else executable

    def _native_steps(self, compiler: Compiler) -> Iterator[Step]:
        """Kernels found or compiled one by one, and a table of calls for each segment."""
        pipeline = self._pipeline
        if config.dump:
            _ = pipeline.sources
        loaded = [
            load_program(compiler, segment, pipeline.name)
            for segment in native_segments(pipeline.program)
        ]
        run = call_table.runner(compiler)
        paths = frozenset(path for _, parts in loaded for path in parts)
        self._code_bytes = sum(path.stat().st_size for path in paths)
        return iter([_NativeStep(run, words) for words, _ in loaded])

    def _profiled_steps(self, compiler: Compiler) -> Iterator[Step]:
        """Each segment as one C file, with clocks around the calls."""
        pipeline = self._pipeline
        program = pipeline.program
        segments = native_segments(program)
        flags = compile_flags(openmp=compiler.accepts(["-fopenmp"]))
        units = [
            Unit(render_profiled_program(segment), flags, pipeline.name, (include_dir(),))
            for segment in segments
        ]
        num_slots = program.arena_slot + 2
        entries = [
            shared_object.load(path, PROFILED_ENTRY_POINT, num_slots).function
            for path in compiler.build_all(units)
        ]
        pairs = zip(entries, segments, strict=True)
        return iter([profiled_native_step(entry, segment, program) for entry, segment in pairs])


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


Step = Callable[[bytes, list[NDArray]], None]


class CpuExecutable:
    """A loaded program: fills the table of addresses, runs the steps, returns the outputs."""

    def __init__(self, closed: ClosedJaxpr, program: Program, steps: Sequence[Step]) -> None:
        first_out = program.num_inputs + program.num_consts
        self._consts = [_contiguous(c.value) for c in closed.consts]
        self._outputs = [
            (var.aval.shape, var.aval.dtype, program.donations.get(first_out + i))
            for i, var in enumerate(program.out_vars)
        ]
        self._donates = bool(program.donations)
        self._arena_bytes = program.arena.nbytes
        self._steps = tuple(steps)
        self._pack = struct.Struct(f"{program.arena_slot + 1}P").pack
        self._const_addresses = [cpu_memory.address(c) for c in self._consts]
        self._results = [
            atom.value.value if isinstance(atom, Literal) else program.addresses[atom].slot
            for atom in closed.jaxpr.outvars
        ]
        # The usual program returns its outputs in slot order.
        self._in_order = self._results == list(range(first_out, program.arena_slot))

    @property
    def native_call(self) -> backend.NativeCall | None:
        """What `__call__` does, for calls made without it; None where the host takes part."""
        steps = [step for step in self._steps if isinstance(step, _NativeStep)]
        if len(steps) < len(self._steps) or len(steps) > 1:
            return None
        return backend.NativeCall(
            function=steps[0].address if steps else 0,
            words=steps[0].words if steps else np.zeros(1, np.int64),
            consts=tuple(self._consts),
            outputs=tuple(
                (shape, dtype, -1 if donor is None else donor)
                for shape, dtype, donor in self._outputs
            ),
            results=tuple(self._results),
            arena_bytes=self._arena_bytes,
            pool=cpu_memory.pool,
        )

    def __call__(self, args: Sequence[NDArray]) -> Sequence[NDArray]:
        """Run on flat inputs of the traced shapes and dtypes."""
        inputs = [x if x.flags.c_contiguous else np.ascontiguousarray(x) for x in args]
        # An array that is passed twice may be read after the program has written to it.
        donates = self._donates and len(set(map(id, inputs))) == len(inputs)
        outs = [
            inputs[donor]
            if donates and donor is not None and inputs[donor].flags.writeable
            else cpu_memory.empty_array(shape, dtype)
            for shape, dtype, donor in self._outputs
        ]
        arena = cpu_memory.empty(self._arena_bytes)
        address = cpu_memory.address
        table = self._pack(
            *map(address, inputs),
            *self._const_addresses,
            *map(address, outs),
            address(arena),
        )
        if self._steps:
            memory = [*inputs, *self._consts, *outs, arena]
            for step in self._steps:
                step(table, memory)
        if self._in_order:
            return outs
        # Results that are inputs, constants or each other share memory: never to be donated.
        memory = [*inputs, *self._consts, *outs]
        results = [memory[r] if isinstance(r, int) else r for r in self._results]
        for result in results:
            result.flags.writeable = False
        return results


class _NativeStep:
    """Runs a table of calls."""

    def __init__(self, run: call_table.Runner, words: call_table.Words) -> None:
        self._run = run
        self.words = np.array(words, np.int64)
        self._words_address = cpu_memory.address(self.words)

    @property
    def address(self) -> int:
        return shared_object.address_of(self._run)

    def __call__(self, table: bytes, memory: list[NDArray]) -> None:
        self._run(table, self._words_address)


def _host_step(step: HostStep, addresses: dict[Var, Address]) -> Step:
    """Runs one equation's NumPy implementation on views of the program's memory."""
    eqn = step.eqn
    impl = eqn.primitive.impl
    if impl is None:
        raise ArgumentError(f"primitive {eqn.primitive.name} runs neither natively nor on the host")

    def view(memory: list[NDArray], var: Var) -> NDArray:
        place, aval = addresses[var], var.aval
        data = memory[place.slot].reshape(-1).view(np.uint8)
        data = data[place.offset : place.offset + aval.nbytes]
        return data.view(aval.dtype).reshape(aval.shape)

    def run(table: bytes, memory: list[NDArray]) -> None:
        values = [
            atom.value.value if isinstance(atom, Literal) else view(memory, atom)
            for atom in eqn.invars
        ]
        out = impl(*values, **eqn.params)
        outs = out if eqn.primitive.multiple_results else [out]
        for var, value in zip(eqn.outvars, outs, strict=True):
            # Results that nothing reads have no memory.
            if var in addresses:
                np.copyto(view(memory, var), value)

    return run


def _contiguous(value: NDArray) -> NDArray:
    return np.ascontiguousarray(value).reshape(value.shape)


def _triton_text(program: Program) -> str:
    from funcdl.compiler.cuda.schedule import schedule_gpu
    from funcdl.kernels.triton.render import render_kernel

    sources = [
        render_kernel(kernel, schedule_gpu(kernel)).source
        for segment in native_segments(program)
        for kernel, _ in all_kernels(segment)
    ]
    return "\n\n".join(sources)
