"""The pass `program`: kernels in order, with an address for each of their buffers.

A program runs in segments: kernels and loops over kernels, called natively one after the other, and
between them host steps for equations that no kernel can express.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from funcdl.compiler.copied import copied_in_the_end
from funcdl.compiler.donations import (
    late_updates,
    made_in_place,
    mark_aliases,
    plan_donations,
    plan_updates,
)
from funcdl.compiler.fusion.fuse import Grouping, fuse
from funcdl.compiler.fusion.readers import last_readers
from funcdl.compiler.loops import (
    CompiledBody,
    LoopStep,
    Pairs,
    loop_call,
    lower_loop,
    with_own_outputs,
)
from funcdl.compiler.lower import LoweredKernel, describe_kernel, is_empty, lower
from funcdl.compiler.memory import ArenaPlan, Lifetime, plan_arena
from funcdl.compiler.rewrite.split_reductions import split_reductions
from funcdl.compiler.sources import Sources, main_equation
from funcdl.compiler.steps import HostStep, Step, kernels_of, step_uses
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import ClosedJaxpr, Eqn, Var
from funcdl.core.source import SourceLine
from funcdl.kir.canonical import canonical_kernel
from funcdl.kir.cut.split_dot import split_dot
from funcdl.kir.cut.split_rows import split_rows
from funcdl.kir.ir import Kernel
from funcdl.kir.passes import collapse_axes
from funcdl.kir.printer import format_kernel
from funcdl.kir.program import Address, AnyCall, Call, KernelProgram
from funcdl.kir.schedule import Schedule
from funcdl.ops.lowering import Loop

Scheduler = Callable[[Kernel], Schedule]
Splitter = Callable[[Kernel], int | tuple[str, int]]
"""Says into how many parts the sum of a kernel's product is cut; 1 leaves the kernel whole, 0 only
parts the product from what follows. For a kernel of few long rows, along which axis they are cut,
and how long the parts are."""
FindLibrary = Callable[[Eqn, str], list[LoweredKernel] | LoopStep | None]
"""The hand-written kernels of an equation, with a name for them, or a call of a library; None where
there is neither."""
Divide = Callable[[ClosedJaxpr], ClosedJaxpr]
"""A back end's last pass before fusion, for programs and bodies: it cuts long rows into parts, as
many as there is use for, and writes anew what this back end does better otherwise."""


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled program as data.

    Slots are the inputs, the constants, the outputs (each variable once), and the arena.
    `donations` maps output slots to the input slots whose memory they take over. `sources` are the
    user's lines, by the name of the kernel. `in_place` are, for a body, the results that it
    makes in the memory of the inputs whose places they take.
    """

    grouping: Grouping
    segments: tuple[KernelProgram | HostStep, ...]
    addresses: dict[Var, Address]
    arena: ArenaPlan
    out_vars: tuple[Var, ...]
    num_inputs: int
    num_consts: int
    donations: dict[int, int]
    sources: Sources
    in_place: frozenset[int] = frozenset()

    @property
    def arena_slot(self) -> int:
        return self.num_inputs + self.num_consts + len(self.out_vars)

    @property
    def slot_labels(self) -> list[str]:
        """What each slot is, in the order of the table."""
        labels = ["input"] * self.num_inputs + ["constant"] * self.num_consts
        for i in range(len(self.out_vars)):
            slot = self.num_inputs + self.num_consts + i
            donor = self.donations.get(slot)
            labels.append("output" if donor is None else f"output, in the memory of slot {donor}")
        return [*labels, "arena"]


Join = Callable[[Sequence[Step], Sequence[Var]], list[Step]]
"""A pass over the steps of a program that returns these variables."""


