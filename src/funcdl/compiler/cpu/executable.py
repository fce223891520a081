"""A loaded program on the CPU: memory for a call, its steps in order, the results."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from funcdl.core import backend
from funcdl.core.jaxpr import ClosedJaxpr, Literal, Var
from funcdl.core.records import record
from funcdl.errors import ArgumentError, WorkingMemoryError
from funcdl.runtime import call_table, cpu_memory, shared_object

if TYPE_CHECKING:  # a program from the disk cache needs neither passes nor kernel IR
    from funcdl.compiler.program import Program
    from funcdl.compiler.steps import HostStep
    from funcdl.kir.program import Address

NDArray = np.ndarray[Any, Any]

Step = Callable[[bytes, list[NDArray]], None]
"""Takes the addresses of the program's memory, packed, and the memory itself."""


@record
class Memory:
    """The memory of a program's calls.

    `outputs` are shapes, dtypes and the inputs whose memory they take over; `results` are slots,
    or constants.
    """

    num_inputs: int
    consts: tuple[NDArray, ...]
    outputs: tuple[tuple[tuple[int, ...], np.dtype[Any], int | None], ...]
    arena_bytes: int
    results: tuple[int | NDArray, ...]


def memory_of(closed: ClosedJaxpr, program: Program) -> Memory:
    """What a call of a program needs."""
    first_out = program.num_inputs + program.num_consts
    return Memory(
        program.num_inputs,
        tuple(_kept(c.value) for c in closed.consts),
        tuple(
            (var.aval.shape, var.aval.dtype, program.donations.get(first_out + i))
            for i, var in enumerate(program.out_vars)
        ),
        program.arena.nbytes,
        tuple(
            atom.value.value if isinstance(atom, Literal) else program.addresses[atom].slot
            for atom in closed.jaxpr.outvars
        ),
    )


class CpuExecutable:
    """A loaded program: fills the table of addresses, runs the steps, returns the outputs."""

    def __init__(self, memory: Memory, steps: Sequence[Step]) -> None:
        first_out = memory.num_inputs + len(memory.consts)
        arena_slot = first_out + len(memory.outputs)
        self._consts = list(memory.consts)
        self._outputs = list(memory.outputs)
        self._donates = any(donor is not None for _, _, donor in memory.outputs)
        self._arena_bytes = memory.arena_bytes
        self._steps = tuple(steps)
        self._pack = struct.Struct(f"{arena_slot + 1}P").pack
        self._const_addresses = [cpu_memory.address(c) for c in self._consts]
        self._results = list(memory.results)
        # The usual program returns its outputs in slot order.
        self._in_order = self._results == list(range(first_out, arena_slot))

    @property
    def native_call(self) -> backend.NativeCall | None:
        """What `__call__` does, for calls made without it; None where the host takes part."""
        steps = [step for step in self._steps if isinstance(step, NativeStep)]
        if len(steps) < len(self._steps) or len(steps) > 1:
            return None
        return backend.NativeCall(
            function=steps[0].address if steps else 0,
            words=steps[0].words if steps else np.zeros(1, np.int64),
            fail=steps[0].fail if steps else _no_failure,
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
            try:
                for step in self._steps:
                    step(table, memory)
            except BaseException as error:
                backend.mark_as_begun(error)
                raise
        if self._in_order:
            return outs
        # Results that are inputs, constants or each other share memory: never to be donated.
        memory = [*inputs, *self._consts, *outs]
        results = [memory[r] if isinstance(r, int) else r for r in self._results]
        for result in results:
            result.flags.writeable = False
        return results


@record
class Loaded:
    """An executable, and the size of its shared objects."""

    executable: CpuExecutable
    code_bytes: int


class NativeStep:
    """Runs a table of calls.

    Args:
        names: what the labels of calls mean.
        program: whose calls they are.

    Raises:
        WorkingMemoryError: a kernel found no memory while it ran.
    """

    def __init__(
        self, run: call_table.Runner, words: call_table.Words, names: Sequence[str], program: str
    ) -> None:
        self._run = run
        self._names = names
        self._program = program
        self.words = np.array(words, np.int64)
        self._words_address = cpu_memory.address(self.words)

    @property
    def address(self) -> int:
        """Of the function that reads the table."""
        return shared_object.address_of(self._run)

    def __call__(self, table: bytes, memory: list[NDArray]) -> None:
        failure = self._run(table, self._words_address)
        if failure is not None:
            self.fail(*call_table.read_failure(failure))

    def fail(self, nbytes: int, label: int) -> NoReturn:
        """Raise the error of a call that asked for so many bytes in vain."""
        raise_working_memory_error(self._program, self._names[label], nbytes)


def raise_working_memory_error(program: str, call: str, nbytes: int) -> NoReturn:
    """Raise the error of a kernel or a library's call that asked for so many bytes in vain.

    What the pool keeps for later is given back first, so that there is more for another try.
    """
    cpu_memory.pool.clear()
    raise WorkingMemoryError(
        f"the system has no {nbytes} bytes of working memory for kernel {call} of program "
        f"{program}, which was stopped. Free memory, or use smaller operands; arguments donated to "
        "this call are deleted, since it may have overwritten them"
    )


def _no_failure(nbytes: int, label: int) -> None:
    """Of programs that call nothing."""


def host_step(step: HostStep, addresses: dict[Var, Address]) -> Step:
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


def _kept(value: NDArray) -> NDArray:
    """A constant's memory, row by row; it must not be given up with the user's array."""
    value.flags.writeable = False
    return np.ascontiguousarray(value).reshape(value.shape)
