"""A program as a flat list of commands for a GPU: launches, copies, and what the host decides.

Addresses stay symbolic (a slot of the program and an offset), so that one list serves every call.
A scan of known length is written out, which lets a whole program become one graph; a long one, a
while loop and a branch hold lists of their own, which the host runs as the values say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from funcdl.compiler.program import Program
from funcdl.compiler.steps import HostStep
from funcdl.core.jaxpr import Eqn
from funcdl.kir.copies import copied_in_place
from funcdl.kir.ir import Kernel
from funcdl.kir.program import (
    Address,
    Binding,
    Body,
    BranchCall,
    Call,
    Copy,
    KernelProgram,
    ScanCall,
    WhileCall,
)
from funcdl.kir.schedule import Schedule

MAX_UNROLLED = 2048
"""Launches up to which a scan is written out."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel by its number, and an address for each of its buffers."""

    kernel: int
    args: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class RunOnHost:
    """One equation, by its NumPy implementation."""

    eqn: Eqn


class Step(Protocol):
    """Makes the commands of one step of a loop."""

    def __call__(self, step: int) -> Sequence[Command]:
        """The commands of this step."""
        ...


@dataclass(frozen=True, slots=True)
class Repeat:
    """`length` steps."""

    length: int
    step: Step


@dataclass(frozen=True, slots=True)
class While:
    """Steps while the condition leaves a nonzero byte at `flag`.

    Commands repeat with period two from step 1 on: there is one list for step 0, one for odd steps
    and one for even ones. `results` are the copies after no step, an odd and an even number.
    """

    condition: tuple[tuple[Command, ...], ...]
    body: tuple[tuple[Command, ...], ...]
    flag: Address
    results: tuple[tuple[Copy, ...], ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """One of several lists, chosen by the int32 at `index`."""

    index: Address
    branches: tuple[tuple[Command, ...], ...]


Command = Launch | Copy | RunOnHost | Repeat | While | Branch


@dataclass(frozen=True, slots=True)
class CommandList:
    """All distinct kernels of a program, and its commands."""

    kernels: tuple[tuple[Kernel, Schedule], ...]
    commands: tuple[Command, ...]


def list_commands(program: Program) -> CommandList:
    """Flatten a program."""
    flat = _Flattener()
    commands: list[Command] = []
    for segment in program.segments:
        if isinstance(segment, HostStep):
            commands.append(RunOnHost(segment.eqn))
        else:
            own = tuple(Address(slot) for slot in range(segment.num_slots))
            commands += flat.program(segment, own)
    return CommandList(tuple(flat.kernels), tuple(commands))


class _Flattener:
    def __init__(self) -> None:
        self.kernels: list[tuple[Kernel, Schedule]] = []
        self._first_kernel: dict[int, int] = {}  # by the identity of the program
        self._programs: list[KernelProgram] = []  # keeps those identities from being reused

    def program(self, program: KernelProgram, slots: Sequence[Address]) -> list[Command]:
        """The commands of a program whose slots are at these addresses."""
        first = self._first_kernel.get(id(program))
        if first is None:
            first = self._first_kernel[id(program)] = len(self.kernels)
            self._programs.append(program)
            self.kernels += program.kernels
        commands: list[Command] = []
        for call in program.calls:
            match call:
                case Call(kernel, args):
                    places = tuple(_at(slots, a) for a in args)
                    # What a copy would copy to itself, as in all steps of a loop but the first.
                    if not copied_in_place(program.kernels[kernel][0]) or len({*places}) > 1:
                        commands.append(Launch(first + kernel, places))
                case ScanCall():
                    commands += self._scan(call, slots)
                case WhileCall():
                    commands.append(self._while(call, slots))
                case BranchCall():
                    branches = [self._step(body, slots, 1, False, 0) for body in call.branches]
                    commands.append(Branch(_at(slots, call.index), tuple(branches)))
        return commands

    def _scan(self, call: ScanCall, slots: Sequence[Address]) -> list[Command]:
        if call.length == 0:
            return list(_copies(call.if_empty, slots))
        step = partial(self._step, call.body, tuple(slots), call.length, call.reverse)
        first = step(0)
        # A body that decides by itself, or many launches, would only make the list long.
        static = all(isinstance(command, Launch) for command in first)
        if not static or call.length * len(first) > MAX_UNROLLED:
            return [Repeat(call.length, step)]
        later = [command for number in range(1, call.length) for command in step(number)]
        return [*first, *later]

    def _while(self, call: WhileCall, slots: Sequence[Address]) -> While:
        def steps(body: Body) -> tuple[tuple[Command, ...], ...]:
            # No step is the last one as far as bindings go, and none has a position.
            return tuple(self._step(body, slots, -1, False, number) for number in range(3))

        return While(
            steps(call.condition),
            steps(call.body),
            _at(slots, call.flag),
            tuple(tuple(_copies(copies, slots)) for copies in call.results),
        )

    def _step(
        self, body: Body, slots: Sequence[Address], length: int, reverse: bool, step: int
    ) -> tuple[Command, ...]:
        position = length - 1 - step if reverse else step
        own = [_at(slots, _bound(binding, step, position, length)) for binding in body.slots]
        return tuple(self.program(body.program, own))


def _bound(binding: Binding, step: int, position: int, length: int) -> Address:
    """What a slot of a body points to in one step (see `Binding`)."""
    if binding.last is not None and step == length - 1:
        return binding.last
    if binding.first is not None and step == 0:
        return binding.first
    if binding.alternate is not None:
        return binding.alternate[step % 2]
    return Address(binding.base.slot, binding.base.offset + position * binding.stride)


def _at(slots: Sequence[Address], inner: Address) -> Address:
    outer = slots[inner.slot]
    return Address(outer.slot, outer.offset + inner.offset)


def _copies(copies: Sequence[Copy], slots: Sequence[Address]) -> list[Copy]:
    return [Copy(_at(slots, c.source), _at(slots, c.target), c.nbytes) for c in copies]
