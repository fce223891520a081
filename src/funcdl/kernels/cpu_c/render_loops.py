"""Kernels without a `Dot`: elementwise loops, reductions, and what is computed from reductions.

The outer axes (those that no `Reduce` reduces) come first. Inside them the reduced axes R are
passed over as often as the kernel's phases ask: a softmax takes the maximum of a row in one pass,
sums in a second and divides in a third. There are two forms. Along *rows*, the innermost loop of a
pass is a reduced axis, and values that do not vary over R are scalars. Down *columns*, the
innermost loop is an outer axis, the *lanes*; values that vary over the lanes only are kept in
arrays or computed again in each pass. Rows of neighbours that lanes go across are transposed
(turned.py). Where nothing is reduced, an axis between the lanes and their tiles stands for R.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from funcdl.kernels.cpu_c import row_lanes, text
from funcdl.kernels.cpu_c.flat_rows import rows_in_loops, write_flat_rows
from funcdl.kernels.cpu_c.loops import Action, Loop, Nest
from funcdl.kernels.cpu_c.memory import stack_array
from funcdl.kernels.cpu_c.parameters import Number, Parameters, generic_parameters
from funcdl.kernels.cpu_c.parted import ends_short, parted_axes, write_parts
from funcdl.kernels.cpu_c.passes import Passes
from funcdl.kernels.cpu_c.reductions import ARG_OPS, Accumulator
from funcdl.kernels.cpu_c.text import Writer
from funcdl.kernels.cpu_c.whole_vectors import in_whole_vectors
from funcdl.kir.identity import identity
from funcdl.kir.ir import Const, Effect, Kernel, Reduce, Select, Store
from funcdl.kir.schedule import Schedule
from funcdl.kir.unroll import unroll

# A loop of so few iterations over so few lanes is written out: the accumulators stay in registers.
SHORT_LOOP = 8
SHORT_LANES = 16


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


class _LoopsRenderer(Passes):
    def __init__(
        self, kernel: Kernel, schedule: Schedule, writer: Writer, parameters: Parameters
    ) -> None:
        super().__init__(kernel, schedule, parameters)
        self.writer = writer
        self.nest = Nest(kernel, writer, self.expressions)
        self.accumulators: dict[int, Accumulator] = {}

        # Where nothing is reduced, loops may be written in parts, and short rows as one loop.
        self.parted, self.flat = frozenset[str](), None
        if not self.num_passes:
            self.parted = parted_axes(kernel, self.outer)
            self.flat = rows_in_loops(kernel, self.outer)

    def can_be_generic(self) -> bool:
        axis = self.expressions.parameters.axis
        return super().can_be_generic() and not (
            axis in self.parted and ends_short(self.kernel, axis)
        )

    def render(self) -> None:
        if self.parted:
            write_parts(self.nest, self.outer, self.parted)
            return
        if self.flat is not None:
            write_flat_rows(self.nest, self.outer, self.flat)
            return
        scalars = [
            id
            for id, instruction in enumerate(self.kernel.body)
            if self.is_scalar(id) and not self.phase[id] and not isinstance(instruction, Const)
        ]
        outer = self.outer if self.num_passes else in_whole_vectors(self.kernel, self.outer)
        self.nest.write(
            outer,
            [id for id in scalars if id not in self.effects],
            [self.nest.effect(self.effects[id]) for id in scalars if id in self.effects],
            inside=self.passes,
        )

    def passes(self) -> None:
        """Everything that depends on a reduction or varies over reduced axes."""
        if self.num_passes == 0:
            return
        self.turn_loads()
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
        spread, unrolled = self.lanes_of_rows(at)
        taken = [id for id, i in self.reduces.items() if self.phase[i.arg] == at]
        takes = [self._accumulator(id, spread) for id in taken]
        searches = [
            self.accumulators[id] for id, i in self.reduces.items() if self.search_pass(i) == at
        ]
        stores = [id for id, pass_ in self.effect_pass.items() if pass_ == at]
        if not (takes or searches or stores):
            return
        turn_back = self.turn_stores(stores)
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
                self.writer.line(stack_array(kind, f"keep{id}", self.kept_size(id)))

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
        effects = [self.nest.effect(self.effects[id]) for id in stores]
        with self.expressions.scope():
            for id in self.pass_reads[at]:
                self.expressions.bind(id, self.kept_name(id))
            if searches and searches[0].notes_block:
                for search in searches:
                    blocks, positions = self._pass_loops([], [search], False)
                    loop = _block_alone(blocks, positions, search)
                    values = self.nest.needed([search.reduce.arg])
                    self.nest.write([loop], values, [self._take(search, search.search)])
                return
            if spread:
                targets = [self.kernel.buffer(self.effects[id].buffer) for id in stores]
                twice = not any(b.may_alias or b.role == "inout" for b in targets)
                self._write_in_lanes(loops, at, takes, effects, spread, unrolled, twice)
            else:
                actions = [self._take(a, a.take) for a in takes]
                actions += [self._take(a, a.search) for a in searches]
                self.nest.write(
                    loops,
                    self.pass_values[at],
                    [*actions, *effects],
                    keep=lambda id: self._keep(id, at),
                )
        self._lines(line for accumulator in takes for line in accumulator.close())
        turn_back()

    def turn_loads(self) -> None:
        """Transpose the rows that are read across, so that lanes are neighbours."""
        for id, turned in self.turned.items():
            if id not in self.effects:
                self.writer.line(turned.declaration)
                self.writer.call(turned.function, turned.to_lanes)
                self.expressions.elements[id] = turned.element

    def turn_stores(self, stores: Sequence[int]) -> Callable[[], None]:
        """Have a pass write in lanes what it writes across rows; returns what comes after it."""
        turned = [self.turned[id] for id in stores if id in self.turned]
        for each in turned:
            self.writer.line(each.declaration)
            if isinstance(each.access, Store):
                self.expressions.targets[each.access] = each.element

        def turn_back() -> None:
            for each in turned:
                self.writer.call(each.function, each.to_rows)

        return turn_back

    def _write_in_lanes(
        self,
        loops: Sequence[Loop],
        at: int,
        takes: Sequence[Accumulator],
        effects: Sequence[Action],
        count: int,
        unrolled: bool,
        twice: bool,
    ) -> None:
        *outer, row = loops
        of_row = [id for id in self.pass_values[at] if row.axis in self.varies[id]]
        others = [id for id in self.pass_values[at] if row.axis not in self.varies[id]]

        def keep(id: int) -> list[str]:
            return self._keep(id, at)

        def groups() -> None:
            self._lines(row.before)
            for part in row_lanes.in_lanes(replace(row, before=()), count, unrolled, twice):
                actions = [self._take(a, a.take_from(part.first)) for a in takes]
                self.nest.write(part.loops, of_row, [*actions, *effects], keep=keep)
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
        search_pass = self.search_pass(reduce)
        self.accumulators[id] = Accumulator(
            id,
            reduce,
            arg.dtype,
            lane=f"[{self.subscript}]" if in_lanes else "",
            lanes=self.width,
            blocked=self.block_loop() is not None
            and (search_pass is None or self.only_searches(search_pass)),
            spread=spread,
        )
        return self.accumulators[id]

    def _pass_loops(
        self, takes: Sequence[Accumulator], searches: Sequence[Accumulator], lane_varies: bool
    ) -> list[Loop]:
        loops = [*self.inner, *(self.lane_loops if lane_varies else ())]
        block = self.block_loop()
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
        if takes and lane_varies and len(loops) > 1 and self._is_short(loops[-2]):
            loop = loops[-2]
            unrolled = f"#pragma GCC unroll {SHORT_LOOP}"
            loops[-2] = replace(loop, before=(*loop.before, unrolled))
        return loops

    def _is_short(self, loop: Loop) -> bool:
        """Whether a loop has few iterations, each for about a vector of lanes."""
        if loop.axis == self.expressions.parameters.axis or loop.kind != "loop":
            return False
        return self.width <= SHORT_LANES and self.kernel.axis(loop.axis).extent <= SHORT_LOOP

    def _take(self, accumulator: Accumulator, take: Callable[[str, str], list[str]]) -> Action:
        reduce = accumulator.reduce
        axes = self.reduced | ({self.lane} if self.lane and accumulator.is_array else set())
        position = self.expressions.axis_name(reduce.axes[0])
        return Action(lambda: take(self.expressions.value(reduce.arg), position), axes)

    def _keep(self, id: int, at: int) -> list[str]:
        return [f"{self.kept_name(id)} = v{id};"] if self.kept.get(id) == at else []

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
            self.writer.line(stack_array(kind, f"keep{id}", self.width))

        def keep(id: int) -> list[str]:
            return [f"{self.kept_name(id)} = v{id};"] if id in ready else []

        self.nest.write(self.lane_loops, self.nest.needed(ready), keep=keep)
        for id in ready:
            self.expressions.bind(id, self.kept_name(id))

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
