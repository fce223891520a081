"""What `jit` asks of a back end, and the table of those that exist.

`jit` never imports a compiler: back ends register themselves here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from funcdl.core import profiler
from funcdl.core.device_buffer import DeviceBuffer, Value
from funcdl.core.jaxpr import ClosedJaxpr
from funcdl.core.records import record
from funcdl.core.reference import run_reference
from funcdl.errors import ArgumentError

if TYPE_CHECKING:
    from pathlib import Path

NDArray = np.ndarray[Any, Any]


class Executable(Protocol):
    """A compiled program."""

    def __call__(self, args: Sequence[NDArray]) -> Sequence[Any]:
        """Run on flat inputs; outputs are fresh arrays (or buffers) that the caller owns."""
        ...


@record
class MemoryAnalysis:
    """Sizes of a program's memory; names as in JAX's ``CompiledMemoryStats``.

    Attributes:
      generated_code_size_in_bytes: the shared objects with its code, 0 until it is compiled.
      argument_size_in_bytes: its inputs.
      output_size_in_bytes: its outputs, those in the memory of donated inputs included.
      alias_size_in_bytes: the outputs that are in the memory of donated inputs.
      temp_size_in_bytes: the arena of all temporaries.
      constant_size_in_bytes: the arrays that it captured.
    """

    generated_code_size_in_bytes: int
    argument_size_in_bytes: int
    output_size_in_bytes: int
    alias_size_in_bytes: int
    temp_size_in_bytes: int
    constant_size_in_bytes: int

    @property
    def peak_memory_in_bytes(self) -> int:
        """What is in use while it runs, code aside."""
        return (
            self.argument_size_in_bytes
            + self.constant_size_in_bytes
            + self.output_size_in_bytes
            - self.alias_size_in_bytes
            + self.temp_size_in_bytes
        )


def analyse_memory(
    program: ClosedJaxpr, *, code: int = 0, alias: int = 0, temp: int = 0
) -> MemoryAnalysis:
    """The sizes of a program's arguments and results, and the given ones."""
    return MemoryAnalysis(
        code,
        sum(aval.nbytes for aval in program.in_avals),
        sum(aval.nbytes for aval in program.out_avals),
        alias,
        temp,
        sum(const.value.nbytes for const in program.consts),
    )


class DeviceExecutable:
    """Base class of executables that take and return `DeviceBuffer`s beside NumPy arrays."""

    # Not an ABC: `isinstance` with one is slow, and every call of a program asks it. Subclasses
    # define what raises here.

    def __call__(self, args: Sequence[Any]) -> Sequence[Any]:
        """Run on flat inputs, which may be in host memory; outputs are on the device."""
        raise NotImplementedError


def call(executable: Executable, values: Sequence[Value]) -> Sequence[Any]:
    """Run on operands wherever they are: copied to the host where the executable needs that."""
    if isinstance(executable, DeviceExecutable):
        return executable(values)
    return executable([x.to_host() if isinstance(x, DeviceBuffer) else x for x in values])


def mark_as_begun(error: BaseException) -> None:
    """Note on an error that its program had begun: donated inputs may have been overwritten."""
    error._funcdl_program_had_begun = True  # type: ignore[attr-defined]  # which any error takes


def had_begun(error: BaseException) -> bool:
    """Whether donated inputs may have been overwritten, and so have to be deleted."""
    return hasattr(error, "_funcdl_program_had_begun")


@record
class NativeCall:
    """How to call a program's machine code: what an executable offers, as `native_call`, for calls
    that are made without it (`core.dispatch`).

    Fields:
      function: the address of a ``const int64_t *f(void **slots, const int64_t *words)``, or 0
        where there is nothing to run. Slots are the addresses of inputs, constants, outputs and an
        arena, in this order. It returns NULL, or where a kernel missed memory two numbers.
      words: int64, for the function.
      fail: raises the error that these two numbers mean.
      consts: C-contiguous.
      outputs: the shape and dtype of each, and the input whose memory it may take, or -1.
      results: for each result of the program its slot, or the array that it always is.
      arena_bytes: how large the arena is.
      pool: where outputs and arenas come from; see `runtime.cpu_memory`.
    """

    function: int
    words: NDArray
    fail: Callable[[int, int], object]
    consts: tuple[NDArray, ...]
    outputs: tuple[tuple[tuple[int, ...], np.dtype[Any], int], ...]
    results: tuple[int | NDArray, ...]
    arena_bytes: int
    pool: Any


