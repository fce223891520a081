"""A compiled function as data: which kernels run, in which order, on which memory.

Memory is a table of base addresses (slots): the inputs, then the outputs, then the constants, then
one arena for all temporaries. A back end renders a `KernelProgram` to one C file with one entry
point, or to a list of GPU launches.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from funcdl.core.records import record
from funcdl.kir.cost import Cost
from funcdl.kir.ir import Kernel
from funcdl.kir.schedule import Schedule


@record
class Address:
    """`offset` bytes past the base address in `slot`."""

    slot: int
    offset: int = 0


@record
class Call:
    """One launch: the position of a kernel, and an address for each of its buffers."""

    kernel: int
    args: tuple[Address, ...]


@record
class KernelProgram:
    """Distinct kernels with their schedules, and the launches in order."""

    name: str
    kernels: tuple[tuple[Kernel, Schedule], ...]
    calls: tuple[AnyCall, ...]
    num_slots: int


@record
class Binding:
    """What a slot of a loop's body points to in one step.

    Step s (0, 1, …) of a scan of n steps works at position t (s, or n - 1 - s in reverse):

    * in the first step `first` where given, in the last step `last` where given;
    * otherwise `alternate[s % 2]` where given (a carried value moves between two buffers: what one
      step writes, the next one reads);
    * otherwise `base` + t · `stride` bytes.
    """

    base: Address
    stride: int = 0
    first: Address | None = None
    last: Address | None = None
    alternate: tuple[Address, Address] | None = None


@record
class Body:
    """A program called by another, and what each of its slots points to."""

    program: KernelProgram
    slots: tuple[Binding, ...]


@record
class Copy:
    """`nbytes` bytes from one address to another."""

    source: Address
    target: Address
    nbytes: int


@record
class ScanCall:
    """A fixed number of steps of a body. Without steps, the `if_empty` copies happen instead."""

    name: str
    body: Body
    length: int
    reverse: bool
    if_empty: tuple[Copy, ...]


@record
class WhileCall:
    """Steps of a body while `condition` leaves a nonzero byte at `flag`.

    After s steps the carried values are at the sources of ``results[0]`` (no step), or of
    ``results[1 + (s - 1) % 2]``; those copies bring them to where they are wanted.
    """

    name: str
    condition: Body
    body: Body
    flag: Address
    results: tuple[tuple[Copy, ...], tuple[Copy, ...], tuple[Copy, ...]]


@record
class BranchCall:
    """One of several bodies, chosen by the int32 at `index`."""

    name: str
    index: Address
    branches: tuple[Body, ...]


@record
class Pointer:
    """An argument: elements of a type at an address."""

    address: Address
    dtype: np.dtype[Any]


@record
class Record:
    """An argument: a struct of the library. Fields that are not named are 0."""

    type: str
    fields: tuple[tuple[str, Value], ...]


Value = int | float | Pointer | tuple[int, ...]


@record
class LibraryCall:
    """Calls, in order, of functions in a header of the back end: each a name and its arguments.

    A last argument, by which they say that they found no memory, is left to the renderer.
    """

    name: str
    header: str
    functions: tuple[tuple[str, tuple[Value | Record, ...]], ...]
    cost: Cost


AnyCall = Call | ScanCall | WhileCall | BranchCall | LibraryCall


def bodies(call: AnyCall) -> tuple[Body, ...]:
    """The programs that a call runs."""
    match call:
        case ScanCall(body=body):
            return (body,)
        case WhileCall(condition=condition, body=body):
            return condition, body
        case BranchCall(branches=branches):
            return branches
        case Call() | LibraryCall():
            return ()


def all_kernels(program: KernelProgram) -> list[tuple[Kernel, Schedule]]:
    """The kernels of a program and of the programs that it calls, innermost first."""
    inner = [
        entry
        for call in program.calls
        for body in bodies(call)
        for entry in all_kernels(body.program)
    ]
    return [*inner, *program.kernels]


def all_library_calls(program: KernelProgram) -> list[LibraryCall]:
    """The calls of libraries that a program makes, and the programs that it calls."""
    return [call for call in _all_calls(program) if isinstance(call, LibraryCall)]


def all_scans(program: KernelProgram) -> list[ScanCall]:
    """The scans of a program, and of the programs that it calls."""
    return [call for call in _all_calls(program) if isinstance(call, ScanCall)]


def _all_calls(program: KernelProgram) -> list[AnyCall]:
    """The calls of a program, then those of the programs that they call."""
    found = list(program.calls)
    for call in program.calls:
        for body in bodies(call):
            found += _all_calls(body.program)
    return found
