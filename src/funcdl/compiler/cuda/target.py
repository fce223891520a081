"""Glue: the passes, the Triton renderer and the CUDA runtime make the back end "gpu"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from funcdl.compiler.attention import is_attention
from funcdl.compiler.cost import cost_analysis, kernel_works, memory_analysis
from funcdl.compiler.cuda.attention import attention_kernels, has_kernel, read_in_place
from funcdl.compiler.cuda.autotune import Autotuner
from funcdl.compiler.cuda.column_sums import sum_columns
from funcdl.compiler.cuda.commands import CommandList, list_commands
from funcdl.compiler.cuda.executable import BoundProgram, CompiledKernel, UnaryCompiler
from funcdl.compiler.cuda.leaner import leaner_schedules
from funcdl.compiler.cuda.one_per_row import fuse_one_per_row
from funcdl.compiler.cuda.product_factors import prepare_factors
from funcdl.compiler.cuda.row_pitch import align_rows
from funcdl.compiler.cuda.schedule import parts, schedule_gpu
from funcdl.compiler.cuda.sorting import divide_orders, sorting_kernels
from funcdl.compiler.cuda.updates import make_order_free
from funcdl.compiler.lower import LoweredKernel
from funcdl.compiler.pipeline import Pipeline
from funcdl.compiler.program import Program
from funcdl.compiler.rewrite.fourier_products import products
from funcdl.compiler.rewrite.split_reductions import split_reductions
from funcdl.compiler.rewrite.written_slices import written_slices
from funcdl.compiler.steps import Step
from funcdl.config import config
from funcdl.core import profiler
from funcdl.core.backend import DeviceExecutable, MemoryAnalysis
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, Var
from funcdl.core.profiler import Work
from funcdl.errors import ArgumentError, DeviceError
from funcdl.kernels.triton.blocks import UnsupportedKernel
from funcdl.kernels.triton.compile import Cubin
from funcdl.kernels.triton.compile_pool import compile_all
from funcdl.kernels.triton.render import render_kernel
from funcdl.kernels.triton.triton_kernel import TritonKernel
from funcdl.kir.ir import Kernel
from funcdl.kir.program import KernelProgram, all_kernels
from funcdl.kir.schedule import Schedule
from funcdl.ops.attention import composed
from funcdl.runtime.cuda.buffer import CudaBuffer
from funcdl.runtime.cuda.device import CudaDevice
from funcdl.runtime.cuda.platform import CudaPlatform, installed_platform

OLDEST_CAPABILITY = 80
"""The first compute capability (8.0) with bfloat16 and all instructions that kernels use."""

MIN_WRITTEN_BYTES = 1 << 20
"""Where an array is not given up, the slice written into its copy takes another launch: as long as
copying this."""

Renderer = Callable[[Kernel, Schedule], TritonKernel]


class Compiler(Protocol):
    """Makes cubins of kernels."""

    def __call__(
        self, kernels: Sequence[TritonKernel], arch: int, *, aligned: bool = True
    ) -> list[Cubin]:
        """The cubins, in the order of the kernels."""
        ...


class CudaBackend:
    """Triton kernels on NVIDIA GPUs, launched through the CUDA driver.

    Args:
      platform: gives the GPUs; asked when a program is compiled.
      render: kernel IR to Triton source.
      compile: Triton source to machine code.
    """

    name = "gpu"

    def __init__(
        self,
        platform: Callable[[], CudaPlatform] = installed_platform,
        render: Renderer = render_kernel,
        compile: Compiler = compile_all,
    ) -> None:
        self.platform = platform
        self.render = render
        self.compile = compile
        self.tuner = Autotuner(render, compile)

    def lower(self, program: ClosedJaxpr, *, name: str, donated: Sequence[bool]) -> CudaProgram:
        """Take in a program."""
        return CudaProgram(self, program, name, donated)


class CudaProgram:
    """A program on its way to cubins."""

    def __init__(
        self, backend: CudaBackend, closed: ClosedJaxpr, name: str, donated: Sequence[bool]
    ) -> None:
        self._backend = backend
        self._pipeline = Pipeline(
            closed,
            name=name,
            donated=donated,
            scheduler=schedule_gpu,
            renderer=("triton", self._text),
            composed=_composed,
            splitter=parts,
            library=_hand_written,
            divide=_divide,
            join=_join,
        )

    def as_text(self, stage: str) -> str:
        """The program as a stage left it."""
        return self._pipeline.as_text(stage)

    def compile(self, *, profiled: bool = False) -> CudaExecutable:
        """Compile for the first GPU, which usually is the only kind there is.

        Args:
          profiled: whether its calls tell `core.profiler` of each launch; they wait for the GPU,
            and use no graph.

        Raises:
          DeviceError: there is no driver or no GPU, it is too old, or Triton is missing.
        """
        pipeline = self._pipeline
        if config.dump:
            _ = pipeline.sources
        executable = CudaExecutable(
            self._backend, pipeline.simplified, pipeline.program, pipeline.name, profiled
        )
        executable.prepare(self._backend.platform().open(0))
        return executable

    def cost_analysis(self) -> dict[str, Any]:
        """Operations and bytes of a run, by JAX's names, and those of each kernel."""
        return cost_analysis(self._pipeline.program)

    def memory_analysis(self) -> MemoryAnalysis:
        """The sizes of the memory that a run uses, without its code."""
        return memory_analysis(self._pipeline.simplified, self._pipeline.program, 0)

    def write_library(
        self, folder: Path, name: str, labels: tuple[Sequence[str], Sequence[str]]
    ) -> None:
        """Only programs of the CPU become libraries."""
        raise ArgumentError(
            "write_library: programs of a GPU become no library; set funcdl.config.backend = 'cpu' "
            "before the function is lowered, for one in C"
        )

    def _text(self, program: KernelProgram) -> str:
        texts = []
        for kernel, schedule in all_kernels(program):
            rendered = _try_render(self._backend.render, kernel, schedule)
            if isinstance(rendered, UnsupportedKernel):
                texts.append(f"# on the host: {rendered}\n")
            else:
                texts.append(rendered.source)
        return "\n\n".join(texts)


