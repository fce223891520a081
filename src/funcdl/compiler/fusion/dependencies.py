"""Which groups must run before which, and an order in which all can.

Sets of groups are integers, bit ``n`` for the group of number ``n``: programs have thousands of
groups, and each set is asked for again and again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush

from funcdl.core.jaxpr import Atom, Var


class Dependencies:
    """The ancestors of each group, and the groups that each variable is computed from."""

    def __init__(self) -> None:
        self._ancestors: list[int] = []
        self._depended_on = 0  # groups that are some group's ancestors
        self._sources: dict[Var, int] = {}

    def open(self) -> None:
        """Count one more group, which depends on none."""
        self._ancestors.append(0)

    def sources(self, atoms: Iterable[Atom]) -> int:
        """The groups that some values are computed from."""
        found = 0
        for atom in atoms:
            if isinstance(atom, Var):
                found |= self._sources[atom]
        return found

    def define(self, var: Var, sources: int) -> None:
        """Say from which groups a variable is computed; none for an input."""
        self._sources[var] = sources

    def depends(self, number: int, on: int) -> bool:
        """Whether a group must wait for another."""
        return bool(self._ancestors[number] & (1 << on))

    def added(self, number: int, needed: int) -> int:
        """The groups that a group does not wait for, but would if it depended on others."""
        return self._with_ancestors(number, needed) & ~self._ancestors[number]

    def _with_ancestors(self, number: int, needed: int) -> int:
        """What a group comes to depend on with others: these, and theirs."""
        needed &= ~(1 << number)
        new = needed
        for other in bits(needed):
            new |= self._ancestors[other]
        return new

    def add(self, number: int, needed: int) -> None:
        """Let a group depend on others, and on theirs."""
        bit = 1 << number
        new = self._with_ancestors(number, needed)
        if new & ~self._ancestors[number]:
            self._ancestors[number] |= new
            if self._depended_on & bit:
                for other, ancestors in enumerate(self._ancestors):
                    if ancestors & bit:
                        self._ancestors[other] |= new
        self._depended_on |= new

    def merge(self, first: int, second: int, moved: Iterable[Var]) -> None:
        """Let a group take over the place of another one, and the variables computed there."""
        old, new = 1 << first, 1 << second
        self._ancestors[second] |= self._ancestors[first]
        self._ancestors[second] &= ~(old | new)
        for number, ancestors in enumerate(self._ancestors):
            if ancestors & old and number != second:
                self._ancestors[number] = (ancestors & ~old) | new | self._ancestors[second]
        for var in moved:
            if self._sources[var] == old:
                self._sources[var] = new

    def order(self) -> list[int]:
        """All groups such that each follows those it depends on, otherwise by number.

        A group that must wait runs as soon as it can, and nothing is brought forward for it: values
        are read while they are still in caches, and their memory is free again soon.
        """
        done = 0
        order: list[int] = []
        waiting: dict[int, list[int]] = defaultdict(list)
        for number in range(len(self._ancestors)):
            ready = [number]
            while ready:
                current = heappop(ready)
                missing = self._ancestors[current] & ~done
                if missing:
                    waiting[missing.bit_length() - 1].append(current)
                    continue
                done |= 1 << current
                order.append(current)
                for other in waiting.pop(current, ()):
                    heappush(ready, other)
        return order


def bits(mask: int) -> Iterator[int]:
    """The numbers of the groups of a set, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
