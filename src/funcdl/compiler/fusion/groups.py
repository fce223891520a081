"""Fusion groups: which equations become one kernel, and where in its loops each value lives."""

from __future__ import annotations

import keyword
import math
import re
from dataclasses import dataclass, field
from typing import Literal

from funcdl.core.avals import Shape
from funcdl.core.jaxpr import Eqn, Jaxpr, Var
from funcdl.core.printer import Names, format_eqn
from funcdl.core.records import record
from funcdl.kir import index as kindex
from funcdl.ops.lowering import Position
from funcdl.ops.shape import flat_index, position_in

GroupKind = Literal["loops", "dot", "conv", "update", "host"]

_AXIS_NAMES = "ijklmnpq"
_C_WORDS = """
auto bool break case char const continue default do double else enum extern float for goto if inline
int long main register restrict return short signed sizeof static struct switch typedef union
unsigned void volatile while
"""
# Identifiers that generated code uses for other things, or that a target language keeps.
_RESERVED = frozenset(
    [*keyword.kwlist, *_AXIS_NAMES, *_C_WORDS.split(), "b", "ci", "co", "tl", "triton", "slots"]
).union(f"{letter}{d}" for letter in "ikp" for d in range(64))


@record
class Parts:
    """A concatenation of pieces of one shape; `position` is the index of an element of each."""

    shape: Shape
    position: Position


@dataclass(slots=True)
class Group:
    """Some equations that are computed together.

    `axes` are the kernel's loops. `shape` is the iteration domain as an array shape, and
    `position` the index of an element of an array of that shape. `reduce_dims` are the dimensions
    of `shape` that the group's reductions remove. `running` is the dimension of `shape` along which
    the group accumulates, or which it puts in order, and which of these ("forwards", "backwards",
    "order"); such a group has no reduction. `placement` says at which index a member's output is
    computed; every read of it inside the group is there. `by_parts` are members that concatenate
    arrays, each of which the group stores at its place; nothing in the group reads them.
    `recomputed` are members that belong to another group, which does not store them.
    `why_not` holds, for each neighbour that an equation could not join, the reason.
    """

    number: int
    kind: GroupKind
    axes: tuple[tuple[str, int], ...] = ()
    shape: Shape = ()
    position: Position = ()
    reduce_dims: tuple[int, ...] | None = None
    running: tuple[int, str] | None = None
    members: list[Eqn] = field(default_factory=list)
    placement: dict[Var, Position] = field(default_factory=dict)
    by_parts: dict[Var, Parts] = field(default_factory=dict)
    outputs: list[Var] = field(default_factory=list)
    recomputed: list[Var] = field(default_factory=list)
    why_not: list[Refusal] = field(default_factory=list)
    merged_into: Group | None = None

    @property
    def reduced_shape(self) -> Shape:
        """The shape of what the group's reductions return."""
        gone = self.reduce_dims or ()
        return tuple(s for d, s in enumerate(self.shape) if d not in gone)

    @property
    def reduced_position(self) -> Position:
        """The index of an element of a reduced array."""
        gone = self.reduce_dims or ()
        return tuple(i for d, i in enumerate(self.position) if d not in gone)

    def placements(self, shape: Shape) -> list[Position]:
        """Where in the group's loops an array of this shape could be computed.

        Arrays without elements are computed at their own shape only: all of them are of one size.
        """
        frames = [(self.shape, self.position)]
        if self.reduce_dims is not None:
            frames.append((self.reduced_shape, self.reduced_position))
        found = []
        for frame, position in frames:
            if frame == shape:
                found.append(position)
            elif math.prod(frame) == math.prod(shape) != 0:
                found.append(position_in(flat_index(position, frame), shape))
        return found


@record
class Refusal:
    """Why an equation did not join a group that it reads from."""

    eqn: str
    group: Group
    reason: str

    def __str__(self) -> str:
        group = self.group
        while group.merged_into is not None:
            group = group.merged_into
        return f"{self.eqn} to group {group.number}: {self.reason}"


def domain_axes(shape: Shape) -> tuple[tuple[tuple[str, int], ...], Position]:
    """Axes for an iteration domain, named i, j, k, … and the position that they make."""
    short = len(shape) <= len(_AXIS_NAMES)
    axes = tuple((_AXIS_NAMES[d] if short else f"i{d}", size) for d, size in enumerate(shape))
    return axes, tuple(kindex.axis(name, extent) for name, extent in axes)


def format_groups(groups: list[Group], names: Names) -> str:
    """The groups as text: members, outputs, and why each stands alone."""
    blocks = []
    for group in groups:
        axes = " ".join(f"{name}:{extent}" for name, extent in group.axes)
        head = f"group {group.number} {group.kind}" + (f"  axes {axes}" if axes else "")
        if group.reduce_dims:
            gone = ", ".join(group.axes[d][0] for d in group.reduce_dims)
            head += f"  reduces {gone}"
        if group.running is not None:
            dim, way = group.running
            head += f"  along {group.axes[dim][0]} {way}"
        lines = [head]
        lines += [f"    {format_eqn(eqn, names)}" for eqn in group.members]
        if group.recomputed:
            lines.append("  computes again " + ", ".join(names[v] for v in group.recomputed))
        lines.append("  stores " + ", ".join(names[var] for var in group.outputs))
        lines += [f"  not joined: {refusal}" for refusal in group.why_not]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def buffer_names(jaxpr: Jaxpr, names: Names) -> dict[Var, str]:
    """A readable, unique identifier for the memory of every variable."""
    found: dict[Var, str] = {}
    taken: set[str] = set()

    def add(var: Var, wanted: str) -> None:
        if var in found:
            return
        base = re.sub(r"\W+", "_", wanted).strip("_") or "x"
        name, count = f"p_{base}" if base[0].isdigit() else base, 1
        while name in taken or name in _RESERVED:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        found[var] = name

    for i, var in enumerate(jaxpr.invars):
        add(var, jaxpr.names[i] if jaxpr.names else f"in{i}")
    for i, var in enumerate(jaxpr.constvars):
        add(var, f"const{i}")
    for i, atom in enumerate(jaxpr.outvars):
        if isinstance(atom, Var):
            add(atom, f"out{i}")
    for eqn in jaxpr.eqns:
        for var in eqn.outvars:
            add(var, f"t_{names[var]}")
    return found
