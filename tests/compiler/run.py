"""Runs a compiled program by the kernel IR's interpreter, on poisoned memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funcdl.compiler.pipeline import Pipeline, native_segments
from funcdl.compiler.program import Scheduler
from funcdl.compiler.steps import HostStep
from funcdl.core.jaxpr import ClosedJaxpr, Literal, Var
from funcdl.kir.program_interpreter import run_program
from funcdl.kir.schedule import Schedule

NDArray = np.ndarray[Any, Any]

POISON = 0xA5


def pipeline_of(
    closed: ClosedJaxpr,
    donated: Sequence[bool] | None = None,
    scheduler: Scheduler = lambda kernel: Schedule(()),
) -> Pipeline:
    """The passes on a program, without schedules (they change no meaning) and rendering."""
    return Pipeline(
        closed,
        name="program",
        donated=[False] * len(closed.jaxpr.invars) if donated is None else donated,
        scheduler=scheduler,
        renderer=("c", lambda program: ""),
    )


def interpret(pipeline: Pipeline, args: Sequence[NDArray]) -> list[NDArray]:
    """The outputs; checks that inputs that are not donated, and constants, keep their values."""
    program, closed = pipeline.program, pipeline.simplified
    given = [*args, *(const.value for const in closed.consts)]
    slots = [_bytes(x) for x in given]
    for i, var in enumerate(program.out_vars):
        donor = program.donations.get(len(given) + i)
        slots.append(_poison(var.aval.nbytes) if donor is None else slots[donor])
    slots.append(_poison(program.arena.nbytes))
    for segment in program.segments:
        if isinstance(segment, HostStep):
            _run_on_host(segment, program.addresses, slots)
        else:
            run_program(segment, slots)
    for i, x in enumerate(given):
        if i not in program.donations.values():
            assert slots[i].tobytes() == x.tobytes(), f"slot {i} was written to"

    def result(atom: Any) -> NDArray:
        return (
            atom.value.value if isinstance(atom, Literal) else _view(program.addresses, slots, atom)
        )

    return [result(atom) for atom in closed.jaxpr.outvars]


def kernels_of(pipeline: Pipeline) -> list[str]:
    """The names of the kernels that are called, in order."""
    return [
        segment.kernels[call.kernel][0].name
        for segment in native_segments(pipeline.program)
        for call in segment.calls
    ]


def refusals_of(pipeline: Pipeline) -> list[str]:
    """The reasons why equations did not join groups that they read from."""
    return [refusal.reason for group in pipeline.grouping.groups for refusal in group.why_not]


def _bytes(x: NDArray) -> NDArray:
    return np.array(x, order="C").reshape(-1).view(np.uint8)


def _poison(nbytes: int) -> NDArray:
    return np.full(nbytes, POISON, np.uint8)


def _view(addresses: dict[Var, Any], slots: Sequence[NDArray], var: Var) -> NDArray:
    place, aval = addresses[var], var.aval
    data = slots[place.slot][place.offset : place.offset + aval.nbytes]
    return data.view(aval.dtype).reshape(aval.shape)


def _run_on_host(step: HostStep, addresses: dict[Var, Any], slots: Sequence[NDArray]) -> None:
    eqn = step.eqn
    values = [
        atom.value.value if isinstance(atom, Literal) else _view(addresses, slots, atom)
        for atom in eqn.invars
    ]
    assert eqn.primitive.impl is not None
    out = eqn.primitive.impl(*values, **eqn.params)
    outs = out if eqn.primitive.multiple_results else [out]
    for var, value in zip(eqn.outvars, outs, strict=True):
        if var in addresses:
            np.copyto(_view(addresses, slots, var), value)
