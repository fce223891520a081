"""Which pass over the reduced axes computes, takes in, keeps, searches and stores what.

For kernels without a `Dot` (see render_loops.py for the two forms of such kernels).
"""

from __future__ import annotations

from math import prod

import numpy as np

from funcdl.kernels.cpu_c import row_lanes, text
from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.loops import LoopMaker
from funcdl.kernels.cpu_c.parameters import Parameters
from funcdl.kernels.cpu_c.reductions import ARG_OPS
from funcdl.kernels.cpu_c.turned import Turned, turned
from funcdl.kir.elementwise import lookup
from funcdl.kir.ir import Const, Effect, Elementwise, Kernel, Load, Reduce, operands
from funcdl.kir.schedule import Schedule, Step

# A value from an earlier pass is kept on the stack if computing it again costs this many additions
# or more, and if it fits.
KEEP_COST = 8
KEEP_BYTES = 16 * 1024
# A value of the lanes that follows from a reduction goes to an array at this cost already, since a
# pass would compute it anew for each of its rows.
LANE_COST = 4
# From this length of a loop on, what it divides by is inverted first.
INVERTED_LENGTH = 64
TILES = ("tile", "parallel")


class Passes:
    """Where a kernel's values and effects stand, and the loops around them.

    `outer` are the loops around all passes, `inner` those of a pass over the reduced axes, and
    `lane_loops` the ones over the lanes inside them.
    """

    def __init__(self, kernel: Kernel, schedule: Schedule, parameters: Parameters) -> None:
        self.kernel = kernel
        self.expressions = Expressions(kernel, parameters)
        self.reduces = {id: i for id, i in enumerate(kernel.body) if isinstance(i, Reduce)}
        self.reduced = frozenset(axis for i in self.reduces.values() for axis in i.axes)
        self.reduced = self.reduced or _axes_before_lanes(schedule)

        steps = all_steps(kernel, schedule, self.reduced)
        first = next((at for at, s in enumerate(steps) if s.axis in self.reduced), len(steps))
        lanes = [step for step in steps[first:] if step.axis not in self.reduced]
        self.lane = lanes[0].axis if lanes else None
        self.lane_tiled = any(s.axis == self.lane and s.kind in TILES for s in steps[:first])
        maker = LoopMaker(kernel, steps, self.expressions, self.lane)
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
        self.turned = self._turned()
        self.lane_arrays = self._lane_arrays()
        self.kept: dict[int, int] = {}  # a value to keep, and the pass that computes it
        self.pass_values, self.pass_reads = self._plan()

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

    def _turned(self) -> dict[int, Turned]:
        """Loads and stores of rows that the lanes go across."""
        if self.lane is None or self.expressions.parameters.axis in self.reduced:
            return {}
        axes = [a.name for a in self.kernel.axes if a.name in self.reduced and a.extent != 1]
        (lanes,) = self.lane_loops
        found = {}
        for id in range(len(self.kernel.body)):
            turn = turned(self.expressions, id, axes, self.lane, lanes, self.width)
            if turn is not None:
                found[id] = turn
        return found

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
        roots += [i.arg for i in self.reduces.values() if self.search_pass(i) == at]
        stored = [id for id, pass_ in self.effect_pass.items() if pass_ == at]
        return roots + [i for id in stored for i in self.reads(id)]

    def search_pass(self, reduce: Reduce) -> int | None:
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
        size = self.kept_size(id) * self.kernel.value_type(id).dtype.itemsize
        return self.cost(id) >= KEEP_COST and size <= KEEP_BYTES

    def can_be_generic(self) -> bool:
        """Whether no array on the stack has the size of the generic axis."""
        axis = self.expressions.parameters.axis
        bounded = axis != self.lane or self.lane_tiled
        return bounded and not any(axis in self._kept_axes(id) for id in self.kept)

    def _kept_axes(self, id: int) -> list[str]:
        return [a.name for a in self.kernel.axes if a.name in self.varies[id] & self.reduced]

    def kept_size(self, id: int) -> int:
        size = prod(self.kernel.axis(axis).extent for axis in self._kept_axes(id))
        return size * (self.width if self.lane in self.varies[id] else 1)

    def kept_name(self, id: int) -> str:
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

    def lanes_of_rows(self, at: int) -> tuple[int, bool]:
        """How many lanes the rows of a pass are taken in by (0: scalars), and if in registers."""
        takes = [i for i in self.reduces.values() if self.phase[i.arg] == at]
        if self.lane is not None or not takes or not self.inner or not self.inner[-1].pragma:
            return 0, False
        axis = self.inner[-1].axis
        stores = [id for id, pass_ in self.effect_pass.items() if pass_ == at]
        searched = any(self.search_pass(i) == at for i in self.reduces.values())
        if searched or any(axis not in self.varies[id] for id in stores):
            return 0, False
        if any(i.op not in row_lanes.OPS or axis not in i.axes for i in takes):
            return 0, False
        dtypes = {self.kernel.value_type(i.arg).dtype for i in takes}
        (dtype,) = dtypes if len(dtypes) == 1 else (None,)
        if dtype not in (np.float32, np.float64):
            return 0, False
        generic = axis == self.expressions.parameters.axis
        extent = None if generic else self.kernel.axis(axis).extent
        values = self.pass_values[at]
        saves = bool(stores) or at in self.kept.values()
        easy = not saves and all(self._is_dense(id, axis) for id in values)
        arrays = sum(1 if i.op in ("sum", "prod") else 2 for i in takes)
        return row_lanes.lane_count(self.kernel, values, easy, arrays, dtype.itemsize, extent)

    def _is_dense(self, id: int, axis: str) -> bool:
        """Whether a load, if the value is one, takes neighbours, or the same for all positions."""
        load = self.kernel.body[id]
        if not isinstance(load, Load) or axis not in self.varies[id]:
            return True
        return not self.expressions.is_scattered(load.index) and (
            abs(load.index.coefficient(axis)) == 1
        )

    def only_searches(self, at: int) -> bool:
        """Whether a pass need not go over whole rows, which are cut into blocks once."""
        if len(self.inner) != 2:
            return False
        takes = any(self.phase[i.arg] == at for i in self.reduces.values())
        return not (takes or at in self.effect_pass.values() or at in self.kept.values())

    def block_loop(self) -> int | None:
        """The loop over the blocks of a blocked reduction."""
        blocks = [at for at, loop in enumerate(self.inner[:-1]) if loop.kind == "tile"]
        return blocks[0] if blocks else None


def _axes_before_lanes(schedule: Schedule) -> frozenset[str]:
    """Without a reduction, the axis that is passed over in each tile of lanes, if there are any."""
    for tile, inner, lane in zip(
        schedule.steps, schedule.steps[1:], schedule.steps[2:], strict=False
    ):
        in_lanes = lane.kind == "vector" and tile.axis == lane.axis and tile.kind in TILES
        if in_lanes and inner.axis != lane.axis and len(schedule.of(inner.axis)) == 1:
            return frozenset({inner.axis})
    return frozenset()


def all_steps(kernel: Kernel, schedule: Schedule, reduced: frozenset[str]) -> list[Step]:
    """The schedule's records, with a loop for each axis that it does not mention."""
    steps = list(schedule.steps)
    first = next((at for at, step in enumerate(steps) if step.axis in reduced), len(steps))
    missing = [Step(a.name, "loop") for a in kernel.axes if not schedule.of(a.name)]
    outer = [step for step in missing if step.axis not in reduced]
    inner = [step for step in missing if step.axis in reduced]
    return [*outer, *steps[:first], *inner, *steps[first:]]
