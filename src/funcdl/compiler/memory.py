"""The pass `memory`: an address for every stored value.

Inputs, outputs and constants have slots of their own. Temporaries share one arena: each lives from
the kernel that writes it to the last one that reads it, and takes the smallest gap that fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from funcdl.core.jaxpr import Var
from funcdl.kir.program import Address

ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A temporary: its size in bytes, and the first and last step that use it."""

    var: Var
    nbytes: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ArenaPlan:
    """Offsets of the temporaries in the arena, and its size in bytes."""

    offsets: dict[Var, int]
    nbytes: int
    lifetimes: tuple[Lifetime, ...]


def plan_arena(lifetimes: Sequence[Lifetime]) -> ArenaPlan:
    """Place temporaries so that those alive together do not overlap, largest first."""
    placed: list[tuple[int, int, Lifetime]] = []
    offsets: dict[Var, int] = {}
    total = 0
    for item in sorted(lifetimes, key=lambda x: -x.nbytes):
        size = -(-max(item.nbytes, 1) // ALIGNMENT) * ALIGNMENT
        busy = sorted(
            (begin, finish)
            for begin, finish, other in placed
            if other.start <= item.end and item.start <= other.end
        )
        offset = _smallest_gap(busy, size)
        placed.append((offset, offset + size, item))
        offsets[item.var] = offset
        total = max(total, offset + size)
    return ArenaPlan(offsets, total, tuple(lifetimes))


def _smallest_gap(busy: Sequence[tuple[int, int]], size: int) -> int:
    best: tuple[int, int] | None = None
    cursor = 0
    for begin, finish in busy:
        gap = begin - cursor
        if gap >= size and (best is None or gap < best[0]):
            best = (gap, cursor)
        cursor = max(cursor, finish)
    return cursor if best is None else best[1]


def format_memory(
    plan: ArenaPlan, addresses: dict[Var, Address], names: dict[Var, str], slots: Sequence[str]
) -> str:
    """The plan as text: slots, then temporaries by offset with their lifetimes."""
    lines = ["slots"]
    by_slot = {a.slot: var for var, a in addresses.items() if var not in plan.offsets}
    for number, label in enumerate(slots):
        var = by_slot.get(number)
        what = "" if var is None else f"  {names[var]}: {var.aval}"
        lines.append(f"  {number:3d}  {label}{what}")
    lines.append(f"arena  {plan.nbytes} bytes")
    for item in sorted(plan.lifetimes, key=lambda x: (plan.offsets[x.var], x.start)):
        name = names.get(item.var, "scratch of a loop")
        lines.append(
            f"  {plan.offsets[item.var]:>10d}  {name}: {item.var.aval}"
            f"  steps {item.start}..{item.end}"
        )
    return "\n".join(lines) + "\n"
