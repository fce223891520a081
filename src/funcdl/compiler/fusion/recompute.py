"""Recompute cheap values where they are read, instead of storing them.

What a training step computes forwards and needs again backwards costs memory traffic twice: a store
and a load. Elementwise values that one group leaves for others are therefore computed again by
their readers, from as few stored bytes as possible: the smallest cut between what is in memory
and what is read, found as a maximum flow (Chen et al. 2016 recompute by layers; this is the same
idea for single values). GELU, for one, keeps its argument instead of nine intermediate results.

Rejected: choosing what to save when the program is differentiated, before it is known what will be
fused; and rules that count operations only, which store two values where one would do.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from funcdl.compiler.fusion.groups import Group
from funcdl.compiler.fusion.reads import Read, leaf_vars, operand_position, reads_at
from funcdl.compiler.prices import ADDITIONS_PER_BYTE
from funcdl.core.jaxpr import Atom, Eqn, Var
from funcdl.ops.lowering import Accumulation, Pointwise, Position, Reduction

# As `grouped.MAX_MEMBERS`, with room for what is computed again.
MAX_MEMBERS = 128

Node = tuple[Var | None, str]

_SOURCE: Node = (None, "source")
_SINK: Node = (None, "sink")
_ENDLESS = float("inf")

Reads = Callable[[Group, Eqn], list[tuple[Atom, Position]]]


@dataclass(slots=True)
class _Use:
    """How the groups read a value of another group: where each reads it, if at one place only."""

    places: dict[int, Position | None] = field(default_factory=dict)

    def add(self, group: Group, place: Position | None) -> None:
        known = self.places.setdefault(group.number, place)
        if known != place:
            self.places[group.number] = None

    @property
    def anywhere(self) -> bool:
        """Whether every reader could compute the value itself."""
        return None not in self.places.values()


class Recomputer:
    """Moves elementwise values from the groups that make them to those that read them."""

    def __init__(
        self,
        groups: Sequence[Group],
        home: dict[Var, Group],
        inlined: dict[Var, Eqn],
        outputs: set[Var],
        member_reads: Reads,
    ) -> None:
        self._groups = {group.number: group for group in groups if group.members}
        self._home = home
        self._inlined = inlined
        self._outputs = outputs
        self._member_reads = member_reads
        # In the order of the program, so that equal programs become equal kernels.
        eqns = [*inlined.values(), *(e for g in self._groups.values() for e in g.members)]
        operands = (a for eqn in eqns for a in eqn.invars if isinstance(a, Var))
        self._rank = {var: number for number, var in enumerate(dict.fromkeys(operands))}
        self._producer = {v: e for g in self._groups.values() for e in g.members for v in e.outvars}
        self._uses: dict[Var, _Use] = defaultdict(_Use)

    def run(self) -> None:
        """Add clones of equations to the groups that read their results."""
        for group in self._groups.values():
            for var, place in self._foreign_reads(group):
                self._uses[var].add(group, place)
        left: dict[int, list[Var]] = defaultdict(list)
        for var in self._uses:
            if self._home[var].kind not in ("host", "update"):
                left[self._home[var].number].append(var)
        for variables in left.values():
            by_size: dict[int, list[Var]] = defaultdict(list)
            for var in variables:
                if self._can_move(var):
                    by_size[var.aval.size].append(var)
            for wanted in by_size.values():
                self._improve(wanted)

    def _foreign_reads(self, group: Group) -> Iterator[tuple[Var, Position | None]]:
        """Values of other groups that a group reads, and where, if it could compute them there."""
        for eqn in group.members:
            foreign = {v for v in leaf_vars(eqn.invars, self._inlined.get) if v in self._home}
            foreign = {v for v in foreign if self._home[v] is not group}
            if not foreign:
                continue
            form = eqn.primitive.lower
            if group.kind in ("host", "update") or not isinstance(
                form, Pointwise | Reduction | Accumulation
            ):
                yield from ((var, None) for var in foreign)
                continue
            for atom, position in self._member_reads(group, eqn):
                for read in reads_at(atom, position, group.axes, self._inlined.get):
                    if read.var in foreign:
                        yield read.var, _place(read)

    def _can_move(self, var: Var) -> bool:
        """Whether a stored value need not be stored: its readers could compute it."""
        eqn = self._producer.get(var)
        return (
            eqn is not None
            and var.aval.size > 1
            and var not in self._outputs
            and isinstance(eqn.primitive.lower, Pointwise)
            and len(eqn.outvars) == 1
            and self._uses[var].anywhere
        )

    def _improve(self, wanted: Sequence[Var]) -> None:
        """Replace stored values by a smaller cut, if that costs less."""
        graph = _Graph()
        seen: set[Var] = set()
        pending = list(wanted)
        for var in wanted:
            graph.add(_out(var), _SINK, _ENDLESS)
        while pending:
            var = pending.pop()
            if var in seen:
                continue
            seen.add(var)
            graph.add(_in(var), _out(var), self._price(var, wanted))
            operands = self._operands(var, wanted[0])
            if operands is None:
                graph.add(_SOURCE, _in(var), _ENDLESS)
                continue
            for operand in operands:
                graph.add(_out(operand), _in(var), _ENDLESS)
                pending.append(operand)
        cut = {var for var in graph.smallest_cut() if var in seen}
        moved = [var for var in wanted if var not in cut]
        if moved:
            self._move(moved, cut)

    def _operands(self, var: Var, like: Var) -> list[Var] | None:
        """What a value is computed from, or None if it cannot be computed again."""
        eqn = self._producer.get(var)
        if (
            eqn is None
            or var.aval.shape != like.aval.shape
            or not self._computes(self._home[like], var)
            or not isinstance(eqn.primitive.lower, Pointwise)
            or len(eqn.outvars) != 1
        ):
            return None
        return sorted(leaf_vars(eqn.invars, self._inlined.get), key=self._rank.__getitem__)

    def _computes(self, group: Group, var: Var) -> bool:
        """Whether a value is a member's, be it a clone of another group's."""
        return self._home[var] is group or var in group.recomputed

    def _price(self, var: Var, wanted: Sequence[Var]) -> float:
        """Bytes moved when a value is read by others: its load, and its store if that is new."""
        return var.aval.nbytes * (1 if self._is_stored(var, wanted) else 2) + 1

    def _is_stored(self, var: Var, wanted: Iterable[Var]) -> bool:
        home = self._home.get(var)
        if home is None or var in self._outputs:
            return True
        return var in self._uses and var not in set(wanted)

    def _move(self, moved: Sequence[Var], cut: set[Var]) -> None:
        """Let readers compute `moved` from `cut`, if that costs less than to store and load."""
        plans: list[tuple[Group, list[Eqn], set[Var], Position]] = []
        traffic = sum(var.aval.nbytes * (1 + len(self._uses[var].places)) for var in moved)
        before = traffic + self._price_of_nothing_else(moved)
        after, reads = 0.0, set[Var]()
        readers = sorted({number for var in moved for number in self._uses[var].places})
        for number in readers:
            group = self._groups[number]
            needed = [var for var in moved if number in self._uses[var].places]
            places = {self._uses[var].places[number] for var in needed}
            clones, loads = self._closure(needed, cut)
            if len(places) != 1 or len(group.members) + len(clones) > MAX_MEMBERS:
                return
            (place,) = places
            assert place is not None
            if any(group.placement.get(eqn.outvars[0], place) != place for eqn in clones):
                return  # a group computes a value at one place only
            for eqn in clones:
                assert isinstance(eqn.primitive.lower, Pointwise)
                after += eqn.primitive.lower.cost() * needed[0].aval.size / ADDITIONS_PER_BYTE
            known = {v for v in loads if v in self._uses and number in self._uses[v].places}
            after += sum(var.aval.nbytes for var in loads - known)
            reads |= loads
            plans.append((group, clones, loads, place))
        after += sum(v.aval.nbytes for v in reads if not self._is_stored(v, moved))
        if after >= before:
            return
        for group, clones, loads, place in plans:
            self._add(group, clones, loads, place)
        for var in moved:
            del self._uses[var]

    def _price_of_nothing_else(self, moved: Sequence[Var]) -> float:
        """What the group of these values loads and computes, if it is for nothing else."""
        group = self._home[moved[0]]
        made = {var for eqn in group.members for var in eqn.outvars}
        if any(v in self._outputs or (v in self._uses and v not in moved) for v in made):
            return 0.0
        loads = set[Var]().union(*(leaf_vars(e.invars, self._inlined.get) for e in group.members))
        price = sum(var.aval.nbytes for var in loads - made if var.aval.size > 1)
        forms = [(eqn.primitive.lower, eqn.outvars[0].aval.size) for eqn in group.members]
        work = sum(form.cost() * size for form, size in forms if isinstance(form, Pointwise))
        return price + work / ADDITIONS_PER_BYTE

    def _closure(self, needed: Sequence[Var], cut: set[Var]) -> tuple[list[Eqn], set[Var]]:
        """The equations that compute values from the cut, in order, and what they load."""
        clones: dict[Var, Eqn] = {}
        loads: set[Var] = set()
        pending = [(var, False) for var in needed]
        done: set[Var] = set()
        while pending:
            var, ready = pending.pop()
            if ready:
                clones.setdefault(var, self._producer[var])
                continue
            if var in done:
                continue
            done.add(var)
            operands = None if var in cut else self._operands(var, needed[0])
            if operands is None:
                loads.add(var)
                continue
            pending.append((var, True))
            pending += [(operand, False) for operand in operands]
        return list(clones.values()), loads

    def _add(self, group: Group, clones: Sequence[Eqn], loads: set[Var], place: Position) -> None:
        # A product comes first: what follows it is computed for a tile of its results.
        start = 1 if group.kind in ("dot", "conv") else 0
        fresh = [eqn for eqn in clones if eqn.outvars[0] not in group.placement]
        end = start + len(group.recomputed)
        group.members[start:end] = self._in_order([*fresh, *group.members[start:end]])
        group.recomputed += [eqn.outvars[0] for eqn in fresh]
        for eqn in fresh:
            group.placement[eqn.outvars[0]] = place
            for atom in eqn.invars:
                index = operand_position(atom, place)
                for read in reads_at(atom, index, group.axes, self._inlined.get):
                    if read.var in loads and read.var in self._home:
                        self._uses[read.var].add(group, _place(read))

    def _in_order(self, clones: Sequence[Eqn]) -> list[Eqn]:
        """The equations with those first whose results others read: either may have come before."""
        makers = {eqn.outvars[0]: eqn for eqn in clones}
        ordered: dict[Var, Eqn] = {}
        pending = [(var, False) for var in reversed(makers)]
        while pending:
            var, ready = pending.pop()
            if ready:
                ordered.setdefault(var, makers[var])
            elif var not in ordered:
                operands = leaf_vars(makers[var].invars, self._inlined.get)
                ranked = sorted(operands & makers.keys(), key=self._rank.__getitem__)
                pending.append((var, True))
                pending += [(operand, False) for operand in ranked if operand not in ordered]
        return list(ordered.values())


def _place(read: Read) -> Position | None:
    """Where a value is read, if that place is known without looking into memory."""
    if read.masked or any(index.values() for index in read.index):
        return None
    return read.index


def drop_dead_members(group: Group, inlined: dict[Var, Eqn]) -> None:
    """Leave out what neither an output nor an effect of a group needs any more."""
    live = set(group.outputs)
    kept = []
    for eqn in reversed(group.members):
        if live.intersection(eqn.outvars):
            kept.append(eqn)
            live |= leaf_vars(eqn.invars, inlined.get)
    group.members[:] = reversed(kept)


class _Graph:
    """A flow network; nodes are the two sides of each value, a source and a sink."""

    def __init__(self) -> None:
        self._left: dict[Node, dict[Node, float]] = defaultdict(dict)

    def add(self, start: Node, end: Node, capacity: float) -> None:
        self._left[start][end] = capacity
        self._left[end].setdefault(start, 0.0)

    def smallest_cut(self) -> Iterator[Var]:
        """The values whose two sides the cut separates, as near to the sink as there are several.

        Edmonds and Karp 1972: shortest augmenting paths.
        """
        while (path := self._path()) is not None:
            flow = min(self._left[a][b] for a, b in path)
            for a, b in path:
                self._left[a][b] -= flow
                self._left[b][a] += flow
        reaches = {_SINK}
        pending = [_SINK]
        while pending:
            node = pending.pop()
            for other in self._left[node]:
                if other not in reaches and self._left[other][node] > 0:
                    reaches.add(other)
                    pending.append(other)
        for var, side in list(self._left):
            if var is None or side == "out" or (var, side) in reaches:
                continue
            if _out(var) in reaches:
                yield var

    def _path(self) -> list[tuple[Node, Node]] | None:
        """The edges of a shortest way from the source to the sink, the last one first."""
        came: dict[Node, Node] = {}
        pending = deque([_SOURCE])
        while pending and _SINK not in came:
            node = pending.popleft()
            for other, capacity in self._left[node].items():
                if capacity > 0 and other not in came and other != _SOURCE:
                    came[other] = node
                    pending.append(other)
        if _SINK not in came:
            return None
        path = [(came[_SINK], _SINK)]
        while path[-1][0] != _SOURCE:
            path.append((came[path[-1][0]], path[-1][0]))
        return path


def _in(var: Var) -> Node:
    return var, "in"


def _out(var: Var) -> Node:
    return var, "out"