def lower_groups(
    grouping: Grouping,
    scheduler: Scheduler,
    prefix: str = "",
    splitter: Splitter | None = None,
    library: FindLibrary | None = None,
    divide: Divide = split_reductions,
    join: Join | None = None,
) -> list[Step]:
    """The kernels, loop or host step of each group that stores anything."""
    steps: list[Step] = []
    last = last_readers(grouping.groups, grouping.inlined)
    kept = {*grouping.jaxpr.invars, *grouping.jaxpr.constvars} - grouping.given_up
    kept |= {atom for atom in grouping.jaxpr.outvars if isinstance(atom, Var)}

    def compile_body(
        program: ClosedJaxpr, name: str, pairs: Pairs, *, copied: bool = False
    ) -> CompiledBody | None:
        passes = scheduler, name, splitter, library, divide, join
        return _compile_body(program, pairs, copied, *passes)

    for number, group in enumerate(grouping.groups):
        eqn = group.members[0]
        if group.kind == "host":
            loop = None
            name = f"{prefix}k{len(steps)}_{eqn.primitive.name}"
            found = None if library is None else library(eqn, name)
            if found is not None:
                steps.append(found)
                continue
            if isinstance(eqn.primitive.lower, Loop):
                dying = {var for var, reader in last.items() if reader == number} - kept
                name = f"{prefix}{eqn.primitive.name}{len(steps)}"
                loop = lower_loop(eqn, name, compile_body, dying)
            steps.append(HostStep(eqn) if loop is None else loop)
        elif not is_empty(group):
            name = f"{prefix}k{len(steps)}_{describe_kernel(group)}"
            source = main_equation(group).source
            kernels = [_collapse(k, source) for k in lower(grouping, group, name)]
            if len(kernels) == 1 and splitter is not None:
                kernels = _in_parts(kernels[0], splitter(kernels[0].kernel))
            steps.append(kernels)
    if join is None:
        return steps
    return join(steps, [atom for atom in grouping.jaxpr.outvars if isinstance(atom, Var)])


def _in_parts(lowered: LoweredKernel, parts: int | tuple[str, int]) -> list[LoweredKernel]:
    """Kernels over parts of a product's sum, or of rows, and kernels that join their results."""
    if parts == 1:
        return [lowered]
    names = lowered.names
    kernels: tuple[Kernel, ...]
    if isinstance(parts, int):
        first, second, name = split_dot(lowered.kernel, max(parts, 1))
        kernels = first, second
        buffer = first.buffer(name)
        scratch = {name: (buffer.dtype, buffer.size)}
    else:
        cut = split_rows(lowered.kernel, *parts)
        kernels, scratch = cut.kernels, dict(cut.scratch)
    for name, (dtype, size) in scratch.items():
        names[name] = Var(ShapedArray((size,), dtype))
    return [LoweredKernel(kernel, names, lowered.source) for kernel in kernels]


def _compile_body(
    program: ClosedJaxpr,
    pairs: Pairs,
    copied: bool,
    scheduler: Scheduler,
    name: str,
    splitter: Splitter | None,
    library: FindLibrary | None,
    divide: Divide,
    join: Join | None,
) -> CompiledBody | None:
    """The kernels of a loop's body; None where it needs the host."""
    closed = with_own_outputs(divide(program), pairs if copied else ())
    grouping = fuse(closed.jaxpr, [closed.jaxpr.invars[number] for number, _ in pairs])
    steps = lower_groups(grouping, scheduler, f"{name}_", splitter, library, divide, join)
    if any(isinstance(step, HostStep) for step in steps):
        return None
    if copied:
        closed, steps = copied_in_the_end(closed, steps, pairs, name)
    donated = [False] * len(closed.in_avals)
    built = build_program(closed, grouping, steps, donated, scheduler, name, pairs)
    (kernels,) = built.segments or (KernelProgram(name, (), (), built.arena_slot + 1),)
    assert isinstance(kernels, KernelProgram)
    return CompiledBody(kernels, built.arena.nbytes, built.sources, built.in_place)


def _collapse(lowered: LoweredKernel, source: SourceLine | None) -> LoweredKernel:
    return LoweredKernel(collapse_axes(lowered.kernel), lowered.names, source)


