"""The groups of a program as they grow: where each value is computed, and who waits for whom."""

from __future__ import annotations

from collections.abc import Iterable

from funcdl.compiler.fusion.by_parts import pieces, shifted, stored_by_parts
from funcdl.compiler.fusion.dependencies import Dependencies
from funcdl.compiler.fusion.groups import Group, GroupKind, Parts, Refusal
from funcdl.compiler.fusion.inlining import Inlined
from funcdl.compiler.fusion.reads import leaf_vars, operand_position, reads_at
from funcdl.core.avals import Shape
from funcdl.core.jaxpr import Atom, Eqn, Jaxpr, Var
from funcdl.core.printer import variable_names
from funcdl.ops.lowering import (
    Contraction,
    Correlation,
    Position,
    Reduction,
    View,
    WindowReduction,
)

# Bounds on a kernel, since compilers take more than linear time for it, and every array that a loop
# reads takes a register for its address and a stream of the prefetchers.
MAX_MEMBERS = 96
MAX_OPERANDS = 32

# Equations that read operands at other places than that of their output.
READS_ELSEWHERE = Contraction | Correlation | WindowReduction


class Grouped:
    """What has been placed so far.

    `home` is the group of each value that is not inlined, and `by_parts` the shape of the pieces of
    each concatenation that is stored piece by piece.

    Args:
        stored: values that need memory whatever the grouping.
    """

    def __init__(self, jaxpr: Jaxpr, stored: set[Var]) -> None:
        self.groups: list[Group] = []
        self.home: dict[Var, Group] = {}
        self.inlined = Inlined(jaxpr)
        self.dependencies = Dependencies()
        self.by_parts: dict[Var, Shape] = stored_by_parts(jaxpr, stored)
        self.names = variable_names(jaxpr)
        for var in (*jaxpr.constvars, *jaxpr.invars):
            self.dependencies.define(var, 0)

    def inline(self, eqn: Eqn) -> None:
        """Let readers compute the results of an equation."""
        sources = self.dependencies.sources(eqn.invars)
        self.inlined.add(eqn)
        for var in eqn.outvars:
            self.dependencies.define(var, sources)

    def open(
        self,
        kind: GroupKind,
        axes: tuple[tuple[str, int], ...] = (),
        shape: Shape = (),
        position: Position = (),
        reasons: list[Refusal] | None = None,
    ) -> Group:
        """A new group, without members."""
        group = Group(len(self.groups), kind, axes, shape, position, why_not=reasons or [])
        self.groups.append(group)
        self.dependencies.open()
        return group

    def join(self, group: Group, eqn: Eqn, position: Position, after: int = 0) -> None:
        """Make an equation a member; `after` are groups, as bits, that must run before it."""
        group.members.append(eqn)
        needed = after | self.dependencies.sources(eqn.invars)
        if group.kind == "host":
            for atom in eqn.invars:
                if isinstance(atom, Var) and atom in self.home:
                    needed |= 1 << self.home[atom].number
        self.dependencies.add(group.number, needed)
        for var in eqn.outvars:
            if var in self.by_parts:
                group.by_parts[var] = Parts(self.by_parts[var], position)
            else:
                group.placement[var] = position
            self.home[var] = group
            # Readers of a value that is both stored and inlined may take either.
            if var not in self.inlined:
                self.dependencies.define(var, 1 << group.number)

    def merge(self, first: Group, second: Group) -> None:
        """Move everything from the earlier group to the later one."""
        second.members = first.members + second.members
        second.placement.update(first.placement)
        second.why_not = first.why_not + second.why_not
        if second.reduce_dims is None:
            second.reduce_dims = first.reduce_dims
        if second.running is None:
            second.running = first.running
        second.by_parts.update(first.by_parts)
        moved = (*first.placement, *first.by_parts)
        self.dependencies.merge(first.number, second.number, moved)
        for var in moved:
            self.home[var] = second
        first.members, first.placement, first.by_parts, first.why_not = [], {}, {}, []
        first.merged_into = second

    def candidates(self, eqn: Eqn) -> list[Group]:
        """Groups that the equation reads from, latest first."""
        found = {
            self.home[var].number: self.home[var]
            for var in leaf_vars(eqn.invars, self.inlined.get)
            if var in self.home and self.home[var].kind in ("loops", "dot", "conv")
        }
        return [found[number] for number in sorted(found, reverse=True)]

    def direct_dependencies(self, group: Group) -> int:
        """The groups that a group reads from, as bits."""
        found = 0
        for eqn in group.members:
            for var in leaf_vars(eqn.invars, self.inlined.get):
                home = self.home.get(var)
                if home is not None and home is not group:
                    found |= 1 << home.number
        return found

    def operand_reads(self, eqn: Eqn, position: Position) -> list[tuple[Atom, Position]]:
        """What an equation reads to compute its result at an index, and at which indices."""
        shape = self.by_parts.get(eqn.outvars[0])
        if shape is not None:
            dimension = eqn.params["dimension"]
            return [
                (piece.operand, shifted(position, dimension, piece.start))
                for piece in pieces(eqn, shape)
            ]
        if isinstance(eqn.primitive.lower, View):
            # The equation itself is the view; ask for its output.
            return [(eqn.outvars[0], position)]
        return [(atom, operand_position(atom, position)) for atom in eqn.invars]

    def member_reads(self, group: Group, eqn: Eqn) -> list[tuple[Atom, Position]]:
        """The operands of a member of a group, at the indices at which it reads them."""
        if isinstance(eqn.primitive.lower, Reduction):
            return [(eqn.invars[0], group.position)]
        if isinstance(eqn.primitive.lower, READS_ELSEWHERE):
            return []
        out = eqn.outvars[0]
        parts = group.by_parts.get(out)
        return self.operand_reads(eqn, group.placement[out] if parts is None else parts.position)

    def refusal(
        self,
        group: Group,
        eqn: Eqn,
        operands: Iterable[tuple[Atom, Position]],
        merging: Group | None = None,
    ) -> str:
        """Why an equation (of a group `merging` with this one) cannot join, or an empty string."""
        if len(group.members) >= MAX_MEMBERS:
            return f"it has {MAX_MEMBERS} members already"

        def expanded(var: Var) -> Eqn | None:
            # A view is asked for its output, which may be stored rather than inlined.
            return eqn if var in eqn.outvars else self.inlined.get(var)

        for atom, position in operands:
            for read in reads_at(atom, position, group.axes, expanded):
                home = self.home.get(read.var)
                if home is not group:
                    continue
                if read.masked or read.index != group.placement.get(read.var):
                    return f"it computes {self.names[read.var]} at another index than is read"
        # Not only what is read: a barrier makes its readers wait for more.
        for var in leaf_vars(eqn.invars, self.inlined.get):
            home = self.home.get(var)
            if home is None or home is group or home is merging:
                continue
            if self.dependencies.depends(home.number, group.number):
                return "another operand comes from a group that depends on it"
        operands_read = {v for e in [*group.members, eqn] for v in e.invars if isinstance(v, Var)}
        if len(operands_read) > MAX_OPERANDS + len(group.members):
            return f"together they read more than {MAX_OPERANDS} arrays"
        return ""

    def explain(self, eqn: Eqn, group: Group, reason: str) -> Refusal:
        """A reason why an equation did not join a group, as text for people."""
        return Refusal(f"{eqn.primitive.name} ({self.names[eqn.outvars[0]]})", group, reason)
