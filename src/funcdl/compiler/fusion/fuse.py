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

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcdl.compiler.fusion.beforehand import computed_before_updates
from funcdl.compiler.fusion.dependencies import bits
from funcdl.compiler.fusion.grouped import Grouped
from funcdl.compiler.fusion.groups import Group, Refusal, buffer_names, domain_axes
from funcdl.compiler.fusion.merging import merge_readers, merge_siblings
from funcdl.compiler.fusion.readers import stored_reads, update_last
from funcdl.compiler.fusion.recompute import Recomputer, drop_dead_members
from funcdl.core.avals import Shape
from funcdl.core.effects import Effect, eqn_effect
from funcdl.core.jaxpr import Eqn, Jaxpr, Var
from funcdl.core.printer import Names
from funcdl.core.records import record
from funcdl.kir import index as kindex
from funcdl.ops.dot import dot_dimensions, product_dtype
from funcdl.ops.lowering import (
    Accumulation,
    Contraction,
    Correlation,
    Ordering,
    Pointwise,
    Reduction,
    Update,
    View,
    WindowReduction,
    reason_for_host,
)
from funcdl.ops.shape import position_in
from funcdl.ops.windows.convolution import convolution_of
from funcdl.ops.windows.lowering import convolution_loops


@record
class Grouping:
    """The groups in the order in which they run, and the equations inlined into their readers.

    `given_up` are the inputs whose memory results may take over.
    """

    jaxpr: Jaxpr
    groups: list[Group]
    inlined: dict[Var, Eqn]
    names: Names
    buffer_names: dict[Var, str]
    given_up: frozenset[Var] = frozenset()


def fuse(jaxpr: Jaxpr, given_up: Sequence[Var] = ()) -> Grouping:
    """Group the equations of a simplified program.

    Args:
        given_up: the inputs whose memory results may take over.
    """
    return _Fuser(jaxpr, given_up).run()


