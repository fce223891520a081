"""Kernels without a `Dot`: elementwise loops, reductions, and what is computed from reductions.

The outer axes (those that no `Reduce` reduces) come first. Inside them the reduced axes R are
passed over as often as the kernel's phases ask: a softmax takes the maximum of a row in one pass,
sums in a second and divides in a third. There are two forms. Along *rows*, the innermost loop of a
pass is a reduced axis, and values that do not vary over R are scalars. Down *columns*, the
innermost loop is an outer axis, the *lanes*; values that vary over the lanes only are kept in
arrays or computed again in each pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from funcdl.kernels.cpu_c import row_lanes, text
from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.loops import Action, Loop, LoopMaker, Nest
from funcdl.kernels.cpu_c.parameters import Number, Parameters, generic_parameters
from funcdl.kernels.cpu_c.reductions import ARG_OPS, Accumulator
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kir.elementwise import lookup
from funcdl.kir.identity import identity
from funcdl.kir.ir import Const, Effect, Elementwise, Kernel, Load, Reduce, Select, operands
from funcdl.kir.schedule import Schedule, Step
from funcdl.kir.unroll import unroll

# A value from an earlier pass is kept on the stack if computing it again costs this many additions
# or more, and if it fits.
KEEP_COST = 8
KEEP_BYTES = 16 * 1024
# A value of the lanes that follows from a reduction goes to an array at this cost already, since a
# pass would compute it anew for each of its rows.
LANE_COST = 4
# From this length of a loop on, what it divides by is inverted first.
INVERTED_LENGTH = 64


def render_loops(kernel: Kernel, schedule: Schedule, writer: Writer) -> tuple[Number, ...]:
    """Write the body of the C function of a kernel that has no `Dot`; return its parameters."""
    kernel, schedule = _written_out(kernel, schedule)
    vector = [step.axis for step in schedule.steps if step.kind == "vector"]
    parameters = generic_parameters(kernel, vector)
    renderer = _LoopsRenderer(kernel, schedule, writer, parameters)
    if not renderer.can_be_generic():
        parameters = Parameters()
        renderer = _LoopsRenderer(kernel, schedule, writer, parameters)
    renderer.render()
    return parameters.numbers


def _written_out(kernel: Kernel, schedule: Schedule) -> tuple[Kernel, Schedule]:
    """The kernel with `unroll` records carried out, and the schedule of what is left."""
    for unrolled in schedule.steps:
        if unrolled.kind == "unroll":
            axis, count = unrolled.axis, unrolled.size
            kernel = unroll(kernel, axis, count)
            steps = [
                replace(step, size=step.size // count)
                if step.axis == axis and step.size > 1
                else step
                for step in schedule.steps
                if step != unrolled
            ]
            schedule = replace(schedule, steps=tuple(steps))
    return kernel, schedule


class _LoopsRenderer:
    def __init__(
        self, kernel: Kernel, schedule: Schedule, writer: Writer, parameters: Parameters
    ) -> None:
        self.kernel = kernel
        self.writer = writer
        self.expressions = Expressions(kernel, parameters)
        self.nest = Nest(kernel, writer, self.expressions)
        self.reduces = {id: i for id, i in enumerate(kernel.body) if isinstance(i, Reduce)}
        self.reduced = frozenset(axis for i in self.reduces.values() for axis in i.axes)

        steps = all_steps(kernel, schedule, self.reduced)
        first = next((at for at, s in enumerate(steps) if s.axis in self.reduced), len(steps))
        lanes = [step for step in steps[first:] if step.axis not in self.reduced]
        self.lane = lanes[0].axis if lanes else None
        maker = LoopMaker(kernel, steps, self.expressions)
        self.outer = maker.loops(steps[:first])
        self.width, self.subscript = 1, ""
        if self.lane is not None:
            self.width = maker.width(self.lane)
            origin, position = maker.origin(self.lane), self.expressions.axis_name(self.lane)
            self.subscript = position if origin == "0" else f"{position} - {origin}"
        self.inner = maker.loops([step for step in steps[first:] if step.axis in self.reduced])
        self.lane_loops = maker.loops(lanes)
        self.expressions.vector_axis = next((s.axis for s in steps if s.kind == "vector"), "")
        self.expressions.divisors = self._divisors()

        self.varies = [self._varies(id) for id in range(len(kernel.body))]
        self.phase = self._phases()
        self.effects = {id: i for id, i in enumerate(kernel.body) if isinstance(i, Effect)}
        self.effect_pass = {id: self.phase[id] for id in self.effects if self.in_pass(id)}
        ends = [self.phase[i.arg] + 1 + self._searches(i) for i in self.reduces.values()]
        self.num_passes = max([0, *ends, *(at + 1 for at in self.effect_pass.values())])
        for id in self.effect_pass:
            buffer = kernel.buffer(self.effects[id].buffer)
            if (
                buffer.may_alias or buffer.role == "inout"
            ):  # later passes may read what it overwrites
                self.effect_pass[id] = self.num_passes - 1
        self.lane_arrays = self._lane_arrays()
        self.kept: dict[int, int] = {}  # a value to keep, and the pass that computes it
        self.pass_values, self.pass_reads = self._plan()
        self.accumulators: dict[int, Accumulator] = {}

    def _divisors(self) -> frozenset[int]:
        """What does not vary along the vectorised axis, and divides what does."""
        axis = self.expressions.vector_axis
        generic = axis == self.expressions.parameters.axis
        if not axis or not (generic or self.kernel.axis(axis).extent >= INVERTED_LENGTH):
            return frozenset()
        return frozenset(
            i.args[1]
            for i in self.kernel.body
            if isinstance(i, Elementwise)
            and i.name == "div"
            and i.type.dtype in (np.float32, np.float64)
            and axis in i.type.axes
            and axis not in self.kernel.value_type(i.args[1]).axes
            and not isinstance(self.kernel.body[i.args[1]], Const)
        )

    # What stands where.

    def _varies(self, id: int) -> frozenset[str]:
        """The axes of a value, or of the points at which an effect happens."""
        instruction = self.kernel.body[id]
        if not isinstance(instruction, Effect):
            return frozenset(instruction.type.axes)
        axes = instruction.index.axes()
        return axes.union(*(self.kernel.value_type(i).axes for i in operands(instruction)))

    def _phases(self) -> list[int]:
        """How many passes each value must wait for."""
        phases: list[int] = []
        for instruction in self.kernel.body:
            phase = max((phases[id] for id in operands(instruction)), default=0)
            if isinstance(instruction, Reduce):
                phase += 1 + self._searches(instruction)
            phases.append(phase)
        return phases

    def _searches(self, reduce: Reduce) -> bool:
        """Whether the position of a maximum is found in a pass of its own."""
        in_lanes = self.lane is not None and self.lane in self.kernel.value_type(reduce.arg).axes
        return reduce.op in ARG_OPS and not in_lanes

    def in_pass(self, id: int) -> bool:
        """Whether the instruction varies over reduced axes."""
        return not self.varies[id].isdisjoint(self.reduced)

    def in_lane(self, id: int) -> bool:
        """Whether the instruction varies over the lanes, but over no reduced axis."""
        return self.lane in self.varies[id] and not self.in_pass(id)

    def is_scalar(self, id: int) -> bool:
        """Whether the value has one variable for all passes."""
        return not self.in_pass(id) and not self.in_lane(id)

    def cost(self, id: int) -> int:
        """Of computing the value from scalars and reductions."""
        total, pending, seen = 0, [id], set()
        while pending:
            id = pending.pop()
            instruction = self.kernel.body[id]
            if id in seen or self.is_scalar(id) or isinstance(instruction, Reduce):
                continue
            seen.add(id)
            total += lookup(instruction.name).cost if isinstance(instruction, Elementwise) else 1
            pending.extend(operands(instruction))
        return total

    def _lane_arrays(self) -> frozenset[int]:
        """Values of the lanes that the passes read from an array."""
        used = {
            i for id in range(len(self.kernel.body)) if self.in_pass(id) for i in self.reads(id)
        }
        return frozenset(
            id
            for id in used
            if self.in_lane(id)
            and id not in self.reduces
            and self.cost(id) >= (LANE_COST if self.phase[id] else KEEP_COST)
        )

    def reads(self, id: int) -> tuple[int, ...]:
        return operands(self.kernel.body[id])

    def roots(self, at: int) -> list[int]:
        """What pass number `at` takes in, searches and stores."""
        roots = [i.arg for i in self.reduces.values() if self.phase[i.arg] == at]
        roots += [i.arg for i in self.reduces.values() if self._search_pass(i) == at]
        stored = [id for id, pass_ in self.effect_pass.items() if pass_ == at]
        return roots + [i for id in stored for i in self.reads(id)]

    def _search_pass(self, reduce: Reduce) -> int | None:
        return self.phase[reduce.arg] + 1 if self._searches(reduce) else None

    def _plan(self) -> tuple[list[list[int]], list[list[int]]]:
        """For each pass, the values that it computes and the kept ones that it reads."""
        computed_in: dict[int, int] = {}
        values: list[list[int]] = []
        reads: list[list[int]] = []
        for at in range(self.num_passes):
            computes: set[int] = set()
            keeps: set[int] = set()
            pending = self.roots(at)
            while pending:
                id = pending.pop()
                if id in computes or self.is_scalar(id) or id in self.reduces:
                    continue
                if id in self.lane_arrays:
                    continue
                if id in computed_in and self._worth_keeping(id):
                    self.kept[id] = computed_in[id]
                    keeps.add(id)
                    continue
                computes.add(id)
                pending.extend(self.reads(id))
            computed_in = dict.fromkeys(computes, at) | computed_in
            values.append(sorted(computes))
            reads.append(sorted(keeps))
        return values, reads

    def _worth_keeping(self, id: int) -> bool:
        size = self._kept_size(id) * self.kernel.value_type(id).dtype.itemsize
        return self.cost(id) >= KEEP_COST and size <= KEEP_BYTES

    def can_be_generic(self) -> bool:
        """Whether no array on the stack has the size of the generic axis."""
        axis = self.expressions.parameters.axis
        return axis != self.lane and not any(axis in self._kept_axes(id) for id in self.kept)

    def _kept_axes(self, id: int) -> list[str]:
        return [a.name for a in self.kernel.axes if a.name in self.varies[id] & self.reduced]

    def _kept_size(self, id: int) -> int:
        size = prod(self.kernel.axis(axis).extent for axis in self._kept_axes(id))
        return size * (self.width if self.lane in self.varies[id] else 1)

    def _kept_name(self, id: int) -> str:
        """The element of a kept value at the present position."""
        subscript = ""
        for axis in self._kept_axes(id):
            name = self.expressions.axis_name(axis)
            extent = self.kernel.axis(axis).extent
            subscript = f"{text.factor(subscript)} * {extent} + {name}" if subscript else name
        if self.lane in self.varies[id]:
            lane = self.subscript
            subscript = f"{text.factor(subscript)} * {self.width} + {lane}" if subscript else lane
        return f"keep{id}[{subscript or '0'}]"

    # The code.

    def render(self) -> None:
        scalars = [
            id
            for id, instruction in enumerate(self.kernel.body)
            if self.is_scalar(id) and not self.phase[id] and not isinstance(instruction, Const)
        ]
        self.nest.write(
            self.outer,
            [id for id in scalars if id not in self.effects],
            [self.nest.effect(self.effects[id]) for id in scalars if id in self.effects],
            inside=self.passes,
        )

    def passes(self) -> None:
        """Everything that depends on a reduction or varies over reduced axes."""
        if self.num_passes == 0:
            return
        self.fill_lane_arrays(0)
        for at in range(self.num_passes):
            self.write_pass(at)
            self.end_pass(at)
            self.fill_lane_arrays(at + 1)
        late = [id for id in self.effects if not self.in_pass(id)]
        in_lanes = [id for id in late if self.in_lane(id)]
        for id in late:
            if self.phase[id] and id not in in_lanes:
                self.nest.act(self.nest.effect(self.effects[id]))
        if in_lanes:
            roots = [i for id in in_lanes for i in self.reads(id)]
            actions = [self.nest.effect(self.effects[id]) for id in in_lanes]
            self.nest.write(self.lane_loops, self.nest.needed(roots), actions)

    def write_pass(self, at: int) -> None:
        spread = self._row_lanes(at)
        taken = [id for id, i in self.reduces.items() if self.phase[i.arg] == at]
        takes = [self._accumulator(id, spread) for id in taken]
        searches = [
            self.accumulators[id] for id, i in self.reduces.items() if self._search_pass(i) == at
        ]
        stores = [id for id, pass_ in self.effect_pass.items() if pass_ == at]
        if not (takes or searches or stores):
            return
        for accumulator in takes:
            axes = ", ".join(map(self.expressions.axis_name, accumulator.reduce.axes))
            what = f"{accumulator.reduce.op} of v{accumulator.reduce.arg} over {axes}"
            self.writer.comment(f"v{accumulator.id}: {what}")
            self._lines(accumulator.declare())
        for accumulator in searches:
            (axis,) = accumulator.reduce.axes
            self._lines(accumulator.declare_search(self.expressions.extent(axis)))
        self._lines(self._in_lanes([a.clear() for a in takes if a.is_array]))
        for id, first in self.kept.items():
            if first == at:
                kind = text.type_name(self.kernel.value_type(id).dtype)
                self.writer.line(f"{kind} keep{id}[{self._kept_size(id)}];")

        lane_varies = any(
            self.lane in self.varies[id]
            for id in [*self.pass_values[at], *stores, *(a.reduce.arg for a in takes)]
        )
        loops = self._pass_loops(takes, searches, lane_varies)
        kept_here = at in self.kept.values()
        if not (searches or stores or kept_here) and loops and loops[-1].axis == self.lane:
            condition = self._condition([a.reduce for a in takes])
            if condition is not None:
                inner = loops[-1]
                loops[-1] = replace(inner, before=(*inner.before, f"if (v{condition})"))
        actions = [self._take(a, a.take) for a in takes]
        actions += [self._take(a, a.search) for a in searches]
        actions += [self.nest.effect(self.effects[id]) for id in stores]
        with self.expressions.scope():
            for id in self.pass_reads[at]:
                self.expressions.bind(id, self._kept_name(id))
            if searches and searches[0].notes_block:
                for search in searches:
                    blocks, positions = self._pass_loops([], [search], False)
                    loop = _block_alone(blocks, positions, search)
                    values = self.nest.needed([search.reduce.arg])
                    self.nest.write([loop], values, [self._take(search, search.search)])
                return
            if spread:
                self._write_in_lanes(loops, at, actions, spread)
            else:
                self.nest.write(
                    loops, self.pass_values[at], actions, keep=lambda id: self._keep(id, at)
                )
        self._lines(line for accumulator in takes for line in accumulator.close())

    def _row_lanes(self, at: int) -> int:
        """How many lanes the rows of a pass are taken in by, 0 for a loop with scalars."""
        takes = [i for i in self.reduces.values() if self.phase[i.arg] == at]
        if self.lane is not None or not takes or not self.inner or not self.inner[-1].pragma:
            return 0
        axis = self.inner[-1].axis
        stores = [id for id, pass_ in self.effect_pass.items() if pass_ == at]
        searched = any(self._search_pass(i) == at for i in self.reduces.values())
        if searched or any(axis not in self.varies[id] for id in stores):
            return 0
        if any(i.op not in row_lanes.OPS or axis not in i.axes for i in takes):
            return 0
        dtypes = {self.kernel.value_type(i.arg).dtype for i in takes}
        (dtype,) = dtypes if len(dtypes) == 1 else (None,)
        if dtype not in (np.float32, np.float64):
            return 0
        generic = axis == self.expressions.parameters.axis
        extent = None if generic else self.kernel.axis(axis).extent
        values = self.pass_values[at]
        saves = bool(stores) or at in self.kept.values()
        easy = not saves and all(self._is_dense(id, axis) for id in values)
        return row_lanes.lane_count(self.kernel, values, easy, dtype.itemsize, extent)

    def _is_dense(self, id: int, axis: str) -> bool:
        """Whether a load, if the value is one, takes neighbours, or the same for all positions."""
        load = self.kernel.body[id]
        if not isinstance(load, Load) or axis not in self.varies[id]:
            return True
        return not self.expressions.is_scattered(load.index) and (
            abs(load.index.coefficient(axis)) == 1
        )

    def _write_in_lanes(
        self, loops: Sequence[Loop], at: int, actions: Sequence[Action], count: int
    ) -> None:
        *outer, row = loops
        of_row = [id for id in self.pass_values[at] if row.axis in self.varies[id]]
        others = [id for id in self.pass_values[at] if row.axis not in self.varies[id]]

        def keep(id: int) -> list[str]:
            return self._keep(id, at)

        def groups() -> None:
            self._lines(row.before)
            (size, *_) = (
                self.kernel.value_type(i.arg).dtype.itemsize
                for i in self.reduces.values()
                if self.phase[i.arg] == at
            )
            for part in row_lanes.in_lanes(replace(row, before=()), count, size):
                self.nest.write(part, of_row, actions, keep=keep)
            self._lines(row.after)

        self.nest.write(outer, others, inside=groups, keep=keep)

    def _condition(self, reduces: Sequence[Reduce]) -> int | None:
        """A value that is the same in all lanes, and without which nothing is taken in.

        So it is with windows that reach beyond an array: a place outside counts as the identity.
        """
        found: set[int] = set()
        for reduce in reduces:
            arg = self.kernel.body[reduce.arg]
            if not isinstance(arg, Select) or reduce.op in ARG_OPS:
                return None
            other = self.kernel.body[arg.on_false]
            if not isinstance(other, Const) or self.lane in self.varies[arg.which]:
                return None
            if other.value != identity(reduce.op, other.type.dtype):
                return None
            found.add(arg.which)
        return found.pop() if len(found) == 1 and self.in_pass(min(found)) else None

    def _accumulator(self, id: int, spread: int) -> Accumulator:
        reduce = self.reduces[id]
        arg = self.kernel.value_type(reduce.arg)
        in_lanes = self.lane in arg.axes
        search_pass = self._search_pass(reduce)
        self.accumulators[id] = Accumulator(
            id,
            reduce,
            arg.dtype,
            lane=f"[{self.subscript}]" if in_lanes else "",
            lanes=self.width,
            blocked=self._block_loop() is not None
            and (search_pass is None or self._only_searches(search_pass)),
            spread=spread,
        )
        return self.accumulators[id]

    def _only_searches(self, at: int) -> bool:
        """Whether a pass need not go over whole rows, which are cut into blocks once."""
        if len(self.inner) != 2:
            return False
        takes = any(self.phase[i.arg] == at for i in self.reduces.values())
        return not (takes or at in self.effect_pass.values() or at in self.kept.values())

    def _block_loop(self) -> int | None:
        """The loop over the blocks of a blocked reduction."""
        blocks = [at for at, loop in enumerate(self.inner[:-1]) if loop.kind == "tile"]
        return blocks[0] if blocks else None

    def _pass_loops(
        self, takes: Sequence[Accumulator], searches: Sequence[Accumulator], lane_varies: bool
    ) -> list[Loop]:
        loops = [*self.inner, *(self.lane_loops if lane_varies else ())]
        block = self._block_loop()
        blocked = [a for a in takes if a.blocked]
        if block is not None and blocked:
            scalars = [a for a in blocked if not a.is_array]
            arrays = [a for a in blocked if a.is_array]
            before = [line for a in scalars for line in a.open_block()]
            before += self._in_lanes([a.open_block() for a in arrays])
            begin = loops[block].variable
            after = [line for a in scalars for line in a.close_block(begin)]
            after += self._in_lanes([a.close_block(begin) for a in arrays])
            loop = loops[block + 1]
            loops[block + 1] = replace(loop, before=tuple(before), after=tuple(after))
        clauses = [c for a in takes if not a.is_array for c in a.clauses()]
        clauses += [c for a in searches for c in a.search_clauses()]
        if clauses and loops and loops[-1].axis in self.reduced and loops[-1].pragma:
            pragma = " ".join([loops[-1].pragma, *clauses])
            loops[-1] = replace(loops[-1], pragma=pragma)
        return loops

    def _take(self, accumulator: Accumulator, take: Callable[[str, str], list[str]]) -> Action:
        reduce = accumulator.reduce
        axes = self.reduced | ({self.lane} if self.lane and accumulator.is_array else set())
        position = self.expressions.axis_name(reduce.axes[0])
        return Action(lambda: take(self.expressions.value(reduce.arg), position), axes)

    def _keep(self, id: int, at: int) -> list[str]:
        return [f"{self._kept_name(id)} = v{id};"] if self.kept.get(id) == at else []

    def end_pass(self, at: int) -> None:
        """Name the results of the pass, and what scalars follow from them."""
        for id, instruction in enumerate(self.kernel.body):
            if self.phase[id] != at + 1 or isinstance(instruction, Const | Effect):
                continue
            if id in self.reduces:
                result = self.accumulators[id].result()
                if self.accumulators[id].is_array or result.isidentifier():
                    self.expressions.bind(id, result)
                else:
                    kind = text.type_name(self.kernel.value_type(id).dtype)
                    self.writer.line(f"const {kind} v{id} = {result};")
                    self.expressions.bind(id, f"v{id}")
            elif self.is_scalar(id):
                self.writer.line(self.expressions.define(id))
            if self.is_scalar(id):
                self._lines(self.expressions.invert(id))

    def fill_lane_arrays(self, phase: int) -> None:
        """Compute the lane values that have become known."""
        ready = sorted(id for id in self.lane_arrays if self.phase[id] == phase)
        if not ready:
            return
        for id in ready:
            kind = text.type_name(self.kernel.value_type(id).dtype)
            self.writer.line(f"{kind} keep{id}[{self.width}];")

        def keep(id: int) -> list[str]:
            return [f"{self._kept_name(id)} = v{id};"] if id in ready else []

        self.nest.write(self.lane_loops, self.nest.needed(ready), keep=keep)
        for id in ready:
            self.expressions.bind(id, self._kept_name(id))

    def _in_lanes(self, statements: Sequence[Sequence[str]]) -> list[str]:
        """A loop over the lanes around single-lane statements."""
        lines = [line for group in statements for line in group]
        if not lines:
            return []
        (loop,) = self.lane_loops
        head = self.nest.head(loop)
        return [loop.pragma, f"{head} {{", *(f"  {line}" for line in lines), "}"]

    def _lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.writer.line(line)


def _block_alone(blocks: Loop, positions: Loop, search: Accumulator) -> Loop:
    """In place of loops over the blocks of a row, one over the block that has its maximum."""
    end = f"end{search.id}"
    after = f"{search.block} + {blocks.step}"
    if f"{blocks.variable} + {blocks.step}" != positions.end:
        after = f"{after} < {blocks.end} ? {after} : {blocks.end}"
    before = (f"const {text.POSITION} {end} = {after};",)
    return replace(positions, begin=search.block, end=end, before=before)


def all_steps(kernel: Kernel, schedule: Schedule, reduced: frozenset[str]) -> list[Step]:
    """The schedule's records, with a loop for each axis that it does not mention."""
    steps = list(schedule.steps)
    first = next((at for at, step in enumerate(steps) if step.axis in reduced), len(steps))
    missing = [Step(a.name, "loop") for a in kernel.axes if not schedule.of(a.name)]
    outer = [step for step in missing if step.axis not in reduced]
    inner = [step for step in missing if step.axis in reduced]
    return [*outer, *steps[:first], *inner, *steps[first:]]
