"""A program on one GPU: memory for a call, its commands in order, and one graph once it is warm."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from funcdl.compiler.cuda.commands import (
    Branch,
    Command,
    CommandList,
    Launch,
    Repeat,
    RunOnHost,
    While,
)
from funcdl.compiler.program import Program
from funcdl.core import profiler, source
from funcdl.core.array import Array
from funcdl.core.effects import Effect, eqn_effect
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, Literal, Var
from funcdl.core.profiler import Work
from funcdl.errors import ArgumentError, CompilerWarning
from funcdl.kernels.triton.compile import Cubin
from funcdl.kir.copies import copied_in_place
from funcdl.kir.interpreter import interpret
from funcdl.kir.ir import Kernel
from funcdl.kir.program import Address, Copy
from funcdl.runtime.cuda import launch
from funcdl.runtime.cuda.buffer import CudaBuffer, empty_buffer, to_gpu
from funcdl.runtime.cuda.device import CudaDevice
from funcdl.runtime.cuda.device_memory import Allocation
from funcdl.runtime.cuda.graph import LaunchGraph
from funcdl.runtime.cuda.launch_timer import LaunchTimer
from funcdl.runtime.cuda.module_cache import Function

NDArray = np.ndarray[Any, Any]
UnaryCompiler = Callable[[], Cubin]

CALLS_BEFORE_GRAPH = 2
MAX_GRAPH_LAUNCHES = 4096
MAX_GRAPHS = 4
"""Of a program: one for each choice of what callers give up."""


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """A kernel with its machine code, or `why_not`: the reason why it runs on the host."""

    kernel: Kernel
    programs: int
    cubin: Cubin | None
    unaligned: UnaryCompiler | None
    why_not: str


class BoundProgram:
    """A program that is loaded on one device; called with flat inputs, returns buffers there."""

    def __init__(
        self,
        gpu: CudaDevice,
        closed: ClosedJaxpr,
        program: Program,
        commands: CommandList,
        kernels: Sequence[CompiledKernel],
        name: str,
        works: Sequence[Work] | None = None,
    ) -> None:
        self._gpu = gpu
        self._timer = None if works is None else LaunchTimer(gpu.stream, works)
        self._name = name
        self._addresses = program.addresses
        first_out = program.num_inputs + program.num_consts
        self._labels = [
            f"argument {label} of {name}"
            for label in closed.jaxpr.names or map(str, range(program.num_inputs))
        ]
        self._consts = [_resident(gpu, c, f"a constant of {name}") for c in closed.consts]
        self._outputs = [
            (var.aval.shape, var.aval.dtype, program.donations.get(first_out + i))
            for i, var in enumerate(program.out_vars)
        ]
        self._donates = bool(program.donations)
        self._arena_bytes = program.arena.nbytes
        self._results: list[int | CudaBuffer] = [
            _resident(gpu, atom.value, f"a constant of {name}")
            if isinstance(atom, Literal)
            else self._addresses[atom].slot
            for atom in closed.jaxpr.outvars
        ]
        self._in_order = self._results == list(range(first_out, program.arena_slot))
        self._kernels = [_load(gpu, kernel) for kernel in kernels]
        self._commands = commands.commands
        self._replay = None
        if self._timer is None:  # a graph says nothing of its parts
            self._replay = _Replay.plan(gpu, commands, self._kernels, self._arena_bytes, name)
        self._calls = 0

    def __call__(self, args: Sequence[Any]) -> list[CudaBuffer]:
        """Issue the work of one call, and return at once where nothing needs the host."""
        gpu = self._gpu
        with gpu.lock:
            gpu.stream.activate()
            inputs = [
                x if isinstance(x, CudaBuffer) else to_gpu(gpu, x, label)
                for x, label in zip(args, self._labels, strict=True)
            ]
            outs = self._allocate_outputs(inputs)
            bases = [x.address for x in (*inputs, *self._consts, *outs)]
            self._calls += 1
            if self._replay is not None and self._calls > CALLS_BEFORE_GRAPH:
                self._replay.run(bases)
            else:
                arena = gpu.pool.empty(self._arena_bytes, f"temporaries of {self._name}")
                bases.append(arena.address)
                with nullcontext() if self._timer is None else self._timer.call():
                    self._run(self._commands, bases)
        if self._in_order:
            return outs
        memory = [*inputs, *self._consts, *outs]
        results = [memory[r] if isinstance(r, int) else r for r in self._results]
        for result in results:
            # Inputs, constants or each other: their memory must not be given up with one of them.
            result.shared = True
        return results

    def _allocate_outputs(self, inputs: Sequence[CudaBuffer]) -> list[CudaBuffer]:
        # An array that is passed twice may be read after the program has written to it.
        allocations = {id(x.allocation) for x in inputs}
        donates = self._donates and len(allocations) == len(inputs)
        outs = []
        for shape, dtype, donor in self._outputs:
            if donates and donor is not None and not inputs[donor].shared:
                outs.append(CudaBuffer(self._gpu, inputs[donor].allocation, shape, dtype))
            else:
                outs.append(empty_buffer(self._gpu, shape, dtype, f"a result of {self._name}"))
        return outs

    def _run(self, commands: Sequence[Command], bases: Sequence[int]) -> None:
        stream = self._gpu.stream
        for command in commands:
            match command:
                case Launch(kernel, args):
                    pointers, code = _places(bases, args), self._kernels[kernel]
                    if isinstance(code, launch.Kernel) and code.is_idle(pointers):
                        continue
                    with nullcontext() if self._timer is None else self._timer.launch(kernel):
                        code.launch(stream, pointers)
                case Copy(source=origin, target=target, nbytes=nbytes):
                    if nbytes:
                        ends = (_place(bases, target), _place(bases, origin))
                        stream.driver.call("cuMemcpyDtoDAsync", *ends, nbytes, stream.handle)
                case Repeat(length, step):
                    for number in range(length):
                        self._run(step(number), bases)
                case While():
                    self._run_while(command, bases)
                case Branch(index, branches):
                    (chosen,) = self._read(_place(bases, index), 1, np.int32)
                    self._run(branches[int(chosen)], bases)
                case RunOnHost(eqn):
                    work = Work("host", eqn.primitive.name, self._name, eqn.source)
                    with nullcontext() if self._timer is None else profiler.span(work):
                        self._run_on_host(eqn, bases)

    def _run_while(self, loop: While, bases: Sequence[int]) -> None:
        step = 0
        while True:
            period = step if step == 0 else 2 - step % 2
            self._run(loop.condition[period], bases)
            if not self._read(_place(bases, loop.flag), 1, np.uint8)[0]:
                break
            self._run(loop.body[period], bases)
            step += 1
        self._run(loop.results[0 if step == 0 else 1 + (step - 1) % 2], bases)

    def _run_on_host(self, eqn: Eqn, bases: Sequence[int]) -> None:
        impl = eqn.primitive.impl
        if impl is None:
            raise ArgumentError(
                f"primitive {eqn.primitive.name} runs neither on a GPU nor on the host"
            )
        if eqn_effect(eqn) == Effect.NONE:  # callbacks are meant to run there
            _warn_of_host(eqn.primitive.name, "it is not written as a kernel yet")
        values = [
            atom.value.value if isinstance(atom, Literal) else self._read_var(atom, bases)
            for atom in eqn.invars
        ]
        out = impl(*values, **eqn.params)
        outs = out if eqn.primitive.multiple_results else [out]
        for var, value in zip(eqn.outvars, outs, strict=True):
            if var in self._addresses:  # results that nothing reads have no memory
                host = np.ascontiguousarray(value, var.aval.dtype)
                self._gpu.staging.to_device(host, _place(bases, self._addresses[var]))

    def _read_var(self, var: Var, bases: Sequence[int]) -> NDArray:
        aval = var.aval
        place = _place(bases, self._addresses[var])
        return self._read(place, aval.size, aval.dtype).reshape(aval.shape)

    def _read(self, address: int, count: int, dtype: Any) -> NDArray:
        host = np.empty(count, dtype)
        self._gpu.staging.to_host(address, host)
        return host


class _Replay:
    """A program's launches as graphs, made at the first call; temporaries keep their place.

    A copy that has nothing to do, since its source was given up, is no node. Which ones these are
    depends on what the caller gives up, usually the same in all calls: each choice has a graph.
    """

    def __init__(
        self,
        gpu: CudaDevice,
        launches: Sequence[tuple[launch.Kernel, tuple[Address, ...]]],
        arena_bytes: int,
        name: str,
    ) -> None:
        self._gpu = gpu
        self._launches = launches
        self._copies = [entry for entry in launches if entry[0].copied is not None]
        self._arena_bytes = arena_bytes
        self._name = name
        self._arena: Allocation | None = None
        self._graphs: dict[tuple[bool, ...], _Recorded] = {}

    @classmethod
    def plan(
        cls,
        gpu: CudaDevice,
        commands: CommandList,
        kernels: Sequence[launch.Kernel | HostKernel],
        arena_bytes: int,
        name: str,
    ) -> _Replay | None:
        """For programs of launches only, of which there are some and not too many."""
        launches = []
        for command in commands.commands:
            kernel = kernels[command.kernel] if isinstance(command, Launch) else None
            if not isinstance(command, Launch) or not isinstance(kernel, launch.Kernel):
                return None
            if kernel.programs:
                launches.append((kernel, command.args))
        if not 2 <= len(launches) <= MAX_GRAPH_LAUNCHES:
            return None
        return cls(gpu, launches, arena_bytes, name)

    def run(self, bases: Sequence[int]) -> None:
        """Replay with these addresses of inputs, constants and outputs."""
        if self._arena is None:
            self._arena = self._gpu.pool.empty(
                self._arena_bytes, f"temporaries of {self._name}, kept for its graph"
            )
        new = [*bases, self._arena.address]
        idle = tuple(kernel.is_idle(_places(new, args)) for kernel, args in self._copies)
        graph = self._graphs.get(idle)
        if graph is None:
            if len(self._graphs) == MAX_GRAPHS:
                self._graphs.pop(next(iter(self._graphs)))
            graph = self._graphs[idle] = _Recorded(self._gpu, self._launches, new)
        graph.run(new)


class _Recorded:
    """A graph of those launches that have something to do with the first addresses."""

    def __init__(
        self,
        gpu: CudaDevice,
        launches: Sequence[tuple[launch.Kernel, tuple[Address, ...]]],
        bases: list[int],
    ) -> None:
        placed = [(kernel, args, _places(bases, args)) for kernel, args in launches]
        active = [entry for entry in placed if not entry[0].is_idle(entry[2])]
        self._args = [args for _, args, _ in active]
        self._bases = bases
        self._readers: dict[int, list[int]] = {}
        for number, args in enumerate(self._args):
            for slot in {a.slot for a in args}:
                self._readers.setdefault(slot, []).append(number)
        self._graph = LaunchGraph(gpu.stream, [(kernel, at) for kernel, _, at in active])

    def run(self, bases: list[int]) -> None:
        """Replay with these addresses, by which the same launches have something to do."""
        pairs = enumerate(zip(bases, self._bases, strict=True))
        moved = [slot for slot, (now, before) in pairs if now != before]
        # Where one launch cannot be changed, all must be looked at in the next call.
        self._bases = [-1] * len(bases)
        for number in sorted({n for slot in moved for n in self._readers.get(slot, ())}):
            self._graph.set_pointers(number, _places(bases, self._args[number]))
        self._bases = bases
        self._graph.launch()


class HostKernel:
    """A kernel that Triton cannot express: its buffers are copied to the host and back."""

    def __init__(self, gpu: CudaDevice, kernel: Kernel, why_not: str) -> None:
        self._gpu = gpu
        self._kernel = kernel
        self._why_not = why_not

    def launch(self, stream: Any, pointers: Sequence[int]) -> None:
        """Run it by the kernel IR's interpreter."""
        _warn_of_host(f"kernel {self._kernel.name}", self._why_not)
        arrays = {}
        staging = self._gpu.staging
        for buffer, pointer in zip(self._kernel.buffers, pointers, strict=True):
            arrays[buffer.name] = np.empty(buffer.size, buffer.dtype)
            staging.to_host(pointer, arrays[buffer.name])
        interpret(self._kernel, arrays)
        for buffer, pointer in zip(self._kernel.buffers, pointers, strict=True):
            if buffer.role != "in":
                staging.to_device(arrays[buffer.name], pointer)


