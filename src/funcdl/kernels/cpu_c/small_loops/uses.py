"""What a program's calls do with its memory: element types, sizes, and who reads what.

Addresses say neither where an array ends nor of what type its elements are; the kernels that read
and write it do. A program is *regular* if all its calls agree about that: every slot but the arena
is one array, and what is read of the arena is what was last written there, whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from funcdl.core.records import record
from funcdl.kernels.cpu_c.small_loops.carried import Carried, carried
from funcdl.kir.program import (
    Address,
    AnyCall,
    Binding,
    Body,
    BranchCall,
    Call,
    KernelProgram,
    LibraryCall,
    ScanCall,
    WhileCall,
)

INDEX = np.dtype(np.int32)
"""Of the number of a branch."""

FLAG = np.dtype(np.bool_)
"""Of the result of a condition."""


class IrregularError(Exception):
    """Calls do not agree about some memory, or do what small loops have no text for."""


@record
class Array:
    """Elements of one type in a row."""

    dtype: np.dtype
    size: int

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


@record
class Use:
    """A slot that is one array, and whether it is written."""

    array: Array
    written: bool


Access = tuple[Address, Array, bool]  # where, what, and whether it is written


def slot_uses(program: KernelProgram) -> dict[int, Use]:
    """The slots that a program touches, but for the arena.

    Raises:
        IrregularError: the program is not regular.
    """
    arena = program.num_slots - 1
    uses: dict[int, Use] = {}
    alive: dict[int, Array] = {}  # in the arena, by offsets
    for call in program.calls:
        accesses = list(_accesses(program, call))
        for writing in (False, True):
            for address, array, written in accesses:
                if written != writing or not array.size:
                    continue
                if address.slot != arena:
                    _merge(uses, address, array, written)
                elif not written and alive.get(address.offset) != array:
                    raise IrregularError
                elif written:
                    _write(alive, address.offset, array)
    return uses


def carried_array(pair: Carried, *uses: dict[int, Use]) -> Array:
    """What a pair of slots holds.

    Args:
        uses: of the body, then of the condition, in which the same slot reads it.
    """
    found = {each[slot].array for each in uses for slot in (pair.read, pair.write) if slot in each}
    if len(found) != 1 or pair.write not in uses[0]:
        raise IrregularError
    return found.pop()


def while_condition(call: WhileCall) -> tuple[dict[int, int], int]:
    """The slots of the body that slots of the condition are bound like, and that of the flag."""
    body = {binding: at for at, binding in enumerate(call.body.slots) if binding.first is not None}
    same, flags = {}, []
    for at, binding in enumerate(call.condition.slots):
        if binding.first is not None:
            same[at] = body[binding]
        elif binding == Binding(call.flag):
            flags.append(at)
    if len(flags) != 1:
        raise IrregularError
    return same, flags[0]


def _merge(uses: dict[int, Use], address: Address, array: Array, written: bool) -> None:
    known = uses.get(address.slot)
    if address.offset or (known is not None and known.array != array):
        raise IrregularError
    uses[address.slot] = Use(array, written or (known is not None and known.written))


def _write(alive: dict[int, Array], offset: int, array: Array) -> None:
    end = offset + array.nbytes
    for other, there in list(alive.items()):
        if other < end and offset < other + there.nbytes:
            del alive[other]
    alive[offset] = array


def _accesses(program: KernelProgram, call: AnyCall) -> Iterator[Access]:
    match call:
        case Call():
            kernel, _ = program.kernels[call.kernel]
            for buffer, address in zip(kernel.buffers, call.args, strict=True):
                array = Array(buffer.dtype, buffer.size)
                if buffer.role != "out":
                    yield address, array, False
                if buffer.role != "in":
                    yield address, array, True
        case ScanCall():
            uses = slot_uses(call.body.program)
            pairs = carried(call.body.slots, reverse=call.reverse)
            arrays = [carried_array(pair, uses) for pair in pairs]
            yield from _carried_accesses(call.body, pairs, arrays, call.length)
            yield from _plain_accesses(call.body, pairs, uses, call.length)
        case WhileCall():
            uses = slot_uses(call.body.program)
            same, flag = while_condition(call)
            tested = slot_uses(call.condition.program)
            of_body = {same[at]: use for at, use in tested.items() if at in same}
            pairs = carried(call.body.slots)
            arrays = [carried_array(pair, uses, of_body) for pair in pairs]
            yield from _carried_accesses(call.body, pairs, arrays, 0)
            yield from _plain_accesses(call.body, pairs, uses, 0)
            del tested[flag]
            rest = {at: use for at, use in tested.items() if at not in same}
            yield from _plain_accesses(call.condition, [], rest, 0)
            targets = {copy.source: copy.target for copy in call.results[1]}
            for pair, array in zip(pairs, arrays, strict=True):
                target = targets.get(call.body.slots[pair.write].base)
                if target is not None:
                    yield target, array, True
        case BranchCall():
            yield call.index, Array(INDEX, 1), False
            for body in call.branches:
                yield from _plain_accesses(body, [], slot_uses(body.program), 0)
        case LibraryCall():
            raise IrregularError


def _carried_accesses(
    body: Body, pairs: list[Carried], arrays: list[Array], length: int
) -> Iterator[Access]:
    for pair, array in zip(pairs, arrays, strict=True):
        read, write = body.slots[pair.read], body.slots[pair.write]
        if read.first is not None:
            yield read.first, array, False
        if pair.kind == "stack":
            stack = Array(array.dtype, array.size * length)
            yield read.base, stack, False
            yield read.base, stack, True
        elif pair.kind == "place":
            yield write.base, array, True
        if write.last is not None:
            yield write.last, array, True


def _plain_accesses(
    body: Body, pairs: list[Carried], uses: dict[int, Use], length: int
) -> Iterator[Access]:
    """Of slots that hold no carried values: operands, and slices of stacks."""
    known = {slot for pair in pairs for slot in (pair.read, pair.write)}
    for slot, use in uses.items():
        if slot in known:
            continue
        binding, array = body.slots[slot], use.array
        if binding != Binding(binding.base, stride=binding.stride):
            raise IrregularError
        if binding.stride:
            if binding.stride != array.nbytes:
                raise IrregularError
            array = Array(array.dtype, array.size * length)
        yield binding.base, array, use.written
