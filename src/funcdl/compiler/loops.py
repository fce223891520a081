"""Control flow in compiled programs: bodies become programs of kernels, called in native loops.

Each body of a scan, while loop or cond is compiled by the same passes as the program around it. In
memory, a loop's body reads and writes slots of its own; the loop points them, step by step, at the
operands, at slices of the stacked arrays, and for carried values at two buffers in turn. A carried
value that each step also stacks as it found it (gradients need many such) lives in that stack: a
step reads its own element and writes that of the next step, and nothing is copied. One of which a
step only updates some elements stays where the loop's result is to be. So does an operand of a cond
that a branch updates or passes on, and that nothing reads later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import numpy as np

from funcdl.compiler.attention import attention_call, attention_scratch, is_attention
from funcdl.compiler.branches import shared_operands
from funcdl.compiler.lower import LoweredKernel
from funcdl.compiler.sources import Sources
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, Jaxpr, Literal, Var
from funcdl.core.records import record
from funcdl.kir import index as kindex
from funcdl.kir.builder import KernelBuilder
from funcdl.kir.program import (
    Address,
    AnyCall,
    Binding,
    Body,
    BranchCall,
    Copy,
    KernelProgram,
    LibraryCall,
    ScanCall,
    WhileCall,
)
from funcdl.ops.convert import copy

AddressOf = Callable[[Var], Address]
Pairs = Sequence[tuple[int, int]]
LibraryRule = Callable[[Eqn, dict[str, Var], str, AddressOf], LibraryCall]


@record
class CompiledBody:
    """A body's kernels, the size of its arena, and the user's line of each kernel.

    `in_place` are the results that are written over the inputs whose places they take.
    """

    program: KernelProgram
    arena_bytes: int
    sources: Sources
    in_place: frozenset[int] = frozenset()


@record
class LoopStep:
    """A control flow equation with compiled bodies, or an equation that is a call of a library.

    `scratch` are variables for memory that the step needs while it runs: two buffers for each
    carried value, an arena for each body, a flag. `begin` are kernels that run before the loop.
    `library(eqn, scratch, name, address)` makes the call of a library. `updates` are operands with
    the results that may be made in their memory, where nothing reads them later.
    """

    eqn: Eqn
    bodies: tuple[CompiledBody, ...]
    scratch: dict[str, Var]
    begin: tuple[LoweredKernel, ...] = ()
    library: LibraryRule | None = None
    updates: tuple[tuple[Var, Var], ...] = ()


class CompileBody(Protocol):
    """Compiles a body under a name; None where it needs the host."""

    def __call__(
        self, program: ClosedJaxpr, name: str, pairs: Pairs, *, copied: bool = False
    ) -> CompiledBody | None:
        """Compile a body.

        Args:
            pairs: inputs with the results that may be made in their memory.
            copied: whether those that cannot be made there are copied there in the end.
        """
        ...


def with_own_outputs(program: ClosedJaxpr, passed: Pairs = ()) -> ClosedJaxpr:
    """Copy the outputs that are inputs, constants or each other, so that each has its memory.

    Args:
        passed: inputs with the outputs that may be these inputs themselves.
    """
    jaxpr = program.jaxpr
    taken: set[Var] = {*jaxpr.invars, *jaxpr.constvars}
    eqns, outvars = list(jaxpr.eqns), []
    own = {out: jaxpr.invars[number] for number, out in passed}
    for number, atom in enumerate(jaxpr.outvars):
        if own.get(number) is not atom and (isinstance(atom, Literal) or atom in taken):
            var = Var(atom.aval)
            eqns.append(Eqn(copy, [atom], [var], {}))
            atom = var
        taken.add(atom)
        outvars.append(atom)
    return ClosedJaxpr(Jaxpr(jaxpr.constvars, jaxpr.invars, outvars, eqns), program.consts)


def body_programs(eqn: Eqn) -> list[ClosedJaxpr]:
    """The programs that an equation runs, in the order of `LoopStep.bodies`."""
    match eqn.primitive.name:
        case "scan":
            return [_without_stacked_carry(eqn)]
        case "while":
            return [eqn.params["cond"], eqn.params["body"]]
        case "cond":
            return list(eqn.params["branches"])
        case _:
            return []


def lower_loop(
    eqn: Eqn, name: str, compile_body: CompileBody, dying: Collection[Var]
) -> LoopStep | None:
    """Compile the bodies; None where one of them needs the host.

    Args:
        dying: the operands whose memory may be written to.
    """
    if is_attention(eqn):
        return LoopStep(eqn, (), attention_scratch(eqn), library=attention_call)
    branches = eqn.primitive.name == "cond"
    shared = shared_operands(eqn, dying) if branches else ()
    compiled = []
    for number, program in enumerate(body_programs(eqn)):
        pairs = shared if branches else _carried_inputs(eqn, number)
        body = compile_body(program, f"{name}_body{number}", pairs, copied=branches)
        if body is None:
            return None
        compiled.append(body)
    scratch: dict[str, Var] = {}
    stacks = _stacked_carry(eqn) if eqn.primitive.name == "scan" else {}
    kept = _in_place(eqn, compiled)
    for i, aval in enumerate(_carried_avals(eqn)):
        if i not in stacks and i not in kept:
            scratch[f"even{i}"], scratch[f"odd{i}"] = _bytes(aval.nbytes), _bytes(aval.nbytes)
    for i, body in enumerate(compiled):
        scratch[f"arena{i}"] = _bytes(body.arena_bytes)
    if eqn.primitive.name == "while":
        scratch["flag"] = _bytes(1)
    begin = [
        _first_element(eqn, carry, eqn.outvars[eqn.params["num_carry"] + y], name)
        for carry, y in stacks.items()
    ]
    first = 1
    if not branches:
        first = len(eqn.invars) - len(_carried_avals(eqn))
        if eqn.primitive.name == "scan":
            first = eqn.params["num_consts"]
        shared = [(i, i) for i in sorted(kept)]
    updates = tuple(
        (init, eqn.outvars[out])
        for number, out in shared
        if isinstance(init := eqn.invars[first + number], Var) and eqn.invars.count(init) == 1
    )
    return LoopStep(eqn, tuple(compiled), scratch, tuple(begin), updates=updates)


def _carried_inputs(eqn: Eqn, number: int) -> Pairs:
    """The inputs of a body that results replace in the next step."""
    if eqn.primitive.name == "scan":
        first, count = eqn.params["num_consts"], eqn.params["num_carry"]
    elif eqn.primitive.name == "while" and number == 1:
        first, count = eqn.params["body_consts"], len(eqn.outvars)
    else:
        first = count = 0
    stacks = _stacked_carry(eqn) if eqn.primitive.name == "scan" else {}
    return [(first + i, i) for i in range(count) if i not in stacks]


def _in_place(eqn: Eqn, bodies: Sequence[CompiledBody]) -> frozenset[int]:
    """The carried values that stay in the memory of the loop's results."""
    if not bodies or eqn.primitive.name == "cond":
        return frozenset()
    return bodies[-1].in_place