def _resident(gpu: CudaDevice, array: Array, label: str) -> CudaBuffer:
    """An array's own buffer where it is on this device already, else a copy."""
    buffer = array.buffer
    if isinstance(buffer, CudaBuffer) and buffer.gpu is gpu:
        buffer.shared = True  # its memory must not be given up with the user's array
        return buffer
    return to_gpu(gpu, array.value, label)


def _load(gpu: CudaDevice, compiled: CompiledKernel) -> launch.Kernel | HostKernel:
    cubin, unaligned = compiled.cubin, compiled.unaligned
    if cubin is None or unaligned is None:
        return HostKernel(gpu, compiled.kernel, compiled.why_not)

    def load_unaligned() -> Function:
        other = unaligned()
        return gpu.modules.load(other.data, other.metadata)

    function = gpu.modules.load(cubin.data, cubin.metadata)
    names = [buffer.name for buffer in compiled.kernel.buffers]
    ends = copied_in_place(compiled.kernel)
    copied = None if ends is None else (names.index(ends[0]), names.index(ends[1]))
    return launch.Kernel(function, load_unaligned, compiled.programs, len(names), copied)


def _place(bases: Sequence[int], address: Address) -> int:
    return bases[address.slot] + address.offset


def _places(bases: Sequence[int], addresses: Sequence[Address]) -> tuple[int, ...]:
    return tuple(bases[a.slot] + a.offset for a in addresses)


_warned: set[str] = set()


def _warn_of_host(what: str, why: str) -> None:
    """Warn once for each operation: its data goes to the host and back at every call."""
    if what in _warned:
        return
    _warned.add(what)
    warnings.warn(
        f"{what} runs on the host, with copies from and to the GPU in every call: {why}",
        CompilerWarning,
        stacklevel=source.stacklevel(),
    )
