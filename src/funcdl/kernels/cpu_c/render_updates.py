"""Kernels of `AtomicUpdate` (scatter): sequential, in the row-major order that the IR promises."""

from __future__ import annotations

from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.loops import LoopMaker, Nest
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kir.ir import Const, Effect, Kernel
from funcdl.kir.schedule import Schedule, Step


def render_updates(kernel: Kernel, schedule: Schedule, writer: Writer) -> None:
    """Write the body of the C function of a kernel with updates.

    Of the schedule only `vector` counts, on the last axis: it states that no two positions of that
    axis meet at one element.
    """
    steps = [Step(axis.name, "loop") for axis in kernel.axes]
    if steps and any(s.kind == "vector" and s.axis == steps[-1].axis for s in schedule.steps):
        steps[-1] = Step(steps[-1].axis, "vector")
    expressions = Expressions(kernel)
    expressions.vector_axis = steps[-1].axis if steps and steps[-1].kind == "vector" else ""
    nest = Nest(kernel, writer, expressions)
    values = [id for id, i in enumerate(kernel.body) if not isinstance(i, Const | Effect)]
    actions = [nest.effect(i) for i in kernel.body if isinstance(i, Effect)]
    nest.write(LoopMaker(kernel, steps, expressions).loops(steps), values, actions)
