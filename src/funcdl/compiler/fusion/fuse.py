"""The pass `fuse`: equations to fusion groups.

One forward walk places each equation in a group of one of its producers, latest first, or opens a
new group. Views (reshape, slice, gather, …) and cheap values of inputs are never placed: they are
computed wherever they are read. Joining is legal when

* the group computes every value that the equation reads from it at the very index that the
  equation needs (so nothing is computed twice and nothing waits for another tile),
* no other operand depends on the group (no cycle), and
* the kinds fit: a group reduces over one set of axes, and a dot's group has no reduction.

Every refusal is kept as text, beside the groups, for people and for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from funcdl.compiler.fusion.by_parts import pieces, shifted, stored_by_parts
from funcdl.compiler.fusion.dependencies import Dependencies, bits
from funcdl.compiler.fusion.groups import (
    Group,
    GroupKind,
    Parts,
    Refusal,
    buffer_names,
    domain_axes,
)
from funcdl.compiler.fusion.reads import leaf_vars, operand_position, reads_at
from funcdl.compiler.fusion.recompute import Recomputer, drop_dead_members
from funcdl.core.avals import Shape
from funcdl.core.effects import Effect, eqn_effect
from funcdl.core.jaxpr import Atom, Eqn, Jaxpr, Literal, Var
from funcdl.core.printer import Names, variable_names
from funcdl.core.records import record
from funcdl.kir import index as kindex
from funcdl.ops.convolution import convolution_of
from funcdl.ops.dot import dot_dimensions, product_dtype
from funcdl.ops.lowering import (
    Accumulation,
    Contraction,
    Correlation,
    Ordering,
    Pointwise,
    Position,
    Reduction,
    Update,
    View,
    WindowReduction,
    reason_for_host,
)
from funcdl.ops.shape import position_in
from funcdl.ops.window_lowering import convolution_loops

MAX_MEMBERS = 96
MAX_OPERANDS = 32
CLONE_COST = 6

# A value that is computed where it is read may go back through so many equations, and to so many
# stored values; beyond, it is stored itself. Without a bound, programs such as repeated rolls
# (slice, slice, concatenate) would grow exponentially.
INLINE_DEPTH = 24
INLINE_READS = 16

# Equations that read operands at other places than that of their output.
_READS_ELSEWHERE = Contraction | Correlation | WindowReduction


@record
class Grouping:
    """The groups in the order in which they run, and the equations inlined into their readers."""

    jaxpr: Jaxpr
    groups: list[Group]
    inlined: dict[Var, Eqn]
    names: Names
    buffer_names: dict[Var, str]


def fuse(jaxpr: Jaxpr) -> Grouping:
    """Group the equations of a simplified program."""
    return _Fuser(jaxpr).run()


class _Fuser:
    def __init__(self, jaxpr: Jaxpr) -> None:
        self._jaxpr = jaxpr
        self._groups: list[Group] = []
        self._home: dict[Var, Group] = {}
        self._inlined: dict[Var, Eqn] = {}
        self._dependencies = Dependencies()
        self._clone_cost: dict[Var, int] = {}
        self._expansion: dict[Var, tuple[int, int]] = {}  # depth and reads of an inlined value
        self._last_ordered = 0  # the last group with an ordered effect, as a bit
        self._by_parts: dict[Var, Shape] = {}
        self._outputs = {atom for atom in jaxpr.outvars if isinstance(atom, Var)}
        self._names = variable_names(jaxpr)

    def run(self) -> Grouping:
        for var in (*self._jaxpr.constvars, *self._jaxpr.invars):
            self._dependencies.define(var, 0)
            self._clone_cost[var] = 0
        stored = self._must_store()
        self._by_parts = stored_by_parts(self._jaxpr, stored)
        for eqn in self._jaxpr.eqns:
            self._place(eqn, stored)
        self._merge_groups()
        Recomputer(self._groups, self._home, self._inlined, self._outputs, self._member_reads).run()
        for group in self._groups:
            self._find_outputs(group)
        for group in self._groups:
            # In the order of the members: equal programs are to become equal texts.
            made = [var for eqn in group.members for var in eqn.outvars]
            group.outputs.sort(key=made.index)
            if group.kind in ("loops", "dot", "conv"):
                drop_dead_members(group, self._inlined)
        return Grouping(
            self._jaxpr,
            self._ordered(),
            self._inlined,
            self._names,
            buffer_names(self._jaxpr, self._names),
        )

    def _must_store(self) -> set[Var]:
        """Variables that need memory whatever the grouping: outputs, and operands of the host."""
        stored = set(self._outputs)
        for eqn in self._jaxpr.eqns:
            if not _runs_in_kernel(eqn):
                stored.update(atom for atom in eqn.invars if isinstance(atom, Var))
        return stored

    def _place(self, eqn: Eqn, stored: set[Var]) -> None:
        if not _runs_in_kernel(eqn):
            group = self._open("host")
            if eqn_effect(eqn) is Effect.ORDERED:
                self._join(group, eqn, (), self._last_ordered)
                self._last_ordered = 1 << group.number
            else:
                self._join(group, eqn, ())
            return
        must = any(var in stored for var in eqn.outvars)
        match eqn.primitive.lower:
            case View() if eqn.outvars[0] in self._by_parts:
                self._place_by_parts(eqn)
            case View():
                if self._is_short(eqn):
                    self._inline(eqn)
                if must or eqn.outvars[0] not in self._inlined:
                    self._place_pointwise(eqn)
            case Pointwise():
                if self._is_short(eqn) and self._can_clone(eqn):
                    self._inline(eqn)
                if must or not all(var in self._inlined for var in eqn.outvars):
                    self._place_pointwise(eqn)
            case Reduction():
                self._place_reduction(eqn)
            case Accumulation():
                self._place_accumulation(eqn)
            case Ordering():
                self._place_ordering(eqn)
            case Contraction():
                self._place_dot(eqn)
            case Correlation():
                self._place_conv(eqn)
            case WindowReduction() as form:
                self._place_windows(eqn, form)
            case Update():
                shape = eqn.invars[2].aval.shape
                axes, position = domain_axes(shape)
                group = self._open("update", axes, shape, position)
                self._join(group, eqn, domain_axes(eqn.outvars[0].aval.shape)[1])

    def _is_short(self, eqn: Eqn) -> bool:
        """Whether an equation, with what is inlined into it, is small enough to be inlined."""
        depth, reads = self._expanded(eqn)
        return depth <= INLINE_DEPTH and reads <= INLINE_READS

    def _expanded(self, eqn: Eqn) -> tuple[int, int]:
        """How many equations deep, and from how many stored values, an equation is computed."""
        operands = [self._expansion.get(a, (0, 1)) for a in eqn.invars if isinstance(a, Var)]
        depth = max((depth for depth, _ in operands), default=0)
        return depth + 1, sum(reads for _, reads in operands)

    def _can_clone(self, eqn: Eqn) -> bool:
        """Whether readers may compute a value themselves: scalars, and cheap values of inputs."""
        if any(var.aval.size <= 1 for var in eqn.outvars):
            return True
        assert isinstance(eqn.primitive.lower, Pointwise)
        cost = eqn.primitive.lower.cost()
        reads = 0
        for atom in set(eqn.invars):
            if isinstance(atom, Literal):
                continue
            inner = self._clone_cost.get(atom)
            if inner is None:
                return False
            cost += inner
        for var in leaf_vars(eqn.invars, self._eqn_of_inlined):
            reads += var.aval.size > 1
        if cost > CLONE_COST or reads > 1:
            return False
        for var in eqn.outvars:
            self._clone_cost[var] = cost
        return True

    def _inline(self, eqn: Eqn) -> None:
        sources = self._dependencies.sources(eqn.invars)
        costs = [self._clone_cost.get(a) for a in eqn.invars if isinstance(a, Var)]
        expansion = self._expanded(eqn)
        for var in eqn.outvars:
            self._inlined[var] = eqn
            self._expansion[var] = expansion
            self._dependencies.define(var, sources)
            if var not in self._clone_cost and None not in costs:
                self._clone_cost[var] = sum(cost or 0 for cost in costs)

    def _place_pointwise(self, eqn: Eqn) -> None:
        self._place_at(eqn, eqn.outvars[0].aval.shape, self._candidates(eqn))

    def _place_by_parts(self, eqn: Eqn) -> None:
        """In loops that compute parts of a concatenation, to store each at its place."""
        groups = [group for group in self._candidates(eqn) if group.kind == "loops"]
        self._place_at(eqn, self._by_parts[eqn.outvars[0]], groups)

    def _place_at(self, eqn: Eqn, shape: Shape, groups: Sequence[Group]) -> None:
        """In a group that computes elements of arrays of this shape, or in one of its own."""
        reasons: list[Refusal] = []
        for group in groups:
            reason = f"its loops do not fit shape {shape}"
            for position in group.placements(shape):
                reason = self._refusal(group, eqn, self._operand_reads(eqn, position))
                if not reason:
                    group.why_not += reasons
                    self._join(group, eqn, position)
                    return
            reasons.append(self._explain(eqn, group, reason))
        axes, position = domain_axes(shape)
        self._join(self._open("loops", axes, shape, position, reasons), eqn, position)

    def _place_reduction(self, eqn: Eqn) -> None:
        shape, dims = eqn.invars[0].aval.shape, tuple(sorted(eqn.params["axes"]))

        def misfit(group: Group) -> str:
            if group.kind in ("dot", "conv"):
                return "a reduction needs whole rows, and a dot computes tiles"
            if group.shape != shape:
                return f"it runs over {group.shape}, the reduction over {shape}"
            if group.running is not None:
                return "it accumulates or sorts, and a reduction passes over rows by itself"
            if group.reduce_dims not in (None, dims):
                return f"it reduces dimensions {group.reduce_dims}, this one reduces {dims}"
            return ""

        group = self._choose(eqn, misfit)
        group.reduce_dims = dims
        self._join(group, eqn, group.reduced_position)

    def _place_accumulation(self, eqn: Eqn) -> None:
        shape = eqn.invars[0].aval.shape
        way = (eqn.params["axis"], "backwards" if eqn.params["reverse"] else "forwards")

        def misfit(group: Group) -> str:
            if group.kind != "loops" or group.reduce_dims is not None:
                return "an accumulation joins elementwise loops only"
            if group.shape != shape:
                return f"it runs over {group.shape}, the accumulation over {shape}"
            if group.running is not None and group.running != way:
                return f"it goes along dimension {group.running[0]} {group.running[1]}"
            return ""

        group = self._choose(eqn, misfit)
        group.running = way
        self._join(group, eqn, group.position)

    def _choose(self, eqn: Eqn, misfit: Callable[[Group], str]) -> Group:
        """The group whose loops pass over the operand: one that it is computed in, or a new one."""
        (operand,) = eqn.invars
        reasons: list[Refusal] = []
        for group in self._candidates(eqn):
            reason = misfit(group) or self._refusal(group, eqn, [(operand, group.position)])
            if not reason:
                group.why_not += reasons
                return group
            reasons.append(self._explain(eqn, group, reason))
        axes, position = domain_axes(operand.aval.shape)
        return self._open("loops", axes, operand.aval.shape, position, reasons)

    def _place_ordering(self, eqn: Eqn) -> None:
        """In a group of its own: what is put in order is read from memory by the positions."""
        shape = eqn.invars[0].aval.shape
        axes, position = domain_axes(shape)
        reasons = self._explanations(eqn, "what is put in order is read at computed positions")
        group = self._open("loops", axes, shape, position, reasons)
        group.running = (eqn.params["dimension"], "order")
        self._join(group, eqn, position)

    def _place_dot(self, eqn: Eqn) -> None:
        reasons = self._explanations(eqn, "a dot starts its own tiles")
        lhs, rhs = (atom.aval for atom in eqn.invars)
        dims = dot_dimensions(lhs.shape, rhs.shape, eqn.params["dimension_numbers"])
        sizes = [*zip(_batch_names(dims.batch_sizes), dims.batch_sizes, strict=True)]
        for name, extents in (("m", dims.m_sizes), ("n", dims.n_sizes), ("k", dims.k_sizes)):
            sizes.append((name, _product(extents)))
        axes = tuple(sizes)
        *batch, m, n, k = (kindex.axis(name, extent) for name, extent in axes)
        position = (*batch, *position_in(m, dims.m_sizes), *position_in(n, dims.n_sizes))
        if contraction_dtype(eqn).kind in "fiu":
            group = self._open("dot", axes, dims.out_shape, position, reasons)
        else:
            # Complex products are plain loops that multiply and sum.
            shape = (*dims.batch_sizes, *(extent for _, extent in axes[-3:]))
            group = self._open("loops", axes, shape, (*batch, m, n, k), reasons)
            group.reduce_dims = (len(shape) - 1,)
        self._join(group, eqn, position)

    def _place_conv(self, eqn: Eqn) -> None:
        lhs, rhs = (atom.aval for atom in eqn.invars)
        batch_groups = eqn.params["batch_group_count"] > 1
        loops = convolution_loops(convolution_of(lhs, rhs, eqn.params), batch_groups)
        shape = eqn.outvars[0].aval.shape
        reasons = self._explanations(eqn, "a convolution starts its own tiles")
        group = self._open("conv", loops.axes, shape, loops.position, reasons)
        self._join(group, eqn, loops.position)

    def _place_windows(self, eqn: Eqn, form: WindowReduction) -> None:
        out = eqn.outvars[0].aval.shape
        shape = (*out, *form.window([atom.aval for atom in eqn.invars], eqn.params))
        axes, position = domain_axes(shape)
        reasons = self._explanations(eqn, "each of its elements is read by several windows")
        group = self._open("loops", axes, shape, position, reasons)
        group.reduce_dims = tuple(range(len(out), len(shape)))
        self._join(group, eqn, group.reduced_position)

    def _explanations(self, eqn: Eqn, reason: str) -> list[Refusal]:
        return [self._explain(eqn, group, reason) for group in self._candidates(eqn)]

    def _candidates(self, eqn: Eqn) -> list[Group]:
        """Groups that the equation reads from, latest first."""
        found = {
            self._home[var].number: self._home[var]
            for var in leaf_vars(eqn.invars, self._eqn_of_inlined)
            if var in self._home and self._home[var].kind in ("loops", "dot", "conv")
        }
        return [found[number] for number in sorted(found, reverse=True)]

    def _operand_reads(self, eqn: Eqn, position: Position) -> list[tuple[Atom, Position]]:
        shape = self._by_parts.get(eqn.outvars[0])
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

    def _refusal(
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
            return eqn if var in eqn.outvars else self._inlined.get(var)

        for atom, position in operands:
            for read in reads_at(atom, position, group.axes, expanded):
                home = self._home.get(read.var)
                if home is not group:
                    continue
                if read.masked or read.index != group.placement.get(read.var):
                    return f"it computes {self._names[read.var]} at another index than is read"
        # Not only what is read: a barrier makes its readers wait for more.
        for var in leaf_vars(eqn.invars, self._eqn_of_inlined):
            home = self._home.get(var)
            if home is None or home is group or home is merging:
                continue
            if self._dependencies.depends(home.number, group.number):
                return "another operand comes from a group that depends on it"
        operands_read = {v for e in [*group.members, eqn] for v in e.invars if isinstance(v, Var)}
        if len(operands_read) > MAX_OPERANDS + len(group.members):
            return f"together they read more than {MAX_OPERANDS} arrays"
        return ""

    def _explain(self, eqn: Eqn, group: Group, reason: str) -> Refusal:
        return Refusal(f"{eqn.primitive.name} ({self._names[eqn.outvars[0]]})", group, reason)

    def _open(
        self,
        kind: GroupKind,
        axes: tuple[tuple[str, int], ...] = (),
        shape: Shape = (),
        position: Position = (),
        reasons: list[Refusal] | None = None,
    ) -> Group:
        group = Group(len(self._groups), kind, axes, shape, position, why_not=reasons or [])
        self._groups.append(group)
        self._dependencies.open()
        return group

    def _join(self, group: Group, eqn: Eqn, position: Position, after: int = 0) -> None:
        """Make an equation a member; `after` are groups, as bits, that must run before it."""
        group.members.append(eqn)
        needed = after | self._dependencies.sources(eqn.invars)
        if group.kind == "host":
            for atom in eqn.invars:
                if isinstance(atom, Var) and atom in self._home:
                    needed |= 1 << self._home[atom].number
        self._dependencies.add(group.number, needed)
        for var in eqn.outvars:
            if var in self._by_parts:
                group.by_parts[var] = Parts(self._by_parts[var], position)
            else:
                group.placement[var] = position
            self._home[var] = group
            # Readers of a value that is both stored and inlined may take either.
            if var not in self._inlined:
                self._dependencies.define(var, 1 << group.number)

    def _eqn_of_inlined(self, var: Var) -> Eqn | None:
        return self._inlined.get(var)

    def _merge_groups(self) -> None:
        """Merge groups over the same loops, one of which reads the other.

        The walk cannot see this coming where a group starts from the program's inputs and meets
        the other group's values only later.
        """
        for group in list(self._groups):
            for number in bits(self._direct_dependencies(group)):
                other = self._groups[number]
                if other.members and self._can_merge(other, group):
                    self._merge(other, group)

    def _direct_dependencies(self, group: Group) -> int:
        found = 0
        for eqn in group.members:
            for var in leaf_vars(eqn.invars, self._eqn_of_inlined):
                home = self._home.get(var)
                if home is not None and home is not group:
                    found |= 1 << home.number
        return found

    def _can_merge(self, first: Group, second: Group) -> bool:
        same_loops = (
            first.kind == second.kind == "loops"
            and first.axes == second.axes
            and first.position == second.position
            and (first.reduce_dims is None or second.reduce_dims in (None, first.reduce_dims))
            and (first.running is None or second.running in (None, first.running))
            and (first.running is None or second.reduce_dims is None)
            and (second.running is None or first.reduce_dims is None)
            and len(first.members) + len(second.members) <= MAX_MEMBERS
        )
        if not same_loops:
            return False
        # What windows and integer products read of the first group is computed at other points than
        # where it is read.
        for eqn in second.members:
            if isinstance(eqn.primitive.lower, _READS_ELSEWHERE):
                for var in leaf_vars(eqn.invars, self._eqn_of_inlined):
                    if self._home.get(var) is first:
                        return False
        between = self._direct_dependencies(second) & ~(1 << first.number)
        if any(self._dependencies.depends(n, first.number) for n in bits(between)):
            return False
        return not any(
            self._refusal(first, eqn, self._member_reads(second, eqn), second)
            for eqn in second.members
        )

    def _member_reads(self, group: Group, eqn: Eqn) -> list[tuple[Atom, Position]]:
        """The operands of a member of a group, at the indices at which it reads them."""
        if isinstance(eqn.primitive.lower, Reduction):
            return [(eqn.invars[0], group.position)]
        if isinstance(eqn.primitive.lower, _READS_ELSEWHERE):
            return []
        out = eqn.outvars[0]
        parts = group.by_parts.get(out)
        return self._operand_reads(eqn, group.placement[out] if parts is None else parts.position)

    def _merge(self, first: Group, second: Group) -> None:
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
        self._dependencies.merge(first.number, second.number, moved)
        for var in moved:
            self._home[var] = second
        first.members, first.placement, first.by_parts, first.why_not = [], {}, {}, []
        first.merged_into = second

    def _find_outputs(self, group: Group) -> None:
        """Mark what a group reads from others, and the program's results, as stored."""
        for eqn in group.members:
            if group.kind == "host":
                needed = {atom for atom in eqn.invars if isinstance(atom, Var)}
            else:
                needed = leaf_vars(eqn.invars, self._eqn_of_inlined)
            needed |= {var for var in eqn.outvars if var in self._outputs}
            for var in needed:
                home = self._home.get(var)
                own = var in group.placement and not (home is group and var in self._outputs)
                if home is not None and not own and var not in home.outputs:
                    home.outputs.append(var)

    def _ordered(self) -> list[Group]:
        """The groups in the order in which they run, numbered by it."""
        in_order = (self._groups[number] for number in self._dependencies.order())
        order = [group for group in in_order if group.members]
        for number, group in enumerate(order):
            group.number = number
        return order


def contraction_dtype(eqn: Eqn) -> np.dtype[Any]:
    """The type in which a product or convolution multiplies and adds: 32 bits or more."""
    dtype = product_dtype(eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype)
    if dtype.kind in "iu" and dtype.itemsize < 4:
        return np.dtype(np.int32 if dtype.kind == "i" else np.uint32)
    return dtype


def _runs_in_kernel(eqn: Eqn) -> bool:
    types = {atom.aval.dtype for atom in (*eqn.invars, *eqn.outvars)}
    return not reason_for_host(eqn.primitive.lower, types)


def _batch_names(sizes: Shape) -> list[str]:
    return [f"b{d}" for d in range(len(sizes))] if len(sizes) > 1 else ["b"] * len(sizes)


def _product(sizes: Shape) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total
