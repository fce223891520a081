"""Kernels of `AtomicUpdate` (scatter): sequential, in the row-major order that the IR promises."""

from __future__ import annotations

from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.loops import LoopMaker, Nest
from funcdl.kernels.cpu_c.parameters import Number, generic_parameters
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kir.ir import Const, Effect, Kernel
from funcdl.kir.schedule import Schedule, Step


def render_updates(kernel: Kernel, schedule: Schedule, writer: Writer) -> tuple[Number, ...]:
    """Write the body of the C function of a kernel with updates; return its parameters.

    Of the schedule only `vector` counts, on the last axis: it states that no two positions of that
    axis meet at one element.
    """
    steps = [Step(axis.name, "loop") for axis in kernel.axes]
    if steps and any(s.kind == "vector" and s.axis == steps[-1].axis for s in schedule.steps):
        steps[-1] = Step(steps[-1].axis, "vector")
    vector_axis = steps[-1].axis if steps and steps[-1].kind == "vector" else ""
    parameters = generic_parameters(kernel, {vector_axis})
    expressions = Expressions(kernel, parameters)
    expressions.vector_axis = vector_axis
    nest = Nest(kernel, writer, expressions)
    values = [id for id, i in enumerate(kernel.body) if not isinstance(i, Const | Effect)]
    actions = [nest.effect(i) for i in kernel.body if isinstance(i, Effect)]
    nest.write(LoopMaker(kernel, steps, expressions).loops(steps), values, actions)
    return parameters.numbers
