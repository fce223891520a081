"""The calls of a program as a table of words, for the C function that runs such tables.

The twin of `program.calls`, which spells the same calls in C.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from funcdl.core.records import record
from funcdl.kernels.cpu_c.loop_parts import LoopParts
from funcdl.kernels.cpu_c.parameters import Number
from funcdl.kir.program import (
    Address,
    AnyCall,
    Binding,
    Body,
    BranchCall,
    Call,
    Copy,
    KernelProgram,
    LibraryCall,
    ScanCall,
    WhileCall,
)
from funcdl.runtime import call_table
from funcdl.runtime.call_table import Place, Words


@record
class Target:
    """What a record calls: an address, and the numbers that the function takes beside pointers.

    `pointers` are what a call of a library or of a small loop passes; a kernel's call has them
    itself. A call that misses memory is reported by its `label`.
    """

    function: int
    numbers: Sequence[Number] = ()
    pointers: Sequence[Address] = ()
    label: int = 0


Targets = Mapping[str, Target]
Shares = Mapping[str, Sequence[LoopParts]]


def tabulate(program: KernelProgram, targets: Targets, shares: Shares) -> Words:
    """The calls of a program; see `runtime.call_table`.

    Args:
        targets: by the names of kernels, of calls of libraries, and of loops over small kernels.
        shares: the ways to share scans among threads, by the names of the scans.
    """
    return call_table.program([_call(program, call, targets, shares) for call in program.calls])


def _call(program: KernelProgram, call: AnyCall, targets: Targets, shares: Shares) -> Words:
    match call:
        case Call():
            target = targets[program.kernels[call.kernel][0].name]
            return _function_call(target, call.args)
        case LibraryCall() | ScanCall() | WhileCall() if call.name in targets:
            return _function_call(targets[call.name], targets[call.name].pointers)
        case LibraryCall():
            raise KeyError(call.name)
        case ScanCall():
            step = _body(call.body, targets, shares)
            parts = [_share(share, targets) for share in shares.get(call.name, ())]
            return call_table.scan(call.length, call.reverse, step, _copies(call.if_empty), parts)
        case WhileCall():
            condition, step = (_body(body, targets, shares) for body in (call.condition, call.body))
            results = [_copies(copies) for copies in call.results]
            return call_table.while_loop(_place(call.flag), condition, step, results)
        case BranchCall():
            branches = [_body(body, targets, shares) for body in call.branches]
            return call_table.branch(_place(call.index), branches)


def _share(share: LoopParts, targets: Targets) -> Words:
    calls = [
        _function_call(replace(targets[name], numbers=numbers), addresses)
        for name, addresses, numbers in share.calls
    ]
    return call_table.share(share.count, share.strides, calls)


def _function_call(target: Target, addresses: Sequence[Address]) -> Words:
    numbers = [number.word for number in target.numbers]
    return call_table.kernel(target.function, list(map(_place, addresses)), numbers, target.label)


def _body(body: Body, targets: Targets, shares: Shares) -> Words:
    program = body.program
    calls = [_call(program, call, targets, shares) for call in program.calls]
    return call_table.body([_binding(binding) for binding in body.slots], calls)


def _binding(binding: Binding) -> Words:
    first = None if binding.first is None else _place(binding.first)
    last = None if binding.last is None else _place(binding.last)
    alternate = None
    if binding.alternate is not None:
        even, odd = binding.alternate
        alternate = _place(even), _place(odd)
    return call_table.binding(_place(binding.base), binding.stride, first, last, alternate)


def _copies(copies: Sequence[Copy]) -> Words:
    return call_table.copies([(_place(c.source), _place(c.target), c.nbytes) for c in copies])


def _place(address: Address) -> Place:
    return address.slot, address.offset