class CudaExecutable(DeviceExecutable):
    """A compiled program, loaded on each device when its arguments are first there."""

    def __init__(
        self,
        backend: CudaBackend,
        closed: ClosedJaxpr,
        program: Program,
        name: str,
        profiled: bool = False,
    ) -> None:
        self._backend = backend
        self._closed = closed
        self._program = program
        self._name = name
        self._commands: CommandList = list_commands(program)
        self._bound: dict[int, BoundProgram] = {}
        kernels = self._commands.kernels
        self._works = kernel_works(kernels, program, name, "gpu") if profiled else None

    def prepare(self, gpu: CudaDevice) -> BoundProgram:
        """The program on one device: kernels compiled and loaded, constants copied there."""
        ordinal = gpu.device.id
        bound = self._bound.get(ordinal)
        if bound is None:
            with gpu.lock:
                bound = self._bound[ordinal] = BoundProgram(
                    gpu,
                    self._closed,
                    self._program,
                    self._commands,
                    self._compile(gpu),
                    self._name,
                    self._works,
                )
        return bound

    def __call__(self, args: Sequence[Any]) -> Sequence[CudaBuffer]:
        """Run on flat inputs of the traced shapes and dtypes, on the device where any of them is.

        Raises:
          ArgumentError: they are on different devices.
          DeviceMemoryError: there is not enough memory.
        """
        gpus = {x.gpu.device.id: x.gpu for x in args if isinstance(x, CudaBuffer)}
        if len(gpus) > 1:
            raise ArgumentError(self._describe_devices(args))
        gpu = next(iter(gpus.values())) if gpus else self._backend.platform().open(0)
        if self._works is None:
            return self.prepare(gpu)(args)
        with profiler.span(Work("call", self._name)):
            return self.prepare(gpu)(args)

    def _compile(self, gpu: CudaDevice) -> list[CompiledKernel]:
        """Each kernel's machine code, or the reason why it runs on the host.

        Raises:
          DeviceError: the GPU is too old.
        """
        backend, arch, kernels = self._backend, gpu.capability, self._commands.kernels
        if arch < OLDEST_CAPABILITY:
            raise DeviceError(
                f"{gpu.device} ({gpu.device.device_kind}) has compute capability "
                f"{arch / 10}, but kernels are compiled for {OLDEST_CAPABILITY / 10} or later; "
                "use another GPU, or the CPU (FUNCDL_BACKEND=cpu)"
            )
        schedules = backend.tuner.schedules(kernels, gpu)
        all_rendered = [
            _try_render(backend.render, kernel, schedule)
            for (kernel, _), schedule in zip(kernels, schedules, strict=True)
        ]
        sources = [k for k in all_rendered if isinstance(k, TritonKernel)]
        cubins = iter(backend.compile(sources, arch))
        made = {
            i: _Made(rendered, next(cubins))
            for i, rendered in enumerate(all_rendered)
            if isinstance(rendered, TritonKernel)
        }
        self._make_leaner(made, schedules, gpu)
        compiled = []
        for i, ((kernel, _), rendered) in enumerate(zip(kernels, all_rendered, strict=True)):
            if isinstance(rendered, UnsupportedKernel):
                compiled.append(CompiledKernel(kernel, 0, None, None, str(rendered)))
                continue
            (programs,) = made[i].rendered.grid
            unaligned = self._compile_unaligned(made[i].rendered, arch)
            compiled.append(CompiledKernel(kernel, programs, made[i].cubin, unaligned, ""))
        return compiled

    def _make_leaner(
        self, made: dict[int, _Made], schedules: Sequence[Schedule], gpu: CudaDevice
    ) -> None:
        """Replace code that spills registers, or needs more shared memory than there is.

        The first of other schedules' code that does neither is taken. It depends on the shape, on
        what precedes and follows a product, and on Triton's release. Where no schedule is better,
        the code stays. All kernels are tried side by side.
        """
        arch, limit = gpu.capability, gpu.modules.shared_limit
        others: dict[int, list[TritonKernel]] = {}
        for i, code in made.items():
            if any(code.excess(limit)):
                kernel = self._commands.kernels[i][0]
                leaner = leaner_schedules(kernel, schedules[i], arch, limit)
                rendered = [_try_render(self._backend.render, kernel, s) for s in leaner]
                others[i] = [k for k in rendered if isinstance(k, TritonKernel)]
        while others := {i: tries for i, tries in others.items() if tries}:
            now = {i: kernels.pop(0) for i, kernels in others.items()}
            cubins = self._backend.compile(list(now.values()), arch)
            for (i, source), cubin in zip(now.items(), cubins, strict=True):
                found = _Made(source, cubin)
                if found.excess(limit) < made[i].excess(limit):
                    made[i] = found
                    others[i] = others[i] if any(found.excess(limit)) else []

    def _compile_unaligned(self, kernel: TritonKernel, arch: int) -> UnaryCompiler:
        return lambda: self._backend.compile([kernel], arch, aligned=False)[0]

    def _describe_devices(self, args: Sequence[Any]) -> str:
        names = self._closed.jaxpr.names or [f"argument {i}" for i in range(len(args))]
        places: dict[str, list[str]] = {}
        for name, x in zip(names, args, strict=True):
            if isinstance(x, CudaBuffer):
                places.setdefault(str(x.device), []).append(name)
        found = "; ".join(f"on {device}: {', '.join(who)}" for device, who in places.items())
        return (
            f"{self._name} got arrays on different devices ({found}); move them to one of them "
            "with funcdl.device_put(x, device)"
        )