def _stacked_carry(eqn: Eqn) -> dict[int, int]:
    """The carried values of a scan that a step stacks as it finds them, with their stacks."""
    num_consts, num_carry = eqn.params["num_consts"], eqn.params["num_carry"]
    jaxpr = eqn.params["jaxpr"].jaxpr
    carry = {var: i for i, var in enumerate(jaxpr.invars[num_consts : num_consts + num_carry])}
    found: dict[int, int] = {}
    if eqn.params["length"] > 0:
        for y, atom in enumerate(jaxpr.outvars[num_carry:]):
            if isinstance(atom, Var) and atom in carry and atom.aval.size:
                found.setdefault(carry[atom], y)
    return found


def _without_stacked_carry(eqn: Eqn) -> ClosedJaxpr:
    """The body of a scan but for the stacks that carried values live in."""
    program: ClosedJaxpr = eqn.params["jaxpr"]
    gone = {eqn.params["num_carry"] + y for y in _stacked_carry(eqn).values()}
    outvars = [atom for i, atom in enumerate(program.jaxpr.outvars) if i not in gone]
    return ClosedJaxpr(program.jaxpr.replace(outvars=outvars), program.consts)


def _first_element(eqn: Eqn, carry: int, stack: Var, name: str) -> LoweredKernel:
    """A kernel that puts a carried value's initial one where the first step looks for it."""
    init = eqn.invars[eqn.params["num_consts"] + carry]
    assert isinstance(init, Var)
    builder = KernelBuilder(f"{name}_begin{carry}")
    size = init.aval.size
    builder.axis("i", size)
    builder.buffer("init", init.aval.dtype, size, "in")
    builder.buffer("stack", stack.aval.dtype, stack.aval.size, "out")
    place = kindex.axis("i", size)
    value = builder.load("init", place)
    position = eqn.params["length"] - 1 if eqn.params["reverse"] else 0
    builder.store("stack", place + position * size, value)
    return LoweredKernel(builder.build(), {"init": init, "stack": stack}, eqn.source)


def _carried_avals(eqn: Eqn) -> list[ShapedArray]:
    if eqn.primitive.name == "scan":
        return [var.aval for var in eqn.outvars[: eqn.params["num_carry"]]]
    return [var.aval for var in eqn.outvars] if eqn.primitive.name == "while" else []


def _bytes(count: int) -> Var:
    return Var(ShapedArray((count,), np.dtype(np.uint8)))


def loop_call(step: LoopStep, name: str, address: AddressOf) -> AnyCall:
    """The call of a loop, once every variable has an address."""
    if step.library is not None:
        return step.library(step.eqn, step.scratch, name, address)
    match step.eqn.primitive.name:
        case "scan":
            return _scan_call(step, name, address)
        case "while":
            return _while_call(step, name, address)
        case _:
            return _branch_call(step, name, address)