class _Fuser:
    def __init__(self, jaxpr: Jaxpr, given_up: Sequence[Var]) -> None:
        self._jaxpr = jaxpr
        self._given_up = frozenset(given_up)
        self._outputs = {atom for atom in jaxpr.outvars if isinstance(atom, Var)}
        self._beforehand = computed_before_updates(jaxpr, given_up)
        self._stored = self._must_store() | self._beforehand
        self._state = Grouped(jaxpr, self._stored)
        self._last_ordered = 0  # the last group with an ordered effect, as a bit

    def run(self) -> Grouping:
        state, inlined = self._state, self._state.inlined.eqns
        for eqn in self._jaxpr.eqns:
            self._place(eqn)
        merge_readers(state)
        merge_siblings(state)
        Recomputer(state.groups, state.home, inlined, self._outputs, state.member_reads).run()
        for group in state.groups:
            self._find_outputs(group)
        for group in state.groups:
            # In the order of the members: equal programs are to become equal texts.
            made = [var for eqn in group.members for var in eqn.outvars]
            group.outputs.sort(key=made.index)
            if group.kind in ("loops", "dot", "conv"):
                drop_dead_members(group, inlined)
        kept = {*self._jaxpr.invars, *self._jaxpr.constvars} - self._given_up
        update_last(state, kept)
        return Grouping(
            self._jaxpr,
            self._ordered(),
            inlined,
            state.names,
            buffer_names(self._jaxpr, state.names),
            self._given_up,
        )

    def _must_store(self) -> set[Var]:
        """Variables that need memory whatever the grouping: outputs, and operands of the host."""
        stored = set(self._outputs)
        for eqn in self._jaxpr.eqns:
            if not _runs_in_kernel(eqn):
                stored.update(atom for atom in eqn.invars if isinstance(atom, Var))
        return stored

    def _place(self, eqn: Eqn) -> None:
        if not _runs_in_kernel(eqn):
            group = self._state.open("host")
            if eqn_effect(eqn) is Effect.ORDERED:
                self._state.join(group, eqn, (), self._last_ordered)
                self._last_ordered = 1 << group.number
            else:
                self._state.join(group, eqn, ())
            return
        must = any(var in self._stored for var in eqn.outvars)
        apart = any(var in self._beforehand for var in eqn.outvars)
        match eqn.primitive.lower:
            case View() if eqn.outvars[0] in self._state.by_parts:
                self._place_by_parts(eqn)
            case View():
                if self._state.inlined.is_short(eqn) and not apart:
                    self._state.inline(eqn)
                if must or eqn.outvars[0] not in self._state.inlined:
                    self._place_pointwise(eqn)
            case Pointwise():
                short = self._state.inlined.is_short(eqn) and not apart
                if short and self._state.inlined.can_clone(eqn):
                    self._state.inline(eqn)
                if must or not all(var in self._state.inlined for var in eqn.outvars):
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
                group = self._state.open("update", axes, shape, position)
                self._state.join(group, eqn, domain_axes(eqn.outvars[0].aval.shape)[1])

    def _place_pointwise(self, eqn: Eqn) -> None:
        groups = self._state.candidates(eqn)
        if len(groups) > 1 and eqn.outvars[0].aval.size < max(_length(g) for g in groups):
            # What is computed once a row saves no memory anywhere, but what reads its group waits
            # for it: it belongs to the longest loops, or where there is no longer one to wait for
            # that is new. Else the gradient of a mean over some examples waits for its own sum of
            # losses.
            needed = self._state.dependencies.sources(eqn.invars)
            groups.sort(key=lambda g: (-_length(g), self._longer_waits(g, needed)))
        self._place_at(eqn, eqn.outvars[0].aval.shape, groups)

    def _longer_waits(self, group: Group, needed: int) -> int:
        """How many groups of longer loops one would newly wait for if it depended on others."""
        new = bits(self._state.dependencies.added(group.number, needed))
        return sum(_length(self._state.groups[number]) > _length(group) for number in new)

    def _place_by_parts(self, eqn: Eqn) -> None:
        """In loops that compute parts of a concatenation, to store each at its place."""
        groups = [group for group in self._state.candidates(eqn) if group.kind == "loops"]
        self._place_at(eqn, self._state.by_parts[eqn.outvars[0]], groups)

    def _place_at(self, eqn: Eqn, shape: Shape, groups: Sequence[Group]) -> None:
        """In a group that computes elements of arrays of this shape, or in one of its own."""
        reasons: list[Refusal] = []
        for group in groups:
            reason = f"its loops do not fit shape {shape}"
            for position in group.placements(shape):
                reason = self._state.refusal(group, eqn, self._state.operand_reads(eqn, position))
                if not reason:
                    group.why_not += reasons
                    self._state.join(group, eqn, position)
                    return
            reasons.append(self._state.explain(eqn, group, reason))
        axes, position = domain_axes(shape)
        self._state.join(self._state.open("loops", axes, shape, position, reasons), eqn, position)

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
        self._state.join(group, eqn, group.reduced_position)

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
        self._state.join(group, eqn, group.position)

    def _choose(self, eqn: Eqn, misfit: Callable[[Group], str]) -> Group:
        """The group whose loops pass over the operand: one that it is computed in, or a new one."""
        (operand,) = eqn.invars
        reasons: list[Refusal] = []
        for group in self._state.candidates(eqn):
            reason = misfit(group) or self._state.refusal(group, eqn, [(operand, group.position)])
            if not reason:
                group.why_not += reasons
                return group
            reasons.append(self._state.explain(eqn, group, reason))
        axes, position = domain_axes(operand.aval.shape)
        return self._state.open("loops", axes, operand.aval.shape, position, reasons)

    def _place_ordering(self, eqn: Eqn) -> None:
        """In a group of its own: what is put in order is read from memory by the positions."""
        shape = eqn.invars[0].aval.shape
        axes, position = domain_axes(shape)
        reasons = self._explanations(eqn, "what is put in order is read at computed positions")
        group = self._state.open("loops", axes, shape, position, reasons)
        group.running = (eqn.params["dimension"], "order")
        self._state.join(group, eqn, position)

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
            group = self._state.open("dot", axes, dims.out_shape, position, reasons)
        else:
            # Complex products are plain loops that multiply and sum.
            shape = (*dims.batch_sizes, *(extent for _, extent in axes[-3:]))
            group = self._state.open("loops", axes, shape, (*batch, m, n, k), reasons)
            group.reduce_dims = (len(shape) - 1,)
        self._state.join(group, eqn, position)

    def _place_conv(self, eqn: Eqn) -> None:
        lhs, rhs = (atom.aval for atom in eqn.invars)
        batch_groups = eqn.params["batch_group_count"] > 1
        loops = convolution_loops(convolution_of(lhs, rhs, eqn.params), batch_groups)
        shape = eqn.outvars[0].aval.shape
        reasons = self._explanations(eqn, "a convolution starts its own tiles")
        group = self._state.open("conv", loops.axes, shape, loops.position, reasons)
        self._state.join(group, eqn, loops.position)

    def _place_windows(self, eqn: Eqn, form: WindowReduction) -> None:
        out = eqn.outvars[0].aval.shape
        shape = (*out, *form.window([atom.aval for atom in eqn.invars], eqn.params))
        axes, position = domain_axes(shape)
        reasons = self._explanations(eqn, "each of its elements is read by several windows")
        group = self._state.open("loops", axes, shape, position, reasons)
        group.reduce_dims = tuple(range(len(out), len(shape)))
        self._state.join(group, eqn, group.reduced_position)

    def _explanations(self, eqn: Eqn, reason: str) -> list[Refusal]:
        return [self._state.explain(eqn, group, reason) for group in self._state.candidates(eqn)]

    def _find_outputs(self, group: Group) -> None:
        """Mark what a group reads from others, and the program's results, as stored."""
        for eqn in group.members:
            needed = stored_reads(group, eqn, self._state.inlined.get)
            needed |= {var for var in eqn.outvars if var in self._outputs}
            for var in needed:
                home = self._state.home.get(var)
                own = var in group.placement and not (home is group and var in self._outputs)
                if home is not None and not own and var not in home.outputs:
                    home.outputs.append(var)

    def _ordered(self) -> list[Group]:
        """The groups in the order in which they run, numbered by it."""
        in_order = (self._state.groups[number] for number in self._state.dependencies.order())
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


def _length(group: Group) -> int:
    """How many points a group's loops visit."""
    return math.prod(group.shape)


def _product(sizes: Shape) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total