@dataclass(frozen=True, slots=True)
class _Made:
    """A kernel's source and its code."""

    rendered: TritonKernel
    cubin: Cubin

    def excess(self, shared_limit: int) -> tuple[int, int]:
        """Bytes of shared memory beyond what a program may use, and those that a thread spills."""
        metadata = self.cubin.metadata
        return max(metadata["shared"] - shared_limit, 0), int(metadata.get("spill_bytes", 0))


def _composed(eqn: Eqn) -> ClosedJaxpr | None:
    if is_attention(eqn) and not has_kernel(eqn):
        return composed(eqn.primitive, [atom.aval for atom in eqn.invars], eqn.params)
    return products(eqn)


def _hand_written(eqn: Eqn, name: str) -> list[LoweredKernel] | None:
    return attention_kernels(eqn, name) or sorting_kernels(eqn, name)


def _divide(program: ClosedJaxpr) -> ClosedJaxpr:
    program = fuse_one_per_row(written_slices(program, MIN_WRITTEN_BYTES))
    program = read_in_place(make_order_free(program))
    return divide_orders(split_reductions(program, even=True, few=False))


def _join(steps: Sequence[Step], outputs: Sequence[Var]) -> list[Step]:
    return align_rows(prepare_factors(sum_columns(steps, outputs, schedule_gpu)), outputs)


def _try_render(
    render: Renderer, kernel: Kernel, schedule: Schedule
) -> TritonKernel | UnsupportedKernel:
    try:
        return render(kernel, schedule)
    except UnsupportedKernel as error:
        return error
