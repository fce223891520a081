"""A compiled function as data: which kernels run, in which order, on which memory.

Memory is a table of base addresses (slots): the inputs, then the outputs, then the constants, then
one arena for all temporaries. A back end renders a `KernelProgram` to one C file with one entry
point, or to a list of GPU launches.
"""

from __future__ import annotations

from dataclasses import dataclass

from funcdl.kir.ir import Kernel
from funcdl.kir.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Address:
    """`offset` bytes past the base address in `slot`."""

    slot: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One launch: the position of a kernel, and an address for each of its buffers."""

    kernel: int
    args: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class KernelProgram:
    """Distinct kernels with their schedules, and the launches in order."""

    name: str
    kernels: tuple[tuple[Kernel, Schedule], ...]
    calls: tuple[Call, ...]
    num_slots: int
