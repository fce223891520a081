"""What the passes after fusion work on: kernels, loops over kernels, equations of the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from funcdl.compiler.loops import LoopStep
from funcdl.compiler.lower import LoweredKernel
from funcdl.core.jaxpr import Eqn, Var


@dataclass(frozen=True, slots=True)
class HostStep:
    """One equation that runs on the host."""

    eqn: Eqn


Step = Sequence[LoweredKernel] | HostStep | LoopStep
"""The kernels of a fusion group, or what is no kernel."""


def kernels_of(step: Step) -> Sequence[LoweredKernel]:
    """The kernels that a step itself runs: none for the host's, for a loop those before it."""
    if isinstance(step, HostStep):
        return ()
    return step.begin if isinstance(step, LoopStep) else step


def step_uses(step: Step) -> list[tuple[Var, bool]]:
    """The variables that a step touches, and whether it writes them."""
    if isinstance(step, HostStep):
        uses = [(a, False) for a in step.eqn.invars if isinstance(a, Var)]
        return uses + [(var, True) for var in step.eqn.outvars]
    if isinstance(step, LoopStep):
        reads = [(a, False) for a in step.eqn.invars if isinstance(a, Var)]
        return reads + [(var, True) for var in (*step.eqn.outvars, *step.scratch.values())]
    return [
        (var, buffer.role != "in")
        for lowered in step
        for var, buffer in zip(lowered.variables, lowered.kernel.buffers, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class StepUses:
    """The numbers of the steps that read and that write each variable."""

    reads: dict[Var, list[int]]
    writes: dict[Var, list[int]]


def all_uses(steps: Sequence[Step]) -> StepUses:
    """Which steps touch which variables."""
    uses = StepUses({}, {})
    for number, step in enumerate(steps):
        for var, writes in dict.fromkeys(step_uses(step)):
            (uses.writes if writes else uses.reads).setdefault(var, []).append(number)
    return uses
