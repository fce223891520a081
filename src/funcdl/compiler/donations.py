"""Which results take over the memory of others: of donated inputs, or of what they update.

A scatter copies its operand, and updates the copy. Where nothing reads the operand afterwards, both
are one memory, and there is nothing to copy: of the elements of a cache, or of what a loop carries,
a step touches those that it changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from funcdl.compiler.loops import LoopStep, Pairs
from funcdl.compiler.lower import LoweredKernel
from funcdl.compiler.steps import HostStep, Step, all_uses, step_uses
from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Jaxpr, Var
from funcdl.kir.ir import AtomicUpdate, Kernel, Load, Reduce, Store

# A body that computes all elements of a smaller array anew may as well write them elsewhere.
MIN_BYTES = 4096


def late_updates(steps: Sequence[Step], donated: set[Var]) -> list[Step]:
    """Steps in an order in which more results can take over the memory of donated inputs.

    A step that writes such a result, and nothing that another step reads, moves behind the last
    reader of that input: the update of weights behind the gradient that still needs the old ones.
    """
    uses = all_uses(steps)
    places = []
    for number, step in enumerate(steps):
        touched = step_uses(step)
        written = [var for var, writes in touched if writes]
        place = number
        if not isinstance(step, HostStep) and not any(var in uses.reads for var in written):
            for var, writes in touched:
                if not writes and var in donated and any(map(var.aval.same_type, _avals(written))):
                    place = max(place, uses.reads[var][-1])
        # What moves comes after the step that stands there.
        places.append((place, place > number, number))
    return [steps[number] for _, _, number in sorted(places)]


def _avals(variables: Sequence[Var]) -> list[ShapedArray]:
    return [var.aval for var in variables]


def plan_updates(steps: Sequence[Step], kept: set[Var]) -> dict[Var, Var]:
    """Temporaries in whose memory their update is made: from the operand to the result.

    `kept` are variables with a memory of their own: the program's inputs, constants and results.
    """
    uses = all_uses(steps)
    on_host = {var for step in steps if isinstance(step, HostStep) for var, _ in step_uses(step)}
    found: dict[Var, Var] = {}
    for number, step in enumerate(steps):
        for var, out in _updates(step):
            if (
                not {var, out} & on_host
                and var not in kept
                and var not in found
                and max(uses.reads[var]) <= number
            ):
                found[var] = out
    return found


def _updates(step: Step) -> list[tuple[Var, Var]]:
    """What a step updates, with the results, where both can be one memory."""
    if isinstance(step, HostStep):
        return []
    if isinstance(step, LoopStep):
        return list(step.updates)
    *copies, last = step
    if len(copies) != 1 or not any(isinstance(i, AtomicUpdate) for i in last.kernel.body):
        return []
    accesses = list(map(_Accesses, step))
    return [
        (var, out)
        for var in accesses[0].loads
        for out in accesses[0].stores
        if var.aval.same_type(out.aval) and all(each.is_local(var, out) for each in accesses)
    ]


def plan_donations(
    jaxpr: Jaxpr,
    donated: Sequence[bool],
    out_vars: Sequence[Var],
    steps: Sequence[Step],
    updates: Mapping[Var, Var],
) -> tuple[dict[int, int], dict[Var, Var]]:
    """Outputs that can take over a donated input's memory: as slots, and from input to output.

    Nothing may read the input after the kernel that first writes there, and that kernel must read
    each element only where it writes it. An input that is itself a result keeps its memory.
    `updates` are temporaries that already share the memory of an output.
    """
    first_out = len(jaxpr.invars) + len(jaxpr.constvars)
    donations: dict[int, int] = {}
    takers: dict[Var, Var] = {}
    uses = all_uses(steps)
    memory = _SharedMemory(steps)
    before = {out: var for var, out in updates.items()}
    free = [
        (slot, var)
        for slot, (var, flag) in enumerate(zip(jaxpr.invars, donated, strict=True))
        if flag and var not in jaxpr.outvars
    ]
    for number, out in enumerate(out_vars):
        first = out
        while first in before:
            first = before[first]
        writers = uses.writes.get(first, [])
        if len(writers) != 1:
            continue
        (writer,) = writers
        for slot, var in free:
            if not var.aval.same_type(first.aval) or max(uses.reads.get(var, [0])) > writer:
                continue
            if memory.fits(writer, var, first):
                donations[first_out + number] = slot
                takers[var] = first
                free.remove((slot, var))
                break
    return donations, takers


def made_in_place(
    jaxpr: Jaxpr, pairs: Pairs, steps: Sequence[Step], updates: Mapping[Var, Var]
) -> dict[Var, Var]:
    """Inputs of a body in whose memory results are made: from the input to what is written there.

    Args:
        pairs: the numbers of inputs and of the results that may take their places.
    """
    uses = all_uses(steps)
    before = {out: var for var, out in updates.items()}
    memory = _SharedMemory(steps)
    found: dict[Var, Var] = {}
    for number, result in pairs:
        var, out = jaxpr.invars[number], jaxpr.outvars[result]
        assert isinstance(out, Var), "a body's results have memory of their own"
        while out in before:
            out = before[out]
        writers = uses.writes.get(out, [])
        if (
            len(writers) == 1
            and max(uses.reads.get(var, [0])) <= writers[0]
            and memory.fits(writers[0], var, out)
            and (var.aval.nbytes >= MIN_BYTES or (var, out) in _updates(steps[writers[0]]))
        ):
            found[var] = out
    return found


class _SharedMemory:
    """Which steps may write a result to the memory of an operand."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._accesses: dict[int, list[_Accesses]] = {}

    def fits(self, number: int, var: Var, out: Var) -> bool:
        """Whether step `number` can write `out` over `var`, which no later one reads."""
        step = self._steps[number]
        if isinstance(step, HostStep):
            return False
        if isinstance(step, LoopStep):
            return var not in step.eqn.invars or (var, out) in step.updates
        if number not in self._accesses:
            self._accesses[number] = list(map(_Accesses, step))
        return all(kernel.is_local(var, out) for kernel in self._accesses[number])


