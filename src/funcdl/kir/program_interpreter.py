"""Runs programs of kernels on arrays of bytes: the meaning of calls, loops and branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.kir.interpreter import interpret
from funcdl.kir.program import (
    Body,
    BranchCall,
    Call,
    Copy,
    KernelProgram,
    LibraryCall,
    ScanCall,
    WhileCall,
)

Array = np.ndarray[Any, np.dtype[Any]]


def run_program(program: KernelProgram, slots: Sequence[Array]) -> None:
    """Run the calls of `program` in order on memory given as arrays of bytes.

    Args:
        slots: one array of uint8 for each base address; outputs and temporaries are written there.

    Raises:
        ValueError: the number of slots is not the program's, or a buffer reaches past its slot.
    """
    if len(slots) != program.num_slots:
        raise ValueError(
            f"program {program.name}: slots must be {program.num_slots} arrays, got {len(slots)}"
        )
    for call in program.calls:
        if not isinstance(call, Call):
            _run_control(call, slots)
            continue
        kernel, _ = program.kernels[call.kernel]
        buffers: dict[str, Array] = {}
        for buffer, address in zip(kernel.buffers, call.args, strict=True):
            end = address.offset + buffer.size * buffer.dtype.itemsize
            memory = slots[address.slot]
            if end > memory.size:
                raise ValueError(
                    f"program {program.name}: buffer {buffer.name!r} of {kernel.name} ends at byte "
                    f"{end} of slot {address.slot}, which has {memory.size}"
                )
            buffers[buffer.name] = memory[address.offset : end].view(buffer.dtype)
        interpret(kernel, buffers)


def _run_control(
    call: ScanCall | WhileCall | BranchCall | LibraryCall, slots: Sequence[Array]
) -> None:
    match call:
        case ScanCall(body=body, length=length):
            for step in range(length):
                position = length - 1 - step if call.reverse else step
                _run_body(body, slots, step, position, length)
            if length == 0:
                _copy(call.if_empty, slots)
        case WhileCall():
            step = 0
            while True:
                _run_body(call.condition, slots, step, step, -1)
                if not slots[call.flag.slot][call.flag.offset]:
                    break
                _run_body(call.body, slots, step, step, -1)
                step += 1
            _copy(call.results[0 if step == 0 else 1 + (step - 1) % 2], slots)
        case BranchCall(index=index, branches=branches):
            memory = slots[index.slot][index.offset : index.offset + 4]
            _run_body(branches[int(memory.view(np.int32)[0])], slots, 0, 0, 1)
        case LibraryCall(name=name, header=header):
            raise ValueError(f"{name}: functions of {header} have no form in the kernel IR")


def _run_body(body: Body, slots: Sequence[Array], step: int, position: int, length: int) -> None:
    memory = []
    for binding in body.slots:
        address = binding.base
        offset = address.offset + position * binding.stride
        if binding.alternate is not None:
            address = binding.alternate[step % 2]
            offset = address.offset
        if binding.first is not None and step == 0:
            address = binding.first
            offset = address.offset
        if binding.last is not None and step == length - 1:
            address = binding.last
            offset = address.offset
        memory.append(slots[address.slot][offset:])
    run_program(body.program, memory)


def _copy(copies: Sequence[Copy], slots: Sequence[Array]) -> None:
    for copy in copies:
        source = slots[copy.source.slot][copy.source.offset :][: copy.nbytes]
        slots[copy.target.slot][copy.target.offset :][: copy.nbytes] = source
