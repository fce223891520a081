"""Elementwise kernels that read a buffer across its rows, as transpositions do.

The schedule has tiles of two axes: the innermost one, along which results are contiguous, and the
one along which a load is. Such a load's part of the tile is transposed into an array first, which
reads each of its cache lines once; the loop over the tile then reads the array. The two parts of
complex numbers are transposed together.
"""

from __future__ import annotations

from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.loops import LoopMaker, Nest
from funcdl.kernels.cpu_c.memory import stack_array
from funcdl.kernels.cpu_c.parameters import Number, Parameters, generic_parameters
from funcdl.kernels.cpu_c.passes import all_steps
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kernels.cpu_c.turned import ITEM_SIZES
from funcdl.kir.index import AxisAtom, Index
from funcdl.kir.interleaved import interleaved
from funcdl.kir.ir import Effect, Kernel, Load, Reduce, operands
from funcdl.kir.schedule import Schedule, Step


def is_transposed(kernel: Kernel, schedule: Schedule) -> bool:
    """Whether the schedule is of this form and a load is to be transposed."""
    if any(isinstance(i, Reduce) for i in kernel.body) or len(schedule.steps) < 4:
        return False
    *_, across, inner = schedule.steps
    tiled = all(len(schedule.of(step.axis)) == 2 for step in (across, inner))
    return tiled and inner.kind == "vector" and bool(_turned(kernel, across, inner))


def render_transposed(kernel: Kernel, schedule: Schedule, writer: Writer) -> tuple[Number, ...]:
    """Write the body of the C function of such a kernel; return its parameters."""
    *_, across, inner = schedule.steps
    parameters = generic_parameters(kernel, [inner.axis])
    if parameters.axis in (across.axis, inner.axis):  # arrays have the size of a tile
        parameters = Parameters()
    expressions = Expressions(kernel, parameters)
    expressions.vector_axis = inner.axis
    nest = Nest(kernel, writer, expressions)
    steps = all_steps(kernel, schedule, frozenset())
    maker = LoopMaker(kernel, steps, expressions)
    *outer, _, _ = steps
    outer_loops = maker.loops(outer)
    rows, columns = maker.width(across.axis), maker.width(inner.axis)
    tile = maker.loops([across, inner])
    pairs = interleaved(kernel)

    def inside() -> None:
        row, column = (text.difference(loop.variable, loop.begin) for loop in tile)
        place = f"{text.factor(row)} * {columns} + {column}"
        for id, load in _turned(kernel, across, inner).items():
            first, part = pairs.get(id, (id, 0))
            unit = 2 if id in pairs else 1
            name = f"turned{first}"
            if part == 0:
                kind = text.type_name(load.type.dtype)
                size = f"{rows} * {columns}" if unit == 1 else f"{unit} * {rows} * {columns}"
                writer.line(stack_array(kind, name, size))
                at = {loop.axis: loop.begin for loop in tile}
                index = expressions.index(load.index, narrow=False, at=at)
                source = f"&{expressions.buffer_name(load.buffer)}[{index}]"
                stride = str(load.index.coefficient(inner.axis) // unit)
                counts = [text.difference(loop.end, loop.begin) for loop in reversed(tile)]
                arguments = [name, str(columns), source, stride, *counts]
                writer.call(f"fd_turn_{unit * load.type.dtype.itemsize}", arguments)
            element = place if unit == 1 else f"{unit} * ({place})"
            expressions.elements[id] = (
                f"{name}[{element} + {part}]" if part else f"{name}[{element}]"
            )
        effects = [i for i in kernel.body if isinstance(i, Effect)]
        values = nest.needed(id for effect in effects for id in operands(effect))
        nest.write(tile, values, [nest.effect(effect) for effect in effects])

    nest.write(outer_loops, inside=inside)
    return parameters.numbers


def _turned(kernel: Kernel, across: Step, inner: Step) -> dict[int, Load]:
    """Loads that are contiguous along `across` and take far strides along `inner`, by their ids."""
    pairs = interleaved(kernel)
    found = {}
    for id, load in enumerate(kernel.body):
        if not isinstance(load, Load) or load.mask is not None or load.index.values():
            continue
        unit = 2 if id in pairs else 1
        plain = not any(
            {across.axis, inner.axis} & Index(((atom, 1),)).axes()
            for atom, _ in load.index.terms
            if not isinstance(atom, AxisAtom)
        )
        if (
            plain
            and load.index.coefficient(across.axis) == unit
            and abs(load.index.coefficient(inner.axis)) > unit
            and unit * load.type.dtype.itemsize in ITEM_SIZES
        ):
            found[id] = load
    return found
