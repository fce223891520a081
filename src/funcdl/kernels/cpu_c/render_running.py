"""Kernels with `Running` values: sums and the like of all elements up to each one.

There are two forms. Down *columns* (and wherever no vector goes along the accumulated axis) each
position takes one step: an accumulator for each lane takes a value in, and is the result. Along
*rows* the axis is cut into chunks. A vector loop puts what is accumulated into an array, a function
of fd_running.h replaces it by the running results, and the next vector loop goes on with those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from funcdl.core import dtypes
from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.loops import Action, Loop, LoopMaker, Nest
from funcdl.kernels.cpu_c.render_loops import all_steps
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kir.elementwise import lookup
from funcdl.kir.ir import Const, Effect, Elementwise, Kernel, Running, Scalar, operands
from funcdl.kir.schedule import Schedule, Step

# A value that costs this many additions is kept for the vector loops that need it again.
KEEP_COST = 8


def render_running(kernel: Kernel, schedule: Schedule, writer: Writer) -> None:
    """Write the body of the C function of a kernel with `Running` values.

    A `vector` record of their axis, after a tile of it, asks for the form along rows. In the other
    form at most one axis, the lanes, comes after the accumulated one.
    """
    running = {id: i for id, i in enumerate(kernel.body) if isinstance(i, Running)}
    axis = next(iter(running.values())).axis
    steps = all_steps(kernel, schedule, frozenset({axis}))
    along = [step for step in steps if step.axis == axis]
    form = _Rows if along[-1].kind == "vector" else _Columns
    form(kernel, steps, running, writer).render()


class _Running:
    """What both forms share."""

    def __init__(
        self, kernel: Kernel, steps: Sequence[Step], running: dict[int, Running], writer: Writer
    ) -> None:
        self.kernel = kernel
        self.running = running
        self.writer = writer
        self.axis = next(iter(running.values())).axis
        self.reverse = next(iter(running.values())).reverse
        self.expressions = Expressions(kernel)
        self.expressions.vector_axis = next((s.axis for s in steps if s.kind == "vector"), "")
        self.nest = Nest(kernel, writer, self.expressions)
        self.maker = LoopMaker(kernel, steps, self.expressions)
        first = next(at for at, step in enumerate(steps) if step.axis == self.axis)
        self.outer = self.maker.loops(steps[:first])
        self.inner_steps = steps[first:]
        self.effects = {id: i for id, i in enumerate(kernel.body) if isinstance(i, Effect)}

    def subscript(self, axis: str) -> str:
        """Where the present position is in an array for the tile of `axis`."""
        origin, position = self.maker.origin(axis), self.expressions.axis_name(axis)
        return position if origin == "0" else f"{position} - {origin}"

    def loops(self, steps: Sequence[Step]) -> list[Loop]:
        """Loops along the accumulated axis, in its direction."""
        return [replace(loop, reverse=self.reverse) for loop in self.maker.loops(steps)]

    def type_name(self, id: int) -> str:
        return text.type_name(self.running[id].type.dtype)

    def identity(self, id: int) -> str:
        running = self.running[id]
        return text.literal(_identity(running.op, running.type.dtype), running.type.dtype)

    def describe(self, id: int) -> str:
        running = self.running[id]
        return f"v{id}: running {running.op} of v{running.arg} along {self.axis}"


class _Columns(_Running):
    def render(self) -> None:
        lanes = [step for step in self.inner_steps if step.axis != self.axis]
        lane = lanes[0].axis if lanes else None
        width, subscript = 1, ""
        if lane is not None:
            width, subscript = self.maker.width(lane), self.subscript(lane)
        along = self.loops([step for step in self.inner_steps if step.axis == self.axis])
        lane_loops = self.maker.loops(lanes)
        before, starts = [], []
        for id, running in self.running.items():
            kind, name = self.type_name(id), f"acc{id}"
            before.append(f"/* {self.describe(id)} */")
            if lane is not None and lane in running.type.axes:
                before.append(f"{kind} {name}[{width}];")
                name = f"{name}[{subscript}]"
                starts.append(f"  {name} = {self.identity(id)};")
            else:
                before.append(f"{kind} {name} = {self.identity(id)};")
            self.expressions.accumulators[id] = name
        if starts:
            before += [f"{self.nest.head(lane_loops[0])} {{", *starts, "}"]
        along[0] = replace(along[0], before=tuple(before))
        values = [id for id, i in enumerate(self.kernel.body) if not isinstance(i, Const | Effect)]
        actions = [self.nest.effect(effect) for effect in self.effects.values()]
        self.nest.write([*self.outer, *along, *lane_loops], values, actions)


class _Rows(_Running):
    def render(self) -> None:
        body = self.kernel.body
        *tiles, vector = self.inner_steps
        self.tiles = self.loops(tiles)
        self.width, self.here = self.maker.width(self.axis), self.subscript(self.axis)
        (self.vector,) = self.maker.loops([vector])
        self.varies = [self.axis in self._axes(id) for id in range(len(body))]
        self.phase: list[int] = []  # how many running results must be there before each value
        for id in range(len(body)):
            before = max((self.phase[operand] for operand in operands(body[id])), default=0)
            self.phase.append(before + (id in self.running))
        last = max(self.phase)
        self.effect_phase = {}
        for id, effect in self.effects.items():
            buffer = self.kernel.buffer(effect.buffer)
            # Later loops may still read what it overwrites.
            late = buffer.may_alias or buffer.role == "inout"
            self.effect_phase[id] = last if late else self.phase[id]
        self.kept: dict[int, int] = {}
        self.plan = self._plan(last + 1)
        scalars = [
            id
            for id, i in enumerate(body)
            if not self.varies[id] and not isinstance(i, Const | Effect)
        ]
        actions = [self.nest.effect(e) for id, e in self.effects.items() if not self.varies[id]]
        self.nest.write(self.outer, scalars, actions, inside=self._row)

    def _axes(self, id: int) -> set[str]:
        instruction = self.kernel.body[id]
        if not isinstance(instruction, Effect):
            return set(instruction.type.axes)
        axes = set(instruction.index.axes())
        return axes.union(*(self.kernel.value_type(i).axes for i in operands(instruction)))

    def _stored(self, phase: int) -> list[int]:
        return [id for id, at in self.effect_phase.items() if at == phase and self.varies[id]]

    def _taken(self, phase: int) -> list[int]:
        return [id for id, i in self.running.items() if self.phase[i.arg] == phase]

    def _plan(self, phases: int) -> list[list[int]]:
        """The values that each vector loop computes; notes those that an earlier one keeps."""
        plan: list[list[int]] = []
        computed: dict[int, int] = {}
        for phase in range(phases):
            pending = [self.running[id].arg for id in self._taken(phase)]
            pending += [i for id in self._stored(phase) for i in operands(self.kernel.body[id])]
            found: set[int] = set()
            while pending:
                id = pending.pop()
                if id in found or not self.varies[id] or id in self.running:
                    continue
                if id in computed and self._cost(id) >= KEEP_COST:
                    self.kept[id] = computed[id]
                    continue
                found.add(id)
                pending.extend(operands(self.kernel.body[id]))
            computed = dict.fromkeys(found, phase) | computed
            plan.append(sorted(found))
        return plan

    def _cost(self, id: int) -> int:
        """Of computing a value from loads and running results."""
        total, pending, seen = 0, [id], set()
        while pending:
            id = pending.pop()
            instruction = self.kernel.body[id]
            if id not in seen and self.varies[id] and id not in self.running:
                seen.add(id)
                total += (
                    lookup(instruction.name).cost if isinstance(instruction, Elementwise) else 1
                )
                pending.extend(operands(instruction))
        return total

    def _row(self) -> None:
        for id in self.running:
            self.writer.comment(self.describe(id))
            self.writer.line(f"{self.type_name(id)} total{id} = {self.identity(id)};")
        self.nest.write(self.tiles, inside=self._chunk)

    def _chunk(self) -> None:
        begin, end = self.vector.begin, self.vector.end
        count = end if begin == "0" else f"{end} - {begin}"
        for phase, values in enumerate(self.plan):
            taken, kept = self._taken(phase), [v for v, at in self.kept.items() if at == phase]
            for id in taken:
                self.writer.line(f"{self.type_name(id)} run{id}[{self.width}];")
            for id in kept:
                kind = text.type_name(self.kernel.value_type(id).dtype)
                self.writer.line(f"{kind} keep{id}[{self.width}];")
            actions = [self._take(id) for id in taken]
            actions += [self.nest.effect(self.effects[id]) for id in self._stored(phase)]
            if actions:
                self.nest.write([self.vector], values, actions, keep=self._keeper(kept))
            for id in kept:
                self.expressions.bind(id, f"keep{id}[{self.here}]")
            for id in taken:
                running = self.running[id]
                back = "back_" if self.reverse else ""
                short = text.short_name(running.type.dtype)
                name = f"fd_running_{back}{running.op}_{short}"
                self.writer.call(f"total{id} = {name}", [f"run{id}", count, f"total{id}"])
                self.expressions.bind(id, f"run{id}[{self.here}]")

    def _take(self, id: int) -> Action:
        arg = self.running[id].arg
        target = f"run{id}[{self.here}]"
        return Action(lambda: [f"{target} = {self.expressions.value(arg)};"], {self.axis})

    def _keeper(self, kept: Sequence[int]) -> Callable[[int], list[str]]:
        return lambda id: [f"keep{id}[{self.here}] = v{id};"] if id in kept else []


def _identity(op: str, dtype: np.dtype) -> Scalar:
    """What changes no value that it is combined with."""
    if op == "sum":
        return -0.0 if dtypes.is_float(dtype) else 0
    if op == "prod":
        return 1
    if dtypes.is_integer(dtype):
        return int(np.iinfo(dtype).max if op == "min" else np.iinfo(dtype).min)
    return np.inf if op == "min" else -np.inf
