"""From schedule records to C loops, and where a kernel's values and effects stand in them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import groupby

from funcdl.kernels.cpu_c.expressions import Expressions
from funcdl.kernels.cpu_c.text import POSITION, Writer
from funcdl.kir.ir import AtomicUpdate, Kernel, Store, operands
from funcdl.kir.schedule import Kind, Step

PARALLEL = "#pragma omp parallel for num_threads(fd_num_threads) schedule(static)"


@dataclass(frozen=True)
class Loop:
    """``for (variable = begin; variable < end; variable += step)``, or from the last to the first.

    `first`: lines that stand first in the body. `whole`: the variable is the position along the
    axis, not the first of a tile. `joined`: collapsed with the next loop, so that no code can stand
    between the two. `before` and `after` are lines around the loop.
    """

    axis: str
    kind: Kind
    variable: str
    begin: str
    end: str
    step: int | str = 1
    pragma: str = ""
    first: tuple[str, ...] = ()
    whole: bool = True
    joined: bool = False
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    reverse: bool = False


@dataclass(frozen=True)
class Action:
    """Statements for each point of `axes`.

    `once`: in loops of other axes around it, only their first iteration runs it. `late`: it comes
    after the loops inside its own, which may still read what it overwrites.
    """

    lines: Callable[[], Iterable[str]]
    axes: Collection[str] = ()
    once: bool = False
    late: bool = False


@dataclass
class _Range:
    """What is left of an axis at some depth: C text, and at most how many positions."""

    begin: str
    end: str
    width: int
    tiles: int = 0


class LoopMaker:
    """Turns schedule records, given from the outside in, into loops.

    `lane` is an axis whose tiles have arrays: if it is the generic one, there is a loop over tiles
    even where there is one tile.
    """

    def __init__(
        self,
        kernel: Kernel,
        steps: Sequence[Step],
        expressions: Expressions,
        lane: str | None = None,
    ) -> None:
        self._lane = lane
        self._expressions = expressions
        self._ranges = {
            a.name: _Range("0", expressions.extent(a.name), a.extent) for a in kernel.axes
        }
        self._extents = {a.name: a.extent for a in kernel.axes}
        self._later = list(steps)

    def origin(self, axis: str) -> str:
        """The first position of the tile of `axis` that the loops so far are in."""
        return self._ranges[axis].begin

    def width(self, axis: str) -> int:
        """At most how many positions of `axis` the loops so far leave."""
        return self._ranges[axis].width

    def loops(self, steps: Sequence[Step]) -> list[Loop]:
        """The loops of the next `steps` of the schedule."""
        made: list[Loop] = []
        for step in steps:
            self._later.remove(step)
            loop = self._loop(step)
            if loop is not None:
                made.append(loop)
        return _parallel(made)

    def _loop(self, step: Step) -> Loop | None:
        left = self._ranges[step.axis]
        position = self._expressions.axis_name(step.axis)
        more = any(later.axis == step.axis for later in self._later)
        done = self._extents[step.axis] == 1 or left.begin == position
        is_generic = step.axis == self._expressions.parameters.axis
        if done or (
            more and step.size >= left.width and not (is_generic and step.axis == self._lane)
        ):
            return None
        if (step.size == 1 and step.kind != "vector") or not more:
            pragma = "#pragma omp simd" if step.kind == "vector" else ""
            self._ranges[step.axis] = _Range(position, f"{position} + 1", 1)
            return Loop(step.axis, step.kind, position, left.begin, left.end, pragma=pragma)
        variable = f"{position}_tile{left.tiles or ''}"
        size: int | str = step.size
        if is_generic and step.kind == "parallel":
            size = self._expressions.chunk(step.axis, step.size)
        end = f"{variable} + {size}"
        first: tuple[str, ...] = ()
        if is_generic or left.width % step.size or left.tiles:
            name = f"{position}_end{left.tiles or ''}"
            first = (f"const {POSITION} {name} = {end} < {left.end} ? {end} : {left.end};",)
            end = name
        self._ranges[step.axis] = _Range(variable, end, step.size, left.tiles + 1)
        return Loop(
            step.axis,
            step.kind,
            variable,
            left.begin,
            left.end,
            size,
            first=first,
            whole=False,
        )


def share(loops: Sequence[Loop], pragma: str) -> list[Loop]:
    """The loops as one iteration space, which threads share by `pragma`."""
    if not loops:
        return []
    collapse = f" collapse({len(loops)})" if len(loops) > 1 else ""
    # The ends of tiles cannot stand between collapsed loops: the last one computes them.
    first = tuple(line for loop in loops for line in loop.first)
    joined = [replace(loop, joined=True, first=()) for loop in loops]
    joined[0] = replace(joined[0], pragma=pragma + collapse)
    joined[-1] = replace(joined[-1], joined=False, first=first)
    return joined


def _parallel(loops: list[Loop]) -> list[Loop]:
    """Share each group of neighbouring parallel loops."""
    made: list[Loop] = []
    for is_parallel, group in groupby(loops, lambda loop: loop.kind == "parallel"):
        members = list(group)
        made += share(members, PARALLEL) if is_parallel else members
    return made


class Nest:
    """Writes nests of loops, each value in the outermost loop body where it is known."""

    def __init__(self, kernel: Kernel, writer: Writer, expressions: Expressions) -> None:
        self.kernel = kernel
        self.writer = writer
        self.expressions = expressions
        self.enclosing: list[Loop] = []

    @contextmanager
    def part(self, kernel: Kernel) -> Iterator[None]:
        """Write what the kernel is in some part of its loops (see parted.py)."""
        whole = self.kernel
        self.kernel = self.expressions.kernel = kernel
        yield
        self.kernel = self.expressions.kernel = whole

    def needed(self, roots: Iterable[int]) -> list[int]:
        """Values to compute for `roots`, operands first, leaving out what is bound already."""
        found: set[int] = set()
        pending = list(roots)
        while pending:
            id = pending.pop()
            if id not in found and not self.expressions.is_bound(id):
                found.add(id)
                if id not in self.expressions.elements:
                    pending.extend(operands(self.kernel.body[id]))
        return sorted(found)

    def write(
        self,
        loops: Sequence[Loop],
        values: Iterable[int] = (),
        actions: Iterable[Action] = (),
        inside: Callable[[], None] | None = None,
        keep: Callable[[int], Iterable[str]] = lambda id: (),
    ) -> None:
        """Write `loops` with `values` defined and `actions` done in them.

        Args:
            values: ids in ascending order; their definitions are known only inside the nest.
            inside: called in the innermost body, after the actions that stand there.
            keep: statements that follow the definition of a value.
        """
        depths = {loop.axis: at + 1 for at, loop in enumerate(loops) if loop.whole}

        def place(axes: Iterable[str]) -> int:
            depth = max((depths[axis] for axis in axes if axis in depths), default=0)
            while 0 < depth <= len(loops) and loops[depth - 1].joined:
                depth += 1
            return depth

        values_at: list[list[int]] = [[] for _ in range(len(loops) + 1)]
        actions_at: list[list[Action]] = [[] for _ in range(len(loops) + 1)]
        for id in values:
            values_at[place(self.kernel.value_type(id).axes)].append(id)
        for action in actions:
            actions_at[place(action.axes)].append(action)

        def level(depth: int) -> None:
            for id in values_at[depth]:
                self.writer.line(self.expressions.define(id))
                for line in (*self.expressions.invert(id), *keep(id)):
                    self.writer.line(line)
            for action in actions_at[depth]:
                if not action.late:
                    self.act(action)
            if depth < len(loops):
                with self._open(loops[depth]):
                    level(depth + 1)
            elif inside is not None:
                inside()
            for action in actions_at[depth]:
                if action.late:
                    self.act(action)

        with self.expressions.scope():
            level(0)

    def _open(self, loop: Loop) -> ExitStack:
        """The body of `loop` as a context."""
        stack = ExitStack()
        for line in loop.before:
            self.writer.line(line)
        if loop.pragma:
            self.writer.line(loop.pragma)

        def close() -> None:
            self.enclosing.pop()
            for line in loop.after:
                self.writer.line(line)

        self.enclosing.append(loop)
        stack.callback(close)
        stack.enter_context(self.writer.block(self.head(loop)))
        for line in loop.first:
            self.writer.line(line)
        return stack

    def head(self, loop: Loop) -> str:
        """The `for` of a loop."""
        name = loop.variable
        if loop.reverse:
            begin = loop.begin
            last = f"{loop.end} - 1"
            if loop.step != 1:
                steps = f"({last})" if begin == "0" else f"({last} - {begin})"
                last = f"{steps} / {loop.step} * {loop.step}"
                last = last if begin == "0" else f"{begin} + {last}"
            retreat = f"--{name}" if loop.step == 1 else f"{name} -= {loop.step}"
            return f"for ({POSITION} {name} = {last}; {name} >= {begin}; {retreat})"
        advance = f"++{name}" if loop.step == 1 else f"{name} += {loop.step}"
        return f"for ({POSITION} {name} = {loop.begin}; {name} < {loop.end}; {advance})"

    def act(self, action: Action) -> None:
        """The statements, in the first iteration only of loops that they do not depend on."""
        tests = [
            f"{loop.variable} == 0"
            for loop in self.enclosing
            if action.once and loop.axis not in action.axes
        ]
        if tests:
            with self.writer.block(f"if ({' && '.join(tests)})"):
                for line in action.lines():
                    self.writer.line(line)
        else:
            for line in action.lines():
                self.writer.line(line)

    def effect(self, effect: Store | AtomicUpdate) -> Action:
        """The action of a store or an update."""
        axes: set[str] = set(effect.index.axes())
        for id in operands(effect):
            axes.update(self.kernel.value_type(id).axes)
        buffer = self.kernel.buffer(effect.buffer)
        late = buffer.may_alias or buffer.role == "inout"
        return Action(lambda: [self.expressions.effect(effect)], axes, once=True, late=late)