def build_program(
    closed: ClosedJaxpr,
    grouping: Grouping,
    steps: Sequence[Step],
    donated: Sequence[bool],
    scheduler: Scheduler,
    name: str,
    pairs: Pairs = (),
) -> Program:
    """Give every variable an address, and every kernel call its arguments.

    Args:
        pairs: for a body, inputs with the results that may be made in their memory.
    """
    jaxpr = closed.jaxpr
    given = [*jaxpr.invars, *jaxpr.constvars]
    computed = {var for eqn in jaxpr.eqns for var in eqn.outvars}
    outs = [atom for atom in jaxpr.outvars if isinstance(atom, Var) and atom in computed]
    out_vars = tuple(dict.fromkeys(outs))
    addresses = {var: Address(slot) for slot, var in enumerate([*given, *out_vars])}
    given_up = {var for var, flag in zip(jaxpr.invars, donated, strict=True) if flag}
    steps = late_updates(steps, given_up) if given_up else steps
    updates = plan_updates(steps, set(addresses))
    lifetimes = _lifetimes(steps, addresses, updates)
    arena = plan_arena(lifetimes)
    arena_slot = len(given) + len(out_vars)
    for var, offset in arena.offsets.items():
        addresses[var] = Address(arena_slot, offset)
    for var in updates:
        addresses[var] = addresses[_last_of(var, updates)]
    donations, takers = plan_donations(jaxpr, donated, out_vars, steps, updates)
    kept = made_in_place(jaxpr, pairs, steps, updates)
    takers |= kept
    in_place = frozenset(out for number, out in pairs if jaxpr.invars[number] in kept)
    segments = _segments(steps, addresses, scheduler, arena_slot + 1, name, updates | takers)
    return Program(
        grouping,
        segments,
        addresses,
        arena,
        out_vars,
        len(jaxpr.invars),
        len(jaxpr.constvars),
        donations,
        _sources(steps),
        in_place,
    )


def _sources(steps: Sequence[Step]) -> Sources:
    """The user's lines of all kernels, those in the bodies of loops included."""
    found: dict[str, SourceLine] = {}
    for step in steps:
        for body in step.bodies if isinstance(step, LoopStep) else ():
            found |= body.sources
        found |= {k.kernel.name: k.source for k in kernels_of(step) if k.source is not None}
    return found


def _last_of(var: Var, updates: Mapping[Var, Var]) -> Var:
    """The last result that is made in the memory of a variable."""
    while var in updates:
        var = updates[var]
    return var


def _lifetimes(
    steps: Sequence[Step], addresses: dict[Var, Address], updates: Mapping[Var, Var]
) -> list[Lifetime]:
    first: dict[Var, int] = {}
    last: dict[Var, int] = {}
    for number, step in enumerate(steps):
        for used, writes in step_uses(step):
            var = _last_of(used, updates)
            if var not in addresses:
                if var not in first and not writes and var.aval.size:
                    raise AssertionError(f"step {number} reads {var}, which no step before wrote")
                first.setdefault(var, number)
                last[var] = number
    return [Lifetime(var, var.aval.nbytes, first[var], last[var]) for var in first]


def _segments(
    steps: Sequence[Step],
    addresses: dict[Var, Address],
    scheduler: Scheduler,
    num_slots: int,
    name: str,
    takers: dict[Var, Var],
) -> tuple[KernelProgram | HostStep, ...]:
    segments: list[KernelProgram | HostStep] = []
    kernels: list[tuple[Kernel, Schedule]] = []
    calls: list[AnyCall] = []
    known: dict[str, int] = {}

    def finish() -> None:
        if calls:
            segments.append(KernelProgram(name, tuple(kernels), tuple(calls), num_slots))
        kernels.clear()
        calls.clear()
        known.clear()

    for step in steps:
        if isinstance(step, HostStep):
            finish()
            segments.append(step)
            continue
        for lowered in kernels_of(step):
            kernel = mark_aliases(lowered, takers)
            # Not the kernel itself, since constants such as 0.0 and -0.0 compare equal.
            key = format_kernel(canonical_kernel(kernel))
            if key not in known:
                known[key] = len(kernels)
                kernels.append((kernel, scheduler(kernel)))
            calls.append(Call(known[key], tuple(addresses[var] for var in lowered.variables)))
        if isinstance(step, LoopStep):
            loop_name = f"{name}_{step.eqn.primitive.name}{len(calls)}"
            calls.append(loop_call(step, loop_name, addresses.__getitem__))
    finish()
    return tuple(segments)
