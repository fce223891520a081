"""Which stored values an equation reads, and at which indices, seen through views and clones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from funcdl.core.avals import ShapedArray
from funcdl.core.jaxpr import Atom, Eqn, Literal, Var
from funcdl.core.records import record
from funcdl.kir import index as kindex
from funcdl.kir.builder import KernelBuilder
from funcdl.ops.lowering import Pointwise, Position, View

_numbers = itertools.count()


@record
class Read:
    """A read of a variable at an index; `masked` where only some points read."""

    var: Var
    index: Position
    masked: bool


class _Recorder:
    """Stands in for a reader while a view's rule runs, and notes what it reads."""

    def __init__(self, builder: KernelBuilder, eqn: Eqn) -> None:
        self.builder = builder
        self.found: list[tuple[Atom, Position, bool]] = []
        self._eqn = eqn

    def read(self, operand: int, index: Position, mask: int | None = None) -> int:
        atom = self._eqn.invars[operand]
        self.found.append((atom, index, mask is not None))
        # A value that nothing is known of: loads of distinct buffers are never merged.
        name = f"r{next(_numbers)}"
        self.builder.buffer(name, atom.aval.dtype, 1, "in")
        return self.builder.load(name, kindex.constant(0))

    def part(self, operand: int, index: Position, number: int) -> int:
        return self.read(operand, index)

    def aval(self, operand: int) -> ShapedArray:
        return self._eqn.invars[operand].aval

    @property
    def out_aval(self) -> ShapedArray:
        return self._eqn.outvars[0].aval


def reads_at(
    atom: Atom,
    index: Position,
    axes: tuple[tuple[str, int], ...],
    inlined: Callable[[Var], Eqn | None],
) -> Iterator[Read]:
    """The variables that the value of `atom` at `index` is computed from.

    `inlined` gives the equation of a variable that is not stored but computed where it is read.
    """
    builder = KernelBuilder("reads")
    for name, extent in axes:
        builder.axis(name, extent)
    pending: list[tuple[Atom, Position, bool]] = [(atom, index, False)]
    seen: set[Any] = set()
    while pending:
        current, place, masked = pending.pop()
        if isinstance(current, Literal) or (current, place, masked) in seen:
            continue
        seen.add((current, place, masked))
        eqn = inlined(current)
        if eqn is None:
            yield Read(current, place, masked)
        elif isinstance(eqn.primitive.lower, View):
            recorder = _Recorder(builder, eqn)
            eqn.primitive.lower.rule(recorder, place, eqn.params)
            pending += [(a, i, masked or m) for a, i, m in recorder.found]
        else:
            assert isinstance(eqn.primitive.lower, Pointwise)
            pending += [
                (operand, operand_position(operand, place), masked) for operand in eqn.invars
            ]


def operand_position(operand: Atom, index: Position) -> Position:
    """Where a pointwise equation reads an operand: scalars serve every element."""
    return index if operand.aval.shape else ()


def leaf_vars(atoms: tuple[Atom, ...], inlined: Callable[[Var], Eqn | None]) -> set[Var]:
    """The stored variables that some atoms are computed from, whatever the index."""
    found: set[Var] = set()
    seen: set[Var] = set()
    pending = [atom for atom in atoms if isinstance(atom, Var)]
    while pending:
        var = pending.pop()
        if var in seen:
            continue
        seen.add(var)
        eqn = inlined(var)
        if eqn is None:
            found.add(var)
        else:
            pending += [atom for atom in eqn.invars if isinstance(atom, Var)]
    return found
