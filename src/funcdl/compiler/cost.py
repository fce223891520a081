"""What a program costs: operations and bytes, of kernel calls and of the host; and its memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from funcdl.compiler.program import Program
from funcdl.compiler.steps import HostStep
from funcdl.core.backend import MemoryAnalysis, analyse_memory
from funcdl.core.jaxpr import ClosedJaxpr, Eqn
from funcdl.core.profiler import Work
from funcdl.core.records import record
from funcdl.core.source import SourceLine
from funcdl.kir.copies import copied_in_place
from funcdl.kir.cost import Cost
from funcdl.kir.ir import Kernel
from funcdl.kir.kernel_cost import kernel_cost
from funcdl.kir.program import (
    BranchCall,
    Call,
    KernelProgram,
    LibraryCall,
    ScanCall,
    WhileCall,
)
from funcdl.kir.schedule import Schedule


@record
class KernelCost:
    """How often a run of a program calls a kernel (or host step), and what one call costs."""

    name: str
    calls: int
    cost: Cost
    source: SourceLine | None


def equation_cost(eqn: Eqn) -> Cost:
    """The bytes of an equation's operands and results; its operations are not known."""
    read = {id(atom): atom.aval.nbytes for atom in eqn.invars}
    return Cost(
        bytes_read=sum(read.values()), bytes_written=sum(var.aval.nbytes for var in eqn.outvars)
    )


def kernel_works(
    kernels: Sequence[tuple[Kernel, Schedule]], program: Program, name: str, platform: str = "cpu"
) -> list[Work]:
    """What a call of each kernel is, and what it has to do at least."""
    costs = {entry[0].name: _cost(*entry) for entry in kernels}
    return _works(costs, program, name, platform)


def library_works(calls: Sequence[LibraryCall], program: Program, name: str) -> list[Work]:
    """The same for calls of libraries."""
    return _works({call.name: call.cost for call in calls}, program, name, "cpu")


def _works(costs: Mapping[str, Cost], program: Program, name: str, platform: str) -> list[Work]:
    works = []
    for kernel, cost in costs.items():
        counts = cost.nbytes, cost.flops + cost.transcendentals, cost.operations
        source = program.sources.get(kernel)
        works.append(Work("kernel", kernel, name, source, *counts, platform))
    return works


def kernel_costs(program: Program) -> list[KernelCost]:
    """The costs of a program's kernels and host steps, in the order of their first calls.

    A `while` loop counts as one step, since nobody knows how many there are, and of the branches of
    a `cond` each counts as if it were taken.
    """
    found: dict[str, KernelCost] = {}
    for number, segment in enumerate(program.segments):
        if isinstance(segment, HostStep):
            eqn = segment.eqn
            name = f"{eqn.primitive.name} (host, segment {number})"
            found[name] = KernelCost(eqn.primitive.name, 1, equation_cost(eqn), eqn.source)
            continue
        for name, calls, cost in _calls(segment, 1):
            before = found[name].calls if name in found else 0
            found[name] = KernelCost(name, before + calls, cost, program.sources.get(name))
    return list(found.values())


def program_cost(program: Program) -> Cost:
    """What one run of a program costs; of the branches of a `cond` the largest of each count."""
    total = Cost()
    for segment in program.segments:
        if isinstance(segment, HostStep):
            total += equation_cost(segment.eqn)
        else:
            total += _sum(segment)
    return total


def cost_analysis(program: Program) -> dict[str, Any]:
    """The counts under the names that JAX uses, and ``"kernels"``, a list of the same for each."""
    return {
        **_named(program_cost(program)),
        "kernels": [
            {"name": k.name, "calls": k.calls, **_named(k.cost), "source": k.source}
            for k in kernel_costs(program)
        ],
    }


def memory_analysis(closed: ClosedJaxpr, program: Program, code_bytes: int) -> MemoryAnalysis:
    """The sizes of the memory that a run uses.

    Args:
        closed: the program after `simplify`, whose constants are those in memory.
        code_bytes: the size of what was made of its kernels, 0 before.
    """
    first_out = program.num_inputs + program.num_consts
    donated = [program.out_vars[slot - first_out].aval.nbytes for slot in program.donations]
    return analyse_memory(closed, code=code_bytes, alias=sum(donated), temp=program.arena.nbytes)


def _cost(kernel: Kernel, schedule: Schedule) -> Cost:
    """What a call costs; nothing, of a copy that is left out where it can be."""
    return Cost() if copied_in_place(kernel) else kernel_cost(kernel, schedule)


def _named(cost: Cost) -> dict[str, float]:
    return {
        "flops": float(cost.flops),
        "transcendentals": float(cost.transcendentals),
        "bytes accessed": float(cost.nbytes),
    }


def _calls(program: KernelProgram, times: int) -> Iterator[tuple[str, int, Cost]]:
    costs = [_cost(*entry) for entry in program.kernels]
    for call in program.calls:
        match call:
            case Call(kernel=number):
                yield program.kernels[number][0].name, times, costs[number]
            case LibraryCall(name=name, cost=cost):
                yield name, times, cost
            case ScanCall(body=body, length=length):
                yield from _calls(body.program, times * length)
            case WhileCall(condition=condition, body=body):
                yield from _calls(condition.program, times)
                yield from _calls(body.program, times)
            case BranchCall(branches=branches):
                for branch in branches:
                    yield from _calls(branch.program, times)


def _sum(program: KernelProgram) -> Cost:
    costs = [_cost(*entry) for entry in program.kernels]
    total = Cost()
    for call in program.calls:
        match call:
            case Call(kernel=number):
                total += costs[number]
            case LibraryCall(cost=cost):
                total += cost
            case ScanCall(body=body, length=length):
                total += _sum(body.program) * length
            case WhileCall(condition=condition, body=body):
                total += _sum(condition.program) + _sum(body.program)
            case BranchCall(branches=branches):
                total += _largest([_sum(branch.program) for branch in branches])
    return total


def _largest(costs: list[Cost]) -> Cost:
    return Cost(
        max(cost.flops for cost in costs),
        max(cost.transcendentals for cost in costs),
        max(cost.operations for cost in costs),
        max(cost.bytes_read for cost in costs),
        max(cost.bytes_written for cost in costs),
    )
