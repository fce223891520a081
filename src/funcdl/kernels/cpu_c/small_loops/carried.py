"""Which slots of a loop's body hold what one step passes on to the next, read off its bindings.

A slot that a step writes and one that the next step reads are one value if the loop binds them to
one memory, step by step: two buffers in turn, a stack one of whose elements follows the other, or a
place that the body updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from funcdl.core.records import record
from funcdl.kir.program import Binding

Kind = Literal["buffers", "stack", "place"]


@record
class Carried:
    """What step s writes in slot `write`, step s + 1 reads in slot `read`.

    It lives in two `buffers` in turn; in its `stack`, where each step finds it in an element of its
    own; or in one `place`, where the first step finds it after it was copied there.
    """

    read: int
    write: int
    kind: Kind


def carried(slots: Sequence[Binding], *, reverse: bool = False) -> list[Carried]:
    """The values that a loop with these slots carries."""
    found = []
    for read, binding in enumerate(slots):
        for kind, wanted in _successors(binding, reverse):
            matches = [at for at, other in enumerate(slots) if at != read and _fits(other, wanted)]
            if len(matches) == 1:
                found.append(Carried(read, matches[0], kind))
    return found


def _successors(read: Binding, reverse: bool) -> list[tuple[Kind, Binding]]:
    """How the slot would be bound that writes what this one reads; `last` is left open."""
    base = read.base
    if read.first is None:
        if read.stride and read.last is None and read.alternate is None:
            following = -read.stride if reverse else read.stride
            after = type(base)(base.slot, base.offset + following)
            return [("stack", Binding(after, stride=read.stride, last=base))]
        return []
    if read.alternate is not None:
        even, odd = read.alternate
        return [("buffers", Binding(base, alternate=(odd, even)))]
    return [("place", Binding(base))]


def _fits(binding: Binding, wanted: Binding) -> bool:
    if binding.first is not None or binding.stride != wanted.stride:
        return False
    # Only the last step of a scan writes elsewhere: of a stack always, else the loop passes none.
    stacked = wanted.last is not None
    if stacked != (binding.last is not None) and not wanted.alternate:
        return False
    return (binding.base, binding.alternate) == (wanted.base, wanted.alternate)