class LoweredProgram(Protocol):
    """A program on its way through the compiler."""

    def as_text(self, stage: str) -> str:
        """The program as one stage left it.

        Raises:
          ArgumentError: there is no such stage; the message lists those that exist.
        """
        ...

    def compile(self, *, profiled: bool = False) -> Executable:
        """The executable; this is where native compilers run.

        Args:
          profiled: whether its calls are to tell `core.profiler` the times of their parts.
        """
        ...

    def cost_analysis(self) -> dict[str, Any]:
        """Operations and bytes of a run (see `funcdl.compiler.cost`).

        Raises:
          ArgumentError: this back end counts none.
        """
        ...

    def memory_analysis(self) -> MemoryAnalysis:
        """The sizes of the memory that a run uses."""
        ...

    def write_library(
        self, folder: Path, name: str, labels: tuple[Sequence[str], Sequence[str]]
    ) -> None:
        """Write the program as a library for other programs.

        Args:
          name: begins the names of its files and functions.
          labels: the user's names of the arguments, and of the results.

        Raises:
          ArgumentError: this back end writes none, or none of this program.
        """
        ...


class Backend(Protocol):
    """A way to compile programs for some device."""

    name: str

    def lower(self, program: ClosedJaxpr, *, name: str, donated: Sequence[bool]) -> LoweredProgram:
        """Take in a program; `donated` says which inputs' memory it may reuse."""
        ...


class ReferenceProgram:
    """Runs a program equation by equation with the primitives' NumPy implementations."""

    def __init__(self, program: ClosedJaxpr, name: str = "") -> None:
        self._program = program
        self._name = name

    def as_text(self, stage: str) -> str:
        """The jaxpr; there are no other stages."""
        if stage == "jaxpr":
            return str(self._program)
        raise ArgumentError(
            f"the reference back end has no stage {stage!r}; it has: 'jaxpr'. "
            "The compiler's stages are those of funcdl.config.backend = 'cpu'."
        )

    def compile(self, *, profiled: bool = False) -> ReferenceProgram:
        """Nothing to do: profiles are told the times of equations by the evaluator."""
        return self

    def cost_analysis(self) -> dict[str, Any]:
        """Nothing is counted here."""
        raise ArgumentError(
            "the reference back end counts no operations; set funcdl.config.backend = 'cpu'"
        )

    def memory_analysis(self) -> MemoryAnalysis:
        """Arguments and results; NumPy's temporaries are not known."""
        return analyse_memory(self._program)

    def write_library(
        self, folder: Path, name: str, labels: tuple[Sequence[str], Sequence[str]]
    ) -> None:
        """There is no code to write."""
        raise ArgumentError(
            "write_library: the reference back end makes no code; set "
            "funcdl.config.backend = 'cpu' before the function is lowered"
        )

    def __call__(self, args: Sequence[NDArray]) -> list[NDArray]:
        with profiler.span(profiler.Work("call", self._name)):
            outs = run_reference(self._program, args)
        for out in outs:
            # Results may be views of inputs, of constants or of each other: never to be donated.
            out.flags.writeable = False
        return outs


class ReferenceBackend:
    """The back end that is always there: no compiler, NumPy only."""

    name = "reference"

    def lower(
        self, program: ClosedJaxpr, *, name: str, donated: Sequence[bool]
    ) -> ReferenceProgram:
        """Take in a program."""
        return ReferenceProgram(program, name)


_factories: dict[str, Callable[[], Backend]] = {"reference": ReferenceBackend}
_instances: dict[str, Backend] = {}


def register(name: str, factory: Callable[[], Backend]) -> None:
    """Make a back end known; `factory` runs when it is first used."""
    _factories[name] = factory
    _instances.pop(name, None)


def get(name: str) -> Backend:
    """The back end of that name.

    Raises:
      ArgumentError: no back end has this name.
    """
    if name == "auto":
        name = "cpu" if "cpu" in _factories else "reference"
    backend = _instances.get(name)
    if backend is None:
        if name not in _factories:
            known = ", ".join(sorted(_factories))
            raise ArgumentError(f"no back end is called {name!r}; there are: auto, {known}")
        backend = _instances[name] = _factories[name]()
    return backend
