"""Scans whose rows threads share: each thread takes its rows through all steps by itself.

The kernels of a step are too small to share one by one: an LSTM's take ten microseconds, of which
threads spend a third to start together, to wait for each other, and to fetch what another core has
written. Where no row of a step is computed from another row (examples of a batch meet in the
weights only), shares of the rows are loops of their own.

A share runs the same functions on fewer rows, so that its results have the same bits. What proves
it is the text: the kernel for a share of the rows must be rendered as the same function. Every
share works in its own part of each array, and of the arena, where all addresses are divided by the
number of shares: so whatever was disjoint stays so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from funcdl.core.records import record
from funcdl.kernels.cpu_c.parameters import Number
from funcdl.kernels.cpu_c.program.standalone import standalone
from funcdl.kernels.cpu_c.render import render_function
from funcdl.kir.cut.row_share import divided_buffers, row_axis, share_of_rows
from funcdl.kir.dot import reads_in_place
from funcdl.kir.ir import Dot, Kernel
from funcdl.kir.program import Address, Binding, Call, ScanCall
from funcdl.kir.schedule import Schedule

COUNTS = (2, 4, 8, 16, 32, 64)
"""Into how many shares rows are cut; a run takes those that suit its threads."""

# Positions of an innermost loop that a share has a multiple of: it has no rest that others lack.
_LANES = 16
# Rows of a product that are worth the reading of its other operand.
_PRODUCT_ROWS = 16


@record
class LoopParts:
    """A scan in `count` parts.

    `strides` are, for each slot of the body, the bytes from one part's memory to the next one's;
    `calls` are the kernels of a step by their names, with their addresses and numbers.
    """

    count: int
    strides: tuple[int, ...]
    calls: tuple[tuple[str, tuple[Address, ...], tuple[Number, ...]], ...]


def loop_parts(call: ScanCall) -> list[LoopParts]:
    """The ways to share the rows of a scan among threads, none where its steps mix rows.

    Nor where no kernel of it is worth more than one thread.
    """
    program = call.body.program
    schedules = [schedule for _, schedule in program.kernels]
    if call.length < 2 or not any(s.kind == "parallel" for plan in schedules for s in plan.steps):
        return []
    kernels = [_Rows.of(kernel, schedule) for kernel, schedule in program.kernels]
    calls: list[tuple[_Rows, Call]] = []
    for each in program.calls:
        rows = kernels[each.kernel] if isinstance(each, Call) else None
        if rows is None:
            return []
        assert isinstance(each, Call)
        calls.append((rows, each))
    sizes = _divided_slots(call, calls)
    if sizes is None:
        return []
    found = (_parts(calls, sizes, len(call.body.slots) - 1, count) for count in COUNTS)
    return [parts for parts in found if parts is not None]


@record
class _Rows:
    """A kernel with independent rows: along which axis, and which buffers they divide."""

    kernel: Kernel
    schedule: Schedule
    axis: str
    divided: frozenset[str]

    @classmethod
    def of(cls, kernel: Kernel, schedule: Schedule) -> _Rows | None:
        axis = row_axis(kernel)
        dots = (i for i in kernel.body if isinstance(i, Dot))
        # A packed operand would be packed by every share.
        if axis is None or not all(reads_in_place(kernel, dot) for dot in dots):
            return None
        divided = divided_buffers(kernel, kernel.axis(axis))
        assert divided is not None
        return cls(kernel, schedule, axis, divided)

    def numbers(self, count: int) -> tuple[Number, ...] | None:
        """What the function is passed for a share of the rows; None where it cannot serve one."""
        extent = self.kernel.axis(self.axis).extent
        if extent % (count * self._grain()):
            return None
        whole = render_function(self.kernel, self.schedule)
        share = share_of_rows(self.kernel, self.axis, count)
        part = render_function(share, self.schedule)
        return part.numbers if standalone(part, "f") == standalone(whole, "f") else None

    def _grain(self) -> int:
        """What the rows of a share are a multiple of."""
        if any(isinstance(instruction, Dot) for instruction in self.kernel.body):
            return _PRODUCT_ROWS
        if len(self.kernel.axes) == 1:
            return _LANES
        return max(s.size if s.kind == "parallel" else 1 for s in self.schedule.of(self.axis))


def _divided_slots(call: ScanCall, calls: Sequence[tuple[_Rows, Call]]) -> dict[int, int] | None:
    """The sizes, in bytes, of the slots that rows divide; None where rows of some step would meet.

    That of the arena is what of it is used.
    """
    arena = len(call.body.slots) - 1
    divided: dict[int, int] = {}
    whole: dict[int, int] = {}
    written: set[int] = set()
    for rows, each in calls:
        for buffer, address in zip(rows.kernel.buffers, each.args, strict=True):
            sizes = divided if buffer.name in rows.divided else whole
            end = address.offset + buffer.size * buffer.dtype.itemsize
            sizes[address.slot] = max(sizes.get(address.slot, 0), end)
            if buffer.role != "in":
                written.add(address.slot)
    if arena in whole or divided.keys() & whole.keys():
        return None
    # What every row reads, no step may write: it would have to wait for all rows.
    for slot, other in product(whole, written - {arena}):
        mine, theirs = call.body.slots[slot], call.body.slots[other]
        if _meet(mine, whole[slot], theirs, divided[other], call.length):
            return None
    return divided


def _meet(first: Binding, size: int, second: Binding, other_size: int, length: int) -> bool:
    """Whether two slots may point to the same memory, in whatever steps."""
    return any(
        a.slot == b.slot and a_low < b_high and b_low < a_high
        for a, a_low, a_high in _places(first, size, length)
        for b, b_low, b_high in _places(second, other_size, length)
    )


def _places(binding: Binding, size: int, length: int) -> list[tuple[Address, int, int]]:
    """Where a slot points to: addresses, and the range of bytes from there on in their slots."""
    reach = size + binding.stride * (length - 1)
    found = [(binding.base, binding.base.offset, binding.base.offset + reach)]
    for place in (binding.first, binding.last, *(binding.alternate or ())):
        if place is not None:
            found.append((place, place.offset, place.offset + size))
    return found


def _parts(
    calls: Sequence[tuple[_Rows, Call]], sizes: Mapping[int, int], arena: int, count: int
) -> LoopParts | None:
    strides = [0] * (arena + 1)
    for slot, size in sizes.items():
        if size % count:
            return None
        strides[slot] = size // count
    shared = []
    for rows, each in calls:
        numbers = rows.numbers(count)
        if numbers is None:
            return None
        places = []
        for address in each.args:
            if address.slot == arena:
                if address.offset % count:
                    return None
                address = Address(arena, address.offset // count)
            places.append(address)
        shared.append((rows.kernel.name, tuple(places), numbers))
    return LoopParts(count, tuple(strides), tuple(shared))
