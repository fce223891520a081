"""Kernels with `Running` values, sums and the like of all elements up to each one, or with `Order`.

There are two forms. Down *columns* (and wherever no vector goes along the accumulated axis) each
position takes one step: an accumulator for each lane takes a value in, and is the result. Along
*rows* the axis is cut into chunks. A vector loop puts what is accumulated into an array, a function
of fd_running.h replaces it by the running results, and the next vector loop goes on with those.
`Order` has this form, too: a chunk is the whole row, and functions of fd_sort.h find positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from funcdl.core import dtypes
from funcdl.kernels.cpu_c import text
from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.loops import Action, Loop, LoopMaker, Nest
from funcdl.kernels.cpu_c.memory import heap_array, stack_array
from funcdl.kernels.cpu_c.passes import all_steps
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kir.elementwise import lookup
from funcdl.kir.identity import identity
from funcdl.kir.ir import Const, Effect, Elementwise, Kernel, Order, Running, operands
from funcdl.kir.schedule import Schedule, Step

# A value that costs this many additions is kept for the vector loops that need it again.
KEEP_COST = 8
# Arrays up to this size are on the stack, larger ones on the heap.
STACK_BYTES = 16 * 1024
# The most positions that are found without sorting whole rows; FD_SORT_FIRST in fd_sort.h.
SORT_FIRST = 64


def render_running(kernel: Kernel, schedule: Schedule, writer: Writer) -> None:
    """Write the body of the C function of a kernel with `Running` or `Order` values.

    A `vector` record of their axis, after a tile of it where it is long, asks for the form along
    rows. In the other form at most one axis, the lanes, comes after the accumulated one. The axis
    of `Order` is not cut: all records but the last are left out.
    """
    running = {id: i for id, i in enumerate(kernel.body) if isinstance(i, Running | Order)}
    axis = next(iter(running.values())).axis
    steps = all_steps(kernel, schedule, frozenset({axis}))
    if any(isinstance(i, Order) for i in running.values()):
        steps = [*(step for step in steps if step.axis != axis), Step(axis, "vector")]
    last = [step for step in steps if step.axis == axis][-1]
    form = _Rows if last.kind == "vector" else _Columns
    form(kernel, steps, running, writer).render()


class _Running:
    """What both forms share."""

    def __init__(
        self,
        kernel: Kernel,
        steps: Sequence[Step],
        running: dict[int, Running | Order],
        writer: Writer,
    ) -> None:
        self.kernel = kernel
        self.running = running
        self.writer = writer
        first_one = next(iter(running.values()))
        self.axis = first_one.axis
        self.reverse = isinstance(first_one, Running) and first_one.reverse
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
        assert isinstance(running, Running)
        dtype = running.type.dtype
        # Of floats -0.0, since 0.0 would change it.
        negative = running.op == "sum" and dtypes.is_float(dtype)
        return text.literal(-0.0 if negative else identity(running.op, dtype), dtype)

    def describe(self, id: int) -> str:
        running = self.running[id]
        if isinstance(running, Order):
            keys = ", ".join(f"v{key}" for key in running.keys)
            return f"v{id}: positions along {self.axis} in order of {keys}"
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
            assert isinstance(running, Running)
            if lane is not None and lane in running.type.axes:
                before.append(stack_array(kind, name, width))
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
        return [id for id in self.running if self.phase[id] == phase + 1]

    def _plan(self, phases: int) -> list[list[int]]:
        """The values that each vector loop computes; notes those that an earlier one keeps."""
        plan: list[list[int]] = []
        computed: dict[int, int] = {}
        for phase in range(phases):
            pending = [i for id in self._taken(phase) for i in operands(self.running[id])]
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
        for id, running in self.running.items():
            self.writer.comment(self.describe(id))
            if isinstance(running, Running):
                self.writer.line(f"{self.type_name(id)} total{id} = {self.identity(id)};")
        self.nest.write(self.tiles, inside=self._chunk)

    def _chunk(self) -> None:
        with ExitStack() as blocks:
            for dtype, name, copies in self._arrays():
                kind, size = text.type_name(dtype), copies * self.width
                if self.width * dtype.itemsize <= STACK_BYTES:
                    self.writer.line(stack_array(kind, name, size))
                else:
                    blocks.enter_context(heap_array(self.writer, kind, name, str(size)))
            self._phases()

    def _arrays(self) -> Iterator[tuple[np.dtype, str, int]]:
        """The arrays of a chunk: their types, names, and how often they have room for it."""
        for id in self.kept:
            yield self.kernel.value_type(id).dtype, f"keep{id}", 1
        for id, running in self.running.items():
            yield running.type.dtype, f"run{id}", 1
            if isinstance(running, Order):
                if not _takes_first(running):
                    yield np.dtype(np.uint64), f"space{id}", 2
                for number, key in enumerate(running.keys):
                    yield _key_dtype(self.kernel.value_type(key).dtype), f"key{id}_{number}", 1

    def _phases(self) -> None:
        begin, end = self.vector.begin, self.vector.end
        count = end if begin == "0" else f"{end} - {begin}"
        for phase, values in enumerate(self.plan):
            taken, kept = self._taken(phase), [v for v, at in self.kept.items() if at == phase]
            actions = [action for id in taken for action in self._take(id)]
            actions += [self.nest.effect(self.effects[id]) for id in self._stored(phase)]
            if actions:
                self.nest.write([self.vector], values, actions, keep=self._keeper(kept))
            for id in kept:
                self.expressions.bind(id, f"keep{id}[{self.here}]")
            for id in taken:
                self._finish(id, count)
                self.expressions.bind(id, f"run{id}[{self.here}]")

    def _take(self, id: int) -> list[Action]:
        """How what is accumulated or decides the order gets into its arrays."""
        running = self.running[id]
        if isinstance(running, Running):
            return [self._fill(f"run{id}", running.arg, "")]
        actions = []
        for number, key in enumerate(running.keys):
            dtype = self.kernel.value_type(key).dtype
            function = "~" * running.descending + f"fd_sort_key_{text.short_name(dtype)}"
            actions.append(self._fill(f"key{id}_{number}", key, function))
        return actions

    def _fill(self, array: str, value: int, function: str) -> Action:
        def lines() -> list[str]:
            found = self.expressions.value(value)
            found = f"{function}({found})" if function else found
            return [f"{array}[{self.here}] = {found};"]

        return Action(lines, {self.axis})

    def _finish(self, id: int, count: str) -> None:
        """Replace what is accumulated by the running results, or find the order."""
        running = self.running[id]
        if isinstance(running, Running):
            back = "back_" if self.reverse else ""
            name = f"fd_running_{back}{running.op}_{text.short_name(running.type.dtype)}"
            self.writer.call(f"total{id} = {name}", [f"run{id}", count, f"total{id}"])
            return
        self.writer.call("fd_sort_start", [f"run{id}", count])
        if _takes_first(running):
            short = text.short_name(_key_dtype(self.kernel.value_type(running.keys[0]).dtype))
            arguments = [f"key{id}_0", f"run{id}", count, str(running.first)]
            self.writer.call(f"fd_sort_first_{short}", arguments)
            return
        for number, key in reversed(list(enumerate(running.keys))):
            short = text.short_name(_key_dtype(self.kernel.value_type(key).dtype))
            arguments = [f"key{id}_{number}", f"run{id}", f"space{id}", count]
            self.writer.call(f"fd_sort_by_{short}", arguments)

    def _keeper(self, kept: Sequence[int]) -> Callable[[int], list[str]]:
        return lambda id: [f"keep{id}[{self.here}] = v{id};"] if id in kept else []


def _takes_first(order: Order) -> bool:
    """Whether the first positions are kept in a few vectors, in place of sorting whole rows."""
    return 0 < order.first <= SORT_FIRST and len(order.keys) == 1


def _key_dtype(dtype: np.dtype) -> np.dtype:
    """Of the unsigned numbers that stand for elements in a sort."""
    return np.dtype(np.uint64 if dtype.itemsize == 8 else np.uint32)