def _inputs(step: LoopStep, address: AddressOf) -> list[Address]:
    found = []
    for atom in step.eqn.invars:
        assert isinstance(atom, Var), "literal operands were turned into constants"
        found.append(address(atom))
    return found


def _scan_call(step: LoopStep, name: str, address: AddressOf) -> ScanCall:
    eqn, scratch = step.eqn, step.scratch
    num_consts, num_carry = eqn.params["num_consts"], eqn.params["num_carry"]
    inputs = _inputs(step, address)
    outputs = [address(var) for var in eqn.outvars]
    body_avals = eqn.params["jaxpr"].in_avals
    stacks, kept = _stacked_carry(eqn), _in_place(eqn, step.bodies)
    slots = [Binding(a) for a in inputs[:num_consts]]
    written = []
    for i in range(num_carry):
        # Step s reads what step s - 1 wrote.
        if i in stacks:
            stack, nbytes = outputs[num_carry + stacks[i]], eqn.outvars[i].aval.nbytes
            following = -nbytes if eqn.params["reverse"] else nbytes
            after = Address(stack.slot, stack.offset + following)
            slots.append(Binding(stack, stride=nbytes))
            written.append(Binding(after, stride=nbytes, last=outputs[i]))
        elif i in kept:
            slots.append(Binding(outputs[i], first=inputs[num_consts + i]))
            written.append(Binding(outputs[i]))
        else:
            even, odd = address(scratch[f"even{i}"]), address(scratch[f"odd{i}"])
            slots.append(Binding(even, first=inputs[num_consts + i], alternate=(odd, even)))
            written.append(Binding(even, last=outputs[i], alternate=(even, odd)))
    for i in range(num_consts + num_carry, len(inputs)):
        slots.append(Binding(inputs[i], stride=body_avals[i].nbytes))
    slots += written
    for y, var in enumerate(eqn.outvars[num_carry:]):
        if y not in stacks.values():
            length = max(eqn.params["length"], 1)
            slots.append(Binding(outputs[num_carry + y], stride=var.aval.nbytes // length))
    slots.append(Binding(address(scratch["arena0"])))
    if_empty = tuple(
        Copy(source, target, var.aval.nbytes)
        for source, target, var in zip(
            inputs[num_consts:], outputs[:num_carry], eqn.outvars[:num_carry], strict=False
        )
    )
    body = Body(step.bodies[0].program, tuple(slots))
    return ScanCall(name, body, eqn.params["length"], eqn.params["reverse"], if_empty)


def _while_call(step: LoopStep, name: str, address: AddressOf) -> WhileCall:
    eqn, scratch = step.eqn, step.scratch
    cond_consts, body_consts = eqn.params["cond_consts"], eqn.params["body_consts"]
    inputs = _inputs(step, address)
    init = inputs[cond_consts + body_consts :]
    outputs = [address(var) for var in eqn.outvars]
    kept = _in_place(eqn, step.bodies)
    carried, written = [], []
    even, odd = list(outputs), list(outputs)
    for i, first in enumerate(init):
        if i in kept:
            carried.append(Binding(outputs[i], first=first))
            written.append(Binding(outputs[i]))
        else:
            even[i], odd[i] = address(scratch[f"even{i}"]), address(scratch[f"odd{i}"])
            carried.append(Binding(even[i], first=first, alternate=(odd[i], even[i])))
            written.append(Binding(even[i], alternate=(even[i], odd[i])))
    flag = address(scratch["flag"])
    cond_slots = [
        *(Binding(a) for a in inputs[:cond_consts]),
        *carried,
        Binding(flag),
        Binding(address(scratch["arena0"])),
    ]
    body_slots = [
        *(Binding(a) for a in inputs[cond_consts : cond_consts + body_consts]),
        *carried,
        *written,
        Binding(address(scratch["arena1"])),
    ]

    def copies(sources: Sequence[Address]) -> tuple[Copy, ...]:
        places = zip(sources, outputs, eqn.outvars, strict=True)
        return tuple(Copy(a, b, var.aval.nbytes) for a, b, var in places if a != b)

    return WhileCall(
        name,
        Body(step.bodies[0].program, tuple(cond_slots)),
        Body(step.bodies[1].program, tuple(body_slots)),
        flag,
        (copies(init), copies(even), copies(odd)),
    )


def _branch_call(step: LoopStep, name: str, address: AddressOf) -> BranchCall:
    index, *operands = _inputs(step, address)
    outputs = [address(var) for var in step.eqn.outvars]
    branches = []
    for i, body in enumerate(step.bodies):
        arena = address(step.scratch[f"arena{i}"])
        slots = tuple(Binding(a) for a in (*operands, *outputs, arena))
        branches.append(Body(body.program, slots))
    return BranchCall(name, index, tuple(branches))
