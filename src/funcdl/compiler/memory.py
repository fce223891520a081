"""The pass `memory`: an address for every stored value.

Inputs, outputs and constants have slots of their own. Temporaries share one arena: each lives from
the kernel that writes it to the last one that reads it, and takes the smallest gap that fits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from funcdl.core.integers import round_up
from funcdl.core.jaxpr import Var
from funcdl.core.records import record
from funcdl.kir.program import Address

ALIGNMENT = 64  # of blocks in an arena, as of all memory in runtime/cpu_memory.py: a cache line


@record
class Lifetime:
    """A temporary: its size in bytes, and the first and last step that use it."""

    var: Var
    nbytes: int
    start: int
    end: int


@record
class ArenaPlan:
    """Offsets of the temporaries in the arena, and its size in bytes."""

    offsets: dict[Var, int]
    nbytes: int
    lifetimes: tuple[Lifetime, ...]


def plan_arena(lifetimes: Sequence[Lifetime]) -> ArenaPlan:
    """Place temporaries so that those alive together do not overlap, largest first.

    The activations of a training step all live at its middle, so the pairs alive together grow
    with the square of their number: NumPy compares them, in arrays kept in the order of addresses.
    """
    placed = _Placed(len(lifetimes))
    offsets: dict[Var, int] = {}
    for item in sorted(lifetimes, key=lambda x: -x.nbytes):
        size = round_up(max(item.nbytes, 1), ALIGNMENT)
        offsets[item.var] = placed.add(item, size)
    return ArenaPlan(offsets, placed.end, tuple(lifetimes))


class _Placed:
    """The temporaries placed so far, by address."""

    def __init__(self, capacity: int) -> None:
        self.count = 0
        self.end = 0
        # Rows: first byte, byte past the end, first step, last step.
        self.table = np.empty((4, capacity), np.int64)

    def add(self, item: Lifetime, size: int) -> int:
        """Place one in the smallest gap that fits while it lives; its address."""
        begin, finish, start, end = self.table[:, : self.count]
        alive = np.flatnonzero((start <= item.end) & (item.start <= end))
        reached = np.maximum.accumulate(finish[alive])
        before = np.concatenate([[0], reached[:-1]])
        gaps = begin[alive] - before
        gaps[gaps < size] = np.iinfo(np.int64).max
        best = int(np.argmin(gaps)) if len(gaps) else 0
        if len(gaps) and gaps[best] < np.iinfo(np.int64).max:
            offset = int(before[best])
        else:
            offset = int(reached[-1]) if len(reached) else 0
        at = int(np.searchsorted(begin, offset))
        self.table[:, at + 1 : self.count + 1] = self.table[:, at : self.count]
        self.table[:, at] = (offset, offset + size, item.start, item.end)
        self.count += 1
        self.end = max(self.end, offset + size)
        return offset


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
        name = names.get(item.var, "scratch")
        lines.append(
            f"  {plan.offsets[item.var]:>10d}  {name}: {item.var.aval}"
            f"  steps {item.start}..{item.end}"
        )
    return "\n".join(lines) + "\n"