class _Accesses:
    """Where a kernel reads and writes each variable."""

    def __init__(self, lowered: LoweredKernel) -> None:
        kernel = lowered.kernel
        names = lowered.names
        self.loads: dict[Var, list[Load]] = {}
        self.stores: dict[Var, list[Store]] = {}
        self.reduced: set[str] = set()
        self.updates = False
        # Where a hand-written kernel reads is unknown here, and so nothing that it reads is local.
        self.unknown = set(lowered.variables) if kernel.library is not None else set()
        for instruction in kernel.body:
            match instruction:
                case Load():
                    self.loads.setdefault(names[instruction.buffer], []).append(instruction)
                case Store():
                    self.stores.setdefault(names[instruction.buffer], []).append(instruction)
                case Reduce():
                    self.reduced |= set(instruction.axes)
                case AtomicUpdate():
                    self.updates = True

    def is_local(self, var: Var, out: Var) -> bool:
        """Whether each element of `var` is read at most by the point that then writes `out` there.

        A value read before a reduction must be read again after it, so only what is read once the
        reduction is done may be overwritten.
        """
        if var in self.unknown:
            return False
        if var not in self.loads:
            return True
        stores = self.stores.get(out, [])
        if len(stores) != 1 or self.updates:
            return False
        index = stores[0].index
        same = all(load.index == index and load.mask is None for load in self.loads[var])
        return same and not self.reduced & index.axes()


def mark_aliases(lowered: LoweredKernel, takers: dict[Var, Var]) -> Kernel:
    """Mark the buffers of one memory: an input, and the output that takes its place."""
    shared: set[Var] = set()
    for var in lowered.variables:
        taker = takers.get(var)
        if taker in lowered.variables:
            shared |= {var, taker}
    if not shared:
        return lowered.kernel
    buffers = tuple(
        replace(buffer, may_alias=var in shared)
        for buffer, var in zip(lowered.kernel.buffers, lowered.variables, strict=True)
    )
    return replace(lowered.kernel, buffers=buffers)
